"""docs/architecture.md and its picture say what is there."""

import re
from pathlib import Path

from tests import import_graph

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
PICTURE = (ROOT / "docs/architecture.svg").read_text(encoding="utf-8")


def top(name: str) -> str:
    return name.partition("/")[0]


def test_the_picture_has_the_arrows_that_there_are():
    arrows = import_graph.between(import_graph.between_files(), top)
    assert set(re.findall(r'id="(\w+)-(\w+)"', PICTURE)) == set(arrows)


def test_the_table_has_every_folder_of_code():
    named = {row.rstrip("/") for row in re.findall(r"^\| `([\w/]+)` \|", PAGE, re.MULTILINE)}
    folders = {import_graph.folder(path.relative_to(ROOT).as_posix()) for path in import_graph.files()}
    assert folders - {"benchmarks/kit"} <= named
    assert all((ROOT / name).is_dir() for name in named)


def test_the_files_that_the_page_names_are_there():
    """A bare name lies in the folder of the last one that had a folder, in the same paragraph, or in makeanything."""
    for paragraph in PAGE.split("\n\n"):
        folder = ROOT
        for name in re.findall(r"`([\w/]+\.py)`", paragraph):
            if "/" in name:
                folder = (ROOT / name).parent
                assert (ROOT / name).is_file(), name
            else:
                assert any((place / name).is_file() for place in (folder, ROOT / "makeanything", ROOT / "nodes")), name


def test_a_circle_is_found():
    assert set(import_graph.circle([("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")])) == {"a", "b", "c"}
    assert import_graph.circle([("a", "b"), ("a", "c"), ("b", "c")]) == []


def test_no_room_imports_one_that_imports_it():
    arrows = import_graph.between_files()
    assert import_graph.circle(arrows) == []
    assert import_graph.circle(import_graph.between(arrows, import_graph.rooms().__getitem__)) == []
