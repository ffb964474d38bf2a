"""Pictures between tensors (..., h, w, C), values 0..1, and Pillow, and as PNG files."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from .files import atomic

Metadata = Mapping[str, str]
"""Texts a saved file carries, by name."""


def flatten(frames: Tensor) -> Tensor:
    """Frames (..., h, w, C) with 1, 3 or 4 channels as colours (..., h, w, 3); what is transparent becomes white."""
    if frames.shape[-1] == 4:
        colours = frames[..., :3]
        # Exact where nothing is transparent.
        return torch.lerp(torch.ones_like(colours), colours, frames[..., 3:].expand_as(colours))
    return frames.expand(*frames.shape[:-1], 3)


def to_bytes(frames: Tensor) -> np.ndarray:
    """Values 0..1 as bytes; values outside are clamped."""
    return frames.detach().cpu().float().clamp(0, 1).mul(255).round().to(torch.uint8).numpy()


def digits(count: int) -> int:
    """Digits to number this many files with, at least 2, so that their names sort in order."""
    return max(2, len(str(count)))


def natural(path: Path) -> tuple[list[str | int], str]:
    """Sorts by name, numbers by value: 2 before 10."""
    parts = re.split(r"([0-9]+)", path.name.casefold())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], path.name


def from_image(image: Image.Image) -> Tensor:
    """A Pillow image as colours (h, w, 3)."""
    return torch.from_numpy(np.asarray(image.convert("RGB"), dtype=np.float32) / 255)


def read(path: str | os.PathLike[str]) -> Tensor:
    """A picture file as colours (h, w, 3); transparency becomes white."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with Image.open(path) as image:
            rgba = np.asarray(image.convert("RGBA"), dtype=np.float32) / 255
    except UnidentifiedImageError:
        raise ValueError(f"{path.name} is not a picture that can be read; PNG, JPEG and WebP can") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path.name} is too large a picture ({error})") from None
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path.name} is a damaged picture ({error}); save or download it again") from None
    return flatten(torch.from_numpy(rgba))


def save_png(frame: Tensor, path: str | os.PathLike[str], metadata: Metadata | None = None) -> None:
    """Save one frame (h, w, 3 or 4) as PNG with text chunks, atomically."""
    texts = PngInfo()
    for name, text in (metadata or {}).items():
        texts.add_text(name, text)
    with atomic(path) as temporary:
        Image.fromarray(to_bytes(frame)).save(temporary, format="PNG", pnginfo=texts, compress_level=4)
