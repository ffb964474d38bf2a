"""Domain heads in the host, against weights merged here in float64."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from . import tiny
from .server import FLUX, WIDER_FLUX, Graph, Host, Node

HEADS = "heads_test.safetensors"
LAYERS = tiny.layers(tiny.PARAMS)
BASE = tiny.flux(tiny.PARAMS)
ROUNDING = 1e-7
"""Of float32 weights around 0.3."""


@pytest.fixture(scope="module")
def state(host: Host) -> dict[str, Tensor]:
    return tiny.save_heads(loras(host) / HEADS)


def loras(host: Host) -> Path:
    return host.base / "models/loras"


def apply(g: Graph, model: list, domain: str = "Portrait", strength: float = 1.0, heads: str = HEADS) -> Node:
    return g.add("MakeAnythingApplyDomainHead", model=model, heads=heads, domain=domain, strength=strength)


def mix(g: Graph, model: list, *rows: tuple[str, float], strength: float = 1.0) -> Node:
    padded = [*rows, *[("no such domain", 0.0)] * (4 - len(rows))]
    inputs = {f"domain_{n}": name for n, (name, _) in enumerate(padded, 1)}
    inputs |= {f"weight_{n}": weight for n, (_, weight) in enumerate(padded, 1)}
    return g.add("MakeAnythingMixDomainHeads", model=model, heads=HEADS, strength=strength, **inputs)


def sample(g: Graph, model: list) -> list:
    return g.sample(model, g.add("EmptySD3LatentImage", width=64, height=64, batch_size=1)[0])


def worst_weight(host: Host, name: str, g: Graph, model: list, wanted: dict[str, Tensor]) -> float:
    """Largest difference between the model's weights in use and base + wanted, over all layers."""
    for layer, key in LAYERS.items():
        g.probe(f"{name}_{layer}", g.add("TestWeight", model=model, key=f"diffusion_model.{key}")[0])
    out = host.run(g)
    assert len(out) == len(LAYERS) > 10
    return max(
        (out[f"{name}_{layer}"].double() - (BASE[key].double() + wanted[layer])).abs().max().item()
        for layer, key in LAYERS.items()
    )


@pytest.mark.parametrize(
    ("domain", "head", "strength"), [("Portrait", 0, 1.0), ("Emoji", 2, 0.37), ("Sketch", 1, -1.5)]
)
def test_head_is_the_merged_weight(
    host: Host, state: dict[str, Tensor], record: dict, domain: str, head: int, strength: float
) -> None:
    g = Graph()
    wanted = tiny.update(state, {head: strength})
    assert min(update.abs().max() for update in wanted.values()) > 0.01
    worst = worst_weight(host, f"merged_{head}", g, apply(g, g.flux()[0], domain, strength)[0], wanted)
    record[f"head {head} at {strength}: weight"] = worst
    assert worst < ROUNDING


def test_sampling_equals_a_merged_checkpoint(
    host: Host, state: dict[str, Tensor], record: dict, compared: dict[str, Tensor]
) -> None:
    update = tiny.update(state, {1: 0.8})
    merged = dict(BASE)
    for layer, key in LAYERS.items():
        merged[key] = (BASE[key].double() + update[layer]).float()
    save_file(merged, host.base / "models/diffusion_models/merged.safetensors")
    g = Graph()
    g.probe("head_z", sample(g, apply(g, g.flux()[0], "Sketch", 0.8)[0]))
    g.probe("merged_z", sample(g, g.flux("merged.safetensors")[0]))
    g.probe("base_z", sample(g, g.flux()[0]))
    out = host.run(g)
    compared |= {name: out[name] for name in ("head_z", "base_z")}
    record["head vs merged checkpoint: latents"] = difference = (out["head_z"] - out["merged_z"]).abs().max().item()
    record["head vs no head: latents"] = change = (out["head_z"] - out["base_z"]).abs().max().item()
    assert difference < 1e-4
    assert change > 0.1


def test_mix_is_the_sum_of_its_heads(host: Host, state: dict[str, Tensor], record: dict) -> None:
    g = Graph()
    wanted = tiny.update(state, {0: 0.7 * 0.9, 1: -0.4 * 0.9})
    node = mix(g, g.flux()[0], ("Portrait", 0.5), ("Sketch", -0.4), ("Portrait", 0.2), strength=0.9)
    record["mix: weight"] = worst = worst_weight(host, "mix", g, node[0], wanted)
    assert worst < ROUNDING


