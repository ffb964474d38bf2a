"""Merge ordinary kohya LoRAs into FLUX weights: W + strength * alpha / rank * B A."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ..lora_header import lora_name


def merge(weights: Mapping[str, Tensor], lora: Mapping[str, Tensor], strength: float = 1.0) -> dict[str, Tensor]:
    """FLUX weights (BFL names) with a LoRA added, in the weights' dtype; neither argument changes.

    ValueError names a layer of the LoRA that the model does not have, or whose shape is another.
    """
    merged = dict(weights)
    keys = {lora_name(key.removesuffix(".weight")): key for key in weights if key.endswith(".weight")}
    for name in {key.split(".")[0] for key in lora}:
        if name not in keys:
            raise ValueError(f"the LoRA changes {name}, which this model does not have; was it made for another model?")
        key = keys[name]
        down, up = lora[f"{name}.lora_down.weight"].float(), lora[f"{name}.lora_up.weight"].float()
        scale = strength * float(lora[f"{name}.alpha"]) / down.shape[0]
        if (up.shape[0], down.shape[1]) != tuple(weights[key].shape):
            raise ValueError(
                f"the LoRA's update of {key} has shape {(up.shape[0], down.shape[1])}, the model's weight "
                f"{tuple(weights[key].shape)}; was it made for another model?"
            )
        merged[key] = (weights[key].float() + scale * (up @ down)).to(weights[key].dtype)
    return merged
