"""The rooms of training/ and the arrows between them, read off the imports.

data <- heads <- builtin, sd.  Files on top are entry points, or serve several rooms; no room imports an entry point.
"""

import ast
from pathlib import Path

import pytest

TRAINING = Path(__file__).resolve().parents[1] / "training"
SERVING = {"came", "distributed", "memory", "values"}
"""Files on top that rooms may import."""
ARROWS = {
    "data": set(),
    "heads": {"data"},
    "builtin": {"data", "heads", "asymmetric_network"},
    "sd": {"data", "heads", "asymmetric_network"},
}
"""asymmetric_network is sd-scripts' protocol around heads/."""
LONGEST = 200

FILES = sorted(TRAINING.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """The files on top and the rooms of training/ that a file imports."""
    package = path.relative_to(TRAINING).parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            modules = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {".".join((*base, module)).split(".")[0] for module in modules}
        elif isinstance(node, ast.ImportFrom) and str(node.module).startswith("training."):
            found.add(str(node.module).split(".")[1])
    return found


@pytest.mark.parametrize("room", ARROWS)
def test_rooms_import_what_lies_below_them(room):
    for path in sorted((TRAINING / room).glob("*.py")):
        assert imported(path) <= {room, *SERVING} | ARROWS[room], path


def test_every_room_has_its_arrows():
    assert {path.parent.name for path in FILES if path.parent != TRAINING} == ARROWS.keys()


def test_what_serves_the_rooms_imports_none_of_them():
    assert all(imported(TRAINING / f"{name}.py") <= SERVING for name in SERVING)


def test_making_a_dataset_needs_no_network():
    assert imported(TRAINING / "make_dataset.py") <= {"data", "values"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(TRAINING).as_posix())
def test_files_hold_one_idea(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST
