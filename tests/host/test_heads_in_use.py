"""What people meet while they work with heads: files that change, models that stay loaded, words that help."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from . import tiny
from .server import FLUX, PACK, Graph, Host, Node

HEADS, OTHER = "in_use.safetensors", "in_use_other.safetensors"
WEIGHT = "single_blocks.0.linear2.weight"
LAYER = "lora_unet_single_blocks_0_linear2"
BASE = tiny.flux(tiny.PARAMS)
WEAVING = tiny.Domain.of("Weaving", 9, "weaving")


@pytest.fixture
def state(host: Host) -> Iterator[dict[str, Tensor]]:
    yield tiny.save_heads(loras(host) / HEADS, seed=21)
    for path in loras(host).glob("in_use*"):
        path.unlink()


def loras(host: Host) -> Path:
    return host.base / "models/loras"


def apply(g: Graph, model: list, domain: str = "Sketch", heads: str = HEADS, strength: float = 1.0) -> Node:
    return g.add("MakeAnythingApplyDomainHead", model=model, heads=heads, domain=domain, strength=strength)


def load(g: Graph, domain: str = "Sketch", strength: float = 1.0, unet: str = FLUX) -> Node:
    chosen = {"heads": HEADS, "domain": domain, "strength": strength}
    return g.add("MakeAnythingLoadFluxWithDomain", unet_name=unet, weight_dtype="default", **chosen)


def mix(g: Graph, model: list, *domains: str) -> Node:
    rows = {f"domain_{n}": name for n, name in enumerate((*domains, *["-"] * 4)[:4], 1)}
    rows |= {f"weight_{n}": 0.5 if n <= len(domains) else 0.0 for n in range(1, 5)}
    return g.add("MakeAnythingMixDomainHeads", model=model, heads=HEADS, strength=1.0, **rows)


def stack(g: Graph, name: str, on_model: float, on_clip: float, **wired: list) -> Node:
    rows = {f"lora_{n}": name if n == 1 else "none" for n in range(1, 6)}
    rows |= {
        f"{side}_{n}": strength for n in range(1, 6) for side, strength in (("model", on_model), ("clip", on_clip))
    }
    return g.add("MakeAnythingLoraStack", **rows, **{f"on_{n}": True for n in range(1, 6)}, **wired)


def extract(g: Graph, name: str, overwrite: bool = False) -> Node:
    chosen = {"heads": HEADS, "domain": "Sketch"}
    return g.add("MakeAnythingExtractHead", file_name=name, overwrite=overwrite, **chosen)


def weight(g: Graph, name: str, model: list) -> None:
    g.probe(name, g.add("TestWeight", model=model, key=f"diffusion_model.{WEIGHT}")[0])


@pytest.mark.parametrize("node", ["apply", "load", "mix"])
def test_a_replaced_heads_file_is_read_again(host: Host, state: dict[str, Tensor], node: str) -> None:
    g = Graph()
    if node == "apply":
        weight(g, "replaced", apply(g, g.flux()[0])[0])
    elif node == "load":
        weight(g, "replaced", load(g)[0])
    else:
        weight(g, "replaced", mix(g, g.flux()[0], "Sketch", "Sketch")[0])
    for seed in (21, 22):
        update = tiny.update(tiny.save_heads(loras(host) / HEADS, seed=seed), {1: 1.0})[LAYER]
        worst = (host.run(g)["replaced"].double() - BASE[WEIGHT].double() - update).abs().max()
        assert worst < 1e-6


def test_a_replaced_lora_of_the_stack_is_read_again(host: Host, state: dict[str, Tensor]) -> None:
    g = Graph()
    weight(g, "restacked", stack(g, "in_use_plain.safetensors", 1.0, 1.0, model=g.flux()[0])[0])
    found = []
    for up in (1.0, 2.0):
        plain = {f"{LAYER}.lora_up.weight": torch.full((128, 2), up), f"{LAYER}.lora_down.weight": torch.ones(2, 640)}
        save_file(plain, loras(host) / "in_use_plain.safetensors")
        found.append(host.run(g)["restacked"])
    assert torch.allclose(found[1] - found[0], torch.full((128, 640), 2.0), atol=1e-4)


def test_extract_writes_a_deleted_file_again_and_repeats_without_complaint(host: Host, state: dict) -> None:
    path = loras(host) / "in_use_extract.safetensors"
    g = Graph()
    node = extract(g, path.name)
    assert host.run(g).outputs[node.number]["text"] == [path.name]
    written, wanted = path.stat().st_mtime_ns, load_file(path)
    for _ in range(2):
        host.run(g)
    # As after a restart, which forgets what ran.
    again = Graph()
    again.flux()
    extract(again, path.name)
    host.run(again)
    assert path.stat().st_mtime_ns == written
    path.unlink()
    host.run(g)
    assert torch.equal(load_file(path)[f"{LAYER}.lora_up.weight"], wanted[f"{LAYER}.lora_up.weight"])
    changed = dict(wanted) | {f"{LAYER}.alpha": torch.tensor(9.0)}
    save_file(changed, path)
    assert "is not this head" in host.fails(g)
    g = Graph()
    extract(g, path.name, overwrite=True)
    host.run(g)
    assert load_file(path)[f"{LAYER}.alpha"] == wanted[f"{LAYER}.alpha"]


def test_the_model_is_loaded_once_for_all_domains(host: Host, state: dict[str, Tensor]) -> None:
    # A file of its own: the host may still hold what other tests loaded.
    unet = "loaded_once.safetensors"
    save_file(BASE, host.base / "models/diffusion_models" / unet)
    before = host.log().count("model_type FLUX")
    seen = []
    for domain, strength in (("Sketch", 1.0), ("Portrait", 1.0), ("Portrait", 0.3)):
        g = Graph()
        weight(g, "loaded_once", load(g, domain, strength, unet)[0])
        seen.append(host.run(g)["loaded_once"])
    assert host.log().count("model_type FLUX") == before + 1
    assert not torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])


def test_a_mistake_shows_before_the_model_is_loaded(host: Host, state: dict[str, Tensor]) -> None:
    before = host.log().count("model_type FLUX")
    g = Graph()
    weight(g, "x", load(g, "Sketh")[0])
    assert "did you mean 'Sketch'?" in host.fails(g)
    assert host.log().count("model_type FLUX") == before


@pytest.mark.parametrize(("variant", "channels"), [("schnell", 64), ("canny", 128), ("fill", 384)])
def test_flux_1_variants_are_accepted(host: Host, state: dict, variant: str, channels: int) -> None:
    weights = {key: w for key, w in BASE.items() if variant != "schnell" or not key.startswith("guidance_in.")}
    weights["img_in.weight"] = torch.zeros(128, channels)
    save_file(weights, host.base / f"models/diffusion_models/{variant}.safetensors")
    g = Graph()
    weight(g, variant, apply(g, g.flux(f"{variant}.safetensors")[0])[0])
    wanted = BASE[WEIGHT].double() + tiny.update(state, {1: 1.0})[LAYER]
    assert (host.run(g)[variant].double() - wanted).abs().max() < 1e-6


def test_layers_named_as_diffusers_does_do_not_fit(host: Host, state: dict[str, Tensor]) -> None:
    """Its to_q is a part of FLUX's qkv, which the host addresses with a tuple."""
    odd = "lycoris_transformer_blocks_0_attn_to_q"
    added = {key.replace(LAYER, odd): tensor.clone() for key, tensor in state.items() if key.startswith(f"{LAYER}.")}
    tiny.save({**state, **added}, tiny.DOMAINS, loras(host) / OTHER)
    g = Graph()
    weight(g, "named_odd", apply(g, g.flux()[0], heads=OTHER)[0])
    weight(g, "named_well", apply(g, g.flux()[0])[0])
    out = host.run(g)
    count = len(tiny.layers(tiny.PARAMS))
    assert f"only {count} of the {count + 1} layers of {OTHER} fit" in host.log()
    assert torch.equal(out["named_odd"], out["named_well"])
    tiny.save(added, tiny.DOMAINS, loras(host) / OTHER)
    g = Graph()
    weight(g, "x", apply(g, g.flux()[0], heads=OTHER)[0])
    assert f"None of the 1 layers of {OTHER} fits this model" in host.fails(g)


