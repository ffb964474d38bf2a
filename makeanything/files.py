"""Files: saving that never leaves half a file, and saying what kind of file a stranger is."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`; what is written there becomes `path` at the end, or nothing does."""
    path = Path(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes private files; a saved picture or weight is as readable as any other.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def save_safetensors(
    tensors: Mapping[str, Tensor], path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> None:
    """Save tensors atomically, with text metadata in the header."""
    with atomic(path) as temporary:
        save_file({key: t.detach().contiguous() for key, t in tensors.items()}, temporary, dict(metadata or {}))


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


MAX_HEADER = 100_000_000
"""Bytes, safetensors' own limit.  The first eight bytes of any other kind of file read as a larger length."""

_MAGIC = (
    (b"PK\x03\x04", "it is a zip archive, as PyTorch's .pt and .ckpt pickles are; pickles are never loaded"),
    (b"\x80\x02", "it is a Python pickle, which is never loaded"),
    (b"GGUF", "it is a GGUF file; load it with a GGUF loader node"),
    (b"version https://git-lfs", "it is a Git LFS pointer; download the real file"),
    (b"<", "it is a web page, perhaps a login page saved in place of the file; download it again"),
    (b"{", "it is JSON text"),
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
