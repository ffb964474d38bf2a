"""Ordinary LoRA files on a MODEL and a CLIP through the host's loader, with an account of what it took."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import comfy.lora
import comfy.lora_convert
import comfy.sd
import comfy.utils
import folder_paths
from comfy.model_patcher import ModelPatcher

from ..makeanything.files import open_safetensors
from ..makeanything.lora_info import layer_of
from .catalog import LORAS, is_safetensors
from .models import linear_shape

NAMES_SHOWN = 10
OFF = "off (strength 0)"

Targets = Mapping[str, Any]
"""Name of a layer in LoRA files -> the host's key of its weight."""


@dataclass(frozen=True)
class StackedLora:
    """A row of a LORA_STACK."""

    name: str
    model: float
    clip: float

    @property
    def path(self) -> str:
        """Where the file lies; ValueError when it is gone or of a kind that is not read."""
        if not is_safetensors(self.name):
            raise ValueError(f"{self.name} is no .safetensors file, and weights are read from safetensors only.")
        path = folder_paths.get_full_path(LORAS, self.name)
        if path is None:
            raise ValueError(f"The loras folder has no file {self.name!r}; choose another one, or turn its row off.")
        return path

    def metadata(self) -> dict[str, str]:
        """The file's header; ValueError for a broken file, and for one that holds domain heads."""
        with open_safetensors(self.path) as file:
            if any(".lora_ups." in key for key in file.keys()):  # noqa: SIM118
                raise ValueError(
                    f"{self.name} is an asymmetric LoRA with a head for each domain, which a LoRA stack can't apply; "
                    "choose it in Apply Domain Head instead."
                )
            return dict(file.metadata() or {})


def apply(model: ModelPatcher | None, clip: comfy.sd.CLIP | None, lora: StackedLora) -> tuple[Any, Any, str]:
    """(model, clip, report) with the LoRA applied to what is there, as the stock loader does it."""
    if not lora.model and not lora.clip:
        return model, clip, f"{lora.name}: {OFF}"
    state = comfy.utils.load_torch_file(lora.path, safe_load=True)
    on_model = model if lora.model else None
    on_clip = clip if lora.clip else None
    patched_model, patched_clip = comfy.sd.load_lora_for_models(on_model, on_clip, dict(state), lora.model, lora.clip)
    return patched_model or model, patched_clip or clip, _report(state, lora, model, clip)


def _report(state: dict[str, Any], lora: StackedLora, model: ModelPatcher | None, clip: comfy.sd.CLIP | None) -> str:
    """The file's layers on the sides that are on; the layers of a side at strength 0 are not counted."""
    state = comfy.lora_convert.convert_lora(state)
    on: dict[str, Any] = {}
    off: dict[str, Any] = {}
    applied: set[str] = set()
    if model is not None:
        targets = comfy.lora.model_lora_keys_unet(model.model, {})
        (on if lora.model else off).update(targets)
        applied |= _applied(state, model, targets) if lora.model else set()
    if clip is not None:
        targets = comfy.lora.model_lora_keys_clip(clip.cond_stage_model, {})
        (on if lora.clip else off).update(targets)
        applied |= _applied(state, clip.patcher, targets) if lora.clip else set()
    layers = sorted({layer_of(key, on | off) for key in state} - (off.keys() - on.keys()))
    missing = [layer for layer in layers if layer not in applied]
    text = f"{lora.name}: {len(layers) - len(missing)} of {len(layers)} layers applied"
    text += f" (model {_strength(lora.model)}, clip {_strength(lora.clip)})"
    if missing:
        text += f"; not applied: {_shorten(missing)}"
        logging.warning("MakeAnything: %s", text)
    return text


def _strength(value: float) -> str:
    return f"{value:g}" if value else OFF


def _applied(state: dict[str, Any], patcher: ModelPatcher, targets: Targets) -> set[str]:
    """The layers of the file that the host finds a place for in this model, with the shape that belongs there."""
    patches = comfy.lora.load_lora(state, targets, log_missing=False)
    # Biases come as patches of their own, beside or without a patch of the weight.
    weights = {key.removesuffix(".bias") + ".weight" if isinstance(key, str) else key for key in patches} | set(patches)
    return {
        layer
        for layer in {layer_of(key, targets) for key in state}
        if layer in targets
        and targets[layer] in weights
        and _fits(patches.get(targets[layer]), patcher, targets[layer])
    }


def _fits(patch: Any, patcher: ModelPatcher, target: Any) -> bool:
    """False when a plain LoRA's shape is not its layer's, which the host only logs while it samples."""
    if getattr(patch, "name", "") != "lora":
        return True
    up, down, *rest = patch.weights
    shape = linear_shape(patcher, target)
    resized = any(part is not None for part in rest[3:])
    return shape is None or resized or down.ndim != 2 or shape == (up.shape[0], down.shape[1])


def _shorten(names: Collection[str]) -> str:
    shown = list(names)[:NAMES_SHOWN]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
