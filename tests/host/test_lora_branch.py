"""LoRA files beside the weights: what a branch holds of them, and what stays with the host's patches."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from . import tiny
from .in_process import CLOSE, PACK, apart, apply, classes, hooks, load, same, sample, weights
from .server import Graph, Host

LAYERS = tiny.layers(tiny.PARAMS)
WIDTH = tiny.PARAMS.hidden_size
PARTS = {
    "transformer_blocks.0.attn.to_q": (WIDTH, WIDTH),
    "transformer_blocks.0.attn.to_k": (WIDTH, WIDTH),
    "transformer_blocks.0.attn.add_v_proj": (WIDTH, WIDTH),
    "single_transformer_blocks.0.proj_mlp": (4 * WIDTH, WIDTH),
    "single_transformer_blocks.0.proj_out": (WIDTH, 5 * WIDTH),
    "norm_out.linear": (2 * WIDTH, WIDTH),
}
"""diffusers' names for parts of FLUX's layers -> (outputs, inputs).  The last has its outputs in another order."""


def stacked(model: Any, folder: Path, name: str, strength: float, way: str) -> tuple[Any, str]:
    """(model, report) of LoRA Stack's work with one file."""
    files = importlib.import_module(f"{PACK}.nodes.model.lora_files")

    class File(files.StackedLora):
        path = str(folder / name)

    model, clip, report = files.apply_lora(model, None, File(name, strength, 1.0), way)
    assert clip is None
    return model, report


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.1


def save_parts(folder: Path) -> str:
    """A LoRA with diffusers' names, each of another rank."""
    state = {}
    for seed, (name, (outputs, inputs)) in enumerate(PARTS.items()):
        state[f"transformer.{name}.lora_A.weight"] = random(2 + seed, inputs, seed=seed)
        state[f"transformer.{name}.lora_B.weight"] = random(outputs, 2 + seed, seed=seed + 50)
    save_file(state, folder / "parts.safetensors")
    return "parts.safetensors"


