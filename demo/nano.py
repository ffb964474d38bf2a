"""FLUX-nano, loaded from the files the pack ships: the demo's model, and the subject of end-to-end tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from makeanything import recraft
from makeanything.asymmetric_lora import AsymmetricLora, Choice
from makeanything.domains import Domain
from makeanything.drawn import Drawn
from makeanything.reference import flow
from makeanything.reference.autoencoder import Autoencoder
from makeanything.reference.flux import Flux
from makeanything.reference.merge import merge
from makeanything.serpentine import LATENT_CHANNELS, PIXELS_PER_LATENT, Layout
from makeanything.text_encoder import TextEncoder
from makeanything.weights_file import load

MODELS = Path(__file__).parents[1] / "models"
GRID = 192
"""Edge of every FLUX-nano grid in pixels: 3 x 3 cells of 64 or 2 x 2 cells of 96; 12 x 12 tokens."""

FLUX = "diffusion_models/flux_nano.safetensors"
AUTOENCODER = "vae/flux_nano_ae.safetensors"
TEXT_ENCODER = "text_encoders/flux_nano_text.safetensors"
STYLE = "loras/flux_nano_parchment_style.safetensors"
"""Files of models/."""

STEPS = 20
CFG = 2.0
GUIDANCE = 3.5
"""What ComfyUI sends a FLUX unless told otherwise; FLUX-nano does not mind which."""


def drawn(layout: Layout) -> Drawn:
    """How FLUX-nano's heads are drawn."""
    return Drawn(cell=GRID // layout.cols, recraft_guidance=GUIDANCE, shift_by_grid=False)


def heads_file(frames: int) -> str:
    return f"loras/flux_nano_heads_{frames}f.safetensors"


def recraft_file(frames: int) -> str:
    return f"loras/flux_nano_recraft_{frames}f.safetensors"


def read(name: str) -> dict[str, Tensor]:
    """Tensors of a file of models/, in float32."""
    return {key: tensor.float() for key, tensor in load(MODELS / name).items()}


def load_flux() -> Flux:
    return Flux.from_state_dict(read(FLUX)).requires_grad_(False)


def load_text() -> TextEncoder:
    return TextEncoder.from_state_dict(read(TEXT_ENCODER)).requires_grad_(False)


def load_autoencoder() -> Autoencoder:
    return Autoencoder.from_file(read(AUTOENCODER)).requires_grad_(False)


def heads(frames: int) -> AsymmetricLora:
    """The shipped heads file for 4 or 9 frames."""
    return AsymmetricLora.open(MODELS / heads_file(frames))


class Nano:
    """FLUX-nano with its text encoder and autoencoder; `draw` draws grids."""

    def __init__(self) -> None:
        self.weights = read(FLUX)
        self.text = load_text()
        self.autoencoder = load_autoencoder()

    @torch.no_grad()
    def draw(
        self,
        domain: Domain,
        choice: Choice,
        prompt: str,
        seed: int,
        pictures: Mapping[int, Tensor] | None = None,
        style: float = 0.0,
        on_step: Callable[[int, Tensor], None] = lambda step, denoised: None,
    ) -> Tensor:
        """Draw one grid (1, 192, 192, 3), values 0..1, with the chosen head or mix of heads of the domain's file.

        `pictures`: frame -> picture (h, w, 3) to hold (ReCraft), with which the ReCraft LoRA is merged too.
        `style`: strength of the style LoRA.
        """
        layout = domain.layout
        cells = {frame: self.encode(picture, domain) for frame, picture in (pictures or {}).items()}
        weights = merge(self.weights, heads(layout.frames).select(choice))
        if cells:
            weights = merge(weights, read(recraft_file(layout.frames)))
        if style:
            weights = merge(weights, read(STYLE), style)
        edge = GRID // PIXELS_PER_LATENT
        noise = torch.randn(1, LATENT_CHANNELS, edge, edge, generator=torch.Generator().manual_seed(seed))
        velocity = self._guided(Flux.from_state_dict(weights), prompt)
        times = flow.schedule(STEPS)
        latents = flow.sample(velocity, noise, times, lambda x: recraft.paste(x, layout, cells), on_step)
        return self.autoencoder.decode(latents)

    def encode(self, picture: Tensor, domain: Domain) -> Tensor:
        """A picture (h, w, 3) fitted to a cell and encoded alone: latents (1, 16, cell, cell)."""
        cell = GRID // domain.layout.cols
        return self.autoencoder.encode(recraft.fit(picture[None], cell, cell))

    def _guided(self, flux: Flux, prompt: str) -> flow.Velocity:
        txt, vec = self.text.encode([prompt, ""])
        guidance = torch.full((2,), GUIDANCE)
        return flow.guided(lambda latents, t: flux(latents, t, txt, vec, guidance), CFG)
