"""The built-in training loop, for models that fit: `python -m training.loop heads|recraft|full --config_file RUN.toml`.

A run that was stopped goes on where it was, and gives the same result, to the bit, as one that was not.  Several
processes (`accelerate launch` or `torchrun`) share their gradients and end on the same weights.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .builtin.kinds import prepare
from .builtin.loop import INTERRUPTED, Interrupted, this_process
from .builtin.recipe import KINDS, Recipe


def main() -> int:
    """Run a recipe; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.loop", description=__doc__)
    parser.add_argument("kind", choices=KINDS, help="what trains: domain heads, ReCraft, or the whole FLUX")
    parser.add_argument("--config_file", type=Path, required=True, metavar="TOML", help="the settings of the run")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings in place of the file's")
    options = parser.parse_intermixed_args()
    try:
        recipe = Recipe.read(options.kind, options.config_file, options.overrides)
        process = this_process()
        if recipe.passed_over and process.is_main_process:
            print(f"passed over, for the built-in loop needs none: {', '.join(recipe.passed_over)}", file=sys.stderr)
        prepare(recipe, process).run()
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        return INTERRUPTED
    except KeyboardInterrupt:
        print(f"\n{parser.prog}: stopped; the same command goes on", file=sys.stderr)
        return INTERRUPTED
    except (FloatingPointError, ImportError, OSError, ValueError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
