"""The side branch against W + sum of strength * alpha / rank * B A, in float64."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from makeanything.branch import Branch, Branches

INPUTS, OUTPUTS, ALPHA = 24, 40, 2.0


def lora(rank: int, seed: int, down: Tensor | None = None) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    own = torch.randn(rank, INPUTS, generator=generator)
    return {
        "x.lora_down.weight": own if down is None else down,
        "x.lora_up.weight": torch.randn(OUTPUTS, rank, generator=generator),
        "x.alpha": torch.tensor(ALPHA),
    }


def merged(layer: nn.Linear, *updates: tuple[dict[str, Tensor], float]) -> Tensor:
    """The layer's weight with the updates in it."""
    weight = layer.weight.double()
    for state, strength in updates:
        down, up = state["x.lora_down.weight"].double(), state["x.lora_up.weight"].double()
        weight = weight + strength * ALPHA / len(down) * up @ down
    return weight


@pytest.fixture
def layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(INPUTS, OUTPUTS).requires_grad_(False)


def worst(layer: nn.Linear, weight: Tensor, x: Tensor) -> float:
    """Largest difference of the layer's output from that of a weight, relative to its size."""
    wanted = F.linear(x.double(), weight, layer.bias.double())
    return ((layer(x).double() - wanted).abs().max() / wanted.abs().max()).item()


@pytest.mark.parametrize("shape", [(2, 7, INPUTS), (3, INPUTS)])
@pytest.mark.parametrize("strength", [1.0, -0.37])
def test_branch_is_the_merged_weight(layer, shape, strength):
    state, x = lora(4, 1), torch.randn(shape, generator=torch.Generator().manual_seed(2))
    bare = layer(x)
    handle = layer.register_forward_hook(Branch.read(state, "x", strength, torch.float32).hook)
    assert worst(layer, merged(layer, (state, strength)), x) < 1e-6
    assert worst(layer, layer.weight.double(), x) > 0.05
    handle.remove()
    assert torch.equal(layer(x), bare)


def test_output_is_added_to_in_place(layer):
    output = torch.zeros(2, 7, OUTPUTS)
    added = Branch.read(lora(4, 1), "x", 1.0, torch.float32).hook(layer, (torch.ones(2, 7, INPUTS),), output)
    assert added.data_ptr() == output.data_ptr()
    assert added.abs().min() > 0


def test_output_that_is_no_plain_block_of_memory(layer):
    x = torch.randn(2, 7, INPUTS, generator=torch.Generator().manual_seed(2))
    state = lora(4, 1)
    added = Branch.read(state, "x", 1.0, torch.float32).hook(layer, (x,), layer(x).mT.contiguous().mT)
    wanted = F.linear(x.double(), merged(layer, (state, 1.0)), layer.bias.double())
    assert (added - wanted).abs().max() < 1e-5


def test_types_meet(layer):
    """A model may compute in another type than its branch was made for."""
    branch = Branch.read(lora(4, 1), "x", 1.0, torch.float32)
    added = branch.hook(layer, (torch.ones(3, INPUTS, dtype=torch.bfloat16),), torch.zeros(3, OUTPUTS).bfloat16())
    assert added.dtype == torch.bfloat16
    wanted = F.linear(torch.ones(3, INPUTS), merged(layer, (lora(4, 1), 1.0)).float() - layer.weight)
    assert (added - wanted).abs().max() / wanted.abs().max() < 0.02


@pytest.mark.parametrize(
    ("down", "rank"), [(lora(4, 1)["x.lora_down.weight"], 4), (None, 8)], ids=["one A", "another A"]
)
def test_joined_branches_are_one(layer, down, rank):
    states = [(lora(4, 1), 0.8), (lora(4, 5, down), -0.3)]
    first, second = (Branch.read(state, "x", strength, torch.float32) for state, strength in states)
    branch = first.joined(second)
    assert branch.down.shape == (rank, INPUTS) and branch.up.shape == (OUTPUTS, rank)
    layer.register_forward_hook(branch.hook)
    x = torch.randn(5, INPUTS, generator=torch.Generator().manual_seed(3))
    assert worst(layer, merged(layer, *states), x) < 1e-6


def test_strength_is_rounded_with_b():
    """Rounded by itself, 0.37 would be off by the same factor everywhere."""
    state = {key: value.bfloat16() for key, value in lora(64, 1).items()}
    up = Branch.read(state, "x", 0.37, torch.bfloat16).up.double()
    wanted = state["x.lora_up.weight"].double() * 0.37 * ALPHA / 64
    assert abs((up.norm() / wanted.norm()).item() - 1) < 1e-4


def test_branches_of_one_layer_are_joined():
    a, b, c = (Branch.read(lora(2, seed), "x", 1.0, torch.float32) for seed in range(3))
    joined = dict(Branches([("one.linear", a), ("two", b), ("two", c), ("three", a)]).items())
    assert list(joined) == ["one.linear", "two", "three"]
    assert joined["one.linear"] is a and joined["three"] is a
    assert len(joined["two"].down) == 4


def test_a_part_of_the_outputs(layer):
    """Others of the same layer are joined only when they are for the same part."""
    x = torch.randn(2, 7, INPUTS, generator=torch.Generator().manual_seed(2))
    state = lora(4, 1)
    down, up = state["x.lora_down.weight"], state["x.lora_up.weight"][:10]
    part = Branch.scaled(down, up, 0.7, torch.float32, first=25)
    layer.register_forward_hook(part.hook)
    weight = layer.weight.double()
    weight[25:35] += 0.7 * up.double() @ down.double()
    assert worst(layer, weight, x) < 1e-6
    other = Branch.scaled(down, state["x.lora_up.weight"], 1.0, torch.float32)
    joined = Branches([("x", part), ("x", other), ("x", part)])
    assert [(branch.first, len(branch.up)) for _, branch in joined.items()] == [(25, 10), (0, OUTPUTS)]
    assert torch.equal(dict(enumerate(joined.items()))[0][1].up, 2 * part.up)


def test_branches_are_a_module_that_moves():
    branches = Branches((f"layer.{n}", Branch.read(lora(2, n), "x", 1.0, torch.float32)) for n in range(3))
    assert len(list(branches.parameters())) == 6
    assert not any(parameter.requires_grad for parameter in branches.parameters())
    branches.to(torch.float16)
    assert all(branch.up.dtype == torch.float16 for _, branch in branches.items())
    assert all(not torch.equal(a.up, b.up) for (_, a), (_, b) in pairwise(branches.items()))
