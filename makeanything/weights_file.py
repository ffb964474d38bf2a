"""Safetensors files of strangers: every number of the header is checked before it is used, tensors come by exact reads.

The library's own reader maps the file into memory.  A file that shrinks under it ends the process, and the system reads
ahead: fetching one of 21 heads from a cold disk read 9 times its bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import torch
from torch import Tensor

from .foreign import brief
from .steps import Step, go_on
from .strangers import diagnose
from .weights_header import DTYPES, HEADER_BYTES, parse_header


class WeightsFile:
    """An open file whose header was read: `entries` of its tensors by name, `metadata`."""

    def __init__(self, file: FileIO, path: Path) -> None:
        self.path, self.name = path, brief(path.name)
        self._file = file
        self._stamp = _stamp(file)
        self._data, raw = _read_header(file, self._stamp[0])
        self.metadata, self.entries = parse_header(raw, self._stamp[0] - self._data)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: entry.shape for name, entry in self.entries.items()}

    def read(self, names: Iterable[str], step: Step = go_on) -> dict[str, Tensor]:
        """The named tensors, reading their bytes and no others; `step` is called before each.

        ValueError when there is no such name, and when the file changed since it was opened.
        """
        entries = {}
        for name in names:
            if name not in self.entries:
                raise ValueError(f"{self.name} has no tensor {brief(name)}")
            entries[name] = self.entries[name]
        spans = {name: (self._data + entry.start, self._data + entry.end) for name, entry in entries.items()}
        _announce(self._file, spans.values())
        try:
            read = {}
            for name, span in spans.items():
                step(0)
                entry = entries[name]
                read[name] = _read_span(self._file, *span).view(DTYPES[entry.dtype]).reshape(entry.shape)
        except OSError as error:
            raise _without_path(error, self.name) from None
        except EOFError:
            read = {}
        except RuntimeError:
            raise ValueError(f"{self.name} does not fit into this machine's memory") from None
        if _stamp(self._file) != self._stamp or len(read) != len(spans):
            raise ValueError(changed(self.name))
        return read


def refuse_nan(name: str, tensors: Mapping[str, Tensor], step: Step = go_on) -> None:
    """ValueError names the first tensor that is not finite; `name` is the file's.  `step` is called before each."""
    for key, tensor in tensors.items():
        step(0)
        # One pass, no mask the size of the weights: a NaN is both extremes.  Of fp8 torch finds none.
        values = tensor if tensor.itemsize > 1 else tensor.float()
        if not torch.stack(values.aminmax()).isfinite().all():
            raise ValueError(f"{name}: {brief(key)} holds NaN or infinite values; its training broke down")


def same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are the same to the bit, NaN and fp8, which torch does not compare, too."""
    return (a.dtype, a.shape) == (b.dtype, b.shape) and torch.equal(*(t.flatten().view(torch.uint8) for t in (a, b)))


def changed(name: str) -> str:
    return f"{name} changed while it was read; if it is still being downloaded, run this again when it is whole"


@contextmanager
def open_weights(path: str | os.PathLike[str]) -> Iterator[WeightsFile]:
    """Open a safetensors file and check its header.

    ValueError says what another kind of file is; OSError what the system said.  Neither gives the file's folder.
    """
    path = Path(path)
    with _open(path) as file:
        try:
            weights = _read(file, path)
        except OSError as error:
            raise _without_path(error, brief(path.name)) from None
        yield weights


def _read(file: FileIO, path: Path) -> WeightsFile:
    try:
        return WeightsFile(file, path)
    except (ValueError, EOFError) as error:
        file.seek(0)
        problem = diagnose(file.read(32), _stamp(file)[0], "" if isinstance(error, EOFError) else str(error))
        raise ValueError(f"{brief(path.name)} is not a readable safetensors file: {problem}") from None


def names_heads(path: str | os.PathLike[str]) -> bool:
    """Whether the header speaks of `lora_ups`, without parsing it; False where it can't be read."""
    try:
        with _open(Path(path)) as file:
            return b".lora_ups." in _read_header(file, _stamp(file)[0])[1]
    except (OSError, ValueError, EOFError):
        return False


@contextmanager
def _open(path: Path) -> Iterator[FileIO]:
    # Opening a pipe would wait for its writer.
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {brief(path.name)}")
    try:
        file = path.open("rb", buffering=0)
    except OSError as error:
        raise _without_path(error, brief(path.name)) from None
    with file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        yield file


def _without_path(error: OSError, name: str) -> OSError:
    return type(error)(f"{name} can't be read: {error.strerror or type(error).__name__}")


def _stamp(file: FileIO) -> tuple[int, int]:
    """(size in bytes, mtime in ns), which change when the file does."""
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _read_header(file: FileIO, size: int) -> tuple[int, bytes]:
    """Where the tensors' bytes begin, and the header."""
    length = int.from_bytes(_read_span(file, 0, 8).numpy().tobytes(), "little")
    if length > HEADER_BYTES:
        raise ValueError(f"it is of {length:,} bytes, at most {HEADER_BYTES:,} are read")
    if 8 + length > size:
        raise EOFError
    raw = _read_span(file, 8, 8 + length).numpy().tobytes()
    if not raw.startswith(b"{"):
        raise ValueError("it is no JSON object")
    return 8 + length, raw


def _announce(file: FileIO, spans: Iterable[tuple[int, int]]) -> None:
    """Let the system fetch exactly these spans (start, end), all at once, where it takes such advice."""
    if hasattr(os, "posix_fadvise"):
        for start, end in spans:
            os.posix_fadvise(file.fileno(), start, end - start, os.POSIX_FADV_WILLNEED)


def _read_span(file: FileIO, start: int, end: int) -> Tensor:
    """Bytes from start to end; EOFError where the file has none.  Allocated by torch, which aligns them, and filled in
    place."""
    raw = torch.empty(end - start, dtype=torch.uint8)
    left = memoryview(raw.numpy().data)
    file.seek(start)
    while left:
        count = file.readinto(left)
        if not count:
            raise EOFError
        left = left[count:]
    return raw
