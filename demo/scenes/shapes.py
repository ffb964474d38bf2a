"""What the synthetic sequences show: silhouettes made of parts.

Shape units: x to the right and y down, both in [-1, 1]; a subject stands on y = 1. Placement `(cx, cy, r)` is in
cells: the point (x, y) lands on (cx + r x, cy + r y) of a cell whose edge is 1.
"""

from __future__ import annotations

from functools import cached_property
from math import cos, pi, sin

import numpy as np
from PIL import Image, ImageDraw

from .canvas import COLOURS, WHITE, mix
from .parts import MASTER, Drawing, Place

NONE, BODY, DARK, LIGHT = range(4)  # tones of a label image


def arc(cx: float, cy: float, rx: float, ry: float, start: float, stop: float, n: int = 24) -> list:
    """Points of an ellipse from angle start to stop, in degrees; 0 is to the right and 90 down."""
    angles = np.radians(np.linspace(start, stop, n))
    return [(cx + rx * cos(a), cy + ry * sin(a)) for a in angles]


def _disc(x: float, y: float, rx: float, ry: float | None = None, tone: int = BODY, turn: float = 0) -> tuple:
    c, s = cos(turn * pi / 180), sin(turn * pi / 180)
    round_ = arc(0, 0, rx, rx if ry is None else ry, 0, 345)
    return tone, [(x + c * u - s * v, y + s * u + c * v) for u, v in round_]


def _poly(*points: tuple[float, float], tone: int = BODY) -> tuple:
    return tone, list(points)


