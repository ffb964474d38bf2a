"""Several processes that save sets with one prefix at the same time: none is lost, and none is mixed with another."""

from __future__ import annotations

import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from makeanything import saving
from makeanything.saving import DAY, numbered

from .savers import finished, save_set, start

if sys.platform == "win32":
    pytest.skip("faults are made with POSIX calls", allow_module_level=True)

WRITERS, SETS = 4, 30


def together(works: list[Callable[[], int]]) -> None:
    """Run all at once, each in a process of its own."""
    wait, go = os.pipe()

    def begin(work: Callable[[], int]) -> int:
        os.close(go)
        os.read(wait, 1)
        return work()

    children = [start(lambda work=work: begin(work)) for work in works]
    os.close(wait)
    os.close(go)
    for child in children:
        code, text = finished(*child)
        assert code == 0, text


def write(out: Path, first: int, sets: int) -> int:
    for version in range(first, first + sets):
        # As the host counts: the number it finds may be taken by now.
        save_set(out, version)
    return 0


def sets(out: Path) -> dict[str, list[str]]:
    """Start of the names -> what its files say of where they come from."""
    found = defaultdict(list)
    for path in out.iterdir():
        with Image.open(path) as image:
            found[path.name[:9]].append(image.info["version"])
    return found


def test_sets_of_several_processes(tmp_path: Path) -> None:
    together([lambda first=first: write(tmp_path, first * SETS, SETS) for first in range(WRITERS)])
    found = sets(tmp_path)
    assert sorted(found) == [f"seq_{number:05}" for number in range(1, WRITERS * SETS + 1)]
    assert all(len(versions) == 4 and len(set(versions)) == 1 for versions in found.values())
    assert {versions[0] for versions in found.values()} == {str(version) for version in range(WRITERS * SETS)}


def test_a_stale_reservation_is_taken_over_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for trial in range(20):
        out = tmp_path / str(trial)
        out.mkdir()
        before = time.time() - 3 * DAY
        with monkeypatch.context() as patch:
            patch.setattr(saving.time, "time", lambda: before)  # noqa: B023 (called at once)
            _, reservation = saving._reserve(out, "seq", 1)
        os.utime(reservation, (before, before))
        together([lambda first=first: write(out, first, 1) for first in range(WRITERS)])  # noqa: B023
        found = sets(out)
        assert len(found) == WRITERS
        assert "seq_00001" in found
        assert all(len(versions) == 4 and len(set(versions)) == 1 for versions in found.values())


def test_a_reservation_is_neither_a_picture_nor_listed(tmp_path: Path) -> None:
    with numbered(tmp_path, "seq") as first:
        (reservation,) = tmp_path.iterdir()
        assert reservation.name.startswith(".")
        assert reservation.suffix == ".tmp"
        assert reservation.stat().st_size == 0
        with numbered(tmp_path, "seq") as second:
            assert (first.name, second.name) == ("seq_00001", "seq_00002")
    assert list(tmp_path.iterdir()) == []


def test_numbers_go_on_from_any_file_that_has_one(tmp_path: Path) -> None:
    for name in ("seq_00001_.gif", "SEQ_00002_01.png", "seq_00004_x", "seq_000051_", "other_00003_"):
        (tmp_path / name).touch()
    for number, wanted in ((1, 3), (3, 3), (4, 5), (100000, 100000)):
        with numbered(tmp_path, "seq", number) as start:
            assert start == tmp_path / f"seq_{wanted:05}"