def test_mix_equals_heads_one_after_another(
    host: Host, state: dict[str, Tensor], record: dict, compared: dict[str, Tensor]
) -> None:
    g = Graph()
    g.probe("mixed", sample(g, mix(g, g.flux()[0], ("Portrait", 0.7), ("Sketch", 0.4))[0]))
    first = apply(g, g.flux()[0], "Portrait", 0.7)
    g.probe("chained", sample(g, apply(g, first[0], "Sketch", 0.4)[0]))
    out = host.run(g)
    compared["mix"] = out["mixed"]
    record["mix vs chain: latents"] = difference = (out["mixed"] - out["chained"]).abs().max().item()
    assert difference < 1e-4


def test_mix_gives_the_domain_of_the_largest_weight(host: Host, state: dict[str, Tensor]) -> None:
    g = Graph()
    node = mix(g, g.flux()[0], ("Portrait", 0.3), ("Sketch", 0.7))
    g.probe("mix_prompt", g.add("MakeAnythingProcessPrompt", domain=node[1], subject="1 girl")[0])
    assert host.run(g)["mix_prompt"] == "3*3 of 9 sub-images, step-by-step sketch drawing process, 1 girl"


def test_mix_refuses_other_layouts_and_no_weight(host: Host, state: dict[str, Tensor]) -> None:
    g = Graph()
    g.probe("x", mix(g, g.flux()[0], ("Portrait", 0.5), ("Emoji", 0.5))[0])
    assert "Portrait is drawn in a 3x3 grid and Emoji in a 2x2 grid" in host.fails(g)
    g = Graph()
    g.probe("x", mix(g, g.flux()[0], ("Portrait", 0.0), ("Sketch", 0.0))[0])
    assert "at least one domain with a weight other than 0" in host.fails(g)


def test_strength_zero_is_no_head(host: Host, state: dict[str, Tensor]) -> None:
    g = Graph()
    g.probe("zero", sample(g, apply(g, g.flux()[0], strength=0.0)[0]))
    g.probe("none", sample(g, g.flux()[0]))
    out = host.run(g)
    assert torch.equal(out["zero"], out["none"])


def test_the_model_wired_in_stays_as_it_was(host: Host, state: dict[str, Tensor]) -> None:
    """The host keeps the loaded model between the two graphs, so a change to it would show in the second."""
    key = "diffusion_model.single_blocks.0.linear1.weight"
    g = Graph()
    g.probe("with_head", g.add("TestWeight", model=apply(g, g.flux()[0], strength=0.77)[0], key=key)[0])
    out = host.run(g)
    assert not torch.equal(out["with_head"], BASE["single_blocks.0.linear1.weight"])
    g = Graph()
    g.probe("without", g.add("TestWeight", model=g.flux()[0], key=key)[0])
    assert torch.equal(host.run(g)["without"], BASE["single_blocks.0.linear1.weight"])


def test_load_flux_with_domain(host: Host, state: dict[str, Tensor]) -> None:
    g = Graph()
    chosen = {"heads": HEADS, "domain": "Emoji", "strength": 0.9}
    loaded = g.add("MakeAnythingLoadFluxWithDomain", unet_name=FLUX, weight_dtype="default", **chosen)
    g.probe("loaded", sample(g, loaded[0]))
    g.probe("applied", sample(g, apply(g, g.flux()[0], "Emoji", 0.9)[0]))
    g.probe("prompt", g.add("MakeAnythingProcessPrompt", domain=loaded[1], subject="a cat")[0])
    out = host.run(g)
    assert torch.equal(out["loaded"], out["applied"])
    assert out["prompt"] == "2*2 of 4 sub-images, step-by-step emoji design process, a cat"


def test_load_flux_offers_the_stock_choices(host: Host) -> None:
    ours = host.get("/object_info/MakeAnythingLoadFluxWithDomain")["MakeAnythingLoadFluxWithDomain"]
    stock = host.get("/object_info/UNETLoader")["UNETLoader"]["input"]["required"]
    for name in ("unet_name", "weight_dtype"):
        assert options(ours, name) == stock[name][0]


