"""Ordinary LoRA files on a MODEL and a CLIP, read by the host's loader, with a report of the layers that it applied."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.lora
import comfy.lora_convert
import comfy.sd
import comfy.utils
import torch
from comfy.model_management import get_free_memory
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...makeanything.branch import Branch, Branches
from ...makeanything.foreign import ECHO, NAMED, brief, name_list
from ...makeanything.lora_info import layer_of
from ...makeanything.weights_file import WeightsFile
from ..stopping import ask
from .branch import add_branches, dtype_of
from .checks import linear_shape
from .patching import goes_beside
from .stacked_lora import StackedLora

NAMES_SHOWN = 10
OFF = "off (strength 0)"

Target = str | tuple[Any, ...]
"""The host's key of a weight.  For a part of a weight, or for a weight that a function reorders, it is
(key, (axis, first, length) or None, function)."""

Targets = Mapping[str, Target]
"""Name of a layer in LoRA files -> the weight that the layer changes."""


@dataclass(frozen=True)
class Side:
    """A LoRA file on a MODEL or a CLIP: the weights that it could change there, and its patches for them."""

    targets: Targets
    strength: float
    patches: Mapping[Target, Any]

    @classmethod
    def read(cls, state: dict[str, Any], patcher: ModelPatcher, targets: Targets, strength: float) -> Side:
        """The host's patches of a file, without those whose weight is missing or has another shape.

        There are none at strength 0.
        """
        found = comfy.lora.load_lora(state, targets, log_missing=False) if strength else {}
        there = patcher.model.state_dict().keys() if found else ()
        return cls(
            targets, strength, {t: p for t, p in found.items() if _unpack(t)[0] in there and _fits(patcher, t, p)}
        )

    def applied(self) -> set[str]:
        """Names of the layers that have a patch, even if only for their bias."""
        biased = {
            t.removesuffix(".bias") + ".weight" for t in self.patches if isinstance(t, str) and t.endswith(".bias")
        }
        return {layer for layer, target in self.targets.items() if target in biased or target in self.patches}


def apply_lora(
    model: ModelPatcher | None, clip: comfy.sd.CLIP | None, lora: StackedLora, way: str
) -> tuple[Any, Any, str]:
    """(model, clip, report), with the LoRA applied to those that are not None.

    It is applied as the stock loader does, or beside the model's weights where `way` says so.  ValueError when the file
    is too large for the memory, or is not a LoRA that the host can read.
    """
    if not lora.model and not lora.clip:
        return model, clip, f"{brief(lora.name, NAMED)}: {OFF}"
    with lora.open() as file:
        _need_memory(file)
        state = file.read(file.entries, ask)
    try:
        return _apply(state, model, clip, lora, way)
    except (LookupError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        # The host's loader trusts what a file says about itself.
        cause = f"{type(error).__name__}: {brief(str(error))}"
        raise ValueError(
            f"{brief(lora.name)} can't be applied, ComfyUI can't make sense of its layers ({cause})."
        ) from error


def _need_memory(file: WeightsFile) -> None:
    """ValueError for a file larger than the free memory: reading it would make the system end the whole host."""
    size = sum(entry.end - entry.start for entry in file.entries.values())
    free = get_free_memory(torch.device("cpu"))
    if size > free:
        raise ValueError(
            f"{file.name} needs {size / 2**30:.2f} GiB of memory, and {free / 2**30:.2f} GiB are free; "
            "is it a whole model, not a LoRA?"
        )


def _apply(
    state: dict[str, Tensor], model: ModelPatcher | None, clip: comfy.sd.CLIP | None, lora: StackedLora, way: str
) -> tuple[Any, Any, str]:
    state = comfy.lora_convert.convert_lora(state)
    sides, kept = [], 0
    if model is not None:
        side = Side.read(state, model, comfy.lora.model_lora_keys_unet(model.model, {}), lora.model)
        model, kept = _on_model(model, side, way)
        sides.append(side)
    if clip is not None:
        side = Side.read(state, clip.patcher, comfy.lora.model_lora_keys_clip(clip.cond_stage_model, {}), lora.clip)
        clip = clip.clone()
        _patch(clip, side.patches, lora.clip)
        sides.append(side)
    return model, clip, _report(state, lora, sides, kept)


def _on_model(model: ModelPatcher, side: Side, way: str) -> tuple[ModelPatcher, int]:
    """(clone of the model with the patches, how many are in its weights only because a branch can't hold them)."""
    model, patches = model.clone(), dict(side.patches)
    beside = goes_beside(model, (_unpack(target)[0] for target in patches), way)
    if beside and (held := [target for target, patch in patches.items() if _can_branch(model, target, patch)]):
        dtype = dtype_of(model)
        add_branches(model, Branches(_branch(target, patches.pop(target), side.strength, dtype) for target in held))
    _patch(model, patches, side.strength)
    return model, len(patches) if beside else 0


def _patch(patched: ModelPatcher | comfy.sd.CLIP, patches: Mapping[Target, Any], strength: float) -> None:
    # Even an empty set of patches would make the host merge all weights again.
    if patches:
        patched.add_patches(patches, strength)


def _unpack(target: Target) -> tuple[str, tuple[int, int, int] | None, Any]:
    """(key of a weight, (axis, first, length) of the part or None for all, function or None)."""
    key, part, function = (*((target,) if isinstance(target, str) else target), None, None)[:3]
    return key, part, function


def _fits(patcher: ModelPatcher, target: Target, patch: Any) -> bool:
    """False when a LoRA's shape is not its layer's; the host would only log that, while it samples."""
    key, part, _ = _unpack(target)
    shape = linear_shape(patcher, key)
    if shape is None or getattr(patch, "name", "") != "lora":
        return True
    wanted = list(shape)
    if part is not None:
        wanted[part[0]] = part[2]
    up, down, *_, resized = patch.weights
    return resized is not None or down.ndim != 2 or [len(up), down.shape[1]] == wanted


def _can_branch(model: ModelPatcher, target: Target, patch: Any) -> bool:
    """Whether a patch is a plain LoRA of a linear layer, with all the layer's inputs, and outputs in their order."""
    key, part, function = _unpack(target)
    if function is not None or (part is not None and part[0] != 0) or linear_shape(model, key) is None:
        return False
    return (
        getattr(patch, "name", "") == "lora"
        and patch.weights[1].ndim == 2
        and not any(variant is not None for variant in patch.weights[3:])
    )


def _branch(target: Target, patch: Any, strength: float, dtype: torch.dtype) -> tuple[str, Branch]:
    """(name of the layer, branch) for a patch that `_can_branch`."""
    key, part, _ = _unpack(target)
    up, down, alpha, *_ = patch.weights
    scale = 1.0 if alpha is None else alpha / len(down)
    return key.removesuffix(".weight"), Branch.scaled(down, up, strength * scale, dtype, part[1] if part else 0)


def _report(state: Mapping[str, Any], lora: StackedLora, sides: Sequence[Side], kept: int) -> str:
    """How many of the file's layers were applied.  Layers of a side at strength 0 are not counted."""
    on = {layer for side in sides if side.strength for layer in side.targets}
    off = {layer for side in sides if not side.strength for layer in side.targets}
    known = on | off
    layers = {layer_of(key, known) for key in state} - (off - on)
    missing = sorted(layers - {layer for side in sides for layer in side.applied()})
    text = f"{brief(lora.name, NAMED)}: {len(layers) - len(missing)} of {len(layers)} layers applied"
    text += f" (model {_strength(lora.model)}, clip {_strength(lora.clip)})"
    if kept:
        text += f"; in the weights, as a branch can't hold them: {kept}"
    if missing:
        text += f"; not applied: {name_list(missing, NAMES_SHOWN * ECHO)}"
        logging.warning("MakeAnything: %s", text)
    return text


def _strength(value: float) -> str:
    return f"{value:g}" if value else OFF
