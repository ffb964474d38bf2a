"""ReCraft inside ComfyUI's sampling: two of the host's wrappers hold cells of the latents clean.

The wrapper of PREDICT_NOISE lies around guidance, so it comes after CFG and everything else that edits the prediction;
it leads the sampler's state to the picture.  The wrapper of OUTER_SAMPLE writes the picture into the result, since
samplers end a rounding error away from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrapperExecutor, WrappersMP

from ...makeanything.recraft import check_cell, paste, per_item
from ...makeanything.serpentine import Layout

KEY = "makeanything_recraft"
"""Key of the two wrappers, and of the attachment that holds a model's `Pins`.  Clones take all three along."""


@dataclass(frozen=True)
class Pin:
    """Clean latents of one cell (B or 1, 16, h, w), as the VAE gave them, held from `start` to `end` of sampling."""

    latents: torch.Tensor
    start: float = 0.0
    end: float = 1.0


class Pins:
    """The pinned frames of a model.  Clones of the model share this object, so nothing of it but its cache changes."""

    def __init__(self, layout: Layout, frames: Mapping[int, Pin]) -> None:
        self.layout = layout
        self.frames = dict(frames)
        self._cached: dict[tuple[int, torch.device, torch.dtype], torch.Tensor] = {}

    def pinned(self, frame: int, pin: Pin) -> Pins:
        """These pins and one more.  A frame that was pinned before gets the new picture."""
        return Pins(self.layout, {**self.frames, frame: pin})

    def predict_noise(
        self, executor: WrapperExecutor, x: torch.Tensor, sigma: torch.Tensor, *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """x (B, 16, H, W) noisy -> denoised, both with the clean cells in place."""
        cells = self._model_cells(executor.class_obj.inner_model, x, sigma)
        denoised = executor(paste(x, self.layout, cells), sigma, *args, **kwargs)
        return paste(denoised, self.layout, cells)

    def outer_sample(
        self,
        executor: WrapperExecutor,
        noise: torch.Tensor,
        latents: torch.Tensor,
        sampler: Any,
        sigmas: torch.Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Check the pins against the grid and sample.  If the noise ends at zero, the result has the exact pictures."""
        self.check(noise.shape)
        # Before sampling, since uni_pc writes into the sigmas.
        finished = float(sigmas[-1]) == 0.0
        result = executor(noise, latents, sampler, sigmas, *args, **kwargs)
        ended = {frame: pin.latents for frame, pin in self.frames.items() if finished and pin.start < 1 <= pin.end}
        return paste(result, self.layout, ended)

    def check(self, shape: torch.Size) -> None:
        """ValueError for grid latents, of shape (B, 16, H, W), that these pins do not fit."""
        if len(shape) != 4:
            raise ValueError(f"ReCraft holds frames of an image grid; these latents have {len(shape)} axes, not 4.")
        for pin in self.frames.values():
            check_cell(pin.latents, self.layout, *shape[-2:])
            per_item(pin.latents, shape[0])

    def _model_cells(self, model: Any, x: torch.Tensor, sigma: torch.Tensor) -> dict[int, torch.Tensor]:
        """The clean cells in the model's latent space, for the frames that are held at this noise level."""
        return {
            frame: self._model_cell(model, frame, pin, x)
            for frame, pin in self.frames.items()
            if _holds(pin, model.model_sampling.percent_to_sigma, sigma)
        }

    def _model_cell(self, model: Any, frame: int, pin: Pin, x: torch.Tensor) -> torch.Tensor:
        key = (frame, x.device, x.dtype)
        if key not in self._cached:
            self._cached[key] = model.process_latent_in(pin.latents).to(x.device, x.dtype)
        return self._cached[key]


def _holds(pin: Pin, percent_to_sigma: Callable[[float], float], sigma: torch.Tensor) -> bool:
    # The usual case must not read the noise level, for which the device would have to finish first.
    if pin.start <= 0 and pin.end >= 1:
        return True
    return percent_to_sigma(pin.end) <= float(sigma.max()) <= percent_to_sigma(pin.start)


def pin_frame(model: ModelPatcher, layout: Layout, frame: int, pin: Pin) -> ModelPatcher:
    """A clone of the model that also holds this frame; the model itself keeps the pins it has.

    ValueError when the model has frames pinned in a grid of another layout.
    """
    before: Pins = model.get_attachment(KEY) or Pins(layout, {})
    if before.layout != layout:
        raise ValueError(
            f"This model already has frames pinned in a {before.layout} grid, and this node pins one in a {layout} "
            "grid. Give every chained ReCraft node the same layout."
        )
    pins = before.pinned(frame, pin)
    model = model.clone()
    model.set_attachments(KEY, pins)
    for kind, wrapper in (
        (WrappersMP.PREDICT_NOISE, pins.predict_noise),
        (WrappersMP.OUTER_SAMPLE, pins.outer_sample),
    ):
        # The first wrapper is the outermost: one that skips steps, such as a cache, must not skip the pins.
        others = {key: value for key, value in model.wrappers.get(kind, {}).items() if key != KEY}
        model.wrappers[kind] = {KEY: [wrapper], **others}
    return model
