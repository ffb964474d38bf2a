"""The workflows in the host: made of its nodes, listed among its templates, valid, and run to the end."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from workflows.source.api import to_api
from workflows.source.catalogue import CATALOGUE
from workflows.source.frontend import to_ui

from .server import PACK, ROOT, Graph, Host

FOLDER = ROOT / "workflows"
NAMES = sorted(CATALOGUE)
DEMOS = [name for name in NAMES if name.startswith("demo_")]
FRAMES = {"longer": 17, "4f": 4}
"""Part of a workflow's name -> its frames, where they are not 9."""


@pytest.fixture(scope="module")
def schemas(host: Host) -> Any:
    return host.get("/object_info")


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def fetch(host: Host, path: str, body: Any = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(host.url + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


def run(host: Host, api: dict[str, Any]) -> dict[str, Any]:
    """The outputs of a graph in its API form, by class; every node that shows or saves has some."""
    graph = Graph()
    graph.nodes = api
    outputs = host.run(graph).outputs
    return {api[number]["class_type"]: output for number, output in outputs.items()}


def check_sequence(host: Host, name: str, api: dict[str, Any]) -> None:
    """A graph saves frames that show something, and not all the same."""
    count = next((frames for part, frames in FRAMES.items() if part in name), 9)
    outputs = run(host, api)
    saved = [file for file in outputs["MakeAnythingSaveSequence"]["images"] if file["filename"].endswith(".png")]
    frames = [
        np.asarray(Image.open(host.base / "output" / file["subfolder"] / file["filename"]), float) for file in saved
    ]
    assert len(frames) == count
    assert outputs["MakeAnythingAnimateSequence"]["images"]
    assert frames[-1].std() > 10
    assert min(np.abs(frames[index] - frames[-1]).mean() for index in range(count // 2)) > 1


@pytest.mark.parametrize("name", NAMES)
def test_files_are_what_this_host_writes(schemas: Any, name: str) -> None:
    """Nodes, inputs, their order and defaults are those of the host's own schemas."""
    ui = to_ui(CATALOGUE[name].build(schemas, name))
    assert ui == read(FOLDER / f"{name}.json")
    assert to_api(ui) == read(FOLDER / "api" / f"{name}.json")


def test_host_lists_them_as_the_packs_templates(host: Host) -> None:
    assert sorted(host.get("/workflow_templates")[PACK]) == NAMES
    for name in NAMES:
        for ending in ("json", "jpg"):
            served = fetch(host, f"/api/workflow_templates/{PACK}/{name}.{ending}")
            assert served == (FOLDER / f"{name}.{ending}").read_bytes()


@pytest.mark.parametrize("name", DEMOS)
def test_demos_run(host: Host, name: str) -> None:
    check_sequence(host, name, read(FOLDER / "api" / f"{name}.json"))


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(DEMOS)))
def test_graphs_for_flux_dev_lack_nothing_but_its_files(host: Host, name: str) -> None:
    """The host refuses them for the files that are not here, and for nothing else."""
    ui = read(FOLDER / f"{name}.json")
    wanted = {model["name"] for node in ui["nodes"] for model in node["properties"].get("models", ())}
    with pytest.raises(urllib.error.HTTPError) as refusal:
        fetch(host, "/prompt", {"prompt": read(FOLDER / "api" / f"{name}.json")})
    errors = [error for node in json.load(refusal.value)["node_errors"].values() for error in node["errors"]]
    missing = {error["extra_info"].get("received_value") for error in errors if error["type"] == "value_not_in_list"}
    others = [error for error in errors if error["type"] != "value_not_in_list"]
    assert missing and missing <= wanted
    assert [error for error in others if "example.png" not in error["details"]] == []


@pytest.mark.parametrize("name", ["text_to_process_4f", "image_to_process_4f", "mix_two_domains"])
def test_graphs_for_flux_dev_run_on_flux_nano(host: Host, schemas: Any, name: str) -> None:
    """The others have a demo of the same recipe."""
    entry = CATALOGUE[name]
    check_sequence(host, name, to_api(to_ui(entry.build(schemas, name, entry.nano))))


def test_what_is_off_runs_when_it_is_switched_on(host: Host) -> None:
    ui = read(FOLDER / "demo_style_stack.json")
    (off,) = (node for node in ui["nodes"] if node["mode"])
    off["mode"] = 0
    (written,) = run(host, to_api(ui))[off["type"]]["text"]
    assert (host.base / "models/loras" / written).is_file()
