"""Pictures to train on: sequences of `demo.scenes.domains`, in files of a few dozen, by one process for each core.

A file depends on its kind, its number and the seed alone, so drawing goes on where it was stopped, and any number of
processes draws the same.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from makeanything.saving import atomic
from makeanything.serpentine import Layout

from .scenes import domains, style, subjects

CHUNK = 50
"""Sequences of a file, at most."""

LAYOUTS = {1: Layout(1, 1), 2: Layout(1, 2), 4: Layout.of(4), 9: Layout.of(9)}
"""A single picture is a grid of one; grids of one and of two are for the base model and the style alone."""


class Kind(NamedTuple):
    """Sequences of a process, of so many frames, in cells of so many pixels."""

    process: str
    frames: int
    cell: int

    @property
    def layout(self) -> Layout:
        return LAYOUTS[self.frames]


@dataclass(frozen=True)
class Chunk:
    """`count` sequences of a kind, the `number`th file of them; styled: on parchment."""

    folder: Path
    kind: Kind
    number: int
    count: int
    seed: int
    styled: bool = False

    @property
    def path(self) -> Path:
        kind = self.kind
        return self.folder / f"{kind.process}.{kind.frames}f.{kind.cell}px.{self.number:04d}.npz"

    def draw(self) -> None:
        """Write the file, unless it is there."""
        if self.path.exists():
            return
        words = zlib.crc32("/".join(map(str, self.kind)).encode())
        rng = np.random.default_rng((self.seed, words, self.number))
        scenes = [domains.random_scene(rng, self.kind.process) for _ in range(self.count)]
        frames = np.stack([domains.draw(scene, self.kind.frames, self.kind.cell) for scene in scenes])
        prompts = [domains.prompt(scene, self.kind.layout) for scene in scenes]
        if self.styled:
            frames, prompts = style.on_parchment(frames), [f"{words}, {style.PHRASE}" for words in prompts]
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic(self.path) as temporary, temporary.open("wb") as file:
            np.savez(file, frames=frames, prompts=np.array(prompts))

    def read(self) -> tuple[np.ndarray, list[str]]:
        """Frames in time order, uint8 (count, F, cell, cell, 3), and their prompts; drawn now if they were not."""
        self.draw()
        with np.load(self.path) as file:
            return file["frames"], file["prompts"].tolist()


def chunks(folder: Path, counts: Mapping[Kind, int], seed: int, styled: bool = False) -> list[Chunk]:
    """The files that hold so many sequences of each kind, in an order in which every beginning has some of each."""
    made = [
        Chunk(folder, kind, start // CHUNK, min(CHUNK, count - start), seed, styled)
        for kind, count in counts.items()
        for start in range(0, count, CHUNK)
    ]
    return [made[k] for k in np.random.default_rng(seed).permutation(len(made))]


def draw(wanted: list[Chunk], processes: int | None = None) -> None:
    """Draw what is not there yet, with all cores unless told otherwise."""
    missing = [chunk for chunk in wanted if not chunk.path.exists()]
    if not missing:
        return
    with ProcessPoolExecutor(processes or os.cpu_count(), initializer=subjects.use, initargs=subjects.used()) as pool:
        for _ in tqdm(
            pool.map(Chunk.draw, missing), desc="drawing", unit="file", total=len(missing), dynamic_ncols=True
        ):
            pass
