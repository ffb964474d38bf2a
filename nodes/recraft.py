"""The ReCraft node: hold frames of the grid at given pictures while the other frames are drawn."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ..makeanything.domains import Domain
from ..makeanything.foreign import need, within
from ..makeanything.pictures import check
from ..makeanything.recraft import check_cell, fit, paste
from ..makeanything.serpentine import LATENT_CHANNELS, PIXELS_PER_LATENT, Layout
from .browser.previews import fit_preview
from .empty_grid import empty_grid
from .inputs import CATEGORY, layout_inputs, read_layout
from .model.checks import require_flux
from .model.pins import Pin, pin_frame

FRAME = 0, 256
PERCENT = 0.0, 1.0
"""The least and the most of the inputs."""


class ReCraft(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MakeAnythingReCraft",
            display_name="ReCraft",
            category=CATEGORY,
            description=(
                "Find the steps that led to a picture: the picture is held as the last frame of the grid while the "
                "frames before it are drawn. Chain several to hold several frames."
            ),
            search_aliases=["image to process", "making of", "reference picture", "pin frame"],
            inputs=[
                io.Model.Input("model", tooltip="A FLUX model with a domain head and its ReCraft LoRA."),
                io.Vae.Input("vae", tooltip="FLUX's VAE; it encodes the picture alone."),
                io.Image.Input("image", tooltip="The picture. A batch gives every grid of the batch its own picture."),
                *layout_inputs(),
                io.Int.Input(
                    "frame",
                    default=0,
                    min=FRAME[0],
                    max=FRAME[1],
                    tooltip="Which frame the picture is: 1 is the first, 0 the last (the finished picture).",
                ),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    min=PERCENT[0],
                    max=PERCENT[1],
                    step=0.01,
                    advanced=True,
                    tooltip="Where in the sampling (0 its start, 1 its end) holding begins.",
                ),
                io.Float.Input(
                    "end_percent",
                    default=1.0,
                    min=PERCENT[0],
                    max=PERCENT[1],
                    step=0.01,
                    advanced=True,
                    tooltip="Where in the sampling (0 to 1) holding ends. Below 1 the frame may change again.",
                ),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="The grid's latents: from Empty Grid for another cell size or batch, or from the ReCraft "
                    "node before this one. Without it, an empty grid of the trained size is made.",
                ),
            ],
            outputs=[
                io.Model.Output(tooltip="The model, holding the frame in whatever it samples."),
                io.Latent.Output(tooltip="The grid's latents with the picture in its cell, for the sampler."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        vae: Any,
        image: torch.Tensor,
        frame: int,
        start_percent: float,
        end_percent: float,
        layout: dict[str, Any] | None = None,
        domain: Domain | None = None,
        latent: dict[str, Any] | None = None,
    ) -> io.NodeOutput:
        require_flux(model)
        need(image, torch.Tensor, "image")
        check(image)
        start, end = within(start_percent, *PERCENT, "start_percent"), within(end_percent, *PERCENT, "end_percent")
        grid = read_layout(layout, domain)
        index = _frame_index(within(frame, *FRAME, "frame"), grid)
        latent = empty_grid(grid, grid.standard_cell, len(image)) if latent is None else latent
        need(latent.get("samples") if isinstance(latent, dict) else latent, torch.Tensor, "latent")
        samples = latent["samples"]
        height, width = grid.cell_size(*samples.shape[-2:])
        cell = encode(vae, image, height, width)
        check_cell(cell, grid, *samples.shape[-2:])
        model = pin_frame(model, grid, index, Pin(cell, start, end))
        held = {**latent, "samples": paste(samples, grid, {index: cell})}
        shown = fit_preview(image, height * PIXELS_PER_LATENT, width * PIXELS_PER_LATENT)
        return io.NodeOutput(model, held, ui=shown)


def _frame_index(frame: int, layout: Layout) -> int:
    """A frame as users count it (1 is the first, 0 the last) -> its index; ValueError for a frame beyond the last."""
    if frame > layout.frames:
        raise ValueError(f"ReCraft was asked to hold frame {frame}, but a {layout} grid has {layout.frames} frames.")
    return frame - 1 if frame else layout.tail


def encode(vae: Any, pictures: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Pictures (B, H, W, 3) -> latents (B, 16, height, width), each picture fitted to the cell and encoded alone.

    ValueError when `vae` is not FLUX's.
    """
    if not hasattr(vae, "encode"):
        raise ValueError(
            "No VAE came in; the checkpoint may hold none. Load FLUX's own with Load VAE (ae.safetensors)."
        )
    latents = vae.encode(fit(pictures, height * PIXELS_PER_LATENT, width * PIXELS_PER_LATENT))
    wanted = (len(pictures), LATENT_CHANNELS, height, width)
    if tuple(latents.shape) != wanted:
        raise ValueError(
            f"The VAE gave latents of shape {tuple(latents.shape)}, but FLUX's own gives {wanted}. "
            "Load FLUX's VAE (ae.safetensors)."
        )
    return latents


NODES = [ReCraft]
