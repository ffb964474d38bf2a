"""Subjects made by a moving point: letters written and trees grown, both as dots (time, x, y, radius).

Units as in shapes.py; a dot's radius is in shape units, times only order the dots.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from .shapes import arc

# Strokes of each letter in the order a hand writes them.
_BOWL = {"up": arc(-0.1, -0.5, 0.65, 0.5, -90, 90), "down": arc(-0.1, 0.5, 0.75, 0.5, -90, 90)}
_STEM = [(-0.65, -1), (-0.65, 1)]
LETTERS: dict[str, list[list]] = {
    "A": [[(0, -1), (-0.75, 1)], [(0, -1), (0.75, 1)], [(-0.42, 0.3), (0.42, 0.3)]],
    "B": [_STEM, [_STEM[0], *_BOWL["up"], (-0.65, 0)], [(-0.65, 0), *_BOWL["down"], _STEM[1]]],
    "C": [arc(0.1, 0, 0.85, 1, -45, -315)],
    "E": [_STEM, [(-0.65, -1), (0.65, -1)], [(-0.65, 0), (0.45, 0)], [(-0.65, 1), (0.65, 1)]],
    "H": [_STEM, [(0.65, -1), (0.65, 1)], [(-0.65, 0), (0.65, 0)]],
    "K": [_STEM, [(0.65, -1), (-0.6, 0.1)], [(-0.2, -0.2), (0.7, 1)]],
    "M": [[(-0.8, 1), (-0.8, -1)], [(-0.8, -1), (0, 0.4), (0.8, -1)], [(0.8, -1), (0.8, 1)]],
    "O": [arc(0, 0, 0.85, 1, -90, -450)],
    "R": [_STEM, [_STEM[0], *_BOWL["up"], (-0.65, 0)], [(-0.1, 0), (0.7, 1)]],
    "S": [[*arc(0, -0.5, 0.65, 0.5, -30, -270), *arc(0, 0.5, 0.7, 0.5, -90, 150)]],
    "T": [[(-0.8, -1), (0.8, -1)], [(0, -1), (0, 1)]],
    "Z": [[(-0.7, -1), (0.7, -1), (-0.7, 1), (0.7, 1)]],
}


def along(points: list, start: float, stop: float, r0: float, r1: float, n: int = 18) -> np.ndarray:
    """n dots (time, x, y, radius) on a polyline, evenly spaced, from time start to stop and radius r0 to r1."""
    p = np.array(points, float)
    reach = np.r_[0, np.cumsum(np.hypot(*np.diff(p, axis=0).T))]
    s = np.linspace(0, 1, n)
    x, y = (np.interp(s * reach[-1], reach, p[:, k]) for k in (0, 1))
    return np.stack([start + (stop - start) * s, x, y, r0 + (r1 - r0) * s], axis=1)


def letter(name: str) -> np.ndarray:
    """Dots (n, 4) of a letter such as "letter A", in the order of writing."""
    strokes = LETTERS[name[-1]]
    return np.concatenate([along(s, i, i + 1, 0.2, 0.2, 40 if len(s) < 4 else 60) for i, s in enumerate(strokes)])


def dots(points: np.ndarray, place: tuple[float, float, float], side: int) -> tuple[np.ndarray, np.ndarray]:
    """Rasterise dots (time, x, y, radius): order of the first dot on each pixel (0 for none) and of the last."""
    cx, cy, r = place
    points = points[np.argsort(points[:, 0], kind="stable")]
    xs, ys, rs = (cx + r * points[:, 1]) * side, (cy + r * points[:, 2]) * side, r * points[:, 3] * side
    boxes = np.stack([xs - rs, ys - rs, xs + rs, ys + rs], axis=1).tolist()
    maps = []
    for turn in (-1, 1):
        image = Image.new("I", (side, side))
        pen = ImageDraw.Draw(image)
        for k, box in list(enumerate(boxes, 1))[::turn]:
            pen.ellipse(box, fill=k)
        maps.append(np.asarray(image))
    return maps[0], maps[1]


def _branch(base: tuple, angle: float, length: float, width: float, levels: int, fork: tuple, start: int = 0) -> list:
    """Dots of a limb and the limbs it forks into; fork holds the angles of the children and their relative length."""
    tip = (base[0] + length * np.sin(angle), base[1] - length * np.cos(angle))
    wood = [along([base, tip], start, start + 1, width, width * 0.7, 10)]
    for turn in fork[0] if levels else ():
        wood += _branch(tip, angle + turn, length * fork[1], width * 0.62, levels - 1, fork, start + 1)
    return wood


def _cloud(cx: float, cy: float, rx: float, ry: float, leaf: float, n: int) -> np.ndarray:
    """n leaves spread evenly over an ellipse, the lowest first."""
    k = np.arange(n) + 0.5
    angle, reach = k * np.pi * (3 - 5**0.5), np.sqrt(k / n)
    x, y = cx + rx * reach * np.cos(angle), cy + ry * reach * np.sin(angle)
    return np.stack([10 - y, x, y, np.full(n, leaf)], axis=1)


def _round(length: float, width: float, turns: tuple, ratio: float, levels: int, cloud: tuple) -> tuple:
    return _branch((0, 1), 0, length, width, levels, (turns, ratio)), _cloud(0, *cloud)


def _pine() -> tuple:
    tiers = []
    for k, y in enumerate((0.62, 0.28, -0.06, -0.38, -0.68)):
        w = 0.88 - 0.17 * k
        for side in (-1, 1):
            bough = [(0, y - 0.24), (side * w * 0.5, y - 0.08), (side * w, y + 0.1)]
            tiers.append(along(bough, 10 + k, 11 + k, 0.2, 0.07))
    top = along([(0, -0.7), (0, -0.98)], 15, 16, 0.16, 0.04)
    return [along([(0, 1), (0, -0.6)], 0, 1, 0.11, 0.05)], np.concatenate([*tiers, top])


def _palm() -> tuple:
    trunk = along([(-0.2, 1), (-0.12, 0.5), (0.02, 0.05), (0.2, -0.4)], 0, 1, 0.12, 0.07)
    ends = (0.78, 0.35), (-0.95, 0.35), (0.75, -0.3), (-0.85, -0.2), (0.2, -0.55), (-0.4, -0.5)
    fronds = []
    for k, (dx, dy) in enumerate(ends):
        path = [(0.2, -0.4), (0.2 + dx * 0.5, -0.48 + dy * 0.5 - 0.2), (0.2 + dx, -0.4 + dy)]
        fronds.append(along(path, 10 + k, 11 + k, 0.13, 0.04))
    return [trunk], np.concatenate(fronds)


def _willow() -> tuple:
    wood = _branch((0, 1), 0, 0.75, 0.13, 2, ((-0.75, 0, 0.75), 0.6))
    crown = along(arc(0, -0.15, 0.72, 0.62, 180, 360), 10, 11, 0.2, 0.2)
    hang = [
        along([(x, -0.25 - 0.5 * (1 - x * x)), (x * 1.1, 0.72 - 0.3 * (k % 2))], 11, 13, 0.1, 0.06)
        for k, x in enumerate(np.linspace(-0.85, 0.85, 9))
    ]
    return wood, np.concatenate([crown, *hang])


def _bonsai() -> tuple:
    trunk = along([(0.1, 1), (-0.25, 0.65), (-0.1, 0.35), (0.25, 0.05), (0.1, -0.4)], 0, 2, 0.14, 0.06)
    arms = [along(p, 1, 2, 0.07, 0.05) for p in ([(-0.1, 0.35), (-0.6, 0.2)], [(0.25, 0.05), (0.65, -0.05)])]
    clouds = (-0.62, 0.1, 0.2), (0.68, -0.15, 0.18), (0.08, -0.55, 0.36), (0.08, -0.75, 0.14)
    pads = [along([(x - w, y), (x + w, y)], 10 + k, 11 + k, 0.2, 0.2, 9) for k, (x, y, w) in enumerate(clouds)]
    return [trunk, *arms], np.concatenate(pads)


TREES = {
    "oak": lambda: _round(0.8, 0.15, (-0.75, 0, 0.75), 0.6, 1, (-0.28, 0.66, 0.46, 0.25, 24)),
    "pine": _pine,
    "palm": _palm,
    "willow": _willow,
    "birch": lambda: _round(0.7, 0.085, (-0.45, 0.45), 0.72, 2, (-0.35, 0.5, 0.58, 0.13, 26)),
    "cherry": lambda: _round(0.5, 0.13, (-0.9, 0, 0.9), 0.8, 2, (-0.2, 0.85, 0.5, 0.14, 42)),
    "poplar": lambda: _round(0.75, 0.1, (-0.25, 0, 0.25), 0.6, 1, (-0.22, 0.2, 0.62, 0.19, 18)),
    "bonsai": _bonsai,
}


def tree(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Dots (n, 4) of the wood, which grows from the ground, and of the leaves."""
    wood, leaves = TREES[name]()
    return np.concatenate(wood), leaves
