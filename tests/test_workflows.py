"""The workflows that ship: files that fit each other, tidy graphs, and the conversion to the form for scripts."""

import itertools
import json
import re
from pathlib import Path

import pytest
from PIL import Image, ImageStat

from workflows.source import thumbnail
from workflows.source.api import to_api
from workflows.source.catalogue import CATALOGUE
from workflows.source.frontend import to_ui
from workflows.source.graph import Workflow

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "workflows"
NAMES = sorted(CATALOGUE)
DEMOS = [name for name in NAMES if name.startswith("demo_")]
NOTE = "MarkdownNote"
TITLE = 30
"""Height of a node's title bar, which lies above its box."""


def read(name):
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def box(node):
    """Left, top, right, bottom, with the title bar."""
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - TITLE, x + width, y + height


def frame(group):
    x, y, width, height = group["bounding"]
    return x, y, x + width, y + height


def apart(a, b):
    return a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def inside(inner, outer):
    return inner[0] >= outer[0] and inner[1] >= outer[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


def files_of(node):
    return {value for value in node["widgets_values"] if isinstance(value, str) and value.endswith(".safetensors")}


def test_every_workflow_has_its_three_files():
    for folder, ending in ((FOLDER, ".json"), (FOLDER, ".jpg"), (FOLDER / "api", ".json")):
        assert sorted(path.stem for path in folder.glob(f"*{ending}")) == NAMES
    assert len(NAMES) == 11 and len(DEMOS) == 4


@pytest.mark.parametrize("name", NAMES)
def test_links_say_the_same_at_both_ends(name):
    ui = read(name)
    nodes = {node["id"]: node for node in ui["nodes"]}
    numbers = [link[0] for link in ui["links"]]
    assert len(nodes) == len(ui["nodes"]) == ui["last_node_id"] == max(nodes)
    assert len(set(numbers)) == len(numbers) == ui["last_link_id"] == max(numbers)
    for number, source, slot, target, place, kind in ui["links"]:
        output, given = nodes[source]["outputs"][slot], nodes[target]["inputs"][place]
        assert number in output["links"] and output["type"] == kind
        assert given["link"] == number and given["type"] in (kind, "*")
    ends = [each["link"] for node in nodes.values() for each in node["inputs"] if each["link"] is not None]
    starts = [link for node in nodes.values() for output in node["outputs"] for link in output["links"]]
    assert sorted(ends) == sorted(starts) == sorted(numbers)


@pytest.mark.parametrize("name", NAMES)
def test_graphs_are_tidy(name):
    ui = read(name)
    (note,) = (node for node in ui["nodes"] if node["type"] == NOTE)
    others = [node for node in ui["nodes"] if node is not note]
    for one, other in itertools.combinations(ui["nodes"], 2):
        assert apart(box(one), box(other)), (one["type"], other["type"])
    for one, other in itertools.combinations(ui["groups"], 2):
        assert apart(frame(one), frame(other))
    for node in others:
        assert sum(inside(box(node), frame(group)) for group in ui["groups"]) == 1, node["type"]
    assert all(group["title"] for group in ui["groups"])
    assert all(apart(box(note), frame(group)) for group in ui["groups"])
    left = {node["id"]: node["pos"][0] for node in others}
    assert all(left[source] <= left[target] for _, source, _, target, *_ in ui["links"])


@pytest.mark.parametrize("name", NAMES)
def test_order_is_one_in_which_nodes_can_run(name):
    ui = read(name)
    order = {node["id"]: node["order"] for node in ui["nodes"]}
    assert sorted(order.values()) == list(range(len(order)))
    assert all(order[source] < order[target] for _, source, _, target, *_ in ui["links"])


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(DEMOS)))
def test_downloads_are_known(name):
    ui = read(name)
    (note,) = (node["widgets_values"][0] for node in ui["nodes"] if node["type"] == NOTE)
    found = set()
    for node in ui["nodes"]:
        models = node["properties"].get("models", [])
        assert {model["name"] for model in models} == files_of(node), node["type"]
        for model in models:
            assert re.fullmatch(
                rf"https://huggingface\.co/[\w.-]+/[\w.-]+/resolve/main/.*{model['name']}", model["url"]
            )
            assert model["directory"] in ("diffusion_models", "vae", "text_encoders", "loras")
            assert f"[{model['name']}]({model['url']}) | {model['directory']}" in note
        found |= files_of(node)
    assert len(found) >= 5
    assert "fp8" in note


@pytest.mark.parametrize("name", DEMOS)
def test_demos_need_only_what_the_pack_brings(name):
    shipped = {path.name for path in (ROOT / "models").glob("*/*.safetensors")}
    nodes = read(name)["nodes"]
    wanted = set().union(*map(files_of, nodes))
    assert len(wanted) >= 4
    assert wanted <= shipped
    assert not [node for node in nodes if "models" in node["properties"] or node["type"] == "LoadImage"]


@pytest.mark.parametrize("name", NAMES)
def test_thumbnails_show_something(name):
    path = FOLDER / f"{name}.jpg"
    with Image.open(path) as picture:
        assert (picture.format, picture.size) == ("JPEG", (thumbnail.EDGE, thumbnail.EDGE))
        assert max(ImageStat.Stat(picture).stddev) > 30
    assert path.stat().st_size < 60_000


@pytest.mark.parametrize("name", NAMES)
def test_form_for_scripts_is_the_converted_one(name):
    ui = read(name)
    api = json.loads((FOLDER / "api" / f"{name}.json").read_text(encoding="utf-8"))
    assert api == to_api(ui)
    wires = {
        (key, each, *value)
        for key, node in api.items()
        for each, value in node["inputs"].items()
        if type(value) is list
    }
    nodes = {node["id"]: node for node in ui["nodes"]}
    assert wires == {
        (str(target), nodes[target]["inputs"][place]["name"], str(source), slot)
        for _, source, slot, target, place, _ in ui["links"]
        if not nodes[target]["mode"]
    }


