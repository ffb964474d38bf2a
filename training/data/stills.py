"""Pictures of any kind and size, in a few bytes for each pixel: read in strips, and fitted to a cell in strips."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from makeanything.foreign import brief
from makeanything.pictures import TOO_LARGE, open_image, out_of_memory
from makeanything.recraft import WHITE
from makeanything.serpentine import Layout, split, split_trimmed

STRIP = 256
"""Rows that are worked on at a time."""
LONGEST = 50
"""Times as long as wide: what is longer is not a picture of a sequence, and padding it would take any memory."""


def read_picture(path: Path) -> Image.Image:
    """A picture of any depth and colour model in RGB, turned as its EXIF says; what is transparent becomes white."""
    with reading(path):
        # Opening a pipe would wait for ever.
        if not path.is_file():
            raise ValueError("it is not a file")
        with open_image(path) as image:
            ImageOps.exif_transpose(image, in_place=True)
            return to_rgb(image)


def read_grid(path: Path, layout: Layout, rows: bool, keep_gutters: bool) -> Iterator[Image.Image]:
    """The frames of a finished grid in time order.  `rows`: it was laid out row by row, not as a snake."""
    with reading(path):
        # As bytes: floats would take four times the memory.
        grid = torch.from_numpy(np.array(read_picture(path)))
        height, width = grid.shape[0] // layout.rows * layout.rows, grid.shape[1] // layout.cols * layout.cols
        frames = (split if keep_gutters else split_trimmed)(grid[None, :height, :width], layout)[0]
    for frame in range(layout.frames):
        yield Image.fromarray(frames[layout.order.index(divmod(frame, layout.cols)) if rows else frame].numpy())


def fit_square(image: Image.Image, edge: int) -> Image.Image:
    """`makeanything.recraft.fit_image` for a square cell: the same bits, without a padded copy of the picture."""
    longer, shorter = max(image.size), min(image.size)
    if longer > LONGEST * shorter:
        raise ValueError(f"a frame of {image.width} x {image.height} px is not a picture: it is too long for its width")
    left, above = (longer - image.width) // 2, (longer - image.height) // 2
    # Pillow resizes the rows first, then the columns.
    narrow = Image.new("RGB", (edge, longer), (WHITE,) * 3)
    for top, strip in _strips(image):
        padded = Image.new("RGB", (longer, strip.height), (WHITE,) * 3)
        padded.paste(strip, (left, 0))
        narrow.paste(padded.resize((edge, strip.height), Image.Resampling.LANCZOS), (0, above + top))
    return narrow.resize((edge, edge), Image.Resampling.LANCZOS)


def to_rgb(image: Image.Image) -> Image.Image:
    """An image in RGB, on white; itself where it is so.  ValueError for floating point numbers."""
    if image.mode == "F":
        raise ValueError("its pixels are floating point numbers; save it with 8 or 16 bits")
    if image.mode == "RGB" and not image.has_transparency_data:
        image.load()
        return image
    whole = Image.new("RGB", image.size)
    for top, strip in _strips(image):
        whole.paste(_convert(strip), (0, top))
    return whole


def _convert(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # 16 bits; Pillow's own conversion cuts off what is above 255.
        return Image.fromarray((np.asarray(image) // 257).clip(0, 255).astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    paper = Image.new("RGBA", image.size, (WHITE,) * 4)
    return Image.alpha_composite(paper, image.convert("RGBA")).convert("RGB")


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """An image in parts of a few rows, and where each begins."""
    for top in range(0, image.height, STRIP):
        yield top, image.crop((0, top, image.width, min(top + STRIP, image.height)))


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Decoders fail in many ways; a ValueError says in one line which file it was."""
    name = brief(path.name)
    try:
        yield
    except Exception as error:
        if out_of_memory(error):
            raise ValueError(f"{name} is {TOO_LARGE}") from None
        # Said already, or of this module's own making.
        if type(error) is ValueError and name in str(error):
            raise
        reason = getattr(error, "strerror", None) or error
        if isinstance(error, UnidentifiedImageError):
            reason = "it is not a picture"
        text = brief(str(reason), 120) or type(error).__name__
        raise ValueError(f"{name} can't be read ({text}); is it whole?") from error
