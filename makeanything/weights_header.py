"""The header of a safetensors file: every number in it is checked before it is used."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from .foreign import brief, parse_json

HEADER_BYTES = 32 * 2**20
HEADER_DEPTH = 3
TENSORS = 100_000
HEADER_VALUES = 12 * TENSORS
"""Commas and brackets: a tensor's entry has about ten."""
NAME_CHARACTERS = 500
AXES = 8
LARGEST = 2**62
"""Of edges, places and elements: more is too much for torch, also beside an edge of 0."""

WEIGHTS = {
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

_OTHERS = {
    "BOOL": "bool",
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
    "C64": "complex64",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}

DTYPES = WEIGHTS | {name: getattr(torch, dtype) for name, dtype in _OTHERS.items() if hasattr(torch, dtype)}
"""Of all element types that this torch has; ordinary LoRAs may hold any of them beside their weights."""

_HEADS = ".lora_ups."
"""In the names of a heads file, of which every tensor is a weight."""


@dataclass(frozen=True)
class Entry:
    """A tensor of the file: its bytes lie from `start` to `end`, counted from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @classmethod
    def read(cls, name: str, entry: Any) -> Entry:
        """Of JSON; ValueError unless type, shape and bytes are what they should be, and agree."""
        if not 0 < len(name) <= NAME_CHARACTERS:
            raise ValueError(f"a tensor's name is of {len(name):,} characters, 1 to {NAME_CHARACTERS} are read")
        try:
            dtype, shape, (start, end) = (entry[key] for key in ("dtype", "shape", "data_offsets"))
            numbers = [*shape, start, end]
        except (TypeError, KeyError, ValueError):
            raise ValueError(f"{brief(name)} lacks its type, shape or place") from None
        if not isinstance(dtype, str) or dtype not in DTYPES:
            raise ValueError(f"{brief(name)} is of type {brief(dtype)}, no type that is known here")
        # JSON's true would pass as an int.
        possible = all(type(number) is int and 0 <= number < LARGEST for number in numbers)
        if not possible or not isinstance(shape, list) or len(shape) > AXES:
            raise ValueError(f"{brief(name)} has a shape or place that can't be")
        if math.prod(edge or 1 for edge in shape) >= LARGEST:
            raise ValueError(f"{brief(name)} has a shape that is too large")
        if math.prod(shape) * DTYPES[dtype].itemsize != end - start:
            raise ValueError(f"{brief(name)} has another number of bytes than its shape needs")
        return cls(dtype, tuple(shape), start, end)

    def check_weights(self, name: str) -> None:
        """ValueError for what is never a weight."""
        if self.dtype not in WEIGHTS:
            raise ValueError(f"{brief(name)} is of type {self.dtype}, no type of weights")
        if 0 in self.shape:
            raise ValueError(f"{brief(name)} has no elements")


def parse_header(raw: bytes, size: int) -> tuple[dict[str, str], Mapping[str, Entry]]:
    """(metadata, tensors by name) of a header before `size` bytes of tensors.

    ValueError says what is wrong; EOFError stands for tensors that do not end where the file does.
    """
    header = parse_json(raw, HEADER_DEPTH, HEADER_VALUES)
    if not isinstance(header, dict) or len(header) > TENSORS:
        raise ValueError(f"it is no JSON object of at most {TENSORS:,} tensors")
    metadata = header.pop("__metadata__", None)
    # The library takes null for none, too.
    metadata = {} if metadata is None else metadata
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError("its metadata is not text")
    entries = {name: Entry.read(name, entry) for name, entry in header.items()}
    if any(_HEADS in name for name in entries):
        for name, entry in entries.items():
            entry.check_weights(name)
    _check_places(entries.values(), size)
    return metadata, entries


def _check_places(entries: Iterable[Entry], size: int) -> None:
    """ValueError unless the tensors lie side by side, EOFError unless they end where the file does."""
    end = 0
    for entry in sorted(entries, key=lambda entry: (entry.start, entry.end)):
        if entry.start != end:
            raise ValueError("there are gaps between its tensors, or they overlap")
        end = entry.end
    if end != size:
        raise EOFError
