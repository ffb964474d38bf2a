"""Domains: an endless, seeded source of making-of sequences, to train FLUX-nano and to measure it against.

What is made are our own drawings, letters and trees, and the icons of a package where one is in use (subjects.use).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from makeanything.domains import Domain, prompt_form
from makeanything.serpentine import Layout

from . import icons, processes, strokes, subjects
from .canvas import COLOURS, OVER, SIZES, Scene, reduced, stage

__all__ = [
    "COLOURS",
    "PROCESSES",
    "SIZES",
    "Process",
    "Scene",
    "all_subjects",
    "backdrop",
    "domain",
    "draw",
    "finished",
    "is_icon",
    "process",
    "prompt",
    "random_scene",
    "read_scene",
    "subjects_of",
]
DEFAULT_COLOUR, DEFAULT_SIZE = "blue", "big"


OWN_COLOUR = 0.15
"""Share of icons that keep their own colours; prompts name none then."""
HELD_OUT = 16
"""One icon of so many is held out of each process's training."""


@dataclass(frozen=True)
class Process:
    """One domain; draw(scene, frames, size) gives the frames.

    subjects: those of our own that it makes; icons: whether it makes those too.
    held_out: subjects that are never drawn for training.
    """

    name: str
    phrase: str
    subjects: tuple[str, ...]
    held_out: tuple[str, ...]
    draw: Callable[[Scene, int, int], np.ndarray]
    icons: bool = True

    def holds_out(self, subject: str) -> bool:
        """Whether a subject is never drawn for this process's training; icons are chosen by their names."""
        if subject in self.subjects:
            return subject in self.held_out
        return subject in icons.UNSEEN or zlib.crc32(f"{self.name}: {subject}".encode()) % HELD_OUT == 0


_LETTERS = tuple(f"letter {name}" for name in strokes.LETTERS)
_TREES = tuple(strokes.TREES)


def _of_shapes(name: str, phrase: str, held_out: str, draw: Callable[[Scene, int, int], np.ndarray]) -> Process:
    return Process(name, phrase, subjects.SHAPES, tuple(held_out.split()), draw)


PROCESSES: tuple[Process, ...] = (
    _of_shapes("Bricks", "brick building", "fish crown apple", processes.bricks),
    _of_shapes("Line drawing", "line drawing", "house duck rocket", processes.line),
    _of_shapes("Colouring", "colouring in", "star whale cup", processes.colouring),
    _of_shapes("Mosaic", "mosaic tiling", "heart car butterfly", processes.mosaic),
    Process("Tree", "tree growing", _TREES, ("oak", "birch"), processes.growing, icons=False),
    _of_shapes("Rings", "ring growing", "boat cat apple", processes.rings),
    _of_shapes("Painting", "block painting", "mushroom fish star", processes.painting),
    Process("Lettering", "hand lettering", _LETTERS, ("letter H", "letter S"), processes.lettering, icons=False),
    _of_shapes("Clay", "clay modelling", "flower house whale", processes.clay),
    _of_shapes("Carving", "stone carving", "cup heart duck", processes.carving),
    _of_shapes("Emoji", "emoji drawing", "rocket boat flower", processes.emoji),
)


def all_subjects() -> tuple[str, ...]:
    """Every subject of any process."""
    return (*subjects.names(), *_TREES, *_LETTERS)


def subjects_of(process: Process) -> tuple[str, ...]:
    """The subjects that a process can make now: its own, and the icons of the package in use."""
    return (*process.subjects, *(subjects.names()[len(subjects.SHAPES) :] if process.icons else ()))


def domain(process: Process, layout: Layout) -> Domain:
    """The Domain of a process: what the heads file names and how its prompts read."""
    return Domain(process.name, layout, prompt_form(layout, process.phrase))


def prompt(scene: Scene, layout: Layout) -> str:
    """The prompt of a grid, or of a single picture."""
    made = process(scene.process)
    return f"{scene.caption}, {made.phrase}" if layout.frames == 1 else domain(made, layout).write_prompt(scene.caption)


def process(name: str) -> Process:
    """The process of this name; ValueError names the known ones."""
    for known in PROCESSES:
        if known.name == name:
            return known
    raise ValueError(f"unknown process {name!r}; known: {', '.join(p.name for p in PROCESSES)}")


def is_icon(process: Process, subject: str) -> bool:
    """Whether a process draws this subject as an icon, which has colours of its own."""
    return process.icons and isinstance(subjects.find(subject), icons.Icon)


def random_scene(rng: np.random.Generator, process: str | None = None, held_out: bool = False) -> Scene:
    """A scene of a trained subject, or of a held-out one; of any process unless one is named."""
    chosen = PROCESSES[rng.integers(len(PROCESSES))] if process is None else _by_name(process)
    known = [name for name in subjects_of(chosen) if chosen.holds_out(name) == held_out]
    subject, colour, size = (str(rng.choice(options)) for options in (known, list(COLOURS), list(SIZES)))
    if is_icon(chosen, subject) and rng.random() < OWN_COLOUR:
        colour = ""
    return Scene(chosen.name, subject, colour, size, int(rng.integers(2**31)))


_by_name = process  # random_scene and read_scene take a process by name, under that name


def _first(text: str, words: Sequence[str]) -> str | None:
    """The words that come first in the text, whole words only, ignoring case, the longest of them; None without any."""
    found = {w: re.search(rf"\b{re.escape(w)}\b", text, re.IGNORECASE) for w in words}
    hits = [(m.start(), -len(w), w) for w, m in found.items() if m]
    return min(hits)[2] if hits else None


def read_scene(process: str, caption: str, seed: int = 0) -> Scene:
    """Read a scene from free text. ValueError if it names no subject of the process."""
    known = _by_name(process)
    subject = _first(caption, subjects_of(known))
    if subject is None:
        names = ", ".join(subjects_of(known))
        raise ValueError(f"no subject that {known.name} can draw in {caption!r}; it knows: {names}")
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
