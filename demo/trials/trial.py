"""Draw many sequences with FLUX-nano at once and score them: the tools of `python -m demo.evaluate`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from makeanything import recraft, serpentine
from makeanything.recraft import Cells
from makeanything.reference import flow
from makeanything.reference.flux import Flux
from makeanything.serpentine import LATENT_CHANNELS, PIXELS_PER_LATENT, Layout
from training.builtin import loop
from training.heads.network import HeadNetwork

from .. import data
from ..nano import CFG, GRID, GUIDANCE, load_autoencoder, load_text
from ..scenes import domains
from ..scenes.domains import Scene
from . import judge

FRAMES = 9
LAYOUT = Layout.of(FRAMES)
STEPS = 12
TOGETHER = 24
"""Grids drawn at once."""

Scores = dict[str, float]


def held_out(names: Sequence[str], count: int, seed: int) -> list[Scene]:
    """`count` scenes of each process, of subjects that no training sequence of it shows."""
    rng = np.random.default_rng(seed)
    return [domains.random_scene(rng, name, held_out=True) for name in names for _ in range(count)]


class Studio:
    """What stands around a model under trial; everything is on the device of training."""

    def __init__(self) -> None:
        self.device = loop.this_process().device
        self.text = load_text().to(self.device)
        self.autoencoder = load_autoencoder().to(self.device)

    @torch.no_grad()
    def draw(
        self,
        flux: Flux,
        scenes: Sequence[Scene],
        seed: int,
        heads: HeadNetwork | None = None,
        tails: Tensor | None = None,
        suffix: str = "",
        layout: Layout = LAYOUT,
    ) -> np.ndarray:
        """The sequences of the scenes' prompts, uint8 (N, F, cell, cell, 3).

        `heads` is attached to the model; the scenes' processes choose among its heads.  `tails` (N, 16, h, w) are held.
        """
        flux.to(self.device)
        generator = torch.Generator().manual_seed(seed)
        drawn = []
        for start in range(0, len(scenes), TOGETHER):
            some = slice(start, start + TOGETHER)
            if heads is not None:
                heads.choose([scene.process for scene in scenes[some]] * 2)
            cells = {} if tails is None else {layout.tail: tails[some]}
            prompts = [domains.prompt(scene, layout) + suffix for scene in scenes[some]]
            drawn.append(self._draw(flux, prompts, layout, cells, generator))
        return np.concatenate(drawn)

    def _draw(
        self, flux: Flux, prompts: list[str], layout: Layout, cells: Cells, generator: torch.Generator
    ) -> np.ndarray:
        count, edge = len(prompts), GRID // PIXELS_PER_LATENT
        txt, vec = self.text.encode(prompts + [""] * count)
        guidance = torch.full((2 * count,), GUIDANCE, device=self.device)

        def predict(latents: Tensor, t: Tensor) -> Tensor:
            with data.autocast(self.device):
                return flux(latents, t, txt, vec, guidance).float()

        noise = torch.randn(count, LATENT_CHANNELS, edge, edge, generator=generator).to(self.device)
        velocity, times = flow.guided(predict, CFG), flow.schedule(STEPS)
        latents = flow.sample(velocity, noise, times, lambda x: recraft.paste(x, layout, cells))
        return to_bytes(serpentine.split(self.autoencoder.decode(latents), layout))

    @torch.no_grad()
    def pictures(self, scenes: Sequence[Scene]) -> tuple[Tensor, np.ndarray]:
        """The finished pictures encoded alone, (N, 16, 8, 8), and decoded again, uint8 (N, 64, 64, 3)."""
        finished = np.stack([domains.finished(scene, data.cell(FRAMES)) for scene in scenes])
        cells = data.alone(self.autoencoder, finished[:, None])[:, 0]
        return cells, to_bytes(self.autoencoder.decode(cells))


def to_bytes(pictures: Tensor) -> np.ndarray:
    return (pictures * 255).round().byte().cpu().numpy()


def score(drawn: np.ndarray, scenes: Sequence[Scene], styled: bool = False) -> Scores:
    """Means over sequences (N, F, s, s, 3) of what the judge measures; `styled`: they are to be in the style."""
    rows = [_score(frames, scene, styled) for frames, scene in zip(drawn, scenes, strict=True)]
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def _score(frames: np.ndarray, scene: Scene, styled: bool) -> Scores:
    return {
        "order": judge.in_order(frames),
        "monotone": judge.monotone(frames),
        "subject": float(judge.subject(frames[-1], scene, styled) == scene.subject),
        "colour": float(judge.colour(frames[-1], scene, styled) == scene.colour),
        "distance": judge.distance(frames, scene.process, scene.subject, scene.colour, scene.size, styled),
    }
