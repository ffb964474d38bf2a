"""The frame player of Split Frames and Save Sequence: what it shows, what its keys do, and what is never saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from .editor import Editor
from .graphs import build

if TYPE_CHECKING:
    from playwright.sync_api import Locator

NINE = {"layout": "9 frames (3x3)"}
COLOURS = [(25 * frame, 255 - 25 * frame, 40) for frame in range(9)]
CELLS = [0, 1, 2, 5, 4, 3, 6, 7, 8]
"""Frames -> cells of a 3 x 3 grid, in rows from the top left."""


def grid_file(editor: Editor, name: str) -> str:
    """A grid whose frames have the COLOURS in time order."""
    cells = np.zeros((9, 3), np.uint8)
    cells[CELLS] = COLOURS
    pixels = np.kron(cells.reshape(3, 3, 3), np.ones((48, 48, 1), np.uint8))
    Image.fromarray(pixels).save(editor.host.base / "input" / name)
    return name


def player(editor: Editor, index: int = 0) -> Locator:
    return editor.page.locator(".makeanything-player").nth(index)


def pause(shown: Locator) -> None:
    shown.get_by_role("button", name="Pause").click()
    shown.get_by_role("button", name="Play").wait_for()


def colour(shown: Locator, x: float = 0.5, y: float = 0.5) -> tuple[int, ...]:
    """The colour at a place of the canvas, from 0 to 1."""
    script = """(canvas, [x, y]) =>
        [...canvas.getContext("2d").getImageData(x * canvas.width, y * canvas.height, 1, 1).data].slice(0, 3)"""
    return tuple(shown.locator("canvas").evaluate(script, [x, y]))


def played(editor: Editor, renderer: str) -> None:
    """A grid taken apart and saved, both players paused."""
    name = grid_file(editor, f"grid_{renderer}.png")
    editor.start()
    build(
        editor,
        load=("LoadImage", {"image": name}, {}),
        split=("MakeAnythingSplitFrames", NINE, {"grids": "load.0"}),
        save=("MakeAnythingSaveSequence", {"filename_prefix": renderer, "fps": 5.0}, {"frames": "split.0"}),
    )
    editor.run()
    for index, step in enumerate(("Back", "End")):
        shown = player(editor, index)
        shown.get_by_role("button", name="Pause").wait_for()
        if step == "End":
            shown.get_by_role("slider", name="Frame").press("End")
        else:
            shown.get_by_role("button", name="Back").click()
        # A step stops what plays.
        shown.get_by_role("button", name="Play").wait_for()


def view(editor: Editor) -> Any:
    """Where the graph and its nodes stand."""
    return editor.js(
        "[[...app.canvas.ds.offset], app.canvas.ds.scale, app.graph.nodes.map(n => [n.id, ...n.pos]).sort()]"
    )


def test_play_step_scrub_and_grid(editor: Editor, renderer: str) -> None:
    played(editor, renderer)
    before = view(editor)
    for index in range(2):
        shown = player(editor, index)
        count, scrub = shown.locator("output"), shown.get_by_role("slider", name="Frame")
        scrub.focus()
        for key, number in (("End", 9), ("ArrowLeft", 8), ("Home", 1), ("ArrowLeft", 1), ("ArrowRight", 2)):
            editor.page.keyboard.press(key)
            assert count.text_content() == scrub.get_attribute("aria-valuetext") == f"{number} / 9"
            assert colour(shown) == COLOURS[number - 1]
        shown.get_by_role("button", name="Forward").click()
        assert count.text_content() == "3 / 9"
        scrub.fill("6")
        assert colour(shown) == COLOURS[5]
        assert shown.locator("canvas").get_attribute("aria-label") == "Frame 6 of 9"
        shown.get_by_role("button", name="Grid").click()
        assert colour(shown, 1 / 6, 0.5) == COLOURS[5]
        assert colour(shown, 5 / 6, 0.5) == COLOURS[3]
        assert shown.locator("text").all_text_contents() == list("123456789")
        assert shown.locator("circle.current + text").text_content() == "6"
        scrub.focus()
        editor.page.keyboard.press("Space")
        shown.get_by_role("button", name="Pause").wait_for()
        editor.wait("shown => shown.querySelector('output').value !== '6 / 9'", shown.element_handle())
        pause(shown)
    assert player(editor, 1).get_by_role("spinbutton").input_value() == "5"
    slider = player(editor).get_by_role("slider").bounding_box()
    assert slider is not None
    editor.page.mouse.move(slider["x"] + slider["width"] / 2, slider["y"] + slider["height"] / 2)
    editor.page.mouse.down()
    editor.page.mouse.move(slider["x"] + slider["width"] - 1, slider["y"] + 90, steps=3)
    editor.page.mouse.up()
    assert player(editor).locator("output").text_content() == "9 / 9"
    assert view(editor) == before
    assert_nothing_is_saved(editor)


def assert_nothing_is_saved(editor: Editor) -> None:
    saved = editor.js("app.graph.serialize()")
    lengths = {node["type"]: len(node["widgets_values"]) for node in saved["nodes"]}
    assert (lengths["MakeAnythingSplitFrames"], lengths["MakeAnythingSaveSequence"]) == (2, 7)
    prompt = editor.js("async () => (await app.graphToPrompt()).output")
    assert not [name for node in prompt.values() for name in node["inputs"] if name.startswith("makeanything")]
    editor.load(saved)
    assert editor.values(editor.node("MakeAnythingSplitFrames")) == {**NINE, "trim_gutters": True}


@pytest.mark.parametrize("renderer", ["classic"])
def test_the_grid_marks_what_recraft_holds(editor: Editor, renderer: str) -> None:
    """Two grids joined, of which only the second has held frames: 2, and the last."""
    Image.new("RGB", (32, 32), (200, 30, 60)).save(editor.host.base / "input/held.png")
    editor.start()
    sampled = {"positive": "words.0", "negative": "words.0"}
    once = {"steps": 1, "cfg": 1.0}
    made = build(
        editor,
        flux=("UNETLoader", {"unet_name": "tiny_flux.safetensors"}, {}),
        vae=("VAELoader", {"vae_name": "tiny_vae.safetensors"}, {}),
        image=("LoadImage", {"image": "held.png"}, {}),
        words=("TestConditioning", {"seed": 1}, {}),
        grid=("MakeAnythingEmptyGrid", {**NINE, "cell": 32}, {}),
        last=("MakeAnythingReCraft", NINE, {"model": "flux.0", "vae": "vae.0", "image": "image.0", "latent": "grid.0"}),
        second=(
            "MakeAnythingReCraft",
            {**NINE, "frame": 2},
            {"model": "last.0", "vae": "vae.0", "image": "image.0", "latent": "last.1"},
        ),
        free=("KSampler", once, {"model": "flux.0", "latent_image": "grid.0", **sampled}),
        bound=("KSampler", once, {"model": "second.0", "latent_image": "second.1", **sampled}),
        one=("VAEDecode", {}, {"samples": "free.0", "vae": "vae.0"}),
        two=("VAEDecode", {}, {"samples": "bound.0", "vae": "vae.0"}),
        both=("ImageBatch", {}, {"image1": "one.0", "image2": "two.0"}),
        split=("MakeAnythingSplitFrames", NINE, {"grids": "both.0"}),
    )
    editor.run()
    shown = player(editor)
    shown.wait_for()
    editor.js("id => app.canvas.centerOnNode(app.graph.getNodeById(id))", made["split"])
    pause(shown)
    shown.get_by_role("button", name="Grid").click()
    assert shown.locator("rect").count() == 0
    shown.get_by_role("combobox", name="Sequence").select_option("2 of 2")
    assert shown.locator("canvas").get_attribute("aria-label") == "Grid of 3 x 3 frames; held by ReCraft: 2, 9"
    assert shown.locator("rect").count() == 2
    assert shown.get_by_text("held by ReCraft").is_visible()
