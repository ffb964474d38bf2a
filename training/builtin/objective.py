"""The flow-matching objective of every run: how times are drawn, and what the model is asked to predict.

x_t = (1 - t) x + t e, the model predicts e - x (paper, section 3.3).  In ReCraft the tail is clean in the model's input
and left out of the loss (section 3.4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from makeanything.reference import flow
from makeanything.serpentine import LATENTS_PER_TOKEN, Layout

from ..data.cells import loss_weights, pin_tail

Text = tuple[Tensor, Tensor]
"""Prompts as the model reads them: txt (B, L, context) and vec (B, vec_in_dim)."""

Model = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
"""(latents (B, C, H, W), t (B,), txt, vec, guidance (B,)) -> velocity (B, C, H, W)."""


@dataclass(frozen=True)
class Objective:
    """How times are drawn: as the sigmoid of normal numbers, then shifted towards noise.

    spread: the standard deviation of the normal numbers; None draws times evenly from 0 to 1 instead.
    shift: how far they are shifted (see flow.shift_time); None is FLUX's own shift for the size of the grid.
    guidance: the guidance that the model is told, drawn evenly between these two.
    """

    shift: float | None = flow.PAPER_SHIFT
    spread: float | None = 1.0
    guidance: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        for name, value in (("shift", self.shift), ("spread", self.spread)):
            if value is not None and value <= 0:
                raise ValueError(f"the {name} of times must be positive, got {value}")

    def draw_times(self, batch: int, tokens: int, generator: torch.Generator) -> Tensor:
        """Times (B,) for grids of this many tokens."""
        if self.spread is None:
            t = torch.rand(batch, generator=generator, device=generator.device)
        else:
            t = (self.spread * torch.randn(batch, generator=generator, device=generator.device)).sigmoid()
        return flow.shift_time(t, flow.flux_shift(tokens) if self.shift is None else self.shift)

    def losses(
        self, model: Model, latents: Tensor, text: Text, generator: torch.Generator, recraft: Layout | None = None
    ) -> Tensor:
        """Mean squared error of the velocity, per sample (B,), for clean latents (B, C, H, W).

        With a layout, its tail is the clean picture and the mean is over the rest.  Everything random is drawn from
        `generator`, on its device: with one on the CPU, a step is the same on every device.
        """
        batch, _, height, width = latents.shape
        tokens = (height // LATENTS_PER_TOKEN) * (width // LATENTS_PER_TOKEN)
        t = self.draw_times(batch, tokens, generator).to(latents)
        low, high = self.guidance
        here = generator.device
        guidance = low + (high - low) * torch.rand(batch, generator=generator, device=here).to(latents)
        noise = torch.randn(latents.shape, generator=generator, device=here).to(latents)
        noisy = flow.add_noise(latents, noise, t)
        if recraft is not None:
            noisy = pin_tail(noisy, latents, recraft)
        errors = (model(noisy, t, *text, guidance).to(latents.dtype) - flow.target(latents, noise)).square()
        if recraft is not None:
            errors = errors * loss_weights(recraft, height, width, latents.dtype).to(latents.device)
        return errors.mean((1, 2, 3))


def by_domain(domains: Iterable[str], losses: Tensor) -> dict[str, float]:
    """The mean of the losses (B,) for each domain of the samples; those whose domain is empty are left out."""
    shares: dict[str, list[float]] = {}
    for domain, loss in zip(domains, losses.tolist(), strict=True):
        if domain:
            shares.setdefault(domain, []).append(loss)
    return {domain: fmean(share) for domain, share in shares.items()}
