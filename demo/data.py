"""FLUX-nano's training data: sequences drawn by `demo.domains`, kept as latents, every frame encoded alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from tqdm import tqdm

from makeanything import files, saving, serpentine
from makeanything.autoencoder import Autoencoder
from makeanything.domains import Domain
from makeanything.serpentine import Layout

from . import domains, style
from .nano import GRID

LAYOUTS = {1: Layout(1, 1), 4: Layout.of(4), 9: Layout.of(9)}
"""A single picture is a grid of one, which only the base model and the style are trained on."""

UNPROMPTED = 0.1
"""Share of prompts left empty, so that the model can be guided away from "any picture"."""

Key = tuple[str, int]
"""(process, frames of a sequence)."""


def precision() -> str:
    """What FLUX-nano is trained in: bf16 where the machine computes in it."""
    return "bf16" if torch.accelerator.is_available() or _cpu_has_bf16() else "no"


def autocast() -> torch.autocast:
    """bf16 on the CPU, if it computes in it."""
    return torch.autocast("cpu", torch.bfloat16, enabled=_cpu_has_bf16())


def _cpu_has_bf16() -> bool:
    """CPUs that only convert it take about ten times as long as with float32."""
    able = torch.cpu.get_capabilities()
    return any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def numpy_rng(generator: torch.Generator) -> np.random.Generator:
    """numpy's random numbers, seeded by torch's."""
    return np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))


def domain(process: domains.Process, frames: int) -> Domain:
    """The Domain of a process: what the heads file names and how its prompts read."""
    return Domain.of(process.name, frames, process.phrase)


def prompt(process: domains.Process, caption: str, frames: int) -> str:
    """The prompt of a grid, or of a single picture."""
    return f"{caption}, {process.phrase}" if frames == 1 else domain(process, frames).write_prompt(caption)


def cell(frames: int) -> int:
    """Edge of a cell in pixels."""
    return GRID // LAYOUTS[frames].cols


def grid_latents(cells: Tensor, layout: Layout) -> Tensor:
    """Frames' latents in time order (B, F, C, h, w) -> grid latents (B, C, H, W)."""
    composed = serpentine.compose(rearrange(cells, "b f c h w -> b f h w c"), layout)
    return rearrange(composed, "b h w c -> b c h w")


@dataclass(frozen=True)
class Sequences:
    """Sequences of one process and frame count: latents (N, F, 16, h, w) and their prompts."""

    latents: Tensor
    prompts: tuple[str, ...]

    def draw(self, rng: np.random.Generator, shuffle: bool = False) -> tuple[Tensor, str]:
        """The latents (16, 24, 24) and the prompt of a random grid; `shuffle` puts the frames in a random order."""
        picked = int(rng.integers(len(self.prompts)))
        cells = self.latents[picked].float()
        frames = len(cells)
        if shuffle:
            cells = cells[torch.from_numpy(rng.permutation(frames))]
        return grid_latents(cells[None], LAYOUTS[frames])[0], self.prompts[picked]


Data = Mapping[Key, Sequences]


def batch(data: Data, keys: list[Key], rng: np.random.Generator, shuffle: bool = False) -> tuple[Tensor, list[str]]:
    """A grid of each key, (B, 16, 24, 24), and their prompts, some of them left empty."""
    draws = [data[key].draw(rng, shuffle) for key in keys]
    prompts = ["" if rng.random() < UNPROMPTED else words for _, words in draws]
    return torch.stack([grid for grid, _ in draws]), prompts


Encode = Callable[[Autoencoder, np.ndarray], Tensor]
"""Frames in time order, uint8 (F, h, w, 3), of a grid -> their cells' latents (F, 16, h/8, w/8)."""


@torch.no_grad()
def alone(autoencoder: Autoencoder, frames: np.ndarray) -> Tensor:
    """Every frame encoded alone: no cell holds anything of its neighbours."""
    pictures = torch.from_numpy(frames).float() / 255
    with autocast():
        return autoencoder.encode(pictures).float()


def whole(autoencoder: Autoencoder, frames: np.ndarray) -> Tensor:
    """Cells cut from the latents of the whole grid, as training on finished grids has them."""
    layout = LAYOUTS[len(frames)]
    grid = serpentine.compose(torch.from_numpy(frames)[None], layout)
    latents = rearrange(alone(autoencoder, grid.numpy()), "b c h w -> b h w c")
    return rearrange(serpentine.split(latents, layout)[0], "f h w c -> f c h w")


def tail_alone(autoencoder: Autoencoder, frames: np.ndarray) -> Tensor:
    """As `whole`, but the tail alone: ReCraft's training, in which it is a picture that was given."""
    cells = whole(autoencoder, frames)
    cells[-1] = alone(autoencoder, frames[-1:])[0]
    return cells


def load(
    path: Path,
    autoencoder: Autoencoder,
    counts: Mapping[Key, int],
    seed: int,
    encode: Encode = alone,
    styled: bool = False,
) -> Data:
    """So many sequences of each kind; drawn and encoded once, then read from `path`."""
    if not path.exists():
        _write(path, autoencoder, counts, seed, encode, styled)
    with files.open_safetensors(path) as file:
        prompts = json.loads(file.metadata()["prompts"])
        return {
            (name, frames): Sequences(file.get_tensor(f"{name}.{frames}"), tuple(prompts[f"{name}.{frames}"]))
            for name, frames in counts
        }


def _write(
    path: Path, autoencoder: Autoencoder, counts: Mapping[Key, int], seed: int, encode: Encode, styled: bool
) -> None:
    rng = np.random.default_rng(seed)
    latents: dict[str, list[Tensor]] = {}
    prompts: dict[str, list[str]] = {}
    jobs = [key for key, count in counts.items() for _ in range(count)]
    for name, frames in tqdm(jobs, desc=f"drawing {path.stem}", dynamic_ncols=True):
        scene = domains.random_scene(rng, name)
        pictures = domains.draw(scene, frames, cell(frames))
        words = prompt(domains.process(name), scene.caption, frames)
        if styled:
            pictures, words = style.on_parchment(pictures), f"{words}, {style.PHRASE}"
        latents.setdefault(f"{name}.{frames}", []).append(encode(autoencoder, pictures).half())
        prompts.setdefault(f"{name}.{frames}", []).append(words)
    saving.make_folder(path.parent)
    stacked = {key: torch.stack(cells) for key, cells in latents.items()}
    saving.save_safetensors(stacked, path, {"prompts": json.dumps(prompts)})
