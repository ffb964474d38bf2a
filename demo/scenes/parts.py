"""A subject as processes see it: parts of one colour each, later ones on top of earlier ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property

import numpy as np

from .canvas import COLOURS, WHITE, mix

MASTER = 384
"""Edge in pixels at which parts are kept: about that of a subject in a supersampled cell."""

Place = tuple[float, float, float]
"""Centre and half-edge, in cells, of the square that a subject stands in."""


class Drawing(ABC):
    """Parts of one colour each; colours are RGB, 0..255."""

    @property
    @abstractmethod
    def masks(self) -> np.ndarray:
        """Where each part is, bool (parts, n, n), whole: also where a later one lies on it."""

    @property
    @abstractmethod
    def colours(self) -> np.ndarray:
        """Each part's own colour, float (parts, 3)."""

    @property
    @abstractmethod
    def tints(self) -> np.ndarray:
        """Which parts take the colour that is asked for, bool (parts,)."""

    @cached_property
    def master(self) -> np.ndarray:
        """Number of the part on top of each pixel, from 1, uint8 (n, n); 0 where nothing is."""
        top = np.zeros(self.masks.shape[1:], np.uint8)
        for number, mask in enumerate(self.masks, 1):
            top[mask] = number
        return top

    @cached_property
    def _merged(self) -> tuple[np.ndarray, np.ndarray]:
        """The tone of each part, from 1, and the part that stands for each tone: parts of one colour are one tone."""
        _, first, inverse = np.unique(self.colours.round(), axis=0, return_index=True, return_inverse=True)
        return np.r_[0, inverse.reshape(-1) + 1].astype(np.uint8), first

    @cached_property
    def main(self) -> int:
        """The tone that covers most of the subject, from 1."""
        shown = np.bincount(self._merged[0][self.master].ravel(), minlength=len(self._merged[1]) + 1)
        return int(shown[1:].argmax()) + 1

    def label(self, place: Place, side: int) -> np.ndarray:
        """Tone of each pixel, uint8 (side, side), of the subject at its place; 0 around it."""
        return self._merged[0][_placed(self.master, place, side)]

    def parts(self, place: Place, side: int) -> list[np.ndarray]:
        """Where each part is, bool (side, side), in the order of drawing."""
        return [_placed(mask, place, side) for mask in self.masks]

    def tones(self, colour: str, back: tuple = WHITE) -> np.ndarray:
        """RGB of the background and of every tone, float (tones + 1, 3), in a colour; "" is the drawing's own."""
        return np.concatenate([np.array([back], float), self.painted(colour)[self._merged[1]]])

    def painted(self, colour: str) -> np.ndarray:
        """RGB of every part, float (parts, 3), in a colour: what goes with the largest part turns as light or dark."""
        own = self.colours
        if not colour:
            return own
        wanted, grey = np.array(COLOURS[colour], float), own.mean(1) / 255
        reference = grey[self._merged[1][self.main - 1]]
        painted = own.copy()
        for part in np.flatnonzero(self.tints):
            lighter = (grey[part] - reference) / max(1 - reference, 0.2)
            darker = max(grey[part] / max(reference, 0.2), 0.35)
            painted[part] = mix(wanted, WHITE, min(lighter, 0.85)) if lighter > 0 else wanted * darker
        return painted

    def body(self, colour: str) -> np.ndarray:
        """RGB of what covers most of the subject, float (3,)."""
        return self.tones(colour)[self.main]


def _placed(square: np.ndarray, place: Place, side: int) -> np.ndarray:
    """A square (n, n) of any type laid on its place of an empty cell (side, side); the nearest pixel."""
    cx, cy, r = place
    n = len(square)
    column, row = (np.floor(((np.arange(side) + 0.5) / side - c + r) / (2 * r) * n).astype(int) for c in (cx, cy))
    inside = ((row >= 0) & (row < n))[:, None] & ((column >= 0) & (column < n))[None]
    nearest = square[np.clip(row, 0, n - 1)[:, None], np.clip(column, 0, n - 1)[None]]
    return np.where(inside, nearest, square.dtype.type(0))
