"""Asymmetric LoRA files built by hand, read back by ours, by the safetensors library and by diffusers."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import FluxTransformer2DModel
from diffusers.loaders.lora_conversion_utils import _convert_kohya_flux_lora_to_diffusers
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from makeanything.asymmetric_lora import AsymmetricLora, extract, join, save
from makeanything.domains import RELEASED_BY_HEADS, Domain
from makeanything.lora_header import DOMAINS_KEY, Layer

QKV = "lora_unet_double_blocks_0_img_attn_qkv"
LINEAR2 = "lora_unet_single_blocks_0_linear2"
SHAPES = {QKV: (6, 18), LINEAR2: (30, 6)}
"""Layer -> (inputs, outputs)."""

ALPHA = 1.5
RANK = 4

Tensors = dict[str, Tensor]


def make(heads: int = 2, seed: int = 0, shapes: dict[str, tuple[int, int]] = SHAPES, rank: int = RANK) -> Tensors:
    """An asymmetric LoRA; A depends on the shapes alone, so that files of several seeds share it."""
    shared = torch.Generator().manual_seed(99)
    own = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer, (inputs, outputs) in shapes.items():
        tensors[f"{layer}.lora_down.weight"] = torch.randn(rank, inputs, generator=shared)
        tensors[f"{layer}.alpha"] = torch.tensor(ALPHA)
        for head in range(heads):
            tensors[f"{layer}.lora_ups.{head}.weight"] = torch.randn(outputs, rank, generator=own)
    return tensors


def domains(*names: str) -> list[Domain]:
    return [Domain.of(name, 4, f"{name} making") for name in names]


def header(heads: list[Domain]) -> dict[str, str]:
    return {DOMAINS_KEY: json.dumps([head.to_json() for head in heads])}


@pytest.fixture
def write(tmp_path) -> Callable[..., Path]:
    """Save with the safetensors library, not with ours."""

    def write(tensors: Tensors, name: str = "heads", metadata: dict[str, str] | None = None) -> Path:
        path = tmp_path / f"{name}.safetensors"
        save_file(tensors, path, metadata)
        return path

    return write


def delta(state: Tensors, layer: str, strength: float = 1.0) -> Tensor:
    """What an ordinary kohya LoRA adds to a layer's weight."""
    down = state[f"{layer}.lora_down.weight"].double()
    up = state[f"{layer}.lora_up.weight"].double()
    return strength * state[f"{layer}.alpha"].double() / down.shape[0] * up @ down


def head_delta(tensors: Tensors, layer: str, head: int) -> Tensor:
    """alpha / r * B_i A, from the file's own tensors."""
    up, down = tensors[f"{layer}.lora_ups.{head}.weight"], tensors[f"{layer}.lora_down.weight"]
    return ALPHA / RANK * (up.double() @ down.double())


# Reading


def test_the_header(write):
    lora = AsymmetricLora.open(write(make(3), metadata={**header(domains("Tea", "Bread", "Silk")), "note": "kept"}))
    assert [domain.name for domain in lora.domains] == ["Tea", "Bread", "Silk"]
    assert lora.domains[0].write_prompt("x") == "2*2 of 4 sub-images, step-by-step Tea making process, x"
    assert lora.layers == {QKV: Layer(4, 6, 18), LINEAR2: Layer(4, 30, 6)}
    assert lora.metadata["note"] == "kept"
    assert (lora.rank, lora.alpha()) == (RANK, ALPHA)
    assert lora.head_elements == (4 * (6 + 30), 4 * (18 + 6))


def test_rank_and_alpha_of_layers_that_differ(write):
    tensors = make(2, shapes={QKV: (6, 18)}) | make(2, shapes={LINEAR2: (30, 6)}, rank=8)
    tensors[f"{LINEAR2}.alpha"] = torch.tensor([8.0])
    lora = AsymmetricLora.open(write(tensors))
    assert (lora.rank, lora.alpha()) == (8, None)
    assert delta(lora.select(1), LINEAR2).shape == (6, 30)


@pytest.mark.parametrize("heads", [10, 21])
def test_released_files_are_known_by_their_number_of_heads(write, heads):
    lora = AsymmetricLora.open(write(make(heads)))
    assert lora.domains == RELEASED_BY_HEADS[heads]
    assert lora.find("portrait") == 5


