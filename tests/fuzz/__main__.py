"""Long runs: `python -m tests.fuzz --minutes 60 [--only headers,json] [--seed N] [--report docs/reliability.md]`.

A row of the counts is added to the report, also when the run is ended with Ctrl-C or SIGTERM.  A case that escapes is
kept in tests/fuzz/found, where the tests run it from then on; the exit code is 1 then.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from random import SystemRandom

from .fuzzer import Tally, fuzz, make
from .fuzzers import FOUND, FUZZERS

ROOT = Path(__file__).resolve().parents[2]
SECTION = "## Fuzz counts"
CHUNK = 2000
"""Cases of one fuzzer before the next one's turn."""
GIGABYTES = 4
"""Of addresses beyond those in use when the run starts; a case that asks for more fails, and not the machine."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--only", default=",".join(FUZZERS), help="names of fuzzers, separated by commas")
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(10**9))
    parser.add_argument("--report", type=Path, default=ROOT / "docs/reliability.md")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := set(names) - set(FUZZERS):
        parser.error(f"there is no fuzzer {', '.join(sorted(unknown))}; there are {', '.join(FUZZERS)}")
    # Before the run, during which others may be made.
    commit = _commit()
    tallies = run(names, options.seed, options.minutes * 60)
    rows = [row(name, commit, options.seed, tally) for name, tally in tallies.items()]
    options.report.write_text(add_rows(options.report.read_text(encoding="utf-8"), rows), encoding="utf-8")
    print("\n".join(rows))
    return int(any(tally.escapes for tally in tallies.values()))


def run(names: list[str], seed: int, seconds: float) -> dict[str, Tally]:
    """Fuzz by turns until the time is over."""
    _prepare_process()
    end, tallies = time.monotonic() + seconds, {name: Tally() for name in names}
    with tempfile.TemporaryDirectory() as folder:
        fuzzers = {}
        for name in names:
            place = Path(folder, name)
            place.mkdir()
            fuzzers[name] = FUZZERS[name](place)
        try:
            while True:
                for name, fuzzer in fuzzers.items():
                    new, tally = fuzz(fuzzer, seed, CHUNK, tallies[name].cases), tallies[name]
                    for number, what in new.escapes:
                        print(f"{name}, seed {seed}, case {number}: {what}", flush=True)
                        (FOUND / f"{name}-{seed}_{number}.case").write_bytes(make(fuzzer, seed, number))
                    tally.cases += new.cases
                    tally.past += new.past
                    tally.escapes += new.escapes
                if time.monotonic() >= end:
                    break
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
    return tallies


def row(name: str, commit: str, seed: int, tally: Tally) -> str:
    """A line of the report's table."""
    day = datetime.now(timezone.utc).date()
    share = f"{tally.past / max(tally.cases, 1):.0%}"
    return f"| {day} | {commit} | {name} | {seed} | {tally.cases:,} | {share} | {len(tally.escapes)} |"


def add_rows(text: str, rows: list[str]) -> str:
    """A report with rows at the end of the first table of its SECTION."""
    lines = text.split("\n")
    first = next(place for place in range(lines.index(SECTION), len(lines)) if lines[place].startswith("|"))
    end = next((place for place in range(first, len(lines)) if not lines[place].startswith("|")), len(lines))
    return "\n".join([*lines[:end], *rows, *lines[end:]])


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def _prepare_process() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        # A shell's background jobs ignore the first.
        signal.signal(number, signal.default_int_handler)
    if sys.platform == "linux":
        import resource

        used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (used + GIGABYTES * 2**30, hard))


if __name__ == "__main__":
    sys.exit(main())
