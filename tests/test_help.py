"""The nodes' help pages: they name what the node has, and their pictures are there.

ComfyUI's help panel shows web/docs/NODE/LANGUAGE.md, else web/docs/NODE.md; pictures are found from web/docs.
test_every_node.py says that every node has one; the test of that name in host/ holds them against the nodes' schemas.
"""

import ast
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from demo import help_pictures

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "web/docs"
PAGES = sorted(DOCS.rglob("*.md"))
PICTURES = sorted((DOCS / "images").iterdir())
LARGEST = 60_000
"""Bytes of a picture."""


def place(path: Path) -> str:
    return path.relative_to(DOCS).as_posix()


def language(page: Path) -> str:
    return "en" if page.parent == DOCS else page.stem


def texts(page: Path) -> dict[str, Any]:
    """The names of the page's node in the page's language."""
    node = page.stem if page.parent == DOCS else page.parent.name
    return json.loads((ROOT / "locales" / language(page) / "nodeDefs.json").read_text(encoding="utf-8"))[node]


def tables(page: Path) -> list[list[str]]:
    """First column of each table, below its heading."""
    found: list[list[str]] = []
    before = ""
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("|") and not before.startswith("|"):
            found.append([])
        if line.startswith("|"):
            found[-1].append(line.split("|")[1].strip())
        before = line
    return [rows[2:] for rows in found]


def names(rows: list[str]) -> set[str]:
    """The names in code style; of `weight 1` to `weight 4`, all."""
    found = set()
    for row in rows:
        named = re.findall(r"`([^`]+)`", row)
        ends = [re.fullmatch(r"(.+ )(\d)", name) for name in named]
        if len(named) == 2 and all(ends):
            named = [f"{ends[0][1]}{number}" for number in range(int(ends[0][2]), int(ends[1][2]) + 1)]
        found |= set(named)
    return found


@pytest.fixture(scope="module")
def literals() -> list[str]:
    """Every text in the code that users run."""
    sources = [path for folder in ("nodes", "makeanything") for path in (ROOT / folder).rglob("*.py")]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sources]
    constants = [node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return [value for value in constants if isinstance(value, str)]


@pytest.mark.parametrize("page", PAGES, ids=place)
def test_page_names_what_the_node_has(page):
    node = texts(page)
    assert page.read_text(encoding="utf-8").startswith(f"# {node['display_name']}\n")
    inputs, *_, outputs = tables(page)
    assert names(inputs) == {entry["name"] for entry in node["inputs"].values()}
    assert len(outputs) == len(node["outputs"])
    assert {entry["name"] for entry in node["outputs"].values() if "name" in entry} <= names(outputs)


@pytest.mark.parametrize("page", PAGES, ids=place)
def test_errors_are_quoted_as_they_are(page, literals):
    quoted = re.findall(r'\*\*"(.+?)"\*\*', page.read_text(encoding="utf-8"))
    parts = [part for quote in quoted for part in re.split(r" ?… ?", quote) if part]
    assert [part for part in parts if not any(part in literal for literal in literals)] == []


@pytest.mark.parametrize("page", PAGES, ids=place)
def test_page_needs_nothing_that_is_not_there(page):
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)]*)\)", text)
    assert set(targets) <= {place(picture) for picture in PICTURES}
    assert "<" not in text


def test_every_picture_is_shown_and_small():
    shown = {target for page in PAGES for target in re.findall(r"\]\((images/[^)]*)\)", page.read_text("utf-8"))}
    assert shown == {place(picture) for picture in PICTURES}
    assert max(picture.stat().st_size for picture in PICTURES) < LARGEST


def test_pictures_are_what_the_script_draws(tmp_path):
    help_pictures.write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [picture.name for picture in PICTURES]
    for picture in PICTURES:
        # Versions of Pillow differ in how they smooth letters and pack an animation.
        drawn, kept = (
            np.asarray(Image.open(path).convert("RGBA"), float) for path in (tmp_path / picture.name, picture)
        )
        assert drawn.shape == kept.shape
        assert abs(drawn - kept).mean() < 1.5, picture.name
