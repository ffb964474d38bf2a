"""Train FLUX-nano from nothing to weights: `python -m demo.train` runs every stage that is not done yet.

Each stage resumes where it was stopped and writes its result to demo/models, in the folders and formats of the real
weights.  Everything is seeded.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from makeanything import asymmetric_lora, files, flow, serpentine
from makeanything.asymmetric_lora import AsymmetricLora
from makeanything.domains import SUBJECT, Domain
from makeanything.flux import Flux, FluxParams
from makeanything.recraft import loss_mask, paste
from makeanything.serpentine import Layout
from makeanything.text_encoder import WIDTH, TextEncoder
from training import loop
from training.asymmetric_network import AsymmetricNetwork

from . import domains
from .autoencoder import Autoencoder
from .data import Sequences, load
from .data import domain as data_domain
from .domains import PROCESSES
from .nano import MODELS, load_autoencoder, load_flux, load_text

RUNS = Path("runs/nano")
NANO = FluxParams(hidden_size=256, depth=1, depth_single_blocks=4, context_in_dim=WIDTH, vec_in_dim=WIDTH)
BATCH = 24
RANK = 16

CELL = 64
QUADS = 2
"""Groups of four cells in a batch of the autoencoder."""

PAIR = Layout(2, 2)


def autocast() -> torch.autocast:
    return torch.autocast("cuda" if torch.cuda.is_available() else "cpu", torch.bfloat16)


def numpy_rng(generator: torch.Generator) -> np.random.Generator:
    return np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))


def as_tensor(pictures: np.ndarray) -> Tensor:
    """uint8 pictures -> float32 0..1."""
    return torch.from_numpy(pictures).float() / 255


def save(name: str, state: Mapping[str, Tensor]) -> None:
    """Write weights to demo/models in float16."""
    files.save_safetensors({key: value.half() for key, value in state.items()}, _path(name))


def _path(name: str) -> Path:
    path = MODELS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def flow_loss(
    flux: Flux, latents: Tensor, text: tuple[Tensor, Tensor], generator: torch.Generator, recraft: Layout | None = None
) -> Tensor:
    """Mean squared error of the velocity at random times; with a layout, the tail is clean and left out of the loss."""
    batch = len(latents)
    t = flow.shift_time(torch.rand(batch, generator=generator), flow.PAPER_SHIFT)
    # Any guidance gives the same picture: hosts send 3.5 unless told otherwise, training scripts 1.
    guidance = 1 + 3 * torch.rand(batch, generator=generator)
    noise = torch.randn(latents.shape, generator=generator)
    noisy, mask = flow.add_noise(latents, noise, t), torch.ones(())
    if recraft is not None:
        tail = recraft.box(recraft.tail, *latents.shape[-2:])
        noisy = paste(noisy, recraft, {recraft.tail: latents[:, :, tail.rows, tail.cols]})
        mask = loss_mask(recraft, *latents.shape[-2:])
    with autocast():
        velocity = flux(noisy, t, *text, guidance)
    error = (velocity.float() - flow.target(latents, noise)).square() * mask
    return error.mean() / mask.mean()


class Base(nn.Module):
    """What the base stage trains together."""

    def __init__(self) -> None:
        super().__init__()
        self.flux = Flux(NANO)
        self.text = TextEncoder()
        _init_flux(self.flux)


def train_base(steps: int) -> None:
    """What a pretrained model knows: single pictures, and grids of frames in any order; and the text encoder."""
    data = load_data()
    parts = Base()
    keys = list(data)

    def loss(generator: torch.Generator, step: int) -> tuple[Tensor, Mapping[str, float]]:
        rng = numpy_rng(generator)
        draws = [data[keys[k]].draw(rng, 1, shuffle=True) for k in rng.integers(len(keys), size=BATCH)]
        # Without its words now and then, the model can be guided away from "any picture".
        prompts = ["" if rng.random() < 0.1 else words[0] for _, words in draws]
        latents = torch.cat([grid for grid, _ in draws])
        with autocast():
            text = parts.text.encode(prompts)
        return flow_loss(parts.flux, latents, text, generator), {}

    loop.fit(parts, loss, loop.Settings(steps=steps, lr=1e-3, warmup=100, seed=2), RUNS / "base.safetensors", "base")
    save("diffusion_models/flux_nano.safetensors", parts.flux.state_dict())
    save("text_encoders/flux_nano_text.safetensors", parts.text.state_dict())


def _init_flux(flux: Flux) -> None:
    """Start every block as the identity (zero modulation and output), as diffusion transformers train best (DiT)."""
    for name, module in flux.named_modules():
        if isinstance(module, nn.Linear) and (name.endswith(".lin") or "adaLN" in name or name == "final_layer.linear"):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)


def train_heads(steps: int, frames: int) -> None:
    """One head per process on the frozen base: the order of the steps.  Batches mix domains."""
    data = load_data()
    flux, text = load_flux(), load_text()
    network = AsymmetricNetwork(flux, [data_domain(p, frames) for p in PROCESSES], rank=RANK, alpha=RANK)
    network.attach(flux)

    def loss(generator: torch.Generator, step: int) -> tuple[Tensor, Mapping[str, float]]:
        latents, prompts, heads = _domain_batch(data, frames, numpy_rng(generator))
        network.route.heads = heads
        return flow_loss(flux, latents, text.encode(prompts), generator), {}

    name = f"heads_{frames}f"
    loop.fit(network, loss, loop.Settings(steps=steps, lr=1e-3, seed=3), RUNS / f"{name}.safetensors", name)
    state = {key: value.half() for key, value in network.state_dict().items()}
    asymmetric_lora.save(state, network.domains, _path(f"loras/flux_nano_heads_{frames}f.safetensors"))


def train_recraft(steps: int, frames: int) -> None:
    """An ordinary LoRA on the base with the heads: the frames before a given picture."""
    data = load_data()
    flux, text = load_flux(), load_text()
    heads = AsymmetricNetwork(flux, [data_domain(p, frames) for p in PROCESSES], rank=RANK, alpha=RANK)
    heads.load_state_dict(AsymmetricLora.open(_path(f"loras/flux_nano_heads_{frames}f.safetensors")).read())
    heads.requires_grad_(False).attach(flux)
    layout = Layout.of(frames)
    network = AsymmetricNetwork(flux, [Domain("ReCraft", layout, SUBJECT)], rank=RANK, alpha=RANK)
    network.attach(flux)

    def loss(generator: torch.Generator, step: int) -> tuple[Tensor, Mapping[str, float]]:
        latents, prompts, heads.route.heads = _domain_batch(data, frames, numpy_rng(generator))
        return flow_loss(flux, latents, text.encode(prompts), generator, recraft=layout), {}

    name = f"recraft_{frames}f"
    loop.fit(network, loss, loop.Settings(steps=steps, lr=1e-3, seed=4), RUNS / f"{name}.safetensors", name)
    network.half().save(RUNS / f"{name}_lora.safetensors")
    asymmetric_lora.extract(
        AsymmetricLora.open(RUNS / f"{name}_lora.safetensors"), 1, _path(f"loras/flux_nano_{name}.safetensors")
    )


def _domain_batch(
    data: Mapping[tuple[str, int], Sequences], frames: int, rng: np.random.Generator
) -> tuple[Tensor, list[str], tuple[int, ...]]:
    """Grids (BATCH, 16, 24, 24) in serpentine order, prompts and heads, of random processes."""
    heads = tuple(int(head) for head in rng.integers(len(PROCESSES), size=BATCH))
    draws = [data[PROCESSES[head].name, frames].draw(rng, 1) for head in heads]
    prompts = ["" if rng.random() < 0.1 else words[0] for _, words in draws]
    return torch.cat([grid for grid, _ in draws]), prompts, heads


def load_data() -> dict[tuple[str, int], Sequences]:
    return load(RUNS / "latents.safetensors", load_autoencoder())


def train_autoencoder(steps: int) -> None:
    """Cells are encoded alone and decoded as a grid, as ReCraft needs: no cell knows its neighbours' pixels."""
    model = Autoencoder()
    for weight in model.parameters():
        if weight.ndim == 4:  # The order in which convolutions run fastest on the CPU.
            weight.data = weight.data.to(memory_format=torch.channels_last)

    def loss(generator: torch.Generator, step: int) -> tuple[Tensor, Mapping[str, float]]:
        rng = numpy_rng(generator)
        cells = torch.stack([_random_quad(rng) for _ in range(QUADS)])  # (QUADS, 4, 64, 64, 3)
        with autocast():
            latents = model.encode(cells.flatten(0, 1)).unflatten(0, (QUADS, 4))
            noisy = latents + 0.05 * torch.randn(latents.shape, generator=generator)
            grids = serpentine.compose(noisy.movedim(2, -1), PAIR).movedim(-1, 1)
            drawn = model.taesd_decoder(grids).movedim(1, -1)
        wanted = serpentine.compose(cells, PAIR)
        error = drawn.float() - wanted
        # The flow starts from unit noise, so the latents should have unit size too.
        z = latents.float().flatten(0, 1)
        size = z.mean((0, 2, 3)).square().mean() + (z.std((0, 2, 3)) - 1).square().mean()
        psnr = -10 * error.detach().square().mean().log10()
        return error.abs().mean() + error.square().mean() + 0.1 * size, {"psnr": psnr.item(), "size": size.item()}

    settings = loop.Settings(steps=steps, lr=1e-3, warmup=100, seed=1)
    loop.fit(model, loss, settings, RUNS / "autoencoder.safetensors", "autoencoder")
    save("vae/flux_nano_ae.safetensors", model.to_file())


