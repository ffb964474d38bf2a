"""FLUX-nano's autoencoder and text encoder, trained before FLUX-nano itself: stages of `python -m demo.train`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from makeanything import saving, serpentine
from makeanything.autoencoder import Autoencoder
from makeanything.serpentine import Layout
from makeanything.text_encoder import WIDTH, TextEncoder
from training import loop
from training.settings import Settings

from . import domains
from .data import LAYOUTS, numpy_rng, precision, prompt
from .domains import COLOURS, PROCESSES, SIZES, SUBJECTS
from .nano import AUTOENCODER, MODELS, TEXT_ENCODER, load_autoencoder

RUNS = Path("runs/nano")
"""Where stages keep their states and data."""

NIGHT = np.array((0.12, 0.15, 0.34), np.float32)
"""What white becomes in dark pictures."""

CELL = 64
QUADS = 2
"""Groups of four cells in a batch of the autoencoder."""
PAIR = Layout(2, 2)
NOISE = 0.05
"""Added to latents, so that the decoder forgives what a model draws not quite right."""

TEXTS = 256
"""Prompts in a batch of the text encoder."""


def save(name: str, state: Mapping[str, Tensor]) -> None:
    """Write weights to a file of models/, in float16."""
    path = MODELS / name
    saving.make_folder(path.parent)
    saving.save_safetensors({key: value.cpu().half() for key, value in state.items()}, path)


def train_autoencoder(steps: int) -> None:
    """Encoder and decoder together."""
    model = Autoencoder()
    settings = Settings(steps=steps, lr=1e-3, warmup=100, seed=1, mixed_precision=precision())
    loop.fit(model, _reconstruction(model), settings, RUNS / "autoencoder.safetensors", "autoencoder")
    save(AUTOENCODER, model.to_file())


def train_decoder(steps: int) -> None:
    """The decoder alone, for longer: latents, and so all that is trained on them, stay as they are."""
    model = load_autoencoder()
    model.taesd_decoder.requires_grad_(True)
    settings = Settings(steps=steps, lr=5e-4, warmup=100, seed=8, mixed_precision=precision())
    loop.fit(model, _reconstruction(model), settings, RUNS / "decoder.safetensors", "decoder")
    save(AUTOENCODER, model.to_file())


def _reconstruction(model: Autoencoder) -> loop.Loss:
    """Cells are encoded alone and decoded as a grid, as ReCraft needs: no cell knows its neighbours' pixels."""
    for weight in model.parameters():
        if weight.ndim == 4:  # The order in which convolutions run fastest on the CPU.
            weight.data = weight.data.to(memory_format=torch.channels_last)

    def loss(generator: torch.Generator, step: int) -> tuple[Tensor, Mapping[str, float]]:
        rng = numpy_rng(generator)
        cells = torch.stack([_random_quad(rng) for _ in range(QUADS)]).to(loop.this_process().device)
        latents = model.encode(cells.flatten(0, 1)).unflatten(0, (QUADS, 4))
        noisy = latents + NOISE * torch.randn(latents.shape, generator=generator).to(latents)
        grids = serpentine.compose(noisy.movedim(2, -1), PAIR).movedim(-1, 1)
        error = model.taesd_decoder(grids).movedim(1, -1).float() - serpentine.compose(cells, PAIR)
        # The flow starts from unit noise, so the latents should have unit size too.
        z = latents.float().flatten(0, 1)
        size = z.mean((0, 2, 3)).square().mean() + (z.std((0, 2, 3)) - 1).square().mean()
        psnr = -10 * error.detach().square().mean().log10()
        return error.abs().mean() + error.square().mean() + 0.1 * size, {"psnr": psnr.item(), "size": size.item()}

    return loss


def _random_quad(rng: np.random.Generator) -> Tensor:
    """Four frames of one scene, as 64 px cells (4, 64, 64, 3), values 0..1; larger cells are cropped."""
    size = int(rng.choice([64, 64, 96, 192]))
    frames = domains.draw(domains.random_scene(rng, held_out=bool(rng.random() < 0.2)), 4 if size > CELL else 9, size)
    picked = frames[np.sort(rng.choice(len(frames), 4, replace=False))]
    top, left = (8 * rng.integers((size - CELL) // 8 + 1) for _ in range(2))
    return torch.from_numpy(_recoloured(picked[:, top : top + CELL, left : left + CELL], rng)).float() / 255


def _recoloured(pictures: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As they are, by night, or in colours of no process, so that other styles and users' pictures come through too."""
    kind = rng.random()
    if kind < 0.65:
        return pictures
    if kind < 0.8:
        return _by_night(pictures)
    changed = pictures[..., rng.permutation(3)]
    changed = np.where(rng.random(3) < 0.5, changed, 255 - changed)
    low, high = np.sort(rng.random((2, 3)), axis=0)
    return (255 * low + changed * (high - low)).round().astype(np.uint8)


def _by_night(pictures: np.ndarray) -> np.ndarray:
    """uint8 pictures (..., 3), light on white -> the same colours on the dark: their share of white turns to NIGHT."""
    colours = pictures.astype(np.float32)
    white = colours.min(-1, keepdims=True)
    return (colours - white * (1 - NIGHT)).round().clip(0, 255).astype(np.uint8)


def train_text(steps: int) -> None:
    """What a pretrained text encoder knows: what a prompt says, so that it can be read off the pooled vector."""
    encoder = TextEncoder()
    known: list[list[object]] = [[p.name for p in PROCESSES], [*SUBJECTS], [*COLOURS], [*SIZES], [*LAYOUTS]]
    readers = nn.ModuleList(nn.Linear(WIDTH, len(words)) for words in known)

    def loss(generator: torch.Generator, step: int) -> tuple[Tensor, Mapping[str, float]]:
        rng = numpy_rng(generator)
        scenes = [(domains.random_scene(rng), int(frames)) for frames in rng.choice([*LAYOUTS], TEXTS)]
        _, vec = encoder.encode([prompt(domains.process(s.process), s.caption, frames) for s, frames in scenes])
        said = zip(*((s.process, s.subject, s.colour, s.size, frames) for s, frames in scenes), strict=True)
        losses = []
        for words, reader, answers in zip(known, readers, said, strict=True):
            wanted = torch.tensor([words.index(answer) for answer in answers], device=vec.device)
            losses.append(nn.functional.cross_entropy(reader(vec), wanted))
        return torch.stack(losses).sum(), {}

    settings = Settings(steps=steps, lr=2e-3, seed=6)
    loop.fit(nn.ModuleList([encoder, readers]), loss, settings, RUNS / "text.safetensors", "text encoder")
    save(TEXT_ENCODER, encoder.state_dict())
