"""Tables of measurements as Markdown, with the targets met or missed."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

MIB = 2**20


@dataclass
class Table:
    """One table: every row has a cell for each column; `notes` are sentences below it."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        aligned = ["--", *["--:"] * (len(self.columns) - 1)]
        lines = ("| " + " | ".join(row) + " |" for row in (self.columns, *self.rows))
        head, *rows = lines
        table = "\n".join((head, "|" + "|".join(aligned) + "|", *rows))
        return "\n\n".join((f"## {self.title}", table, *self.notes))


def verdict(what: str, measured: float, limit: float) -> str:
    """`what`, which should be at most `limit`, and whether it is."""
    return f"**{'met' if measured <= limit else 'missed'}**: {what} <= {limit:g} (measured {measured:.3f})."


def milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f}" if seconds < 1 else f"{1000 * seconds:.0f}"


def mebibytes(count: float) -> str:
    return f"{count / MIB:.1f}" if count < 100 * MIB else f"{count / MIB:.0f}"


def against(taken: Sequence[float], other: Sequence[float]) -> str:
    """Ratio of the least times, and the least and largest ratio of a round: other work on a machine only adds time."""
    ratios = [ours / theirs for ours, theirs in zip(taken, other, strict=True)]
    return f"{min(taken) / min(other):.3f} ({min(ratios):.3f} - {max(ratios):.3f})"


def versions(packages: Iterable[str] = ("torch", "safetensors", "pillow")) -> str:
    found = (f"{package} {importlib.metadata.version(package)}" for package in packages)
    return ", ".join((f"Python {platform.python_version()}", *found))