def _random_quad(rng: np.random.Generator) -> Tensor:
    """Four frames of one scene, as 64 px cells (4, 64, 64, 3); larger cells are cropped."""
    size = int(rng.choice([64, 64, 96, 192]))
    frames = domains.draw(domains.random_scene(rng, held_out=bool(rng.random() < 0.2)), 4 if size > 64 else 9, size)
    picked = frames[np.sort(rng.choice(len(frames), 4, replace=False))]
    top, left = (8 * rng.integers((size - CELL) // 8 + 1) for _ in range(2))
    return as_tensor(picked[:, top : top + CELL, left : left + CELL])


STAGES: dict[str, tuple[Callable[[int], None], int]] = {
    "autoencoder": (train_autoencoder, 4000),
    "base": (train_base, 1200),
    "heads_9f": (partial(train_heads, frames=9), 500),
    "heads_4f": (partial(train_heads, frames=4), 300),
    "recraft_9f": (partial(train_recraft, frames=9), 300),
    "recraft_4f": (partial(train_recraft, frames=4), 200),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m demo.train", description=__doc__)
    parser.add_argument("stages", nargs="*", choices=[*STAGES, []], help="stages to run (default: all, in order)")
    parser.add_argument("--steps", type=int, help="steps of each stage, in place of its own number (for a quick look)")
    options = parser.parse_args()
    for name in options.stages or STAGES:
        stage, steps = STAGES[name]
        torch.manual_seed(0)
        stage(options.steps or steps)


if __name__ == "__main__":
    main()
