"""The Empty Grid node: latents of the size that a grid of frames needs."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from comfy_extras.nodes_sd3 import EmptySD3LatentImage

from ..makeanything.domains import Domain
from ..makeanything.foreign import within
from ..makeanything.serpentine import PIXELS_PER_TOKEN, Layout
from .inputs import CATEGORY, layout_inputs, read_layout

CELL = 0, 2048
BATCH = 1, 64
"""The least and the most of the inputs."""


class EmptyGrid(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MakeAnythingEmptyGrid",
            display_name="Empty Grid",
            category=CATEGORY,
            description="Empty latents of the right size for a grid of frames.",
            search_aliases=["makeanything", "empty latent", "making of size"],
            inputs=[
                *layout_inputs(),
                io.Int.Input(
                    "cell",
                    default=0,
                    min=CELL[0],
                    max=CELL[1],
                    step=PIXELS_PER_TOKEN,
                    tooltip="Edge of a frame in pixels, a multiple of 16. 0 is what FLUX.1-dev learned: 352 for 3x3, "
                    "512 for 2x2. FLUX-nano wants 64 for 3x3, 96 for 2x2.",
                ),
                io.Int.Input("batch_size", default=1, min=BATCH[0], max=BATCH[1], tooltip="How many grids to draw."),
            ],
            outputs=[io.Latent.Output(tooltip="For the sampler, or for ReCraft.")],
        )

    @classmethod
    def execute(
        cls, cell: int, batch_size: int, layout: dict[str, Any] | None = None, domain: Domain | None = None
    ) -> io.NodeOutput:
        grid = read_layout(layout, domain)
        edge = within(cell, *CELL, "cell") or grid.standard_cell
        if edge % PIXELS_PER_TOKEN:
            raise ValueError(
                f"A frame of {edge} pixels can't be drawn; the edge must be a multiple of {PIXELS_PER_TOKEN}, "
                f"such as {max(round(edge / PIXELS_PER_TOKEN), 1) * PIXELS_PER_TOKEN}."
            )
        return io.NodeOutput(empty_grid(grid, edge, within(batch_size, *BATCH, "batch_size")))


def empty_grid(layout: Layout, cell: int, batch: int) -> dict[str, Any]:
    """LATENT of `batch` empty grids, with cells of `cell` pixels.

    The stock node makes it, as it knows the device, dtype and extra entries that this version of the host needs.
    """
    made = EmptySD3LatentImage.execute(width=layout.cols * cell, height=layout.rows * cell, batch_size=batch)
    return made[0]


NODES: list[type[io.ComfyNode]] = [EmptyGrid]