def test_heads_without_names_get_numbers(write):
    lora = AsymmetricLora.open(write(make(3)))
    assert [domain.name for domain in lora.domains] == ["Head 1", "Head 2", "Head 3"]
    assert [lora.find(wanted) for wanted in ("head 2", 2, "2")] == [1, 1, 1]


def test_metadata_comes_before_the_released_tables(write):
    names = [f"Craft {letter}" for letter in "abcdefghij"]
    lora = AsymmetricLora.open(write(make(10), metadata=header(domains(*names))))
    assert [domain.name for domain in lora.domains] == names


# Selecting


@pytest.mark.parametrize("choice", ["Bread", "bread", 2, "2", {"Bread": 1.0}])
def test_select_renames_one_head_and_changes_no_bit(write, choice):
    tensors = {key: tensor.to(torch.bfloat16) for key, tensor in make(3).items()}
    lora = AsymmetricLora.open(write(tensors, metadata=header(domains("Tea", "Bread", "Silk"))))
    state = lora.select(choice)
    assert set(state) == {
        f"{layer}.{name}" for layer in SHAPES for name in ("lora_down.weight", "lora_up.weight", "alpha")
    }
    for key, tensor in state.items():
        source = tensors[key.replace("lora_up.", "lora_ups.1.")]
        assert tensor.dtype == torch.bfloat16
        assert torch.equal(tensor, source), key


@pytest.mark.parametrize("strength", [1.0, 0.7, -2.0])
def test_the_update_in_closed_form(write, strength):
    tensors = make(2)
    state = AsymmetricLora.open(write(tensors)).select(2)
    for layer in SHAPES:
        torch.testing.assert_close(delta(state, layer, strength), strength * head_delta(tensors, layer, 1))


@pytest.mark.parametrize("mix", [{"Tea": 0.25, "Silk": 0.75}, {"Tea": 1, "Bread": -2, "Silk": 0.5}, {"Bread": 0.5}])
def test_a_mix_is_the_weighted_sum_of_the_updates(write, mix):
    names = ["Tea", "Bread", "Silk"]
    tensors = make(3)
    lora = AsymmetricLora.open(write(tensors, metadata=header(domains(*names))))
    state = lora.select(mix)
    for layer in SHAPES:
        expected = sum(weight * head_delta(tensors, layer, names.index(name)) for name, weight in mix.items())
        torch.testing.assert_close(delta(state, layer), expected, rtol=1e-6, atol=1e-6)


def test_a_mix_of_half_precision_heads_is_summed_in_float32(write):
    tensors = {key: tensor.to(torch.bfloat16) for key, tensor in make(3).items()}
    mix = {"Head 1": 0.3, "Head 2": 0.3, "Head 3": 0.4}
    up = AsymmetricLora.open(write(tensors)).select(mix)[f"{QKV}.lora_up.weight"]
    assert up.dtype == torch.float32
    expected = sum(weight * tensors[f"{QKV}.lora_ups.{i}.weight"].double() for i, weight in enumerate(mix.values()))
    torch.testing.assert_close(up.double(), expected, rtol=1e-6, atol=1e-6)


def test_names_of_one_head_add_up_and_zeros_drop_out(write):
    lora = AsymmetricLora.open(write(make(3)))
    assert lora.weights({"Head 1": 0.5, "1": 0.25, "Head 2": 0.0}) == {0: 0.75}
    for nothing in ({}, {"Head 1": 0.0}, {"Head 1": 1.0, "head 1": -1.0}):
        with pytest.raises(ValueError, match="at least one domain with a weight other than 0"):
            lora.weights(nothing)


