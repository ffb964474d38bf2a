"""Facts about a MODEL that is wired in: whether it is FLUX.1, and the shapes of its layers."""

from __future__ import annotations

import comfy.model_base
import comfy.utils
from comfy.model_patcher import ModelPatcher

from ...makeanything.foreign import need


def require_flux(model: ModelPatcher) -> None:
    """ValueError, naming what came, unless this is a FLUX.1 model (dev, schnell, Kontext, Fill, Depth, Canny)."""
    need(model, ModelPatcher, "model")
    base, channels = model.model, model.model.latent_format.latent_channels
    # Not isinstance: FLUX.2, Chroma and LongCat-Image derive from the host's FLUX.1.
    if type(base) is not comfy.model_base.Flux:
        raise ValueError(
            f"This node needs a FLUX.1 model, such as FLUX.1-dev, but the model wired in is of type "
            f"{type(base).__name__} with {channels} latent channels. Was another file chosen in the model loader?"
        )


def linear_shape(model: ModelPatcher, key: str) -> tuple[int, int] | None:
    """(outputs, inputs) of the linear layer whose weight has this key; None for anything else.

    They are read from the layer, since its weight may be packed by quantization or not be loaded.
    """
    layer = comfy.utils.get_attr(model.model, key.removesuffix(".weight"))
    if hasattr(layer, "out_features") and hasattr(layer, "in_features"):
        return layer.out_features, layer.in_features
    return None
