"""The grid of a sequence: its frames read, chosen, fitted and laid out."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from PIL import Image
from torch import Tensor

from makeanything.pictures import from_image
from makeanything.recraft import fit_image
from makeanything.serpentine import PIXELS_PER_TOKEN, Layout, compose

from .dataset import LARGEST_EDGE
from .picking import Picking
from .sequences import Item
from .sources import is_grid, pictures_in, read_grid, reader


@dataclass(frozen=True)
class Drawing:
    """How grids are drawn.

    size: their width in pixels, 0 for the trained size.
    rows, keep_gutters: whether finished grids run row by row, and whether their dark lines stay.
    """

    picking: Picking
    size: int = 0
    rows: bool = False
    keep_gutters: bool = False

    def cell(self, layout: Layout) -> int:
        """Edge of a cell in pixels; ValueError for a size that does not divide into whole tokens."""
        step = layout.cols * PIXELS_PER_TOKEN
        if self.size > LARGEST_EDGE:
            raise ValueError(f"a grid can be {LARGEST_EDGE} px wide at most")
        if self.size < 0 or self.size % step:
            raise ValueError(
                f"a {layout} grid can't be {self.size} px wide: its cells are multiples of {PIXELS_PER_TOKEN} px; the "
                f"nearest width is {max(round(self.size / step), 1) * step}"
            )
        return self.size // layout.cols or layout.standard_cell

    def draw(self, item: Item) -> Tensor:
        """The grid (H, W, 3) of a sequence.  ValueError or OSError when it can't be made."""
        layout, cell = item.domain.layout, self.cell(item.domain.layout)
        frames = read_grid(item.path, layout, self.rows, self.keep_gutters) if is_grid(item.path) else self._pick(item)
        if self.picking.reverse:
            frames.reverse()
        cells = torch.stack([from_image(fit_image(frame, cell, cell)) for frame in frames])
        return compose(cells[None], layout)[0]

    def made_from(self, item: Item) -> object:
        """What a grid depends on: when this is the same, a grid drawn again would be the same."""
        files = pictures_in(item.path) if item.path.is_dir() else [item.path]
        states = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        return [states, asdict(self), str(item.domain.layout)]

    def _pick(self, item: Item) -> list[Image.Image]:
        read = reader(item.path)
        if read is None:
            raise FileNotFoundError(f"there is no {item.path} any more")
        # The source is read twice, so that only thumbnails of a long one are ever in memory.
        chosen = self.picking.choose(read(item.path), item.domain.layout.frames)
        pictures = []
        for index, frame in enumerate(read(item.path)):
            if index in chosen:
                pictures.append(frame.picture())
            if index == chosen[-1]:
                break
        return pictures