def _box(x0: float, y0: float, x1: float, y1: float, tone: int = BODY) -> tuple:
    return tone, [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def _eye(x: float, y: float, r: float) -> list:
    return [_disc(x, y, r, tone=LIGHT), _disc(x, y, r * 0.58, tone=DARK)]


def _star() -> tuple:
    radii = [1.08 if i % 2 == 0 else 0.5 for i in range(10)]
    return BODY, [(q * sin(pi * i / 5), 0.1 - q * cos(pi * i / 5)) for i, q in enumerate(radii)]


def _heart() -> tuple:
    a = np.linspace(0, 2 * pi, 48)
    y = 13 * np.cos(a) - 5 * np.cos(2 * a) - 2 * np.cos(3 * a) - np.cos(4 * a)
    return BODY, list(zip(np.sin(a) ** 3, -0.07 - y / 16, strict=True))


SILHOUETTES: dict[str, list[tuple[int, list]]] = {
    "house": [
        _box(0.42, -0.9, 0.66, -0.3),
        _box(-0.8, -0.3, 0.8, 1),
        _poly((-1, -0.14), (0, -1), (1, -0.14), tone=DARK),
        _box(-0.54, 0.15, -0.1, 0.6, LIGHT),
        _box(0.18, 0.2, 0.56, 1, DARK),
    ],
    "star": [
        _star(),
        _disc(-0.2, 0, 0.1, 0.13, DARK),
        _disc(0.2, 0, 0.1, 0.13, DARK),
        (DARK, arc(0, 0.22, 0.2, 0.16, 0, 180)),
    ],
    "heart": [_heart(), _disc(-0.48, -0.42, 0.2, 0.13, LIGHT, -40)],
    "fish": [
        _poly((0.4, 0.1), (1, -0.45), (0.85, 0.1), (1, 0.65)),
        _poly((-0.4, -0.2), (0.15, -0.72), (0.3, -0.1), tone=DARK),
        _disc(-0.2, 0.1, 0.8, 0.55),
        (DARK, arc(-0.2, 0.1, 0.26, 0.53, -90, 90) + arc(-0.2, 0.1, 0.06, 0.53, 90, -90)),
        *_eye(-0.62, 0, 0.17),
    ],
    "boat": [
        _box(-0.07, -1, 0.07, 0.5, DARK),
        _poly((0.14, -0.95), (0.14, 0.3), (0.9, 0.3)),
        _poly((-0.14, -0.7), (-0.14, 0.3), (-0.75, 0.3), tone=LIGHT),
        _poly((-1, 0.45), (1, 0.45), (0.62, 1), (-0.62, 1)),
        _box(-0.9, 0.45, 0.9, 0.58, DARK),
    ],
    "cup": [
        _disc(0.55, 0.08, 0.42),
        _disc(0.55, 0.08, 0.2, tone=NONE),
        _disc(-0.1, 0.86, 0.9, 0.14, DARK),
        (BODY, [(-0.8, -0.55), (0.6, -0.55), *arc(-0.1, 0.2, 0.62, 0.65, 20, 160)]),
        _disc(-0.1, -0.55, 0.7, 0.17, LIGHT),
        _disc(-0.1, -0.53, 0.54, 0.1, DARK),
    ],
    "mushroom": [
        (LIGHT, [(-0.28, 0), (0.28, 0), (0.36, 1), (-0.36, 1)]),
        (BODY, arc(0, 0.15, 1, 1.1, 180, 360)),
        _disc(0, 0.15, 1, 0.17, DARK),
        _disc(-0.45, -0.25, 0.2, 0.18, LIGHT),
        _disc(0.12, -0.6, 0.19, 0.15, LIGHT),
        _disc(0.52, -0.18, 0.18, 0.16, LIGHT),
    ],
    "cat": [
        _poly((-0.9, -1), (-0.1, -0.45), (-0.85, 0.2)),
        _poly((0.9, -1), (0.1, -0.45), (0.85, 0.2)),
        _poly((-0.76, -0.72), (-0.38, -0.45), (-0.72, -0.2), tone=LIGHT),
        _disc(0, 0.25, 0.95, 0.75),
        _poly((0.76, -0.72), (0.38, -0.45), (0.72, -0.2), tone=LIGHT),
        _disc(-0.4, 0.12, 0.17, 0.22, LIGHT),
        _disc(0.4, 0.12, 0.17, 0.22, LIGHT),
        _disc(-0.4, 0.14, 0.08, 0.18, DARK),
        _disc(0.4, 0.14, 0.08, 0.18, DARK),
        _poly((-0.14, 0.45), (0.14, 0.45), (0, 0.62), tone=DARK),
    ],
    "flower": [
        _box(-0.07, 0, 0.07, 1, DARK),
        _disc(0.32, 0.75, 0.3, 0.13, DARK, -30),
        _disc(-0.32, 0.8, 0.3, 0.13, DARK, 30),
        *[_disc(0.46 * sin(a), -0.36 - 0.46 * cos(a), 0.29) for a in np.arange(6) * pi / 3],
        _disc(0, -0.36, 0.28, tone=LIGHT),
    ],
    "car": [
        (BODY, [(-0.6, 0.3), (-0.38, -0.4), (0.32, -0.4), (0.62, 0.3)]),
        (BODY, [(-1, 0.7), (-1, 0.25), (-0.9, 0.1), (0.75, 0.1), (1, 0.3), (1, 0.7)]),
        _poly((-0.42, 0.1), (-0.27, -0.26), (-0.08, -0.26), (-0.08, 0.1), tone=LIGHT),
        _poly((0.06, 0.1), (0.06, -0.26), (0.25, -0.26), (0.42, 0.1), tone=LIGHT),
        _disc(-0.52, 0.7, 0.3, tone=DARK),
        _disc(0.52, 0.7, 0.3, tone=DARK),
        _disc(-0.52, 0.7, 0.12, tone=LIGHT),
        _disc(0.52, 0.7, 0.12, tone=LIGHT),
    ],
    "rocket": [
        _poly((-0.3, 0), (-0.75, 0.75), (-0.2, 0.6), tone=DARK),
        _poly((0.3, 0), (0.75, 0.75), (0.2, 0.6), tone=DARK),
        _poly((-0.2, 0.5), (0.2, 0.5), (0, 1), tone=LIGHT),
        (BODY, arc(-0.45, -0.1, 0.87, 1.2, -50, 33) + arc(0.45, -0.1, 0.87, 1.2, 147, 230)),
        _disc(0, -0.28, 0.21, tone=DARK),
        _disc(0, -0.28, 0.14, tone=LIGHT),
    ],
    "duck": [
        _disc(0.15, 0.45, 0.8, 0.5),
        _poly((0.6, 0.3), (1, -0.1), (0.95, 0.5)),
        _disc(-0.4, -0.3, 0.44),
        _poly((-0.78, -0.42), (-1.08, -0.16), (-0.72, -0.06), tone=DARK),
        _disc(-0.5, -0.42, 0.1, tone=DARK),
        _disc(0.25, 0.4, 0.42, 0.22, DARK, 12),
        _disc(0.25, 0.33, 0.4, 0.2, LIGHT, 12),
    ],
    "apple": [
        _box(-0.06, -0.95, 0.06, -0.4, DARK),
        _disc(0.32, -0.76, 0.3, 0.13, DARK, -25),
        _disc(-0.32, 0.15, 0.58, 0.72, turn=8),
        _disc(0.32, 0.15, 0.58, 0.72, turn=-8),
        _disc(0, 0.6, 0.42, 0.35),
        _disc(-0.5, -0.1, 0.12, 0.22, LIGHT, 25),
    ],
    "butterfly": [
        _disc(-0.55, -0.38, 0.52, 0.42, turn=35),
        _disc(0.55, -0.38, 0.52, 0.42, turn=-35),
        _disc(-0.42, 0.42, 0.4, 0.42, turn=35),
        _disc(0.42, 0.42, 0.4, 0.42, turn=-35),
        _disc(-0.6, -0.42, 0.2, tone=LIGHT),
        _disc(0.6, -0.42, 0.2, tone=LIGHT),
        _disc(-0.45, 0.46, 0.15, tone=LIGHT),
        _disc(0.45, 0.46, 0.15, tone=LIGHT),
        _disc(0, 0.05, 0.11, 0.72, DARK),
    ],
    "whale": [
        _poly((0.5, 0.3), (0.72, -0.3), (0.88, -0.25), (0.9, 0.5)),
        _disc(0.58, -0.4, 0.26, 0.15, turn=35),
        _disc(0.94, -0.4, 0.24, 0.14, turn=-40),
        (BODY, arc(-0.1, 0.4, 0.9, 0.72, 180, 360) + arc(0, 0.4, 1, 0.58, 0, 180)),
        (LIGHT, arc(-0.15, 0.56, 0.8, 0.4, 0, 180)),
        _disc(-0.62, 0.18, 0.1, tone=DARK),
        _disc(0.08, 0.6, 0.26, 0.12, DARK, 30),
    ],
    "crown": [
        _poly((-0.8, 0.85), (-1, -0.45), (-0.48, 0.1), (0, -0.7), (0.48, 0.1), (1, -0.45), (0.8, 0.85)),
        _box(-0.8, 0.5, 0.8, 0.9, DARK),
        *[_disc(x, y, 0.14) for x, y in ((-0.95, -0.5), (0, -0.75), (0.95, -0.5))],
        *[_disc(x, 0.7, 0.12, tone=LIGHT) for x in (-0.45, 0, 0.45)],
    ],
}


class Silhouette(Drawing):
    """A drawing in three tones of the colour that is asked for; in none, it is grey."""

    def __init__(self, parts: list[tuple[int, list]]) -> None:
        self._parts = parts

    @cached_property
    def masks(self) -> np.ndarray:
        """Holes are cut out of what lies below them."""
        masks: list[np.ndarray] = []
        # Some reach a little out of the square: they shrink towards the ground.
        reach = max(max(abs(x), (1 - y) / 2) for _, points in self._parts for x, y in points)
        scale = MASTER / 2 / max(reach, 1)
        for tone, points in self._parts:
            image = Image.new("1", (MASTER, MASTER))
            pen = ImageDraw.Draw(image)
            pen.polygon([(MASTER / 2 + scale * x, MASTER + scale * (y - 1)) for x, y in points], fill=1)
            if tone == NONE:
                masks = [mask & ~np.asarray(image) for mask in masks]
            else:
                masks.append(np.asarray(image))
        return np.stack(masks)

    def label(self, place: Place, side: int) -> np.ndarray:
        """Drawn where it stands, so that what reaches a little out of the square is whole."""
        cx, cy, r = place
        image = Image.new("L", (side, side))
        pen = ImageDraw.Draw(image)
        for tone, points in self._parts:
            pen.polygon([((cx + r * x) * side, (cy + r * y) * side) for x, y in points], fill=self._numbers[tone])
        return np.asarray(image)

    @cached_property
    def main(self) -> int:
        return self._numbers[BODY]

    @cached_property
    def _numbers(self) -> dict[int, int]:
        """The number of each tone in a label image."""
        drawn = [tone for tone, _ in self._parts if tone != NONE]
        return {NONE: 0, **dict(zip(drawn, map(int, self._merged[0][1:]), strict=True))}

    @property
    def colours(self) -> np.ndarray:
        return _in_tones(self._parts, np.array((128, 128, 128), float))

    @property
    def tints(self) -> np.ndarray:
        return np.ones(len(self.masks), bool)

    def painted(self, colour: str) -> np.ndarray:
        return _in_tones(self._parts, np.array(COLOURS[colour], float)) if colour else self.colours


def _in_tones(parts: list[tuple[int, list]], colour: np.ndarray) -> np.ndarray:
    """RGB of every part that is not a hole, float (parts, 3)."""
    tones = {BODY: colour, DARK: 0.52 * colour, LIGHT: mix(colour, WHITE, 0.72)}
    return np.stack([tones[tone] for tone, _ in parts if tone != NONE])
