"""Heads beside the weights, in this process: what the host's memory management, clones and compiler make of them."""

from __future__ import annotations

import gc
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from makeanything.serpentine import Layout

from . import tiny
from .in_process import CLOSE, PACK, apart, apply, classes, hooks, load, same, sample, weights
from .server import Graph, Host

BASE = tiny.flux(tiny.PARAMS)
LAYERS = tiny.layers(tiny.PARAMS)
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("choice", "strength"), [("Portrait", 1.0), ("Emoji", -0.37), ({"Portrait": 0.7, "Sketch": -0.4}, 0.9)]
)
def test_branch_is_the_patched_weight(
    comfy: Any, folder: Path, base: Any, record: dict, compared: dict, choice: Any, strength: float
) -> None:
    """With two grids and guidance; a strength that is no power of two; a mix."""
    bare, before = sample(comfy, base, batch=2, cfg=2.0), weights(base)
    branch = apply(base, folder, choice, strength)
    beside = sample(comfy, branch, batch=2, cfg=2.0)
    assert branch.patches_uuid == base.patches_uuid and not branch.patches
    assert hooks(branch) == len(LAYERS) > 10
    assert same(weights(branch), before)
    patched = sample(comfy, apply(base, folder, choice, strength, "patch"), batch=2, cfg=2.0)
    record[f"branch vs patch, {choice}: latents"] = difference = apart(beside, patched)
    compared[f"branch {choice}"] = beside
    assert difference < CLOSE
    assert apart(bare, patched) > 0.01
    assert hooks(base) == 0
    assert apart(sample(comfy, base, batch=2, cfg=2.0), bare) < CLOSE


@pytest.mark.parametrize(("heads", "ranks"), [("heads.safetensors", 1), ("others.safetensors", 2)])
def test_chained_heads_are_one_branch(comfy: Any, folder: Path, base: Any, heads: str, ranks: int) -> None:
    """A second head of the same file shares A; one of another file doubles the rank."""

    def chain(way: str) -> Any:
        return apply(apply(base, folder, "Portrait", 0.8, way), folder, "Sketch", 0.6, way, heads=heads)

    branch = chain("branch")
    beside = sample(comfy, branch)
    assert hooks(branch) == len(LAYERS)
    (factors,) = branch.get_additional_models()
    assert {len(part.down) for _, part in factors.model.items()} == {ranks * tiny.RANK}
    assert apart(beside, sample(comfy, chain("patch"))) < CLOSE


def test_chained_heads_leave_the_first_model_its_own(comfy: Any, folder: Path, base: Any) -> None:
    """The first is loaded when the second joins it."""
    first = apply(base, folder, "Portrait")
    alone = sample(comfy, first)
    both = sample(comfy, apply(first, folder, "Sketch", heads="others.safetensors"))
    assert apart(both, alone) > 0.01
    assert apart(sample(comfy, first), alone) < CLOSE


@pytest.mark.parametrize("order", ["head first", "LoRA first"])
def test_patches_of_others_compose(comfy: Any, folder: Path, base: Any, order: str) -> None:
    state = comfy.utils.load_torch_file(str(folder / "plain.safetensors"))

    def both(way: str) -> Any:
        model = base
        for what in ("head", "LoRA") if order == "head first" else ("LoRA", "head"):
            if what == "head":
                model = apply(model, folder, "Portrait", 0.8, way)
            else:
                model, _ = comfy.sd.load_lora_for_models(model, None, dict(state), 0.7, 0)
        return model

    assert apart(sample(comfy, both("branch")), sample(comfy, both("patch"))) < CLOSE


def test_recraft_on_top(comfy: Any, folder: Path, base: Any) -> None:
    pins = importlib.import_module(f"{PACK}.nodes.model.pins")
    layout = Layout(2, 2)
    cell = torch.randn(1, 16, 4, 4, generator=torch.Generator().manual_seed(9))
    drawn = {}
    for way in ("branch", "patch"):
        model = pins.pin_frame(apply(base, folder, way=way), layout, layout.tail, pins.Pin(cell))
        drawn[way] = sample(comfy, model, edge=8)
    assert torch.equal(drawn["branch"][..., 4:, :4], cell)
    assert apart(drawn["branch"], drawn["patch"]) < CLOSE


