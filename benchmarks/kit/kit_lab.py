"""The lab of the kit: FLUX made of random numbers where it computes, a file of three heads, and no clocks in hooks."""

from __future__ import annotations

import gc
import sys
from dataclasses import replace
from pathlib import Path

import comfy.model_detection
import comfy.model_management
import comfy.model_patcher
import torch
from comfy.model_patcher import ModelPatcher
from torch import nn

from makeanything.reference.flux import Flux

from ..lab import PACK, Clock, Lab
from ..models import FULL, TINY, Size

SIZES = {"full": replace(FULL, text=256), "tiny": TINY}
"""FLUX.1-dev's prompts have 256 tokens in ComfyUI."""


def shallow(size: Size, double: int, single: int) -> Size:
    """The same widths in at most so many blocks."""
    p = size.params
    return replace(
        size, params=replace(p, depth=min(double, p.depth), depth_single_blocks=min(single, p.depth_single_blocks))
    )


class KitLab(Lab):
    """As Lab; `use` gives it another FLUX."""

    count = 3

    def load(self) -> ModelPatcher:
        """As the loader does it, but with weights drawn on the device: 24 GB need not pass through main memory."""
        with torch.device("meta"):
            state = {key: weight.to(self.size.dtype) for key, weight in Flux(self.size.params).state_dict().items()}
        config = comfy.model_detection.model_config_from_unet(state, "")
        load, offload = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
        stored = getattr(torch, self.stored) if self.stored else self.size.dtype
        supported = config.supported_inference_dtypes
        config.set_inference_dtype(
            stored, comfy.model_management.unet_manual_cast(stored, load, supported), device=load
        )
        model = config.get_model(state, "", device=load)
        fill(model.diffusion_model)
        return comfy.model_patcher.CoreModelPatcher(model, load_device=load, offload_device=offload)

    def use(self, stored: str) -> None:
        """Another FLUX, its weights kept in that type."""
        del self.base
        # What nothing holds is freed here, and not first moved to main memory.
        gc.collect()
        comfy.model_management.unload_all_models()
        comfy.model_management.soft_empty_cache()
        self.stored = stored
        self.base = self.load()

    def branch_class(self) -> type[nn.Module]:
        """The pack's own Branch, as ComfyUI has loaded it."""
        return sys.modules[f"{PACK}.makeanything.branch"].Branch

    def _time_hooks(self) -> Clock:
        return Clock()

    def _extract(self, folder: Path) -> None:
        pass


@torch.no_grad()
def fill(model: nn.Module) -> None:
    """Random weights; the scales of norms are 1."""
    for name, weight in model.named_parameters():
        if "norm" in name:
            weight.fill_(1)
        else:
            # fp8 can't be drawn in.
            weight.copy_(torch.empty_like(weight, dtype=torch.bfloat16).normal_(std=0.02))
