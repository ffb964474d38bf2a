"""FLUX-nano's autoencoder and text encoder, trained before FLUX-nano itself: stages of `python -m demo.train`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from makeanything import saving, serpentine
from makeanything.reference.autoencoder import Autoencoder
from makeanything.serpentine import Layout
from makeanything.text_encoder import WIDTH, TextEncoder
from training.builtin import loop
from training.builtin.settings import Settings

from .batches import on_device
from .data import numpy_rng, precision
from .nano import AUTOENCODER, MODELS, TEXT_ENCODER, load_autoencoder
from .pictures import LAYOUTS, Chunk
from .scenes import domains
from .scenes.domains import COLOURS, PROCESSES, SIZES

RUNS = Path("runs/nano")
"""Where stages keep their states and data."""
SAVE_EVERY = 1000
REFRESH = 50
"""Steps after which pictures that have been drawn meanwhile are read."""

NIGHT = torch.tensor((0.12, 0.15, 0.34))
"""What white becomes in dark pictures."""

CELL = 64
PAIR = Layout(2, 2)
NOISE = 0.05
"""Most of the noise added to latents, so that the decoder forgives what a model draws not quite right."""
GROUPS = 8
"""Quads of a batch that are cut from the same file of pictures, at the same place."""

TEXTS = 256
"""Prompts in a batch of the text encoder."""


def save(name: str, state: Mapping[str, Tensor]) -> None:
    """Write weights to a file of models/, in float16."""
    path = MODELS / name
    saving.make_folder(path.parent)
    saving.save_safetensors({key: value.cpu().half() for key, value in state.items()}, path)


def train_autoencoder(steps: int, wanted: Sequence[Chunk], quads: int) -> None:
    """Encoder and decoder together, on the files of pictures, so many quads a step."""
    model = Autoencoder()
    settings = Settings(steps=steps, lr=1e-3, warmup=100, seed=1, mixed_precision=precision(), save_every=SAVE_EVERY)
    loop.fit(model, _reconstruction(model, wanted, quads), settings, RUNS / "autoencoder.safetensors", "autoencoder")
    save(AUTOENCODER, model.to_file())


def train_decoder(steps: int, wanted: Sequence[Chunk], quads: int) -> None:
    """The decoder alone, for longer: latents, and so all that is trained on them, stay as they are."""
    model = load_autoencoder()
    model.taesd_decoder.requires_grad_(True)
    settings = Settings(steps=steps, lr=5e-4, warmup=100, seed=8, mixed_precision=precision(), save_every=SAVE_EVERY)
    loop.fit(model, _reconstruction(model, wanted, quads), settings, RUNS / "decoder.safetensors", "decoder")
    save(AUTOENCODER, model.to_file())


class Pool:
    """Pictures as they are drawn, by a process of their own or before: the files read so far, on the device."""

    def __init__(self, wanted: Sequence[Chunk], device: torch.device) -> None:
        self.missing, self.device = list(wanted), device
        self.read: list[Tensor] = []

    def refresh(self) -> None:
        """Read the files that have come; the first is drawn here if none has."""
        if not self.read:
            self.missing[0].draw()
        for chunk in [chunk for chunk in self.missing if chunk.path.exists()]:
            self.read.append(torch.from_numpy(chunk.read()[0]).to(self.device))
            self.missing.remove(chunk)

    def quads(self, count: int, rng: np.random.Generator) -> Tensor:
        """Groups of four 64 px cells (count, 4, 64, 64, 3), uint8: frames of one scene, or single pictures."""
        groups = []
        for size in np.full(-(-count // GROUPS), GROUPS):
            frames = self.read[rng.integers(len(self.read))]
            many, length, edge = frames.shape[:3]
            top, left = (8 * rng.integers((edge - CELL) // 8 + 1) for _ in range(2))
            if length < 4:
                frames, order = frames.flatten(0, 1), rng.integers(many * length, size=(size, 4))
                picked = frames[torch.from_numpy(order)]
            else:
                order = np.sort(np.argsort(rng.random((size, length)), 1)[:, :4], 1)
                picked = frames[torch.from_numpy(rng.integers(many, size=(size, 1))), torch.from_numpy(order)]
            groups.append(picked[:, :, top : top + CELL, left : left + CELL])
        return torch.cat(groups)[:count]


def _reconstruction(model: Autoencoder, wanted: Sequence[Chunk], count: int) -> loop.Loss:
    """`count` quads a step.  Cells are encoded alone and decoded as a grid: no cell knows its neighbours' pixels."""
    for weight in model.parameters():
        if weight.ndim == 4:  # The order in which convolutions run fastest.
            weight.data = weight.data.to(memory_format=torch.channels_last)
    device = loop.this_process().device
    pool = Pool(wanted, device)

    def loss(generator: torch.Generator, step: int) -> tuple[Tensor, loop.Figures]:
        if step % REFRESH == 0 or not pool.read:
            pool.refresh()
        own = on_device(generator, device)
        cells = _recoloured(pool.quads(count, numpy_rng(generator)).float() / 255, own)
        latents = model.encode(cells.flatten(0, 1)).unflatten(0, (count, 4))
        strength = NOISE * torch.rand(count, 1, 1, 1, 1, generator=own, device=device)
        noisy = latents + strength * torch.randn(latents.shape, generator=own, device=device)
        grids = serpentine.compose(noisy.movedim(2, -1), PAIR).movedim(-1, 1)
        error = model.taesd_decoder(grids).movedim(1, -1).float() - serpentine.compose(cells, PAIR)
        # The flow starts from unit noise, so the latents should have unit size too.
        z = latents.float().flatten(0, 1)
        size = z.mean((0, 2, 3)).square().mean() + (z.std((0, 2, 3)) - 1).square().mean()
        squared = error.square().mean()
        return error.abs().mean() + 10 * squared + 0.1 * size, {
            "psnr": -10 * squared.detach().log10(),
            "size": size.detach(),
        }

    return loss