def test_a_queue_of_heads_and_strengths_keeps_the_model_loaded(
    comfy: Any, folder: Path, base: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is applied anew, as when a widget changes; the host drops the one before."""
    sample(comfy, base)
    written: list[str] = []
    real = comfy.model_patcher.ModelPatcher.patch_weight_to_device

    def watched(self: Any, key: str, *args: Any, **kwargs: Any) -> Any:
        if self.model is base.model:
            written.append(key)
        return real(self, key, *args, **kwargs)

    monkeypatch.setattr(comfy.model_patcher.ModelPatcher, "patch_weight_to_device", watched)
    queue = [("Portrait", 1.0), ("Portrait", 0.3), ("Sketch", 0.3), ("Portrait", 1.0), ("Emoji", -2.0)]
    drawn = [sample(comfy, apply(base, folder, *job)) for job in queue]
    assert not written
    assert apart(drawn[0], drawn[3]) < CLOSE
    assert base.model.current_weight_patches_uuid == base.patches_uuid
    monkeypatch.undo()
    for job, latents in zip(queue, drawn, strict=True):
        assert apart(latents, sample(comfy, apply(base, folder, *job, way="patch"))) < CLOSE


def test_unloaded_and_loaded_again(comfy: Any, folder: Path, base: Any) -> None:
    before = classes(base)
    branch = apply(base, folder)
    drawn = sample(comfy, branch)
    (factors,) = branch.get_additional_models()
    assert factors.model in [loaded.model.model for loaded in comfy.model_management.current_loaded_models]
    comfy.model_management.unload_all_models()
    assert hooks(branch) == 0 and classes(base) == before
    branch.eject_model()
    branch.detach()
    assert apart(sample(comfy, branch), drawn) < CLOSE
    assert hooks(branch) == len(LAYERS)
    branch.detach()
    assert hooks(branch) == 0 and classes(base) == before


@pytest.mark.parametrize("extra", ["branch alone", "patched LoRA too"])
def test_low_vram(comfy: Any, folder: Path, base: Any, monkeypatch: pytest.MonkeyPatch, extra: str) -> None:
    """Less memory than the model needs: the host casts the layers it left out when they are called."""
    if extra == "patched LoRA too":
        state = comfy.utils.load_torch_file(str(folder / "plain.safetensors"))
        base, _ = comfy.sd.load_lora_for_models(base, None, state, 0.7, 0)
    branch = apply(base, folder)
    whole = sample(comfy, branch)
    comfy.model_management.unload_all_models()

    def less(self: Any, _: float, force_patch_weights: bool = False) -> Any:
        share = int(self.model.model_size() * 0.7) - self.model.loaded_size()
        return self.model.partially_load(self.device, share, force_patch_weights=force_patch_weights)

    monkeypatch.setattr(comfy.model_management.LoadedModel, "model_use_more_vram", less)
    partly = sample(comfy, branch)
    assert base.model.model_lowvram and 0 < base.loaded_size() < base.model_size()
    assert apart(partly, whole) < CLOSE
    # Memory is wanted while the model is loaded.
    branch.partially_unload(CPU, base.model_size())
    assert hooks(branch) == len(LAYERS)
    assert apart(sample(comfy, branch), whole) < CLOSE


def test_clones_take_turns(comfy: Any, folder: Path, base: Any) -> None:
    bare, before = sample(comfy, base), classes(base)
    first = apply(base, folder, "Portrait")
    one = sample(comfy, first)
    # A clone of a loaded model says that it is injected, and never was.
    clone, unused = first.clone(), first.clone()
    second = apply(base, folder, "Sketch")
    unused.eject_model()
    assert hooks(first) == len(LAYERS)
    del unused
    gc.collect()
    assert hooks(first) == len(LAYERS)
    two = sample(comfy, second)
    assert apart(one, two) > 0.01
    sample(comfy, first)
    # A clone that gets patches while the first is loaded, which then goes.
    patched = apply(first, folder, "Emoji", way="patch")
    assert hooks(first) == len(LAYERS)
    sample(comfy, base)
    assert hooks(base) == 0
    sample(comfy, patched)
    assert hooks(patched) == len(LAYERS)
    assert apart(sample(comfy, clone), one) < CLOSE
    assert hooks(clone) == len(LAYERS)
    assert apart(sample(comfy, base), bare) < CLOSE
    assert hooks(base) == 0 and classes(base) == before
    assert apart(sample(comfy, first), one) < CLOSE
    assert apart(sample(comfy, second), two) < CLOSE


def test_two_loaded_at_once_do_not_add_up(comfy: Any, folder: Path, base: Any) -> None:
    """As with patches: the model is as the one loaded last."""
    first, second = apply(base, folder, "Portrait"), apply(base, folder, "Sketch")
    comfy.model_management.load_models_gpu([first, second])
    assert hooks(base) == len(LAYERS)
    alone = sample(comfy, second)
    comfy.model_management.unload_all_models()
    assert apart(sample(comfy, second), alone) < CLOSE


def test_a_dropped_model_takes_its_hooks_along(comfy: Any, folder: Path, base: Any) -> None:
    bare, before = sample(comfy, base), classes(base)
    branch = apply(base, folder)
    sample(comfy, branch)
    del branch
    gc.collect()
    assert hooks(base) == 0 and classes(base) == before
    assert apart(sample(comfy, base), bare) < CLOSE


def test_a_copy_for_another_gpu(comfy: Any, folder: Path, base: Any) -> None:
    if not hasattr(base, "deepclone_multigpu"):
        pytest.skip("this version of ComfyUI uses one GPU")
    branch = apply(base, folder)
    drawn = sample(comfy, branch)
    copied = branch.deepclone_multigpu(new_load_device=CPU)
    (theirs,), (ours,) = copied.get_additional_models(), branch.get_additional_models()
    assert theirs.model is not ours.model and copied.model is not branch.model
    assert apart(sample(comfy, copied), drawn) < CLOSE
    assert hooks(copied) == len(LAYERS)


def test_fp8_weights_stay_as_they_are(comfy: Any, folder: Path) -> None:
    base = load(comfy, folder / "flux.safetensors", dtype=torch.float8_e4m3fn)
    before = weights(base)
    assert {before[key].dtype for key in LAYERS.values()} == {torch.float8_e4m3fn}
    branch = apply(base, folder, way="auto")
    types = compute_types(branch)
    drawn = sample(comfy, branch)
    assert hooks(branch) == len(LAYERS) and not branch.patches
    assert same({k: w.float() for k, w in weights(base).items()}, {k: w.float() for k, w in before.items()})
    (factors,) = branch.get_additional_models()
    assert types == {factor.dtype for factor in factors.model.parameters()}
    # The same weights in full precision, with the head in them.
    save_file({key: weight.float() for key, weight in before.items()}, folder / "rounded.safetensors")
    wanted = sample(comfy, apply(load(comfy, folder / "rounded.safetensors"), folder, way="patch"))
    assert apart(drawn, wanted) < (CLOSE if types == {torch.float32} else 0.05)
    comfy.model_management.unload_all_models()


def compute_types(model: Any) -> set[torch.dtype]:
    """The types of what the layers with a head are called with, filled in while it samples."""
    found: set[torch.dtype] = set()
    for key in LAYERS.values():
        layer = model.model.diffusion_model.get_submodule(key.removesuffix(".weight"))
        # Not by a hook, which would be counted.
        real = layer.forward
        layer.forward = lambda x, real=real: (found.add(x.dtype), real(x))[1]
    return found


def test_auto_patches_plain_weights(comfy: Any, folder: Path, base: Any) -> None:
    assert apply(base, folder, way="auto").patches
    assert not apply(base, folder, way="branch").patches


def test_auto_sees_weights_packed_by_loaders(comfy: Any, folder: Path, base: Any) -> None:
    """GGUF loaders keep blocks of bytes in the place of one weight or more."""
    packed = torch.zeros(7, 18, dtype=torch.uint8)
    base.model.diffusion_model.single_blocks[0].linear1.weight = torch.nn.Parameter(packed, requires_grad=False)
    assert not apply(base, folder, way="auto").patches


def test_auto_sees_weights_the_host_quantised(comfy: Any, folder: Path) -> None:
    """A file in the host's own format.  Its weights give their type as the one before."""
    layer = "single_blocks.0.linear2"
    state = dict(BASE)
    scale = state[f"{layer}.weight"].abs().max() / 448
    state[f"{layer}.weight"] = (state[f"{layer}.weight"] / scale).to(torch.float8_e4m3fn)
    state[f"{layer}.weight_scale"] = scale
    state[f"{layer}.comfy_quant"] = torch.tensor(
        list(json.dumps({"format": "float8_e4m3fn"}).encode()), dtype=torch.uint8
    )
    save_file(state, folder / "quantised.safetensors")
    base = load(comfy, folder / "quantised.safetensors")
    weight = base.model.diffusion_model.get_submodule(layer).weight
    before = weight.dequantize().clone()
    assert isinstance(weight, comfy.quant_ops.QuantizedTensor) and weight.dtype != torch.float8_e4m3fn
    branch = apply(base, folder, way="auto")
    assert not branch.patches
    assert apart(sample(comfy, branch), sample(comfy, base)) > 0.01
    assert torch.equal(base.model.diffusion_model.get_submodule(layer).weight.dequantize(), before)
    comfy.model_management.unload_all_models()


def test_compiled(comfy: Any, folder: Path, base: Any) -> None:
    """Compiled without a head first, which a compiler may think is how it stays; and once for all heads and steps."""
    helper = sys.modules["comfy_api.torch_helpers"]
    compiled: list[int] = []

    def backend(graph: Any, _: Any) -> Any:
        compiled.append(len(graph.graph.nodes))
        return graph

    def drawn(model: Any) -> Tensor:
        model = model.clone()
        helper.set_torch_compile_wrapper(model, backend=backend, keys=["diffusion_model.single_blocks.0"])
        return sample(comfy, model, steps=3)

    torch._dynamo.reset()
    try:
        models = [base, *(apply(base, folder, *job) for job in (("Portrait", 1.0), ("Sketch", 1.0), ("Portrait", 0.3)))]
        plain = [sample(comfy, model, steps=3) for model in models]
        counts = []
        for model, wanted in zip(models, plain, strict=True):
            assert apart(drawn(model), wanted) < CLOSE
            counts.append(len(compiled))
        assert 0 < counts[0] < counts[1] == counts[2] == counts[3]
        assert apart(drawn(base), plain[0]) < CLOSE
        assert apart(drawn(models[1]), plain[1]) < CLOSE
        assert len(compiled) == counts[-1]
    finally:
        torch._dynamo.reset()


HEADS = "branch_heads.safetensors"


def test_the_nodes_offer_it(host: Host) -> None:
    """Last and optional, so that what was saved without it still runs."""
    for node in ("ApplyDomainHead", "MixDomainHeads", "LoadFluxWithDomain"):
        info = host.get(f"/object_info/MakeAnything{node}")[f"MakeAnything{node}"]
        assert list(info["input"]["optional"]) == ["apply"]
        assert [name for group in info["input_order"].values() for name in group][-1] == "apply"


def test_nodes_pass_it_on(host: Host) -> None:
    tiny.save_heads(host.base / "models/loras" / HEADS)
    key = "diffusion_model.single_blocks.0.linear2.weight"
    g = Graph()
    head = {"heads": HEADS, "domain": "Sketch", "strength": 0.6}
    rows = {f"domain_{n}": "Sketch" for n in range(1, 5)} | {f"weight_{n}": 0.25 for n in range(1, 5)}
    for way in ("patch", "branch"):
        loaded = g.add(
            "MakeAnythingLoadFluxWithDomain",
            unet_name="tiny_flux.safetensors",
            weight_dtype="default",
            **head,
            apply=way,
        )
        applied = g.add("MakeAnythingApplyDomainHead", model=g.flux()[0], **head, apply=way)
        mixed = g.add("MakeAnythingMixDomainHeads", model=g.flux()[0], heads=HEADS, strength=0.6, **rows, apply=way)
        for name, node in (("loaded", loaded), ("applied", applied), ("mixed", mixed)):
            latent = g.add("EmptySD3LatentImage", width=32, height=32, batch_size=1)
            g.probe(f"{name} {way}", g.sample(node[0], latent[0]))
            g.probe(f"{name} {way} weight", g.add("TestWeight", model=node[0], key=key)[0])
    out = host.run(g)
    for name in ("loaded", "applied", "mixed"):
        assert apart(out[f"{name} branch"], out[f"{name} patch"]) < CLOSE
        assert torch.equal(out[f"{name} branch weight"], BASE[key.removeprefix("diffusion_model.")])
        assert not torch.equal(out[f"{name} patch weight"], BASE[key.removeprefix("diffusion_model.")])
