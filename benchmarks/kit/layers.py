"""Linear layers of FLUX alone, with a branch computed in several orders: where the time of a branch goes."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .kit_lab import KitLab
from .record import Record, spread
from .timing import Marks

ROUNDS = 24


def measure(lab: KitLab, record: Record, more_time: Callable[[], bool]) -> None:
    """A row for each kind of layer and rank: microseconds of each way."""
    p = lab.size.params
    width, wide = p.hidden_size, p.mlp_ratio * p.hidden_size
    shapes = {
        "linear1": (width, 3 * width + wide),
        "linear2": (width + wide, width),
        "qkv": (width, 3 * width),
        "mlp.0": (width, wide),
        "mlp.2": (wide, width),
        "proj": (width, width),
    }
    for rank in (lab.size.rank, 5 * lab.size.rank):
        for name, (inputs, outputs) in shapes.items():
            if more_time():
                row = _layer(lab, inputs, outputs, rank)
                record.row(f"{name} {inputs} -> {outputs}, rank {rank}", **row)
    record.note("microseconds (median, least, largest); `hook` is what the pack does now; `A first` starts the large")
    record.note(
        "product from B(Ax) + bias; `A`, `B` are the thin products alone; `B alone` adds to the outputs in place"
    )


def _layer(lab: KitLab, inputs: int, outputs: int, rank: int) -> dict[str, list[float]]:
    device = "cuda" if lab.on_gpu else "cpu"

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device).mul_(0.02).to(lab.dtype)

    layer = nn.Linear(inputs, outputs, device=device, dtype=lab.dtype).requires_grad_(False)
    down, up = draw(rank, inputs), draw(outputs, rank)
    branch = lab.branch_class()(down, up)
    # Several, so that the inputs of a round are not left in the cache by the round before.
    xs = [draw(1, lab.size.tokens, inputs) for _ in range(3)]
    rows = draw(lab.size.tokens, outputs)
    thin = draw(lab.size.tokens, rank)

    def a_first(x: Tensor) -> None:
        hidden = F.linear(x, down)[0]
        torch.addmm(layer.bias, hidden, up.t()).addmm_(x[0], layer.weight.t())

    ways: Mapping[str, Callable[[Tensor], object]] = {
        "bare": layer,
        "hook": lambda x: branch.hook(layer, (x,), layer(x)),  # type: ignore[operator]
        "A first": a_first,
        "A": lambda x: F.linear(x, down),
        "B": lambda x: F.linear(thin, up),
        "B alone": lambda x: rows.addmm_(thin, up.t()),
    }
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(ROUNDS):
        marks = Marks(lab.on_gpu)
        # The device is at work already when the first way is sent to it.
        layer(xs[number % 3])
        for work in ways.values():
            marks.mark()
            work(xs[number % 3])
        marks.mark()
        if number >= ROUNDS // 4:
            for way, seconds in zip(ways, marks.seconds(), strict=True):
                taken[way].append(seconds)
    found = {way: spread(times, 1e6, 1) for way, times in taken.items()}
    bare = statistics.median(taken["bare"])
    return found | {f"{way} / bare": [round(statistics.median(taken[way]) / bare, 3)] for way in ("hook", "A first")}
