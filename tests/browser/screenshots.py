"""Pictures of the demo workflows after a run, for the README:  python -m tests.browser.screenshots [NAME ...]

ComfyUI is the first that benchmarks/comfyuis.py finds; the pictures go to docs/screenshots.
"""

from __future__ import annotations

import argparse
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image

from benchmarks.comfyuis import HOSTS
from tests.host.server import ROOT

from .editor import Editor
from .launch import chromium, comfyui, editing

FOLDER = ROOT / "docs/screenshots"
DEMOS = sorted(path.stem for path in (ROOT / "workflows").glob("demo_*.json"))
SETTINGS = {
    "Comfy.VueNodes.Enabled": False,
    "Comfy.ColorPalette": "dark",
    "Comfy.Locale": "en",
    "Comfy.Graph.CanvasInfo": False,
    # Texts are drawn at every size; newer frontends have the first name, older ones the second.
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,
    "LiteGraph.Canvas.LowQualityRenderingZoomThreshold": 0.1,
}
SCALE = 0.8
"""Pixels of the page for a unit of the graph."""

LEFT, TOP, RIGHT, BOTTOM = 80, 180, 20, 90
"""What the frontend's own bars and messages cover, in pixels."""

PADDING = 20
WIDEST = 2000
LARGEST = 250_000
"""Pixels and bytes of a picture."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.browser.screenshots", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*DEMOS, []], help="workflows (default: every demo)")
    names = parser.parse_args().names or DEMOS
    FOLDER.mkdir(parents=True, exist_ok=True)
    with chromium() as browser, tempfile.TemporaryDirectory() as base, comfyui(HOSTS[0], Path(base)) as host:
        for name in names:
            with editing(browser, host, (1600, 1000), SETTINGS) as editor:
                picture = photograph(editor, name)
            (FOLDER / f"{name}.jpg").write_bytes(small_jpeg(picture))


def photograph(editor: Editor, name: str) -> Image.Image:
    """The whole graph after a run, at most WIDEST px wide."""
    editor.open(name)
    editor.run()
    boxes = [box["box"] for kind in ("nodes", "groups") for box in editor.boxes(kind)]
    x, y = (min(box[i] for box in boxes) - PADDING for i in (0, 1))
    width, height = (int((max(box[i] for box in boxes) + PADDING - low) * SCALE) for i, low in ((2, x), (3, y)))
    editor.page.set_viewport_size({"width": LEFT + width + RIGHT, "height": TOP + height + BOTTOM})
    editor.wait("width => app.canvas.canvas.getBoundingClientRect().width >= width", width)
    editor.js(
        """([x, y, scale, left, top]) => {
            const {ds, canvas} = app.canvas, corner = canvas.getBoundingClientRect();
            ds.scale = scale;
            ds.offset[0] = (left - corner.x) / scale - x;
            ds.offset[1] = (top - corner.y) / scale - y;
            app.canvas.setDirty(true, true);
        }""",
        [x, y, SCALE, LEFT, TOP],
    )
    editor.wait(
        """() => app.graph.nodes.every(node => !app.nodeOutputs[node.id]?.images || node.widgets?.some(w => w.element)
            || node.imgs?.length && node.imgs.every(img => img.naturalWidth))"""
    )
    editor.js("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    shot = editor.page.screenshot(clip={"x": LEFT, "y": TOP, "width": width, "height": height})
    picture = Image.open(BytesIO(shot)).convert("RGB")
    picture.thumbnail((WIDEST, WIDEST), Image.Resampling.LANCZOS)
    return picture


def small_jpeg(picture: Image.Image) -> bytes:
    """Of the best quality, 85 at most, that is not too large."""
    for quality in range(85, 30, -5):
        file = BytesIO()
        picture.save(file, "JPEG", quality=quality, optimize=True)
        if file.tell() <= LARGEST:
            break
    return file.getvalue()


if __name__ == "__main__":
    main()
