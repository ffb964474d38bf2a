"""The benchmark's steps, on a tiny FLUX of sd-scripts' own class."""

import pytest
import torch

from training import bench
from training.memory import peak_of
from training.sd.bench_runs import CASES, FULL, SMALL, STOCK, Case, Run, Size, make_flux

TINY = Size(128, 1, 1, 32, 16, grid=4, text=3, rank=4, dtype=torch.float32, checkpointing=False)


@pytest.fixture(scope="module")
def base() -> torch.nn.Module:
    torch.manual_seed(0)
    return make_flux(TINY)


def head_bytes(run: Run) -> int:
    """B of a head, and what AdamW keeps for it: two averages of its size and a number of 4 bytes for each."""
    parameters = list(run.network.head(0))
    return 4 * (3 * sum(parameter.numel() for parameter in parameters) + len(parameters))


def test_the_cases_and_sizes_of_the_issue():
    assert {case.domains for case in CASES} == {1, 10, 21}
    assert Case(21).heads(22, 2) == [1, 1]
    assert Case(21, mixed=True).heads(10, 2) == [20, 0]
    assert [str(case) for case in (STOCK, Case(1), Case(10, True, True))] == [
        "networks.lora_flux",
        "1 domain",
        "10 domains, batches of mixed domains, idle heads on the CPU",
    ]
    assert FULL.hidden / FULL.rank == SMALL.hidden / SMALL.rank == 48


def test_peak_of_a_step_in_closed_form():
    x = torch.randn(1000)

    def step() -> None:
        a = x * 2  # 4000 bytes
        b = a + 1  # 8000
        del a
        c = b + 1
        c + b  # 12000

    assert peak_of(step) == 12_000
    assert peak_of(lambda: None) == 0


@pytest.mark.parametrize("case", [STOCK, Case(1), Case(5, mixed=True), Case(5, mixed=True, idle=True)], ids=str)
def test_a_step_trains_the_heads_of_its_batch_alone_on_shared_weights(base, case):
    run = Run(base, TINY, case)
    assert {p.data_ptr() for p in run.flux.parameters()} == {p.data_ptr() for p in base.parameters()}
    assert all(len(run.optimizer.state[p]) for p in run.network.parameters())
    before = {name: p.detach().clone() for name, p in run.network.named_parameters()}
    run.step()
    moved = {name for name, p in run.network.named_parameters() if not torch.equal(p, before[name])}
    ups = {name for name in before if "lora_up" in name}
    if case is STOCK:
        assert len(moved) >= len(ups) == 13
    else:
        heads = {name.split(".lora_ups.")[1].split(".")[0] for name in moved & ups}
        assert heads == {str(head) for head in case.heads(0, 2)}


def test_heads_that_wait_are_not_counted(base):
    """Five heads, two in a batch, against the same with none waiting."""
    everything, waiting = (Run(base, TINY, Case(5, True, idle)) for idle in (False, True))
    assert everything.peak_bytes() - waiting.peak_bytes() == 3 * head_bytes(waiting)


def test_a_step_in_bfloat16_with_gradient_checkpointing():
    size = Size(128, 1, 1, 32, 16, grid=4, text=3, rank=4)
    run = Run(make_flux(size), size, Case(2, mixed=True))
    before = [p.detach().clone() for p in run.network.head(1)]
    run.step()
    assert all(not torch.equal(p, b) for p, b in zip(run.network.head(1), before, strict=True))
    assert run.peak_bytes() > 0


def test_a_table_of_what_was_measured():
    rows = bench.measure(TINY, [Case(1), Case(5, mixed=True)], rounds=2, device="cpu")
    assert [row.name for row in rows] == ["networks.lora_flux", "1 domain", "5 domains, batches of mixed domains"]
    assert rows[0].memory == 1.0 and rows[2].memory > rows[1].memory
    assert all(row.milliseconds > 0 and row.time > 0 for row in rows)
