"""Train FLUX-nano from nothing to weights: `python -m demo.train --icons FOLDER` runs every stage, in order.

Each stage resumes where it was stopped and writes its result to models/, in the folders and formats of the real
weights.  Everything is seeded.  FOLDER is the unpacked npm package @iconify-json/fluent-emoji-flat.  The
stages are sized for a GPU; `--small` is for a CPU and a night.  Drawing needs no GPU: `... pictures` can run beside
`... text autoencoder`, which learns from what has been drawn so far.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from makeanything import asymmetric_lora
from makeanything.asymmetric_lora import AsymmetricLora
from makeanything.domains import SUBJECT, Domain
from makeanything.reference.autoencoder import Autoencoder
from makeanything.reference.flux import Flux, FluxParams
from makeanything.saving import NotSavedError, make_folder
from makeanything.serpentine import PIXELS_PER_LATENT, Layout
from makeanything.text_encoder import WIDTH
from training.builtin import loop
from training.builtin.objective import Objective
from training.builtin.settings import Settings
from training.heads.network import HeadNetwork

from . import pictures
from .data import Data, Shape, cell, load, numpy_rng, precision
from .encoders import RUNS, SAVE_EVERY, on_device, save, train_autoencoder, train_decoder, train_text
from .nano import FLUX, GRID, MODELS, STYLE, heads_file, load_autoencoder, load_flux, load_text, recraft_file
from .pictures import LAYOUTS, Chunk, Kind
from .scenes import domains, style, subjects
from .scenes.domains import PROCESSES

NANO = FluxParams(hidden_size=256, depth=1, depth_single_blocks=6, context_in_dim=WIDTH, vec_in_dim=WIDTH)
RANK = 8
"""A 32nd of the width; that of the released heads is a 48th."""

SEQUENCES = {
    (9, 64): 5000,
    (4, 96): 3000,
    (1, 192): 400,
    (1, 64): 400,
    (1, 96): 400,
    (1, 128): 400,
    (2, 64): 300,
    (2, 96): 300,
    (2, 128): 300,
}
"""(frames, pixels of a cell) -> sequences drawn of every process."""
STYLED = {(9, 64): 300, (4, 96): 200, (1, 192): 100}
"""The same on parchment, for the style."""
NAMES = [process.name for process in PROCESSES]
SHARES = {9: 0.5, 4: 0.3, 1: 0.2}
"""Of the base's batches, by frames, among grids as large as those that FLUX-nano draws."""
LARGE = 0.85
"""Share of batches that have grids of that size; the others are single pictures and pairs of other sizes."""

OBJECTIVE = Objective(spread=None, guidance=(1.0, 4.0))
"""Any guidance gives the same picture: hosts send 3.5 unless told otherwise, training scripts 1."""

Draw = Callable[[np.random.Generator, torch.Generator], tuple[Tensor, Tensor, list[str]]]
"""From a generator here and one on the device, a random batch: grids (B, 16, H, W), tokens (B, TOKENS), processes."""


@dataclass(frozen=True)
class Scale:
    """How much is trained: the share of SEQUENCES, and the quads, the grids, and the grids for LoRA of a batch."""

    sequences: float = 1.0
    quads: int = 64
    grids: int = 256
    lora: int = 128

    def counts(self, of: Mapping[tuple[int, int], int]) -> dict[Kind, int]:
        """Sequences of every kind."""
        kinds = ((Kind(p.name, frames, cell), count) for p in PROCESSES for (frames, cell), count in of.items())
        return {kind: max(round(count * self.sequences), 1) for kind, count in kinds}

    @property
    def pictures(self) -> list[Chunk]:
        """Files of pictures."""
        return pictures.chunks(RUNS / "latents", self.counts(SEQUENCES), seed=2)


FULL, SMALL = Scale(), Scale(sequences=0.1, quads=4, grids=24, lora=24)


def draw_pictures(steps: int, scale: Scale) -> None:
    """Draw what the other stages learn from."""
    pictures.draw(scale.pictures)