def extract(g: Graph, name: str = "", domain: str = "Sketch", overwrite: bool = False, heads: str = HEADS) -> None:
    node = g.add("MakeAnythingExtractHead", heads=heads, domain=domain, file_name=name, overwrite=overwrite)
    g.probe("extracted", node[0])


@pytest.mark.parametrize("strength", [1.0, 0.45])
def test_extracted_head_through_the_stock_loader_is_bit_equal(
    host: Host, state: dict[str, Tensor], strength: float
) -> None:
    g = Graph()
    extract(g, f"extracts/one_{strength}")
    name = host.run(g)["extracted"]
    assert name == str(Path("extracts", f"one_{strength}.safetensors"))
    assert len(load_file(loras(host) / name)) == 3 * len(LAYERS)
    g = Graph()
    stock = g.add("LoraLoaderModelOnly", model=g.flux()[0], lora_name=name, strength_model=strength)
    g.probe("stock", sample(g, stock[0]))
    g.probe("ours", sample(g, apply(g, g.flux()[0], "Sketch", strength)[0]))
    out = host.run(g)
    assert torch.equal(out["stock"], out["ours"])


def test_extract_names_the_file_itself_and_never_overwrites_unasked(host: Host, state: dict[str, Tensor]) -> None:
    path = loras(host) / "heads_test_portrait.safetensors"
    g = Graph()
    extract(g, domain="Portrait")
    assert host.run(g)["extracted"] == path.name
    path.write_bytes(b"mine")
    g = Graph()
    extract(g, path.name, domain="Portrait")
    assert "already has heads_test_portrait.safetensors" in host.fails(g)
    assert path.read_bytes() == b"mine"
    g = Graph()
    extract(g, path.name, domain="Portrait", overwrite=True)
    host.run(g)
    assert load_file(path)
    path.unlink()


def test_extract_spares_the_heads_file(host: Host, state: dict[str, Tensor]) -> None:
    g = Graph()
    extract(g, HEADS, overwrite=True)
    assert "is a heads file, with all its heads" in host.fails(g)
    assert len(load_file(loras(host) / HEADS)) == len(state)


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "a/../../out", "..\\out", "C:\\out", "C:out", "\\out", "."])
def test_extract_stays_in_the_loras_folder(host: Host, state: dict[str, Tensor], name: str) -> None:
    before = sorted(host.base.rglob("*.safetensors"))
    g = Graph()
    extract(g, name)
    assert "is not a name inside the loras folder" in host.fails(g)
    assert sorted(host.base.rglob("*.safetensors")) == before


def options(info: dict, name: str) -> list[str]:
    spec = info["input"]["required"][name]
    return spec[1]["options"] if spec[0] == "COMBO" else spec[0]


def offered(host: Host) -> tuple[list[str], list[str]]:
    info = host.get("/object_info/MakeAnythingApplyDomainHead")["MakeAnythingApplyDomainHead"]
    return options(info, "heads"), options(info, "domain")


def test_only_heads_files_are_offered(host: Host, state: dict[str, Tensor]) -> None:
    folder = loras(host)
    (folder / "broken.safetensors").write_bytes(b"\x00" * 40)
    (folder / "cut.safetensors").write_bytes((folder / HEADS).read_bytes()[:900])
    save_file({"lora_unet_x.lora_up.weight": torch.zeros(1, 1)}, folder / "ordinary.safetensors")
    heads, domains = offered(host)
    assert HEADS in heads
    assert not {"broken.safetensors", "cut.safetensors", "ordinary.safetensors"} & set(heads)
    assert {"Portrait", "Sketch", "Emoji"} <= set(domains)
    for name in ("broken", "cut", "ordinary"):
        (folder / f"{name}.safetensors").unlink()


def test_a_new_file_and_a_changed_one_are_noticed(host: Host, state: dict[str, Tensor]) -> None:
    path = loras(host) / "late.safetensors"
    renamed = tiny.Domain.of("Glass blowing", 9, "glass blowing")
    tiny.save(tiny.heads(tiny.PARAMS, (renamed,)), (renamed,), path)
    heads, domains = offered(host)
    assert path.name in heads
    assert "Glass blowing" in domains
    other = tiny.Domain.of("Knitting", 9, "knitting")
    tiny.save(tiny.heads(tiny.PARAMS, (other,)), (other,), path)
    assert "Knitting" in offered(host)[1]
    assert "Glass blowing" not in offered(host)[1]
    path.unlink()
    assert path.name not in offered(host)[0]