def test_a_schema_looks_through_the_loras_folder_once(host: Host, state: dict[str, Tensor]) -> None:
    nodes = ("heads.LoadFluxWithDomain", "heads.ApplyDomainHead", "heads.MixDomainHeads", "extract.ExtractHead")
    code = """
import importlib, sys
comfyui, packs, pack, *names = sys.argv[1:]
sys.path[:0] = [comfyui, packs]
import comfy.options
comfy.options.enable_args_parsing(False)
from comfy.cli_args import args
args.cpu = True
# Before nodes, which puts ComfyUI's comfy/utils.py in its way.
import utils.extra_config
import nodes, folder_paths
scans, real = [], folder_paths.get_filename_list
folder_paths.get_filename_list = lambda kind: scans.append(kind) or real(kind)
for module, name in (name.split(".") for name in names):
    node = getattr(importlib.import_module(f"{pack}.nodes.{module}"), name)
    scans.clear()
    node.define_schema()
    print("scans", scans.count("loras"))
"""
    comfyui = str(Path(os.environ["COMFYUI_PATH"]).expanduser())
    command = [sys.executable, "-c", code, comfyui, str(host.base / "custom_nodes"), PACK, *nodes]
    done = subprocess.run(command, capture_output=True, text=True, cwd=comfyui, check=False)
    assert done.stdout.count("scans 1\n") == len(nodes), done.stdout + done.stderr


