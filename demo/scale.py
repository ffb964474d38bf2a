"""How much FLUX-nano is trained on: sequences of every shape, and the sizes of batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from . import pictures
from .encoders import RUNS
from .pictures import Chunk, Kind
from .scenes.domains import PROCESSES

SEQUENCES = {
    (9, 64): 5000,
    (4, 96): 3000,
    (1, 192): 400,
    (1, 64): 400,
    (1, 96): 400,
    (1, 128): 400,
    (2, 64): 300,
    (2, 96): 300,
    (2, 128): 300,
}
"""(frames, pixels of a cell) -> sequences drawn of every process."""
STYLED = {(9, 64): 300, (4, 96): 200, (1, 192): 100}
"""The same on parchment, for the style."""


@dataclass(frozen=True)
class Scale:
    """How much is trained: the share of SEQUENCES, and the quads, the grids, and the grids for LoRA of a batch."""

    sequences: float = 1.0
    quads: int = 64
    grids: int = 256
    lora: int = 128

    def counts(self, of: Mapping[tuple[int, int], int]) -> dict[Kind, int]:
        """Sequences of every kind."""
        kinds = ((Kind(p.name, frames, cell), count) for p in PROCESSES for (frames, cell), count in of.items())
        return {kind: max(round(count * self.sequences), 1) for kind, count in kinds}

    @property
    def pictures(self) -> list[Chunk]:
        """Files of pictures."""
        return pictures.chunks(RUNS / "latents", self.counts(SEQUENCES), seed=2)


FULL, SMALL = Scale(), Scale(sequences=0.1, quads=4, grids=24, lora=24)
