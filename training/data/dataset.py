"""The dataset TOML of a run, in sd-scripts' form: its pictures, their captions and domains."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from makeanything.domains import Domain
from makeanything.foreign import brief
from makeanything.serpentine import PIXELS_PER_TOKEN

from ..values import NUMBER, Values, path_of, read_toml, shown, take
from .captions import head_of, read_flags

LARGEST_EDGE = 16_384
LARGEST_BATCH = 4096
MOST_REPEATS = 1_000_000

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
READ = {
    "resolution", "batch_size", "subsets", "image_dir", "num_repeats", "caption_extension", "class_tokens",
    "caption_dropout_rate", "custom_attributes",
}  # fmt: skip
IDLE = {
    "min_bucket_reso", "max_bucket_reso", "bucket_reso_steps", "bucket_no_upscale", "caption_separator", "keep_tokens",
    "cache_info", "validation_seed", "resize_interpolation",
}  # fmt: skip
"""Keys that change nothing here: every grid has the dataset's size, and captions stay whole."""


@dataclass(frozen=True)
class Sample:
    """A picture of a grid and its prompt.

    `domain` is what its subset names, by name or number from 1, and `flag` what its caption does, by number.
    """

    path: Path
    prompt: str
    domain: str | int | None = None
    flag: int | None = None
    repeats: int = 1
    dropout: float = 0.0

    def head(self, heads: Sequence[Domain]) -> int:
        """The head (from 0) that it trains (see captions.head_of)."""
        return head_of(self.path, heads, self.domain, self.flag)


@dataclass(frozen=True)
class Dataset:
    """Samples of one size in pixels, and how many make a batch."""

    width: int
    height: int
    batch_size: int
    samples: tuple[Sample, ...]


def read(path: Path) -> list[Dataset]:
    """The datasets of a TOML file.  ValueError names a setting that the loop can't follow, or what a picture lacks."""
    config = read_toml(path)
    try:
        general = take(config, "general", dict, {})
        return [_read_dataset({**general, **entry}) for entry in _tables(config, "datasets", "[[datasets]]")]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _tables(values: Values, name: str, wanted: str) -> list[dict[str, Any]]:
    entries = values.get(name)
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"there is no {wanted}")
    return entries


def _read_dataset(values: Values) -> Dataset:
    batch_size = take(values, "batch_size", int, 1)
    size: Any = values.get("resolution")
    width, height = size if isinstance(size, list) and len(size) == 2 else (size, size)
    if not all(isinstance(edge, int) and edge > 0 and edge % PIXELS_PER_TOKEN == 0 for edge in (width, height)):
        raise ValueError(f"resolution must be a multiple of {PIXELS_PER_TOKEN} px, or two, got {shown(size)}")
    if max(width, height) > LARGEST_EDGE:
        raise ValueError(f"resolution must be at most {LARGEST_EDGE} px, got {shown(size)}")
    if not 1 <= batch_size <= LARGEST_BATCH:
        raise ValueError(f"batch_size must be at least 1 and at most {LARGEST_BATCH}, got {batch_size}")
    subsets = _tables(values, "subsets", "[[datasets.subsets]] in a [[datasets]]")
    samples = [sample for subset in subsets for sample in _read_subset({**values, **subset})]
    return Dataset(width, height, batch_size, tuple(samples))


def _read_subset(values: Values) -> list[Sample]:
    for key, value in values.items():
        # sd-scripts' switches are off at false, 0 and "".
        if value and key not in READ | IDLE:
            raise ValueError(f"the built-in loop can't honour {brief(key)} = {shown(value)}; leave it out")
    repeats, dropout = take(values, "num_repeats", int, 1), take(values, "caption_dropout_rate", NUMBER, 0.0)
    if not 1 <= repeats <= MOST_REPEATS or not 0 <= dropout <= 1:
        raise ValueError(
            f"num_repeats must be at least 1, at most {MOST_REPEATS:,}, and caption_dropout_rate lie in 0..1, got "
            f"{repeats} and {dropout}"
        )
    folder = path_of(take(values, "image_dir", str))
    # Hidden ones are files that were being written when something stopped it.
    found = sorted(p for p in folder.glob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    if not found:
        raise ValueError(f"there are no pictures in the image_dir {folder}")
    domain = take(take(values, "custom_attributes", dict, {}), "domain", (str, int), None)
    captions = [_read_caption(picture, values) for picture in found]
    return [Sample(p, text, domain, flag, repeats, dropout) for p, (text, flag) in zip(found, captions, strict=True)]


def _read_caption(picture: Path, values: Values) -> tuple[str, int | None]:
    """A picture's prompt, and the head that the flag in its caption names."""
    ending = take(values, "caption_extension", str, ".caption")
    if not re.fullmatch(r"\.[^/\\\0]{1,30}", ending) or ending[-1] == ".":
        raise ValueError(f"caption_extension must be an ending such as .txt, got {shown(ending)}")
    path = picture.with_suffix(ending)
    if path.is_file():
        # The first line, as in sd-scripts.
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"{path.name} is not text in UTF-8; save it so") from None
        return read_flags(text.strip().split("\n")[0])
    if "class_tokens" in values:
        return read_flags(take(values, "class_tokens", str))
    raise ValueError(f"{picture} has no caption, {path.name}, beside it; is caption_extension right?")
