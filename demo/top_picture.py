"""The picture at the top of README.md, drawn by FLUX-nano: `python -m demo.top_picture`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from makeanything import serpentine
from makeanything.command_line import Parser, ended
from makeanything.pictures import to_bytes
from makeanything.saving import atomic, make_folder

from .nano import GRID, Nano, heads
from .scenes.domains import finished, read_scene

FILE = Path(__file__).parents[1] / "docs/top.jpg"
DRAWN = (("Bricks", "a big red house"), ("Tree", "a big orange oak"), ("Line drawing", "a big teal cat"))
GIVEN = ("Colouring", "a big green duck")
"""Processes and what they make; the last one's picture is given to ReCraft."""

FRAME, GAP, BAND = 128, 8, 34
"""Edge of a frame, space around it, and height of the line above a row, in pixels."""
PAPER, INK, HELD = (250, 249, 246), (50, 48, 58), (255, 150, 20)
SEED = 1


def write(file: Path = FILE) -> None:
    """Draw the sequences and write them as one JPEG, atomically."""
    page = compose(list(sequences()))
    make_folder(file.parent)
    with atomic(file) as temporary:
        page.save(temporary, "JPEG", quality=90, optimize=True)


def sequences() -> Iterator[tuple[str, Tensor, bool]]:
    """(line, frames (9, h, w, 3), whether the last one was given) of every row."""
    nano, known = Nano(), {domain.name: domain for domain in heads(9).domains}
    for process, what in (*DRAWN, GIVEN):
        domain, given = known[process], (process, what) == GIVEN
        held = {domain.layout.tail: _finished(process, what, GRID // domain.layout.cols)} if given else None
        grids = nano.draw(domain, process, domain.write_prompt(what), SEED, held)
        line = f"{process}, from a finished picture" if given else f"{process}, from words: {what}"
        yield line, serpentine.split_trimmed(grids, domain.layout)[0], given


def _finished(process: str, what: str, size: int) -> Tensor:
    return torch.from_numpy(finished(read_scene(process, what, SEED), size)).float() / 255


def compose(rows: list[tuple[str, Tensor, bool]]) -> Image.Image:
    """Sequences below each other, each in time order from left to right."""
    frames = max(len(frames) for _, frames, _ in rows)
    page = Image.new("RGB", (GAP + frames * (FRAME + GAP), GAP + len(rows) * (BAND + FRAME + GAP)), PAPER)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(20)
    for row, (line, pictures, given) in enumerate(rows):
        top = GAP + row * (BAND + FRAME + GAP)
        pen.text((GAP, top + 4), line, INK, font)
        for number, pixels in enumerate(to_bytes(pictures)):
            left = GAP + number * (FRAME + GAP)
            frame = Image.fromarray(pixels).resize((FRAME, FRAME), Image.Resampling.LANCZOS)
            page.paste(frame, (left, top + BAND))
        if given:
            pen.rectangle((left, top + BAND, left + FRAME - 1, top + BAND + FRAME - 1), outline=HELD, width=4)
    return page


def main() -> int:
    """Draw; the exit code."""
    parser = Parser(prog="python -m demo.top_picture", description=__doc__)
    parser.parse_args()
    return ended(parser.prog, write)


if __name__ == "__main__":
    sys.exit(main())
