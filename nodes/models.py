"""What nodes must know of the models people wire in."""

from __future__ import annotations

import comfy.model_base
import comfy.utils
from comfy.model_patcher import ModelPatcher

from ..makeanything.flux import LATENT_CHANNELS


def require_flux(model: ModelPatcher) -> None:
    """Raise ValueError, naming what came, unless this is a FLUX.1-type model (latents of 16 channels)."""
    base, channels = model.model, model.model.latent_format.latent_channels
    # FLUX.2 derives from FLUX in the host; its 128 channels tell it apart.
    if not isinstance(base, comfy.model_base.Flux) or channels != LATENT_CHANNELS:
        raise ValueError(
            f"This node needs a FLUX.1 model, such as FLUX.1-dev, but the model wired in is of type "
            f"{type(base).__name__} with {channels} latent channels. Was another file chosen in the model loader?"
        )


def linear_shape(model: ModelPatcher, key: str) -> tuple[int, int] | None:
    """(outputs, inputs) of the linear layer whose weight has this key; None for other layers.

    Read from the layer, not from its weight, which may be packed by quantisation or not be loaded.
    """
    layer = comfy.utils.get_attr(model.model, key.removesuffix(".weight"))
    if hasattr(layer, "out_features") and hasattr(layer, "in_features"):
        return layer.out_features, layer.in_features
    return None
