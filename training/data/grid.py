"""The grid of a sequence: its frames read, chosen, fitted and laid out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from PIL import Image

from makeanything.pictures import MOST_PIXELS, TOO_LARGE, out_of_memory
from makeanything.serpentine import PIXELS_PER_TOKEN, Layout

from ..values import printable
from .dataset import LARGEST_EDGE
from .picking import Picking
from .sequences import Item
from .sources import is_grid, pictures_in, reader
from .stills import fit_square, read_grid


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
        edge = self.size // layout.cols or layout.standard_cell
        if edge * edge * layout.frames > MOST_PIXELS:
            raise ValueError(
                f"a {layout} grid of {edge * layout.cols} x {edge * layout.rows} px is too large: pictures of at most "
                f"{MOST_PIXELS:,} pixels are read"
            )
        return edge

    def draw(self, item: Item) -> Image.Image:
        """The grid of a sequence.  ValueError or OSError when it can't be made."""
        layout, cell = item.domain.layout, self.cell(item.domain.layout)
        grid = Image.new("RGB", (layout.cols * cell, layout.rows * cell))
        try:
            frames = (
                read_grid(item.path, layout, self.rows, self.keep_gutters) if is_grid(item.path) else self._pick(item)
            )
            # Each is fitted as it is read, so that no more than one large picture is in memory.
            for number, frame in enumerate(frames):
                box = layout.box(layout.tail - number if self.picking.reverse else number, grid.height, grid.width)
                grid.paste(fit_square(frame, cell), (box.left, box.top))
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            raise ValueError(f"it is {TOO_LARGE}") from None
        return grid

    def made_from(self, item: Item) -> object:
        """What a grid depends on: when this is the same, a grid drawn again would be the same."""
        files = pictures_in(item.path) if item.path.is_dir() else [item.path]
        states = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        return [states, asdict(self), str(item.domain.layout)]

    def _pick(self, item: Item) -> Iterator[Image.Image]:
        read = reader(item.path)
        if read is None:
            raise FileNotFoundError(f"there is no {printable(item.path)} any more")
        # The source is read twice, so that only thumbnails of a long one are ever in memory.
        chosen = self.picking.choose(read(item.path), item.domain.layout.frames)
        for index, frame in enumerate(read(item.path)):
            if index in chosen:
                yield frame.picture()
            if index == chosen[-1]:
                break
