"""Which frames of a long sequence show how a thing is made: evenly spread, or by how much the picture changes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from makeanything.foreign import brief

from .sources import Frame

STILL = 0.1
"""Mean difference of grey thumbnails, of 255, below which nothing has happened.  Compression makes up to 0.06."""
MOST = 1024
"""Thumbnails kept of one sequence, however long it is; even."""
PASSING = 9
"""Thumbnails in a row (odd): what is seen in fewer than half of them, such as a hand, is not part of the picture."""


@dataclass(frozen=True)
class Skip:
    """An intro or outro: so many frames, or so many seconds where the source has a clock."""

    amount: float = 0
    in_seconds: bool = False

    @classmethod
    def parse(cls, text: str) -> Skip:
        """`90` frames or `2.5s`."""
        match = re.fullmatch(r"(?:([0-9]{1,9})|([0-9]{1,9}(?:\.[0-9]{1,9})?)s)", text.strip())
        if not match:
            raise ValueError(f"an intro or outro is so many frames or seconds, such as 90 or 2.5s; got '{brief(text)}'")
        return cls(float(match[1] or match[2]), in_seconds=match[1] is None)

    def count(self, elapsed: Iterable[float]) -> int:
        """How many frames to skip; `elapsed` is every frame's distance in seconds from the end that is skipped."""
        return sum(seconds < self.amount for seconds in elapsed) if self.in_seconds else int(self.amount)


@dataclass(frozen=True)
class Picking:
    """`by_change`: every step shows about as much change; else frames are spread evenly.  First and last are always in.

    `reverse`: the sequence begins with the finished picture.
    """

    by_change: bool = False
    reverse: bool = False
    skip_start: Skip = Skip()
    skip_end: Skip = Skip()

    def choose(self, frames: Iterable[Frame], count: int) -> list[int]:
        """Indices of `count` of the frames, ascending.  ValueError when there are too few (different) ones."""
        times: list[float | None] = []
        thumbnails = Thumbnails()
        for index, frame in enumerate(frames):
            times.append(frame.seconds)
            if self.by_change:
                thumbnails.add(frame, index)
        span = self._span(times)
        if len(span) < count:
            skipped = f", after skipping {len(times) - len(span)}" if len(span) < len(times) else ""
            raise ValueError(f"it is too short: {len(span)} of the {count} frames that a grid holds{skipped}")
        if count == 1:
            return [span[-1]]
        # Of just as many as are needed, none can be left out.
        evenly = not self.by_change or len(span) == count
        return spread_evenly(span, count) if evenly else thumbnails.choose(span, count)

    def _span(self, times: Sequence[float | None]) -> range:
        """The frames that are neither intro nor outro."""
        clock = [seconds for seconds in times if seconds is not None]
        start = self.skip_start.count(seconds - clock[0] for seconds in clock)
        end = self.skip_end.count(clock[-1] - seconds for seconds in clock)
        return range(start, max(len(times) - end, start))


def spread_evenly(span: range, count: int) -> list[int]:
    """`count` (at least 2) of the indices, from the first to the last."""
    return [span[round(step * (len(span) - 1) / (count - 1))] for step in range(count)]


class Thumbnails:
    """Of a sequence of any length, from `MOST` / 2 to `MOST` thumbnails at even distances."""

    def __init__(self) -> None:
        self._kept: list[np.ndarray] = []
        self._stride = 1

    def add(self, frame: Frame, index: int) -> None:
        """Frames come in order, their index from 0."""
        if index % self._stride:
            return
        if len(self._kept) == MOST:
            self._kept, self._stride = self._kept[::2], self._stride * 2
            if index % self._stride:
                return
        self._kept.append(frame.thumbnail())

    def choose(self, span: range, count: int) -> list[int]:
        """`count` (at least 2) frames of the span, the first and the last among them."""
        first, last = span[0] // self._stride, span[-1] // self._stride
        indices = [max(place * self._stride, span[0]) for place in range(first, last + 1)]
        chosen = spread_change(np.stack(self._kept[first : last + 1]), count)
        return [*(indices[place] for place in chosen[:-1]), span[-1]]


def spread_change(thumbnails: np.ndarray, count: int) -> list[int]:
    """`count` of the thumbnails (T, h, w), the first and the last among them, with steps of about equal change.

    Passing things (a hand, a flash) do not count as change, and frames that show them are avoided.  ValueError when the
    picture does not change often enough.
    """
    lasting = _without_passing(thumbnails)
    change = _change(lasting)
    if len(different := np.unique(change)) < count:
        raise ValueError(f"it changes too little: {len(different)} of the {count} different frames that a grid holds")
    step = change[-1] / (count - 1)
    passing = np.abs(thumbnails - lasting).mean((1, 2)) / step
    steps = (change[None] - change[:, None]) / step
    cost = np.where(steps > 0, (steps - 1) ** 2 + passing[None], np.inf)
    # The cheapest path of count - 1 steps from the first frame to the last.
    best = np.where(np.arange(len(cost)) == 0, 0.0, np.inf)
    origins = []
    for _ in range(count - 1):
        totals = best[:, None] + cost
        origins.append(totals.argmin(0))
        best = totals.min(0)
    path = [len(cost) - 1]
    for origin in reversed(origins):
        path.append(int(origin[path[-1]]))
    return path[::-1]


def _without_passing(thumbnails: np.ndarray) -> np.ndarray:
    """Every pixel's median over its neighbours in time; what only ever grows or fades stays as it is."""
    reach = PASSING // 2
    padded = np.pad(thumbnails, ((reach, reach), (0, 0), (0, 0)), mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, PASSING, axis=0), axis=-1)


def _change(thumbnails: np.ndarray) -> np.ndarray:
    """(T,): how much has changed since the first thumbnail, added up over all visible changes."""
    changes, before = [0.0], thumbnails[0]
    for thumbnail in thumbnails[1:]:
        change = np.abs(thumbnail - before).mean()
        visible = change >= STILL
        changes.append(changes[-1] + (change if visible else 0))
        before = thumbnail if visible else before
    return np.array(changes)
