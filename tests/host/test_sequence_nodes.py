"""Split, compose, contact sheet, animate and save, in the host."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from .server import POLL, Graph, Host

THREE = {"layout": "9 frames (3x3)"}
TWO = {"layout": "4 frames (2x2)"}
ORDER = {9: [0, 1, 2, 5, 4, 3, 6, 7, 8], 4: [0, 1, 3, 2]}
"""Frames -> cells in time order, counted in rows from the top left."""

PNG, GIF, WEBP = {"png": True}, {"gif": True}, {"webp": True}


def picture(seed: int, height: int, width: int, batch: int = 1) -> Tensor:
    """What TestImage gives."""
    return torch.rand(batch, height, width, 3, generator=torch.Generator().manual_seed(seed))


def image(g: Graph, seed: int, height: int, width: int, batch: int = 1) -> list[Any]:
    return g.add("TestImage", seed=seed, height=height, width=width, batch=batch)[0]


def split(g: Graph, grids: list[Any], trim: bool = False, **layout: Any) -> Any:
    return g.add("MakeAnythingSplitFrames", grids=grids, trim_gutters=trim, **layout)


def save(g: Graph, frames: list[Any], prefix: str, **options: Any) -> Any:
    defaults = {"png": False, "gif": False, "webp": False, "fps": 2.0, "hold_last": 0.0, "loop": True}
    return g.add("MakeAnythingSaveSequence", frames=frames, filename_prefix=prefix, **{**defaults, **options})


def saved(host: Host, g: Graph, node: Any) -> list[Path]:
    """The files that a run lists as a node's results."""
    return listed(host, host.run(g).outputs[node.number])


def listed(host: Host, output: dict[str, Any]) -> list[Path]:
    return [host.base / item["type"] / item["subfolder"] / item["filename"] for item in output["images"]]


def durations(animation: Image.Image) -> list[int]:
    """Milliseconds of each frame."""
    found = []
    for number in range(animation.n_frames):
        animation.seek(number)
        animation.load()
        found.append(animation.info["duration"])
    return found


def cells(grid: Tensor, edge: int) -> Tensor:
    """Cells (F, h, w, C) of a grid (H, W, C) in time order, by slices."""
    height, width = grid.shape[0] // edge, grid.shape[1] // edge
    rows = [grid[r * height : (r + 1) * height, c * width : (c + 1) * width] for r in range(edge) for c in range(edge)]
    return torch.stack([rows[place] for place in ORDER[edge * edge]])


@pytest.mark.parametrize(("layout", "edge"), [(THREE, 3), (TWO, 2)])
def test_split_and_compose(host: Host, layout: dict[str, str], edge: int) -> None:
    g = Graph()
    node = split(g, image(g, 1, 36, 48, 2), **layout)
    for name, output in (("frames", 0), ("tail", 1), ("count", 2)):
        g.probe(f"split_{name}", node[output])
    g.probe("split_again", g.add("MakeAnythingComposeGrid", frames=node[0], **layout)[0])
    out = host.run(g)
    grids = picture(1, 36, 48, 2)
    wanted = torch.cat([cells(grid, edge) for grid in grids])
    assert torch.equal(out["split_frames"], wanted)
    assert torch.equal(out["split_tail"], wanted[edge * edge - 1 :: edge * edge])
    assert out["split_count"] == edge * edge
    assert torch.equal(out["split_again"], grids)


def test_split_custom_layout(host: Host) -> None:
    g = Graph()
    g.probe("custom", split(g, image(g, 1, 8, 6), **{"layout": "custom", "layout.rows": 2, "layout.cols": 1})[0])
    assert torch.equal(host.run(g)["custom"], picture(1, 8, 6).reshape(2, 4, 6, 3))


def test_split_trims_gutters(host: Host) -> None:
    """Two by two bright cells with a black cross of 4 pixels between them."""
    grid = 0.5 + picture(3, 128, 128)[0] / 2
    grid[62:66], grid[:, 62:66] = 0, 0
    Image.fromarray((grid.numpy() * 255).round().astype(np.uint8)).save(host.base / "input/gutters.png")
    g = Graph()
    node = split(g, g.add("LoadImage", image="gutters.png")[0], trim=True, **TWO)
    g.probe("trimmed", node[0])
    frames = host.run(g)["trimmed"]
    assert frames.shape[0] == 4
    assert 56 <= frames.shape[1] == frames.shape[2] <= 62
    assert frames.min() > 0.49


def test_wrong_sizes_are_sentences(host: Host) -> None:
    g = Graph()
    g.probe("bad", split(g, image(g, 1, 100, 90), **THREE)[0])
    assert "does not divide into 3 columns and 3 rows" in host.fails(g)
    g = Graph()
    g.probe("bad", g.add("MakeAnythingComposeGrid", frames=image(g, 1, 8, 8, 10), **THREE)[0])
    assert "10 frames do not fill 3x3 grids of 9 frames each" in host.fails(g)
    g = Graph()
    g.probe("bad", split(g, image(g, 1, 8, 8), layout="from domain")[0])
    assert "no domain is wired" in host.fails(g)


