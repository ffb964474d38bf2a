"""The LoRA Stack's rows: shown, added, moved, removed, switched, and the trigger words of their files."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from .editor import Editor
from .graphs import build

NODE = "MakeAnythingLoraStack"
INK, FACE, PLAIN, BROKEN = "ink.safetensors", "sub/face.safetensors", "plain.safetensors", "broken.safetensors"
NONE = (True, "none", 1, 1)


@pytest.fixture(autouse=True)
def files(editor: Editor) -> None:
    folder = editor.host.base / "models/loras"
    (folder / "sub").mkdir(exist_ok=True)
    weights = {"lora_unet_x.lora_up.weight": torch.zeros(1, 1)}
    save_file(weights, folder / INK, {"modelspec.trigger_phrase": "inkstyle, wet paper"})
    save_file(weights, folder / FACE, {"modelspec.trigger_phrase": "sks woman"})
    save_file(weights, folder / PLAIN)
    (folder / BROKEN).write_bytes(b"PK\x03\x04" + b"\xff" * 40)


def rows(editor: Editor, node: int | str) -> list[tuple[Any, ...]]:
    """(on, file, model strength, clip strength) of each row, as a saved workflow keeps them."""
    *values, apply = editor.js("id => app.graph.getNodeById(id).serialize().widgets_values", node)
    assert (len(values), apply) == (20, "auto")
    return [tuple(values[start : start + 4]) for start in range(0, 20, 4)]


def stack(editor: Editor, *files: str, **wires: str) -> int | str:
    """A stack with these files, each row with strengths of its own."""
    values: dict[str, Any] = {}
    for row, file in enumerate(files, 1):
        values |= {f"lora_{row}": file, f"model_{row}": row / 10, f"clip_{row}": row / 5}
    return build(editor, one=("Reroute", {}, {}), two=("Reroute", {}, {}), stack=(NODE, values, wires))["stack"]


def row(number: int, file: str, on: bool = True) -> tuple[Any, ...]:
    return on, file, number / 10, number / 5


def shown(editor: Editor, node: int | str, renderer: str) -> list[str]:
    """The widgets of its rows that the node shows."""
    if renderer == "vue":
        widgets = editor.page.locator(f'[data-node-id="{node}"] .lg-node-widget:visible')
        labels = [text.split("\n")[0] for text in widgets.all_inner_texts()]
    else:
        labels = editor.js(
            """id => {
                const node = app.graph.getNodeById(id);
                return node.widgets.filter(w => w.label && node.isWidgetVisible(w)).map(w => w.label);
            }""",
            node,
        )
    return [label for label in labels if label[:4] in ("LoRA", "mode", "clip", "on 1", "on 2")]


def lines(editor: Editor, *wanted: str) -> None:
    """Wait until these are the lines below the names of the rows."""
    editor.wait(
        """wanted => {
            const found = [...document.querySelectorAll(".makeanything-loras .line")].filter(line => line.offsetParent);
            return JSON.stringify(found.map(line => line.textContent)) === JSON.stringify(wanted);
        }""",
        list(wanted),
    )


def test_rows_are_added_moved_removed_and_switched(editor: Editor, renderer: str) -> None:
    editor.start()
    page, node = editor.page, stack(editor, INK, PLAIN, FACE)
    lines(editor, "inkstyle, wet paper", "no trigger words", "sks woman")
    fields = [f"{name} {number}" for number in (1, 2, 3) for name in ("LoRA", "model strength", "clip strength")]
    assert shown(editor, node, renderer) == [*fields, "LoRA 4"]
    height = editor.js("id => app.graph.getNodeById(id).size[1]", node)

    at = editor.js("[...app.canvas.ds.offset]")
    page.get_by_label("Move LoRA 3 up").click()
    lines(editor, "inkstyle, wet paper", "sks woman", "no trigger words")
    assert rows(editor, node) == [row(1, INK), row(3, FACE), row(2, PLAIN), NONE, NONE]
    page.get_by_label("Move LoRA 1 down").focus()
    page.keyboard.press("Space")
    lines(editor, "sks woman", "inkstyle, wet paper", "no trigger words")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.ariaLabel") == "Remove LoRA 1"
    page.get_by_label("LoRA 2 on").click()
    assert rows(editor, node) == [row(3, FACE), row(1, INK, on=False), row(2, PLAIN), NONE, NONE]
    page.keyboard.press("Control+z")
    editor.wait("id => app.graph.getNodeById(id).widgets.find(w => w.name === 'on_2')?.value === true", node)
    page.get_by_label("Remove LoRA 1").click()
    lines(editor, "inkstyle, wet paper", "no trigger words")
    assert rows(editor, node) == [row(1, INK), row(2, PLAIN), NONE, NONE, NONE]
    assert shown(editor, node, renderer) == [*fields[:6], "LoRA 3"]
    # Vue nodes of older frontends stay as tall as an undone node was saved.
    if renderer == "classic":
        editor.wait("([id, height]) => app.graph.getNodeById(id).size[1] < height", [node, height])
    assert editor.js("[...app.canvas.ds.offset]") == at
    assert page.get_by_label("Move LoRA 1 up").is_disabled()
    assert page.get_by_label("Move LoRA 2 down").is_disabled()

    page.get_by_label("Remove LoRA 2").click()
    page.get_by_label("Remove LoRA 1").click()
    lines(editor)
    assert rows(editor, node) == [NONE] * 5
    assert shown(editor, node, renderer) == ["LoRA 1"]
    prompt = editor.js("app.graphToPrompt().then(({output}) => Object.values(output).at(-1).inputs)")
    names = {f"{name}_{number}" for name in ("on", "lora", "model", "clip") for number in range(1, 6)}
    assert set(prompt) == {*names, "apply"}


def test_files_are_described(editor: Editor, renderer: str) -> None:
    editor.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    editor.start()
    node = stack(editor, FACE, "gone.safetensors", BROKEN)
    zipped = (
        f"{BROKEN} is not a readable safetensors file: it is a zip archive, as PyTorch's .pt and .ckpt pickles are; "
        "pickles are never loaded"
    )
    lines(editor, "sks woman", "missing from the loras folder", zipped)
    # The browser reports the server's refusal of the broken file.
    assert editor.problems
    assert all("status of 400" in problem and BROKEN in problem for problem in editor.problems)
    editor.problems.clear()
    words = editor.page.get_by_label("Copy the trigger words of LoRA 1: sks woman")
    words.click()
    lines(editor, "copied", "missing from the loras folder", zipped)
    assert editor.js("navigator.clipboard.readText()") == "sks woman"
    lines(editor, "sks woman", "missing from the loras folder", zipped)

    saved = editor.js("app.graph.serialize()")
    before = rows(editor, node)
    editor.js("navigator.clipboard.writeText('')")
    editor.js("Object.defineProperty(navigator, 'clipboard', {value: undefined, configurable: true})")
    editor.load(saved)
    lines(editor, "sks woman", "missing from the loras folder", zipped)
    assert rows(editor, node) == before
    words.click()
    lines(editor, "copied", "missing from the loras folder", zipped)
    editor.js("delete navigator.clipboard")
    assert editor.js("navigator.clipboard.readText()") == "sks woman"


@pytest.mark.parametrize("renderer", ["classic"])
def test_rows_with_a_wire_stay_where_they_are(editor: Editor, renderer: str) -> None:
    editor.start()
    node = stack(editor, INK, FACE, on_1="one.0", lora_3="two.0")
    lines(editor, "inkstyle, wet paper", "sks woman", "chosen by a wire")
    assert editor.page.get_by_label("Remove LoRA 2").is_disabled()
    assert editor.page.get_by_label("LoRA 1 on").is_disabled()
    assert "on 1" in shown(editor, node, renderer)
