"""What every node has, as far as files tell: texts, a help page, and a place in a workflow.

host/test_every_node.py looks at their schemas, and test_readme.py at the README's table.
"""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [path.read_text(encoding="utf-8") for path in (ROOT / "nodes").rglob("*.py")]
NODES = {node for source in SOURCES for node in re.findall(r'node_id="(\w+)"', source)}


def test_there_are_nodes():
    assert len(NODES) >= 14


@pytest.mark.parametrize("language", sorted(path.name for path in (ROOT / "locales").iterdir()))
def test_every_node_and_no_other(language):
    assert set(json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))) == NODES


def test_a_page_for_every_node():
    pages = ROOT / "web/docs"
    assert {page.stem for page in pages.glob("*.md")} == NODES
    assert {path.name for path in pages.iterdir() if path.is_dir()} <= NODES | {"images"}


def test_every_node_of_the_pack_is_used():
    workflows = [json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "workflows").glob("*.json")]
    assert {node["type"] for workflow in workflows for node in workflow["nodes"]} >= NODES
