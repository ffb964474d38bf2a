"""Saving in the host under faults: odd pictures, a disk that takes no more, Cancel, and two servers with one prefix."""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from . import tiny
from .server import POLL, Graph, Host, prepare
from .test_sequence_nodes import GIF, PNG, THREE, TWO, WEBP, animate, image, listed, picture, save, split

EMPTY = r"one or more pictures (F, h, w, C) of 1 to 4 channels are needed, got (0, 8, 8, 3); is the batch empty"


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_pictures_of_other_channels(host: Host, channels: int) -> None:
    g = Graph()
    frames = g.add("TestImage", seed=1, height=64, width=64, batch=4, channels=channels)[0]
    node = save(g, frames, f"channels{channels}/seq", **PNG, **GIF, **WEBP)
    g.probe("grid", g.add("MakeAnythingComposeGrid", frames=frames, **TWO)[0])
    g.probe("timeline", animate(g, frames)[0])
    g.probe("parts", split(g, frames, trim=True, **TWO)[0])
    sheet = {"captions": "", "numbered": True, "columns": 0}
    g.probe("sheet", g.add("MakeAnythingContactSheet", frames=frames, **sheet)[0])
    out = host.run(g)
    files = listed(host, out.outputs[node.number])
    assert [path.suffix for path in files] == [".webp", ".gif", ".png", ".png", ".png", ".png"]
    with Image.open(files[2]) as png:
        assert png.mode == {1: "L", 2: "LA", 4: "RGBA"}[channels]
    assert out["grid"].shape == (1, 128, 128, channels)
    assert out["parts"].shape[-1] == channels
    assert out["timeline"].shape[-1] == out["sheet"].shape[-1] == 3


def test_an_empty_batch_is_a_sentence(host: Host) -> None:
    def fails(class_type: str, **inputs: Any) -> str:
        g = Graph()
        frames = image(g, 1, 8, 8, 0)
        name = "grids" if class_type == "SplitFrames" else "image" if class_type == "ReCraft" else "frames"
        if class_type == "ReCraft":
            inputs |= {"model": g.flux()[0], "vae": g.vae()[0]}
        g.probe("bad", g.add(f"MakeAnything{class_type}", **{name: frames}, **inputs)[0])
        return host.fails(g)

    assert EMPTY in fails("SplitFrames", trim_gutters=True, **TWO)
    assert EMPTY in fails("SplitFrames", trim_gutters=False, **TWO)
    assert EMPTY in fails("ComposeGrid", **TWO)
    assert EMPTY in fails("ContactSheet", captions="", numbered=True, columns=0)
    assert EMPTY in fails("AnimateSequence", fps=2.0, hold_last=1.0, crossfade=0.0, ping_pong=False)
    assert EMPTY in fails("ReCraft", frame=0, start_percent=0.0, end_percent=1.0, **THREE)
    kinds = {"png": True, "gif": False, "webp": False, "fps": 2.0, "hold_last": 0.0, "loop": True}
    assert EMPTY in fails("SaveSequence", filename_prefix="empty/seq", **kinds)
    assert not (host.base / "output/empty").exists()


