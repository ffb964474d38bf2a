"""What a part measured: rows of numbers in a JSON file, which is whole after every row."""

from __future__ import annotations

import json
import os
import statistics
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Record:
    """The file of one part."""

    def __init__(self, path: Path, **about: Any) -> None:
        self.path, self._start = path, time.monotonic()
        self.content: dict[str, Any] = {"part": path.stem, "about": about, "rows": [], "notes": [], "ended": "no"}
        self._write()

    def row(self, what: str, **numbers: Any) -> None:
        """Add a row, or put it in the place of the one with this name."""
        rows = self.content["rows"]
        rows[:] = [row for row in rows if row["what"] != what] + [{"what": what, **numbers}]
        self._write()

    def note(self, text: str) -> None:
        self.content["notes"].append(text)
        self._write()

    def __enter__(self) -> Record:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> bool:
        """Note how the part ended.  An error of it is kept, and the parts after it go on."""
        if error is not None and not isinstance(error, Exception):
            return False
        if error is not None:
            self.content["notes"] += traceback.format_exception(kind, error, trace)[-6:]
            traceback.print_exception(kind, error, trace)
        self.content["ended"] = "yes" if error is None else f"failed: {type(error).__name__}: {error}"
        self._write()
        return True

    def _write(self) -> None:
        self.content["seconds"] = round(time.monotonic() - self._start, 1)
        written = self.path.with_suffix(".part")
        written.write_text(json.dumps(self.content, indent=1), encoding="utf-8")
        os.replace(written, self.path)


def spread(values: Sequence[float], scale: float = 1.0, digits: int = 2) -> list[float]:
    """Median, least and largest."""
    return [round(scale * value, digits) for value in (statistics.median(values), min(values), max(values))]
