"""FLUX-nano, loaded from the files the pack ships: the demo's model, and the subject of end-to-end tests."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from makeanything.files import open_safetensors
from makeanything.flux import Flux
from makeanything.text_encoder import TextEncoder

from .autoencoder import Autoencoder

MODELS = Path(__file__).parent / "models"


def read(name: str) -> dict[str, Tensor]:
    """Tensors of a file of demo/models, in float32."""
    with open_safetensors(MODELS / name) as file:
        return {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118


def load_flux() -> Flux:
    return Flux.from_state_dict(read("diffusion_models/flux_nano.safetensors")).requires_grad_(False)


def load_text() -> TextEncoder:
    return TextEncoder.from_state_dict(read("text_encoders/flux_nano_text.safetensors")).requires_grad_(False)


def load_autoencoder() -> Autoencoder:
    return Autoencoder.from_file(read("vae/flux_nano_ae.safetensors")).requires_grad_(False)