def test_contact_sheet(host: Host) -> None:
    def sheet(captions: str, numbered: bool, columns: int) -> Tensor:
        g = Graph()
        frames = image(g, 1, 40, 48, 4)
        options = {"captions": captions, "numbered": numbered, "columns": columns}
        g.probe("sheet", g.add("MakeAnythingContactSheet", frames=frames, **options)[0])
        return host.run(g)["sheet"]

    bare = sheet("", False, 0)
    assert bare.shape == (1, 3 * 6 + 2 * 40, 3 * 6 + 2 * 48, 3)
    assert (bare[0, 6:46, 6:54] - picture(1, 40, 48, 4)[0]).abs().max() <= 0.5 / 255 + 1e-6
    assert sheet("", False, 4).shape[2] == 5 * 6 + 4 * 48
    captioned = sheet("one\n\nthree\n\n\n", True, 0)
    assert captioned.shape[1] > bare.shape[1] + 20
    g = Graph()
    frames = image(g, 1, 8, 8, 2)
    g.probe("bad", g.add("MakeAnythingContactSheet", frames=frames, captions="a\nb\nc", numbered=True, columns=0)[0])
    assert "3 captions were given for 2 frames" in host.fails(g)


def animate(g: Graph, frames: list[Any], **options: Any) -> Any:
    defaults = {"fps": 4.0, "hold_last": 0.5, "crossfade": 0.0, "ping_pong": False}
    return g.add("MakeAnythingAnimateSequence", frames=frames, **{**defaults, **options})


def test_animate(host: Host) -> None:
    g = Graph()
    node = animate(g, image(g, 1, 32, 32, 3), ping_pong=True)
    g.probe("timeline", node[0])
    g.probe("rate", node[2])
    out = host.run(g)
    frames = picture(1, 32, 32, 3)
    assert torch.equal(out["timeline"], frames[[0, 1, 2, 2, 2, 1]])
    assert out["rate"] == 4
    shown = out.outputs[node.number]
    assert shown["animated"] == [True]
    (preview,) = listed(host, shown)
    assert preview.parent == host.base / "temp"
    with Image.open(preview) as webp:
        assert (webp.format, webp.size) == ("WEBP", (32, 32))
        assert sum(durations(webp)) == 6 * 250


