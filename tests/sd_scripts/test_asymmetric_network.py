"""The network module on sd-scripts' own FLUX, called as its train_network.py calls it."""

import argparse
import importlib

import pytest
import torch
from library import train_util
from safetensors.torch import load_file
from torch import Tensor

from makeanything.asymmetric_lora import AsymmetricLora, extract

DOMAINS = "Portrait:9:portrait painting;Sketch:9:sketch drawing;Emoji:4:emoji design"
ARGUMENTS = {
    "network_train_unet_only": True,
    "network_train_text_encoder_only": False,
    "save_model_as": "safetensors",
    "text_encoder_lr": None,
    "unet_lr": None,
    "learning_rate": 1e-3,
    "max_grad_norm": 1.0,
}
module = importlib.import_module("training.asymmetric_network")


def create(flux, dim=4, alpha=2.0, **arguments):
    """As train_network.py does; the values of --network_args are text."""
    arguments.setdefault("dropout", None)
    network = module.create_network(1.0, dim, alpha, None, [], flux, neuron_dropout=None, **arguments)
    network.prepare_network(argparse.Namespace(**ARGUMENTS))
    network.apply_to([], flux, False, True)
    return network


def optimizer_of(network, name="AdamW", *arguments):
    parameters, descriptions = network.prepare_optimizer_params_with_multiple_te_lrs(
        ARGUMENTS["text_encoder_lr"], ARGUMENTS["unet_lr"], ARGUMENTS["learning_rate"]
    )
    assert len(parameters) == len(descriptions)
    args = argparse.Namespace(
        optimizer_type=name,
        optimizer_args=list(arguments),
        learning_rate=ARGUMENTS["learning_rate"],
        use_8bit_adam=False,
        use_lion_optimizer=False,
        fused_backward_pass=False,
        gradient_accumulation_steps=1,
        lr_scheduler="constant",
        lr_warmup_steps=0,
        max_grad_norm=1.0,
    )
    network.prepare_grad_etc([], None)
    network.on_epoch_start([], None)
    return train_util.get_optimizer(args, parameters)[2]


def step(network, flux, optimizer, batch, *domains):
    network.choose(domains)
    loss = (flux(**batch) - 1).square().mean()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.get_trainable_params(), ARGUMENTS["max_grad_norm"])
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item()


def copy(network) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def is_of(name: str, *heads: int) -> bool:
    return any(f".lora_ups.{head}." in name for head in heads)


def test_it_covers_the_layers_of_stock_lora(make_flux):
    flux = make_flux()
    stock = importlib.import_module("networks.lora_flux").create_network(1.0, 4, 1.0, None, [], flux)
    ours = {name.split(".")[0] for name in create(flux, domains=DOMAINS).state_dict()}
    assert ours == {lora.lora_name for lora in stock.unet_loras} and len(ours) == 13


@pytest.mark.parametrize("optimizer", [("AdamW", "weight_decay=0.1"), ("came_pytorch.CAME", "weight_decay=0.1")])
def test_training_saving_and_resuming(make_flux, make_batch, tmp_path, optimizer):
    if optimizer[0].startswith("came"):
        pytest.importorskip("came_pytorch", reason="CAME WAS NOT TESTED: pip install came-pytorch")
    flux, batch = make_flux(), make_batch(2)
    network = create(flux, domains=DOMAINS)
    optimize = optimizer_of(network, *optimizer)
    start = copy(network)
    first = step(network, flux, optimize, batch, "Portrait", "Sketch")
    both = [step(network, flux, optimize, batch, "Portrait", "Sketch") for _ in range(3)]
    assert both[-1] < first
    middle = copy(network)
    alone = [step(network, flux, optimize, batch, "Portrait") for _ in range(3)]
    assert alone[-1] < alone[0]
    for name, tensor in copy(network).items():
        never = is_of(name, 2) or name.endswith(".alpha")
        assert torch.equal(tensor, start[name]) == never, name
        assert torch.equal(tensor, middle[name]) == (never or is_of(name, 1)), name
    assert all(parameter in optimize.state for parameter in network.head(1))
    assert not any(parameter in optimize.state for parameter in network.head(2))

    network.save_weights(tmp_path / "heads.safetensors", None, {"ss_steps": "7", "ss_network_dim": "4"})
    lora = AsymmetricLora.open(tmp_path / "heads.safetensors")
    assert [d.name for d in lora.domains] == ["Portrait", "Sketch", "Emoji"] and lora.metadata["ss_steps"] == "7"
    network.eval()
    wanted = flux(**batch)
    fresh = make_flux()
    again = create(fresh, domains=DOMAINS)
    assert "Portrait" in again.load_weights(tmp_path / "heads.safetensors")
    again.choose(["Portrait"])
    assert torch.equal(fresh(**batch), wanted)
    other = make_flux()
    sized, _ = module.create_network_from_weights(1, tmp_path / "heads.safetensors", None, [], other)
    sized.apply_to([], other, False, True)
    sized.choose(["Portrait"])
    assert torch.equal(other(**batch), wanted)