def test_an_unknown_domain_is_answered_with_the_file_and_the_nearest_name(write):
    lora = AsymmetricLora.open(write(make(2), metadata=header(domains("Tea", "Bread"))))
    for wanted, message in (
        ("Braed", "heads.safetensors: there is no domain 'Braed': did you mean 'Bread'?"),
        ({"Tea": 1.0, "Braed": 1.0}, "heads.safetensors: there is no domain 'Braed': did you mean 'Bread'?"),
        (3, "heads.safetensors: there is no domain 3: the numbers go from 1 to 2"),
        (0, "heads.safetensors: there is no domain 0: the numbers go from 1 to 2"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            lora.select(wanted)


# Reading no more than needed


def bytes_read() -> int:
    """Bytes this process asked files for so far, as the kernel counts them."""
    counters = Path("/proc/self/io")
    if not counters.exists():
        pytest.skip("THIS SYSTEM DOES NOT COUNT THE BYTES A PROCESS READS")
    return int(re.search(r"rchar: (\d+)", counters.read_text())[1])


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """21 heads of rank 64 in bfloat16 at FLUX.1-dev's shapes, three layers."""
    shapes = {
        "lora_unet_double_blocks_0_img_attn_proj": (3072, 3072),
        "lora_unet_double_blocks_0_img_mod_lin": (3072, 18432),
        "lora_unet_single_blocks_0_linear2": (15360, 3072),
    }
    path = tmp_path_factory.mktemp("large") / "large.safetensors"
    tensors = {}
    for layer, (inputs, outputs) in shapes.items():
        tensors[f"{layer}.lora_down.weight"] = torch.full((64, inputs), 0.5, dtype=torch.bfloat16)
        tensors[f"{layer}.alpha"] = torch.tensor(1.0, dtype=torch.bfloat16)
        for head in range(21):
            tensors[f"{layer}.lora_ups.{head}.weight"] = torch.full((outputs, 64), head, dtype=torch.bfloat16)
    save_file(tensors, path)
    return path


@pytest.mark.parametrize(("choice", "heads"), [("Emoji", 1), (6, 1), ({"LEGO": 0.5, "Emoji": 0.5}, 2)])
def test_only_the_chosen_heads_are_read(large, choice, heads):
    lora = AsymmetricLora.open(large)
    before = bytes_read()
    state = lora.select(choice)
    read = bytes_read() - before
    down, up = (3072 + 3072 + 15360) * 64 * 2, (3072 + 18432 + 3072) * 64 * 2
    assert (down, up) == tuple(2 * elements for elements in lora.head_elements)
    assert down + heads * up <= read <= 1.1 * (down + heads * up)
    assert read < 0.2 * large.stat().st_size
    mean = {"Emoji": 20, 6: 5}.get(choice if isinstance(choice, (str, int)) else "", 10)
    assert all((state[f"{layer}.lora_up.weight"] == mean).all() for layer in lora.layers), "and they are the right ones"


def test_a_head_that_is_not_chosen_may_be_broken(write):
    tensors = make(3)
    tensors[f"{LINEAR2}.lora_ups.1.weight"][2, 1] = torch.nan
    lora = AsymmetricLora.open(write(tensors))
    lora.select("Head 1")
    lora.select({"Head 1": 1, "Head 3": 1, "Head 2": 0})
    for choice in ("Head 2", {"Head 1": 1, "Head 2": 0.1}):
        with pytest.raises(
            ValueError, match="heads.safetensors: .*linear2.lora_up.weight holds NaN or infinite values"
        ):
            lora.select(choice)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("key", [f"{QKV}.lora_down.weight", f"{QKV}.alpha", f"{QKV}.lora_ups.0.weight"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2])
def test_values_that_are_not_finite_are_refused(write, key, value, dtype):
    tensors = {key: tensor.to(dtype) for key, tensor in make(2).items()}
    tensors[key].view(-1)[-1] = value
    lora = AsymmetricLora.open(write(tensors))
    with pytest.raises(ValueError, match=f"{re.escape(key.replace('lora_ups.0', 'lora_up'))} holds NaN"):
        lora.select(1)
    with pytest.raises(ValueError, match=f"{re.escape(key)} holds NaN"):
        lora.read()


def test_large_finite_values_are_no_nan(write):
    tensors = make(1)
    tensors[f"{QKV}.lora_ups.0.weight"].fill_(torch.finfo(torch.float32).max)
    AsymmetricLora.open(write(tensors)).select(1)
    half = {key: tensor.to(torch.float16) for key, tensor in make(1).items()}
    half[f"{QKV}.lora_ups.0.weight"].fill_(torch.finfo(torch.float16).max)
    AsymmetricLora.open(write(half, "half")).select(1)


# Refusing


def without(tensors: Tensors, *keys: str) -> Tensors:
    return {key: tensor for key, tensor in tensors.items() if key not in keys}


def ordinary() -> Tensors:
    return {key.replace("lora_ups.0", "lora_up"): tensor for key, tensor in make(1).items()}


REFUSED: dict[str, tuple[Callable[[], Tensors], str]] = {
    "ordinary LoRA": (ordinary, "no lora_ups in it, so it is not an asymmetric LoRA. It looks like an ordinary LoRA"),
    "diffusers LoRA": (
        lambda: {"transformer.x.lora_A.weight": torch.ones(2, 2), "transformer.x.lora_B.weight": torch.ones(2, 2)},
        "no lora_ups in it, so it is not an asymmetric LoRA. It looks like an ordinary LoRA",
    ),
    "FLUX model": (
        lambda: {"double_blocks.0.img_attn.qkv.weight": torch.ones(2, 2)},
        "no lora_ups in it, so it is not an asymmetric LoRA. It looks like a FLUX model",
    ),
    "VAE": (lambda: {"decoder.conv_in.weight": torch.ones(2)}, "It looks like a VAE."),
    "something else": (lambda: {"emb_params": torch.ones(2)}, "Its first keys are emb_params."),
    "no tensors": (dict, "no lora_ups in it, so it is not an asymmetric LoRA. It holds no tensors."),
    "foreign key": (
        lambda: {**make(), "lora_te1_x.lora_mid.weight": torch.ones(2)},
        "lora_te1_x.lora_mid.weight does not belong in an asymmetric LoRA",
    ),
    "both kinds": (
        lambda: {**make(), f"{QKV}.lora_up.weight": torch.ones(18, 4)},
        f"{QKV}.lora_up.weight does not belong in an asymmetric LoRA",
    ),
    "missing A": (
        lambda: without(make(), f"{QKV}.lora_down.weight"),
        f"{QKV} has no lora_down.weight, the A that its heads share",
    ),
    "missing alpha": (lambda: without(make(), f"{LINEAR2}.alpha"), f"{LINEAR2} has no scalar alpha"),
    "alpha of many values": (lambda: {**make(), f"{QKV}.alpha": torch.ones(4)}, f"{QKV} has no scalar alpha"),
    "a head too few": (
        lambda: without(make(3), f"{LINEAR2}.lora_ups.2.weight"),
        f"{LINEAR2} has heads numbered [0, 1], needed [0, 1, 2]",
    ),
    "a hole": (
        lambda: without(make(3), f"{LINEAR2}.lora_ups.1.weight"),
        f"{LINEAR2} has heads numbered [0, 2], needed [0, 1, 2]",
    ),
    "a head that is numbered from 1": (
        lambda: {key.replace("ups.0", "ups.1"): tensor for key, tensor in make(1).items()},
        f"{QKV} has heads numbered [1], needed [0]",
    ),
    "a layer without heads": (
        lambda: without(make(), f"{QKV}.lora_ups.0.weight", f"{QKV}.lora_ups.1.weight"),
        f"{QKV} has heads numbered [], needed [0, 1]",
    ),
    "another rank in one head": (
        lambda: {**make(), f"{QKV}.lora_ups.1.weight": torch.ones(18, 5)},
        f"{QKV}.lora_ups.1.weight has shape (18, 5), needed (18, 4) to fit A (4, 6)",
    ),
    "other outputs in one head": (
        lambda: {**make(), f"{QKV}.lora_ups.1.weight": torch.ones(17, 4)},
        f"{QKV}.lora_ups.1.weight has shape (17, 4), needed (18, 4) to fit A (4, 6)",
    ),
    "scalar head": (
        lambda: {**make(), f"{QKV}.lora_ups.0.weight": torch.tensor(1.0)},
        f"{QKV}.lora_ups.0.weight has shape (), needed",
    ),
    "A of a convolution": (
        lambda: {**make(), f"{QKV}.lora_down.weight": torch.ones(4, 6, 1, 1)},
        f"{QKV}.lora_down.weight has shape (4, 6, 1, 1), needed (rank, inputs)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_files_of_another_kind_are_refused_by_name(case, write):
    tensors, message = REFUSED[case]
    with pytest.raises(ValueError, match=f"^heads.safetensors: .*{re.escape(message)}"):
        AsymmetricLora.open(write(tensors()))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("not json", "is no JSON list"),
        ("5", "is no JSON list"),
        ("null", "is no JSON list"),
        ("{}", "is no JSON list but an object"),
        ("[]", "the header names 0 domains, the file has 2 heads"),
        ('["Tea", "Bread"]', "a domain is described by a JSON object, got text"),
        ('[{"name": "Tea"}, {}]', "the description of a domain lacks 'rows'"),
        (header(domains("Tea"))[DOMAINS_KEY], "the header names 1 domains, the file has 2 heads"),
        (header(domains("Tea", "Bread", "Silk"))[DOMAINS_KEY], "the header names 3 domains, the file has 2 heads"),
    ],
)
def test_metadata_that_does_not_fit_is_refused(entry, message, write):
    with pytest.raises(ValueError, match=f"^heads.safetensors: .*{re.escape(message)}"):
        AsymmetricLora.open(write(make(2), metadata={DOMAINS_KEY: entry}))


def test_files_that_are_no_safetensors_are_named(tmp_path):
    """One of each door; test_files.py has every kind."""
    path = tmp_path / "heads.safetensors"
    torch.save(make(), path)
    with pytest.raises(ValueError, match="heads.safetensors is not a readable safetensors file: it is a zip archive"):
        AsymmetricLora.open(path)
    save_file(make(), path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="it is cut short"):
        AsymmetricLora.open(path)


def test_a_file_that_is_cut_after_opening_is_refused(write):
    path = write(make())
    lora = AsymmetricLora.open(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="it is cut short"):
        lora.select(1)


# Writing


def test_save_keeps_tensors_and_domains(tmp_path):
    path = tmp_path / "saved.safetensors"
    tensors = make(2)
    save(tensors, domains("Tea", "Bread"), path, {"note": "kept"})
    assert all(torch.equal(tensor, tensors[key]) for key, tensor in load_file(path).items())
    assert len(load_file(path)) == len(tensors)
    lora = AsymmetricLora.open(path)
    assert (list(lora.domains), lora.metadata["note"]) == (domains("Tea", "Bread"), "kept")


def test_a_save_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "saved.safetensors"
    save(make(2), domains("Tea", "Bread"), path)
    old = path.read_bytes()
    with pytest.raises(ValueError, match="2 heads need 2 domains, got 1"):
        save(make(2, seed=1), domains("Tea"), path)
    with pytest.raises(ValueError, match="has no lora_down.weight"):
        save(without(make(2), f"{QKV}.lora_down.weight"), domains("Tea", "Bread"), path)
    with pytest.raises(Exception, match="metadata|str"):
        save(make(2, seed=1), domains("Tea", "Bread"), path, {"steps": 5})
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_extract_writes_an_ordinary_kohya_lora(write, tmp_path):
    tensors = make(3)
    lora = AsymmetricLora.open(write(tensors, metadata=header(domains("Tea", "Bread", "Silk"))))
    out = tmp_path / "bread.safetensors"
    extract(lora, "Bread", out)
    state = load_file(out)
    assert set(state) == {
        f"{layer}.{name}" for layer in SHAPES for name in ("lora_down.weight", "lora_up.weight", "alpha")
    }
    for layer in SHAPES:
        assert torch.equal(state[f"{layer}.lora_up.weight"], tensors[f"{layer}.lora_ups.1.weight"])
        assert torch.equal(state[f"{layer}.lora_down.weight"], tensors[f"{layer}.lora_down.weight"])
        assert state[f"{layer}.alpha"] == ALPHA
    with safe_open(out, framework="pt") as file:
        metadata = file.metadata()
    assert metadata["ss_network_module"] == "networks.lora_flux"
    assert (metadata["ss_network_dim"], metadata["ss_network_alpha"]) == ("4", "1.5")
    assert [entry["name"] for entry in json.loads(metadata[DOMAINS_KEY])] == ["Bread"]
    with pytest.raises(ValueError, match="It looks like an ordinary LoRA"):
        AsymmetricLora.open(out)


def test_split_then_join_gives_the_file_back(write, tmp_path):
    """Heads taken apart by hand, one file each."""
    names = ["Tea", "Bread", "Silk"]
    tensors = make(3)
    parts = []
    for head, name in enumerate(names):
        part = {
            key.replace(f"lora_ups.{head}.", "lora_ups.0."): tensor
            for key, tensor in tensors.items()
            if "lora_ups" not in key or f"lora_ups.{head}." in key
        }
        parts.append(AsymmetricLora.open(write(part, name, header(domains(name)))))
    out = tmp_path / "joined.safetensors"
    join(parts, out)
    joined = load_file(out)
    assert set(joined) == set(tensors)
    assert all(torch.equal(joined[key], tensor) for key, tensor in tensors.items())
    assert [domain.name for domain in AsymmetricLora.open(out).domains] == names


def test_join_keeps_the_order_of_files_with_several_heads(write, tmp_path):
    one, two = make(2, seed=1), make(2, seed=2)
    files_ = [
        AsymmetricLora.open(write(two, "two", header(domains("Silk", "Wood")))),
        AsymmetricLora.open(write(one, "one", header(domains("Tea", "Bread")))),
    ]
    join(files_, tmp_path / "joined.safetensors")
    lora = AsymmetricLora.open(tmp_path / "joined.safetensors")
    assert [domain.name for domain in lora.domains] == ["Silk", "Wood", "Tea", "Bread"]
    for name, tensors, head in (("Silk", two, 0), ("Wood", two, 1), ("Tea", one, 0), ("Bread", one, 1)):
        torch.testing.assert_close(delta(lora.select(name), QKV), head_delta(tensors, QKV, head))


def other_a() -> Tensors:
    tensors = make(1)
    tensors[f"{LINEAR2}.lora_down.weight"][0, 0] += 1e-3
    return tensors


@pytest.mark.parametrize(
    ("second", "name", "message"),
    [
        (make(1, seed=1), "tea", "more than one head is of the domain tea; a head is chosen by its name"),
        (other_a(), "Bread", f"b.safetensors does not share A with a.safetensors ({LINEAR2}.lora_down.weight differs)"),
        ({**make(1), f"{QKV}.alpha": torch.tensor(2.0)}, "Bread", f"does not share A with a.safetensors ({QKV}.alpha"),
        (make(1, shapes={QKV: (6, 18)}), "Bread", "b.safetensors has other layers or shapes than a.safetensors"),
        (make(1, rank=5), "Bread", "b.safetensors has other layers or shapes than a.safetensors"),
    ],
    ids=["same name", "other A", "other alpha", "other layers", "other rank"],
)
def test_heads_that_do_not_go_together_are_not_joined(write, tmp_path, second, name, message):
    parts = [
        AsymmetricLora.open(write(make(1), "a", header(domains("Tea")))),
        AsymmetricLora.open(write(second, "b", header(domains(name)))),
    ]
    out = tmp_path / "joined.safetensors"
    with pytest.raises(ValueError, match=re.escape(message)):
        join(parts, out)
    assert not out.exists()


# diffusers as the reader: its own key names, its own alpha


BFL_TO_DIFFUSERS = {
    "double_blocks_0_img_attn_qkv": ["transformer_blocks.0.attn.to_" + x for x in "qkv"],
    "double_blocks_0_txt_attn_qkv": [f"transformer_blocks.0.attn.add_{x}_proj" for x in "qkv"],
    "double_blocks_0_img_attn_proj": ["transformer_blocks.0.attn.to_out.0"],
    "double_blocks_0_img_mlp_0": ["transformer_blocks.0.ff.net.0.proj"],
    "double_blocks_0_txt_mlp_2": ["transformer_blocks.0.ff_context.net.2"],
    "double_blocks_0_img_mod_lin": ["transformer_blocks.0.norm1.linear"],
    "single_blocks_0_linear2": ["single_transformer_blocks.0.proj_out"],
    "single_blocks_0_modulation_lin": ["single_transformer_blocks.0.norm.linear"],
}
"""Layer in the file -> the layers whose outputs it holds, first to last."""


def diffusers_shapes(hidden: int) -> dict[str, tuple[int, int]]:
    sizes = {"qkv": (1, 3), "proj": (1, 1), "mlp_0": (1, 4), "mlp_2": (4, 1), "mod_lin": (1, 6), "linear2": (5, 1)}
    sizes["modulation_lin"] = (1, 3)
    shapes = {}
    for name in BFL_TO_DIFFUSERS:
        inputs, outputs = next(size for end, size in sizes.items() if name.endswith(end))
        shapes[f"lora_unet_{name}"] = (inputs * hidden, outputs * hidden)
    return shapes


def tiny_flux() -> FluxTransformer2DModel:
    torch.manual_seed(0)
    return FluxTransformer2DModel(
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=128,
        num_attention_heads=1,
        joint_attention_dim=32,
        pooled_projection_dim=16,
        guidance_embeds=True,
        axes_dims_rope=(16, 56, 56),
    )


def test_an_extracted_head_loads_in_diffusers(write, tmp_path):
    tensors = make(3, shapes=diffusers_shapes(hidden=128))
    out = tmp_path / "head.safetensors"
    extract(AsymmetricLora.open(write(tensors)), "Head 3", out)

    model = tiny_flux()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    model.load_lora_adapter(_convert_kohya_flux_lora_to_diffusers(load_file(out)), prefix="transformer")
    model.fuse_lora(lora_scale=0.7)
    model.unload_lora()
    after = model.state_dict()

    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {f"{name}.weight" for names in BFL_TO_DIFFUSERS.values() for name in names}
    for layer, names in BFL_TO_DIFFUSERS.items():
        loaded = torch.cat([after[f"{name}.weight"] - before[f"{name}.weight"] for name in names])
        expected = 0.7 * head_delta(tensors, f"lora_unet_{layer}", 2)
        torch.testing.assert_close(loaded.double(), expected, rtol=1e-4, atol=1e-5)


def test_diffusers_reads_linear1_as_query_key_value_and_mlp(write, tmp_path):
    """It knows this layer at FLUX.1-dev's width alone."""
    layer = "lora_unet_single_blocks_0_linear1"
    tensors = make(2, shapes={layer: (3072, 7 * 3072)})
    out = tmp_path / "head.safetensors"
    extract(AsymmetricLora.open(write(tensors)), 2, out)
    converted = _convert_kohya_flux_lora_to_diffusers(load_file(out))
    names = [
        f"transformer.single_transformer_blocks.0.{name}"
        for name in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")
    ]
    assert {key.rsplit(".lora_", 1)[0] for key in converted} == set(names)
    x = torch.randn(3072, generator=torch.Generator().manual_seed(5))
    seen = torch.cat([converted[f"{name}.lora_B.weight"] @ (converted[f"{name}.lora_A.weight"] @ x) for name in names])
    up, down = tensors[f"{layer}.lora_ups.1.weight"], tensors[f"{layer}.lora_down.weight"]
    torch.testing.assert_close(seen, ALPHA / RANK * (up @ (down @ x)), rtol=1e-4, atol=1e-3)


def test_heads_without_names_are_joined_under_their_files_names(write, tmp_path):
    parts = [AsymmetricLora.open(write(make(1), name)) for name in ("mine", "yours")]
    join(parts, tmp_path / "ours.safetensors")
    assert [d.name for d in AsymmetricLora.open(tmp_path / "ours.safetensors").domains] == ["mine", "yours"]


def test_heads_of_one_name_are_refused(write, tmp_path):
    with pytest.raises(ValueError, match="more than one head is of the domain tea"):
        save(make(2), domains("Tea", "tea"), tmp_path / "saved.safetensors")
    with pytest.raises(ValueError, match="more than one head is of the domain tea"):
        AsymmetricLora.open(write(make(2), metadata=header(domains("Tea", "tea"))))


def test_an_alpha_of_a_type_that_weights_are_not_kept_in_is_refused(write):
    state = make(1)
    state[f"{LINEAR2}.alpha"] = torch.tensor(True)
    with pytest.raises(ValueError, match=f"{LINEAR2}.alpha is of type BOOL"):
        AsymmetricLora.open(write(state))
