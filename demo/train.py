"""Train FLUX-nano from nothing to weights: `python -m demo.train --icons FOLDER` runs every stage, in order.

Each stage resumes where it was stopped and writes its result to models/, in the folders and formats of the real
weights.  Everything is seeded.  FOLDER is the unpacked npm package @iconify-json/fluent-emoji-flat.  The
stages are sized for a GPU; `--small` is for a CPU and a night.  Drawing needs no GPU: `... pictures` can run beside
`... text autoencoder`, which learns from what has been drawn so far.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from makeanything.asymmetric_lora import AsymmetricLora
from makeanything.command_line import Parser, between, ended
from makeanything.reference.flux import Flux, FluxParams
from makeanything.saving import make_folder
from makeanything.serpentine import PIXELS_PER_LATENT, Layout
from makeanything.text_encoder import WIDTH
from training.builtin import loop
from training.builtin.objective import Objective
from training.builtin.settings import Settings
from training.builtin.task import Batches, Task
from training.heads.network import HeadNetwork
from training.heads.ordinary import OrdinaryLora

from . import pictures
from .batches import mixed, unordered
from .data import Data, load, precision
from .encoders import RUNS, SAVE_EVERY, save, train_autoencoder, train_decoder, train_text
from .nano import FLUX, GRID, MODELS, STYLE, drawn, heads_file, load_autoencoder, load_flux, load_text, recraft_file
from .pictures import LAYOUTS, Kind
from .scale import FULL, SEQUENCES, SMALL, STYLED, Scale
from .scenes import domains, style, subjects
from .scenes.domains import PROCESSES

NANO = FluxParams(hidden_size=256, depth=1, depth_single_blocks=6, context_in_dim=WIDTH, vec_in_dim=WIDTH)
RANK = 8
"""A 32nd of the width; that of the released heads is a 48th."""

OBJECTIVE = Objective(spread=None, guidance=(1.0, 4.0))
"""Any guidance gives the same picture: hosts send 3.5 unless told otherwise, training scripts 1."""


def draw_pictures(steps: int, scale: Scale) -> None:
    """Draw what the other stages learn from."""
    pictures.draw(scale.pictures)


def train_base(steps: int, scale: Scale) -> None:
    """What a pretrained model knows: single pictures, and grids of frames in any order."""
    flux = Flux(NANO)
    _start(flux)
    settings = Settings(steps=steps, lr=1.5e-3, warmup=200, seed=2, mixed_precision=precision(), save_every=SAVE_EVERY)
    train(flux, flux, unordered(load_data(scale), scale.grids), settings, RUNS / "base.safetensors")
    save(FLUX, flux.state_dict())


def _start(flux: Flux) -> None:
    """Every block starts as the identity (zero modulation and output), as diffusion transformers train best (DiT)."""
    for name, module in flux.named_modules():
        if isinstance(module, nn.Linear) and (name.endswith(".lin") or "adaLN" in name or name == "final_layer.linear"):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)


def train(
    module: nn.Module,
    flux: Flux,
    batches: Batches,
    settings: Settings,
    state: Path,
    heads: Sequence[HeadNetwork] = (),
    recraft: Layout | None = None,
) -> None:
    """Train a model, or a network on it, with FLUX-nano's text encoder and objective (see Task)."""
    edge = GRID // PIXELS_PER_LATENT
    task = partial(Task, compiled=(edge, edge), shows_domains=False)
    task(flux, load_text(), module, batches, OBJECTIVE, settings, state, state.stem, heads, recraft).run()


def train_heads(steps: int, scale: Scale, frames: int) -> None:
    """One head for each process on the frozen base: the order of the steps.  Batches mix domains."""
    flux = load_flux()
    layout = LAYOUTS[frames]
    known = [replace(domains.domain(process, layout), drawn=drawn(layout)) for process in PROCESSES]
    network = HeadNetwork(flux, known, rank=RANK, alpha=RANK)
    network.attach(flux)
    batches = mixed(load_data(scale), frames, scale.lora)
    train(network, flux, batches, _lora_settings(steps, seed=3), RUNS / f"heads_{frames}f.safetensors", [network])
    network.save(_path(heads_file(frames)), torch.float16)


