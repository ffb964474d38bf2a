"""Pictures between tensors (..., h, w, C), values 0..1, and Pillow, and as PNG files."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFile, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from .foreign import brief
from .saving import atomic

Metadata = Mapping[str, str]
"""Texts a saved file carries, by name."""


MOST_PIXELS = 120_000_000
"""Of a picture file, more than cameras have: a few bytes can claim any size."""


TOO_LARGE = "too large for this machine's memory"


@contextmanager
def open_image(path: Path) -> Iterator[ImageFile.ImageFile]:
    """Pillow's `open`: an image that is not decoded yet.  DecompressionBombError when it is too large."""
    with warnings.catch_warnings():
        # Ours is the bound, and one line says so.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image = Image.open(path)
    with image:
        if image.width * image.height > MOST_PIXELS:
            size = f"{image.width} x {image.height}"
            raise Image.DecompressionBombError(f"{size} pixels; at most {MOST_PIXELS:,} are read, so save it smaller")
        yield image


def check(frames: Tensor) -> None:
    """ValueError unless frames are one or more pictures (F, h, w, C) of 1 to 4 channels."""
    if frames.ndim != 4 or 0 in frames.shape or frames.shape[3] > 4:
        raise ValueError(
            f"one or more pictures (F, h, w, C) of 1 to 4 channels are needed, got {tuple(frames.shape)}; is the batch "
            "empty, or is it not a batch of pictures?"
        )


def flatten(frames: Tensor) -> Tensor:
    """Frames (..., h, w, C) as colours (..., h, w, 3); what is transparent becomes white.

    C is 1 (grey), 2 (grey, alpha), 3 (colours) or 4 (colours, alpha).
    """
    frames = frames if frames.is_floating_point() else frames.float()
    if frames.shape[-1] in (2, 4):
        colours = frames[..., :-1]
        # Exact where nothing is transparent.
        frames = torch.lerp(torch.ones_like(colours), colours, frames[..., -1:].expand_as(colours))
    return frames.expand(*frames.shape[:-1], 3)


def to_bytes(frames: Tensor) -> np.ndarray:
    """Values 0..1 as bytes; values outside are clamped, and NaN is 0."""
    return frames.detach().cpu().float().clamp(0, 1).nan_to_num(0).mul(255).round().to(torch.uint8).numpy()


def digits(count: int) -> int:
    """Digits to number this many files with, at least 2, so that their names sort in order."""
    return max(2, len(str(count)))


def natural(path: Path) -> tuple[list[str | int], str]:
    """Sorts by name, numbers by value: 2 before 10."""
    parts = re.split(r"([0-9]+)", path.name.casefold())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], path.name


def from_image(image: Image.Image) -> Tensor:
    """A Pillow image as colours (h, w, 3)."""
    return _floats(image.convert("RGB"))


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """A picture file, to be decoded while this lasts; a ValueError says what is wrong with it."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    name = brief(path.name)
    try:
        with open_image(path) as image:
            yield image
    except UnidentifiedImageError:
        raise ValueError(f"{name} is not a picture that can be read; PNG, JPEG and WebP can") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name} is too large a picture ({error})") from None
    except Exception as error:  # each decoder fails in ways of its own
        if out_of_memory(error):
            raise ValueError(f"{name} is {TOO_LARGE}") from None
        raise ValueError(f"{name} is a damaged picture ({error}); save or download it again") from error


def out_of_memory(error: Exception) -> bool:
    """Whether the machine's memory was too small, which torch says in the text of a RuntimeError."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "alloc" in str(error))


def read(path: str | os.PathLike[str]) -> Tensor:
    """A picture file as colours (h, w, 3); transparency becomes white."""
    with opened(path) as image:
        if "A" in image.getbands() or "transparency" in image.info:
            return flatten(_floats(image.convert("RGBA")))
        return from_image(image)


def _floats(image: Image.Image) -> Tensor:
    """Bytes as values 0..1, in place: of a photograph each copy takes a gigabyte."""
    values = np.array(image, dtype=np.float32)
    values /= 255
    return torch.from_numpy(values)


def save_png(
    frame: Tensor, path: str | os.PathLike[str], metadata: Metadata | None = None, compress_level: int = 4
) -> None:
    """Save one frame (h, w, C), of 1 to 4 channels as in `flatten`, as PNG with text chunks, atomically."""
    pixels = to_bytes(frame.squeeze(-1) if frame.shape[-1] == 1 else frame)
    save_image(Image.fromarray(pixels), path, metadata, compress_level)


def save_image(
    image: Image.Image, path: str | os.PathLike[str], metadata: Metadata | None = None, compress_level: int = 4
) -> None:
    """Save an image as PNG with text chunks, atomically."""
    texts = PngInfo()
    for name, text in (metadata or {}).items():
        texts.add_text(name, text)
    with atomic(path) as temporary:
        image.save(temporary, format="PNG", pnginfo=texts, compress_level=compress_level)
