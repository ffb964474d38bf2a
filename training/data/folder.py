"""A dataset on disk: grids and captions, a folder for each domain, with the TOML that trainers read and contact sheets.

portrait/X.png, X.caption       portrait_contact_sheet.png       dataset.toml       skipped.txt
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from glob import escape
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from makeanything.contact_sheet import contact_sheet
from makeanything.domains import Domain
from makeanything.pictures import from_image, opened, save_image, save_png
from makeanything.saving import atomic, make_folder
from makeanything.serpentine import split

from ..values import printable
from .sequences import Item, Skipped, slug

STAMP = "make_dataset"
"""Name of the text in a grid's PNG that tells what it was made of, and how."""
SHEET_ROWS = 50
"""Sequences on one contact sheet; more go on further sheets."""
SHEET_FRAME = 128
"""Edge of a frame on a contact sheet in pixels."""


class DatasetFolder:
    """The grids that one run makes, or finds made before.  No file is ever half written."""

    def __init__(self, root: Path, extension: str, heads: Sequence[Domain] = ()) -> None:
        """`heads`: with them, captions also carry their domain's number among these, as the authors' trainer needs."""
        self.root, self.extension, self.heads = root, extension, heads
        self.grids: dict[Domain, list[Path]] = {}

    def has(self, item: Item, made_from: object) -> bool:
        """Whether the item's grid is there and was made from just this.  ValueError when its place is taken."""
        grid = self._grid(item)
        if self._is_taken(item):
            raise ValueError(f"another sequence of {item.domain.name} has the name {item.name}; rename one of them")
        if self._text(item).is_dir():
            raise ValueError(f"{printable(self._text(item))} is a folder, in the place of its caption; move it")
        stamp = _read_stamp(grid)
        if grid.exists() and not stamp:
            raise ValueError(f"{printable(grid)} is in its place, which this command did not make; move it")
        if stamp != self._stamp(item, made_from) or not self._text(item).exists():
            return False
        self.grids.setdefault(item.domain, []).append(grid)
        return True

    def save(self, item: Item, picture: Image.Image, made_from: object) -> None:
        """Write the item's grid and caption."""
        grid = self._grid(item)
        make_folder(grid.parent)
        # First: sd-scripts would train for ever on the latents and texts of what was here before.
        for cache in grid.parent.glob(f"{escape(item.name)}_*.npz"):
            _remove(cache)
        with atomic(self._text(item)) as temporary:
            temporary.write_text(self._caption(item) + "\n", encoding="utf-8")
        save_image(picture, grid, {STAMP: self._stamp(item, made_from)})
        self.grids.setdefault(item.domain, []).append(grid)

    def drop(self, item: Item) -> None:
        """Remove what an earlier run made of an item that no longer gives a grid."""
        grid = self._grid(item)
        if _read_stamp(grid) and not self._is_taken(item):
            _remove(grid)
            _remove(self._text(item))

    def finish(self, batch_size: int, repeats: int) -> list[Path]:
        """Write dataset.toml and the contact sheets; their paths."""
        toml = self.root / "dataset.toml"
        with atomic(toml) as temporary:
            temporary.write_text("\n".join(self._toml(batch_size, repeats)) + "\n", encoding="utf-8")
        return [toml, *(sheet for domain, grids in self.grids.items() for sheet in self._write_sheets(domain, grids))]

    def list_skipped(self, skipped: Sequence[Skipped]) -> list[Path]:
        """Write skipped.txt when anything was; its path."""
        path = self.root / "skipped.txt"
        if not skipped:
            _remove(path)
            return []
        make_folder(self.root)
        with atomic(path) as temporary:
            temporary.write_text("".join(f"{each}\n" for each in skipped), encoding="utf-8")
        return [path]

    def strangers(self) -> list[Path]:
        """Pictures among the grids that are not of this run; trainers will take them too."""
        return [
            path
            for grids in self.grids.values()
            for path in sorted(grids[0].parent.glob("*.png"))
            if path not in grids and path.name[0] != "."
        ]

    def _grid(self, item: Item) -> Path:
        return self.root / slug(item.domain.name) / f"{item.name}.png"

    def _is_taken(self, item: Item) -> bool:
        """Whether this run has a grid of this name; on many disks, capitals make no difference."""
        name = self._grid(item).name.casefold()
        return name in (path.name.casefold() for path in self.grids.get(item.domain, []))

    def _text(self, item: Item) -> Path:
        return self._grid(item).with_name(item.name + self.extension)

    def _caption(self, item: Item) -> str:
        return f"{item.prompt} --lora_up_cur {self.heads.index(item.domain) + 1}" if self.heads else item.prompt

    def _stamp(self, item: Item, made_from: object) -> str:
        return hashlib.sha256(json.dumps([made_from, self._caption(item)]).encode()).hexdigest()

    def _toml(self, batch_size: int, repeats: int) -> Iterator[str]:
        """sd-scripts' form: a [[datasets]] for each size of grid, a subset for each domain."""
        yield "# Written by training.make_dataset, which writes it anew each time: edit a copy."
        sizes = {domain: _size(grids[0]) for domain, grids in self.grids.items()}
        for width, height in dict.fromkeys(sizes.values()):
            resolution = width if width == height else [width, height]
            # Buckets would crop grids.
            yield f"\n[[datasets]]\nresolution = {resolution}\nbatch_size = {batch_size}\nenable_bucket = false"
            for domain, grids in self.grids.items():
                if sizes[domain] == (width, height):
                    yield "\n[[datasets.subsets]]"
                    yield f"image_dir = {_quoted(grids[0].parent.resolve().as_posix())}"
                    yield f"caption_extension = {_quoted(self.extension)}"
                    yield f"num_repeats = {repeats}"
                    # A table of its own: sd-scripts' loaders hang on an inline one.
                    yield f"[datasets.subsets.custom_attributes]\ndomain = {_quoted(domain.name)}"

    def _write_sheets(self, domain: Domain, grids: Sequence[Path]) -> list[Path]:
        """Pages with a sequence in each row, in time order; not beside the grids, where they would be trained on."""
        name = f"{slug(domain.name)}_contact_sheet"
        sheets = []
        for page, start in enumerate(range(0, len(grids), SHEET_ROWS), 1):
            rows = grids[start : start + SHEET_ROWS]
            frames = torch.cat([_thumbnails(grid, domain) for grid in rows])
            names = [name for grid in rows for name in (grid.stem, *[""] * domain.layout.tail)]
            sheets.append(self.root / (f"{name}.png" if page == 1 else f"{name}_{page}.png"))
            save_png(contact_sheet(frames, domain.layout.frames, names, numbered=False), sheets[-1])
        for old in self.root.glob(f"{escape(name)}*.png"):
            if re.fullmatch(rf"{re.escape(name)}(_\d+)?", old.stem) and old not in sheets:
                _remove(old)
        return sheets


def _remove(path: Path) -> None:
    """Another run may have done so.  OSError says in one line what is in the way."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        reason = "it is a folder; move it" if path.is_dir() else error.strerror or type(error).__name__
        raise OSError(f"{printable(path)} can't be removed: {reason}") from error


def _read_stamp(grid: Path) -> str:
    """What `save` left in a grid's PNG; empty for other pictures and where there is none."""
    try:
        with opened(grid) as image:
            return str(image.info.get(STAMP, ""))
    except (ValueError, OSError):
        return ""


def _size(grid: Path) -> tuple[int, int]:
    with opened(grid) as image:
        return image.size


def _thumbnails(grid: Path, domain: Domain) -> Tensor:
    """A grid's frames (F, SHEET_FRAME, SHEET_FRAME, 3) in time order."""
    with opened(grid) as image:
        small = image.resize((domain.layout.cols * SHEET_FRAME, domain.layout.rows * SHEET_FRAME))
    return split(from_image(small)[None], domain.layout)[0]


def _quoted(text: str) -> str:
    """A TOML string; it is written like one of JSON."""
    return json.dumps(text, ensure_ascii=False)
