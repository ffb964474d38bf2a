"""Odd files in the loras folder and odd values in API calls: a sentence each, and everything else goes on."""

from __future__ import annotations

import importlib
import json
import os
import urllib.error
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import torch
from safetensors.torch import load_file, save_file

from . import tiny
from .in_process import PACK as HERE
from .server import PACK, Graph, Host

FOUND = Path(__file__).resolve().parents[1] / "fuzz/found"
HEADS = "odd_good_heads.safetensors"
LAYER = "lora_unet_single_blocks_0_linear2"
NODES = ("LoadFluxWithDomain", "ApplyDomainHead", "MixDomainHeads", "ExtractHead", "LoraStack")


@pytest.fixture
def loras(host: Host) -> Iterator[Path]:
    folder = host.base / "models/loras"
    tiny.save_heads(folder / HEADS)
    yield folder
    for path in folder.glob("odd_*"):
        path.unlink()


@pytest.fixture
def odd(loras: Path) -> list[str]:
    """Everything that once escaped, and things that are no files at all."""
    for case in FOUND.glob("headers-*.case"):
        (loras / f"odd_{case.stem}.safetensors").write_bytes(case.read_bytes())
    (loras / "odd_empty.safetensors").write_bytes(b"")
    os.mkfifo(loras / "odd_pipe.safetensors")
    (loras / "odd_loop.safetensors").symlink_to("odd_loop.safetensors")
    (loras / "odd_gone.safetensors").symlink_to("nowhere.safetensors")
    return sorted(path.name for path in loras.glob("odd_*") if path.name != HEADS)


def get(host: Host, path: str) -> tuple[int, Any]:
    try:
        return 200, host.get(path)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def stack(g: Graph, name: Any, **more: Any) -> list[Any]:
    rows: dict[str, Any] = {f"lora_{n}": "none" for n in range(1, 6)} | {f"on_{n}": True for n in range(1, 6)}
    rows |= {f"{side}_{n}": 1.0 for n in range(1, 6) for side in ("model", "clip")}
    return g.add("MakeAnythingLoraStack", **{**rows, "lora_1": name, "model": g.flux()[0], **more})[0]


def weight(g: Graph, name: str, model: list[Any]) -> None:
    g.probe(name, g.add("TestWeight", model=model, key="diffusion_model.single_blocks.0.linear2.weight")[0])


def test_no_odd_file_takes_a_list_down(host: Host, loras: Path, odd: list[str]) -> None:
    """One such file made four nodes vanish, and the whole pack at the next start."""
    assert len(odd) > 10
    for node in NODES:
        assert f"MakeAnything{node}" in host.get(f"/object_info/MakeAnything{node}")
    status, files = get(host, "/makeanything/heads")
    assert status == 200
    assert HEADS in files
    assert not set(files) & set(odd)


def test_the_pack_starts_with_odd_files(host: Host, loras: Path, odd: list[str]) -> None:
    other = Host(host.comfyui, host.base, host.python)
    other._log = host.base / "second_server.log"
    try:
        other.start()
        assert HEADS in other.get("/makeanything/heads")
        assert "IMPORT FAILED" not in other.log()
    finally:
        other.stop()


def test_every_odd_file_gets_a_sentence(host: Host, loras: Path, odd: list[str]) -> None:
    for name in odd:
        status, reply = get(host, f"/makeanything/lora?name={quote(name)}")
        assert status in (200, 400, 404), reply
        g = Graph()
        weight(g, "x", stack(g, name))
        h = Graph()
        applied = h.add("MakeAnythingApplyDomainHead", model=h.flux()[0], heads=name, domain="1", strength=1.0)
        weight(h, "x", applied[0])
        for text in (host.fails(g), host.fails(h), json.dumps(reply)):
            assert str(host.base) not in text
            assert "\n" not in text
            assert text.count("ж") <= 200
            assert len(text) < 700
            assert not any(word in text for word in ("KeyError", "Traceback", "Recursion", "SafetensorError"))


