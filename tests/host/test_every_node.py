"""What every node has, by its schema in ComfyUI: a category, texts, and all of it on its help page.

../test_every_node.py looks for the files.
"""

from __future__ import annotations

import re

import pytest

from .locales import ENGLISH, Schemas, english, inputs_of, schemas_of
from .server import ROOT, Host

DOCS = ROOT / "web/docs"


@pytest.fixture(scope="module")
def schemas(host: Host) -> Schemas:
    return schemas_of(host)


def test_every_node_is_listed(schemas: Schemas) -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "nodes").rglob("*.py")]
    assert set(schemas) == {node for source in sources for node in re.findall(r'node_id="(\w+)"', source)}
    assert len(schemas) >= 14


def test_every_node_is_found_in_the_menu_and_by_search(schemas: Schemas) -> None:
    for node, info in schemas.items():
        assert info["category"] == "MakeAnything", node
        assert info["search_aliases"], node


def test_every_input_and_output_says_what_it_is(schemas: Schemas) -> None:
    for node, info in schemas.items():
        assert [name for name, _, options in inputs_of(info["input"]) if not options.get("tooltip")] == [], node
        assert all(info["output_tooltips"]), node


def test_english_texts_are_the_schemas_own(schemas: Schemas) -> None:
    """`python -m tests.host.locales` writes them."""
    assert ENGLISH.read_text(encoding="utf-8") == english(schemas)


def test_pages_give_the_range_of_every_number(schemas: Schemas) -> None:
    for node, info in schemas.items():
        rows = [line for line in (DOCS / f"{node}.md").read_text(encoding="utf-8").splitlines() if line[:3] == "| `"]
        for name, kind, options in inputs_of(info["input"]):
            if kind in ("INT", "FLOAT"):
                # Of a row of numbered inputs, the page names the first.
                shown = re.sub(r" \d$", " 1", options.get("display_name") or name.rpartition(".")[2])
                (row,) = [row for row in rows if f"`{shown}`" in row and " to " in row.replace("` to `", "")]
                assert f"| {options['min']:g} to {options['max']:g}" in row, (node, name)


def test_pages_name_every_output(schemas: Schemas) -> None:
    for node, info in schemas.items():
        rows = (DOCS / f"{node}.md").read_text(encoding="utf-8").partition("\n## Outputs\n")[2].splitlines()
        assert [row.split("`")[1] for row in rows if row[:3] == "| `"] == info["output_name"], node
