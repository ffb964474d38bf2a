"""Tiny models with random weights, in the files' own layouts."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from makeanything.asymmetric_lora import save
from makeanything.domains import Domain
from makeanything.reference.flux import Flux, FluxParams

PARAMS = FluxParams(hidden_size=128, depth=1, depth_single_blocks=1, context_in_dim=32, vec_in_dim=16)
WIDER = FluxParams(hidden_size=256, depth=1, depth_single_blocks=1, context_in_dim=32, vec_in_dim=16)
DOMAINS = (
    Domain.of("Portrait", 9, "portrait painting"),
    Domain.of("Sketch", 9, "sketch drawing"),
    Domain.of("Emoji", 4, "emoji design"),
)
RANK, ALPHA = 4, 2.0


def flux(params: FluxParams, seed: int = 0) -> dict[str, Tensor]:
    """FLUX weights with BFL names; no layer is zero, so every layer matters."""
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.randn(weight.shape, generator=generator) * 0.1 + (1.0 if key.endswith(".scale") else 0.0)
        for key, weight in Flux(params).state_dict().items()
    }


def layers(params: FluxParams) -> dict[str, str]:
    """LoRA's name -> weight's key, for every linear layer in the blocks."""
    keys = [key for key in Flux(params).state_dict() if "_blocks." in key and key.endswith(".weight")]
    return {f"lora_unet_{key.removesuffix('.weight').replace('.', '_')}": key for key in keys}


def heads(params: FluxParams, domains: tuple[Domain, ...] = DOMAINS, seed: int = 1) -> dict[str, Tensor]:
    """An asymmetric LoRA for every linear layer of a FLUX."""
    generator = torch.Generator().manual_seed(seed)
    weights = Flux(params).state_dict()
    state: dict[str, Tensor] = {}
    for name, key in layers(params).items():
        outputs, inputs = weights[key].shape
        state[f"{name}.lora_down.weight"] = torch.randn(RANK, inputs, generator=generator) * 0.1
        state[f"{name}.alpha"] = torch.tensor(ALPHA)
        for head in range(len(domains)):
            state[f"{name}.lora_ups.{head}.weight"] = torch.randn(outputs, RANK, generator=generator) * 0.2
    return state


def save_heads(path: Path, params: FluxParams = PARAMS, seed: int = 1) -> dict[str, Tensor]:
    state = heads(params, DOMAINS, seed)
    save(state, DOMAINS, path)
    return state


def update(state: dict[str, Tensor], weights: dict[int, float]) -> dict[str, Tensor]:
    """Layer -> the sum of w_i * alpha / rank * B_i A, computed here on its own, in float64."""

    def product(name: str, head: int) -> Tensor:
        return state[f"{name}.lora_ups.{head}.weight"].double() @ state[f"{name}.lora_down.weight"].double()

    names = {key.split(".")[0] for key in state}
    return {name: sum(w * ALPHA / RANK * product(name, head) for head, w in weights.items()) for name in names}


def vae(seed: int = 0) -> dict[str, Tensor]:
    """A VAE in the layout of TAESD for FLUX (16 channels), which the stock VAELoader opens."""
    generator = torch.Generator().manual_seed(seed)
    state = {"vae_scale": torch.tensor(0.3611), "vae_shift": torch.tensor(0.1159)}

    def conv(name: str, inputs: int, outputs: int, bias: bool = True) -> None:
        state[f"{name}.weight"] = torch.randn(outputs, inputs, 3, 3, generator=generator) * (1.0 / (9 * inputs)) ** 0.5
        if bias:
            state[f"{name}.bias"] = torch.randn(outputs, generator=generator) * 0.1

    conv("taesd_encoder.0", 3, 64)
    conv("taesd_encoder.14", 64, 16)
    conv("taesd_decoder.1", 16, 64)
    conv("taesd_decoder.19", 64, 3)
    for part, resamplers, blocks in (
        ("taesd_encoder", (2, 6, 10), (1, 3, 4, 5, 7, 8, 9, 11, 12, 13)),
        ("taesd_decoder", (7, 12, 17), (3, 4, 5, 8, 9, 10, 13, 14, 15, 18)),
    ):
        for index in resamplers:
            conv(f"{part}.{index}", 64, 64, bias=False)
        for index in blocks:
            for layer in (0, 2, 4):
                conv(f"{part}.{index}.conv.{layer}", 64, 64)
    return state
