"""Asymmetric heads against sd-scripts' own LoRA of the same rank: time and peak memory of a training step, as ratios.

    PYTHON-OF-SD-SCRIPTS -m training.bench           a small FLUX on the CPU
    PYTHON-OF-SD-SCRIPTS -m training.bench --full    FLUX.1-dev's size, random weights in bfloat16, on a CUDA card

Steps of both networks alternate; the time is the median of the ratios of neighbours.  Every head has been used before,
so the optimizer remembers all of them.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import math
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from makeanything.command_line import Parser, between, ended

from .sd import engine

if TYPE_CHECKING:
    from .sd.bench_runs import Case, Run, Size

TARGETS = "Targets: time <= 1.05, memory with idle heads on the CPU <= 1.10."
ON_THE_CPU = "Memory is what a card would hold, without the heads that wait. The times have no moves of heads in them."


@dataclass(frozen=True)
class Row:
    """What a case's step takes: milliseconds (the median) and bytes, and their ratios to sd-scripts' own network."""

    name: str
    milliseconds: float
    time: float
    bytes: int
    memory: float

    def __str__(self) -> str:
        mebibytes = self.bytes / 2**20
        return f"| {self.name} | {self.milliseconds:.0f} | {self.time:.3f} | {mebibytes:.0f} | {self.memory:.3f} |"


def measure(
    size: Size, cases: Sequence[Case], rounds: int, device: str, seconds: float = math.inf, out: Path | None = None
) -> list[Row]:
    """A row for sd-scripts' own network, and one for each case that is begun in this time; `out` gets them as JSON."""
    from .sd.bench_runs import STOCK, Run, make_flux

    start = time.monotonic()
    base = make_flux(size, device=device)
    stock_bytes = Run(base, size, STOCK).peak_bytes()
    stock_times: list[float] = []
    rows: list[Row] = []
    for case in cases:
        if rows and time.monotonic() - start > seconds:
            break
        gc.collect()
        torch.cuda.empty_cache()
        run = Run(base, size, case)
        used = run.peak_bytes()
        stock = Run(base, size, STOCK)
        stock.step()
        pairs = [_pair(stock, run, swap=bool(number % 2)) for number in range(rounds)]
        stock_times += [theirs for theirs, _ in pairs]
        milliseconds = 1000 * statistics.median(ours for _, ours in pairs)
        ratio = statistics.median(ours / theirs for theirs, ours in pairs)
        rows.append(Row(str(case), milliseconds, ratio, used, used / stock_bytes))
        del run, stock
        found = [Row(str(STOCK), 1000 * statistics.median(stock_times), 1.0, stock_bytes, 1.0), *rows]
        if out:
            _write(found, out, len(rows) == len(cases), size, time.monotonic() - start)
    return found


def _write(rows: Sequence[Row], out: Path, whole: bool, size: Size, seconds: float) -> None:
    """As the parts of benchmarks/kit write theirs."""
    named = [{"what": row.name, **{key: value for key, value in asdict(row).items() if key != "name"}} for row in rows]
    ended = {"ended": "yes" if whole else "no", "seconds": round(seconds, 1)}
    content = {"part": out.stem, "about": {"size": str(size)}, "rows": named, "notes": [TARGETS], **ended}
    out.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _pair(stock: Run, run: Run, swap: bool) -> tuple[float, float]:
    """Seconds of both, one right after the other."""
    if swap:
        ours = run.seconds()
        return stock.seconds(), ours
    theirs = stock.seconds()
    return theirs, run.seconds()


def report(rows: Sequence[Row]) -> str:
    """Markdown."""
    head = ("| network | ms per step | time | MiB | memory |", "|--|--:|--:|--:|--:|")
    return "\n".join((*head, *map(str, rows)))


def processor() -> str:
    """This machine's kind of processor, and the number of threads that torch uses."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    threads = torch.get_num_threads()
    return f"{names[0] if names else platform.machine()}, {threads} thread{'s' if threads > 1 else ''}"


def _commit(folder: Path) -> str:
    command = ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True)  # noqa: S603
    return found.stdout.strip() or "of unknown commit"


def main() -> None:
    parser = Parser(
        prog="python -m training.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="FLUX.1-dev's size, on a CUDA card of 100 GB or more")
    parser.add_argument("--idle", action="store_true", help="only networks whose idle heads wait on the CPU")
    parser.add_argument("--blocks", type=between(int, 1, 100), nargs=2, metavar="N", help="double, single blocks")
    parser.add_argument("--seconds", type=between(float, 0, 10**6), default=math.inf, help="after which none is begun")
    parser.add_argument("--json", type=Path, metavar="FILE", help="a file to write too, after each network")
    parser.add_argument(
        "--rounds", type=between(int, 1, 1000), default=10, metavar="N", help="pairs of steps per network"
    )
    parser.add_argument("--sd_scripts", metavar="FOLDER", help="where sd-scripts lies")
    options = parser.parse_args()
    if options.full and not torch.cuda.is_available():
        parser.error("--full needs a CUDA card; without it the benchmark is small, on the CPU")
    # Measuring takes long, so what can't be written is said first.
    if options.json and not options.json.parent.is_dir():
        parser.error(f"--json: there is no folder {options.json.parent}")
    try:
        folder = engine.enable(options.sd_scripts)
        from .sd.bench_runs import CASES, FULL, SMALL
    except (FileNotFoundError, ImportError, ValueError) as error:
        sys.exit(f"{error}\nRun this with the Python of sd-scripts' own environment.")
    logging.disable(logging.INFO)
    size = FULL if options.full else SMALL
    if options.blocks:
        size = replace(size, double_blocks=options.blocks[0], single_blocks=options.blocks[1])
    device = "cuda" if options.full else "cpu"
    cases = [case for case in CASES if case.idle or not options.idle]
    rows = measure(size, cases, options.rounds, device, options.seconds, options.json)
    machine = torch.cuda.get_device_name() if options.full else processor()
    print(f"`python {shlex.join(['-m', 'training.bench', *sys.argv[1:]])}` on {machine}")
    print(f"torch {torch.__version__}, sd-scripts {_commit(folder)}; {size}\n")
    print(report(rows))
    print(f"\n{TARGETS}" + ("" if options.full else f"\n{ON_THE_CPU}"))


if __name__ == "__main__":
    sys.exit(ended("python -m training.bench", main))
