"""Seconds, peak memory and bytes read from the disk, of work in a process of its own.  Linux."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_SELF = Path("/proc/self")


@dataclass(frozen=True)
class Reading:
    """Of one piece of work: seconds, bytes fetched from the disk, and main memory at its peak over that before it."""

    seconds: float
    disk: int
    peak: int


def measured(work: Callable[[], object]) -> Reading:
    """Do the work once.  What it returns is freed only after its memory was read."""
    gc.collect()
    before, disk = rss(), _disk_bytes()
    reset_peak()
    start = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    reading = Reading(seconds, _disk_bytes() - disk, peak_rss() - before)
    del result
    return reading


def seconds_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def rss() -> int:
    """Bytes of this process in main memory, pages of mapped files included."""
    return _status("VmRSS")


def peak_rss() -> int:
    """The largest `rss` since `reset_peak`."""
    return _status("VmHWM")


def reset_peak() -> None:
    (_SELF / "clear_refs").write_text("5", encoding="ascii")


def _status(name: str) -> int:
    lines = (_SELF / "status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _disk_bytes() -> int:
    lines = (_SELF / "io").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes:"))


def forget(path: Path) -> None:
    """Drop a file from the system's page cache, so that it is read from the disk again."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def in_child(module: str, *arguments: object) -> Reading:
    """The Reading that `python -m module ARGUMENTS` prints."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} failed:\n{done.stderr}")
    return Reading(**json.loads(done.stdout))


def tell(reading: Reading) -> None:
    """What `in_child` reads."""
    print(json.dumps(asdict(reading)))
