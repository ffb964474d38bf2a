"""What a fuzzer is, how it is run, and what counts as an escape."""

from __future__ import annotations

import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

SECONDS = 5
"""Of processor time for one case."""
MEGABYTES = 512
"""By which the process may grow in one run."""
MARK = "ж"
"""Long foreign texts are made of it, so that what a message repeats of them can be counted."""
ECHOED = 200
LONGEST_MESSAGE = 800


class TooSlowError(BaseException):
    """Not an Exception, so that nothing that is tested catches it."""


class Fuzzer(ABC):
    """A case is bytes, so that any case can be kept as a small file."""

    name: str
    megabytes = MEGABYTES

    def __init__(self, folder: Path) -> None:
        """`folder`: an empty one, for the files of the cases."""
        self.folder = folder

    @abstractmethod
    def case(self, random: Random) -> bytes:
        """A new case."""

    @abstractmethod
    def run(self, case: bytes) -> bool:
        """Try a case: whether it got past the header, which is what is parsed first.  Raises for an escape."""

    @contextmanager
    def refusals(self, named: bool = False) -> Iterator[None]:
        """Around what may refuse a case: in one line that does not give away folders, nor repeat long texts.

        `named`: the trainer's user named the folder, and may read it again.
        """
        try:
            yield
        except (ValueError, OSError) as error:
            text = str(error)
            assert text, "there is no message"
            assert "\n" not in text, f"more than one line: {text!r}"
            assert len(text) <= LONGEST_MESSAGE, f"a long message: {text!r}"
            assert text.count(MARK) <= ECHOED, f"foreign text is repeated: {text!r}"
            assert named or str(self.folder) not in text, f"the folder is in it: {text!r}"


@dataclass
class Tally:
    """How many cases there were, how many got past the header, and (number, what happened) of those that escaped."""

    cases: int = 0
    past: int = 0
    escapes: list[tuple[int, str]] = field(default_factory=list)


def fuzz(fuzzer: Fuzzer, seed: int, count: int, first: int = 0) -> Tally:
    """Cases `first` to `first + count` of a seed."""
    tally, before = Tally(), peak_megabytes()
    for number in range(first, first + count):
        try:
            with limited():
                tally.past += fuzzer.run(make(fuzzer, seed, number))
        except (Exception, TooSlowError) as error:
            tally.escapes.append((number, f"{type(error).__name__}: {str(error)[:300]}"))
        tally.cases += 1
    if (grown := peak_megabytes() - before) > fuzzer.megabytes:
        tally.escapes.append((first, f"memory grew by {grown} MB"))
    return tally


def make(fuzzer: Fuzzer, seed: int, number: int) -> bytes:
    """A case by itself: the same for the same seed and number."""
    return fuzzer.case(Random(f"{fuzzer.name} {seed} {number}"))


@contextmanager
def limited() -> Iterator[None]:
    """Ends a case that computes for more than SECONDS, where the system has such a clock."""
    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGVTALRM, _too_slow)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _too_slow(*_: object) -> None:
    raise TooSlowError(f"more than {SECONDS} s")


def peak_megabytes() -> int:
    """The largest memory that this process had; 0 where the system does not tell."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (2**20 if sys.platform == "darwin" else 2**10)
