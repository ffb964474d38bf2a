"""Random batches for FLUX-nano's training, drawn from its sequences on the device where they lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from training.builtin.task import Batch, Batches

from .data import Data, Shape, cell, numpy_rng
from .nano import GRID
from .pictures import LAYOUTS
from .scenes.domains import PROCESSES

NAMES = [process.name for process in PROCESSES]
SHARES = {9: 0.5, 4: 0.3, 1: 0.2}
"""Of the base's batches, by frames, among grids as large as those that FLUX-nano draws."""
LARGE = 0.85
"""Share of batches that have grids of that size; the others are single pictures and pairs of other sizes."""


def on_device(generator: torch.Generator, device: torch.device) -> torch.Generator:
    """A generator of a device's own, seeded by one on the CPU."""
    return torch.Generator(device).manual_seed(int(torch.randint(2**62, (), generator=generator)))


def unordered(data: Data, count: int) -> Batches:
    """Batches of anything there is, the frames of grids in random order; of small grids the more."""
    sizes: dict[tuple[int, int], list[Shape]] = {}
    for frames, edge in data:
        layout = LAYOUTS[frames]
        sizes.setdefault((layout.rows * edge, layout.cols * edge), []).append((frames, edge))
    large, others = sizes[GRID, GRID], [size for size in sizes if size != (GRID, GRID)]
    shares = np.array([SHARES[frames] for frames, _ in large])

    def draw(generator: torch.Generator) -> Batch:
        random, rng = _random(generator, data)
        if not others or rng.random() < LARGE:
            drawn = dict(zip(large, rng.multinomial(count, shares / shares.sum()), strict=True))
        else:
            (shape,) = sizes[others[rng.integers(len(others))]]
            frames, edge = shape
            drawn = {shape: max(count * min(GRID * GRID // (frames * edge * edge), 4), 1)}
        names = [[str(name) for name in rng.choice(NAMES, many)] for many in drawn.values()]
        pairs = zip(drawn, names, strict=True)
        parts = [data[shape].draw(some, random, shuffle=True) for shape, some in pairs if some]
        grids, tokens = (torch.cat(part) for part in zip(*parts, strict=True))
        return Batch(grids, tokens, [name for some in names for name in some], random)

    return draw


def mixed(
    data: Data, frames: int, count: int, names: Sequence[str] = NAMES, shares: np.ndarray | None = None
) -> Batches:
    """Batches of random processes, each as often as its share says (evenly unless given), in serpentine order."""

    def draw(generator: torch.Generator) -> Batch:
        random, rng = _random(generator, data)
        picked = [str(name) for name in rng.choice(names, count, p=shares)]
        return Batch(*data[frames, cell(frames)].draw(picked, random), picked, random)

    return draw


def _random(generator: torch.Generator, data: Data) -> tuple[torch.Generator, np.random.Generator]:
    """Random numbers on the data's device, and numpy's."""
    return on_device(generator, next(iter(data.values())).latents.device), numpy_rng(generator)
