"""The domain heads in training, on the reference FLUX: routing, gradients, files and sd-scripts' calls."""

import argparse
import json
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from makeanything import asymmetric_lora
from makeanything.asymmetric_lora import AsymmetricLora
from makeanything.domains import DOMAINS, Domain
from makeanything.lora_header import lora_name
from makeanything.reference.flux import Flux, FluxParams
from training.asymmetric_network import AsymmetricNetwork, create_network, create_network_from_weights
from training.heads.layer import AsymmetricLinear, Dropout, Route, linear_layers
from training.heads.options import Options, plan

PARAMS = FluxParams(
    hidden_size=128, depth=1, depth_single_blocks=1, context_in_dim=8, vec_in_dim=4, guidance_embed=False
)
HEADS = (
    Domain.of("Portrait", 9, "portrait painting"),
    Domain.of("Sketch", 9, "sketch drawing"),
    Domain.of("Emoji", 4, "emoji design"),
)
TEXT = "Portrait:9:portrait painting; Sketch:9:sketch drawing; Emoji:4:emoji design"
RANK, ALPHA = 4, 2.0
SAVED = argparse.Namespace(save_model_as="safetensors")


def flux(dtype: torch.dtype = torch.float64) -> Flux:
    torch.manual_seed(0)
    return Flux(PARAMS).to(dtype).requires_grad_(False)


def network_of(model: Flux, dtype: torch.dtype = torch.float64, **options) -> AsymmetricNetwork:
    """A network whose B are not zero any more."""
    torch.manual_seed(1)
    network = AsymmetricNetwork(model, HEADS, RANK, ALPHA, **options)
    randomise(network)
    return network.to(dtype)


def randomise(network: AsymmetricNetwork) -> None:
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if ".lora_ups." in name:
                parameter.normal_(std=0.2)


