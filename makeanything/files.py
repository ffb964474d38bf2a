"""The library's reader of safetensors files, with a word on what strangers are.

What the server runs on people's files reads them with weights_file.open_weights.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open

from .foreign import NAMED, brief
from .strangers import diagnose


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


def _diagnose(path: Path, error: SafetensorError) -> str:
    with path.open("rb") as file:
        start = file.read(32)
    return diagnose(start, path.stat().st_size, "" if "ncomplete" in str(error) else brief(str(error), NAMED))
