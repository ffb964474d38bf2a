"""Contact sheets: all frames of a sequence on one page, in reading order, with numbers and captions."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from itertools import islice

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .foreign import within
from .pictures import check, flatten, from_image, to_bytes
from .steps import Step, go_on

# Not white: frames often have white paper of their own, whose edge should show.
PAPER = (236, 236, 236)
INK = (32, 32, 32)
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
MOST_COLUMNS = 64
"""More are taken where there are as many frames."""
MOST_LINES = 100
"""Lines of a caption; longer ones are cut, and end in dots."""


def contact_sheet(
    frames: Tensor, columns: int = 0, captions: Sequence[str] = (), numbered: bool = True, step: Step = go_on
) -> Tensor:
    """Frames (F, h, w, C) on one page (H, W, 3), left to right and top to bottom.

    `columns`: 0 chooses about as many as rows.  `captions`: one per frame, first frame first; missing and empty ones
    leave their frame without.  Numbers count from 1.  ValueError if there are more captions than frames,
    or `columns` is below 0.
    """
    check(frames)
    count, height, width, _ = frames.shape
    if len(captions) > count:
        raise ValueError(f"{len(captions)} captions were given for {count} frames; write one line per frame")
    columns = within(columns, 0, max(MOST_COLUMNS, count), "columns")
    columns = min(columns or math.ceil(math.sqrt(count)), count)
    size = max(width // 18, 12)
    font = ImageFont.load_default(size)
    gap = max(width // 24, 6)
    line_height = round(size * 1.4)
    texts = []
    for text in _texts(count, captions, numbered):
        step(0)
        texts.append(wrap(text, font, width))
    rows = [range(start, min(start + columns, count)) for start in range(0, count, columns)]
    strips = [max(len(texts[frame]) for frame in row) * line_height for row in rows]
    tops = [gap + sum(height + strip + gap for strip in strips[:row]) for row in range(len(rows) + 1)]
    page = Image.new("RGB", (gap + columns * (width + gap), tops[-1]), PAPER)
    draw = ImageDraw.Draw(page)
    for row, top in zip(rows, tops, strict=False):
        for column, frame in enumerate(row):
            left = gap + column * (width + gap)
            step(1)
            page.paste(Image.fromarray(to_bytes(flatten(frames[frame]))), (left, top))
            for line, text in enumerate(texts[frame]):
                draw.text((left, top + height + gap // 3 + line * line_height), text, INK, font)
    return from_image(page)


def _texts(count: int, captions: Sequence[str], numbered: bool) -> list[str]:
    padded = [*(caption.strip() for caption in captions), *[""] * (count - len(captions))]
    if not numbered:
        return padded
    return [f"{number}  {caption}".rstrip() for number, caption in enumerate(padded, 1)]


def wrap(text: str, font: Font, width: int) -> list[str]:
    """The first MOST_LINES lines of a text, of at most `width` pixels, broken between words where they can be."""
    lines = list(islice(_lines(text, font, width), MOST_LINES + 1))
    return lines if len(lines) <= MOST_LINES else [*lines[: MOST_LINES - 1], "..."]


def _lines(text: str, font: Font, width: int) -> Iterator[str]:
    line = ""
    for word in re.split(r"\s", text):
        joined = f"{line} {word}" if line else word
        if _fitting(joined, font, width) == len(joined):
            line = joined
            continue
        if line:
            yield line
        while (fits := _fitting(word, font, width)) < len(word):
            yield word[:fits]
            word = word[fits:]
        line = word
    if line.strip():
        yield line


def _fitting(text: str, font: Font, width: int) -> int:
    """How many letters of a text fit into a line, at least 1 of those it has.

    Only about the letters that fit are measured: a line of a long text costs no more than one of a short text.
    """
    fits, beyond = 0, 1
    while beyond <= len(text) and font.getlength(text[:beyond]) <= width:
        fits, beyond = beyond, beyond * 2
    beyond = min(beyond, len(text) + 1)
    while beyond - fits > 1:
        middle = (fits + beyond) // 2
        if font.getlength(text[:middle]) <= width:
            fits = middle
        else:
            beyond = middle
    return max(fits, min(len(text), 1))
