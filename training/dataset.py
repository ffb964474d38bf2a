"""The dataset TOML of a run, in sd-scripts' form: its pictures, their captions and domains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from makeanything import domains
from makeanything.domains import Domain
from makeanything.serpentine import PIXELS_PER_TOKEN

from .captions import read_flags
from .values import NUMBER, Values, read_toml, take

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
READ = {
    "resolution", "batch_size", "subsets", "image_dir", "num_repeats", "caption_extension", "class_tokens",
    "caption_dropout_rate", "custom_attributes",
}  # fmt: skip
IDLE = {
    "min_bucket_reso", "max_bucket_reso", "bucket_reso_steps", "bucket_no_upscale", "caption_separator", "keep_tokens",
    "cache_info", "validation_seed", "resize_interpolation",
}  # fmt: skip
"""Keys that change nothing here, where every grid has the dataset's size and captions stay whole."""


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

    @property
    def is_named(self) -> bool:
        return self.domain is not None or self.flag is not None


@dataclass(frozen=True)
class Dataset:
    """Samples of one size in pixels, and how many make a batch."""

    width: int
    height: int
    batch_size: int
    samples: tuple[Sample, ...]


def read(path: Path) -> list[Dataset]:
    """The datasets of a TOML file.  ValueError names what the built-in loop can't do, and what a picture lacks."""
    config = read_toml(path)
    entries = config.get("datasets")
    if not isinstance(entries, list):
        raise ValueError(f"{path} has no [[datasets]]")
    try:
        return [_read_dataset({**config.get("general", {}), **entry}) for entry in entries]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _read_dataset(values: Values) -> Dataset:
    batch_size, subsets = take(values, "batch_size", int, 1), values.get("subsets")
    size: Any = values.get("resolution")
    width, height = size if isinstance(size, list) and len(size) == 2 else (size, size)
    if not all(isinstance(edge, int) and edge > 0 and edge % PIXELS_PER_TOKEN == 0 for edge in (width, height)):
        raise ValueError(f"resolution must be a multiple of {PIXELS_PER_TOKEN} px, or two, got {size}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if not isinstance(subsets, list) or not subsets:
        raise ValueError("a [[datasets]] has no [[datasets.subsets]]")
    samples = [sample for subset in subsets for sample in _read_subset({**values, **subset})]
    return Dataset(width, height, batch_size, tuple(samples))


def _read_subset(values: Values) -> list[Sample]:
    for key, value in values.items():
        # sd-scripts' switches are off at false, 0 and "".
        if value and key not in READ | IDLE:
            raise ValueError(f"the built-in loop can't honour {key} = {value}; leave it out")
    repeats, dropout = take(values, "num_repeats", int, 1), take(values, "caption_dropout_rate", NUMBER, 0.0)
    if repeats < 1 or not 0 <= dropout <= 1:
        raise ValueError(
            f"num_repeats must be at least 1 and caption_dropout_rate lie in 0..1, got {repeats} and {dropout}"
        )
    folder = Path(take(values, "image_dir", str)).expanduser()
    # Hidden ones are files that were being written when something stopped it.
    found = sorted(p for p in folder.glob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    if not found:
        raise ValueError(f"there are no pictures in the image_dir {folder}")
    domain = take(values, "custom_attributes", dict, {}).get("domain")
    captions = [_read_caption(picture, values) for picture in found]
    return [Sample(p, text, domain, flag, repeats, dropout) for p, (text, flag) in zip(found, captions, strict=True)]


def _read_caption(picture: Path, values: Values) -> tuple[str, int | None]:
    """A picture's prompt, and the head that the flag in its caption names."""
    path = picture.with_suffix(take(values, "caption_extension", str, ".caption"))
    if path.is_file():
        # The first line, as in sd-scripts.
        return read_flags(path.read_text(encoding="utf-8").strip().split("\n")[0])
    if "class_tokens" in values:
        return read_flags(take(values, "class_tokens", str))
    raise ValueError(f"{picture} has no caption, {path.name}, beside it; is caption_extension right?")


def head_of(sample: Sample, heads: Sequence[Domain]) -> int:
    """The head (from 0) that a sample trains.  ValueError where that is not said, or said in two ways."""
    named = [domain for domain in (sample.domain, sample.flag) if domain is not None] or [1] * (len(heads) == 1)
    try:
        found = {domains.find(heads, domain) for domain in named}
    except ValueError as error:
        raise ValueError(f"{sample.path}: {error}") from None
    if len(found) > 1:
        raise ValueError(
            f"{sample.path}: its subset is of domain {sample.domain}, but its caption has --lora_up {sample.flag}"
        )
    if not found:
        raise ValueError(
            f"{sample.path} is of no domain: give its subset custom_attributes = {{ domain = NAME }}, or its caption "
            f"--lora_up N; there are {', '.join(head.name for head in heads)}"
        )
    return found.pop()
