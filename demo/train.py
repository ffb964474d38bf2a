"""Train FLUX-nano from nothing to weights: `python -m demo.train` runs every stage, in order.

Each stage resumes where it was stopped and writes its result to models/, in the folders and formats of the real
weights.  Everything is seeded.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from makeanything import asymmetric_lora
from makeanything.asymmetric_lora import AsymmetricLora
from makeanything.domains import SUBJECT, Domain
from makeanything.flux import Flux, FluxParams
from makeanything.saving import NotSavedError, make_folder
from makeanything.serpentine import Layout
from makeanything.text_encoder import WIDTH
from training import loop
from training.head_network import HeadNetwork
from training.objective import Objective, by_domain
from training.settings import Settings

from . import style
from .data import LAYOUTS, Data, batch, domain, load, numpy_rng, precision
from .domains import PROCESSES
from .encoders import RUNS, save, train_autoencoder, train_decoder, train_text
from .nano import FLUX, MODELS, STYLE, heads_file, load_autoencoder, load_flux, load_text, recraft_file

NANO = FluxParams(hidden_size=256, depth=1, depth_single_blocks=4, context_in_dim=WIDTH, vec_in_dim=WIDTH)
BATCH = 24
RANK = 16

SCENES = {1: 100, 4: 200, 9: 300}
STYLED = {1: 30, 4: 30, 9: 60}
"""Frames -> sequences drawn of every process; and on parchment, for the style."""

OBJECTIVE = Objective(spread=None, guidance=(1.0, 4.0))
"""Any guidance gives the same picture: hosts send 3.5 unless told otherwise, training scripts 1."""

Draw = Callable[[np.random.Generator], tuple[Tensor, list[str], list[str]]]
"""A random batch: grids (B, 16, 24, 24), prompts and processes."""


def train_base(steps: int) -> None:
    """What a pretrained model knows: single pictures, and grids of frames in any order."""
    flux = Flux(NANO)
    _start(flux)
    settings = Settings(steps=steps, lr=1.5e-3, warmup=100, seed=2, mixed_precision=precision())
    fit(flux, flux, _unordered(load_data()), settings, RUNS / "base.safetensors")
    save(FLUX, flux.state_dict())


def _start(flux: Flux) -> None:
    """Every block starts as the identity (zero modulation and output), as diffusion transformers train best (DiT)."""
    for name, module in flux.named_modules():
        if isinstance(module, nn.Linear) and (name.endswith(".lin") or "adaLN" in name or name == "final_layer.linear"):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)


def fit(
    module: nn.Module,
    flux: Flux,
    draw: Draw,
    settings: Settings,
    state: Path,
    heads: Sequence[HeadNetwork] = (),
    recraft: Layout | None = None,
) -> None:
    """Train a module of, or attached to, a model; a batch's processes choose the heads (recraft: see Objective)."""
    device = loop.this_process().device
    flux.to(device)
    text = load_text().to(device)

    def loss(generator: torch.Generator, step: int) -> tuple[Tensor, Mapping[str, float]]:
        latents, prompts, names = draw(numpy_rng(generator))
        for network in heads:
            network.choose(names)
        losses = OBJECTIVE.losses(flux, latents.to(device), text.encode(prompts), generator, recraft)
        return losses.mean(), by_domain(names, losses)

    loop.fit(module, loss, settings, state, state.stem)


def train_heads(steps: int, frames: int) -> None:
    """One head per process on the frozen base: the order of the steps.  Batches mix domains."""
    flux = load_flux()
    network = HeadNetwork(flux, [domain(p, frames) for p in PROCESSES], rank=RANK, alpha=RANK)
    network.attach(flux)
    state = RUNS / f"heads_{frames}f.safetensors"
    fit(network, flux, _mixed(load_data(), frames), _lora_settings(steps, seed=3), state, [network])
    network.save(_path(heads_file(frames)), torch.float16)


def train_recraft(steps: int, frames: int) -> None:
    """An ordinary LoRA on the base with the heads: the frames before a given picture."""
    flux = load_flux()
    heads = attach_heads(flux, frames)
    network = attach_lora(flux)
    state, draw = RUNS / f"recraft_{frames}f.safetensors", _mixed(load_data(), frames)
    fit(network, flux, draw, _lora_settings(steps, seed=4), state, [heads], Layout.of(frames))
    _save_lora(network, _path(recraft_file(frames)))