def test_without_heads_files_the_packs_own_are_offered(host: Host, state: dict[str, Tensor]) -> None:
    hidden = [path.rename(path.with_suffix(".hidden")) for path in loras(host).rglob("*.safetensors")]
    try:
        heads, _ = offered(host)
        g = Graph()
        # FLUX-nano's heads on a FLUX of another size, as someone may try them.
        g.probe("x", apply(g, g.flux()[0], heads=heads[0], domain="Bricks")[0])
        text = host.fails(g)
    finally:
        for path in hidden:
            path.rename(path.with_suffix(".safetensors"))
    assert heads == ["flux_nano_heads_4f.safetensors", "flux_nano_heads_9f.safetensors"]
    assert "flux_nano_heads_4f.safetensors" in text


def test_values_no_longer_offered_get_a_sentence(host: Host, state: dict[str, Tensor]) -> None:
    g = Graph()
    g.probe("x", apply(g, g.flux()[0], heads="gone.safetensors")[0])
    text = host.fails(g)
    assert "The loras folder has no heads file 'gone.safetensors'; choose one of" in text
    # Long lists are cut.
    assert HEADS in text or re.search(r"and \d+ more", text)
    g = Graph()
    g.probe("x", apply(g, g.flux()[0], domain="Portrit")[0])
    assert "there is no domain 'Portrit': did you mean 'Portrait'?" in host.fails(g)


def test_wrong_files_are_named(host: Host, state: dict[str, Tensor]) -> None:
    folder = loras(host)
    save_file({"lora_unet_x.lora_up.weight": torch.zeros(1, 1)}, folder / "plain.safetensors")
    g = Graph()
    g.probe("x", apply(g, g.flux()[0], heads="plain.safetensors")[0])
    assert "plain.safetensors: no lora_ups in it" in host.fails(g)
    (folder / "cut.safetensors").write_bytes((folder / HEADS).read_bytes()[:-100])
    g = Graph()
    g.probe("x", apply(g, g.flux()[0], heads="cut.safetensors")[0])
    assert "cut short" in host.fails(g)
    (folder / "plain.safetensors").unlink()
    (folder / "cut.safetensors").unlink()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("SDXL", "type SDXL with 4"),
        ("Flux2", "type Flux2 with 128"),
        ("Chroma", "type Chroma with 16"),
        ("LongCatImage", "type LongCatImage with 16"),
    ],
)
def test_other_models_are_refused(host: Host, state: dict[str, Tensor], kind: str, words: str) -> None:
    g = Graph()
    latents = kind if kind in ("SDXL", "Flux2") else "Flux"
    g.probe("x", apply(g, g.add("TestOtherModel", kind=kind, latents=latents)[0])[0])
    text = host.fails(g)
    if f"no attribute '{kind}'" in text:
        pytest.skip(f"this version of ComfyUI has no {kind}")
    assert "needs a FLUX.1 model" in text
    assert words in text


def test_a_flux_of_another_size_is_refused(host: Host, state: dict[str, Tensor]) -> None:
    g = Graph()
    g.probe("x", apply(g, g.flux(WIDER_FLUX)[0])[0])
    assert f"None of the {len(LAYERS)} layers of {HEADS} fits this model" in host.fails(g)


def test_layers_that_do_not_fit_are_counted_in_the_log(host: Host, state: dict[str, Tensor]) -> None:
    extra = {key.replace("single_blocks_0", "single_blocks_9"): tensor.clone() for key, tensor in state.items()}
    added = len({key.split(".")[0] for key in extra} - set(LAYERS))
    tiny.save({**state, **extra}, tiny.DOMAINS, loras(host) / "deeper.safetensors")
    g = Graph()
    g.probe("deeper", sample(g, apply(g, g.flux()[0], heads="deeper.safetensors")[0]))
    g.probe("plain", sample(g, apply(g, g.flux()[0])[0]))
    out = host.run(g)
    assert f"only {len(LAYERS)} of the {len(LAYERS) + added} layers of deeper.safetensors fit the model" in host.log()
    assert added > 0
    assert torch.equal(out["deeper"], out["plain"])
    (loras(host) / "deeper.safetensors").unlink()
