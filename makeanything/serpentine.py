"""The serpentine grid: where each frame of a making-of sequence lies, and how a grid comes apart (paper, section 3.2).

Rows alternate direction, so consecutive frames are always neighbours.  A box is measured in the unit of the height and
width it is asked for: pixels, latents (8 px) or tokens (2 latents).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .gutters import spans
from .steps import Step, go_on

LATENT_CHANNELS = 16
PIXELS_PER_LATENT = 8
LATENTS_PER_TOKEN = 2
PIXELS_PER_TOKEN = PIXELS_PER_LATENT * LATENTS_PER_TOKEN

STANDARD_CELLS = {4: 512, 9: 352}
"""Frames -> edge of a cell in pixels, as the released weights were trained."""


class Box(NamedTuple):
    """A rectangle: `top <= row < bottom`, `left <= column < right`."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def rows(self) -> slice:
        return slice(self.top, self.bottom)

    @property
    def cols(self) -> slice:
        return slice(self.left, self.right)


@dataclass(frozen=True)
class Layout:
    """A grid of `rows` x `cols` cells read in serpentine order.  Frames count from 0."""

    rows: int
    cols: int

    def __post_init__(self) -> None:
        if self.rows < 1 or self.cols < 1:
            raise ValueError(f"a grid needs at least one row and one column, got {self.rows} x {self.cols}")

    @classmethod
    def of(cls, frames: int) -> Layout:
        """The square layout of 4 (2 x 2), 9 (3 x 3), or any other square number of frames."""
        edge = math.isqrt(max(frames, 0))
        if frames < 1 or edge * edge != frames:
            raise ValueError(
                f"{frames} frames do not fill a square grid; MakeAnything's grids hold 4 or 9 frames. "
                "For another shape give the rows and columns."
            )
        return cls(edge, edge)

    def __str__(self) -> str:
        return f"{self.rows}x{self.cols}"

    @property
    def frames(self) -> int:
        return self.rows * self.cols

    @property
    def tail(self) -> int:
        """The last frame: the finished picture, and the cell that ReCraft pins."""
        return self.frames - 1

    @property
    def standard_cell(self) -> int:
        """Edge of a cell in pixels at the trained size (for other layouts, about as many pixels a grid as 3 x 3)."""
        nearest = round(3 * STANDARD_CELLS[9] / max(self.rows, self.cols) / PIXELS_PER_TOKEN) * PIXELS_PER_TOKEN
        return STANDARD_CELLS.get(self.frames if self.rows == self.cols else 0, max(nearest, PIXELS_PER_TOKEN))

    def cell(self, frame: int) -> tuple[int, int]:
        """(row, column) of a frame."""
        if not 0 <= frame < self.frames:
            raise ValueError(f"frame {frame} is outside a {self} grid, whose frames count from 0 to {self.tail}")
        row, step = divmod(frame, self.cols)
        return row, step if row % 2 == 0 else self.cols - 1 - step

    @property
    def order(self) -> tuple[tuple[int, int], ...]:
        """(row, column) of every frame, in time order."""
        return tuple(self.cell(frame) for frame in range(self.frames))

    def cell_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of a cell of a grid of this size, in the same unit."""
        if height < self.rows or width < self.cols or height % self.rows or width % self.cols:
            raise ValueError(
                f"a grid of {width} x {height} does not divide into {self.cols} columns and {self.rows} rows of equal "
                f"cells; the nearest that does is {_nearest(width, self.cols)} x {_nearest(height, self.rows)}. "
                "Was the grid made with another number of frames, or cropped?"
            )
        return height // self.rows, width // self.cols

    def box(self, frame: int, height: int, width: int) -> Box:
        """Where a frame lies in a grid of `height` x `width`, in the same unit."""
        row, col = self.cell(frame)
        cell_height, cell_width = self.cell_size(height, width)
        top, left = row * cell_height, col * cell_width
        return Box(top, left, top + cell_height, left + cell_width)

    def boxes(self, height: int, width: int) -> list[Box]:
        """`box` of every frame, in time order."""
        return [self.box(frame, height, width) for frame in range(self.frames)]


def _nearest(length: int, parts: int) -> int:
    return max(round(length / parts), 1) * parts


def split(grids: Tensor, layout: Layout, step: Step = go_on) -> Tensor:
    """Grids (B, H, W, C) -> frames in time order (B, F, h, w, C).  Undone exactly by `compose`."""
    count, height, width, channels = grids.shape
    frames = grids.new_empty(count, layout.frames, *layout.cell_size(height, width), channels)
    for frame, box in enumerate(layout.boxes(height, width)):
        step(count)
        frames[:, frame] = grids[:, box.rows, box.cols]
    return frames


def compose(frames: Tensor, layout: Layout, step: Step = go_on) -> Tensor:
    """Frames in time order (B, F, h, w, C) -> grids (B, H, W, C)."""
    count, sequence, height, width, channels = frames.shape
    if sequence != layout.frames:
        raise ValueError(f"a {layout} grid holds {layout.frames} frames, got {sequence}")
    # Filled in place, so that every frame is copied once.
    grids = frames.new_empty(count, layout.rows * height, layout.cols * width, channels)
    for frame, box in enumerate(layout.boxes(*grids.shape[1:3])):
        step(count)
        grids[:, box.rows, box.cols] = frames[:, frame]
    return grids


def split_trimmed(grids: Tensor, layout: Layout, step: Step = go_on) -> Tensor:
    """Like `split`, without the dark gutters: every frame loses the same margins, so (B, F, h', w', C) stays uniform.

    `grids` holds values 0..1, or bytes.  Nothing is resized; square cells stay square.
    """
    count, height, width, _ = grids.shape
    if not count:
        raise ValueError("there is no grid to take apart: the batch is empty")
    cell_height, cell_width = layout.cell_size(height, width)
    boxes = []
    for grid in grids:
        step(layout.frames)
        boxes.append(trimmed_boxes(grid, layout))
    cut_height = min(box.bottom - box.top for grid in boxes for box in grid)
    cut_width = min(box.right - box.left for grid in boxes for box in grid)
    if cell_height == cell_width:
        cut_height = cut_width = min(cut_height, cut_width)
    frames = [
        _centre(grid[box.rows, box.cols], cut_height, cut_width)
        for grid, row in zip(grids, boxes, strict=True)
        for box in row
    ]
    return torch.stack(frames).unflatten(0, (count, layout.frames))


def trimmed_boxes(grid: Tensor, layout: Layout) -> list[Box]:
    """Box of every frame of one grid (H, W, C), values 0..1 or bytes, with the dark gutters left out, in time order."""
    # Hosts hand over half precision, which quantile does not take, and alpha, which is not brightness.
    brightest = grid[..., : 1 if grid.shape[-1] == 2 else 3].amax(-1).float()
    if grid.dtype == torch.uint8:
        brightest /= 255
    row_spans = spans(brightest, layout.rows)
    col_spans = spans(brightest.T, layout.cols)
    return [
        Box(row_spans[row][0], col_spans[col][0], row_spans[row][1], col_spans[col][1]) for row, col in layout.order
    ]


def _centre(frame: Tensor, height: int, width: int) -> Tensor:
    top, left = (frame.shape[0] - height) // 2, (frame.shape[1] - width) // 2
    return frame[top : top + height, left : left + width]
