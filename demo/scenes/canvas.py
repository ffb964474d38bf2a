"""Canvas of the synthetic sequences: the scene that is asked for, its colours and place, and how pictures arrive.

A process is drawn as a finished picture and, for each of its pixels, the moment in (0, 1] at which it arrives; frame i
of n shows what has arrived by i/n. So steps only ever add, and the last frame is the same for every n.
Lengths are in cells (a frame's edge is 1), x to the right and y down; images are OVER times the frame's size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (217, 58, 54),
    "orange": (240, 138, 36),
    "yellow": (246, 205, 50),
    "green": (74, 163, 84),
    "teal": (30, 160, 165),
    "blue": (52, 100, 205),
    "purple": (130, 76, 178),
    "pink": (240, 130, 175),
}
SIZES: dict[str, float] = {"small": 0.27, "big": 0.4}  # half the edge of the square that a subject fills
GROUND = 0.92
OVER = 4  # supersampling
INK, WHITE, PAPER = (38, 40, 66), (255, 255, 255), (253, 251, 246)


@dataclass(frozen=True)
class Scene:
    """What is made, and how; seed moves and scales the subject a little.  Colour "" is the subject's own."""

    process: str
    subject: str
    colour: str
    size: str
    seed: int = 0

    @property
    def caption(self) -> str:
        """What the finished picture shows; never the process."""
        return " ".join(word for word in ("a", self.size, self.colour, self.subject) if word)


def mix(a: tuple | np.ndarray, b: tuple | np.ndarray, share: float) -> np.ndarray:
    """Colour (1 - share) a + share b, float (3,)."""
    return np.asarray(a, float) * (1 - share) + np.asarray(b, float) * share


def place(scene: Scene, ground: float | None = None) -> tuple[float, float, float]:
    """Centre and half-edge of the subject: in the middle of the cell, or standing on the ground."""
    dx, dy, dr = np.random.default_rng(scene.seed).uniform(-1, 1, 3)
    r = SIZES[scene.size] * (1 + 0.03 * dr)
    return 0.5 + 0.02 * dx, (0.5 + 0.02 * dy if ground is None else ground - r), r


@lru_cache(maxsize=16)
def axes(side: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:side, :side]
    return ((x + 0.5) / side).astype(np.float32), ((y + 0.5) / side).astype(np.float32)


@lru_cache(maxsize=64)
def stage(name: str, side: int) -> np.ndarray:
    """The empty stage of a process, uint8 (side, side, 3), not to be written to."""
    image = Image.new("RGB", (side, side), PAPER)
    pen = ImageDraw.Draw(image)

    def box(x0: float, y0: float, x1: float, y1: float, colour: tuple) -> None:
        pen.rectangle((x0 * side, y0 * side, x1 * side - 1, y1 * side - 1), fill=colour)

    def oval(x0: float, y0: float, x1: float, y1: float, colour: tuple) -> None:
        pen.ellipse((x0 * side, y0 * side, x1 * side, y1 * side), fill=colour)

    if name == "Bricks":
        box(0, 0, 1, 1, (232, 243, 251))
        box(0, GROUND, 1, 1, (196, 216, 190))
    elif name == "Mosaic":
        box(0, 0, 1, 1, (236, 232, 226))
    elif name == "Tree":
        box(0, 0, 1, 1, (240, 247, 250))
        oval(-0.2, 0.84, 1.2, 1.4, (214, 228, 196))
    elif name == "Rings":
        box(0, 0, 1, 1, (246, 243, 252))
    elif name == "Painting":
        box(0, 0, 1, 1, (222, 234, 242))
        oval(-0.6, 0.66, 0.9, 1.6, (226, 226, 200))
        oval(0.2, 0.72, 1.7, 1.6, (212, 216, 188))
    elif name == "Lettering":
        for y in (0.08, 0.5, 0.92):
            box(0, y - 0.008, 1, y + 0.008, (214, 222, 236))
    elif name == "Clay":
        box(0, 0, 1, 1, (250, 244, 238))
        oval(0.06, 0.85, 0.94, 0.99, (222, 210, 198))
    elif name == "Carving":
        box(0, 0, 1, 1, (243, 243, 241))
        box(0, GROUND, 1, 1, (214, 208, 200))
    return np.asarray(image)