def test_a_file_that_does_not_fit_is_not_read(
    comfy: Any, folder: Path, base: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = importlib.import_module(f"{PACK}.nodes.model.lora_files")
    monkeypatch.setattr(files, "get_free_memory", lambda device: 5, raising=False)
    with pytest.raises(ValueError, match=r"^plain.safetensors needs 0.\d\d GiB of memory, and 0.00 GiB are free"):
        stacked(base, folder, "plain.safetensors", 1.0, "patch")


def test_cancel_ends_the_reading(comfy: Any, folder: Path, base: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    management = comfy.model_management
    management.interrupt_current_processing(True)
    with pytest.raises(management.InterruptProcessingException):
        stacked(base, folder, "plain.safetensors", 1.0, "patch")
    assert not management.processing_interrupted()


def test_a_lora_with_odd_tensors_is_applied(comfy: Any, folder: Path, base: Any) -> None:
    """Some trainers leave notes beside the weights; the host's own loader passes over them."""
    state = load_file(folder / "plain.safetensors")
    notes = {"seen": torch.tensor([True]), "step": torch.tensor([7], dtype=torch.uint32), "none": torch.empty(0)}
    save_file(state | notes, folder / "noted.safetensors")
    model, report = stacked(base, folder, "noted.safetensors", 1.0, "patch")
    wanted, _ = stacked(base, folder, "plain.safetensors", 1.0, "patch")
    assert "not applied: none, seen, step" in report
    assert torch.equal(sample(comfy, model), sample(comfy, wanted))


@pytest.mark.parametrize("strength", [1.0, -0.37])
def test_a_lora_beside_the_weights_is_the_patched_lora(
    comfy: Any, folder: Path, base: Any, record: dict, strength: float
) -> None:
    bare, before = sample(comfy, base), weights(base)
    branch, report = stacked(base, folder, "plain.safetensors", strength, "branch")
    beside = sample(comfy, branch)
    assert not branch.patches and branch.patches_uuid == base.patches_uuid
    assert hooks(branch) == len(LAYERS)
    assert same(weights(branch), before)
    patched, wanted = stacked(base, folder, "plain.safetensors", strength, "patch")
    every = f"{len(LAYERS)} of {len(LAYERS)} layers"
    assert report == wanted == f"plain.safetensors: {every} applied (model {strength:g}, clip 1)"
    record[f"LoRA beside, {strength}: latents"] = difference = apart(beside, sample(comfy, patched))
    assert difference < CLOSE
    assert apart(bare, beside) > 0.01


def test_parts_of_layers(comfy: Any, folder: Path, base: Any) -> None:
    """Each is a branch with no row more than it needs; outputs in another order are patched, and the report says so."""
    name = save_parts(folder)
    branch, report = stacked(base, folder, name, 0.8, "branch")
    assert report.endswith("; in the weights, as a branch can't hold them: 1")
    assert list(branch.patches) == ["diffusion_model.final_layer.adaLN_modulation.1.weight"]
    (factors,) = branch.get_additional_models()
    found = [(name.removeprefix("diffusion_model."), p.first, tuple(p.up.shape)) for name, p in factors.model.items()]
    assert sorted(found) == [
        ("double_blocks.0.img_attn.qkv", 0, (WIDTH, 2)),
        ("double_blocks.0.img_attn.qkv", WIDTH, (WIDTH, 3)),
        ("double_blocks.0.txt_attn.qkv", 2 * WIDTH, (WIDTH, 4)),
        ("single_blocks.0.linear1", 3 * WIDTH, (4 * WIDTH, 5)),
        ("single_blocks.0.linear2", 0, (WIDTH, 6)),
    ]
    assert apart(sample(comfy, branch), sample(comfy, stacked(base, folder, name, 0.8, "patch")[0])) < CLOSE
    assert apart(sample(comfy, branch), sample(comfy, base)) > 0.01


def test_a_head_and_loras_are_one_branch(comfy: Any, folder: Path, base: Any) -> None:
    name, before = save_parts(folder), classes(base)

    def all_three(way: str) -> Any:
        model = apply(base, folder, "Sketch", 0.6, way)
        for file, strength in (("plain.safetensors", 0.5), (name, -0.4)):
            model, _ = stacked(model, folder, file, strength, way)
        return model

    branch = all_three("branch")
    beside = sample(comfy, branch)
    (factors,) = branch.get_additional_models()
    ranks: dict[str, set[int]] = {}
    for layer, part in factors.model.items():
        ranks.setdefault(layer.removeprefix("diffusion_model."), set()).add(len(part.down))
    assert ranks["double_blocks.0.img_mlp.0"] == {2 * tiny.RANK}
    assert ranks["single_blocks.0.linear2"] == {2 * tiny.RANK + 6}
    assert ranks["double_blocks.0.img_attn.qkv"] == {2 * tiny.RANK, 2, 3}
    assert hooks(branch) == len(list(factors.model.items())) == len(LAYERS) + 4
    branch.detach()
    assert hooks(branch) == 0 and classes(branch) == before
    assert apart(beside, sample(comfy, all_three("patch"))) < CLOSE


def odd_kinds() -> dict[str, dict[str, Tensor]]:
    """Kind -> its tensors for one layer, whose name stands in front of them."""
    up, down = random(WIDTH, 2, seed=1), random(2, 5 * WIDTH, seed=2)
    return {
        "DoRA": {"lora_up.weight": up, "lora_down.weight": down, "dora_scale": torch.ones(WIDTH, 1)},
        "LoKr": {"lokr_w1": random(2, 2, seed=3), "lokr_w2": random(WIDTH // 2, 5 * WIDTH // 2, seed=4)},
        "diff": {"diff": random(WIDTH, 5 * WIDTH, seed=5)},
    }


@pytest.mark.parametrize("kind", odd_kinds())
def test_other_kinds_are_patched(comfy: Any, folder: Path, base: Any, kind: str) -> None:
    prefix = "lora_unet_single_blocks_0_linear2" if kind != "diff" else "diffusion_model.single_blocks.0.linear2"
    save_file({f"{prefix}.{key}": value for key, value in odd_kinds()[kind].items()}, folder / "odd.safetensors")
    branch, report = stacked(base, folder, "odd.safetensors", 0.5, "branch")
    assert report.endswith("1 of 1 layers applied (model 0.5, clip 1); in the weights, as a branch can't hold them: 1")
    assert list(branch.patches) == ["diffusion_model.single_blocks.0.linear2.weight"]
    assert not branch.get_additional_models()
    patched, _ = stacked(base, folder, "odd.safetensors", 0.5, "patch")
    assert torch.equal(sample(comfy, branch), sample(comfy, patched))
    assert apart(sample(comfy, branch), sample(comfy, base)) > 0.001


def test_layers_of_another_shape_change_nothing(comfy: Any, folder: Path, base: Any) -> None:
    """As with the host's patches, and the report names them."""
    state = load_file(folder / "plain.safetensors")
    wrong = "lora_unet_double_blocks_0_img_mlp_0"
    state[f"{wrong}.lora_up.weight"] = random(3, tiny.RANK, seed=1)
    save_file(state, folder / "wrong.safetensors")
    branch, report = stacked(base, folder, "wrong.safetensors", 0.5, "branch")
    count = f"{len(LAYERS) - 1} of {len(LAYERS)} layers applied"
    assert report == f"wrong.safetensors: {count} (model 0.5, clip 1); not applied: {wrong}"
    drawn = sample(comfy, branch)
    assert hooks(branch) == len(LAYERS) - 1 and not branch.patches
    assert apart(drawn, sample(comfy, stacked(base, folder, "wrong.safetensors", 0.5, "patch")[0])) < CLOSE


def test_auto_leaves_quantised_weights_alone(comfy: Any, folder: Path) -> None:
    base = load(comfy, folder / "flux.safetensors", dtype=torch.float8_e4m3fn)
    before = {key: weight.float() for key, weight in weights(base).items()}
    branch, _ = stacked(base, folder, "plain.safetensors", 0.5, "auto")
    assert not branch.patches
    assert apart(sample(comfy, branch), sample(comfy, base)) > 0.01
    assert same({key: weight.float() for key, weight in weights(base).items()}, before)
    comfy.model_management.unload_all_models()


def test_auto_says_what_goes_into_quantised_weights(comfy: Any, folder: Path) -> None:
    base = load(comfy, folder / "flux.safetensors", dtype=torch.float8_e4m3fn)
    prefix = "lora_unet_single_blocks_0_linear2"
    save_file({f"{prefix}.{key}": value for key, value in odd_kinds()["LoKr"].items()}, folder / "odd.safetensors")
    assert stacked(base, folder, "odd.safetensors", 0.5, "auto")[1].endswith("as a branch can't hold them: 1")


def test_names_of_layers_that_the_model_lacks(comfy: Any, folder: Path) -> None:
    """schnell has no guidance; the host knows names for it all the same."""
    state = {key: weight for key, weight in tiny.flux(tiny.PARAMS).items() if not key.startswith("guidance_in.")}
    save_file(state, folder / "schnell.safetensors")
    name = "time_text_embed.guidance_embedder.linear_1"
    lora = {f"transformer.{name}.lora_A.weight": random(2, 256, seed=1)}
    save_file({**lora, f"transformer.{name}.lora_B.weight": random(WIDTH, 2, seed=2)}, folder / "odd.safetensors")
    base = load(comfy, folder / "schnell.safetensors")
    for way in ("branch", "patch"):
        model, report = stacked(base, folder, "odd.safetensors", 0.5, way)
        assert report.endswith(f"0 of 1 layers applied (model 0.5, clip 1); not applied: transformer.{name}")
        assert not model.patches and not model.get_additional_models()


def test_auto_patches_plain_weights(comfy: Any, folder: Path, base: Any) -> None:
    assert len(stacked(base, folder, "plain.safetensors", 0.5, "auto")[0].patches) == len(LAYERS)


def test_another_strength_writes_no_weight(comfy: Any, folder: Path, base: Any) -> None:
    sample(comfy, base)
    uuid = base.model.current_weight_patches_uuid
    drawn = [sample(comfy, stacked(base, folder, "plain.safetensors", s, "branch")[0]) for s in (0.5, -1.0, 0.5)]
    assert base.model.current_weight_patches_uuid == uuid
    assert apart(drawn[0], drawn[2]) < CLOSE and apart(drawn[0], drawn[1]) > 0.01


def test_the_node_passes_it_on(host: Host) -> None:
    """Last and optional, so that what was saved without it still runs."""
    info = host.get("/object_info/MakeAnythingLoraStack")["MakeAnythingLoraStack"]
    assert [name for group in info["input_order"].values() for name in group][-1] == "apply"
    assert "apply" in info["input"]["optional"]
    state = {key.replace("lora_ups.0", "lora_up"): w for key, w in tiny.heads(tiny.PARAMS, tiny.DOMAINS[:1], 3).items()}
    save_file(state, host.base / "models/loras/branch_lora.safetensors")
    rows: dict[str, Any] = {}
    for n in range(1, 6):
        rows |= {f"lora_{n}": "none", f"model_{n}": 0.6, f"clip_{n}": 1.0, f"on_{n}": True}
    rows["lora_2"] = "branch_lora.safetensors"
    key = "diffusion_model.single_blocks.0.linear2.weight"
    g = Graph()
    for way in ("patch", "branch"):
        node = g.add("MakeAnythingLoraStack", model=g.flux()[0], **rows, apply=way)
        latent = g.add("EmptySD3LatentImage", width=32, height=32, batch_size=1)
        g.probe(way, g.sample(node[0], latent[0]))
        g.probe(f"{way} weight", g.add("TestWeight", model=node[0], key=key)[0])
    out = host.run(g)
    assert apart(out["branch"], out["patch"]) < CLOSE
    bare = tiny.flux(tiny.PARAMS)[key.removeprefix("diffusion_model.")]
    assert torch.equal(out["branch weight"], bare)
    assert not torch.equal(out["patch weight"], bare)
