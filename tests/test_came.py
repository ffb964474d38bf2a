"""CAME with a warm-up for each parameter group."""

import copy

import pytest
import torch
from torch import Tensor, nn

came_pytorch = pytest.importorskip("came_pytorch", reason="CAME WAS NOT TESTED: pip install came-pytorch==0.1.3")
from training.came import WARMUP, Came  # noqa: E402

LR = 1e-2


def weights(count: int = 2) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(6, 4, generator=generator)) for _ in range(count)]


def gradient(step: int) -> Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(1 + step))


def run(
    optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], used: list[list[int]], first: int = 0
) -> None:
    """One step for each entry of `used`, with gradients for those parameters alone."""
    for step, indices in enumerate(used, first):
        for index, parameter in enumerate(parameters):
            parameter.grad = gradient(step) if index in indices else None
        optimizer.step()


def groups(parameters: list[nn.Parameter]) -> list[dict]:
    return [{"params": [parameter]} for parameter in parameters]


def test_after_the_warm_up_it_is_came():
    ours, theirs = weights(), weights()
    run(Came(groups(ours), lr=LR, warmup=0, weight_decay=0.1), ours, [[0, 1]] * 5)
    run(came_pytorch.CAME(groups(theirs), lr=LR, weight_decay=0.1), theirs, [[0, 1]] * 5)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_the_learning_rate_of_every_update_in_closed_form():
    """Update n of a group has n / warmup of the learning rate: CAME's other state does not depend on it."""
    ours, theirs = weights(1), weights(1)
    optimizer, reference = Came(groups(ours), lr=LR, warmup=4), came_pytorch.CAME(groups(theirs), lr=LR)
    for step in range(6):
        before = [ours[0].detach().clone(), theirs[0].detach().clone()]
        run(optimizer, ours, [[0]], step)
        run(reference, theirs, [[0]], step)
        change, full = (p.detach() - b for p, b in zip((ours[0], theirs[0]), before, strict=True))
        torch.testing.assert_close(change, full * min(1, (step + 1) / 4), rtol=1e-4, atol=1e-6)
        assert optimizer.param_groups[0]["lr"] == LR


def test_a_group_first_used_late_starts_as_small_as_the_first():
    early, late = weights(1), weights()
    run(Came(groups(early), lr=LR, warmup=5), early, [[0]] * 3, first=50)
    run(Came(groups(late), lr=LR, warmup=5), late, [[0]] * 50 + [[1]] * 3)
    start, moved = weights()[1].detach(), late[1].detach()
    torch.testing.assert_close(moved - start, early[0].detach() - weights(1)[0].detach(), rtol=1e-4, atol=1e-7)


def test_unused_groups_have_no_updates_and_no_state():
    parameters = weights()
    optimizer = Came(groups(parameters), lr=LR)
    before = parameters[1].detach().clone()
    run(optimizer, parameters, [[0]] * 3)
    assert [group["updates"] for group in optimizer.param_groups] == [3, 0]
    assert parameters[1] not in optimizer.state and torch.equal(parameters[1], before)


def test_it_resumes_on_the_same_bits():
    used = [[0], [0, 1], [0], [0, 1], [1], [0, 1]]
    whole, cut = weights(), weights()
    run(Came(groups(whole), lr=LR, warmup=4), whole, used)
    optimizer = Came(groups(cut), lr=LR, warmup=4)
    run(optimizer, cut, used[:3])
    state = copy.deepcopy(optimizer.state_dict())
    resumed = Came(groups(cut), lr=1.0, warmup=99)
    resumed.load_state_dict(state)
    run(resumed, cut, used[3:], first=3)
    assert all(torch.equal(a, b) for a, b in zip(whole, cut, strict=True))


def test_a_schedule_goes_on_above_the_warm_up():
    parameters = weights(1)
    optimizer = Came(groups(parameters), lr=LR, warmup=3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    rates = []
    for step in range(4):
        run(optimizer, parameters, [[0]], step)
        schedule.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([LR / 2, LR / 3, LR / 4, LR / 5])


def test_the_default_tames_the_start():
    """A gradient of noise, as in training: without warm-up the first update is 11 times the learning rate."""

    def largest(warmup: int) -> float:
        torch.manual_seed(0)
        parameter = nn.Parameter(torch.zeros(64, 32))
        optimizer = Came([parameter], lr=LR, warmup=warmup)
        found = 0.0
        for _ in range(2 * WARMUP):
            before = parameter.detach().clone()
            parameter.grad = torch.randn(64, 32)
            optimizer.step()
            found = max(found, (parameter.detach() - before).square().mean().sqrt().item() / LR)
        return found

    assert largest(0) > 10
    assert largest(WARMUP) < 3


def test_a_warm_up_counts_updates():
    with pytest.raises(ValueError, match="warmup counts updates, got -1"):
        Came(weights(1), lr=LR, warmup=-1)