@pytest.mark.parametrize(("height", "width"), [(1, 40), (40, 1), (1, 1), (33, 47)])
def test_video_of_odd_sizes(host: Host, height: int, width: int) -> None:
    g = Graph()
    node = animate(g, image(g, 1, height, width, 3), hold_last=0.0)
    g.probe("timeline", node[0])
    prefix = f"video/{height}x{width}"
    g.add("SaveVideo", video=node[1], filename_prefix=prefix, format="mp4", codec="h264")
    out = host.run(g)
    assert out["timeline"].shape == (3, height, width, 3)
    (file,) = (host.base / "output/video").glob(f"{height}x{width}*.mp4")
    with av.open(str(file)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert np.stack(frames).shape == (3, max(height // 2 * 2, 2), max(width // 2 * 2, 2), 3)


def test_a_preview_smaller_than_frames_that_webp_can_not_hold(host: Host) -> None:
    g = Graph()
    frames = g.add("EmptyImage", width=16_384, height=2, batch_size=2, color=0xFF8000)[0]
    node = animate(g, frames)
    out = host.run(g)
    (file,) = listed(host, out.outputs[node.number])
    with Image.open(file) as preview:
        assert preview.size == (16_383, 2)
    g = Graph()
    save(g, g.add("EmptyImage", width=16_384, height=2, batch_size=2, color=0xFF8000)[0], "wide/seq", **WEBP)
    assert "a WebP has at most 16,383 pixels in a row or column" in host.fails(g)


def test_any_number_of_texts_of_any_name(host: Host) -> None:
    g = Graph()
    node = save(g, image(g, 1, 8, 8, 2), "texts/seq", **PNG, **GIF, **WEBP)
    texts = {f"name{number}": number for number in range(12)} | {"名前": "é"}
    body = {"prompt": g.nodes, "extra_data": {"extra_pnginfo": texts}}
    number = json.loads(host.post("/prompt", body))["prompt_id"]
    wanted = {"prompt": g.nodes, **texts}
    wanted["\\u540d\\u524d"] = wanted.pop("名前")
    for path in listed(host, ended(host, number)["outputs"][node.number]):
        with Image.open(path) as file:
            if path.suffix == ".gif":
                found = json.loads(file.info["comment"])
            elif path.suffix == ".webp":
                found = dict(text.split(":", 1) for text in file.getexif().values() if isinstance(text, str))
            else:
                found = file.text
        assert {name: json.loads(text) for name, text in found.items()} == wanted


def ended(host: Host, number: str) -> dict[str, Any]:
    """The history of a prompt, once it has ended."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if entry := host.get(f"/history/{number}").get(number):
            return entry
        time.sleep(POLL)
    raise AssertionError("the graph did not finish")


@pytest.mark.skipif(sys.platform != "linux", reason="another process's limits can be set on Linux alone")
class TestFull:
    """The server may write no file beyond some size, as on a disk that is full; its log is smaller."""

    @contextmanager
    def limited(self, host: Host, most: int) -> Iterator[None]:
        import resource

        assert host.process is not None
        before = resource.prlimit(host.process.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
        try:
            yield
        finally:
            resource.prlimit(host.process.pid, resource.RLIMIT_FSIZE, before)

    @pytest.mark.parametrize("kind", ["png", "gif", "webp"])
    def test_save_sequence(self, host: Host, kind: str) -> None:
        g = Graph()
        save(g, image(g, 1, 1200, 1200, 2), f"full/{kind}", **{kind: True})
        with self.limited(host, 600_000):
            text = host.fails(g)
        assert re.search(rf"{kind}_00001_\w*\.{kind} can't be saved: the disk takes no file of this size; save", text)
        assert "/" not in text
        assert list((host.base / "output/full").glob(f"*{kind}*")) == []

    def test_extract_head(self, host: Host) -> None:
        tiny.save_heads(host.base / "models/loras/full_heads.safetensors")
        g = Graph()
        names = {"heads": "full_heads.safetensors", "domain": "Sketch", "file_name": "full/sketch", "overwrite": False}
        g.add("MakeAnythingExtractHead", **names)
        with self.limited(host, 20_000):
            text = host.fails(g)
        assert "sketch.safetensors can't be saved: the disk takes no file of this size" in text
        assert list((host.base / "models/loras/full").iterdir()) == []
        host.run(g)
        assert [path.name for path in (host.base / "models/loras/full").iterdir()] == ["sketch.safetensors"]


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_cancel_stops_an_animation(host: Host, kind: str) -> None:
    """While the palette is made, or frames are encoded; nothing is left."""
    g = Graph()
    save(g, image(g, 1, 512, 512, 150), f"stop_{kind}/seq", **{kind: True})
    folder = host.base / f"output/stop_{kind}"
    assert cancelled(host, g, folder, ".makeanything-*")
    assert list(folder.iterdir()) == []


def test_cancel_stops_a_preview(host: Host) -> None:
    g = Graph()
    animate(g, image(g, 2, 512, 512, 150))
    before = set((host.base / "temp").iterdir())
    assert cancelled(host, g, host.base / "temp", ".makeanything-*")
    assert set((host.base / "temp").iterdir()) == before


def cancelled(host: Host, g: Graph, folder: Path, pattern: str) -> bool:
    """Press Cancel when a file of this pattern is there; whether that ended the graph."""
    number = json.loads(host.post("/prompt", {"prompt": g.nodes}))["prompt_id"]
    deadline = time.monotonic() + 60
    while not list(folder.glob(pattern)) and time.monotonic() < deadline:
        time.sleep(POLL)
    host.post("/interrupt", {})
    return "execution_interrupted" in [kind for kind, _ in ended(host, number)["status"]["messages"]]


def test_two_servers_with_one_prefix(host: Host, tmp_path: Path) -> None:
    """No set is lost, and none is mixed with another's."""
    prepare(tmp_path)
    shutil.rmtree(tmp_path / "output")
    (tmp_path / "output").symlink_to(host.base / "output", target_is_directory=True)
    second = Host(host.comfyui, tmp_path, host.python)
    try:
        second.start()
        numbers = []
        for seed in range(40):
            g = Graph()
            save(g, image(g, seed, 8, 8, 5), "two/seq", **PNG, **GIF)
            server = (host, second)[seed % 2]
            numbers.append((server, json.loads(server.post("/prompt", {"prompt": g.nodes}))["prompt_id"]))
        for server, number in numbers:
            assert ended(server, number)["status"]["status_str"] == "success"
    finally:
        second.stop()
    files = list((host.base / "output/two").iterdir())
    assert len(files) == 40 * 6
    sets = defaultdict(list)
    for path in files:
        if path.suffix == ".png":
            with Image.open(path) as file:
                sets[path.name[:9]].append((path.name, np.asarray(file)))
    seen = set()
    wanted = {seed: (picture(seed, 8, 8, 5).numpy() * 255).round().astype(np.uint8) for seed in range(40)}
    for frames in sets.values():
        pixels = np.stack([found for _, found in sorted(frames, key=lambda pair: pair[0])])
        seen |= {seed for seed, sequence in wanted.items() if np.array_equal(sequence, pixels)}
    assert seen == set(range(40))