def test_the_stack_says_which_side_is_off(host: Host, state: dict[str, Tensor]) -> None:
    te = "lora_te1_text_model_encoder_layers_0_self_attn_q_proj"
    both = {f"{te}.lora_up.weight": torch.ones(8, 2), f"{te}.lora_down.weight": torch.ones(2, 8)}
    both |= {f"{LAYER}.lora_up.weight": torch.ones(128, 2), f"{LAYER}.lora_down.weight": torch.ones(2, 640)}
    name = "in_use_both.safetensors"
    save_file(both, loras(host) / name)
    g = Graph()
    wired = {"model": g.flux()[0], "clip": g.add("TestClip", seed=3)[0]}
    for probe, strengths in (
        ("off", (0.0, 0.0)),
        ("no_clip", (1.0, 0.0)),
        ("no_model", (0.0, 1.0)),
        ("on", (1.0, 1.0)),
    ):
        g.probe(probe, stack(g, name, *strengths, **wired)[4])
    before = len(host.log())
    out = host.run(g)
    assert out["off"] == f"{name}: off (strength 0)"
    assert out["no_clip"] == f"{name}: 1 of 1 layers applied (model 1, clip off (strength 0))"
    assert out["no_model"] == f"{name}: 1 of 1 layers applied (model off (strength 0), clip 1)"
    assert out["on"] == f"{name}: 2 of 2 layers applied (model 1, clip 1)"
    assert "MakeAnything:" not in host.log()[before:]


def test_the_list_from_before_a_download_says_to_choose(host: Host, state: dict[str, Tensor]) -> None:
    g = Graph()
    weight(g, "x", apply(g, g.flux()[0], heads="no heads file found")[0])
    text = host.fails(g)
    assert "Choose a heads file in heads: " in text and "press R" in text
    # Long lists are cut.
    assert HEADS in text or re.search(r"and \d+ more", text)


def test_a_second_head_is_named_in_the_log(host: Host, state: dict[str, Tensor]) -> None:
    g = Graph()
    first = apply(g, g.flux()[0], "Portrait")
    weight(g, "one_head", first[0])
    before = len(host.log())
    host.run(g)
    assert "already has the head" not in host.log()[before:]
    between = g.add("MakeAnythingLoraStack", **_empty_rows(), model=first[0])
    weight(g, "two_heads", mix(g, between[0], "Sketch", "Portrait")[0])
    out = host.run(g)
    warning = f"Sketch + Portrait ({HEADS}) is added to a model that already has the head Portrait ({HEADS})"
    assert warning in host.log()[before:]
    wanted = BASE[WEIGHT].double() + tiny.update(state, {0: 1.5, 1: 0.5})[LAYER]
    assert (out["two_heads"].double() - wanted).abs().max() < 1e-6


def _empty_rows() -> dict[str, object]:
    return {
        f"{part}_{n}": v for n in range(1, 6) for part, v in (("on", 1), ("lora", "none"), ("model", 1), ("clip", 1))
    }


@pytest.mark.parametrize("node", ["apply", "load", "mix", "extract"])
def test_the_file_that_has_the_domain_is_named(host: Host, state: dict[str, Tensor], node: str) -> None:
    tiny.save(tiny.heads(tiny.PARAMS, (WEAVING,)), (WEAVING,), loras(host) / OTHER)
    g = Graph()
    if node == "extract":
        g.add("MakeAnythingExtractHead", heads=HEADS, domain="weaving", file_name="in_use_x", overwrite=False)
    elif node == "load":
        weight(g, "x", load(g, "weaving")[0])
    else:
        weight(g, "x", (apply if node == "apply" else mix)(g, g.flux()[0], "weaving")[0])
    assert f"{HEADS} has no domain 'weaving', but {OTHER} has it: choose that file in heads." in host.fails(g)


@pytest.mark.parametrize(
    ("node", "names"),
    [
        ("LoraStack", {"on_1": "on 1", "lora_2": "LoRA 2", "model_3": "model strength 3", "clip_5": "clip strength 5"}),
        ("MixDomainHeads", {"domain_1": "domain 1", "weight_4": "weight 4"}),
    ],
)
def test_rows_have_readable_names(host: Host, node: str, names: dict[str, str]) -> None:
    inputs = host.get(f"/object_info/MakeAnything{node}")[f"MakeAnything{node}"]["input"]["required"]
    assert {name: inputs[name][1].get("display_name") for name in names} == names
