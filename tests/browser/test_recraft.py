"""ReCraft shows how the picture will lie in its cell, before and after a run."""

from __future__ import annotations

import pytest
from PIL import Image

from .editor import Editor
from .graphs import build

NINE = {"layout": "9 frames (3x3)"}


def picture(editor: Editor, name: str, width: int, height: int) -> str:
    Image.new("RGB", (width, height), (width % 256, 30, 60)).save(editor.host.base / "input" / name)
    return name


def shares(editor: Editor) -> list[float]:
    """Width and height of the picture, and width by height of the cell, as they are on the page."""
    script = """() => {
        const [cell, image] = ["", " img"].map(part =>
            document.querySelector(".makeanything-fit .cell" + part).getBoundingClientRect());
        return [image.width / cell.width, image.height / cell.height, cell.width / cell.height];
    }"""
    return editor.js(script)


def says(editor: Editor, text: str) -> None:
    editor.wait("text => document.querySelector('.makeanything-fit output')?.value === text", text)


def test_the_fit_follows_the_graph(editor: Editor, renderer: str) -> None:
    wide, tall = picture(editor, "wide.png", 300, 150), picture(editor, "tall.png", 60, 240)
    editor.start()
    made = build(
        editor,
        image=("LoadImage", {"image": wide}, {}),
        grid=("MakeAnythingEmptyGrid", {**NINE, "cell": 48}, {}),
        recraft=("MakeAnythingReCraft", NINE, {"image": "image.0", "latent": "grid.0"}),
    )
    editor.choose(made["image"], "image", wide)
    says(editor, "300 x 150 px \u2192 48 x 48 px, white above and below")
    assert shares(editor) == pytest.approx([1, 0.5, 1], abs=0.05)
    editor.choose(made["image"], "image", tall)
    says(editor, "60 x 240 px \u2192 48 x 48 px, white left and right")
    assert shares(editor) == pytest.approx([0.25, 1, 1], abs=0.05)
    saved = editor.js("app.graph.serialize()")
    (recraft,) = (node for node in saved["nodes"] if node["type"] == "MakeAnythingReCraft")
    assert len(recraft["widgets_values"]) == 4
    editor.load(saved)
    says(editor, "60 x 240 px \u2192 48 x 48 px, white left and right")


@pytest.mark.parametrize("renderer", ["classic"])
def test_a_picture_made_by_the_graph_is_shown_once_it_is_there(editor: Editor, renderer: str) -> None:
    editor.start()
    build(
        editor,
        flux=("UNETLoader", {"unet_name": "tiny_flux.safetensors"}, {}),
        vae=("VAELoader", {"vae_name": "tiny_vae.safetensors"}, {}),
        image=("EmptyImage", {"width": 1200, "height": 400, "color": 0xC02040}, {}),
        grid=("MakeAnythingEmptyGrid", {**NINE, "cell": 32}, {}),
        recraft=(
            "MakeAnythingReCraft",
            NINE,
            {"model": "flux.0", "vae": "vae.0", "image": "image.0", "latent": "grid.0"},
        ),
        end=("TestProbe", {"name": "recrafted"}, {"value": "recraft.1"}),
    )
    assert editor.page.locator(".makeanything-fit").count() == 0
    editor.run()
    says(editor, "1200 x 400 px \u2192 32 x 32 px, white above and below")
    assert shares(editor) == pytest.approx([1, 1 / 3, 1], abs=0.05)