def batch(size: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(2)
    shapes = ((size, 16, 4, 4), (size,), (size, 3, PARAMS.context_in_dim), (size, PARAMS.vec_in_dim))
    latents, t, txt, vec = (torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes)
    return latents, t.sigmoid(), txt, vec


def grads(network: AsymmetricNetwork) -> dict[str, Tensor | None]:
    return {name: None if p.grad is None else p.grad.clone() for name, p in network.named_parameters()}


def snapshot(network: AsymmetricNetwork) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def is_of(name: str, head: int) -> bool:
    return f".lora_ups.{head}." in name


def test_a_network_covers_every_linear_of_the_blocks_and_starts_as_nothing():
    model = flux()
    network = AsymmetricNetwork(model, HEADS, RANK, ALPHA)
    assert {n.split(".")[0] for n in network.state_dict()} == {lora_name(n) for n in linear_layers(model)}
    assert len(linear_layers(model)) == 10 + 3
    inputs = batch(2)
    plain = model(*inputs)
    network.double().attach(model)
    network.choose(["Sketch"])
    assert torch.equal(model(*inputs), plain)


@pytest.mark.parametrize("multiplier", [1.0, 0.5, -2.0])
@pytest.mark.parametrize("shape", [(3, 5, 6), (3, 6), (3, 2, 5, 6)])
def test_the_update_in_closed_form(shape, multiplier):
    """W x + s * alpha / r * B_i A x, for tokens (B, L, C), modulation inputs (B, C) and any other shape."""
    layer = torch.nn.Linear(6, 7, dtype=torch.float64)
    module = AsymmetricLinear(layer, RANK, ALPHA, 3).double()
    torch.nn.init.normal_(module.lora_ups[0].weight)
    torch.nn.init.normal_(module.lora_ups[2].weight)
    x = torch.randn(shape, dtype=torch.float64)
    got = module(x, Route((2, 0, 2), multiplier))
    for sample, head in enumerate((2, 0, 2)):
        update = multiplier * ALPHA / RANK * module.lora_ups[head].weight @ module.lora_down.weight
        torch.testing.assert_close(got[sample], x[sample] @ update.T, rtol=0, atol=1e-12)


@pytest.mark.parametrize("multiplier", [1.0, 0.3])
def test_every_sample_comes_out_as_from_the_model_with_its_head_merged(multiplier):
    model = flux()
    network = network_of(model)
    network.set_multiplier(multiplier)
    inputs = batch(3)
    wanted = []
    for sample, head in enumerate((2, 0, 1)):
        merged = flux()
        for name, layer in linear_layers(merged).items():
            up, down = network.layer(name).up(head).detach(), network.layer(name).lora_down.weight.detach()
            layer.weight += multiplier * ALPHA / RANK * up @ down
        wanted.append(merged(*(x[sample : sample + 1] for x in inputs)))
    plain = model(*inputs)
    network.attach(model)
    network.choose(["Emoji", 1, "sketch"])
    got = model(*inputs)
    torch.testing.assert_close(got, torch.cat(wanted), rtol=0, atol=1e-10)
    assert (got - plain).abs().amin(dim=(1, 2, 3)).max() > 0 and (got - plain).abs().max() > 1e-2


@pytest.mark.parametrize("heads", [(0, 1), (2, 0, 2, 1), (1, 1)])
def test_a_mixed_batch_has_the_gradients_of_its_samples_one_by_one(heads):
    model = flux()
    network = network_of(model)
    network.attach(model)
    inputs = batch(len(heads))
    network.route.heads = heads
    model(*inputs).square().sum().backward()
    mixed = grads(network)
    network.zero_grad(set_to_none=True)
    for sample, head in enumerate(heads):
        network.route.heads = (head,)
        model(*(x[sample : sample + 1] for x in inputs)).square().sum().backward()
    alone = grads(network)
    for name, gradient in mixed.items():
        unused = ".lora_ups." in name and not any(is_of(name, head) for head in heads)
        assert (gradient is None) == (alone[name] is None) == unused, name
        if gradient is not None:
            assert gradient.abs().max() > 0
            torch.testing.assert_close(gradient, alone[name], rtol=1e-9, atol=1e-9)


def test_a_sample_leaves_nothing_on_another_samples_head():
    """Each B_i has the gradient of a loss over its own samples alone."""
    model = flux()
    network = network_of(model)
    network.attach(model)
    network.route.heads = (0, 2)
    model(*batch(2))[0].square().sum().backward()
    for name, gradient in grads(network).items():
        if is_of(name, 2):
            assert gradient.abs().max() == 0
        elif not is_of(name, 1):
            assert gradient.abs().max() > 0


def test_heads_that_no_sample_used_do_not_move_under_weight_decay():
    model = flux(torch.float32)
    network = network_of(model, torch.float32)
    network.attach(model)
    groups, _ = network.prepare_optimizer_params_with_multiple_te_lrs(None, None, 1e-2)
    optimizer = torch.optim.AdamW(groups, weight_decay=0.1)
    inputs = batch(2, torch.float32)
    network.choose(["Emoji", "Portrait"])
    for _ in range(2):
        model(*inputs).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    before = snapshot(network)
    network.choose(["Portrait"])
    for _ in range(3):
        model(*inputs).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    for name, tensor in snapshot(network).items():
        rests = is_of(name, 1) or is_of(name, 2) or name.endswith(".alpha")
        assert torch.equal(tensor, before[name]) == rests, name


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_changes_no_gradient(reentrant):
    model = flux()
    network = network_of(model, dropout=Dropout(hidden=0.2, rank=0.2, module=0.2))
    network.attach(model)
    network.route.heads = (2, 0)
    inputs = [x.requires_grad_() for x in batch(2)]
    torch.manual_seed(3)
    model(*inputs).square().sum().backward()
    wanted = grads(network)
    network.zero_grad(set_to_none=True)
    for block in (*model.double_blocks, *model.single_blocks):
        plain = block.forward
        block.forward = lambda *args, plain=plain: checkpoint(plain, *args, use_reentrant=reentrant)
    torch.manual_seed(3)
    model(*inputs).square().sum().backward()
    assert any(gradient is not None for gradient in wanted.values())
    for name, gradient in grads(network).items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-9, atol=1e-12)


