"""A sequence of frames in time: how it is played, and saved as an animated GIF or WebP."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .files import atomic
from .pictures import Metadata, flatten, to_bytes

SMOOTH_FPS = 24
"""Crossfades are played at this rate at least, in frames a second."""

GIF_TICK_MS = 10
GIF_SHORTEST_MS = 20
"""GIF delays count hundredths of a second, and players slow down shorter ones than this."""

_PALETTE_PIXELS = 2_000_000
_BAYER = np.array(((0, 8, 2, 10), (12, 4, 14, 6), (3, 11, 1, 9), (15, 7, 13, 5)))
_DITHER = ((_BAYER + 0.5) / 16 - 0.5) * 8
"""Of 256 levels; more shows as a mesh in flat areas, less leaves bands in smooth ones."""

_EXIF_MODEL = 0x0110


class Timeline(NamedTuple):
    """Played frames (N, h, w, 3), each shown for 1 / `fps` seconds."""

    frames: Tensor
    fps: float


def timeline(
    frames: Tensor, fps: float, hold_last: float = 0.0, crossfade: float = 0.0, ping_pong: bool = False
) -> Timeline:
    """Frames (F, h, w, C) as they are played at `fps` frames of the sequence a second.

    `hold_last`: seconds that the last frame stays longer, rounded to played frames.
    `crossfade`: the share (0..1) of each frame's time in which it turns linearly into the next.  Blends need more
        frames: with a crossfade every frame is played several times, so that the result has a higher rate.
    `ping_pong`: then back to the start, without showing either end twice: 1 2 3 2, 1 2 3 2 ...
    ValueError if a value is out of range.
    """
    _check_frames(frames, fps, hold_last)
    if not 0 <= crossfade <= 1:
        raise ValueError(f"crossfade is a share of a frame's time from 0 to 1, got {crossfade}")
    count = len(frames)
    order = [*range(count), *(range(count - 2, 0, -1) if ping_pong else ())]
    ticks = math.ceil(SMOOTH_FPS / fps) if crossfade else 1
    blends = round(crossfade * ticks)
    held = round(hold_last * fps * ticks)
    frames = flatten(frames)
    played = []
    for place, now in enumerate(order):
        last = now == count - 1
        # Playing starts over after the end: only a ping-pong sequence meets its own start there.
        ends = place == len(order) - 1 and not (ping_pong and count > 1)
        steps = 0 if ends else min(blends, ticks - 1)
        after = frames[order[(place + 1) % len(order)]]
        played += [frames[now]] * (ticks - steps + (held if last else 0))
        played += [torch.lerp(frames[now], after, step / (steps + 1)) for step in range(1, steps + 1)]
    return Timeline(torch.stack(played), fps * ticks)


def save_gif(
    frames: Tensor,
    path: str | os.PathLike[str],
    fps: float,
    hold_last: float = 0.0,
    *,
    loop: bool = True,
    metadata: Metadata | None = None,
    step: Callable[[], None] = lambda: None,
) -> None:
    """Save frames (F, h, w, C) as a GIF whose frames share one palette, atomically; metadata as JSON in its comment.

    `hold_last`: seconds that the last frame stays longer.  `step` is called once a frame, and may raise to stop.
    """
    shots = _shots(frames, fps, hold_last, GIF_TICK_MS, GIF_SHORTEST_MS)
    palette = _palette([pixels for pixels, _ in shots])
    images = []
    for pixels, _ in shots:
        images.append(_dithered(pixels).quantize(palette=palette, dither=Image.Dither.NONE))
        step()
    options = {"loop": 0} if loop else {}
    comment = {"comment": json.dumps(dict(metadata)).encode()} if metadata else {}
    # Told of the palette, Pillow writes it once, not in every frame; optimize writes only the pixels that change.
    colours = bytes(palette.getpalette() or ())
    _save(images, path, "GIF", [ms for _, ms in shots], palette=colours, optimize=True, **options, **comment)


def save_webp(
    frames: Tensor,
    path: str | os.PathLike[str],
    fps: float,
    hold_last: float = 0.0,
    *,
    loop: bool = True,
    quality: int = 90,
    metadata: Metadata | None = None,
    step: Callable[[], None] = lambda: None,
) -> None:
    """Save frames (F, h, w, C) as an animated WebP, atomically; metadata (ASCII) in EXIF, where ComfyUI looks for it.

    `hold_last` and `step` as in `save_gif`.
    """
    images, durations = [], []
    for pixels, ms in _shots(frames, fps, hold_last, 1, 1):
        images.append(Image.fromarray(pixels))
        durations.append(ms)
        step()
    exif = Image.Exif()
    # ComfyUI reads "name:text" from any tag and writes them from Model downwards.
    for place, (name, text) in enumerate((metadata or {}).items()):
        exif[_EXIF_MODEL - place] = f"{name}:{text}"
    _save(images, path, "WEBP", durations, loop=0 if loop else 1, quality=quality, exif=exif)


def _check_frames(frames: Tensor, fps: float, hold_last: float) -> None:
    if frames.ndim != 4 or not len(frames):
        raise ValueError(f"a sequence is one or more pictures (F, h, w, C), got {tuple(frames.shape)}")
    if not 0 < fps < math.inf:
        raise ValueError(f"fps must be above 0 frames a second, got {fps}")
    if not 0 <= hold_last < math.inf:
        raise ValueError(f"the last frame can't be held for {hold_last} seconds")


def _shots(frames: Tensor, fps: float, hold_last: float, tick: int, shortest: int) -> list[tuple[np.ndarray, int]]:
    """Pixels (h, w, 3) and milliseconds of every frame to write.

    Frames that look the same are one shot, as a held frame is.  Times are rounded to ticks from the start, so that
    the rounding does not add up; a frame shorter than `shortest` is left out, except the last.
    """
    _check_frames(frames, fps, hold_last)
    pixels = to_bytes(flatten(frames))
    last = len(pixels) - 1
    shots = []
    start = 0
    for place, now in enumerate(pixels):
        if place < last and np.array_equal(now, pixels[place + 1]):
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
    images: list[Image.Image], path: str | os.PathLike[str], kind: str, durations: list[int], **options: object
) -> None:
    with atomic(path) as temporary:
        images[0].save(temporary, format=kind, save_all=True, append_images=images[1:], duration=durations, **options)
