"""What a drawn sequence is worth, measured by the program that drew the training data: no taste, no other model.

Frames are uint8 or float 0..255, (F, s, s, 3), in time order.
"""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np
from PIL import Image

from ..scenes import domains, style
from ..scenes.domains import COLOURS, Scene

VISIBLE = 40.0
"""A difference of a channel, of 255, that the eye sees at once (an autoencoder's errors lie below)."""
SEEDS = 3
"""Places and scales of a subject that a drawing is compared with."""
LOOK = 16
"""Pictures are compared at this edge in pixels: what is where, not how its edges were drawn."""
DRAWN = 32
"""Edge in pixels at which what they are compared with is drawn."""
Names = tuple[str, ...]

YELLOW = 0.77
"""Blue by red: paper of any process lies above, the same on parchment below."""


def in_order(frames: np.ndarray) -> float:
    """Share of the steps that come nearer to the last frame, 0..1; frames in random order get about a half."""
    return float((np.diff(_left(frames)) < 0).mean())


def monotone(frames: np.ndarray) -> float:
    """Of what is finished in a frame (as in the last one, unlike the first), the share that stays so in the next."""
    last = frames[-1].astype(float)
    final = np.abs(frames[:-1] - last).max(-1) < VISIBLE
    final &= np.abs(frames[0] - last).max(-1) >= VISIBLE
    stays = final[:-1] & final[1:]
    return float(stays.sum() / max(final[:-1].sum(), 1))


def subject(picture: np.ndarray, scene: Scene, styled: bool = False) -> str:
    """The subject of a finished picture (s, s, 3): the nearest of its process in the scene's colour and size."""
    known = domains.subjects_of(domains.process(scene.process))
    return known[_nearest(picture, scene.process, known, (scene.colour,), scene.size, styled)]


def colour(picture: np.ndarray, scene: Scene, styled: bool = False) -> str:
    """The colour of a finished picture (s, s, 3): the nearest for the scene's subject and size."""
    known = tuple(COLOURS)
    return known[_nearest(picture, scene.process, (scene.subject,), known, scene.size, styled)]


def distance(frames: np.ndarray, process: str, subject: str, colour: str, size: str, styled: bool = False) -> float:
    """Root mean square difference, 0..255, from the nearest sequence (in the style) that the prompt asks for."""
    wanted = _sequences(process, subject, colour, size, len(frames), styled)
    looks = np.stack([_look(frame) for frame in frames])
    return float(np.sqrt(((wanted - looks) ** 2).mean((1, 2, 3, 4)).min()))


def psnr(drawn: np.ndarray, wanted: np.ndarray) -> float:
    """Peak signal to noise ratio of pictures (N, s, s, 3), uint8, in dB, over all of them."""
    return float(10 * np.log10(255**2 / ((drawn.astype(float) - wanted) ** 2).mean()))


def yellow_corners(frames: np.ndarray) -> float:
    """Share of the corners of frames (..., s, s, 3), where nothing is drawn, that are as yellow as parchment."""
    red, _, blue = np.moveaxis(frames[..., :4, :4, :].astype(float).mean((-2, -3)), -1, 0)
    return float((blue < YELLOW * red).mean())


def _left(frames: np.ndarray) -> np.ndarray:
    """Mean squared difference of every frame from the last, (F,)."""
    return ((frames.astype(float) - frames[-1]) ** 2).mean((1, 2, 3))


def _look(picture: np.ndarray) -> np.ndarray:
    rgb = Image.fromarray(picture.round().clip(0, 255).astype(np.uint8))
    return np.asarray(rgb.resize((LOOK, LOOK), Image.Resampling.BOX), float)


def _nearest(picture: np.ndarray, process: str, subjects: Names, colours: Names, size: str, styled: bool) -> int:
    """Which of the combinations of subjects and colours, in this order, a picture is nearest to."""
    errors = [
        ((looks - _look(picture)) ** 2).mean((1, 2, 3)).min()
        for looks in (_looks(process, s, c, size, styled) for s in subjects for c in colours)
    ]
    return int(np.argmin(errors))


@cache
def _looks(process: str, subject: str, colour: str, size: str, styled: bool) -> np.ndarray:
    """Looks (SEEDS, LOOK, LOOK, 3) of a finished picture, at its places and scales."""
    scenes = (Scene(process, subject, colour, size, seed) for seed in range(SEEDS))
    return np.stack([_look(_styled(domains.finished(scene, DRAWN), styled)) for scene in scenes]).astype(np.float32)


@lru_cache(maxsize=4096)
def _sequences(process: str, subject: str, colour: str, size: str, frames: int, styled: bool) -> np.ndarray:
    scenes = (Scene(process, subject, colour, size, seed) for seed in range(SEEDS))
    return np.stack([[_look(frame) for frame in _styled(domains.draw(scene, frames, 64), styled)] for scene in scenes])


def _styled(pictures: np.ndarray, styled: bool) -> np.ndarray:
    return style.on_parchment(pictures) if styled else pictures
