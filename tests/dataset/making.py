"""Sequences to make datasets of, whose frames carry their number as brightness, and what became of them."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from training.data.sources import Frame

STEP = 7
"""Brightness from one frame to the next; codecs and resizing move it by less than 3."""


SMALL = "--size", "96"


EVERY_FOURTH = [0, 4, 8, 12, 16, 20, 24, 28, 32]


SNAKE = {9: (0, 1, 2, 5, 4, 3, 6, 7, 8), 4: (0, 1, 3, 2)}
"""Frames as they lie in a grid, row by row."""


def numbered(count: int, height: int = 48, width: int = 48) -> list[np.ndarray]:
    return [np.full((height, width, 3), 10 + STEP * number, np.uint8) for number in range(count)]


def write_video(
    path: Path, frames: Sequence[np.ndarray], codec: str = "libx264", millis: Sequence[int] = (), aspect: int = 1
) -> Path:
    options = {"cpu-used": "8", "deadline": "realtime"} if codec == "libvpx-vp9" else {"preset": "ultrafast"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(aspect)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if millis:
                frame.pts, frame.time_base = millis[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_animation(path: Path, frames: Sequence[np.ndarray], millis: int | list[int] = 40) -> Path:
    first, *rest = (Image.fromarray(pixels) for pixels in frames)
    lossless = {"lossless": True} if path.suffix == ".webp" else {}
    first.save(path, save_all=True, append_images=rest, duration=millis, **lossless)
    return path


def write_folder(path: Path, frames: Sequence[np.ndarray]) -> Path:
    """Names as people give them: 2 comes before 10."""
    path.mkdir(parents=True)
    for number, pixels in enumerate(frames, 1):
        Image.fromarray(pixels).save(path / f"step {number}.png")
    return path


def write_grid(path: Path, numbers: Sequence[int], cell: int = 32, gutter: int = 0) -> Path:
    """A grid whose cells, row by row, have these numbers' brightness."""
    edge = round(len(numbers) ** 0.5)
    cells = np.array(numbers, np.uint8).reshape(edge, edge) * STEP + 120
    pixels = cells.repeat(cell, 0).repeat(cell, 1)
    for boundary in range(cell, edge * cell, cell):
        pixels[boundary - gutter : boundary + gutter] = pixels[:, boundary - gutter : boundary + gutter] = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert("RGB").save(path)
    return path


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return np.asarray(image).astype(float)


def cells_of(grid: Path, frames: int = 9) -> list[np.ndarray]:
    """The cells in time order, cut out with the published order."""
    edge, pixels = round(frames**0.5), pixels_of(grid)
    size = len(pixels) // edge
    boxes = [pixels[r * size : (r + 1) * size, c * size : (c + 1) * size] for r in range(edge) for c in range(edge)]
    return [boxes[SNAKE[frames].index(frame)] for frame in range(frames)]


def numbers_of(grid: Path, frames: int = 9, black: int = 10) -> list[int]:
    found = [(cell.mean() - black) / STEP for cell in cells_of(grid, frames)]
    assert all(abs(number - round(number)) < 0.45 for number in found)
    return [round(number) for number in found]


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def noisy(amounts: Sequence[float]) -> list[Frame]:
    """As a codec might show them: one pixel in a hundred is off by one."""
    rng = np.random.default_rng(0)
    return frames_of([page ^ (rng.random((64, 64)) < 0.01).astype(np.uint8) for page in growing(amounts)])


def reasons(out: Path, source: Path) -> dict[str, str]:
    lines = (out / "skipped.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.removeprefix(f"{source}/").split(": ", 1) for line in lines)


def growing(amounts: Sequence[float]) -> list[np.ndarray]:
    """Thumbnails of a white page that fills with black row by row, each up to its amount (0..1)."""
    pixels = np.arange(64 * 64).reshape(64, 64)
    return [np.where(pixels < amount * 64 * 64, 0, 255).astype(np.uint8) for amount in amounts]


def frames_of(thumbnails: Sequence[np.ndarray]) -> list[Frame]:
    return [Frame(None, lambda: Image.new("RGB", (1, 1)), lambda t=t: t) for t in thumbnails]
