"""The pack's templates in the editor: listed, whole, tidy, and run to pictures; help beside them."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from tests.host.server import PACK, ROOT

from .editor import Editor, Number

FOLDER = ROOT / "workflows"
TEMPLATES = sorted(path.stem for path in FOLDER.glob("*.json"))
DEMOS = [name for name in TEMPLATES if name.startswith("demo_")]
GRID = "MakeAnythingEmptyGrid"

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in graph units."""


def read(template: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{template}.json").read_text(encoding="utf-8"))


def within(inner: Box, outer: Box) -> bool:
    return inner[0] >= outer[0] and inner[1] >= outer[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


def apart(one: Box, other: Box) -> bool:
    return one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def check_places(editor: Editor) -> None:
    """No node lies on another, every group holds its nodes whole, and notes stand outside."""
    nodes, groups = ({box["title"]: tuple(box["box"]) for box in editor.boxes(kind)} for kind in ("nodes", "groups"))
    covered = [pair for pair in itertools.combinations(nodes, 2) if not apart(nodes[pair[0]], nodes[pair[1]])]
    assert covered == []
    for name, box in nodes.items():
        near = [group for group, frame in groups.items() if not apart(box, frame)]
        assert len(near) == (0 if "How to use" in name else 1), f"{name} touches {near}"
        assert all(within(box, groups[group]) for group in near), f"{name} sticks out of {near}"


def all_values(editor: Editor) -> dict[Number, dict[str, Any]]:
    return {node["id"]: editor.values(node["id"]) for node in editor.nodes()}


def check_pictures(editor: Editor, renderer: str) -> None:
    """Every preview shows a picture."""
    for node in editor.nodes():
        if node["type"] == "PreviewImage":
            source = (
                "id => app.graph.getNodeById(id).imgs"
                if renderer == "classic"
                else "id => [...document.querySelectorAll(`[data-node-id='${id}'] img`)]"
            )
            editor.wait(f"id => ({source})(id)?.some(img => img.naturalWidth > 100)", node["id"])


@pytest.mark.parametrize("renderer", ["classic"])
def test_templates_are_listed(editor: Editor) -> None:
    editor.start()
    editor.js("() => { app.extensionManager.command.execute('Comfy.BrowseTemplates') }")
    dialog = editor.page.get_by_role("dialog")
    dialog.get_by_text(PACK).click()
    dialog.get_by_test_id(f"template-workflow-{TEMPLATES[0]}").wait_for()
    cards = dialog.locator("[data-testid^=template-workflow-]")
    listed = cards.evaluate_all("cards => cards.map(card => card.dataset.testid)")
    assert sorted(listed) == [f"template-workflow-{name}" for name in TEMPLATES]
    for name in TEMPLATES:
        card = dialog.get_by_test_id(f"template-workflow-{name}")
        card.scroll_into_view_if_needed()
        editor.wait(
            "id => document.querySelector(`[data-testid='${id}'] img`)?.naturalWidth > 0", f"template-workflow-{name}"
        )


@pytest.mark.parametrize("renderer", ["classic"])
def test_templates_are_whole_and_tidy(editor: Editor, subtests: pytest.Subtests) -> None:
    """As the host gives them out; their nodes as large as this frontend draws them."""
    editor.start()
    for name in TEMPLATES:
        with subtests.test(name):
            workflow = editor.host.get(f"/api/workflow_templates/{PACK}/{name}.json")
            assert workflow == read(name)
            editor.load(workflow)
            missing = editor.js(
                "app.graph.nodes.map(n => n.type).filter(type => !LiteGraph.registered_node_types[type])"
            )
            assert missing == []
            check_places(editor)


@pytest.mark.parametrize("name", DEMOS)
def test_demo_runs_and_is_kept(editor: Editor, renderer: str, name: str) -> None:
    editor.open(name)
    editor.run()
    check_pictures(editor, renderer)
    if renderer == "classic":
        check_places(editor)
    values = all_values(editor)
    editor.save(f"{name} {renderer}")
    editor.reload()
    assert all_values(editor) == values


@pytest.mark.parametrize(("locale", "page"), [("en", f"{GRID}.md"), ("ja", f"{GRID}/ja.md")])
@pytest.mark.parametrize("renderer", ["classic"])
def test_help(editor: Editor, page: str) -> None:
    """The info button of a chosen node opens its page, in the user's language."""
    editor.open(DEMOS[-1])
    box = editor.box(editor.node(GRID))
    editor.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 6)
    editor.page.get_by_test_id("info-button").click()
    written = (ROOT / "web/docs" / page).read_text(encoding="utf-8")
    for line in written.splitlines():
        if line.startswith("## "):
            editor.page.get_by_role("heading", name=line.removeprefix("## "), exact=True).wait_for()
