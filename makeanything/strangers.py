"""What a file is that is no (whole) safetensors file, told from its first bytes."""

from __future__ import annotations

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


def diagnose(start: bytes, size: int, reason: str) -> str:
    """`start` is the file's first 32 bytes, `size` its length in bytes, `reason` what is wrong with its header; empty
    where the file ends before its header says."""
    if not start:
        return "it is empty; the download failed"
    header = int.from_bytes(start[:8], "little")
    if header > MAX_HEADER:
        for magic, meaning in _MAGIC:
            if start.lstrip().startswith(magic):
                return meaning
    elif size < 8 + header or not reason:
        return f"it is cut short or damaged ({size:,} bytes on disk, not what its header promises); download it again"
    return f"its header can't be read ({reason})"