def test_half_precision_models_get_an_update_computed_in_float32():
    model = flux(torch.bfloat16)
    layer = model.double_blocks[0].img_attn.qkv
    network = network_of(model, torch.float32)
    module = network.layer("double_blocks.0.img_attn.qkv")
    x = torch.randn(2, 5, 128, dtype=torch.bfloat16)
    plain = layer(x)
    network.attach(model)
    network.route.heads = (0, 1)
    got = layer(x)
    update = module(x.float(), network.route)
    assert update.dtype == torch.float32 and got.dtype == torch.bfloat16
    assert torch.equal(got, plain + update.bfloat16())


@pytest.mark.parametrize("heads", [(0,), (0, 1)])
def test_autocast_computes_in_its_own_dtype_and_keeps_float32_gradients(heads):
    model = flux(torch.float32)
    network = network_of(model, torch.float32)
    network.attach(model)
    network.route.heads = heads
    layer = model.single_blocks[0].linear1
    with torch.autocast("cpu", torch.bfloat16):
        got = layer(torch.randn(2, 5, 128))
        update = network.layer("single_blocks.0.linear1")(torch.randn(2, 5, 128), network.route)
    assert got.dtype == update.dtype == torch.bfloat16
    got.float().square().sum().backward()
    assert network.layer("single_blocks.0.linear1").up(0).grad.dtype == torch.float32


def test_dropout_acts_in_training_only():
    layer = torch.nn.Linear(6, 7)
    for dropout in (Dropout(hidden=0.5), Dropout(rank=0.5)):
        module = AsymmetricLinear(layer, 64, 64.0, 1, dropout)
        torch.nn.init.normal_(module.lora_ups[0].weight)
        x = torch.randn(2, 3, 6)
        plain = module.eval()(x, Route((0,)))
        module.train()
        assert not torch.allclose(module(x, Route((0,))), plain)
        mean = torch.stack([module(x, Route((0,))) for _ in range(2000)]).mean(0)
        assert (mean - plain).abs().mean() < 0.1 * plain.abs().mean()
    module = AsymmetricLinear(layer, 4, 4.0, 1, Dropout(module=0.5))
    assert 300 < sum(module.is_dropped() for _ in range(1000)) < 700
    assert not module.eval().is_dropped()
    with pytest.raises(ValueError, match="rank dropout must lie in"):
        Dropout(rank=1.0)


def test_the_route_says_when_it_does_not_fit():
    model = flux()
    network = network_of(model)
    network.attach(model)
    with pytest.raises(ValueError, match="no head was chosen for this batch"):
        model(*batch(2))
    network.choose(["Sketch", "Emoji"])
    with pytest.raises(ValueError, match="chosen for 2 samples, the batch has 3"):
        model(*batch(3))
    with pytest.raises(ValueError, match="did you mean 'Sketch'"):
        network.choose(["Skecth"])
    with pytest.raises(ValueError, match="from 1 to 3"):
        network.choose([0])
    network.set_multiplier(0.0)
    torch.testing.assert_close(model(*batch(3)), flux()(*batch(3)), rtol=0, atol=0)


def test_only_one_head_needs_no_choice():
    model = flux()
    network = AsymmetricNetwork(model, HEADS[:1], RANK, ALPHA).double()
    network.attach(model)
    assert model(*batch(2)).isfinite().all()
    with pytest.raises(ValueError, match="more than one head is named portrait"):
        AsymmetricNetwork(model, (HEADS[0], HEADS[0]))


# Files


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "heads.safetensors"
    network_of(flux(), torch.float32).save(path)
    return path