@pytest.mark.parametrize(("height", "width"), [(32, 48), (33, 47)])
def test_stock_save_video_plays_the_timeline(host: Host, height: int, width: int) -> None:
    g = Graph()
    node = animate(g, image(g, 1, height, width, 2), fps=3.0, hold_last=1.0, crossfade=0.5)
    options = {"filename_prefix": f"video/odd{height}", "format": "auto", "codec": "auto"}
    g.add("SaveVideo", video=node[1], **options)
    host.run(g)
    (path,) = (host.base / "output/video").glob(f"odd{height}*.mp4")
    with av.open(str(path)) as video:
        stream = video.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(stream)]
        assert stream.average_rate == 24
        assert json.loads(video.metadata["prompt"]) == g.nodes
    assert len(frames) == (2 / 3 + 1) * 24
    assert frames[0].shape == (height // 2 * 2, width // 2 * 2, 3)
    # Noise is what H.264 keeps worst: the last frame must still be the last, not the first.
    first, last = (picture(1, height, width, 2)[:, : height // 2 * 2, : width // 2 * 2] * 255).numpy()
    assert np.abs(frames[-1] - last).mean() < 0.7 * np.abs(frames[-1] - first).mean()


def test_save_everything(host: Host) -> None:
    g = Graph()
    node = save(g, image(g, 1, 32, 48, 3), "all/seq", **PNG, **GIF, **WEBP, hold_last=1.0)
    g.probe("passed", node[0])
    out = host.run(g)
    assert torch.equal(out["passed"], picture(1, 32, 48, 3))
    shown = out.outputs[node.number]
    assert shown["animated"] == [True]
    paths = listed(host, shown)
    endings = ["_.webp", "_.gif", "_01.png", "_02.png", "_03.png"]
    assert paths == [host.base / f"output/all/seq_00001{ending}" for ending in endings]
    assert sorted(paths) == sorted((host.base / "output/all").iterdir())
    for path in paths[:2]:
        with Image.open(path) as animation:
            assert durations(animation) == [500, 500, 1500]
    for path, frame in zip(paths[2:], picture(1, 32, 48, 3), strict=True):
        with Image.open(path) as png:
            assert np.abs(np.asarray(png) / 255 - frame.numpy()).max() <= 0.5 / 255 + 1e-6


def test_paths_are_a_list(host: Host) -> None:
    g = Graph()
    node = save(g, image(g, 1, 8, 8, 2), "paths/seq", **PNG, **GIF)
    g.add("PreviewAny", source=node[1])
    (texts,) = [output["text"] for output in host.run(g).outputs.values() if "text" in output]
    folder = host.base / "output/paths"
    assert texts == [str(folder / name) for name in ("seq_00001_.gif", "seq_00001_01.png", "seq_00001_02.png")]


@pytest.mark.parametrize(
    ("kinds", "animated"),
    [(PNG, None), (GIF, None), (WEBP, [True]), ({**GIF, **PNG}, [True]), ({**GIF, **WEBP}, [True])],
)
def test_results_the_frontend_can_show(host: Host, kinds: dict[str, bool], animated: list[bool] | None) -> None:
    """Animated without WebP or PNG, the frontend would open a video player."""
    g = Graph()
    node = save(g, image(g, 1, 8, 8, 2), "shown/seq", **kinds)
    assert host.run(g).outputs[node.number].get("animated") == animated


@pytest.mark.parametrize("prefix", ["again/seq", "again/", "again/seq_with_1_number", "again/%width%", "again/dots/."])
def test_never_overwrites(host: Host, prefix: str) -> None:
    """Runs with other inputs each time, as the host does not run the same graph twice."""
    before: dict[Path, bytes] = {}
    for seed in range(3):
        g = Graph()
        for path in saved(host, g, save(g, image(g, seed, 8, 8, 2), prefix, **PNG, **GIF)):
            assert path not in before
            before[path] = path.read_bytes()
    assert len(before) == 9
    assert all(path.read_bytes() == data for path, data in before.items())
    assert all((host.base / "output/again") == path.parent for path in before)


def test_kinds_share_the_count(host: Host) -> None:
    """A GIF does not take the number of an earlier run's frames."""
    g = Graph()
    first = saved(host, g, save(g, image(g, 1, 8, 8, 2), "share/seq", **PNG))
    g = Graph()
    second = saved(host, g, save(g, image(g, 1, 8, 8, 2), "share/seq", **GIF))
    assert [path.name for path in (*first, *second)] == ["seq_00001_01.png", "seq_00001_02.png", "seq_00002_.gif"]


@pytest.mark.parametrize("prefix", ["../outside/seq", "a/../../outside/seq", "/tmp/makeanything_outside/seq"])
def test_never_leaves_the_output_folder(host: Host, prefix: str) -> None:
    g = Graph()
    save(g, image(g, 1, 8, 8, 2), prefix, **PNG)
    assert "is not a name inside the output folder" in host.fails(g)
    assert not (host.base / "outside").exists()
    assert not Path("/tmp/makeanything_outside").exists()


def test_nothing_to_save(host: Host) -> None:
    g = Graph()
    save(g, image(g, 1, 8, 8, 2), "none/seq")
    assert "switch on at least one of png, gif and webp" in host.fails(g)


def _post(host: Host, path: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(host.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read() or b"null")


def _entry(host: Host, number: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if entry := host.get(f"/history/{number}").get(number):
            return entry
        time.sleep(POLL)
    raise AssertionError("the graph did not finish")


def test_workflow_is_embedded(host: Host) -> None:
    """As the frontend sends it, beside the prompt."""
    workflow = {"nodes": [{"id": 1, "title": "é " + "long " * 5000}]}
    g = Graph()
    node = save(g, image(g, 1, 8, 8, 2), "flow/seq", **PNG, **GIF, **WEBP)
    extra = {"extra_pnginfo": {"workflow": workflow}}
    number = _post(host, "/prompt", {"prompt": g.nodes, "extra_data": extra})["prompt_id"]
    for path in listed(host, _entry(host, number)["outputs"][node.number]):
        with Image.open(path) as file:
            if path.suffix == ".gif":
                found = json.loads(file.info["comment"])
            elif path.suffix == ".webp":
                found = dict(file.getexif()[tag].split(":", 1) for tag in (0x0110, 0x010F))
            else:
                found = file.text
        assert {name: json.loads(text) for name, text in found.items()} == {"prompt": g.nodes, "workflow": workflow}


def test_cancel_stops_between_frames(host: Host) -> None:
    g = Graph()
    save(g, image(g, 1, 512, 512, 120), "cancel/seq", **PNG)
    number = _post(host, "/prompt", {"prompt": g.nodes})["prompt_id"]
    folder = host.base / "output/cancel"
    deadline = time.monotonic() + 60
    while not list(folder.glob("seq*.png")) and time.monotonic() < deadline:
        time.sleep(POLL)
    _post(host, "/interrupt", {})
    assert "execution_interrupted" in [kind for kind, _ in _entry(host, number)["status"]["messages"]]
    # A part of a set would look like a whole one.
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("extra", [["a"], "text", 5])
def test_extra_data_that_is_no_object_is_left_out(host: Host, extra: Any) -> None:
    g = Graph()
    # A graph of its own, which no host has cached.
    node = save(g, image(g, 1, 8, 8, 1), f"extra/{type(extra).__name__}", **PNG)
    number = _post(host, "/prompt", {"prompt": g.nodes, "extra_data": {"extra_pnginfo": extra}})["prompt_id"]
    (path,) = listed(host, _entry(host, number)["outputs"][node.number])
    with Image.open(path) as file:
        assert {name: json.loads(text) for name, text in file.text.items()} == {"prompt": g.nodes}