NAMES_OF_BYTES = (
    b"odd_\xff\xfe.safetensors",
    b"odd_new\nline\x1b[31m\r.safetensors",
    b"odd_" + 230 * b"x" + b".safetensors",
)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
@pytest.mark.parametrize("raw", NAMES_OF_BYTES, ids=["no text", "control characters", "long"])
@pytest.mark.parametrize("heads", [True, False])
def test_odd_names_of_files_end_no_queue_and_fill_no_message(host: Host, loras: Path, raw: bytes, heads: bool) -> None:
    """The host prints our messages: half of a character in one ended the thread that runs prompts, for good."""
    name = os.fsdecode(raw)
    path = loras / name
    tiny.save_heads(loras / "odd_wide.safetensors", replace(tiny.PARAMS, hidden_size=256)) if heads else save_file(
        {f"{LAYER}.lora_up.weight": torch.ones(128, 2)}, loras / "odd_wide.safetensors"
    )
    (loras / "odd_wide.safetensors").rename(path)
    _, reply = get(host, f"/makeanything/lora?name={quote(raw)}")
    g, h = Graph(), Graph()
    weight(g, "x", stack(g, name))
    weight(h, "x", h.add("MakeAnythingApplyDomainHead", model=h.flux()[0], heads=name, domain="1", strength=1.0)[0])
    for text in (host.fails(g), host.fails(h), json.dumps(reply, ensure_ascii=False)):
        assert text.isprintable()
        assert text.count("x") < 130
        text.encode()
    well = Graph()
    weight(well, "x", stack(well, "none"))
    assert host.run(well)["x"].isfinite().all()


def test_a_link_that_leads_nowhere_stays(host: Host, loras: Path) -> None:
    link = loras / "odd_link.safetensors"
    link.symlink_to("/nowhere/mine.safetensors")
    g = Graph()
    extract(g, "odd_link")
    assert "The loras folder has something else of the name odd_link.safetensors" in host.fails(g)
    assert link.is_symlink()


def test_capitals_do_not_make_another_name(host: Host, loras: Path) -> None:
    g = Graph()
    extract(g, HEADS.removesuffix(".safetensors").upper())
    assert "choose another file_name" in host.fails(g)


def test_a_lora_that_the_host_chokes_on_is_named(host: Host, loras: Path) -> None:
    name = "odd_half.safetensors"
    save_file({f"{LAYER}.lora_up.weight": torch.ones(128, 2)}, loras / name)
    g = Graph()
    weight(g, "x", stack(g, name))
    assert f"{name} can't be applied, ComfyUI can't make sense of its layers (" in host.fails(g)


