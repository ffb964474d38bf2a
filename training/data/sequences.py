"""What lies in an input folder: the sequences, which domain each shows, and its prompt."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from makeanything.domains import Domain, find
from makeanything.file_names import problem_of
from makeanything.foreign import brief
from makeanything.pictures import natural
from makeanything.serpentine import Layout

from ..values import printable
from .captions import read_flags
from .sources import is_grid, reader

FORM = re.compile(r"(\d+) ?[*x] ?(\d+) of (\d+) sub-images", re.IGNORECASE)
"""How the prompt of a grid begins."""
CAPTIONS = (".caption", ".txt")
BESIDE = {*CAPTIONS, ".json", ".npz", ".toml"}
"""Endings of captions, settings and caches; such files are not sequences."""


@dataclass(frozen=True)
class Item:
    """A sequence to make a grid of."""

    path: Path
    domain: Domain
    prompt: str

    @property
    def name(self) -> str:
        return self.path.name if self.path.is_dir() else self.path.stem


@dataclass(frozen=True)
class Skipped:
    """A path that gives no grid, and why."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{printable(self.path)}: {self.reason}"


def slug(name: str) -> str:
    """A domain's name as a folder's: lower case, words joined by _."""
    return re.sub(r"\W+", "_", name.casefold()).strip("_") or "domain"


def in_frames(domain: Domain, frames: int) -> Domain:
    """The same domain in grids of another number of frames."""
    layout = Layout.of(frames)
    prompt = FORM.sub(f"{layout.rows}*{layout.cols} of {layout.frames} sub-images", domain.prompt, count=1)
    return replace(domain, layout=layout, prompt=prompt)


def look(folder: Path, domains: Sequence[Domain], flat: bool) -> Iterator[Item | Skipped]:
    """Everything in `folder` and, unless `flat`, in its subfolders that have a domain's name, in order of their names.

    What lies directly in the folder belongs to the only domain, or to the one that the flag in its caption numbers.
    """
    named = {} if flat else {slug(domain.name): domain for domain in domains}
    for path in _entries(folder):
        domain = named.get(slug(path.name)) if path.is_dir() else None
        if domain is None:
            yield _item(path, domains, flagged=len(domains) > 1)
            continue
        try:
            entries = _entries(path)
        except OSError as error:
            yield Skipped(path, why(error))
            continue
        yield from (_item(entry, [domain], flagged=False) for entry in entries)


def why(error: Exception) -> str:
    """What to say of a sequence that gives no grid."""
    # The system's own texts carry a number, and the path once more.
    if isinstance(error, OSError) and error.strerror:
        return f"{brief(Path(str(error.filename or 'it')).name)} can't be read ({error.strerror})"
    return str(error)


def _entries(folder: Path) -> list[Path]:
    found = (path for path in folder.iterdir() if path.name[0] != "." and path.suffix.lower() not in BESIDE)
    return sorted(found, key=natural)


def _item(path: Path, domains: Sequence[Domain], flagged: bool) -> Item | Skipped:
    try:
        if not is_grid(path) and reader(path) is None:
            raise ValueError("it is neither a picture, a video nor a folder of pictures")
        name = path.name if path.is_dir() else path.stem
        # The grid gets the same name; what separates folders on one system is a letter on another.
        if problem := problem_of(f"{name}.png") or ("it holds a \\" if "\\" in name else ""):
            raise ValueError(f"its grid can't have its name: {problem}; rename it")
        caption, number = read_flags(_caption(path))
        if flagged and number is None:
            return Skipped(path, _which(path, domains))
        domain = domains[find(domains, number)] if flagged and number is not None else domains[0]
        return Item(path, domain, _prompt(caption or _words(path, domain), domain))
    except (ValueError, OSError) as error:
        return Skipped(path, why(error))


def _which(path: Path, domains: Sequence[Domain]) -> str:
    """Why a path belongs to no domain."""
    advice = "put it into a folder with the name of its domain, or --lora_up NUMBER into its caption, or give --domain"
    if path.is_dir():
        try:
            find(domains, path.name)
        except ValueError as error:
            return f"{error}; {advice}"
    return advice


def _caption(path: Path) -> str:
    """The caption beside a source or in its folder, in one line; empty when there is none."""
    stem = path.name if path.is_dir() else path.stem
    beside = [path.with_name(stem + suffix) for suffix in CAPTIONS]
    inside = [path / name for name in ("caption.txt", *(stem + suffix for suffix in CAPTIONS))]
    for file in beside + (inside if path.is_dir() else []):
        if file.is_file():
            try:
                return " ".join(file.read_text(encoding="utf-8-sig").split())
            except UnicodeDecodeError:
                raise ValueError(f"{brief(file.name)} is not text in UTF-8; save it so") from None
    return ""


def _words(path: Path, domain: Domain) -> str:
    """The subject: the name of a file or folder, or of the domain where that is only a number."""
    name = path.name if path.is_dir() else path.stem
    # Downloaders put an identifier into brackets.
    words = re.sub(r"\[[^\]]*\]|[\s_.-]+", " ", name).strip()
    return re.sub(r"^(\d+ )+|( ?\(?\b\d+\)?)+$", "", words).strip() or domain.name.lower()


def _prompt(caption: str, domain: Domain) -> str:
    """A caption in the domain's prompt form, or as it is when it has such a form."""
    form = FORM.match(caption)
    if not form:
        return domain.write_prompt(caption)
    layout = domain.layout
    if [int(number) for number in form.groups()] != [layout.rows, layout.cols, layout.frames]:
        raise ValueError(
            f"its caption says {form[0]}, but {domain.name} has grids of {layout.frames} frames ({layout})"
        )
    return caption
