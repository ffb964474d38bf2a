"""The picture under which ComfyUI lists a workflow: its frames as a snake, above a line on what it does."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

EDGE = 480
"""Of the picture, in pixels."""

BAND = 60
"""Height of the text's part."""

GAP = 6
PAPER, INK, FAINT, HELD = (27, 27, 33), (240, 240, 244), (160, 160, 172), (255, 166, 40)


def thumbnail(frames: Sequence[Image.Image], title: str, line: str, held: int | None = None) -> Image.Image:
    """Frames in time order, each beside the one before it; frame `held` (counted from 0) has an orange border."""
    columns = math.ceil(math.sqrt(len(frames)))
    pitch = (EDGE - BAND) // columns
    cell = pitch - GAP
    left, top = (EDGE - columns * pitch + GAP) // 2, GAP
    page = Image.new("RGB", (EDGE, EDGE), PAPER)
    draw = ImageDraw.Draw(page)
    for number, frame in enumerate(frames):
        row, column = divmod(number, columns)
        x = left + pitch * (columns - 1 - column if row % 2 else column)
        y = top + pitch * row
        page.paste(frame.resize((cell, cell), Image.Resampling.LANCZOS), (x, y))
        if number == held:
            draw.rectangle((x, y, x + cell - 1, y + cell - 1), outline=HELD, width=5)
    draw.text((left, EDGE - BAND + 4), title, INK, ImageFont.load_default(22))
    draw.text((left, EDGE - BAND + 33), line, FAINT, ImageFont.load_default(15))
    return page