def make(**options) -> AsymmetricNetwork:
    return create_network(1.0, RANK, ALPHA, None, [], flux(torch.float32), neuron_dropout=None, **options)


def test_what_is_saved_selects_and_merges_to_the_same_model(saved):
    lora = AsymmetricLora.open(saved)
    assert lora.domains == HEADS and lora.alpha() == ALPHA and lora.rank == RANK
    network = network_of(flux(), torch.float32)
    state = lora.select("Sketch")
    for name in network.targets:
        assert torch.equal(state[f"{lora_name(name)}.lora_up.weight"], network.layer(name).up(1))
        assert torch.equal(state[f"{lora_name(name)}.lora_down.weight"], network.layer(name).lora_down.weight)


def test_saving_for_sd_scripts(tmp_path):
    network = network_of(flux(), torch.float32)
    metadata = {"ss_steps": "5", "ss_network_dim": "None", "makeanything_domains": "[]"}
    network.save_weights(str(tmp_path / "a.safetensors"), torch.bfloat16, metadata)
    lora = AsymmetricLora.open(tmp_path / "a.safetensors")
    assert metadata == {"ss_steps": "5", "ss_network_dim": "None", "makeanything_domains": "[]"}
    assert lora.metadata["ss_steps"] == "5" and lora.metadata["ss_network_dim"] == "4" and lora.domains == HEADS
    assert {(k.rsplit(".", 1)[-1], t.dtype) for k, t in lora.read().items()} == {
        ("weight", torch.bfloat16),
        ("alpha", torch.float32),
    }
    network.save_weights(str(tmp_path / "b.safetensors"), None, None)
    with pytest.raises(ValueError, match=r"not as a\.ckpt"):
        network.save_weights("a.ckpt", None, None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


def test_resuming_takes_over_every_bit(saved):
    network = make(domains=TEXT)
    assert network.load_weights(saved) == "3 heads of rank 4: Portrait, Sketch, Emoji"
    wanted = AsymmetricLora.open(saved).read()
    assert network.state_dict().keys() == wanted.keys()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"domains": "Sketch;Portrait;Emoji"}, "has the heads 1 Portrait .9 frames., 2 Sketch"),
        ({"domains": "Portrait;Sketch"}, "wanted 1 Portrait .9 frames., 2 Sketch .9 frames.$"),
        ({"domains": "Portrait;Sketch;Emoji:9:emoji design"}, "wanted .*3 Emoji .9 frames."),
        ({"domains": TEXT, "layers": "double"}, r"layers that this network lacks: lora_unet_single.* \(3 in all\)"),
    ],
)
def test_resuming_from_another_network_says_what_differs(saved, options, message):
    network = make(**options)
    before = snapshot(network)
    with pytest.raises(ValueError, match=message):
        network.load_weights(saved)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_resuming_with_another_size_says_what_differs(saved, tmp_path):
    other = create_network(1.0, 8, ALPHA, None, [], flux(torch.float32), domains=TEXT)
    with pytest.raises(ValueError, match=r"heads.safetensors: .*rank=4.*wanted .*rank=8"):
        other.load_weights(saved)
    other = create_network(1.0, RANK, 3, None, [], flux(torch.float32), domains=TEXT)
    with pytest.raises(ValueError, match=r"has alpha 2.0; wanted 3"):
        other.load_weights(saved)
    part = make(domains=TEXT, layers="double")
    part.save(tmp_path / "part.safetensors")
    with pytest.raises(ValueError, match=r"lacks lora_unet_single.* \(3 in all\)"):
        make(domains=TEXT).load_weights(tmp_path / "part.safetensors")
    asymmetric_lora.extract(AsymmetricLora.open(saved), 1, tmp_path / "one.safetensors")
    with pytest.raises(ValueError, match="ordinary LoRA"):
        make(domains=TEXT).load_weights(tmp_path / "one.safetensors")