def _recoloured(cells: Tensor, generator: torch.Generator) -> Tensor:
    """Quads (N, 4, h, w, 3), values 0..1: as they are, by night, or in colours of no process.

    So other styles and users' pictures come through too.  By night, light on white becomes the same colours on the
    dark: their share of white turns to NIGHT.
    """
    count, device = len(cells), cells.device

    def random(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator, device=device)

    kind = random().view(-1, 1, 1, 1, 1)
    night = cells - cells.amin(-1, keepdim=True) * (1 - NIGHT.to(device))
    order = random(3).argsort(1).view(count, 1, 1, 1, 3).expand_as(cells)
    changed = cells.gather(-1, order)
    changed = torch.where(random(3).view(-1, 1, 1, 1, 3) < 0.5, changed, 1 - changed)
    low, high = random(2, 3).sort(1).values[:, :, None, None, None].unbind(1)
    return torch.where(kind < 0.65, cells, torch.where(kind < 0.8, night, low + changed * (high - low)))


def train_text(steps: int) -> None:
    """What a pretrained text encoder knows: what a prompt says, so that it can be read off the pooled vector."""
    encoder = TextEncoder()
    known: list[list[object]] = [
        [p.name for p in PROCESSES],
        [*domains.all_subjects()],
        [*COLOURS, ""],
        [*SIZES],
        [*LAYOUTS],
    ]
    readers = nn.ModuleList(nn.Linear(WIDTH, len(words)) for words in known)

    def loss(generator: torch.Generator, step: int) -> tuple[Tensor, loop.Figures]:
        rng = numpy_rng(generator)
        scenes = [domains.random_scene(rng) for _ in range(TEXTS)]
        lengths = [int(frames) for frames in rng.choice([*LAYOUTS], TEXTS)]
        _, vec = encoder.encode([domains.prompt(s, LAYOUTS[n]) for s, n in zip(scenes, lengths, strict=True)])
        said = zip(
            *((s.process, s.subject, s.colour, s.size, n) for s, n in zip(scenes, lengths, strict=True)), strict=True
        )
        losses = []
        for words, reader, answers in zip(known, readers, said, strict=True):
            wanted = torch.tensor([words.index(answer) for answer in answers], device=vec.device)
            losses.append(nn.functional.cross_entropy(reader(vec), wanted))
        return torch.stack(losses).sum(), {"subject": losses[1].detach()}

    settings = Settings(steps=steps, lr=2e-3, seed=6)
    loop.fit(nn.ModuleList([encoder, readers]), loss, settings, RUNS / "text.safetensors", "text encoder")
    save(TEXT_ENCODER, encoder.state_dict())
