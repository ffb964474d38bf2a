"""Files: saving that never leaves half a file, and the library's reader with a word on what strangers are.

What the server runs on people's files reads them with weights_file.open_weights.
"""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .foreign import NAMED, brief
from .strangers import diagnose


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`; what is written there becomes `path` at the end, or nothing does."""
    path = Path(path)
    temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save_safetensors(
    tensors: Mapping[str, Tensor], path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> None:
    """Save tensors atomically, with text metadata in the header."""
    with atomic(path) as temporary:
        # safetensors lets nobody but its user read what it writes; models are for all that other files are for.
        temporary.touch()
        mode = temporary.stat().st_mode
        save_file({key: t.detach().contiguous() for key, t in tensors.items()}, temporary, dict(metadata or {}))
        temporary.chmod(stat.S_IMODE(mode))


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