def test_an_extracted_head_is_what_stock_lora_loads(make_flux, make_batch, tmp_path):
    """networks.lora_flux, applied and merged, and our own merge, give the model with the head."""
    flux, batch = make_flux(), make_batch(2)
    network = create(flux, domains=DOMAINS)
    torch.manual_seed(3)
    for head in range(3):
        for parameter in network.head(head):
            torch.nn.init.normal_(parameter, std=0.2)
    network.choose(["Sketch"])
    wanted = flux(**batch)
    network.set_multiplier(0.0)
    assert (flux(**batch) - wanted).abs().max() > 0.01
    network.save(tmp_path / "heads.safetensors")
    extract(AsymmetricLora.open(tmp_path / "heads.safetensors"), "Sketch", tmp_path / "sketch.safetensors")

    stock = importlib.import_module("networks.lora_flux")
    applied = make_flux()
    loaded, _ = stock.create_network_from_weights(1.0, str(tmp_path / "sketch.safetensors"), None, [], applied)
    loaded.apply_to([], applied, False, True)
    info = loaded.load_weights(str(tmp_path / "sketch.safetensors"))
    assert not info.missing_keys and not info.unexpected_keys
    torch.testing.assert_close(applied(**batch), wanted, rtol=0, atol=1e-5)

    path = str(tmp_path / "heads.safetensors")
    merged = make_flux()
    one, state = module.create_network_from_weights(1.0, path, None, [], merged, for_inference=True, domain="Sketch")
    one.merge_to([], merged, state, torch.float32, "cpu")
    torch.testing.assert_close(merged(**batch), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("heads", [("Portrait", "Emoji"), ("Sketch",)])
def test_gradient_checkpointing_changes_no_gradient(make_flux, make_batch, heads):
    def gradients(checkpointing: bool) -> dict[str, Tensor]:
        torch.manual_seed(4)
        flux = make_flux(torch.float64)
        network = create(flux, domains=DOMAINS, rank_dropout="0.2", module_dropout="0.2").double()
        for head in range(3):
            for parameter in network.head(head):
                torch.nn.init.normal_(parameter, std=0.2)
        if checkpointing:
            flux.enable_gradient_checkpointing()
            network.enable_gradient_checkpointing()
        flux.train()
        network.on_epoch_start([], flux)
        network.choose(heads)
        flux(**make_batch(2, torch.float64)).square().sum().backward()
        return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}

    plain, replayed = gradients(False), gradients(True)
    assert plain.keys() == replayed.keys() and len(plain) > 13
    for name, gradient in plain.items():
        torch.testing.assert_close(replayed[name], gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("weights", [torch.bfloat16, torch.float8_e4m3fn])
def test_training_on_a_low_precision_model_under_autocast(make_flux, make_batch, weights):
    flux, batch = make_flux(), make_batch(2)
    network = create(flux, domains=DOMAINS)
    for block in (*flux.double_blocks, *flux.single_blocks):
        for layer in block.modules():
            if isinstance(layer, torch.nn.Linear):
                layer.to(weights)
    optimize = optimizer_of(network)
    before = copy(network)
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            step(network, flux, optimize, batch, "Portrait", "Emoji")
    moved = {name for name, tensor in copy(network).items() if not torch.equal(tensor, before[name])}
    assert moved == {name for name in before if not is_of(name, 1) and not name.endswith(".alpha")}
    assert {tensor.dtype for tensor in network.state_dict().values()} == {torch.float32}


def test_the_model_without_lora_for_a_part_of_the_batch(make_flux, make_batch):
    """Differential output preservation runs a smaller batch at multiplier 0, between forward and backward."""
    flux = make_flux()
    network = create(flux, domains=DOMAINS)
    network.choose(["Portrait", "Emoji", "Sketch"])
    loss = flux(**make_batch(3)).square().mean()
    network.set_multiplier(0.0)
    with torch.no_grad():
        prior = flux(**make_batch(2))
    network.set_multiplier(1.0)
    torch.testing.assert_close(prior, make_flux()(**make_batch(2)), rtol=0, atol=0)
    loss.backward()
    assert all(parameter.grad is not None for parameter in network.head(2))


def test_new_heads_beside_those_of_a_file(make_flux, make_batch, tmp_path):
    create(make_flux(), domains=DOMAINS).save_weights(tmp_path / "old.safetensors", torch.bfloat16, {})
    flux = make_flux()
    network = create(flux, add_to=str(tmp_path / "old.safetensors"), domains="LEGO")
    optimize = optimizer_of(network, "AdamW", "weight_decay=0.1")
    for _ in range(2):
        step(network, flux, optimize, make_batch(2), "LEGO")
    network.save_weights(tmp_path / "new.safetensors", torch.bfloat16, {})
    old, new = load_file(tmp_path / "old.safetensors"), load_file(tmp_path / "new.safetensors")
    assert all(torch.equal(new[name], tensor) for name, tensor in old.items())
    assert all(new[name].any() for name in new.keys() - old.keys()) and len(new) > len(old)
