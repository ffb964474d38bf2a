"""A run of the built-in loop: a FLUX, what trains of it or on it, and where the batches come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from makeanything.reference.flux import Flux
from makeanything.serpentine import Layout
from makeanything.text_encoder import TextEncoder

from ..heads.network import HeadNetwork
from . import loop
from .objective import Objective, by_domain
from .settings import Settings


@dataclass(frozen=True)
class Batch:
    """Clean latents (B, 16, h, w) in the model's space, the tokens of their prompts (B, TOKENS), and their domains.

    A domain is a name; empty where none is said.  `random` draws times and noise: with a generator on the CPU a step is
    the same on every device, with one of the device's own nothing waits for it.
    """

    latents: Tensor
    tokens: Tensor
    domains: Sequence[str]
    random: torch.Generator


Batches = Callable[[torch.Generator], Batch]
"""Draws a random batch; the generator, on the CPU, decides it."""


@dataclass(frozen=True)
class Task:
    """What trains, on what, and how.

    module: what trains: the FLUX itself, or a network that is attached to it.
    state: the file that an interrupted run goes on from.
    heads: networks on the FLUX whose heads a batch's domains choose.
    recraft: the layout of the grids, in ReCraft.
    on_save: called with the number of steps done, at every save.
    compiled: height and width in latents of the grids that a whole FLUX, training on an accelerator, is compiled for.
    shows_domains: whether progress shows the loss of each domain, for which the device waits at every step.
    """

    flux: Flux
    text: TextEncoder
    module: nn.Module
    batches: Batches
    objective: Objective
    settings: Settings
    state: Path
    title: str
    heads: Sequence[HeadNetwork] = ()
    recraft: Layout | None = None
    on_save: Callable[[int], None] = lambda step: None
    compiled: tuple[int, int] | None = None
    shows_domains: bool = True

    def run(self) -> None:
        """Train to the last step (see loop.fit)."""
        device = loop.this_process().device
        self.flux.to(device)
        self.text.to(device)
        if self.compiled and self.module is self.flux and device.type != "cpu":
            for block in (*self.flux.double_blocks, *self.flux.single_blocks):
                block.compile(dynamic=False)
        loop.fit(self.module, self.loss, self.settings, self.state, self.title, self.on_save)

    def loss(self, generator: torch.Generator, step: int) -> tuple[Tensor, loop.Figures]:
        """The mean loss of a random batch, and that of each domain in it."""
        batch, device = self.batches(generator), loop.this_process().device
        for network in self.heads:
            network.choose(batch.domains)
        latents = batch.latents.to(device)
        # Grids of every other size would be compiled anew.
        usual = self.compiled in (None, tuple(latents.shape[-2:]))
        with torch.compiler.set_stance("default" if usual else "force_eager"):
            text = self.text(batch.tokens.to(device))
            losses = self.objective.losses(self.flux, latents, text, batch.random, self.recraft)
        return losses.mean(), by_domain(batch.domains, losses) if self.shows_domains else {}