def train_one_step(network: AsymmetricNetwork, domain: str) -> None:
    model = flux(torch.float32)
    network.apply_to([], model, False, True)
    network.prepare_grad_etc([], model)
    groups, names = network.prepare_optimizer_params_with_multiple_te_lrs(None, 1e-2, None)
    assert len(groups) == len(names)
    network.choose([domain])
    model(*batch(2, torch.float32)).square().mean().backward()
    torch.optim.AdamW(groups, weight_decay=0.1).step()


def test_new_heads_leave_a_and_the_old_ones_alone(saved, tmp_path):
    network = make(add_to=str(saved), domains="LEGO;Cook")
    assert [domain.name for domain in network.domains] == ["Portrait", "Sketch", "Emoji", "LEGO", "Cook"]
    assert [name for name, _ in network.groups()] == ["LEGO", "Cook"]
    assert all(parameter.requires_grad == (is_of(n, 3) or is_of(n, 4)) for n, parameter in network.named_parameters())
    train_one_step(network, "LEGO")
    network.save(tmp_path / "more.safetensors")
    old, new = AsymmetricLora.open(saved).read(), AsymmetricLora.open(tmp_path / "more.safetensors").read()
    assert all(torch.equal(new[key], tensor) for key, tensor in old.items())
    assert all(tensor.any() == is_of(key, 3) for key, tensor in new.items() if key not in old)
    again = make(add_to=str(saved), domains="LEGO;Cook")
    again.load_weights(tmp_path / "more.safetensors")
    assert all(torch.equal(tensor, new[name]) for name, tensor in again.state_dict().items())


def test_new_heads_with_a_in_training(saved):
    network = make(add_to=str(saved), domains="LEGO", train_a="true")
    assert [name for name, _ in network.groups()] == ["A", "Portrait", "Sketch", "Emoji", "LEGO"]
    # The first step moves the new B off zero, and A has a gradient from then on.
    randomise(network)
    before = snapshot(network)
    train_one_step(network, "LEGO")
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]) == (not is_of(name, 3) and "lora_down" not in name), name


@pytest.mark.parametrize("options", [{}, {"train_a": "true"}, {"train_a": "false"}])
@pytest.mark.parametrize("adds", [True, False])
def test_the_plan_is_what_a_network_becomes(saved, options, adds):
    options = {"domains": "LEGO;Cook", **options, **({"add_to": str(saved)} if adds else {})}
    heads, resting = plan(options)
    network = make(**options)
    assert heads == network.domains
    assert {heads[index].name for index in resting} == {d.name for d in heads} - {name for name, _ in network.groups()}
    assert plan({}, saved) == (HEADS, frozenset())


def test_new_heads_are_refused(saved):
    with pytest.raises(ValueError, match="more than one head is named sketch"):
        make(add_to=str(saved), domains="Sketch")
    with pytest.raises(ValueError, match="pass --network_dim 4 --network_alpha 2"):
        create_network(1.0, 64, 1.0, None, [], flux(), add_to=str(saved), domains="LEGO")
    with pytest.raises(ValueError, match="drop the options that select layers"):
        make(add_to=str(saved), domains="LEGO", layers="img_attn")


# sd-scripts' calls


def test_a_network_from_a_file(saved):
    network, state = create_network_from_weights(1, str(saved), None, [], flux(torch.float32), dropout="0.1")
    assert network.domains == HEADS and network.rank == RANK and network.alpha == ALPHA
    assert network.layer(network.targets[0]).dropout == Dropout(hidden=0.1)
    network.load_weights(saved)
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    with pytest.raises(ValueError, match="drop the option domains"):
        create_network_from_weights(1, str(saved), None, [], flux(torch.float32), domains="Sketch")
    with pytest.raises(ValueError, match="domain chooses a head for inference"):
        create_network_from_weights(1, str(saved), None, [], flux(torch.float32), domain="Sketch")
    wide = Flux(FluxParams(hidden_size=256, depth=1, depth_single_blocks=1, context_in_dim=8, vec_in_dim=4))
    with pytest.raises(ValueError, match="inputs=128.*wanted .*inputs=256"):
        create_network_from_weights(1, str(saved), None, [], wide)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-6), (torch.bfloat16, 2**-8)])
