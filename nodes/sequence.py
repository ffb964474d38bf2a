"""Sequences in time: Animate Sequence and Save Sequence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import folder_paths
from comfy.cli_args import args
from comfy_api.latest import Input, InputImpl, Types, io, ui
from torch import Tensor

from ..makeanything import file_names
from ..makeanything.animations import WEBP_EDGE, save_gif, save_webp
from ..makeanything.foreign import need
from ..makeanything.pictures import digits, save_png
from ..makeanything.saving import numbered, saving
from ..makeanything.sequence import CROSSFADE, FPS, HOLD_LAST, check_times, even, timeline
from .browser.previews import frames_preview, shrink, temporary
from .inputs import CATEGORY
from .stopping import ask, counted

PREFIX = "MakeAnything"


def _time_inputs(hold_last: str) -> list[io.Input]:
    """`fps` and `hold_last`, the latter with this tooltip."""
    return [
        io.Float.Input("fps", default=2.0, min=FPS[0], max=FPS[1], step=0.1, tooltip="Frames shown per second."),
        io.Float.Input("hold_last", default=1.0, min=HOLD_LAST[0], max=HOLD_LAST[1], step=0.1, tooltip=hold_last),
    ]


class AnimateSequence(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MakeAnythingAnimateSequence",
            display_name="Animate Sequence",
            category=CATEGORY,
            description="Plays a sequence, and gives it as frames and as a video for Save Video.",
            search_aliases=["frames to video", "timelapse", "crossfade", "ping pong", "boomerang"],
            inputs=[
                io.Image.Input("frames", tooltip="Frames in time order."),
                *_time_inputs("Seconds that the finished picture stays longer, rounded to whole played frames."),
                io.Float.Input(
                    "crossfade",
                    default=0.0,
                    min=CROSSFADE[0],
                    max=CROSSFADE[1],
                    step=0.05,
                    display_mode=io.NumberDisplay.slider,
                    tooltip="Share of each frame's time in which it turns into the next: 0 cuts, 1 never stands still. "
                    "Above 0 the timeline gets at least 24 frames per second.",
                ),
                io.Boolean.Input(
                    "ping_pong", default=False, tooltip="Then back to the start, showing neither end twice: 1 2 3 2."
                ),
            ],
            outputs=[
                io.Image.Output("timeline", tooltip="Every played frame, held and blended ones too."),
                io.Video.Output("video", tooltip="For Save Video. An odd last row or column is left out."),
                io.Float.Output("fps", tooltip="Frames of the timeline shown per second, for Save Sequence."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls, frames: Input.Image, fps: float, hold_last: float, crossfade: float, ping_pong: bool
    ) -> io.NodeOutput:
        need(frames, Tensor, "frames")
        played, rate = timeline(frames, fps, hold_last, crossfade, ping_pong, ask)
        components = Types.VideoComponents(images=even(played), frame_rate=Fraction(rate).limit_denominator(1000))
        preview = temporary(f"{PREFIX}_animation", ".webp")
        save_webp(shrink(played, WEBP_EDGE), preview, rate, quality=85, step=ask)
        results = [ui.SavedResult(preview.name, "", io.FolderType.temp)]
        shown = ui.SavedImages(results, is_animated=len(played) > 1)
        return io.NodeOutput(played, InputImpl.VideoFromComponents(components), rate, ui=shown)


class SaveSequence(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MakeAnythingSaveSequence",
            display_name="Save Sequence",
            category=CATEGORY,
            description="Saves a sequence into the output folder: its frames, an animated GIF, an animated WebP. "
            "PNG and WebP open this workflow when dropped into ComfyUI.",
            search_aliases=["save frames", "save gif", "save webp", "export animation"],
            inputs=[
                io.Image.Input("frames", tooltip="Frames in time order."),
                io.String.Input(
                    "filename_prefix",
                    default=f"{PREFIX}/sequence",
                    tooltip="Start of the file names, with subfolders of the output folder. A number is added that no "
                    "file has yet; the files of one run share it.",
                ),
                io.Boolean.Input("png", default=True, tooltip="Every frame as a PNG file, without loss."),
                io.Boolean.Input("gif", default=True, tooltip="An animated GIF of 256 colours; plays everywhere."),
                io.Boolean.Input("webp", default=True, tooltip="An animated WebP: smaller, and in full colour."),
                *_time_inputs(
                    "Seconds that the last frame stays longer in GIF and WebP. Choose 0 for a timeline from Animate "
                    "Sequence, which holds it already."
                ),
                io.Boolean.Input("loop", default=True, tooltip="GIF and WebP start again at the end.", advanced=True),
            ],
            outputs=[
                io.Image.Output("frames", tooltip="The same frames."),
                io.String.Output("paths", is_output_list=True, tooltip="The files written, animations first."),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        frames: Input.Image,
        filename_prefix: str,
        png: bool,
        gif: bool,
        webp: bool,
        fps: float,
        hold_last: float,
        loop: bool,
    ) -> io.NodeOutput:
        need(frames, Tensor, "frames")
        file_names.check_prefix(filename_prefix)
        if not (png or gif or webp):
            raise ValueError("Save Sequence has nothing to save: switch on at least one of png, gif and webp.")
        fps, hold_last = check_times(frames, fps, hold_last)
        folder, name, counter, subfolder = _place(filename_prefix, frames)
        metadata = _metadata(cls.hidden)
        step = counted((png + gif + webp) * len(frames))
        paths: list[str] = []
        with numbered(folder, name, counter) as start, _all_or_none(paths):
            for wanted, ending, save in ((webp, "_.webp", save_webp), (gif, "_.gif", save_gif)):
                if wanted:
                    paths.append(f"{start}{ending}")
                    save(frames, paths[-1], fps, hold_last, loop=loop, metadata=metadata, step=step)
            for number, frame in enumerate(frames if png else (), 1):
                step(1)
                paths.append(f"{start}_{number:0{digits(len(frames))}}.png")
                save_png(frame, paths[-1], metadata)
        results = [ui.SavedResult(Path(path).name, subfolder, io.FolderType.output) for path in paths]
        # The frontend takes an animation without any WebP or PNG for a video, which a GIF is not.
        animated = len(frames) > 1 and (webp or (gif and png))
        saved = ui.SavedImages(results, is_animated=animated).as_dict()
        return io.NodeOutput(frames, paths, ui={**saved, **frames_preview(frames[None], fps=fps)})


@contextmanager
def _all_or_none(paths: list[str]) -> Iterator[None]:
    """Remove the files of a set that Cancel or a full disk stops.  Its number was reserved, so all of them are ours."""
    try:
        yield
    except BaseException:
        for path in paths:
            # The user is to see what stopped the set, not this.
            with suppress(OSError):
                Path(path).unlink(missing_ok=True)
        raise


def _place(prefix: str, frames: Input.Image) -> tuple[Path, str, int, str]:
    """(folder, start of the file names, the host's number for them, subfolder)."""
    # Without a name the host starts at 1 each time.
    if not prefix or prefix[-1] in "/\\":
        prefix += PREFIX
    with saving(prefix):
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            prefix, folder_paths.get_output_directory(), frames.shape[2], frames.shape[1]
        )
    return Path(folder), name, counter, subfolder


def _metadata(hidden: io.HiddenHolder) -> dict[str, str]:
    """What the stock nodes embed, so that a saved file opens as its workflow."""
    if args.disable_metadata:
        return {}
    # An API call may send anything here.
    extra = hidden.extra_pnginfo if isinstance(hidden.extra_pnginfo, dict) else {}
    found = {"prompt": hidden.prompt, **extra}
    # Names in PNG and EXIF must be ASCII.
    known = {name.encode("ascii", "backslashreplace").decode(): value for name, value in found.items()}
    return {name: json.dumps(value) for name, value in known.items() if value is not None}


NODES: list[type[io.ComfyNode]] = [AnimateSequence, SaveSequence]
