"""Gradients of several processes.  Here they are threads, and a collective is a sum that waits for all of them."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from training.distributed import all_reduce_gradients, share_weights

SHAPES = ((2, 3), (3,), (2, 2), (4,))


class Processes:
    """`count` threads whose collectives return what `combine` makes of all their tensors."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.barrier = threading.Barrier(count)
        self.tensors: list[Tensor] = [torch.empty(0)] * count
        self.calls = [0] * count

    def collective(self, rank: int, combine: Callable[[Sequence[Tensor]], Tensor]) -> Callable[[Tensor], Tensor]:
        def call(tensor: Tensor) -> Tensor:
            self.tensors[rank] = tensor.clone()
            self.calls[rank] += 1
            self.barrier.wait(10)
            shapes = {each.shape for each in self.tensors}
            result = combine(self.tensors) if len(shapes) == 1 else None
            self.barrier.wait(10)
            assert result is not None, f"the processes reduced tensors of {shapes} together"
            return result

        return call

    def run(self, work: Callable[[int], None]) -> None:
        with ThreadPoolExecutor(self.count) as pool:
            for future in [pool.submit(work, rank) for rank in range(self.count)]:
                future.result(20)


def mean(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack(tuple(tensors)).mean(0)


def parameters(seed: int = 0) -> list[nn.Parameter]:
    torch.manual_seed(seed)
    return [nn.Parameter(torch.randn(shape)) for shape in SHAPES]


@pytest.mark.parametrize(
    "have",
    [
        ({0, 1}, {0, 2}),
        ({0}, {0}),
        (set(), {3}),
        (set(), set()),
        ({0, 1}, {0, 2}, {3}),
    ],
)
def test_every_gradient_is_the_mean_of_its_own(have):
    """What a process lacks counts as zero; what all lack stays None."""
    processes = Processes(len(have))
    networks = [parameters() for _ in have]
    for rank, (network, indices) in enumerate(zip(networks, have, strict=True)):
        for index in indices:
            network[index].grad = torch.full(SHAPES[index], 10.0 * rank + index)
    processes.run(lambda rank: all_reduce_gradients(networks[rank], processes.collective(rank, mean), "cpu"))
    for index, shape in enumerate(SHAPES):
        sum_of_all = sum(10.0 * rank + index for rank, indices in enumerate(have) if index in indices)
        for network in networks:
            if any(index in indices for indices in have):
                torch.testing.assert_close(network[index].grad, torch.full(shape, sum_of_all / len(have)))
            else:
                assert network[index].grad is None
    # One to agree, and no more than are needed.
    assert set(processes.calls) == {1 + len(set().union(*have))}


def test_frozen_parameters_are_left_out():
    processes = Processes(2)
    networks = [parameters(), parameters()]
    for network in networks:
        network[0].requires_grad_(False)
        network[0].grad = torch.ones(SHAPES[0])
    processes.run(lambda rank: all_reduce_gradients(networks[rank], processes.collective(rank, mean), "cpu"))
    assert processes.calls == [1, 1]


def test_all_get_the_weights_of_the_first():
    processes = Processes(2)
    networks = [parameters(seed) for seed in (1, 2)]
    wanted = [parameter.detach().clone() for parameter in networks[0]]
    first = [processes.collective(rank, lambda tensors: tensors[0].clone()) for rank in range(2)]
    processes.run(lambda rank: share_weights(networks[rank], first[rank], "cpu"))
    for network in networks:
        assert all(torch.equal(a, b) for a, b in zip(network, wanted, strict=True))