def test_merging_a_head_into_a_model(saved, dtype, rtol):
    model = flux(dtype)
    network, state = create_network_from_weights(0.5, saved, None, [], model, for_inference=True, domain="Sketch")
    network.merge_to([], model, state, torch.bfloat16, "cpu")
    parts = AsymmetricLora.open(saved).select("Sketch")
    plain = linear_layers(flux(dtype))
    for name, layer in linear_layers(model).items():
        up, down = (parts[f"{lora_name(name)}.lora_{part}.weight"].double() for part in ("up", "down"))
        wanted = plain[name].weight.double() + 0.5 * ALPHA / RANK * up @ down
        assert layer.weight.dtype == dtype
        torch.testing.assert_close(layer.weight.double(), wanted, rtol=rtol, atol=1e-7)
        assert (layer.weight - plain[name].weight).abs().max() > 0.01
    with pytest.raises(ValueError, match="several heads .Portrait, Sketch, Emoji."):
        create_network_from_weights(1.0, saved, None, [], model, for_inference=True)


def test_the_calls_of_a_training_run():
    model = flux(torch.float32)
    # A domain may have the name that logs give to A.
    assert len(make(domains="A:4:x").groups()) == 2
    network = make(domains=TEXT)
    assert network.train_t5xxl is False
    network.prepare_network(SAVED)
    for text, unet in ((True, True), (False, False)):
        with pytest.raises(ValueError, match="--network_train_unet_only"):
            network.apply_to([], model, text, unet)
    network.apply_to([], model, False, True)
    with pytest.raises(ValueError, match="applied to a model already"):
        network.apply_to([], model, False, True)
    groups, names = network.prepare_optimizer_params_with_multiple_te_lrs([1e-3], 2e-4, 1e-4)
    assert names == ["A", "Portrait", "Sketch", "Emoji"] and {group["lr"] for group in groups} == {2e-4}
    trained = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(trained) == sorted(map(id, network.get_trainable_params())) == sorted(map(id, network.parameters()))
    network.eval()
    network.on_epoch_start([], model)
    assert network.training
    with pytest.raises(ValueError, match="--learning_rate"):
        network.prepare_optimizer_params_with_multiple_te_lrs(None, None, None)
    with pytest.raises(ValueError, match="drop --save_model_as"):
        network.prepare_network(argparse.Namespace(save_model_as="ckpt"))


def test_max_norm_shrinks_the_batchs_heads_only():
    network = network_of(flux())
    before = snapshot(network)
    network.choose(["Portrait", "Emoji"])

    def norms() -> dict[tuple[str, int], float]:
        modules = {name: network.layer(name) for name in network.targets}
        return {
            (name, head): (ALPHA / RANK * m.up(head) @ m.lora_down.weight).norm().item()
            for name, m in modules.items()
            for head in (0, 2)
        }

    old = norms()
    most = 1.001 * sorted(old.values())[len(old) // 2]
    shrunk, mean, largest = network.apply_max_norm_regularization(most, "cpu")
    new = norms()
    assert shrunk == sum(norm > most for norm in old.values()) > 0
    assert new == pytest.approx({key: min(norm, most) for key, norm in old.items()}, rel=1e-5)
    assert mean == pytest.approx(sum(new.values()) / len(new)) and largest == pytest.approx(most)
    assert all(torch.equal(t, before[n]) for n, t in network.state_dict().items() if not (is_of(n, 0) or is_of(n, 2)))


# Options


@pytest.mark.parametrize("name", ["none.json", "pipe.json", "large.json"])
def test_files_of_domains_that_can_not_be_read(name, tmp_path):
    """A pipe waited for its writer, and a file without an end filled the memory."""
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "large.json").write_bytes(b" " * (2**22 + 1))
    with pytest.raises((FileNotFoundError, ValueError), match="there is no file|more than 4,194,304 bytes"):
        Options(domains=str(tmp_path / name)).read_domains()


