"""A head on a MODEL through the host's own LoRA patches, so that it composes with all that do the same."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import comfy.lora
from comfy.model_patcher import ModelPatcher
from comfy.weight_adapter import LoRAAdapter
from torch import Tensor

from ..makeanything.asymmetric_lora import AsymmetricLora, Choice
from ..makeanything.lora_header import Layer
from .models import linear_shape, require_flux

HEADS = "makeanything_heads"
"""Attachment of a MODEL: the names of the heads applied to it, in their order."""


def apply_head(model: ModelPatcher, lora: AsymmetricLora, choice: Choice, strength: float) -> ModelPatcher:
    """A clone of the model with strength * alpha / rank * B A added to its layers, through the host's LoRA patches.

    ValueError when the model is no FLUX or no layer of the file fits it; a warning in the log when only some do,
    or when the model has a head already.
    """
    require_flux(model)
    keys = comfy.lora.model_lora_keys_unet(model.model, {})
    fitting = {name for name, layer in lora.layers.items() if _fits(model, keys.get(name), layer)}
    if not fitting:
        raise ValueError(
            f"None of the {len(lora.layers)} layers of {lora.path.name} fits this model, so nothing can be applied; "
            "was it trained for another FLUX?"
        )
    if len(fitting) < len(lora.layers):
        text = "MakeAnything: only %d of the %d layers of %s fit the model, the others do nothing"
        logging.warning(text, len(fitting), len(lora.layers), lora.path.name)
    if strength == 0:
        return model.clone()
    state = lora.select(choice)
    patched = model.clone()
    patched.add_patches({keys[name]: _adapter(state, name) for name in fitting}, strength)
    _note_head(patched, f"{' + '.join(_names(lora, choice))} ({lora.path.name})")
    return patched


def _fits(model: ModelPatcher, key: object, layer: Layer) -> bool:
    # Other formats' names stand for parts of a layer; their keys are tuples.
    return isinstance(key, str) and linear_shape(model, key) in (None, (layer.outputs, layer.inputs))


def _names(lora: AsymmetricLora, choice: Choice) -> list[str]:
    return [lora.domains[head].name for head in lora.weights(choice)]


def _note_head(patched: ModelPatcher, head: str) -> None:
    """Keep the head's name with the model, where clones take it along; a warning when it is not the first."""
    before = patched.get_attachment(HEADS) or ()
    if before:
        text = "MakeAnything: %s is added to a model that already has the head %s; use the model before it for one head"
        logging.warning(text, head, ", ".join(before))
    patched.set_attachments(HEADS, (*before, head))


def _adapter(state: Mapping[str, Tensor], name: str) -> LoRAAdapter:
    up, down, alpha = (state[f"{name}.{part}"] for part in ("lora_up.weight", "lora_down.weight", "alpha"))
    return LoRAAdapter(set(), (up, down, alpha.item(), None, None, None))
