"""Contact sheets: all frames of a sequence on one page, in reading order, with numbers and captions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .pictures import flatten, from_image, to_bytes

# Not white: frames often have white paper of their own, whose edge should show.
PAPER = (236, 236, 236)
INK = (32, 32, 32)


def contact_sheet(frames: Tensor, columns: int = 0, captions: Sequence[str] = (), numbered: bool = True) -> Tensor:
    """Frames (F, h, w, C) on one page (H, W, 3), left to right and top to bottom.

    `columns`: 0 chooses about as many as rows.  `captions`: one a frame, first frame first; missing and empty ones
    leave their frame without.  Numbers count from 1.  ValueError if there are more captions than frames.
    """
    count, height, width, _ = frames.shape
    if len(captions) > count:
        raise ValueError(f"{len(captions)} captions were given for {count} frames; write one line a frame")
    columns = min(columns or math.ceil(math.sqrt(count)), count)
    size = max(width // 18, 12)
    font = ImageFont.load_default(size)
    gap = max(width // 24, 6)
    line_height = round(size * 1.4)
    texts = [wrap(text, font, width) for text in _texts(count, captions, numbered)]
    rows = [range(start, min(start + columns, count)) for start in range(0, count, columns)]
    strips = [max(len(texts[frame]) for frame in row) * line_height for row in rows]
    tops = [gap + sum(height + strip + gap for strip in strips[:row]) for row in range(len(rows) + 1)]
    page = Image.new("RGB", (gap + columns * (width + gap), tops[-1]), PAPER)
    draw = ImageDraw.Draw(page)
    pixels = to_bytes(flatten(frames))
    for row, top in zip(rows, tops, strict=False):
        for column, frame in enumerate(row):
            left = gap + column * (width + gap)
            page.paste(Image.fromarray(pixels[frame]), (left, top))
            for line, text in enumerate(texts[frame]):
                draw.text((left, top + height + gap // 3 + line * line_height), text, INK, font)
    return from_image(page)


def _texts(count: int, captions: Sequence[str], numbered: bool) -> list[str]:
    padded = [*(caption.strip() for caption in captions), *[""] * (count - len(captions))]
    if not numbered:
        return padded
    return [f"{number}  {caption}".rstrip() for number, caption in enumerate(padded, 1)]


def wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Text broken into lines of at most `width` pixels, between words where it can be."""
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        joined = f"{line} {word}" if line else word
        if font.getlength(joined) <= width:
            line = joined
            continue
        if line:
            lines.append(line)
        while font.getlength(word) > width and len(word) > 1:
            fits = next(n for n in range(len(word) - 1, 0, -1) if n == 1 or font.getlength(word[:n]) <= width)
            lines.append(word[:fits])
            word = word[fits:]
        line = word
    return [*lines, line] if line.strip() else lines
