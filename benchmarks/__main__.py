"""Measure what the pack costs, against the obvious other ways, and write docs/benchmarks.md.

    python -m benchmarks                         all tables: 20 minutes on an idle machine, 11 GB in TMPDIR
    python -m benchmarks --only load grids       some of them, printed
    python -m benchmarks --full                  tables 2, 3 and 5 at FLUX.1-dev's size on a CUDA card, printed

Tables 2, 3 and 5 run inside ComfyUI (COMFYUI_PATH, else ~/ComfyUI), on the CPU unless --full is given.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from makeanything.command_line import Parser, between, ended
from makeanything.saving import atomic
from training.bench import processor

from . import grids, head_load, host
from .measure import ROOT
from .report import Table, versions

Make = Callable[[int], Table]

SMALL: Mapping[str, Sequence[Make]] = {
    "load": (head_load.table,),
    "switch": (
        lambda rounds: host.table("switch", "NANO", 3 * rounds),
        lambda rounds: host.table("switch", "MIDDLE", 3 * rounds),
    ),
    "steps": (
        lambda rounds: host.table("steps", "NANO", 8 * rounds),
        lambda rounds: host.table("steps", "MIDDLE", 2 * rounds),
    ),
    "grids": (grids.table,),
    "memory": (lambda rounds: host.table("memory", "MIDDLE", rounds),),
}

KIT = ROOT / "benchmarks" / "kit" / "README.md"
"""How the same is measured on a GPU; a section of the whole report."""

STORED = {"bf16": "-", "fp8": "float8_e4m3fn"}


def _full(name: str) -> Sequence[Make]:
    def make(stored: str) -> Make:
        return lambda rounds: host.table(name, "FULL", rounds, stored, "cuda")

    return [make(stored) for stored in STORED.values()]


FULL: Mapping[str, Sequence[Make]] = {name: _full(name) for name in ("switch", "steps", "memory")}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parse(given)
    return ended("python -m benchmarks", lambda: _measure(options, shlex.join(["python", "-m", "benchmarks", *given])))


def _measure(options: argparse.Namespace, command: str) -> None:
    known = FULL if options.full else SMALL
    parts = [_preamble(command)]
    for name in options.only or known:
        for make in known[name]:
            print(f"{name} ...", file=sys.stderr, flush=True)
            try:
                parts.append(str(make(options.rounds)))
            except (OSError, RuntimeError) as error:
                raise OSError(f"{name}: {error}") from error
    if not (options.only or options.full):
        parts.append(KIT.read_text(encoding="utf-8").rstrip())
    _write("\n\n".join(parts) + "\n", options.output)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(SMALL), metavar="TABLE", help=", ".join(SMALL))
    parser.add_argument(
        "--full", action="store_true", help="FLUX.1-dev's size, random weights, on a CUDA card of 80 GB"
    )
    parser.add_argument(
        "--rounds",
        type=between(int, 1, 1000),
        default=3,
        metavar="N",
        help="repeats of what takes long (3); short ones get more",
    )
    parser.add_argument("-o", "--output", type=Path, help="a file to write; docs/benchmarks.md when all is measured")
    options = parser.parse_args(arguments)
    if not sys.platform.startswith("linux"):
        parser.error("memory and disk are read from /proc, so the benchmarks run on Linux")
    if options.full and not torch.cuda.is_available():
        parser.error("--full needs a CUDA card, and torch sees none; without it the sizes fit a CPU")
    if options.full and (unknown := set(options.only or ()) - FULL.keys()):
        parser.error(f"--full has no table {', '.join(sorted(unknown))}; it has {', '.join(FULL)}")
    if options.output is None and not (options.only or options.full):
        options.output = ROOT / "docs" / "benchmarks.md"
    # Measuring takes long, so what can't be written is said first.
    if options.output and (options.output.is_dir() or not options.output.parent.is_dir()):
        parser.error(f"{options.output} can't be written: it is a folder, or its folder is missing")
    return options


def _preamble(command: str) -> str:
    lines = ["# Benchmarks", f"`{command}` on {processor()}. {versions()}{_comfyui()}."]
    if torch.cuda.is_available():
        lines.append(f"GPU: {torch.cuda.get_device_name()}.")
    return "\n\n".join(lines)


def _comfyui() -> str:
    return f", ComfyUI {found}" if (found := host.version()) else ""


def _write(text: str, path: Path | None) -> None:
    if path is None:
        print(text)
        return
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(path)


if __name__ == "__main__":
    sys.exit(main())