def train_recraft(steps: int, scale: Scale, frames: int) -> None:
    """An ordinary LoRA on the base with the heads: the frames before a given picture."""
    flux = load_flux()
    heads = attach_heads(flux, frames)
    network = attach_lora(flux)
    state, batches = RUNS / f"recraft_{frames}f.safetensors", mixed(load_data(scale), frames, scale.lora)
    train(network, flux, batches, _lora_settings(steps, seed=4), state, [heads], LAYOUTS[frames])
    network.save(_path(recraft_file(frames)), torch.float16)


def train_style(steps: int, scale: Scale) -> None:
    """An ordinary LoRA on the base, from pictures and unordered grids on parchment: a style, and no process at all."""
    flux, data = load_flux(), _load("parchment", scale.counts(STYLED), seed=6, styled=True)
    network = attach_lora(flux)
    train(network, flux, unordered(data, scale.lora), _lora_settings(steps, seed=5), RUNS / "style.safetensors")
    network.save(_path(STYLE), torch.float16, {"modelspec.trigger_phrase": style.PHRASE})


def attach_heads(flux: Flux, frames: int) -> HeadNetwork:
    """The shipped heads at work on a model, at rest."""
    lora = AsymmetricLora.open(_path(heads_file(frames)))
    network = HeadNetwork.like(lora, lora.domains, flux)
    network.load(lora)
    network.requires_grad_(False).to(loop.this_process().device).attach(flux)
    return network


def attach_lora(flux: Flux, rank: int = RANK) -> OrdinaryLora:
    """An ordinary LoRA at work on a model."""
    network = OrdinaryLora(flux, rank=rank, alpha=rank)
    network.attach(flux)
    return network


def load_data(scale: Scale) -> Data:
    """The latents of all sequences, on the device."""
    return _load("latents", scale.counts(SEQUENCES), seed=2)


def _load(name: str, counts: Mapping[Kind, int], seed: int, styled: bool = False) -> Data:
    device = loop.this_process().device
    data = load(RUNS / f"{name}.safetensors", load_autoencoder().to(device), counts, seed=seed, styled=styled)
    return {shape: sequences.to(device) for shape, sequences in data.items()}


def _lora_settings(steps: int, seed: int) -> Settings:
    return Settings(steps=steps, lr=1e-3, seed=seed, mixed_precision=precision(), save_every=SAVE_EVERY)


def _path(name: str) -> Path:
    path = MODELS / name
    make_folder(path.parent)
    return path


STAGES: dict[str, tuple[Callable[[int, Scale], None], int]] = {
    "pictures": (draw_pictures, 1),
    "text": (lambda steps, scale: train_text(steps), 1200),
    "autoencoder": (lambda steps, scale: train_autoencoder(steps, scale.pictures, scale.quads), 5000),
    "base": (train_base, 8000),
    "heads_9f": (partial(train_heads, frames=9), 1500),
    "heads_4f": (partial(train_heads, frames=4), 1000),
    "recraft_9f": (partial(train_recraft, frames=9), 1000),
    "recraft_4f": (partial(train_recraft, frames=4), 700),
    "style": (train_style, 800),
    "decoder": (lambda steps, scale: train_decoder(steps, scale.pictures, scale.quads), 3000),
}


def main() -> None:
    parser = Parser(prog="python -m demo.train", description=__doc__)
    parser.add_argument("stages", nargs="*", choices=[*STAGES, []], help="stages to run (default: all, in order)")
    parser.add_argument("--icons", type=Path, metavar="FOLDER", help="the unpacked package of icons")
    parser.add_argument("--steps", type=between(int, 1, 10**9), help="steps of each stage, in place of its own number")
    parser.add_argument("--small", action="store_true", help="a tenth of the sequences and small batches, for a CPU")
    options = parser.parse_args()
    subjects.use(*([options.icons] if options.icons else []))
    torch.backends.cudnn.benchmark = True
    for name in options.stages or STAGES:
        stage, steps = STAGES[name]
        torch.manual_seed(0)
        stage(options.steps or steps, SMALL if options.small else FULL)


if __name__ == "__main__":
    sys.exit(ended("python -m demo.train", main))