def test_domains_as_text_and_as_json(tmp_path):
    assert Options(domains=TEXT).read_domains() == HEADS
    assert Options(domains="lego; Emoji").read_domains() == (DOMAINS[0], DOMAINS[20])
    entries = [{"name": "Portrait", "frames": 9, "process": "portrait painting"}, HEADS[1].to_json()]
    (tmp_path / "domains.json").write_text(json.dumps(entries))
    assert Options(domains=str(tmp_path / "domains.json")).read_domains() == HEADS[:2]
    for text, message in (
        ("[", "is not JSON"),
        ("{}", "must hold a JSON list"),
        ('[{"process": "x"}]', '"name": text'),
    ):
        (tmp_path / "domains.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            Options(domains=str(tmp_path / "domains.json")).read_domains()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs to know its domains"),
        ({"domains": "Portrait:9"}, "NAME:FRAMES:PROCESS, got 'Portrait:9'"),
        ({"domains": "Portrait:nine:x"}, "NAME:FRAMES:PROCESS"),
        ({"domains": "Portrat"}, "did you mean 'Portrait'"),
        ({"domains": TEXT, "rank_droput": "0.1"}, "no option 'rank_droput': did you mean rank_dropout"),
        ({"domains": TEXT, "dropout": "much"}, "dropout is a number, got 'much'"),
        ({"domains": TEXT, "train_a": "yes"}, "train_a is true or false, got 'yes'"),
        ({"domains": TEXT, "layers": "("}, "not a regular expression that can be read"),
        ({"domains": TEXT, "layers": "a{99999999999999999999}"}, "not a regular expression that can be read"),
        ({"domains": TEXT, "layers": "(.+)+(.+)+(.+)+!"}, "not a regular expression that is tried"),
        ({"domains": TEXT, "layers": ".*.*.*.*.*!"}, "not a regular expression that is tried"),
        ({"domains": TEXT, "layers": "(" * 5000}, "not a regular expression that is tried"),
        ({"domains": ";;;"}, "a list of domains has from 1 to 1,000, got 0"),
        ({"domains": ";".join(f"d{n}:9:x" for n in range(1001))}, "a list of domains has from 1 to 1,000, got 1,001"),
        ({"domains": TEXT, "add_to": "x" * 5000}, "can't be a path"),
        ({"domains": TEXT, "layers": "cross"}, "choose none of the model's 13 layers"),
        ({"domains": TEXT, "train_double_block_indices": "0-1"}, "names block 1, the model has 1"),
        ({"domains": TEXT, "train_single_block_indices": "a"}, 'blocks are "all", "none" or a list'),
    ],
)
def test_options_that_can_not_be(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize(
    ("options", "layers"),
    [
        ({}, 13),
        ({"layers": r"img_attn|linear1"}, 3),
        ({"train_single_block_indices": "none"}, 10),
        ({"train_double_block_indices": "none", "train_single_block_indices": "0-0"}, 3),
        ({"layers": "attn", "train_single_block_indices": "0"}, 4),
    ],
)
def test_which_layers(options, layers):
    assert len(make(domains=TEXT, **options).targets) == layers


def test_defaults_are_those_of_the_released_files():
    network = create_network(
        1.0, None, None, None, [], flux(torch.float32), domains="LEGO", train_a="False", dropout=None
    )
    assert (network.rank, network.alpha) == (64, 1.0) and [name for name, _ in network.groups()] == ["LEGO"]
    assert create_network(1.0, 8, 0, None, [], flux(torch.float32), domains="LEGO").alpha == 8
    assert make(domains=TEXT, dropout="0.1", module_dropout="0.3").layer("single_blocks.0.linear2").dropout == Dropout(
        hidden=0.1, module=0.3
    )
