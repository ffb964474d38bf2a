"""Train ReCraft: python -m training.train_recraft --head_file FILE --head NAME ... (the rest as sd-scripts' LoRAs)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from .sd.engine import run


def make_trainer() -> Any:
    from .sd.recraft import ReCraftTrainer

    return ReCraftTrainer()


def add_options(parser: argparse.ArgumentParser) -> None:
    """ReCraft's own options, and the defaults of the paper's ReCraft runs."""
    parser.add_argument("--head_file", metavar="FILE", help="heads to merge one of into FLUX: an asymmetric LoRA file")
    parser.add_argument("--head", metavar="DOMAIN", help="its name, or its number from 1")
    parser.add_argument(
        "--frames", type=int, metavar="N", help="frames of a grid: 9 (3x3) or 4 (2x2); by default, those of the head"
    )
    parser.add_argument("--save_merged", metavar="FILE", help="also write FLUX with the head in it, for later runs")
    parser.set_defaults(network_module="networks.lora_flux", timestep_sampling="flux_shift")


def main(argv: Sequence[str] | None = None) -> None:
    """Train as the command line (sys.argv, unless given) says."""
    run(make_trainer, add_options, argv)


if __name__ == "__main__":
    main()
