"""Heads that wait on the CPU.  A mark stands for the device: what lies there begins one element into its storage."""

import copy

import pytest
import torch
from torch import Tensor

from makeanything.domains import Domain
from makeanything.reference.flux import Flux, FluxParams
from training.asymmetric_network import AsymmetricNetwork, create_network
from training.heads.idle import IdleHeads

PARAMS = FluxParams(
    hidden_size=128, depth=1, depth_single_blocks=1, context_in_dim=8, vec_in_dim=4, guidance_embed=False
)
HEADS = tuple(Domain.of(name, 9, name) for name in ("one", "two", "three"))
CPU = torch.device("cpu")


class Marking(IdleHeads):
    """Counts the tensors that it moves to the device, and back."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.moved = [0, 0]

    def to_device(self, tensor: Tensor) -> Tensor:
        self.moved[0] += 1
        return torch.cat([tensor.new_zeros(1), tensor.flatten()])[1:].view(tensor.shape)

    def to_cpu(self, tensor: Tensor) -> Tensor:
        self.moved[1] += 1
        return tensor.clone()


@pytest.fixture
def network() -> AsymmetricNetwork:
    torch.manual_seed(0)
    return AsymmetricNetwork(Flux(PARAMS), HEADS, rank=4)


def give_gradients(network: AsymmetricNetwork, head: int) -> None:
    for parameter in network.head(head):
        parameter.grad = torch.ones_like(parameter)


def on_device(network: AsymmetricNetwork) -> list[bool]:
    found = []
    for head in range(len(HEADS)):
        marks = {parameter.storage_offset() for parameter in network.head(head)}
        assert len(marks) == 1
        found.append(marks == {1})
    return found


def test_only_the_heads_in_use_are_on_the_device_with_their_optimizer_state(network):
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    idle = Marking(network, optimizer, CPU)
    assert on_device(network) == [False, False, False]
    for used in ([0, 2], [0], [1, 0]):
        idle.place(used)
        assert on_device(network) == [head in used for head in range(3)]
        for head in used:
            give_gradients(network, head)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    idle.place([])
    idle.place([2, 1])
    for head, there in enumerate([False, True, True]):
        for parameter in network.head(head):
            state = optimizer.state[parameter]
            assert {state["exp_avg"].storage_offset(), state["exp_avg_sq"].storage_offset()} == {int(there)}
            assert state["step"].storage_offset() == 0
    idle.place([])
    assert on_device(network) == [False] * 3 and idle.placed == set()


def test_a_head_that_stays_in_use_is_not_moved(network):
    idle = Marking(network, torch.optim.AdamW(network.parameters()), CPU)
    idle.place([1])
    layers = len(network.targets)
    assert idle.moved == [layers, 0]
    idle.place([1])
    assert idle.moved == [layers, 0]
    idle.place([1, 2])
    assert idle.moved == [2 * layers, 0]


def test_gradients_that_wait_for_a_step_keep_their_head(network):
    """As in gradient accumulation: the head goes once the optimizer has used them."""
    optimizer = torch.optim.AdamW(network.parameters())
    idle = Marking(network, optimizer, CPU)
    idle.place([0])
    give_gradients(network, 0)
    idle.place([1])
    assert on_device(network) == [True, True, False]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    idle.place([1])
    assert on_device(network) == [False, True, False]


def test_moving_gives_no_optimizer_state_to_a_head_that_never_trained(network):
    optimizer = torch.optim.AdamW(network.parameters())
    idle = Marking(network, optimizer, CPU)
    idle.place([0, 1, 2])
    idle.place([])
    assert len(optimizer.state) == 0


def test_values_survive_and_autograd_goes_on(network):
    before = copy.deepcopy(network.state_dict())
    idle = Marking(network, torch.optim.AdamW(network.parameters()), CPU)
    for used in ([0], [1], [0]):
        idle.place(used)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    network.choose([1])
    layer = network.layer(network.targets[0])
    layer(torch.randn(1, layer.lora_down.in_features), network.route).sum().backward()
    assert layer.up(0).grad is not None and layer.up(1).grad is None


def test_to_sends_the_heads_and_nothing_else_back_to_the_cpu(monkeypatch):
    torch.manual_seed(0)
    options = {"domains": "Portrait;Sketch", "idle_heads": "cpu"}
    network = create_network(1.0, 4, 1.0, None, [], Flux(PARAMS), **options)
    sent = []

    def cpu(self: Tensor) -> Tensor:
        sent.append(self.shape)
        return self

    monkeypatch.setattr(Tensor, "cpu", cpu)
    network.to(torch.float64)
    assert sorted(sent) == sorted(up.shape for head in range(2) for up in network.head(head))
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float64}
    network.leave_idle_on_cpu(False)
    sent.clear()
    network.to(torch.float32)
    assert not sent
