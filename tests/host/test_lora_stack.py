"""The LoRA Stack: what it applies, in which order, and what it says about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from . import tiny
from .server import Graph, Host, Node

LAYERS = tiny.layers(tiny.PARAMS)
WEIGHTS = tiny.flux(tiny.PARAMS)
KEY = "single_blocks.0.linear2.weight"
CLIP_LAYER = "lora_te1_text_model_encoder_layers_0_self_attn_q_proj"
CLIP_KEY = "clip_l.transformer.text_model.encoder.layers.0.self_attn.q_proj.weight"
ROUNDING = 1e-7
STYLE, FACE, HEADS = "style.safetensors", "sub/face.safetensors", "stack_heads.safetensors"


def plain(seed: int) -> dict[str, Tensor]:
    """An ordinary kohya LoRA for every layer of the tiny FLUX."""
    state = tiny.heads(tiny.PARAMS, tiny.DOMAINS[:1], seed)
    return {key.replace("lora_ups.0", "lora_up"): tensor for key, tensor in state.items()}


def update(state: dict[str, Tensor], layer: str) -> Tensor:
    up, down = state[f"{layer}.lora_up.weight"].double(), state[f"{layer}.lora_down.weight"].double()
    return tiny.ALPHA / tiny.RANK * up @ down


@pytest.fixture(scope="module")
def files(host: Host) -> dict[str, dict[str, Tensor]]:
    folder = host.base / "models/loras"
    (folder / "sub").mkdir(exist_ok=True)
    style = plain(11)
    text_encoder = {
        f"{CLIP_LAYER}.lora_up.weight": torch.randn(8, 2),
        f"{CLIP_LAYER}.lora_down.weight": torch.randn(2, 8),
        f"{CLIP_LAYER}.alpha": torch.tensor(1.0),
    }
    face = plain(12) | text_encoder
    tags = {"10_face": {"sks woman": 40, "portrait": 30, "window": 3}}
    save_file(style, folder / STYLE, {"modelspec.trigger_phrase": "inkstyle, wet paper"})
    save_file(face, folder / FACE, {"ss_tag_frequency": json.dumps(tags)})
    return {STYLE: style, FACE: face, HEADS: tiny.save_heads(folder / HEADS, seed=13)}


def stack(g: Graph, rows: list[tuple[Any, ...]], **wired: Any) -> Node:
    """A stack with rows (file, model strength, clip strength, on)."""
    inputs: dict[str, Any] = {}
    for n in range(1, 6):
        name, model, clip, on = rows[n - 1] if n <= len(rows) else ("none", 1.0, 1.0, True)
        inputs |= {f"lora_{n}": name, f"model_{n}": model, f"clip_{n}": clip, f"on_{n}": on}
    return g.add("MakeAnythingLoraStack", **inputs, **wired)


def weight(g: Graph, model: list, key: str = f"diffusion_model.{KEY}") -> list:
    return g.add("TestWeight", model=model, key=key)[0]


def sample(g: Graph, model: list) -> list:
    return g.sample(model, g.add("EmptySD3LatentImage", width=32, height=32, batch_size=1)[0])


def test_outputs(host: Host, files: dict, record: dict) -> None:
    g = Graph()
    rows = [(STYLE, 0.5, 1.0, True), (FACE, -0.3, 0.8, True), (STYLE, 9.0, 9.0, False)]
    node = stack(g, rows, model=g.flux()[0], clip=g.add("TestClip", seed=3)[0])
    g.probe("stack_weight", weight(g, node[0]))
    g.probe("stack_clip", weight(g, node[1], CLIP_KEY))
    for n, name in enumerate(("stack", "words", "report"), 2):
        g.probe(f"stack_{name}", node[n])
    g.probe("bare_clip", weight(g, g.add("TestClip", seed=3)[0], CLIP_KEY))
    out = host.run(g)
    assert out["stack_stack"] == [[STYLE, 0.5, 1.0], [FACE, -0.3, 0.8]]
    assert out["stack_words"] == "inkstyle, wet paper, sks woman, portrait"
    every = len(LAYERS)
    assert out["stack_report"].splitlines() == [
        f"{STYLE}: {every} of {every} layers applied (model 0.5, clip 1)",
        f"{FACE}: {every + 1} of {every + 1} layers applied (model -0.3, clip 0.8)",
    ]
    layer = "lora_unet_single_blocks_0_linear2"
    wanted = WEIGHTS[KEY].double() + 0.5 * update(files[STYLE], layer) - 0.3 * update(files[FACE], layer)
    record["stack: weight"] = worst = (out["stack_weight"].double() - wanted).abs().max().item()
    assert worst < ROUNDING
    up, down = (files[FACE][f"{CLIP_LAYER}.lora_{part}.weight"] for part in ("up", "down"))
    clip = out["bare_clip"] + 0.8 * 0.5 * up @ down
    assert torch.allclose(out["stack_clip"], clip, atol=1e-6)
    assert not torch.allclose(out["bare_clip"], clip, atol=1e-2)


def test_stack_is_bit_equal_to_stock_loaders_in_a_row(host: Host, files: dict) -> None:
    g = Graph()
    rows = [(STYLE, 0.5, 1.0, True), (FACE, 0.7, 1.0, True)]
    g.probe("stacked", sample(g, stack(g, rows, model=g.flux()[0])[0]))
    first = g.add("LoraLoaderModelOnly", model=g.flux()[0], lora_name=STYLE, strength_model=0.5)
    second = g.add("LoraLoaderModelOnly", model=first[0], lora_name=FACE, strength_model=0.7)
    g.probe("stock", sample(g, second[0]))
    out = host.run(g)
    assert torch.equal(out["stacked"], out["stock"])


@pytest.mark.parametrize("head_first", [True, False])
def test_composes_with_a_head(host: Host, files: dict, record: dict, head_first: bool) -> None:
    g = Graph()
    model = g.flux()[0]
    for step in ("head", "stack") if head_first else ("stack", "head"):
        if step == "head":
            head = {"heads": HEADS, "domain": "Sketch", "strength": 0.6}
            model = g.add("MakeAnythingApplyDomainHead", model=model, **head)[0]
        else:
            model = stack(g, [(STYLE, 0.5, 1.0, True)], model=model)[0]
    g.probe(f"composed_{head_first}", weight(g, model))
    layer = "lora_unet_single_blocks_0_linear2"
    wanted = WEIGHTS[KEY].double() + tiny.update(files[HEADS], {1: 0.6})[layer] + 0.5 * update(files[STYLE], layer)
    got = host.run(g)[f"composed_{head_first}"]
    record[f"head and stack, head first {head_first}: weight"] = worst = (got.double() - wanted).abs().max().item()
    assert worst < ROUNDING


def test_stacks_chain(host: Host, files: dict) -> None:
    g = Graph()
    first = stack(g, [(STYLE, 0.5, 1.0, True)])
    second = stack(g, [(FACE, 0.7, 1.0, True)], lora_stack=first[2], model=g.flux()[0])
    g.probe("chain_stack", second[2])
    g.probe("chain_report", first[4])
    g.probe("chain", weight(g, second[0]))
    whole = stack(g, [(STYLE, 0.5, 1.0, True), (FACE, 0.7, 1.0, True)], model=g.flux()[0])
    g.probe("whole", weight(g, whole[0]))
    out = host.run(g)
    assert [entry[0] for entry in out["chain_stack"]] == [STYLE, FACE]
    assert out["chain_report"] == f"{STYLE}: in the stack; wire a MODEL or a CLIP to apply it"
    assert torch.equal(out["chain"], out["whole"])


def test_report_names_what_was_not_applied(host: Host, files: dict) -> None:
    odd = dict(files[STYLE])
    odd["lora_unet_double_blocks_7_img_mod_lin.lora_up.weight"] = torch.zeros(4, 2)
    odd["lora_unet_double_blocks_7_img_mod_lin.lora_down.weight"] = torch.zeros(2, 4)
    odd["base_model.model.x_embedder.lora_A.weight"] = torch.zeros(2, 4)
    wrong = "lora_unet_double_blocks_0_img_mlp_0"
    odd[f"{wrong}.lora_up.weight"] = torch.zeros(3, tiny.RANK)
    save_file(odd, host.base / "models/loras/odd.safetensors")
    g = Graph()
    model, clip = g.flux()[0], g.add("TestClip", seed=3)[0]
    rows = [("odd.safetensors", 1.0, 1.0, True)]
    g.probe("odd", stack(g, rows, model=model, clip=clip)[4])
    g.probe("face", stack(g, [(FACE, 1.0, 1.0, True)], model=model)[4])
    g.probe("all_off", stack(g, [(FACE, 1.0, 1.0, False)], model=model)[4])
    out = host.run(g)
    every = len(LAYERS)
    names = f"base_model.model.x_embedder, {wrong}, lora_unet_double_blocks_7_img_mod_lin"
    count = f"{every - 1} of {every + 2} layers applied"
    assert out["odd"] == f"odd.safetensors: {count} (model 1, clip 1); not applied: {names}"
    assert out["face"].endswith(f"{every} of {every + 1} layers applied (model 1, clip 1); not applied: {CLIP_LAYER}")
    assert out["all_off"] == "no LoRA is on"


def test_other_formats_are_counted(host: Host, files: dict) -> None:
    """Diffusers names hit parts of a layer; a bias alone counts too."""
    state = {
        "transformer.transformer_blocks.0.attn.to_q.lora_A.weight": torch.randn(2, 128),
        "transformer.transformer_blocks.0.attn.to_q.lora_B.weight": torch.randn(128, 2),
        "diffusion_model.single_blocks.0.linear1.diff_b": torch.randn(896),
        "diffusion_model.single_blocks.0.linear2.lora_A.weight": torch.randn(2, 640),
        "diffusion_model.single_blocks.0.linear2.lora_B.weight": torch.randn(128, 2),
    }
    save_file(state, host.base / "models/loras/formats.safetensors")
    g = Graph()
    node = stack(g, [("formats.safetensors", 1.0, 1.0, True)], model=g.flux()[0])
    g.probe("formats", node[4])
    g.probe("formats_weight", weight(g, node[0], "diffusion_model.double_blocks.0.img_attn.qkv.weight"))
    out = host.run(g)
    assert out["formats"] == "formats.safetensors: 3 of 3 layers applied (model 1, clip 1)"
    change = out["formats_weight"] - WEIGHTS["double_blocks.0.img_attn.qkv.weight"]
    assert change[:128].abs().max() > 0.1
    assert change[128:].abs().max() == 0


def test_outputs_that_are_not_wired_in_stop_what_needs_them(host: Host, files: dict) -> None:
    """The page shows the sentence; the API only leaves those nodes out."""
    g = Graph()
    node = stack(g, [(STYLE, 1.0, 1.0, True)], model=g.flux()[0])
    g.probe("needs_clip", weight(g, node[1], CLIP_KEY))
    g.probe("needs_model", weight(g, node[0]))
    assert set(host.run(g)) == {"needs_model"}


def test_missing_file_matters_only_when_its_row_is_on(host: Host, files: dict) -> None:
    g = Graph()
    rows = [("gone.safetensors", 1.0, 1.0, False), (STYLE, 1.0, 1.0, True)]
    g.probe("survivors", stack(g, rows, model=g.flux()[0])[2])
    assert host.run(g)["survivors"] == [[STYLE, 1.0, 1.0]]
    g = Graph()
    g.probe("x", stack(g, [("gone.safetensors", 1.0, 1.0, True)], model=g.flux()[0])[2])
    assert "The loras folder has no file 'gone.safetensors'" in host.fails(g)


@pytest.mark.parametrize("wired", [True, False])
def test_heads_files_are_sent_to_apply_domain_head(host: Host, files: dict, wired: bool) -> None:
    g = Graph()
    model = {"model": g.flux()[0]} if wired else {}
    g.probe("x", stack(g, [(HEADS, 1.0, 1.0, True)], **model)[3])
    assert f"{HEADS} is an asymmetric LoRA" in (text := host.fails(g))
    assert "Apply Domain Head" in text


def test_pickles_and_broken_files_are_refused(host: Host, files: dict) -> None:
    folder: Path = host.base / "models/loras"
    torch.save({"x": torch.zeros(1)}, folder / "old.pt")
    torch.save({"x": torch.zeros(1)}, folder / "posing.safetensors")
    info = host.get("/object_info/MakeAnythingLoraStack")["MakeAnythingLoraStack"]["input"]["required"]["lora_1"]
    offered = info[1]["options"] if info[0] == "COMBO" else info[0]
    assert "old.pt" not in offered
    assert offered[0] == "none"
    for name, words in (("old.pt", "read from safetensors only"), ("posing.safetensors", "pickles are never loaded")):
        g = Graph()
        g.probe("x", stack(g, [(name, 1.0, 1.0, True)], model=g.flux()[0])[0])
        assert words in host.fails(g)
    (folder / "posing.safetensors").unlink()
