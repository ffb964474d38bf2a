"""Reading files: exactly the bytes that are asked for, and saying what kind of file a stranger is."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .steps import Step, go_on


@contextmanager
def open_safetensors(path: str | os.PathLike[str]) -> Iterator[safe_open]:
    """Open a safetensors file lazily; a ValueError says what another kind of file is."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(f"{path.name} is not a readable safetensors file: {_diagnose(path, error)}") from error


def read_tensors(path: str | os.PathLike[str], names: Collection[str], step: Step = go_on) -> dict[str, Tensor]:
    """The named tensors of a file that `open_safetensors` accepted, reading their bytes and no others.

    safetensors' own reader maps the file into memory, and the system then reads ahead: fetching one of 21 heads from a
    cold disk read 9 times its bytes.  ValueError when the file is cut short or lacks a name.
    """
    path = Path(path)
    with path.open("rb", buffering=0) as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        data, header = _read_header(file)
        for name in names:
            if name not in header:
                raise ValueError(f"{path.name} has no tensor {name}")
            if header[name]["dtype"] not in _DTYPES:
                raise ValueError(f"{path.name}: {name} is of type {header[name]['dtype']}, no type of weights")
        spans = {name: [data + offset for offset in header[name]["data_offsets"]] for name in names}
        _announce(file, spans.values())
        tensors = {}
        for name, span in spans.items():
            step(0)
            raw = _read_span(file, *span)
            tensors[name] = raw.view(_DTYPES[header[name]["dtype"]]).reshape(header[name]["shape"])
    return tensors


def _read_header(file: FileIO) -> tuple[int, dict[str, Any]]:
    """Where the tensors' bytes begin, and the entry of each; ValueError when the file ends before its last tensor."""
    data = 8 + int.from_bytes(_read_span(file, 0, 8).numpy().tobytes(), "little")
    header = json.loads(_read_span(file, 8, data).numpy().tobytes())
    header.pop("__metadata__", None)
    if os.fstat(file.fileno()).st_size < data + max(entry["data_offsets"][1] for entry in header.values()):
        raise ValueError(f"{file.name} is damaged: it is cut short; download it again")
    return data, header


def _announce(file: FileIO, spans: Iterable[list[int]]) -> None:
    """Let the system fetch exactly these spans (start, end), all at once, where it takes such advice."""
    if hasattr(os, "posix_fadvise"):
        for start, end in spans:
            os.posix_fadvise(file.fileno(), start, end - start, os.POSIX_FADV_WILLNEED)


def _read_span(file: FileIO, start: int, end: int) -> Tensor:
    """Bytes from start to end.  Allocated by torch, so that they are aligned, and filled in place."""
    raw = torch.empty(end - start, dtype=torch.uint8)
    left = memoryview(raw.numpy().data)
    file.seek(start)
    while left:
        count = file.readinto(left)
        if not count:
            raise OSError(f"{file.name} ended while it was read")
        left = left[count:]
    return raw


_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
}
"""safetensors' names of the element types that weights come in."""

MAX_HEADER = 100_000_000
"""Bytes, safetensors' own limit.  The first eight bytes of any other kind of file read as a larger length."""

_MAGIC = (
    (b"PK\x03\x04", "it is a zip archive, as PyTorch's .pt and .ckpt pickles are; pickles are never loaded"),
    (b"\x80\x02", "it is a Python pickle, which is never loaded"),
    (b"GGUF", "it is a GGUF file; load it with a GGUF loader node"),
    (b"version https://git-lfs", "it is a Git LFS pointer; download the real file"),
    (b"<", "it is a web page, perhaps a login page saved in place of the file; download it again"),
    (b"{", "it is JSON text"),
    (b"\x89PNG", "it is a PNG picture"),
    (b"\xff\xd8\xff", "it is a JPEG picture"),
)


def _diagnose(path: Path, error: SafetensorError) -> str:
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(32)
    if not start:
        return "it is empty; the download failed"
    header = int.from_bytes(start[:8], "little")
    if header > MAX_HEADER:
        for magic, meaning in _MAGIC:
            if start.lstrip().startswith(magic):
                return meaning
    elif size < 8 + header or "ncomplete" in str(error):
        return f"it is cut short or damaged ({size:,} bytes on disk, not what its header promises); download it again"
    return f"its header can't be read ({error})"
