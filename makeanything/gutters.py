"""The dark lines between the cells of a grid, along one of its edges."""

from __future__ import annotations

from torch import Tensor

DARK = 0.4
"""A line whose pixels are all but a few below this (0..1) counts as gutter; real gutters measure 0.00 to 0.02."""


def spans(lines: Tensor, parts: int) -> list[tuple[int, int]]:
    """The stretches of `lines` (L, N) between gutters: (first, end) for each of `parts` cells."""
    length = lines.shape[0]
    gutters = [_gutter(lines, length * k // parts, length // parts) for k in range(1, parts)]
    edges = [0, *(edge for gutter in gutters for edge in gutter), length]
    return list(zip(edges[::2], edges[1::2], strict=True))


def _gutter(lines: Tensor, boundary: int, cell: int) -> tuple[int, int]:
    """(first, end) of the dark lines around a boundary; empty at the boundary when there is no gutter."""
    reach = min(max(cell // 32, 3), cell // 4)
    if not reach:
        return boundary, boundary
    low = boundary - reach
    # One by one: torch takes at most 16 million values for a quantile.
    dark = [bool(line.quantile(0.95) < DARK) for line in lines[low : boundary + reach]]
    # A run that leaves the window is a dark picture, not a gutter: its edges can't be told, so nothing is cut.
    if not any(dark) or dark[0] or dark[-1]:
        return boundary, boundary
    first = dark.index(True)
    end = len(dark) - dark[::-1].index(True)
    # Gutters are 2-6 px: the lines beside them mix the gutter's and the picture's colour.
    return low + first - 1, low + end + 1
