"""A head on a MODEL: merged into its weights by the host's own LoRA patches, or computed beside them as a branch.

Both work together with whatever else changes the model.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

import comfy.lora
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from comfy.quant_ops import QuantizedTensor
from comfy.weight_adapter import LoRAAdapter
from torch import Tensor

from ...makeanything.asymmetric_lora import AsymmetricLora, Choice
from ...makeanything.branch import Branch, Branches
from ...makeanything.foreign import finite
from ...makeanything.lora_header import Layer
from ..stopping import ask
from .branch import add_branches, dtype_of
from .checks import linear_shape, require_flux
from .ways import AUTO, BRANCH

HEADS = "makeanything_heads"
"""Key of a MODEL's attachment: the names of the heads on it, in the order they were applied."""

_PLAIN = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def apply_head(
    model: ModelPatcher, lora: AsymmetricLora, choice: Choice, strength: float, way: str = AUTO
) -> ModelPatcher:
    """A clone of the model with strength * alpha / rank * B A added to its layers.

    ValueError when the model is not FLUX.1, or when no layer of the file fits it.  The log has a warning when only some
    layers fit, or when the model already has a head.
    """
    require_flux(model)
    strength = finite(strength, "strength")
    keys = comfy.lora.model_lora_keys_unet(model.model, {})
    fitting = {name: keys[name] for name, layer in lora.layers.items() if _fits(model, keys.get(name), layer)}
    if not fitting:
        raise ValueError(
            f"None of the {len(lora.layers)} layers of {lora.name} fits this model, so nothing can be applied; "
            "was it trained for another FLUX?"
        )
    if len(fitting) < len(lora.layers):
        text = "MakeAnything: only %d of the %d layers of %s fit the model, the others do nothing"
        logging.warning(text, len(fitting), len(lora.layers), lora.name)
    if strength == 0:
        return model.clone()
    state = lora.select(choice, ask)
    applied = model.clone()
    if goes_beside(model, fitting.values(), way):
        dtype = dtype_of(model)
        branches = (
            (key.removesuffix(".weight"), Branch.read(state, name, strength, dtype)) for name, key in fitting.items()
        )
        add_branches(applied, Branches(branches))
    else:
        applied.add_patches({key: _adapter(state, name) for name, key in fitting.items()}, strength)
    _note_head(applied, f"{' + '.join(_names(lora, choice))} ({lora.name})")
    return applied


def goes_beside(model: ModelPatcher, keys: Iterable[str], way: str) -> bool:
    """Whether an update of the weights with these keys is computed beside them, not merged into them.

    It is with BRANCH, and with AUTO when one of the weights is quantized.
    """
    return way == BRANCH or (way == AUTO and any(_quantized(model, key) for key in keys))


def _quantized(model: ModelPatcher, key: str) -> bool:
    """Whether this weight is stored in fewer bits than it is computed in, as fp8, int8, fp4 and GGUF are."""
    weight = comfy.utils.get_attr(model.model, key)
    # The host's own quantized tensors give the type that they had before.
    return isinstance(weight, QuantizedTensor) or weight.dtype not in _PLAIN


def _fits(model: ModelPatcher, key: object, layer: Layer) -> bool:
    # Names of other formats stand for parts of a layer, and their keys are tuples.
    return isinstance(key, str) and linear_shape(model, key) in (None, (layer.outputs, layer.inputs))


def _names(lora: AsymmetricLora, choice: Choice) -> list[str]:
    return [lora.domains[head].name for head in lora.weights(choice)]


def _note_head(applied: ModelPatcher, head: str) -> None:
    """Attach the head's name to the model, which its clones take along; a warning when it is not the first head."""
    before = applied.get_attachment(HEADS) or ()
    if before:
        text = "MakeAnything: %s is added to a model that already has the head %s; use the model before it for one head"
        logging.warning(text, head, ", ".join(before))
    applied.set_attachments(HEADS, (*before, head))


def _adapter(state: Mapping[str, Tensor], name: str) -> LoRAAdapter:
    up, down, alpha = (state[f"{name}.{part}"] for part in ("lora_up.weight", "lora_down.weight", "alpha"))
    return LoRAAdapter(set(), (up, down, alpha.item(), None, None, None))
