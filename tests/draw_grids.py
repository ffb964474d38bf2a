"""Draws the grids in tests/data/grids: `python -m tests.draw_grids`.

The program that FLUX-nano learns from draws the frames; the gutters are as wide and as dark as those measured on eight
grids of the released dataset (showlab/MakeAnything): black, 3 or 4 pixels, of which the pixel beside is 1.0 or 0.94.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from demo.scenes import domains
from makeanything import pictures
from makeanything.serpentine import Layout, compose

FOLDER = Path(__file__).parent / "data/grids"
REAL = Path(__file__).parents[2] / "shared/data/grids"
"""Grids of the released dataset, tested too where they are."""
SEED = 7


class Gutter(NamedTuple):
    """Its pixels from `before` the boundary between cells to `after`; `beside` is how bright its neighbours are."""

    before: int
    after: int
    beside: float


GRIDS = {
    "painting.9": ("Painting", "a big teal house", 352, Gutter(2, 1, 1.0)),
    "line_drawing.9": ("Line drawing", "a big red cat", 352, Gutter(2, 2, 0.94)),
    "bricks.4": ("Bricks", "a big orange boat", 512, Gutter(2, 2, 1.0)),
}
"""Name with the number of frames -> process, caption, edge of a cell in pixels, gutter."""


def paths() -> list[Path]:
    """The grids to test, NAME.FRAMES.png: ours, and real ones where they are."""
    return [*sorted(FOLDER.glob("*.png")), *sorted(REAL.glob("*.png"))]


def grid(name: str) -> Tensor:
    """(H, W, 3), values 0..1."""
    process, caption, cell, gutter = GRIDS[name]
    layout = Layout.of(int(name.split(".")[1]))
    frames = domains.draw(domains.read_scene(process, caption, SEED), layout.frames, cell)
    drawn = compose(torch.from_numpy(np.ascontiguousarray(frames))[None].float() / 255, layout)[0]
    for boundary in (cell * number for number in range(1, layout.cols)):
        first, end = boundary - gutter.before, boundary + gutter.after
        for lines in (drawn, drawn.transpose(0, 1)):
            lines[[first - 1, end]] *= gutter.beside
            lines[first:end] = 0
    return drawn


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in GRIDS:
        pictures.save_png(grid(name), FOLDER / f"{name}.png")


if __name__ == "__main__":
    main()
