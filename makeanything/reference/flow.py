"""Flow matching as FLUX does it: x_t = (1 - t) x + t e, the model predicts e - x (paper, section 3.3; FLUX.1)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

PAPER_SHIFT = math.exp(1.15)
"""Shift of the paper's asymmetric runs, there rounded to 3.1582: FLUX's own at 1024 x 1024 px, and ComfyUI's.

The rounding would move times by 6e-7, which the embedding of time, 1000 times as fine, turns into 1e-3 in latents.
"""

Velocity = Callable[[Tensor, Tensor], Tensor]
"""(latents (B, C, H, W), t (B,)) -> velocity (B, C, H, W)."""


def shift_time(t: Tensor, shift: float) -> Tensor:
    """Move times 0..1 towards noise: shift * t / (1 + (shift - 1) t)."""
    return shift * t / (1 + (shift - 1) * t)


def flux_shift(tokens: int) -> float:
    """FLUX's resolution-dependent shift for this many image tokens: e^0.5 at 256, e^1.15 at 4096."""
    return math.exp(0.5 + (1.15 - 0.5) * (tokens - 256) / (4096 - 256))


def schedule(steps: int, shift: float = PAPER_SHIFT, resolution: int = 10_000) -> Tensor:
    """`steps` + 1 times from 1 to 0, evenly spaced and then shifted: ComfyUI's "simple" scheduler.

    `resolution` is the length of ComfyUI's table of times, in which it looks the times up.
    """
    if steps < 1:
        raise ValueError(f"sampling needs at least one step, got {steps}")
    picked = torch.tensor([resolution - int(step * resolution / steps) for step in range(steps)] + [0])
    return shift_time(picked.double() / resolution, shift).float()


def add_noise(latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t for times t (B,)."""
    t = t.reshape(-1, *(1,) * (latents.ndim - 1))
    return (1 - t) * latents + t * noise


def target(latents: Tensor, noise: Tensor) -> Tensor:
    """The velocity to learn."""
    return noise - latents


def guided(predict: Velocity, cfg: float) -> Velocity:
    """The velocity with classifier-free guidance: away from no prompt, towards the prompt.

    `predict` gets every latent twice: for its prompt, and then for the empty one.
    """

    def velocity(latents: Tensor, t: Tensor) -> Tensor:
        wanted, free = predict(torch.cat([latents] * 2), torch.cat([t] * 2)).chunk(2)
        return free + cfg * (wanted - free)

    return velocity


def sample(
    velocity: Velocity,
    noise: Tensor,
    times: Tensor,
    pin: Callable[[Tensor], Tensor] = lambda latents: latents,
    on_step: Callable[[int, Tensor], None] = lambda step, denoised: None,
) -> Tensor:
    """Euler from noise to latents over `times` (steps + 1, falling to 0).

    `pin` writes clean cells into latents (see `recraft.paste`).  It acts on the model's input and on the denoised
    estimate, so the sampler's state runs to the pinned cells, and once on the result, which holds them exactly.
    `on_step` is called with the step's number and the denoised estimate; raise in it to cancel.
    """
    x = noise
    for step, (t, after) in enumerate(itertools.pairwise(times)):
        seen = pin(x)
        denoised = pin(seen - t * velocity(seen, t.expand(len(x)).to(x)))
        x = x + (after - t) * (x - denoised) / t
        on_step(step, denoised)
    return pin(x)