def widget(name, link=None):
    return {"name": name, "type": "INT", "link": link, "widget": {"name": name}}


def node(number, kind, values=(), inputs=(), **more):
    return {"id": number, "type": kind, "mode": 0, "inputs": list(inputs), "widgets_values": list(values), **more}


def graph(*nodes, links=()):
    return {"nodes": list(nodes), "links": list(links)}


SAMPLER = node(1, "KSampler", [7, "randomize", 20], [widget("seed"), widget("steps")])


def test_conversion_leaves_out_what_only_the_frontend_has():
    picture = node(2, "LoadImage", ["a.png", "image"], [widget("image")], title="Yours")
    note = node(3, NOTE, ["text"])
    off = node(4, "KSampler", SAMPLER["widgets_values"], SAMPLER["inputs"]) | {"mode": 2}
    assert to_api(graph(SAMPLER, picture, note, off)) == {
        "1": {"inputs": {"seed": 7, "steps": 20}, "class_type": "KSampler", "_meta": {"title": "KSampler"}},
        "2": {"inputs": {"image": "a.png"}, "class_type": "LoadImage", "_meta": {"title": "Yours"}},
    }


def test_conversion_prefers_a_wire_to_the_value_beside_it():
    taker = node(2, "KSampler", [7, "fixed", 20], [widget("seed", 5), widget("steps")])
    api = to_api(graph(SAMPLER, taker, links=[[5, 1, 3, 2, 0, "INT"]]))
    assert api["2"]["inputs"] == {"seed": ["1", 3], "steps": 20}


def test_conversion_refuses_what_does_not_pair_up():
    for values, message in (([7, "fixed"], "keeps no value for steps"), ([7, "fixed", 20, 30], r"no widget: \[30\]")):
        with pytest.raises(ValueError, match=message):
            to_api(graph({**SAMPLER, "widgets_values": values}))
    taker = node(2, "KSampler", [7, "fixed", 20], [widget("seed", 5), widget("steps")])
    with pytest.raises(ValueError, match="gets seed from a node that is off"):
        to_api(graph({**SAMPLER, "mode": 2}, taker, links=[[5, 1, 0, 2, 0, "INT"]]))


SCHEMAS = {
    "Load": {
        "input": {"required": {"file": [["a", "b"]]}},
        "input_order": {"required": ["file"]},
        "output": ["MODEL", "VAE"],
        "output_name": ["MODEL", "VAE"],
    },
    "Use": {
        "input": {
            "required": {"text": ["STRING", {"multiline": True}], "model": ["MODEL"], "seed": ["INT", {"default": 3}]},
            "optional": {"vae": ["VAE"]},
        },
        "input_order": {"required": ["text", "model", "seed"], "optional": ["vae"]},
        "output": ["LATENT"],
        "output_name": ["LATENT"],
    },
}


@pytest.fixture
def described():
    workflow = Workflow(SCHEMAS, "tiny")
    workflow.group("All")
    return workflow


def test_description_becomes_a_graph(described):
    loaded = described.add("Load", file="a")
    described.column()
    described.add("Use", model=loaded["MODEL"], vae=loaded["VAE"], text="words", title="Mine", yours=True)
    described.add("Use", model=loaded["MODEL"], muted=True)
    ui = to_ui(described)
    load, use, off, _note = ui["nodes"]
    assert [each["name"] for each in use["inputs"]] == ["model", "vae", "text", "seed"]
    assert use["widgets_values"] == ["words", 3]
    assert off["widgets_values"] == ["", 3] and off["mode"] == 2
    assert ui["links"] == [[1, 1, 0, 2, 0, "MODEL"], [2, 1, 1, 2, 1, "VAE"], [3, 1, 0, 3, 0, "MODEL"]]
    assert [output["links"] for output in load["outputs"]] == [[1, 3], [2]]
    assert to_api(ui)["2"]["inputs"] == {"text": "words", "seed": 3, "model": ["1", 0], "vae": ["1", 1]}
    assert load["pos"][0] < use["pos"][0] == off["pos"][0] and use["pos"][1] + use["size"][1] < off["pos"][1]


def test_description_refuses_what_the_host_does_not_have(described):
    loaded = described.add("Load", file="a")
    for call, message in (
        (lambda: described.add("Missing"), "tiny: the host has no node Missing"),
        (lambda: described.add("Load", file="a", size=1), "tiny: Load: there is no input size"),
        (lambda: described.add("Load"), "tiny: Load: file needs a value"),
        (lambda: described.add("Use"), "tiny: Use: model needs a value"),
        (lambda: described.add("Use", model=loaded["VAE"]), "model takes MODEL, not the VAE of Load"),
        (lambda: loaded["CLIP"], "Load has no output 'CLIP'; it has MODEL, VAE"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert len(described.nodes) == 1


def test_thumbnails_lie_as_a_snake():
    colours = [(number * 25, 0, 255 - number * 25) for number in range(4)]
    page = thumbnail.thumbnail([Image.new("RGB", (8, 8), colour) for colour in colours], "Title", "line", held=3)
    near, far = thumbnail.EDGE // 4, thumbnail.EDGE * 5 // 8
    assert [page.getpixel(at) for at in ((near, near), (far, near), (far, far), (near, far))] == colours
    plain = thumbnail.thumbnail([Image.new("RGB", (8, 8), colour) for colour in colours], "Title", "line")
    assert thumbnail.HELD in set(page.get_flattened_data()) - set(plain.get_flattened_data())