def train_style(steps: int) -> None:
    """An ordinary LoRA on the base, from pictures and unordered grids on parchment: a style, and no process at all."""
    counts = {(p.name, frames): count for p in PROCESSES for frames, count in STYLED.items()}
    data = load(RUNS / "parchment.safetensors", load_autoencoder(), counts, seed=6, styled=True)
    flux = load_flux()
    network = attach_lora(flux)
    fit(network, flux, _unordered(data), _lora_settings(steps, seed=5), RUNS / "style.safetensors")
    _save_lora(network, _path(STYLE), {"modelspec.trigger_phrase": style.PHRASE})


def attach_heads(flux: Flux, frames: int) -> HeadNetwork:
    """The shipped heads at work on a model, at rest."""
    lora = AsymmetricLora.open(_path(heads_file(frames)))
    network = HeadNetwork.like(lora, lora.domains, flux)
    network.load(lora)
    network.requires_grad_(False).to(loop.this_process().device).attach(flux)
    return network


def attach_lora(flux: Flux) -> HeadNetwork:
    """An ordinary LoRA at work on a model: an asymmetric one with a single head."""
    network = HeadNetwork(flux, [Domain("LoRA", LAYOUTS[1], SUBJECT)], rank=RANK, alpha=RANK)
    network.attach(flux)
    return network


def load_data() -> Data:
    counts = {(p.name, frames): count for p in PROCESSES for frames, count in SCENES.items()}
    return load(RUNS / "latents.safetensors", load_autoencoder(), counts, seed=2)


def _lora_settings(steps: int, seed: int) -> Settings:
    return Settings(steps=steps, lr=1e-3, seed=seed, mixed_precision=precision())


def _unordered(data: Data) -> Draw:
    """Batches of anything there is, the frames of grids in random order."""
    keys = list(data)

    def draw(rng: np.random.Generator) -> tuple[Tensor, list[str], list[str]]:
        picked = [keys[k] for k in rng.integers(len(keys), size=BATCH)]
        return *batch(data, picked, rng, shuffle=True), [name for name, _ in picked]

    return draw


def _mixed(data: Data, frames: int) -> Draw:
    """Batches of random processes, in serpentine order."""

    def draw(rng: np.random.Generator) -> tuple[Tensor, list[str], list[str]]:
        names = [PROCESSES[k].name for k in rng.integers(len(PROCESSES), size=BATCH)]
        return *batch(data, [(name, frames) for name in names], rng), names

    return draw


def _save_lora(network: HeadNetwork, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write the only head of a network as an ordinary kohya LoRA, in float16."""
    whole = RUNS / f"{path.stem}_head.safetensors"
    network.save(whole, torch.float16)
    asymmetric_lora.extract(AsymmetricLora.open(whole), 1, path, metadata)


def _path(name: str) -> Path:
    path = MODELS / name
    make_folder(path.parent)
    return path


STAGES: dict[str, tuple[Callable[[int], None], int]] = {
    "autoencoder": (train_autoencoder, 5000),
    "text": (train_text, 400),
    "base": (train_base, 5500),
    "heads_9f": (partial(train_heads, frames=9), 1000),
    "heads_4f": (partial(train_heads, frames=4), 500),
    "recraft_9f": (partial(train_recraft, frames=9), 850),
    "recraft_4f": (partial(train_recraft, frames=4), 450),
    "style": (train_style, 650),
    "decoder": (train_decoder, 3000),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m demo.train", description=__doc__)
    parser.add_argument("stages", nargs="*", choices=[*STAGES, []], help="stages to run (default: all, in order)")
    parser.add_argument("--steps", type=int, help="steps of each stage, in place of its own number (for a quick look)")
    options = parser.parse_args()
    for name in options.stages or STAGES:
        stage, steps = STAGES[name]
        torch.manual_seed(0)
        try:
            stage(options.steps or steps)
        except loop.Interrupted as stopped:
            parser.exit(loop.INTERRUPTED, f"{stopped}\n")
        except NotSavedError as error:
            parser.exit(2, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    main()
