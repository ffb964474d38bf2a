"""Every saver on a tmpfs of its own that is full, and then read-only: `python -m tests.faults.real_disk MOUNTED`.

Prints, as JSON, {saver and fault: [exit code, lines on stderr, whether the files that were there are as they were]}.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from .savers import SET, Saver, files, forked, lines, prepare


def main(disk: Path) -> None:
    # Forked processes have no threads.
    torch.set_num_threads(1)
    found: dict[str, tuple[int, list[str], bool]] = {}
    with tempfile.TemporaryDirectory() as inputs:
        for name, save in prepare(Path(inputs, "inputs")).items():
            out = disk / name
            out.mkdir()
            assert forked(lambda: save(out, 1))[0] == 0  # noqa: B023 (called at once)
            filler = disk / "filler"
            found[f"{name}, full"] = _try(save, out, lambda: _fill(filler))  # noqa: B023
            filler.unlink()
            found[f"{name}, read-only"] = _try(save, out, lambda: _remount("ro"))
            _remount("rw")
    print(json.dumps(found))


def _try(save: Saver, out: Path, break_disk: object) -> tuple[int, list[str], bool]:
    assert callable(break_disk)
    before = files(out)
    break_disk()
    code, text = forked(lambda: save(out, 2))
    after = files(out)
    # What could be saved before the disk was full may be there too, but nothing unfinished.
    whole = all(after.get(path) == data for path, data in before.items()) or out.name == SET
    return code, lines(text), whole and not [path for path in after if ".makeanything-" in path]


def _fill(filler: Path) -> None:
    """Leave room for two pages: enough to begin a file, never to finish one."""
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(max(file.tell() - 2 * 4096, 0))


def _remount(mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", str(Path(sys.argv[1]))], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
