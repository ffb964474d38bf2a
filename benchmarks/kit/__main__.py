"""Pack a kit that measures on a machine with a GPU and without a network.

    python -m benchmarks.kit FOLDER

There, with the Python that has PyTorch:  python3 FOLDER/run.py --out RESULTS
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from makeanything.command_line import Parser, between, ended

from ..comfyuis import HOSTS
from ..measure import ROOT
from .pack import LIMIT, pack


def main(arguments: Sequence[str] | None = None) -> int:
    """Pack; the exit code."""
    parser = Parser(
        prog="python -m benchmarks.kit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="outside the repository, or ignored by git")
    parser.add_argument("--python", default="3.12", metavar="X.Y", help="of the machine (3.12)")
    parser.add_argument(
        "--arch", type=between(int, 10, 999), default=90, metavar="N", help="of its GPU: 90 is an H100 or H200 (90)"
    )
    parser.add_argument("--no-wheels", action="store_true", help="the machine has comfy-kitchen and comfy-aimdo")
    options = parser.parse_args(arguments)
    return ended(parser.prog, lambda: _pack(options))


def _pack(options: argparse.Namespace) -> None:
    if not HOSTS:
        raise ValueError("no ComfyUI was found; set COMFYUI_PATH to its folder")
    size = pack(options.folder, HOSTS[0], _sd_scripts(), options.python, options.arch, wheels=not options.no_wheels)
    print(f"{options.folder}: {size / 2**20:.1f} of {LIMIT // 2**20} MiB")
    print(f"there: python3 {options.folder.name}/run.py --out RESULTS")


def _sd_scripts() -> Path | None:
    """Where training finds it too; without it the kit has no training step."""
    named = os.environ.get("SD_SCRIPTS_PATH")
    places = [Path(named)] if named else [ROOT.parent / "sd-scripts", Path("~/sd-scripts").expanduser()]
    found = next((place for place in places if (place / "flux_train_network.py").is_file()), None)
    if found is None:
        print(f"no sd-scripts at {' or '.join(map(str, places))}: the kit has no training step", file=sys.stderr)
    return found


if __name__ == "__main__":
    sys.exit(main())
