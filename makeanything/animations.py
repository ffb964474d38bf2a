"""A sequence saved as an animated GIF or WebP."""

from __future__ import annotations

import json
import math
import os
from functools import partial
from itertools import chain
from typing import IO, cast

import numpy as np
from PIL import Image, TiffTags
from torch import Tensor

from .pictures import Metadata, flatten, to_bytes
from .saving import atomic
from .sequence import check_times
from .steps import Step, go_on

GIF_TICK_MS = 10
GIF_SHORTEST_MS = 20
"""GIF delays count hundredths of a second, and players slow down shorter ones than this."""

WEBP_EDGE = 16_383
"""Longest edge of a WebP in pixels."""
_GIF_EDGE = 65_535

_PALETTE_PIXELS = 2_000_000
_BAYER = np.array(((0, 8, 2, 10), (12, 4, 14, 6), (3, 11, 1, 9), (15, 7, 13, 5)))
_DITHER = ((_BAYER + 0.5) / 16 - 0.5) * 8
"""Of 256 levels; more shows as a mesh in flat areas, less leaves bands in smooth ones."""

_EXIF_MODEL = 0x0110


def save_gif(
    frames: Tensor,
    path: str | os.PathLike[str],
    fps: float,
    hold_last: float = 0.0,
    *,
    loop: bool = True,
    metadata: Metadata | None = None,
    step: Step = go_on,
) -> None:
    """Save frames (F, h, w, C) as a GIF whose frames share one palette, atomically; metadata as JSON in its comment.

    `hold_last`: seconds that the last frame stays longer.  `step` counts the frames that were encoded.
    ValueError for values out of range, and for frames that are too large for the format.
    """
    _check_edges(frames, "GIF", _GIF_EDGE)
    shots = _shots(frames, fps, hold_last, GIF_TICK_MS, GIF_SHORTEST_MS, step)
    palette = _palette([pixels for pixels, _ in shots])
    images = []
    for pixels, _ in shots:
        step(0)
        images.append(_dithered(pixels).quantize(palette=palette, dither=Image.Dither.NONE))
    options = {"loop": 0} if loop else {}
    comment = {"comment": json.dumps(dict(metadata)).encode()} if metadata else {}
    # With the palette given, Pillow writes it once, not in every frame; optimize writes only pixels that change.
    colours = bytes(palette.getpalette() or ())
    _save(images, path, "GIF", [ms for _, ms in shots], step, palette=colours, optimize=True, **options, **comment)


def save_webp(
    frames: Tensor,
    path: str | os.PathLike[str],
    fps: float,
    hold_last: float = 0.0,
    *,
    loop: bool = True,
    quality: int = 90,
    metadata: Metadata | None = None,
    step: Step = go_on,
) -> None:
    """Save frames (F, h, w, C) as an animated WebP, atomically; metadata (ASCII) in EXIF, where ComfyUI looks for it.

    The rest as in `save_gif`.
    """
    _check_edges(frames, "WebP", WEBP_EDGE)
    shots = _shots(frames, fps, hold_last, 1, 1, step)
    images = [Image.fromarray(pixels) for pixels, _ in shots]
    options = {"loop": 0 if loop else 1, "quality": quality, "exif": _exif(metadata or {})}
    _save(images, path, "WEBP", [ms for _, ms in shots], step, **options)


def _exif(metadata: Metadata) -> Image.Exif:
    """ComfyUI reads "name:text" from any tag that holds text, and writes them from Model downwards."""
    exif = Image.Exif()
    free = chain(range(_EXIF_MODEL, 0, -1), range(_EXIF_MODEL + 1, 0x10000))
    tags = (tag for tag in free if TiffTags.lookup(tag).type in (None, TiffTags.ASCII))
    for tag, (name, text) in zip(tags, metadata.items(), strict=False):
        exif[tag] = f"{name}:{text}"
    return exif


def _check_edges(frames: Tensor, kind: str, most: int) -> None:
    if frames.ndim == 4 and max(frames.shape[1:3]) > most:
        raise ValueError(
            f"a {kind} has at most {most:,} pixels in a row or column, these frames have {frames.shape[2]:,} x "
            f"{frames.shape[1]:,}; save PNG files, or make the frames smaller"
        )


def _shots(
    frames: Tensor, fps: float, hold_last: float, tick: int, shortest: int, step: Step
) -> list[tuple[np.ndarray, int]]:
    """Pixels (h, w, 3) and milliseconds of every frame to write.

    Frames that look the same are one shot, as a held frame is.  Times are rounded to ticks from the start, so that
    the rounding does not add up; a frame shorter than `shortest` is left out, except the last.
    """
    check_times(frames, fps, hold_last)
    last = len(frames) - 1
    shots = []
    start = 0
    upcoming = to_bytes(flatten(frames[0]))
    for place in range(len(frames)):
        step(0)
        now, upcoming = upcoming, to_bytes(flatten(frames[min(place + 1, last)]))
        if place < last and np.array_equal(now, upcoming):
            continue
        seconds = (place + 1) / fps + (hold_last if place == last else 0)
        lasting = round(seconds * 1000 / tick) * tick - start
        if lasting < shortest and place < last:
            continue
        shots.append((now, max(lasting, shortest)))
        start += lasting
    return shots


def _palette(shots: list[np.ndarray]) -> Image.Image:
    """An image whose palette of 256 colours fits all shots together."""
    stride = math.ceil(math.sqrt(sum(shot[..., 0].size for shot in shots) / _PALETTE_PIXELS))
    strip = np.concatenate([shot[::stride, ::stride] for shot in shots])
    # Measured on real grids: half the error of median cut, which greys out small bright spots, and much faster.
    return Image.fromarray(strip).quantize(256, Image.Quantize.FASTOCTREE)


def _dithered(pixels: np.ndarray) -> Image.Image:
    """Ordered dithering: unlike error diffusion it depends on the place alone, so what stays still does not flicker."""
    height, width, _ = pixels.shape
    pattern = np.tile(_DITHER, (height // 4 + 1, width // 4 + 1))[:height, :width, None]
    return Image.fromarray((pixels + pattern).clip(0, 255).round().astype(np.uint8))


def _save(
    images: list[Image.Image],
    path: str | os.PathLike[str],
    kind: str,
    durations: list[int],
    step: Step,
    **options: object,
) -> None:
    # Pillow can't be told to stop, but it seeks in each image before it encodes it, and then writes.
    for image in images:
        image.seek = partial(_seek, image, step, 1)  # type: ignore[method-assign]
    with atomic(path) as temporary, temporary.open("wb") as file:
        stoppable = cast(IO[bytes], _Stoppable(file, step))
        images[0].save(stoppable, format=kind, save_all=True, append_images=images[1:], duration=durations, **options)


def _seek(image: Image.Image, step: Step, done: int, frame: int) -> None:
    image.seek = partial(_seek, image, step, 0)  # type: ignore[method-assign]
    step(done)
    Image.Image.seek(image, frame)


class _Stoppable:
    """A file that asks at every write whether to go on."""

    def __init__(self, file: IO[bytes], step: Step) -> None:
        self.file, self.step = file, step

    def write(self, data: bytes) -> int:
        self.step(0)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()