def train_base(steps: int, scale: Scale) -> None:
    """What a pretrained model knows: single pictures, and grids of frames in any order."""
    flux = Flux(NANO)
    _start(flux)
    settings = Settings(steps=steps, lr=1.5e-3, warmup=200, seed=2, mixed_precision=precision(), save_every=SAVE_EVERY)
    fit(flux, flux, _unordered(load_data(scale), scale.grids), settings, RUNS / "base.safetensors")
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
    if module is flux and device.type != "cpu":
        for block in (*flux.double_blocks, *flux.single_blocks):
            block.compile(dynamic=False)

    def loss(generator: torch.Generator, step: int) -> tuple[Tensor, loop.Figures]:
        random = on_device(generator, device)
        latents, tokens, names = draw(numpy_rng(generator), random)
        for network in heads:
            network.choose(names)
        # Compiled for the most usual size alone: every other one would be compiled anew.
        usual = latents.shape[-2:] == (GRID // PIXELS_PER_LATENT,) * 2
        with torch.compiler.set_stance("default" if usual else "force_eager"):
            return OBJECTIVE.losses(flux, latents, text(tokens), random, recraft).mean(), {}

    loop.fit(module, loss, settings, state, state.stem)


def train_heads(steps: int, scale: Scale, frames: int) -> None:
    """One head for each process on the frozen base: the order of the steps.  Batches mix domains."""
    flux = load_flux()
    known = [domains.domain(process, LAYOUTS[frames]) for process in PROCESSES]
    network = HeadNetwork(flux, known, rank=RANK, alpha=RANK)
    network.attach(flux)
    state = RUNS / f"heads_{frames}f.safetensors"
    fit(network, flux, _mixed(load_data(scale), frames, scale.lora), _lora_settings(steps, seed=3), state, [network])
    network.save(_path(heads_file(frames)), torch.float16)


def train_recraft(steps: int, scale: Scale, frames: int) -> None:
    """An ordinary LoRA on the base with the heads: the frames before a given picture."""
    flux = load_flux()
    heads = attach_heads(flux, frames)
    network = attach_lora(flux)
    state, draw = RUNS / f"recraft_{frames}f.safetensors", _mixed(load_data(scale), frames, scale.lora)
    fit(network, flux, draw, _lora_settings(steps, seed=4), state, [heads], LAYOUTS[frames])
    _save_lora(network, _path(recraft_file(frames)))


def train_style(steps: int, scale: Scale) -> None:
    """An ordinary LoRA on the base, from pictures and unordered grids on parchment: a style, and no process at all."""
    data = _on_device(load(RUNS / "parchment.safetensors", _encoder(), scale.counts(STYLED), seed=6, styled=True))
    flux = load_flux()
    network = attach_lora(flux)
    fit(network, flux, _unordered(data, scale.lora), _lora_settings(steps, seed=5), RUNS / "style.safetensors")
    _save_lora(network, _path(STYLE), {"modelspec.trigger_phrase": style.PHRASE})


def attach_heads(flux: Flux, frames: int) -> HeadNetwork:
    """The shipped heads at work on a model, at rest."""
    lora = AsymmetricLora.open(_path(heads_file(frames)))
    network = HeadNetwork.like(lora, lora.domains, flux)
    network.load(lora)
    network.requires_grad_(False).to(loop.this_process().device).attach(flux)
    return network


def attach_lora(flux: Flux, rank: int = RANK) -> HeadNetwork:
    """An ordinary LoRA at work on a model: an asymmetric one with a single head."""
    network = HeadNetwork(flux, [Domain("LoRA", LAYOUTS[1], SUBJECT)], rank=rank, alpha=rank)
    network.attach(flux)
    return network


def load_data(scale: Scale) -> Data:
    """The latents of all sequences, on the device."""
    return _on_device(load(RUNS / "latents.safetensors", _encoder(), scale.counts(SEQUENCES), seed=2))


def _encoder() -> Autoencoder:
    return load_autoencoder().to(loop.this_process().device)


def _on_device(data: Data) -> Data:
    device = loop.this_process().device
    return {shape: sequences.to(device) for shape, sequences in data.items()}


def _lora_settings(steps: int, seed: int) -> Settings:
    return Settings(steps=steps, lr=1e-3, seed=seed, mixed_precision=precision(), save_every=SAVE_EVERY)


def _unordered(data: Data, count: int) -> Draw:
    """Batches of anything there is, the frames of grids in random order; of small grids the more."""
    sizes: dict[tuple[int, int], list[Shape]] = {}
    for frames, edge in data:
        layout = LAYOUTS[frames]
        sizes.setdefault((layout.rows * edge, layout.cols * edge), []).append((frames, edge))
    large, others = sizes[GRID, GRID], [size for size in sizes if size != (GRID, GRID)]
    shares = np.array([SHARES[frames] for frames, _ in large])

    def draw(rng: np.random.Generator, generator: torch.Generator) -> tuple[Tensor, Tensor, list[str]]:
        if not others or rng.random() < LARGE:
            drawn = dict(zip(large, rng.multinomial(count, shares / shares.sum()), strict=True))
        else:
            (shape,) = sizes[others[rng.integers(len(others))]]
            frames, edge = shape
            drawn = {shape: max(count * min(GRID * GRID // (frames * edge * edge), 4), 1)}
        names = [[str(name) for name in rng.choice(NAMES, many)] for many in drawn.values()]
        pairs = zip(drawn, names, strict=True)
        parts = [data[shape].draw(some, generator, shuffle=True) for shape, some in pairs if some]
        grids, tokens = (torch.cat(part) for part in zip(*parts, strict=True))
        return grids, tokens, [name for some in names for name in some]

    return draw


def _mixed(data: Data, frames: int, count: int) -> Draw:
    """Batches of random processes, in serpentine order."""

    def draw(rng: np.random.Generator, generator: torch.Generator) -> tuple[Tensor, Tensor, list[str]]:
        names = [str(name) for name in rng.choice(NAMES, count)]
        return *data[frames, cell(frames)].draw(names, generator), names

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
    parser = argparse.ArgumentParser(prog="python -m demo.train", description=__doc__)
    parser.add_argument("stages", nargs="*", choices=[*STAGES, []], help="stages to run (default: all, in order)")
    parser.add_argument("--icons", type=Path, metavar="FOLDER", help="the unpacked package of icons")
    parser.add_argument("--steps", type=int, help="steps of each stage, in place of its own number")
    parser.add_argument("--small", action="store_true", help="a tenth of the sequences and small batches, for a CPU")
    options = parser.parse_args()
    try:
        subjects.use(*([options.icons] if options.icons else []))
    except ValueError as error:
        parser.error(str(error))
    torch.backends.cudnn.benchmark = True
    for name in options.stages or STAGES:
        stage, steps = STAGES[name]
        torch.manual_seed(0)
        try:
            stage(options.steps or steps, SMALL if options.small else FULL)
        except loop.Interrupted as stopped:
            parser.exit(loop.INTERRUPTED, f"{stopped}\n")
        except NotSavedError as error:
            parser.exit(2, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    main()