def test_a_file_is_read_once_under_all_its_names(comfy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link to the folder in itself gives every file 41 names."""
    catalog = importlib.import_module(f"{HERE}.nodes.model.catalog")
    read, reads = catalog._read_domains, []
    monkeypatch.setattr(catalog, "_read_domains", lambda path: reads.append(path) or read(path))
    tiny.save_heads(tmp_path / HEADS)
    (tmp_path / "again").symlink_to(tmp_path)
    names = [str(tmp_path / "again/" / ("again/" * n) / HEADS) for n in range(5)]
    assert len({catalog.domains_in(name) for name in names}) == 1
    assert len(reads) == 1
    os.utime(tmp_path / HEADS, ns=(1, 1))
    assert catalog.domains_in(names[0])
    assert len(reads) == 2
    assert catalog.domains_in(str(tmp_path / "gone.safetensors")) == ()


# Extract Head


def extract(g: Graph, name: str, overwrite: bool = False) -> None:
    chosen = {"heads": HEADS, "domain": "Portrait", "overwrite": overwrite}
    g.probe("extracted", g.add("MakeAnythingExtractHead", file_name=name, **chosen)[0])


@pytest.mark.parametrize("overwrite", [False, True])
def test_extract_hides_no_file_of_another_loras_folder(host: Host, loras: Path, overwrite: bool) -> None:
    """The pack's own heads lie in the second loras folder; a file in the first hid them."""
    for name in ("flux_nano_heads_9f", "flux_nano_recraft_9f"):
        g = Graph()
        extract(g, name, overwrite)
        text = host.fails(g)
        assert f"{name}.safetensors" in text
        assert "choose another file_name" in text
        assert not (loras / f"{name}.safetensors").exists()
    assert len(host.get("/makeanything/heads")["flux_nano_heads_9f.safetensors"]) > 1


def test_extract_never_overwrites_a_heads_file(host: Host, loras: Path) -> None:
    other = loras / "odd_other_heads.safetensors"
    tiny.save_heads(other, seed=5)
    before = other.read_bytes()
    g = Graph()
    extract(g, other.name, overwrite=True)
    assert f"{other.name} is a heads file" in host.fails(g)
    assert other.read_bytes() == before


def test_extract_repeats_without_overwrite_and_replaces_with_it(host: Host, loras: Path) -> None:
    path = loras / "odd_out.safetensors"
    for _ in range(2):
        g = Graph()
        g.flux()
        extract(g, path.name)
        assert host.run(g)["extracted"] == path.name
    wanted = load_file(path)
    path.write_bytes(b"something else")
    g = Graph()
    extract(g, path.name)
    assert "already has odd_out.safetensors, and it is not this head" in host.fails(g)
    g = Graph()
    extract(g, path.name, overwrite=True)
    host.run(g)
    assert load_file(path).keys() == wanted.keys()


def test_extract_knows_its_head_in_the_folder_behind(host: Host, loras: Path) -> None:
    """It is there already, so nothing is written, and nothing hidden."""
    g = Graph()
    extract(g, "odd_out")
    host.run(g)
    behind = host.base / "custom_nodes" / PACK / "models/loras/odd_out.safetensors"
    (loras / "odd_out.safetensors").replace(behind)
    try:
        g = Graph()
        g.flux()
        extract(g, "odd_out")
        assert host.run(g)["extracted"] == "odd_out.safetensors"
        assert not (loras / "odd_out.safetensors").exists()
    finally:
        behind.unlink()


@pytest.mark.parametrize(
    "name",
    ["con", "nul.safetensors", ".. /x", "a.", "a /b", "a\0b", "x" * 10**6, "a?", "\ud800", ".safetensors", "a/.SFT"],
)
def test_extract_refuses_names_that_some_system_can_not_have(host: Host, loras: Path, name: str) -> None:
    before = sorted(host.base.rglob("*.safetensors"))
    g = Graph()
    extract(g, name)
    text = host.fails(g)
    assert "is not a name inside the loras folder: " in text
    assert len(text) < 300
    assert sorted(host.base.rglob("*.safetensors")) == before


def test_a_file_in_place_of_a_folder_is_named(host: Host, loras: Path) -> None:
    g = Graph()
    extract(g, f"{HEADS}/x")
    text = host.fails(g)
    assert f"{HEADS} can't be saved: something else has this name" in text
    assert str(host.base) not in text


# API values

CALLS: dict[str, dict[str, Any]] = {
    "ApplyDomainHead": {"model": None, "heads": HEADS, "domain": "Portrait", "strength": 1.0},
    "LoadFluxWithDomain": {"unet_name": "tiny_flux.safetensors", "weight_dtype": "default", "heads": HEADS,
                           "domain": "Portrait", "strength": 1.0},
    "ExtractHead": {"heads": HEADS, "domain": "Portrait", "file_name": "odd_x", "overwrite": False},
    "MixDomainHeads": {"model": None, "heads": HEADS, "strength": 1.0,
                       **{f"domain_{n}": "Portrait" for n in range(1, 5)}, **{f"weight_{n}": 0.5 for n in range(1, 5)}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("node", "name"),
    [(node, name) for node, inputs in CALLS.items() for name in inputs if name in ("heads", "domain", "domain_1")],
)
@pytest.mark.parametrize(
    ("value", "what"),
    [(5, "a number"), (99.5, "a number"), (None, "nothing"), ({}, "an object"), (True, "true or false")],
)
def test_a_name_that_is_no_text_gets_one_line(
    host: Host, loras: Path, node: str, name: str, value: Any, what: str
) -> None:
    g = Graph()
    inputs = {**CALLS[node], name: value}
    if "model" in inputs:
        inputs["model"] = g.flux()[0]
    g.probe("x", g.add(f"MakeAnything{node}", **inputs)[0])
    assert f"{name.split('_')[0]} must be text, got {what}" in host.fails(g)


@pytest.mark.parametrize("node", ["ApplyDomainHead", "LoadFluxWithDomain", "MixDomainHeads", "LoraStack"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_strengths_are_finite(host: Host, loras: Path, node: str, value: float) -> None:
    g = Graph()
    if node == "LoraStack":
        save_file({f"{LAYER}.lora_up.weight": torch.ones(128, 2), f"{LAYER}.lora_down.weight": torch.ones(2, 640)},
                  loras / "odd_plain.safetensors")  # fmt: skip
        weight(g, "x", stack(g, "odd_plain.safetensors", model_1=value))
    else:
        inputs = {**CALLS[node], "strength": value}
        if "model" in inputs:
            inputs["model"] = g.flux()[0]
        weight(g, "x", g.add(f"MakeAnything{node}", **inputs)[0])
    text = host.fails(g)
    assert "must be a finite number" in text or "bigger than max" in text


def test_a_number_as_text_is_a_domain(host: Host, loras: Path) -> None:
    g = Graph()
    apply = g.add("MakeAnythingApplyDomainHead", model=g.flux()[0], heads=HEADS, domain="3", strength=1.0)
    g.probe("prompt", g.add("MakeAnythingProcessPrompt", domain=apply[1], subject="a cat")[0])
    assert host.run(g)["prompt"] == "2*2 of 4 sub-images, step-by-step emoji design process, a cat"


@pytest.mark.parametrize(
    ("node", "inputs", "name"),
    [
        ("ApplyDomainHead", CALLS["ApplyDomainHead"], "model"),
        ("MixDomainHeads", CALLS["MixDomainHeads"], "model"),
        ("ProcessPrompt", {"domain": None, "subject": "x"}, "domain"),
        ("SplitFrames", {"grids": None, "layout": "9 frames (3x3)", "trim_gutters": True}, "grids"),
        ("ComposeGrid", {"frames": 5, "layout": "9 frames (3x3)"}, "frames"),
        ("ContactSheet", {"frames": None, "captions": "", "numbered": True, "columns": 0}, "frames"),
        ("LoraStack", {"lora_stack": 5}, "lora_stack"),
        ("LoraStack", {"lora_stack": {"a": 1}}, "lora_stack"),
    ],
)  # fmt: skip
def test_nothing_in_place_of_a_wire_gets_one_line(host: Host, loras: Path, node: str, inputs: dict, name: str) -> None:
    g = Graph()
    if node == "LoraStack":
        weight(g, "x", stack(g, "none", **inputs))
    else:
        g.probe("x", g.add(f"MakeAnything{node}", **inputs)[0])
    text = host.fails(g)
    assert f"Nothing that fits came in at {name}" in text or f"{name} must be a list" in text


@pytest.mark.parametrize("value", [5, None, {}, "9 frames", "x" * 10**6])
def test_a_layout_that_is_none_gets_one_line(host: Host, value: Any) -> None:
    g = Graph()
    g.probe("x", g.add("MakeAnythingEmptyGrid", layout=value, cell=64, batch_size=1)[0])
    text = host.fails(g)
    assert "layout is one of: from domain, 9 frames (3x3), 4 frames (2x2), custom." in text
    assert len(text) < 200


def test_a_picture_wired_in_as_the_layout_gets_one_line(host: Host) -> None:
    g = Graph()
    picture = g.add("TestImage", seed=1, height=8, width=8, batch=1)[0]
    g.probe("x", g.add("MakeAnythingEmptyGrid", layout=picture, cell=64, batch_size=1)[0])
    assert "layout is one of: from domain, 9 frames (3x3), 4 frames (2x2), custom." in host.fails(g)


GRID: dict[str, Any] = {"layout": "custom", "layout.rows": 1, "layout.cols": 2, "cell": 32, "batch_size": 1}
PLAYED = {"fps": 2.0, "hold_last": 0.0}
SAVED = {**PLAYED, "filename_prefix": "wired/seq", "png": True, "gif": True, "webp": False, "loop": True}
HELD = {"model": None, "vae": None, "layout": "4 frames (2x2)", "frame": 0, "start_percent": 0.0, "end_percent": 1.0}


@pytest.mark.parametrize(
    ("node", "inputs", "name", "values"),
    [
        ("EmptyGrid", GRID, "cell", [-16, 2**40, 10**9]),
        ("EmptyGrid", GRID, "batch_size", [-1, 0, 10**12]),
        ("EmptyGrid", GRID, "layout.rows", [0, 10**9]),
        ("ContactSheet", {"captions": "", "numbered": True}, "columns", [-5]),
        ("AnimateSequence", {**PLAYED, "crossfade": 0.0, "ping_pong": False}, "fps", [1e-12]),
        ("SaveSequence", SAVED, "fps", [1e-12]),
        ("SaveSequence", SAVED, "hold_last", [5e6, 1e9, 9e18]),
        ("ReCraft", HELD, "frame", [-1, 10**9]),
        ("ReCraft", HELD, "start_percent", [-0.5]),
        ("ReCraft", HELD, "end_percent", [1.5]),
    ],
)
def test_numbers_that_come_by_wire_are_held_to_the_widgets_bounds(
    host: Host, node: str, inputs: dict[str, Any], name: str, values: list[float]
) -> None:
    """The host checks what is typed in alone."""
    for value in values:
        g = Graph()
        given = {**inputs, name: g.add("PrimitiveInt" if isinstance(value, int) else "PrimitiveFloat", value=value)[0]}
        if node == "ReCraft":
            given |= {"model": g.flux()[0], "vae": g.vae()[0]}
        if node != "EmptyGrid":
            picture = g.add("TestImage", seed=1, height=32, width=32, batch=2)[0]
            given["image" if node == "ReCraft" else "frames"] = picture
        g.probe("x", g.add(f"MakeAnything{node}", **given)[0])
        text = host.fails(g)
        assert f"{name.split('.')[-1]} must be from " in text
        assert text.endswith(f", got {value}")


def test_another_file_is_no_text_encoder(host: Host) -> None:
    folder = host.base / "models/text_encoders"
    folder.mkdir(exist_ok=True)
    path = folder / "odd_flux_nano.safetensors"
    for state in ({"a": torch.ones(1)}, {"words.weight": torch.ones(2, 2)}):
        save_file(state, path)
        g = Graph()
        g.add("PreviewAny", source=g.add("MakeAnythingLoadNanoTextEncoder", text_encoder=path.name)[0])
        assert "these are not the weights of FLUX-nano's text encoder: " in host.fails(g)
    path.unlink()
