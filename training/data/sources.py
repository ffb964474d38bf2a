"""Making-of sequences as people keep them: folders of pictures, videos, animations, and finished grids."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image
from tqdm import tqdm

from makeanything.foreign import brief
from makeanything.pictures import MOST_PIXELS, natural, open_image

from .stills import read_picture, reading, to_rgb

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
    return path.suffix.lower() in PICTURES and path.is_file() and not _moves(path)


def reader(path: Path) -> Reader | None:
    """What reads the frames of a folder, a video or an animation; None for anything else."""
    if path.is_dir():
        return _folder
    # A pipe would be waited for.
    if not path.is_file():
        return None
    if path.suffix.lower() in VIDEOS:
        return _video
    return _animation if _moves(path) else None


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder in the order of their names."""
    found = (path for path in folder.iterdir() if path.suffix.lower() in PICTURES and path.name[0] != ".")
    return sorted(found, key=natural)


def _moves(path: Path) -> bool:
    if path.suffix.lower() not in MAY_MOVE:
        return path.suffix.lower() == ".gif"
    try:
        with open_image(path) as image:
            return getattr(image, "n_frames", 1) > 1
    except Exception:  # whatever is wrong with it is said when it is read
        return False


def _folder(path: Path) -> Iterator[Frame]:
    for picture in pictures_in(path):
        yield Frame(None, partial(read_picture, picture), partial(_thumbnail_of, picture))


def _animation(path: Path) -> Iterator[Frame]:
    with reading(path), open_image(path) as image:
        seconds = 0.0
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            picture = to_rgb(image)
            yield Frame(seconds, picture.copy, partial(_thumbnail, picture))
            seconds += image.info.get("duration", 0) / 1000


def _video(path: Path) -> Iterator[Frame]:
    with reading(path), av.open(f"file:{path}") as container:
        stream = container.streams.best("video")
        if not isinstance(stream, av.VideoStream):
            raise ValueError(f"{brief(path.name)} holds no video")
        stream.thread_type = "AUTO"
        shrinker = VideoReformatter()
        first = last = None
        for frame in _progress(container.decode(stream), brief(path.name), stream.frames):
            first, last = frame if first is None else first, frame
            yield Frame(
                frame.time,
                partial(_upright, frame, float(stream.sample_aspect_ratio or 1)),
                partial(_shrunk, frame, shrinker),
            )
        _check_whole(brief(path.name), _announced(container, stream), first, last)


def _progress(frames: Iterator[av.VideoFrame], name: str, count: int) -> tqdm[av.VideoFrame]:
    return tqdm(frames, name, count or None, leave=False, unit="frame", dynamic_ncols=True, disable=None)


def _upright(frame: av.VideoFrame, pixel_aspect: float) -> Image.Image:
    width = max(round(frame.width * pixel_aspect), 1)
    if width * frame.height > MOST_PIXELS:
        raise ValueError(f"its frames are {width} x {frame.height} px; at most {MOST_PIXELS:,} pixels are read")
    picture = frame.to_image()
    if pixel_aspect != 1:
        picture = picture.resize((width, picture.height), Image.Resampling.LANCZOS)
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
