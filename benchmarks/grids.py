"""Table 4: taking grids apart, putting them together and saving them: seconds and peak memory."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from makeanything.animations import save_gif, save_webp
from makeanything.pictures import from_image, save_png, to_bytes
from makeanything.serpentine import Layout, compose, split, split_trimmed

from . import measure
from .measure import Reading, in_child
from .report import Table, mebibytes, milliseconds, verdict

LAYOUT = Layout.of(9)
FPS = 2.0
WEBP_QUALITY = 90


def make_grids(count: int, edge: int) -> Tensor:
    """Smooth pictures with a little grain, (B, edge, edge, 3): noise alone would not be compressed as pictures are."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 12, 12, generator=generator)
    smooth = F.interpolate(coarse, (edge, edge), mode="bilinear").movedim(1, -1)
    return torch.randn(smooth.shape, generator=generator).mul_(0.01).add_(smooth).clamp_(0, 1).contiguous()


def slice_apart(grids: Tensor) -> Tensor:
    """Every cell of every grid sliced out and stacked, as tiling nodes do."""
    return torch.stack([grid[_cell(grid.shape[0], frame)] for grid in grids for frame in range(LAYOUT.frames)])


def paste_together(frames: Tensor) -> Tensor:
    """Every frame (F, h, w, 3) pasted into an empty canvas."""
    edge = frames.shape[1] * LAYOUT.rows
    grids = torch.zeros(len(frames) // LAYOUT.frames, edge, edge, 3)
    for place, picture in enumerate(frames):
        grids[place // LAYOUT.frames][_cell(edge, place % LAYOUT.frames)] = picture
    return grids


def crop_apart(grids: Tensor) -> Tensor:
    """Through Pillow and back: 8 bits a channel."""
    frames = []
    for pixels in to_bytes(grids):
        image = Image.fromarray(pixels)
        boxes = LAYOUT.boxes(image.height, image.width)
        frames += [from_image(image.crop((box.left, box.top, box.right, box.bottom))) for box in boxes]
    return torch.stack(frames)


def crop_together(frames: Tensor) -> Tensor:
    grids = []
    edge = frames.shape[1] * LAYOUT.rows
    for sequence in to_bytes(frames).reshape(-1, LAYOUT.frames, *frames.shape[1:]):
        canvas = Image.new("RGB", (edge, edge))
        for frame, pixels in enumerate(sequence):
            box = LAYOUT.box(frame, edge, edge)
            canvas.paste(Image.fromarray(pixels), (box.left, box.top))
        grids.append(from_image(canvas))
    return torch.stack(grids)


def _cell(edge: int, frame: int) -> tuple[slice, slice]:
    box = LAYOUT.box(frame, edge, edge)
    return box.rows, box.cols


def _sequences(frames: Tensor) -> Tensor:
    return frames.unflatten(0, (-1, LAYOUT.frames))


def _each(save: Callable[[Tensor, Path], object]) -> Callable[[Tensor], object]:
    """Save every sequence into a temporary folder."""

    def run(frames: Tensor) -> object:
        with TemporaryDirectory() as folder:
            return [save(sequence, Path(folder, str(n))) for n, sequence in enumerate(_sequences(frames))]

    return run


def _pngs(sequence: Tensor, path: Path) -> None:
    for number, frame in enumerate(sequence):
        save_png(frame, f"{path}_{number}.png")


def _pillow_pngs(sequence: Tensor, path: Path) -> None:
    for number, pixels in enumerate(_pixels(sequence)):
        Image.fromarray(pixels).save(f"{path}_{number}.png", compress_level=4)


def _pillow_animation(kind: str) -> Callable[[Tensor, Path], None]:
    def save(sequence: Tensor, path: Path) -> None:
        first, *others = (Image.fromarray(pixels) for pixels in _pixels(sequence))
        options = {"quality": WEBP_QUALITY} if kind == "WEBP" else {}
        first.save(path, kind, save_all=True, append_images=others, duration=int(1000 / FPS), loop=0, **options)

    return save


def _pixels(sequence: Tensor) -> np.ndarray:
    return (sequence * 255).byte().numpy()


CASES: dict[str, Callable[[Tensor], object]] = {
    "split, this pack": lambda grids: split(grids, LAYOUT),
    "split, torch slices": slice_apart,
    "split, Pillow": crop_apart,
    "split without gutters, this pack": lambda grids: split_trimmed(grids, LAYOUT),
    "compose, this pack": lambda frames: compose(_sequences(frames), LAYOUT),
    "compose, torch slices": paste_together,
    "compose, Pillow": crop_together,
    "save PNG, this pack": _each(_pngs),
    "save PNG, Pillow": _each(_pillow_pngs),
    "save WebP, this pack": _each(lambda frames, path: save_webp(frames, path, FPS, quality=WEBP_QUALITY)),
    "save WebP, Pillow": _each(_pillow_animation("WEBP")),
    "save GIF, this pack": _each(lambda frames, path: save_gif(frames, path, FPS)),
    "save GIF, Pillow": _each(_pillow_animation("GIF")),
}
"""Those that split take grids (B, H, W, 3), the others frames (F, h, w, 3)."""

NO_COPY = ("split, this pack", "compose, this pack")


def table(
    rounds: int, edge: int = 1056, counts: Sequence[int] = (1, 8, 64), cases: Sequence[str] = tuple(CASES)
) -> Table:
    columns = (
        "",
        *(f"{what}, {n} grid{'s' * (n > 1)}" for n in counts for what in ("ms per grid", "peak MiB per grid")),
    )
    found = Table(f"4. Grids and frames ({edge} x {edge} px, 9 frames, float32)", columns)
    grid_bytes = edge * edge * 3 * torch.float32.itemsize
    targets = []
    for case in cases:
        # Pillow's files of many grids take minutes and say nothing new.
        done = [count for count in counts if not (case.startswith("save") and "Pillow" in case and count > 8)]
        readings = [in_child(__name__, case, count, edge, rounds) for count in done]
        seconds = [reading.seconds / count for reading, count in zip(readings, done, strict=True)]
        peaks = [reading.peak / count for reading, count in zip(readings, done, strict=True)]
        pairs = [(milliseconds(s), mebibytes(p)) for s, p in zip(seconds, peaks, strict=True)]
        pairs += [("-", "-")] * (len(counts) - len(done))
        found.rows.append((case, *(cell for pair in pairs for cell in pair)))
        if case in NO_COPY:
            what = f"{case}: a grid among {counts[-1]} costs one among {counts[-2]} x"
            targets.append(verdict(what, seconds[-1] / seconds[-2], 1.2))
            targets.append(verdict(f"{case}: peak memory is the result x", peaks[-1] / grid_bytes, 1.1))
    found.notes += targets
    found.notes.append(
        f"A grid is {mebibytes(grid_bytes)} MiB. A peak counts the result, not what came in. Slices and Pillow "
        "take the frames in the same order. Pillow rounds to 8 bits; in a GIF every frame gets a palette of its own. "
        "Frames are one batch in ComfyUI, so their pixels lie one frame after the other and a split copies once; a "
        "view serves for the tail."
    )
    return found


def run(case: str, count: int, edge: int, rounds: int) -> Reading:
    """The peak of the first run, before any memory can be used again, and the median of the times of all the others."""
    subject = make_grids(count, edge)
    if not case.startswith("split"):
        subject = slice_apart(subject)
    first = measure.measured(lambda: CASES[case](subject))
    # A long run needs no repeats to be steady.
    times = [measure.seconds_of(lambda: CASES[case](subject)) for _ in range(rounds if first.seconds < 2 else 0)]
    return Reading(statistics.median(times or [first.seconds]), first.disk, first.peak)


if __name__ == "__main__":
    measure.tell(run(sys.argv[1], *map(int, sys.argv[2:])))
