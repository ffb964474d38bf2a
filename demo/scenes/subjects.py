"""Every subject that processes can make, by the words that prompts use for it.

Our own drawings are always known; those of an icon package, once in use, take the places of ours of the same name.
"""

from __future__ import annotations

from pathlib import Path

from . import icons
from .parts import Drawing
from .shapes import SILHOUETTES, Silhouette

SHAPES = tuple(SILHOUETTES)

_known: dict[str, Drawing] = {name: Silhouette(parts) for name, parts in SILHOUETTES.items()}
_folders: list[Path] = []


def use(*folders: Path) -> None:
    """Know the icons of unpacked packages too.  ValueError says what is wrong with a folder."""
    for folder in folders:
        if folder not in _folders:
            _known.update(icons.load(folder))
            _folders.append(folder)


def used() -> tuple[Path, ...]:
    """The folders of the packages in use, for other processes."""
    return tuple(_folders)


def names() -> tuple[str, ...]:
    """All that are known."""
    return tuple(_known)


def find(name: str) -> Drawing:
    """The drawing of a subject."""
    return _known[name]
