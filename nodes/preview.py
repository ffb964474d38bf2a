"""Small pictures for the browser, beside a node's outputs: web/player.js plays them, web/recraft.js shows the fit.

They are temporary files of a bounded number and size, listed under keys of their own, so that the host's own previews
and outputs stay as they are.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from comfy.utils import common_upscale
from comfy_api.latest import io, ui
from torch import Tensor

from ..makeanything.pictures import flatten
from ..makeanything.serpentine import Layout

EDGE = 512
"""Longest edge in pixels of a shown frame."""

PIXELS = 6 * 1024 * 1024
"""All shown frames of a node together; more frames are shown smaller."""

MOST_FRAMES = 256
"""Shown frames of a sequence; of a longer one, as many spread evenly from the first to the last."""

MOST_SEQUENCES = 64

Preview = dict[str, list[dict[str, Any]]]


def frames_preview(sequences: Tensor, layout: Layout | None = None, **more: Any) -> Preview:
    """Sequences (B, F, h, w, C) -> what a node's `ui` sends to the frame player: one sheet of frames a sequence.

    Each entry is a temporary picture with its frames in reading order, `columns` in a row.  `frames` is F and `shown`
    the number of frames on the sheet: sheet frame i is frame i * (F - 1) // (shown - 1).  `rows` and `cols` are the
    grid's, where it is known; `more` is sent as it is.
    """
    sequences = sequences[:MOST_SEQUENCES]
    count, frames = sequences.shape[:2]
    shown = min(frames, MOST_FRAMES)
    picked = [index * (frames - 1) // max(shown - 1, 1) for index in range(shown)]
    edge = min(EDGE, math.isqrt(PIXELS // max(count * shown, 1)))
    columns = math.isqrt(max(shown - 1, 0)) + 1
    grid = {} if layout is None else {"rows": layout.rows, "cols": layout.cols}
    facts = {"frames": frames, "shown": shown, "columns": columns, **grid, **more}
    sheets = [_sheet(_shrink(sequence[picked], edge), columns) for sequence in sequences if shown]
    return {"makeanything_frames": [{**file, **facts} for file in _save(sheets, "MakeAnything_frames")]}


def fit_preview(pictures: Tensor, height: int, width: int) -> Preview:
    """Pictures (B, H, W, C) and the cell's size in pixels -> what ReCraft's `ui` sends: the first picture, unfitted."""
    size = {"picture": [pictures.shape[2], pictures.shape[1]], "cell": [width, height]}
    return {"makeanything_fit": [{**file, **size} for file in _save(_shrink(pictures[:1], EDGE), "MakeAnything_fit")]}


def _shrink(frames: Tensor, edge: int) -> Tensor:
    """Frames (F, h, w, C) -> colours (F, h', w', 3), no edge longer than `edge`."""
    height, width = frames.shape[1:3]
    factor = min(edge / max(height, width), 1)
    size = (max(round(width * factor), 1), max(round(height * factor), 1))
    colours = flatten(frames).float().movedim(-1, 1)
    return common_upscale(colours, *size, "area", "disabled").movedim(1, -1)


def _sheet(frames: Tensor, columns: int) -> Tensor:
    """Frames (F, h, w, 3) -> one picture with `columns` of them in a row; places without a frame are black."""
    count, height, width, channels = frames.shape
    rows = math.ceil(count / columns)
    padded = torch.cat([frames, frames.new_zeros(rows * columns - count, height, width, channels)])
    return padded.unflatten(0, (rows, columns)).transpose(1, 2).reshape(rows * height, columns * width, channels)


def _save(pictures: Tensor | list[Tensor], name: str) -> list[ui.SavedResult]:
    """Temporary PNG files of pictures (h, w, 3)."""
    if not len(pictures):
        return []
    return ui.ImageSaveHelper.save_images(pictures, name, io.FolderType.temp, cls=None, compress_level=1)
