"""What all commands share: options are checked as they are read, and every end but a fault of ours is one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn, TypeVar

from .foreign import brief, finite

WRONG, INTERRUPTED = 2, 130
"""Exit codes: wrong input, and Ctrl-C."""
LINE = 400
"""Characters of a message at most; paths that were typed may be long."""

Number = TypeVar("Number", int, float)


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG, f"{self.prog}: {brief(message, LINE)} (--help shows how)\n")


def between(kind: type[Number], least: float, most: float) -> Callable[[str], Number]:
    """The type of an option: a finite number from `least` to `most`."""

    def read(text: str) -> Number:
        try:
            value = kind(text)
            if least <= finite(value, "") <= most:
                return value
        except (ValueError, OverflowError):
            pass
        whole = "a whole number" if kind is int else "a number"
        raise argparse.ArgumentTypeError(f"needed {whole} from {least:g} to {most:g}, got '{brief(text)}'")

    return read


def ended(prog: str, run: Callable[[], int | None]) -> int:
    """Run a command; its exit code.  Wrong input and Ctrl-C end in one line on stderr."""
    try:
        return run() or 0
    except KeyboardInterrupt as stopped:
        print(f"{prog}: {str(stopped) or 'stopped; what was finished is kept'}", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, OSError) as error:
        print(f"{prog}: {brief(' '.join(str(error).split()), LINE)}", file=sys.stderr)
        return WRONG
