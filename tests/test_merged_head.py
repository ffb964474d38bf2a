"""The head under a ReCraft LoRA: chosen from a file, merged into FLUX in closed form, saved with FLUX."""

import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from makeanything.asymmetric_lora import AsymmetricLora
from makeanything.domains import Domain
from makeanything.reference.flux import Flux, FluxParams
from makeanything.serpentine import Layout
from training.asymmetric_network import AsymmetricNetwork
from training.heads.layer import linear_layers
from training.heads.merged import Base, merge_into, merged_domain
from training.memory import peak_of

PARAMS = FluxParams(hidden_size=128, depth=1, depth_single_blocks=1, context_in_dim=8, vec_in_dim=4)
PORTRAIT, EMOJI = Domain.of("Portrait", 9, "portrait painting"), Domain.of("Emoji", 4, "emoji design")
RANK, ALPHA = 4, 2.0


def make_flux(dtype: torch.dtype = torch.float32) -> Flux:
    torch.manual_seed(0)
    return Flux(PARAMS).to(dtype).requires_grad_(False)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """flux.safetensors, heads.safetensors (Portrait and Emoji) and one.safetensors (Emoji)."""
    folder = tmp_path_factory.mktemp("files")
    save_file(make_flux().state_dict(), folder / "flux.safetensors")
    for name, domains in (("heads", (PORTRAIT, EMOJI)), ("one", (EMOJI,))):
        torch.manual_seed(1)
        network = AsymmetricNetwork(make_flux(), domains, RANK, ALPHA)
        for head in range(len(domains)):
            for parameter in network.head(head):
                torch.nn.init.normal_(parameter, std=0.2)
        network.save(folder / f"{name}.safetensors")
    return folder


def read(files, file="heads", head=None, frames=None, model="flux") -> Base:
    path = str(files / f"{file}.safetensors") if file else None
    return Base.read(str(files / f"{model}.safetensors"), path, head, frames)


@pytest.mark.parametrize(
    ("chosen", "domain", "layout"),
    [
        ({"head": "portrait"}, PORTRAIT, Layout(3, 3)),
        ({"head": "2"}, EMOJI, Layout(2, 2)),
        ({"file": "one"}, EMOJI, Layout(2, 2)),
        ({"head": "Emoji", "frames": 9}, EMOJI, Layout(3, 3)),
        ({"file": None, "frames": 4}, None, Layout(2, 2)),
    ],
)
def test_the_layout_is_that_of_the_head_unless_said_otherwise(files, chosen, domain, layout):
    base = read(files, **chosen)
    assert (base.domain, base.layout) == (domain, layout)
    assert (base.file is None) == (chosen.get("file", "heads") is None)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "heads.safetensors has several heads; choose one with --head: 1 Portrait, 2 Emoji"),
        ({"head": "Potrait"}, "heads.safetensors: there is no domain 'Potrait': did you mean 'Portrait'?"),
        ({"head": "3"}, "there is no domain 3: the numbers go from 1 to 2"),
        ({"file": None, "head": "Emoji"}, "--head chooses from a file of heads: pass --head_file too"),
        ({"file": None}, "pass --frames 9 or 4: without --head_file nothing says how the grids are laid out"),
        ({"head": "Emoji", "frames": 5}, "5 frames do not fill a square grid"),
        ({"file": "flux", "head": "Emoji"}, "It looks like a FLUX model"),
    ],
)
def test_choices_that_do_not_fit(files, wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        read(files, **wrong)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("head", "index"), [("Portrait", 0), ("Emoji", 1)])
def test_merging_in_closed_form(files, dtype, head, index):
    """W + alpha / rank * B A on every layer of the blocks, and nothing else."""
    flux = make_flux(dtype)
    read(files, head=head).merge(flux)
    state, layers = load_file(files / "heads.safetensors"), 0
    for key, weight in make_flux(dtype).state_dict().items():
        name = f"lora_unet_{key.removesuffix('.weight').replace('.', '_')}"
        expected = weight
        if f"{name}.alpha" in state:
            down, up = (state[f"{name}.{part}.weight"].double() for part in ("lora_down", f"lora_ups.{index}"))
            expected = (weight.double() + ALPHA / RANK * (up @ down)).to(dtype)
            assert not torch.equal(expected, weight)
            layers += 1
        tolerance = {"rtol": 2**-7, "atol": 2**-12} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-6}
        torch.testing.assert_close(flux.state_dict()[key], expected, **tolerance)
    assert layers == 13


def test_merging_takes_no_more_memory_than_the_head_and_two_layers(tmp_path):
    """A network of the head, in float32, would be as large again, and larger than a head in bfloat16."""
    network = AsymmetricNetwork(make_flux(), [PORTRAIT], rank=512)
    network.save(tmp_path / "large.safetensors", torch.bfloat16)
    base, flux = Base.read("", str(tmp_path / "large.safetensors"), None, None), make_flux()
    head = sum(2 * parameter.numel() for parameter in network.parameters())
    layer = max(linear.weight.numel() + 512 * sum(linear.weight.shape) for linear in linear_layers(flux).values())
    assert peak_of(lambda: base.merge(flux)) < head + 4 * 2 * layer


def test_a_head_of_another_model_changes_nothing(files):
    flux, lora = make_flux(), AsymmetricLora.open(files / "heads.safetensors").select(1)
    before = {key: tensor.clone() for key, tensor in flux.state_dict().items()}
    last, odd = max(key for key in lora if key.endswith(".lora_up.weight")), "lora_unet_x"
    for wrong, message in (
        ({last: torch.zeros(7, RANK)}, r"has shape \(7, \d+\), the model's is \("),
        ({f"{odd}.lora_up.weight": lora[last], f"{odd}.lora_down.weight": torch.zeros(RANK, 1)}, "is missing"),
    ):
        with pytest.raises(ValueError, match=message):
            merge_into(flux, lora | wrong)
    assert all(torch.equal(before[key], tensor) for key, tensor in flux.state_dict().items())


def test_a_saved_flux_says_which_head_it_has(files, tmp_path):
    base, flux = read(files, head="Emoji"), make_flux()
    base.merge(flux)
    base.save(flux, files / "merged.safetensors")
    saved = load_file(files / "merged.safetensors")
    assert saved.keys() == flux.state_dict().keys()
    assert all(torch.equal(saved[key], tensor) for key, tensor in flux.state_dict().items())
    assert merged_domain(files / "merged.safetensors") == EMOJI
    assert read(files, file=None, model="merged") == Base(Layout(2, 2), EMOJI)
    with pytest.raises(ValueError, match=r"merged\.safetensors has the head Emoji in it already: drop --head_file"):
        read(files, head="Portrait", model="merged")
    assert merged_domain(files / "flux.safetensors") is None
    assert merged_domain(tmp_path) is None


@pytest.mark.parametrize(
    ("path", "file", "message"),
    [
        ("new.safetensors", None, "pass --head_file too"),
        ("new.ckpt", "one", "the ending .safetensors"),
        ("nowhere/new.safetensors", "one", "a folder that exists"),
        ("flux.safetensors", "one", "that is the FLUX without the head"),
    ],
)
def test_where_a_merged_flux_can_not_go(files, path, file, message):
    base = read(files, file=file, frames=4)
    with pytest.raises(ValueError, match=message):
        base.check_target(files / path, str(files / "flux.safetensors"))
    read(files, file="one").check_target(files / "new.safetensors", str(files / "flux.safetensors"))
