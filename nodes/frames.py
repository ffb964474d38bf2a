"""Grids and frames: Split Frames, Compose Grid and Contact Sheet."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import Input, io
from torch import Tensor

from ..makeanything import serpentine
from ..makeanything.contact_sheet import MOST_COLUMNS, contact_sheet
from ..makeanything.domains import Domain
from ..makeanything.foreign import need
from ..makeanything.pictures import check
from .browser.previews import frames_preview
from .inputs import CATEGORY, layout_inputs, read_layout
from .stopping import ask


class SplitFrames(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MakeAnythingSplitFrames",
            display_name="Split Frames",
            category=CATEGORY,
            description="Takes making-of grids apart into their frames, first step first.",
            search_aliases=["split grid", "grid to frames", "serpentine", "uncollage", "sprite sheet"],
            inputs=[
                io.Image.Input("grids", tooltip="One or more grids, each a whole sequence in one picture."),
                *layout_inputs(),
                io.Boolean.Input(
                    "trim_gutters",
                    default=True,
                    tooltip="Cut off the dark lines between the cells; all frames lose the same few pixels. Off: cut "
                    "into equal cells, which Compose Grid puts together again exactly.",
                ),
            ],
            outputs=[
                io.Image.Output("frames", tooltip="All frames in time order, grid after grid."),
                io.Image.Output("tail", tooltip="The last frame of each grid: the finished picture."),
                io.Int.Output("count", tooltip="Number of frames in each grid."),
            ],
            # The frames play in the node, whether or not anything follows.
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        grids: Input.Image,
        trim_gutters: bool,
        layout: dict[str, Any] | None = None,
        domain: Domain | None = None,
    ) -> io.NodeOutput:
        need(grids, Tensor, "grids")
        check(grids)
        chosen = read_layout(layout, domain)
        split = serpentine.split_trimmed if trim_gutters else serpentine.split
        frames = split(grids, chosen, ask)
        outputs = (frames.flatten(0, 1), frames[:, chosen.tail], chosen.frames)
        return io.NodeOutput(*outputs, ui=frames_preview(frames, chosen))


class ComposeGrid(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MakeAnythingComposeGrid",
            display_name="Compose Grid",
            category=CATEGORY,
            description="Puts frames together into making-of grids, in the order MakeAnything draws them.",
            search_aliases=["frames to grid", "serpentine", "collage", "sprite sheet"],
            inputs=[
                io.Image.Input("frames", tooltip="Frames in time order; several sequences follow one another."),
                *layout_inputs(),
            ],
            outputs=[io.Image.Output("grids", tooltip="Each sequence as one picture.")],
        )

    @classmethod
    def execute(
        cls, frames: Input.Image, layout: dict[str, Any] | None = None, domain: Domain | None = None
    ) -> io.NodeOutput:
        need(frames, Tensor, "frames")
        check(frames)
        chosen = read_layout(layout, domain)
        if len(frames) % chosen.frames:
            raise ValueError(
                f"{len(frames)} frames do not fill {chosen} grids of {chosen.frames} frames each; "
                "is the layout that of another number of frames, or is a frame missing?"
            )
        return io.NodeOutput(serpentine.compose(frames.unflatten(0, (-1, chosen.frames)), chosen, ask))


class ContactSheet(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MakeAnythingContactSheet",
            display_name="Contact Sheet",
            category=CATEGORY,
            description="Lays all frames out on one page in reading order, with numbers and captions: a tutorial page.",
            search_aliases=["image grid", "tutorial", "captions", "storyboard", "overview"],
            inputs=[
                io.Image.Input("frames", tooltip="Frames in time order."),
                io.String.Input(
                    "captions",
                    multiline=True,
                    default="",
                    tooltip="One caption per line, first frame first; an empty line leaves its frame without. The font "
                    "has the letters A to Z, without accents.",
                ),
                io.Boolean.Input("numbered", default=True, tooltip="Number the frames from 1."),
                io.Int.Input(
                    "columns", default=0, min=0, max=MOST_COLUMNS, tooltip="Frames in a row; 0 chooses by their number."
                ),
            ],
            outputs=[io.Image.Output("sheet", tooltip="The page, one picture.")],
        )

    @classmethod
    def execute(cls, frames: Input.Image, captions: str, numbered: bool, columns: int) -> io.NodeOutput:
        need(frames, Tensor, "frames")
        return io.NodeOutput(contact_sheet(frames, columns, captions.rstrip().splitlines(), numbered, ask)[None])


NODES: list[type[io.ComfyNode]] = [SplitFrames, ComposeGrid, ContactSheet]
