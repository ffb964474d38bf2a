"""The small pictures that the browser gets: complete, bounded, and beside outputs that stay as they were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from .server import Graph, Host, Node
from .test_sequence_nodes import PNG, THREE, TWO, cells, image, picture, save, split

PIXELS = 6 * 1024 * 1024


def entries(host: Host, g: Graph, node: Node, key: str = "makeanything_frames") -> list[dict[str, Any]]:
    return host.run(g).outputs[node.number][key]


def pixels(host: Host, entry: dict[str, Any]) -> np.ndarray:
    assert entry["type"] == "temp"
    with Image.open(host.base / "temp" / entry["subfolder"] / entry["filename"]) as file:
        return np.asarray(file).astype(np.float32) / 255


def on_sheet(sheet: np.ndarray, entry: dict[str, Any]) -> list[np.ndarray]:
    """The frames of a sheet, as web/player.js cuts them."""
    columns = entry["columns"]
    width = sheet.shape[1] // columns
    height = sheet.shape[0] // -(-entry["shown"] // columns)
    places = [divmod(index, columns) for index in range(entry["shown"])]
    return [sheet[row * height : (row + 1) * height, col * width : (col + 1) * width] for row, col in places]


def assert_shows(found: Sequence[np.ndarray], wanted: torch.Tensor) -> None:
    for frame, tensor in zip(found, wanted, strict=True):
        assert frame.shape == tensor.shape
        assert np.abs(frame - tensor.numpy()).max() < 1.01 / 255


def test_split_frames_shows_every_grid_as_a_sequence(host: Host) -> None:
    g = Graph()
    node = split(g, image(g, 1, 36, 48, 2), **THREE)
    g.probe("frames", node[0])
    out = host.run(g)
    shown = out.outputs[node.number]
    assert shown.keys() == {"makeanything_frames"}
    grids = picture(1, 36, 48, 2)
    for entry, grid in zip(shown["makeanything_frames"], grids, strict=True):
        facts = {name: entry[name] for name in ("rows", "cols", "frames", "shown")}
        assert facts == {"rows": 3, "cols": 3, "frames": 9, "shown": 9}
        assert_shows(on_sheet(pixels(host, entry), entry), cells(grid, 3))
    assert torch.equal(out["frames"], torch.cat([cells(grid, 3) for grid in grids]))


def test_a_custom_layout_is_told(host: Host) -> None:
    g = Graph()
    node = split(g, image(g, 1, 8, 6), **{"layout": "custom", "layout.rows": 1, "layout.cols": 2})
    g.probe("custom_frames", node[0])
    (entry,) = entries(host, g, node)
    assert (entry["rows"], entry["cols"], entry["frames"]) == (1, 2, 2)


def test_save_sequence_shows_what_it_saves(host: Host) -> None:
    g = Graph()
    node = save(g, image(g, 1, 24, 40, 5), "player/seq", **PNG, fps=3.0)
    shown = host.run(g).outputs[node.number]
    assert [entry["type"] for entry in shown["images"]] == ["output"] * 5
    (entry,) = shown["makeanything_frames"]
    assert (entry["frames"], entry["shown"], entry["fps"]) == (5, 5, 3.0)
    assert "rows" not in entry
    sheet = pixels(host, entry)
    assert_shows(on_sheet(sheet, entry), picture(1, 24, 40, 5))
    assert not sheet[24:, 80:].any()


@pytest.mark.parametrize(("batch", "side"), [(2, 2100), (20, 640)])
def test_large_frames_are_shown_small(host: Host, batch: int, side: int) -> None:
    """No frame above 512 pixels, and all frames of a node together bounded."""
    g = Graph()
    node = split(g, g.add("EmptyImage", width=side, height=side // 2, batch_size=batch, color=0xFF8000)[0], **TWO)
    g.probe("large", node[0])
    sheets = [pixels(host, entry) for entry in entries(host, g, node)]
    assert len(sheets) == batch
    assert all(sheet.shape[1] == 2 * sheet.shape[0] <= 1024 for sheet in sheets)
    assert PIXELS / 8 < sum(sheet.shape[0] * sheet.shape[1] for sheet in sheets) <= PIXELS
    assert np.allclose(sheets[-1], np.array([255, 128, 0]) / 255, atol=1.01 / 255)


def test_of_a_long_sequence_some_frames_are_shown(host: Host) -> None:
    g = Graph()
    node = save(g, image(g, 1, 8, 8, 600), "long/seq", webp=True)
    (entry,) = entries(host, g, node)
    assert (entry["frames"], entry["shown"]) == (600, 256)
    numbers = [index * 599 // 255 for index in range(256)]
    assert_shows(on_sheet(pixels(host, entry), entry), picture(1, 8, 8, 600)[numbers])
    assert (numbers[0], numbers[-1]) == (0, 599)


def test_recraft_shows_the_picture_and_the_cell(host: Host) -> None:
    g = Graph()
    latent = g.add("MakeAnythingEmptyGrid", **THREE, cell=48, batch_size=2)
    node = g.add(
        "MakeAnythingReCraft", model=g.flux()[0], vae=g.vae()[0], image=image(g, 1, 30, 70, 2), **THREE,
        frame=0, start_percent=0.0, end_percent=1.0, latent=latent[0],
    )  # fmt: skip
    g.probe("fit", node[1])
    (entry,) = entries(host, g, node, "makeanything_fit")
    assert (entry["picture"], entry["cell"]) == ([70, 30], [48, 48])
    assert_shows([pixels(host, entry)], picture(1, 30, 70)[:1])
