"""A sequence of frames in time, and how it is played."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .foreign import within
from .pictures import check, flatten
from .steps import Step, go_on

SMOOTH_FPS = 24
"""Crossfades are played at this rate at least, in frames per second."""
FPS = 0.1, 240.0
HOLD_LAST = 0.0, 60.0
CROSSFADE = 0.0, 1.0
"""The least and the most that a sequence is played with: frames per second, seconds, share of a frame's time."""

MOST_BYTES = 8 * 1024**3
"""Of a timeline."""


class Timeline(NamedTuple):
    """Played frames (N, h, w, 3), each shown for 1 / `fps` seconds."""

    frames: Tensor
    fps: float


def timeline(
    frames: Tensor,
    fps: float,
    hold_last: float = 0.0,
    crossfade: float = 0.0,
    ping_pong: bool = False,
    step: Step = go_on,
) -> Timeline:
    """Frames (F, h, w, C) as they are played at `fps` frames of the sequence a second.

    `hold_last`: seconds that the last frame stays longer, rounded to played frames.
    `crossfade`: the share (0..1) of each frame's time in which it turns linearly into the next.  Blends need more
        frames: with a crossfade every frame is played several times, so that the result has a higher rate.
    `ping_pong`: then back to the start, without showing either end twice: 1 2 3 2, 1 2 3 2 ...
    ValueError if a value is out of range, or the timeline would not fit into MOST_BYTES.
    """
    fps, hold_last = check_times(frames, fps, hold_last)
    crossfade = within(crossfade, *CROSSFADE, "crossfade")
    count = len(frames)
    order = [*range(count), *(range(count - 2, 0, -1) if ping_pong else ())]
    ticks = math.ceil(SMOOTH_FPS / fps) if crossfade else 1
    blends = round(crossfade * ticks)
    held = round(hold_last * fps * ticks)
    _check_length(frames, len(order) * ticks + held)
    frames = flatten(frames)
    played = []
    for place, now in enumerate(order):
        last = now == count - 1
        # Playing starts over after the end: only a ping-pong sequence meets its own start there.
        ends = place == len(order) - 1 and not (ping_pong and count > 1)
        steps = 0 if ends else min(blends, ticks - 1)
        after = frames[order[(place + 1) % len(order)]]
        played += [frames[now]] * (ticks - steps + (held if last else 0))
        for part in range(1, steps + 1):
            step(0)
            played.append(torch.lerp(frames[now], after, part / (steps + 1)))
    return Timeline(torch.stack(played), fps * ticks)


def check_times(frames: Tensor, fps: float, hold_last: float) -> tuple[float, float]:
    """`fps` and `hold_last`; ValueError unless they are within FPS and HOLD_LAST, and frames are (F, h, w, C)."""
    check(frames)
    return within(fps, *FPS, "fps"), within(hold_last, *HOLD_LAST, "hold_last")


def even(frames: Tensor) -> Tensor:
    """Frames (F, h, w, 3) without an odd last row or column; a single one is doubled.

    H.264 encodes blocks of 2 x 2 pixels, and trimmed frames are often odd.
    """
    for axis in (1, 2):
        edge = frames.shape[axis]
        frames = frames.narrow(axis, 0, edge // 2 * 2) if edge > 1 else frames.repeat_interleave(2, axis)
    return frames


def _check_length(frames: Tensor, count: int) -> None:
    _, height, width, _ = frames.shape
    size = count * height * width * 3 * frames.element_size()
    if size > MOST_BYTES:
        raise ValueError(
            f"{count:,} played frames of {width} x {height} pixels take {size / 1024**3:,.0f} GiB of memory, and "
            f"{MOST_BYTES // 1024**3} are allowed; lower hold_last or crossfade, raise fps, or make the frames smaller"
        )
