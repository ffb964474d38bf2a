"""Domains: an endless, seeded source of making-of sequences, to train FLUX-nano and to measure it against."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import processes, shapes, strokes
from .canvas import COLOURS, OVER, SIZES, Scene, reduced, stage

__all__ = [
    "COLOURS",
    "PROCESSES",
    "SIZES",
    "SUBJECTS",
    "Process",
    "Scene",
    "backdrop",
    "draw",
    "finished",
    "process",
    "random_scene",
    "read_scene",
]
DEFAULT_COLOUR, DEFAULT_SIZE = "blue", "big"


@dataclass(frozen=True)
class Process:
    """One domain. held_out subjects are never drawn for training; draw(scene, frames, size) gives the frames."""

    name: str
    phrase: str
    subjects: tuple[str, ...]
    held_out: tuple[str, ...]
    draw: Callable[[Scene, int, int], np.ndarray]


_SHAPES = tuple(shapes.SILHOUETTES)
_LETTERS = tuple(f"letter {name}" for name in strokes.LETTERS)
PROCESSES: tuple[Process, ...] = (
    Process("Bricks", "brick building", _SHAPES, ("fish", "crown", "apple"), processes.bricks),
    Process("Line drawing", "line drawing", _SHAPES, ("house", "duck", "rocket"), processes.line),
    Process("Colouring", "colouring in", _SHAPES, ("star", "whale", "cup"), processes.colouring),
    Process("Mosaic", "mosaic tiling", _SHAPES, ("heart", "car", "butterfly"), processes.mosaic),
    Process("Tree", "tree growing", tuple(strokes.TREES), ("oak", "birch"), processes.growing),
    Process("Rings", "ring growing", _SHAPES, ("boat", "cat", "apple"), processes.rings),
    Process("Painting", "block painting", _SHAPES, ("mushroom", "fish", "star"), processes.painting),
    Process("Lettering", "hand lettering", _LETTERS, ("letter H", "letter S"), processes.lettering),
    Process("Clay", "clay modelling", _SHAPES, ("flower", "house", "whale"), processes.clay),
    Process("Carving", "stone carving", _SHAPES, ("cup", "heart", "duck"), processes.carving),
)
SUBJECTS: tuple[str, ...] = (*_SHAPES, *strokes.TREES, *_LETTERS)


def process(name: str) -> Process:
    """The process of this name; ValueError names the known ones."""
    for known in PROCESSES:
        if known.name == name:
            return known
    raise ValueError(f"unknown process {name!r}; known: {', '.join(p.name for p in PROCESSES)}")


def random_scene(rng: np.random.Generator, process: str | None = None, held_out: bool = False) -> Scene:
    """A scene of a trained subject, or of a held-out one; of any process unless one is named."""
    chosen = PROCESSES[rng.integers(len(PROCESSES))] if process is None else _by_name(process)
    subjects = [s for s in chosen.subjects if (s in chosen.held_out) == held_out]
    subject, colour, size = (str(rng.choice(options)) for options in (subjects, list(COLOURS), list(SIZES)))
    return Scene(chosen.name, subject, colour, size, int(rng.integers(2**31)))


_by_name = process  # random_scene and read_scene take a process by name, under that name


def _first(text: str, words: tuple[str, ...]) -> str | None:
    """The word that comes first in the text, whole words only, ignoring case; None if there is none."""
    found = {w: re.search(rf"\b{re.escape(w)}\b", text, re.IGNORECASE) for w in words}
    hits = [(m.start(), w) for w, m in found.items() if m]
    return min(hits)[1] if hits else None


def read_scene(process: str, caption: str, seed: int = 0) -> Scene:
    """Read a scene from free text. ValueError if it names no subject of the process."""
    known = _by_name(process)
    subject = _first(caption, known.subjects)
    if subject is None:
        raise ValueError(f"no subject that {known.name} can draw in {caption!r}; it knows: {', '.join(known.subjects)}")
    colour, size = _first(caption, tuple(COLOURS)), _first(caption, tuple(SIZES))
    return Scene(known.name, subject, colour or DEFAULT_COLOUR, size or DEFAULT_SIZE, seed)


def backdrop(name: str, size: int) -> np.ndarray:
    """The stage of a process before anything is made, uint8 (size, size, 3)."""
    return reduced(stage(process(name).name, size * OVER))


def draw(scene: Scene, frames: int, size: int) -> np.ndarray:
    """The making of a scene in time order, uint8 (frames, size, size, 3); the last frame is the finished picture."""
    if frames < 1 or size < 16:
        raise ValueError(f"got {frames} frames of {size} px; needs at least 1 frame of 16 px")
    return process(scene.process).draw(scene, frames, size)


def finished(scene: Scene, size: int) -> np.ndarray:
    """The finished picture, uint8 (size, size, 3): the last frame of draw for every frame count."""
    return draw(scene, 1, size)[-1]
