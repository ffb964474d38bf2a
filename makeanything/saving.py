"""Saving: whatever stops the program, a file is whole or not there; and why it could not be saved is said in one line.

What is being written has hidden names of its own, which no list of models or pictures shows.  A program that is killed
leaves them behind; the next save in that folder removes them when they are a day old.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from .file_names import MARK
from .foreign import brief

DAY = 24 * 60 * 60
"""Seconds after which nobody is still writing a file; more than the clocks of two computers differ by."""

_OURS = re.compile(re.escape(MARK) + r"[0-9a-f]{32}(\.\w+)?")
_LISTED = (".safetensors", ".sft")  # Hosts list these as models, hidden or not.
_REASONS = {
    errno.ENOSPC: "the disk is full; make room, or save elsewhere",
    errno.EDQUOT: "no more may be written to this disk; make room, or save elsewhere",
    errno.EFBIG: "the disk takes no file of this size; save elsewhere",
    errno.EROFS: "the disk is read-only; save elsewhere",
    **dict.fromkeys((errno.EACCES, errno.EPERM), "its folder or a file of this name is protected; save elsewhere"),
    errno.ENOENT: "its folder is gone",
    errno.ENOTDIR: "its folder is a file",
    errno.EISDIR: "a folder has this name; move it",
    errno.EEXIST: "something else has this name",
    errno.ENAMETOOLONG: "its name is too long",
}
_busy: Counter[Path] = Counter()  # How many sets of files are being saved in a folder, each swept when it began.


class NotSavedError(OSError):
    """A file could not be saved.  The text is one line: its name, the reason, and what helps."""


@contextmanager
def saving(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what writers of this file raise into a NotSavedError."""
    try:
        yield
    except NotSavedError:
        raise
    except (OSError, SafetensorError) as error:
        raise NotSavedError(f"{brief(Path(path).name)} can't be saved: {_reason(error)}") from error


def make_folder(folder: Path) -> None:
    """Make a folder and those above it where they are missing."""
    with saving(folder):
        folder.mkdir(parents=True, exist_ok=True)


def _reason(error: OSError | SafetensorError) -> str:
    # safetensors' errors are no OSErrors, and have the system's number in their text alone.
    found = re.search(r"os error (\d+)", str(error))
    number = int(found[1]) if found else getattr(error, "errno", None)
    return _REASONS.get(number or 0) or getattr(error, "strerror", None) or " ".join(str(error).split())


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`; what is written there becomes `path` at the end, or nothing does.

    It keeps the suffix, which writers go by, unless that is one of weights.  NotSavedError where writing fails.
    """
    path = Path(path)
    with saving(path):
        sweep(path.parent)
        temporary = path.with_name(unfinished(".tmp" if path.suffix.lower() in _LISTED else path.suffix))
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def unfinished(suffix: str = ".tmp", key: str = "") -> str:
    """A name for what is not finished: another one each time, or always the same for a `key`."""
    # No part of the target's own name, which may be as long as names can be.
    return f"{MARK}{(uuid.uuid5(uuid.NAMESPACE_OID, key) if key else uuid.uuid4()).hex}{suffix}"


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """An unfinished folder beside `path`, out of which its files are moved when they are whole; removed in the end."""
    with saving(path):
        sweep(path.parent)
        folder = path.with_name(unfinished(""))
        folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove the unfinished files and folders here that are a day old."""
    if _busy[folder]:
        return
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _OURS.fullmatch(entry.name) and entry.stat(follow_symlinks=False).st_mtime < time.time() - DAY:
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    Path(entry.path).unlink(missing_ok=True)


@contextmanager
def many(folder: Path) -> Iterator[None]:
    """Around the saving of many files in a folder, which is looked through for leftovers once."""
    sweep(folder)
    _busy[folder] += 1
    try:
        yield
    finally:
        _busy[folder] -= 1


@contextmanager
def numbered(folder: Path, name: str, number: int = 1) -> Iterator[Path]:
    """Reserve a number for files NAME_NUMBER_..., from `number` on the first that none has; gives FOLDER/NAME_NUMBER.

    While this lasts no other process gets the number.  Where capitals alone tell names apart, they share numbers.
    """
    with many(folder):
        with saving(folder / name):
            start, reservation = _reserve(folder, name, number)
        try:
            yield start
        finally:
            reservation.unlink(missing_ok=True)


def _reserve(folder: Path, name: str, number: int) -> tuple[Path, Path]:
    """FOLDER/NAME_NUMBER, and the file that reserves it."""
    there = _names(folder)
    while True:
        start = f"{name}_{number:05}".casefold()
        if not _has(there, start) and (reservation := _create(folder, start)):
            # Looked at again: another process may have taken the number and been done since.
            there = _names(folder)
            if not _has(there, start):
                return folder / f"{name}_{number:05}", reservation
            reservation.unlink()
        number += 1


def _create(folder: Path, start: str) -> Path | None:
    """The new file that reserves `start`; None where another process has reserved it.

    Its name changes with the day, so that sweeping a stale one never removes the one that took its place.
    """
    today = int(time.time() // DAY)
    mine, *others = (folder / unfinished(key=f"{start} {day}") for day in (today, today - 1, today + 1))
    with suppress(FileExistsError):
        mine.touch(exist_ok=False)
        if not any(other.exists() for other in others):
            return mine
        mine.unlink()
    return None


def _names(folder: Path) -> list[str]:
    return [path.name.casefold() for path in folder.iterdir()]


def _has(names: list[str], start: str) -> bool:
    return any(name.startswith(f"{start}_") for name in names)


def save_safetensors(
    tensors: Mapping[str, Tensor], path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> None:
    """Save tensors atomically, with text metadata in the header."""
    # safetensors has a temporary file of its own, in the same folder.
    with saving(path), folder_beside(Path(path)) as folder:
        temporary = folder / "weights.tmp"
        # safetensors gives its file to its user alone; a model is for everyone who may read other new files.
        temporary.touch()
        mode = temporary.stat().st_mode
        save_file({key: t.detach().contiguous() for key, t in tensors.items()}, temporary, dict(metadata or {}))
        temporary.chmod(stat.S_IMODE(mode))
        os.replace(temporary, path)
