"""FLUX-nano's training data: sequences as latents, every frame encoded alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from tqdm import tqdm

from makeanything import saving, serpentine
from makeanything.reference.autoencoder import Autoencoder
from makeanything.serpentine import Layout
from makeanything.text_encoder import PAD, tokenize
from makeanything.weights_file import open_weights

from . import pictures
from .nano import GRID, load_text
from .pictures import LAYOUTS, Kind

UNPROMPTED = 0.1
"""Share of prompts left empty, so that the model can be guided away from "any picture"."""


def precision() -> str:
    """What FLUX-nano is trained in: bf16 where the machine computes in it."""
    return "bf16" if torch.accelerator.is_available() or _cpu_has_bf16() else "no"


def autocast(device: torch.device) -> torch.autocast:
    """bf16, where the device computes in it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type != "cpu" or _cpu_has_bf16())


def _cpu_has_bf16() -> bool:
    """CPUs that only convert it take about ten times as long as with float32."""
    able = torch.cpu.get_capabilities()
    return any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def numpy_rng(generator: torch.Generator) -> np.random.Generator:
    """numpy's random numbers, seeded by torch's."""
    return np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))


def cell(frames: int) -> int:
    """Edge of a cell in pixels, of grids as wide as FLUX-nano draws them."""
    return GRID // LAYOUTS[frames].cols


def grid_latents(cells: Tensor, layout: Layout) -> Tensor:
    """Frames' latents in time order (B, F, C, h, w) -> grid latents (B, C, H, W)."""
    composed = serpentine.compose(rearrange(cells, "b f c h w -> b f h w c"), layout)
    return rearrange(composed, "b h w c -> b c h w")


@dataclass(frozen=True)
class Sequences:
    """Sequences of one shape, of several processes: latents (N, F, 16, h, w) and tokens of their prompts (N, TOKENS).

    spans: where each process's sequences lie, as (start, number).
    """

    layout: Layout
    latents: Tensor
    tokens: Tensor
    spans: Mapping[str, tuple[int, int]]

    def draw(
        self, processes: Sequence[str], generator: torch.Generator, shuffle: bool = False
    ) -> tuple[Tensor, Tensor]:
        """A random sequence of each process: grids (B, 16, H, W), and tokens (B, TOKENS), some of them of no words.

        `shuffle` puts the frames of every grid in a random order.  All is done on the latents' device, which is the
        generator's too, and nothing waits for it.
        """
        device, count = self.latents.device, len(processes)
        starts, numbers = torch.tensor([self.spans[name] for name in processes]).to(device, non_blocking=True).unbind(1)
        picked = starts + (torch.rand(count, generator=generator, device=device) * numbers).long()
        cells = self.latents[picked].float()
        if shuffle:
            order = torch.rand(cells.shape[:2], generator=generator, device=device).argsort(1)
            cells = cells[torch.arange(count, device=device)[:, None], order]
        written = torch.rand(count, 1, generator=generator, device=device) >= UNPROMPTED
        return grid_latents(cells, self.layout), torch.where(written, self.tokens[picked], PAD)

    def to(self, device: torch.device) -> Sequences:
        """The same on a device."""
        return replace(self, latents=self.latents.to(device), tokens=self.tokens.to(device))


Shape = tuple[int, int]
"""Frames of a sequence, and the edge of their cells in pixels."""
Data = Mapping[Shape, Sequences]


Encode = Callable[[Autoencoder, np.ndarray], Tensor]
"""Sequences in time order, uint8 (N, F, h, w, 3), of a grid -> their cells' latents (N, F, 16, h/8, w/8)."""


@torch.no_grad()
def alone(autoencoder: Autoencoder, frames: np.ndarray) -> Tensor:
    """Every frame encoded alone: no cell holds anything of its neighbours."""
    device = next(autoencoder.parameters()).device
    images = torch.from_numpy(frames).to(device).flatten(0, 1).float() / 255
    with autocast(device):
        return autoencoder.encode(images).float().unflatten(0, frames.shape[:2])


def whole(autoencoder: Autoencoder, frames: np.ndarray) -> Tensor:
    """Cells cut from the latents of the whole grid, as training on finished grids has them."""
    layout = LAYOUTS[frames.shape[1]]
    grids = serpentine.compose(torch.from_numpy(frames), layout).numpy()[:, None]
    latents = rearrange(alone(autoencoder, grids)[:, 0], "b c h w -> b h w c")
    return rearrange(serpentine.split(latents, layout), "b f h w c -> b f c h w")


def tail_alone(autoencoder: Autoencoder, frames: np.ndarray) -> Tensor:
    """As `whole`, but the tail alone: ReCraft's training, in which it is a picture that was given."""
    cells = whole(autoencoder, frames)
    cells[:, -1:] = alone(autoencoder, frames[:, -1:])
    return cells


def load(
    path: Path,
    autoencoder: Autoencoder,
    counts: Mapping[Kind, int],
    seed: int,
    encode: Encode = alone,
    styled: bool = False,
) -> Data:
    """So many sequences of each kind, by their shapes: drawn beside `path` and encoded once, then read from `path`."""
    if not path.exists():
        chunks = pictures.chunks(path.with_suffix(""), counts, seed, styled)
        pictures.draw(chunks)
        _encode(path, autoencoder, sorted(chunks, key=lambda chunk: (chunk.kind, chunk.number)), encode)
    with open_weights(path) as file:
        spans = json.loads(file.metadata["spans"])
        kept = file.read(file.entries)
        return {
            shape: Sequences(LAYOUTS[shape[0]], kept[f"latents.{name}"], kept[f"tokens.{name}"], spans[name])
            for shape, name in {kind[1:]: _name(kind[1:]) for kind in counts}.items()
        }


def _encode(path: Path, autoencoder: Autoencoder, chunks: Sequence[pictures.Chunk], encode: Encode) -> None:
    # The encoder in use may know fewer words than a new one.
    rows = load_text().words.num_embeddings
    tensors: dict[str, list[Tensor]] = {}
    spans: dict[str, dict[str, tuple[int, int]]] = {}
    for chunk in tqdm(chunks, desc=f"encoding {path.stem}", unit="file", dynamic_ncols=True):
        frames, words = chunk.read()
        name, process = _name(chunk.kind[1:]), chunk.kind.process
        before = sum(map(len, tensors.get(f"tokens.{name}", [])))
        start, number = spans.setdefault(name, {}).get(process, (before, 0))
        spans[name][process] = (start, number + len(words))
        tensors.setdefault(f"latents.{name}", []).append(encode(autoencoder, frames).half().cpu())
        tensors.setdefault(f"tokens.{name}", []).append(torch.tensor([tokenize(text, rows) for text in words]))
    stacked = {name: torch.cat(parts) for name, parts in tensors.items()}
    saving.save_safetensors(stacked, path, {"spans": json.dumps(spans)})


def _name(shape: Shape) -> str:
    return "x".join(map(str, shape))