def pace(order: np.ndarray, where: np.ndarray, start: float = 0, stop: float = 1) -> np.ndarray:
    """Arrival times from an integer order >= 0, so that pixels arrive at an even rate; outside `where`, never."""
    done = np.cumsum(np.bincount(order[where], minlength=1)).astype(np.float32)
    times = start + (stop - start) * done / max(done[-1], 1)
    return np.where(where, times[np.minimum(order, len(done) - 1)], np.float32(np.inf))


def reduced(image: np.ndarray) -> np.ndarray:
    """A frame from its supersampled image, uint8 (s, s, 3)."""
    return np.asarray(Image.fromarray(image).reduce(OVER))


def reveal(start: np.ndarray, layers: list[tuple[np.ndarray, np.ndarray]], frames: int) -> np.ndarray:
    """Frames from an image and layers (picture (s, s, 3), arrival (s, s)), later layers on top, reduced by OVER."""
    canvas = Image.fromarray(start)
    pictures = [(Image.fromarray(np.ascontiguousarray(picture)), arrival) for picture, arrival in layers]
    result = []
    for i in range(frames):
        for picture, arrival in pictures:
            arrived = Image.fromarray((arrival <= (i + 1) / frames + 1e-6).view(np.uint8) * np.uint8(255))
            canvas.paste(picture, mask=arrived)
        result.append(np.asarray(canvas.reduce(OVER)))
    return np.stack(result)


def paint(values: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Look colours up: integers (s, s) and RGB (n, 3) to uint8 (s, s, 3)."""
    return np.clip(palette, 0, 255).astype(np.uint8)[values]


def edges(values: np.ndarray, width: float) -> np.ndarray:
    """Where a label changes within about width/2 pixels, bool (s, s)."""
    side, found = len(values), np.zeros(values.shape, bool)
    k = max(1, round(width / 2))
    d = max(1, round(width * 0.36))
    padded = np.pad(values, k)
    for dx, dy in ((k, 0), (-k, 0), (0, k), (0, -k), (d, d), (-d, d), (d, -d), (-d, -d)):
        found |= padded[k + dy : k + dy + side, k + dx : k + dx + side] != values
    return found


def distance(inside: np.ndarray) -> np.ndarray:
    """Distance of each pixel centre to the nearest True pixel, in cells, (n, n) from (n, n); exact, by rows."""
    n = len(inside)
    gap = np.subtract.outer(np.arange(n), np.arange(n)).astype(np.float32) ** 2
    far = np.where(inside, 0, np.float32(4 * n * n))
    rows = (gap[:, :, None] + far[None]).min(axis=1)
    return np.sqrt((rows[:, None, :] + gap[None]).min(axis=2)) / n


def signed_distance(values: np.ndarray, side: int, grid: int = 64) -> np.ndarray:
    """Distance to a silhouette's edge in cells, positive inside, (side, side) from a label image."""
    cover = Image.fromarray(((values > 0) * 255).astype(np.uint8)).resize((grid, grid), Image.Resampling.BOX)
    inside = np.asarray(cover) > 127
    field = distance(~inside) - distance(inside)
    for axis in (0, 1):  # the steps of a slanted edge would show as ridges in the light
        field = 0.5 * field + 0.25 * (np.roll(field, 1, axis) + np.roll(field, -1, axis))
    return np.asarray(Image.fromarray(field).resize((side, side), Image.Resampling.BICUBIC))


def lit(field: np.ndarray, bevel: float) -> np.ndarray:
    """Brightness, about 1, of a domed body with this signed distance, lit from the upper left."""
    rise = np.clip(field / bevel, 0, 1)
    height = np.sqrt(1 - (1 - rise) ** 2) * bevel * len(field)
    dy, dx = np.gradient(height)
    return 1 + 0.28 * (dx + dy) / np.sqrt(1 + dx**2 + dy**2)


def blocks(values: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean (s, s, 3) and summed squared error (s, s) of the n x n blocks of a picture, spread over their pixels."""
    size = len(values)
    index = np.arange(size) * n // size
    first = np.flatnonzero(np.r_[True, np.diff(index) > 0])

    def total(v: np.ndarray) -> np.ndarray:
        return np.add.reduceat(np.add.reduceat(v, first, axis=0), first, axis=1)

    count = total(np.ones((size, size, 1)))
    sums = total(values)
    error = (total(values**2) - sums**2 / count).sum(axis=2)
    return (sums / count)[index][:, index], error[index][:, index]
