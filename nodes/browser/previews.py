"""Small pictures that nodes send to the browser: web/player.js plays frames, web/recraft.js shows how a picture fits.

They are temporary files, limited in number and size.  They have keys of their own, so that the host's previews and
outputs stay as they are.
"""

from __future__ import annotations

import math
import uuid
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy.utils import common_upscale
from comfy_api.latest import io, ui
from torch import Tensor

from ...makeanything.pictures import flatten, save_png
from ...makeanything.saving import make_folder
from ...makeanything.serpentine import Layout
from ..stopping import ask

EDGE = 512
"""Longest edge in pixels of a shown frame."""

PIXELS = 6 * 1024 * 1024
"""Of all shown frames of a node together; more frames are shown smaller."""

MOST_FRAMES = 256
"""Shown frames of a sequence; of a longer sequence, this many are shown, spread evenly from the first to the last."""

MOST_SEQUENCES = 64

Preview = dict[str, list[dict[str, Any]]]


def frames_preview(sequences: Tensor, layout: Layout | None = None, **more: Any) -> Preview:
    """Sequences (B, F, h, w, C) -> what a node's `ui` sends to the frame player: one sheet of frames per sequence.

    Each entry is a temporary picture with its frames in reading order, `columns` in a row.  `frames` is F and `shown`
    the number of frames on the sheet: sheet frame i is frame i * (F - 1) // (shown - 1).  `rows` and `cols` are the
    grid's, where it is known; `more` is sent as it is.
    """
    sequences = sequences[:MOST_SEQUENCES]
    count, frames = sequences.shape[:2]
    shown = min(frames, MOST_FRAMES)
    picked = [index * (frames - 1) // max(shown - 1, 1) for index in range(shown)]
    edge = min(EDGE, math.isqrt(PIXELS // (count * shown)))
    columns = math.isqrt(shown - 1) + 1
    grid = {} if layout is None else {"rows": layout.rows, "cols": layout.cols}
    facts = {"frames": frames, "shown": shown, "columns": columns, **grid, **more}
    sheets = []
    for sequence in sequences:
        ask(0)
        sheets.append(_sheet(shrink(sequence[picked], edge), columns))
    return {"makeanything_frames": [{**file, **facts} for file in _save(sheets, "MakeAnything_frames")]}


def fit_preview(pictures: Tensor, height: int, width: int) -> Preview:
    """Pictures (B, H, W, C) and the cell's size in pixels -> what ReCraft's `ui` sends: the first picture, unfitted."""
    size = {"picture": [pictures.shape[2], pictures.shape[1]], "cell": [width, height]}
    return {"makeanything_fit": [{**file, **size} for file in _save(shrink(pictures[:1], EDGE), "MakeAnything_fit")]}


def shrink(frames: Tensor, edge: int) -> Tensor:
    """Frames (F, h, w, C) -> colours (F, h', w', 3), no edge longer than `edge`."""
    height, width = frames.shape[1:3]
    if max(height, width) <= edge:
        return flatten(frames)
    factor = edge / max(height, width)
    size = (max(round(width * factor), 1), max(round(height * factor), 1))
    colours = flatten(frames).float().movedim(-1, 1)
    return common_upscale(colours, *size, "area", "disabled").movedim(1, -1)


def _sheet(frames: Tensor, columns: int) -> Tensor:
    """Frames (F, h, w, 3) -> one picture with `columns` frames per row; places without a frame are black."""
    count, height, width, channels = frames.shape
    rows = math.ceil(count / columns)
    padded = torch.cat([frames, frames.new_zeros(rows * columns - count, height, width, channels)])
    return padded.unflatten(0, (rows, columns)).transpose(1, 2).reshape(rows * height, columns * width, channels)


def _save(pictures: Tensor | list[Tensor], name: str) -> list[ui.SavedResult]:
    """Temporary PNG files of pictures (h, w, 3)."""
    results = []
    for picture in pictures:
        path = temporary(name, ".png")
        save_png(picture, path, compress_level=1)
        results.append(ui.SavedResult(path.name, "", io.FolderType.temp))
    return results


def temporary(name: str, suffix: str) -> Path:
    """A path in the host's temporary folder, with a name that no other process uses."""
    folder = Path(folder_paths.get_temp_directory())
    make_folder(folder)
    return folder / f"{name}_{uuid.uuid4().hex}{suffix}"
