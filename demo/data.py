"""FLUX-nano's training data: sequences drawn by `demo.domains`, kept as latents, every frame encoded alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from tqdm import tqdm

from makeanything import files, serpentine
from makeanything.domains import Domain
from makeanything.serpentine import Layout

from . import domains
from .autoencoder import Autoencoder
from .nano import GRID

PICTURES = Layout(1, 1)
"""The layout of a single picture, which only the base model is trained on."""

LAYOUTS = {1: PICTURES, 4: Layout.of(4), 9: Layout.of(9)}
SCENES = {1: 100, 4: 200, 9: 300}
"""Frames -> scenes drawn per process."""


def domain(process: domains.Process, frames: int) -> Domain:
    """The Domain of a process: what the heads file names and how its prompts read."""
    return Domain.of(process.name, frames, process.phrase)


def prompt(process: domains.Process, caption: str, frames: int) -> str:
    """The prompt of a grid, or of a single picture."""
    return f"{caption}, {process.phrase}" if frames == 1 else domain(process, frames).write_prompt(caption)


def grid_latents(cells: Tensor, layout: Layout) -> Tensor:
    """Frames' latents in time order (B, F, C, h, w) -> grid latents (B, C, H, W)."""
    composed = serpentine.compose(rearrange(cells, "b f c h w -> b f h w c"), layout)
    return rearrange(composed, "b h w c -> b c h w")


@dataclass(frozen=True)
class Sequences:
    """The sequences of one process and frame count: latents (N, F, 16, h, w) and captions."""

    process: domains.Process
    frames: int
    latents: Tensor
    captions: tuple[str, ...]

    def draw(self, rng: np.random.Generator, count: int, shuffle: bool = False) -> tuple[Tensor, list[str]]:
        """`count` random grids (count, 16, 24, 24) and their prompts; `shuffle` puts the frames in a random order."""
        picked = rng.integers(len(self.captions), size=count)
        cells = self.latents[picked].float()
        if shuffle:
            cells = torch.stack([c[rng.permutation(self.frames)] for c in cells])
        prompts = [prompt(self.process, self.captions[i], self.frames) for i in picked]
        return grid_latents(cells, LAYOUTS[self.frames]), prompts


def load(path: Path, autoencoder: Autoencoder) -> dict[tuple[str, int], Sequences]:
    """(process, frames) -> sequences; drawn and encoded once, then read from `path`."""
    if not path.exists():
        _write(path, autoencoder)
    with files.open_safetensors(path) as file:
        captions = json.loads(file.metadata()["captions"])
        return {
            (p.name, frames): Sequences(p, frames, file.get_tensor(key), tuple(captions[key]))
            for p in domains.PROCESSES
            for frames in SCENES
            if (key := f"{p.name}.{frames}") in captions
        }


@torch.no_grad()
def _write(path: Path, autoencoder: Autoencoder) -> None:
    latents, captions = {}, {}
    rng = np.random.default_rng(2)
    jobs = [(p, frames) for p in domains.PROCESSES for frames in SCENES]
    for process, frames in tqdm(jobs, desc="drawing and encoding", dynamic_ncols=True):
        scenes = [domains.random_scene(rng, process.name) for _ in range(SCENES[frames])]
        key = f"{process.name}.{frames}"
        latents[key] = torch.stack([encode(autoencoder, domains.draw(s, frames, cell(frames))) for s in scenes]).half()
        captions[key] = [scene.caption for scene in scenes]
    path.parent.mkdir(parents=True, exist_ok=True)
    files.save_safetensors(latents, path, {"captions": json.dumps(captions)})


def cell(frames: int) -> int:
    """Edge of a cell in pixels."""
    return GRID // LAYOUTS[frames].cols


@torch.no_grad()
def encode(autoencoder: Autoencoder, frames: np.ndarray) -> Tensor:
    """uint8 frames (F, h, w, 3) -> latents (F, 16, h/8, w/8), each frame alone."""
    pictures = torch.from_numpy(frames).float() / 255
    with torch.autocast("cpu", torch.bfloat16):
        return autoencoder.encode(pictures).float()
