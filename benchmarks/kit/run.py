"""Run the kit that this file lies in: `python3 run.py --out FOLDER [--seconds N]`.  The standard library alone.

Every part has a process of its own.  All import what they need at once; then they measure one after another.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from tempfile import TemporaryDirectory

PARTS = {"inference": 0.7, "training": 0.6, "compiled": 0.6, "dynamic": 1.0}
"""In the order of their value: the share of the seconds left that each may take."""
GRACE = 15
"""Seconds over its time after which a part is stopped."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="gets a JSON file for each part, and table.md")
    parser.add_argument("--seconds", type=float, default=240, help="after which no new measurement begins (240)")
    parser.add_argument("--size", default="full", choices=["full", "tiny"])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS), metavar="PART")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + options.seconds
    # In memory where it can be: files of heads take 4 GB and are read many times.
    place = "/dev/shm" if options.size == "full" and Path("/dev/shm").is_dir() else None  # noqa: S108
    with TemporaryDirectory() as temporary, TemporaryDirectory(dir=place) as data:
        folder = Path(temporary)
        with tarfile.open(Path(__file__).with_name("kit.tar.xz")) as archive:
            archive.extractall(folder, filter="data")
        print(f"unpacked: {options.seconds - (end - time.monotonic()):.1f} s", flush=True)
        children = {part: _start(part, options, folder, data) for part in options.parts}
        try:
            for part, child in children.items():
                _measure(part, child, end, options.out)
        finally:
            for child in children.values():
                child.kill()
                child.wait()
    (options.out / "table.md").write_text(table(options.out), encoding="utf-8")
    print(table(options.out), flush=True)


def _start(part: str, options: argparse.Namespace, folder: Path, data: str) -> subprocess.Popen[str]:
    # ComfyUI first: `nodes` is its own.  sd-scripts last: its names are common ones.
    names = ("repository", "sd-scripts") if part == "training" else ("ComfyUI", "repository")
    paths = [folder / name for name in names]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, [*paths, folder / "site"])),
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": data,
        "SD_SCRIPTS_PATH": str(folder / "sd-scripts"),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count() or 1)),
    }
    command = [sys.executable, "-m", "benchmarks.kit.parts", part, options.size, options.device, str(options.out)]
    cwd = folder / ("repository" if part == "training" else "ComfyUI")
    return subprocess.Popen(command, cwd=cwd, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _measure(part: str, child: subprocess.Popen[str], end: float, out: Path) -> None:
    """Let the child measure, unless the time is over, and stop it when it takes too long."""
    assert child.stdin is not None and child.stdout is not None
    if time.monotonic() >= end:
        print(f"{part}: not begun, the time was over", flush=True)
        return
    said = next((line.strip() for line in child.stdout if line.startswith("ready")), "")
    start = time.monotonic()
    seconds = PARTS[part] * (end - start)
    print(f"{part}: {said or 'could not be imported'}, {end - start:.0f} s left", flush=True)
    try:
        output, _ = child.communicate(f"{seconds}\n", timeout=max(seconds, 0) + GRACE)
    except subprocess.TimeoutExpired:
        child.kill()
        output, _ = child.communicate()
        print(f"{part}: stopped, it took too long", flush=True)
    print(output, end="")
    print(f"{part}: {time.monotonic() - start:.1f} s, exit status {child.returncode}", flush=True)


def table(out: Path) -> str:
    """Markdown of what the parts wrote."""
    parts = [f"Python {platform.python_version()} on {platform.machine()}, {os.cpu_count()} processors. {card()}"]
    for path in sorted(out.glob("*.json")):
        part = json.loads(path.read_text(encoding="utf-8"))
        columns = list(dict.fromkeys(key for row in part["rows"] for key in row))
        lines = ["| " + " | ".join(columns) + " |", "|" + "--|" * len(columns)]
        lines += ["| " + " | ".join(_cell(row.get(column, "")) for column in columns) + " |" for row in part["rows"]]
        about = "; ".join(f"{key}: {value}" for key, value in part["about"].items())
        head = f"## {part['part']} ({part['seconds']} s, ended: {part['ended']})"
        parts.append("\n".join([head, "", about, "", *lines, "", *(f"- {note.strip()}" for note in part["notes"])]))
    return "\n\n".join(parts) + "\n"


def _cell(value: object) -> str:
    if isinstance(value, list) and len(value) == 3:
        return f"{value[0]} ({value[1]} - {value[2]})"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def card() -> str:
    """What nvidia-smi says of the GPU."""
    if not (tool := shutil.which("nvidia-smi")):
        return "No GPU."
    asked = "--query-gpu=name,memory.total,driver_version,power.limit,clocks.max.sm"
    done = subprocess.run([tool, asked, "--format=csv,noheader"], capture_output=True, text=True)
    return done.stdout.strip()


if __name__ == "__main__":
    main()
