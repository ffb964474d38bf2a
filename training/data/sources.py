"""Making-of sequences as people keep them: folders of pictures, videos, animations, and finished grids."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from makeanything.pictures import check_size, from_image, natural, to_bytes
from makeanything.recraft import WHITE
from makeanything.serpentine import Layout, split, split_trimmed

PICTURES = {".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
VIDEOS = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ts", ".webm", ".wmv"}
MAY_MOVE = {".png", ".webp"}
"""Pictures that may be animations, as every GIF is taken to be."""

THUMBNAIL = 64
"""Edge in pixels."""
WHOLE = 0.9
"""A video that ends before this share of the length it announces was cut short."""


class Frame(NamedTuple):
    """A frame of a source.  `picture` is upright, in RGB; `thumbnail` grey bytes (64, 64); both are made when called.

    `seconds` on the source's clock, or None where it has none.
    """

    seconds: float | None
    picture: Callable[[], Image.Image]
    thumbnail: Callable[[], np.ndarray]


Reader = Callable[[Path], Iterator[Frame]]


def is_grid(path: Path) -> bool:
    """Whether a path is a still picture, which among sequences is a finished grid."""
    return path.suffix.lower() in PICTURES and not _moves(path)


def reader(path: Path) -> Reader | None:
    """What reads the frames of a folder, a video or an animation; None for anything else."""
    if path.is_dir():
        return _folder
    if path.suffix.lower() in VIDEOS:
        return _video
    return _animation if _moves(path) else None


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder in the order of their names."""
    found = (path for path in folder.iterdir() if path.suffix.lower() in PICTURES and path.name[0] != ".")
    return sorted(found, key=natural)


def read_picture(path: Path) -> Image.Image:
    """A picture of any depth and colour model in RGB, turned as its EXIF says; what is transparent becomes white."""
    with _reading(path), Image.open(path) as image:
        check_size(image)
        return _to_rgb(ImageOps.exif_transpose(image))


def read_grid(path: Path, layout: Layout, rows: bool, keep_gutters: bool) -> list[Image.Image]:
    """The frames of a finished grid in time order.  `rows`: it was laid out row by row, not as a snake."""
    grid = from_image(read_picture(path))
    height, width = grid.shape[0] // layout.rows * layout.rows, grid.shape[1] // layout.cols * layout.cols
    frames = (split if keep_gutters else split_trimmed)(grid[None, :height, :width], layout)[0]
    if rows:
        frames = frames[[layout.order.index(divmod(frame, layout.cols)) for frame in range(layout.frames)]]
    return [Image.fromarray(pixels) for pixels in to_bytes(frames)]


def _moves(path: Path) -> bool:
    if path.suffix.lower() not in MAY_MOVE:
        return path.suffix.lower() == ".gif"
    try:
        with Image.open(path) as image:
            return getattr(image, "n_frames", 1) > 1
    except Exception:  # whatever is wrong with it is said when it is read
        return False


def _folder(path: Path) -> Iterator[Frame]:
    for picture in pictures_in(path):
        yield Frame(None, partial(read_picture, picture), partial(_thumbnail_of, picture))


def _animation(path: Path) -> Iterator[Frame]:
    with _reading(path), Image.open(path) as image:
        check_size(image)
        seconds = 0.0
        for number in range(image.n_frames):
            image.seek(number)
            picture = _to_rgb(image)
            yield Frame(seconds, picture.copy, partial(_thumbnail, picture))
            seconds += image.info.get("duration", 0) / 1000


def _video(path: Path) -> Iterator[Frame]:
    with _reading(path), av.open(f"file:{path}") as container:
        stream = container.streams.best("video")
        if not isinstance(stream, av.VideoStream):
            raise ValueError(f"{path.name} holds no video")
        stream.thread_type = "AUTO"
        shrinker = VideoReformatter()
        first = last = None
        for frame in _progress(container.decode(stream), path.name, stream.frames):
            first, last = frame if first is None else first, frame
            yield Frame(
                frame.time,
                partial(_upright, frame, float(stream.sample_aspect_ratio or 1)),
                partial(_shrunk, frame, shrinker),
            )
        _check_whole(path.name, _announced(container, stream), first, last)


def _progress(frames: Iterator[av.VideoFrame], name: str, count: int) -> tqdm[av.VideoFrame]:
    return tqdm(frames, name, count or None, leave=False, unit="frame", dynamic_ncols=True, disable=None)


def _upright(frame: av.VideoFrame, pixel_aspect: float) -> Image.Image:
    picture = frame.to_image()
    if pixel_aspect != 1:
        picture = picture.resize((round(picture.width * pixel_aspect), picture.height), Image.Resampling.LANCZOS)
    # Both count degrees anticlockwise; cameras turn by quarters.
    return picture.rotate(round(frame.rotation / 90) * 90, expand=True)


def _shrunk(frame: av.VideoFrame, shrinker: VideoReformatter) -> np.ndarray:
    return shrinker.reformat(frame, THUMBNAIL, THUMBNAIL, "gray", interpolation=Interpolation.AREA).to_ndarray()


def _thumbnail_of(path: Path) -> np.ndarray:
    return _thumbnail(read_picture(path))


def _thumbnail(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX))


def _announced(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    """Seconds that a file says its video lasts, 0 if it does not."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    # Matroska says it in a tag where sound may last longer.
    if match := re.match(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", "")):
        return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])
    return (container.duration or 0) / av.time_base


def _check_whole(name: str, announced: float, first: av.VideoFrame | None, last: av.VideoFrame | None) -> None:
    """FFmpeg ends a file that was cut short without a word; the finished picture would be missing."""
    if first is None or last is None or first.time is None or last.time is None or last.time_base is None:
        return
    lasted = last.time - first.time + float((last.duration or 0) * last.time_base)
    if lasted < WHOLE * announced:
        raise ValueError(
            f"{name} ends after {lasted:.1f} of {announced:.1f} seconds: it is cut short; copy or download it again"
        )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("its pixels are floating point numbers; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        # 16 bits; Pillow's own conversion cuts off what is above 255.
        return Image.fromarray((np.asarray(image) // 257).clip(0, 255).astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    paper = Image.new("RGBA", image.size, (WHITE,) * 4)
    return Image.alpha_composite(paper, image.convert("RGBA")).convert("RGB")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Decoders fail in many ways; a ValueError says which file it was."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ValueError) and path.name in str(error) and not isinstance(error, av.FFmpegError):
            raise
        reason = getattr(error, "strerror", None) or error
        if isinstance(error, UnidentifiedImageError):
            reason = "it is not a picture"
        raise ValueError(f"{path.name} can't be read ({reason or type(error).__name__}); is it whole?") from error
