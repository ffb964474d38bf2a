"""The panels can be read in light and dark themes; and without the pack's scripts everything still works."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from tests.host.server import ROOT

from .editor import Editor
from .graphs import build
from .test_workflows import check_pictures

READABLE = 4.5
"""Contrast of small text with what is behind it (WCAG 2.2, 1.4.3)."""

CONTRASTS = """selector => {
    const rgba = css => {
        const context = Object.assign(document.createElement("canvas"), {width: 1, height: 1}).getContext("2d");
        context.fillStyle = css;
        context.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
        .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = part => {
        // In the classic renderer the panels lie over nodes that are painted on the canvas.
        for (let at = part; at && !at.matches(".dom-widget"); at = at.parentElement) {
            const colour = rgba(getComputedStyle(at).backgroundColor);
            if (colour[3] > 0.9) return colour;
        }
        return rgba(LiteGraph.NODE_DEFAULT_BGCOLOR);
    };
    const found = {};
    for (const part of document.querySelectorAll(`${selector}, ${selector} *`)) {
        const text = [...part.childNodes].filter(n => n.nodeType === 3).map(n => n.textContent.trim()).join("");
        if (!(text || part.matches("input[type=number], output")) || !part.checkVisibility()) continue;
        if (part.closest("svg, :disabled") && !part.matches(".line")) continue;
        const both = [light(rgba(getComputedStyle(part).color)), light(behind(part))];
        found[`${part.className || part.localName} ${text}`] = (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
    }
    return found;
}"""
"""Each text of a panel -> its contrast."""


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_panels_can_be_read(editor: Editor, renderer: str, theme: str) -> None:
    name = f"wide_{renderer}_{theme}.png"
    Image.new("RGB", (288, 96), (200, 80, 40)).save(editor.host.base / "input" / name)
    nine = {"layout": "9 frames (3x3)"}
    editor.start()
    build(
        editor,
        load=("LoadImage", {"image": name}, {}),
        split=("MakeAnythingSplitFrames", nine, {"grids": "load.0"}),
        stack=("MakeAnythingLoraStack", {"lora_1": "flux_nano_recraft_9f.safetensors"}, {}),
        recraft=("MakeAnythingReCraft", nine, {"image": "load.0"}),
    )
    editor.js("() => app.graph.getNodeById(app.graph.nodes.find(n => n.type.endsWith('ReCraft')).id).mode = 2")
    editor.run()
    for panel, least in ((".makeanything-player", 4), (".makeanything-loras", 2), (".makeanything-fit", 1)):
        editor.page.locator(panel).first.wait_for()
        found = editor.js(CONTRASTS, panel)
        assert len(found) >= least
        assert {text: contrast for text, contrast in found.items() if contrast < READABLE} == {}


def test_a_demo_runs_without_the_packs_scripts(editor: Editor, renderer: str) -> None:
    editor.page.route("**/extensions/ComfyUI-MakeAnything/*.js", lambda route: route.abort())
    editor.open("demo_style_stack")
    editor.run()
    check_pictures(editor, renderer)
    assert editor.page.locator("[class^=makeanything]").count() == 0
    problems, editor.problems[:] = list(editor.problems), []
    assert problems
    assert [problem for problem in problems if "/extensions/ComfyUI-MakeAnything/" not in problem] == []


@pytest.mark.parametrize("renderer", ["classic"])
@pytest.mark.parametrize("locale", ["ja"])
def test_panels_speak_the_users_language(editor: Editor) -> None:
    texts = json.loads((ROOT / "locales/ja/main.json").read_text(encoding="utf-8"))["makeanything"]
    editor.start()
    build(editor, stack=("MakeAnythingLoraStack", {"lora_1": "flux_nano_recraft_9f.safetensors"}, {}))
    rows = editor.page.locator(".makeanything-loras")
    rows.get_by_role("button", name=texts["Remove LoRA {row}"].format(row=1)).wait_for()
    rows.get_by_text(texts["no trigger words"]).wait_for()
