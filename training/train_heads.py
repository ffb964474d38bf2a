"""Train domain heads: python -m training.train_heads --config_file training/configs/heads_9f.toml"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from .sd.engine import run


def make_trainer() -> Any:
    from .sd.heads import HeadsTrainer

    return HeadsTrainer()


def add_options(parser: argparse.ArgumentParser) -> None:
    """The defaults of domain heads.  The network's options: heads/options.py."""
    parser.set_defaults(
        network_module="training.asymmetric_network",
        # That of the file with add_to, else that of the released heads.
        network_alpha=None,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Train as the command line says (or `arguments` do)."""
    run(make_trainer, add_options, arguments)


if __name__ == "__main__":
    main()
