"""When each step of a sampling begins, by the GPU's own clock, and models that take turns."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import comfy.model_management
import comfy.sample
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP

from ..lab import Lab
from .record import Record, spread

STEPS = 8
"""Of a timed sampling.  Between their beginnings lie seven times, of which the first is not counted."""


class Marks:
    """Moments in the queue of the device; on a CPU, now."""

    def __init__(self, on_gpu: bool) -> None:
        self._on_gpu = on_gpu
        self._marks: list[Any] = []

    def mark(self) -> None:
        if not self._on_gpu:
            self._marks.append(time.perf_counter())
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._marks.append(event)

    def seconds(self) -> list[float]:
        """Between neighbours."""
        if not self._on_gpu:
            return [after - before for before, after in itertools.pairwise(self._marks)]
        torch.cuda.synchronize()
        return [before.elapsed_time(after) / 1000 for before, after in itertools.pairwise(self._marks)]


def sample(lab: Lab, model: ModelPatcher, steps: int, edge: int) -> tuple[list[float], float, torch.Tensor]:
    """Seconds from step to step, time.perf_counter() as the first one began, and the latents."""
    marks, first = Marks(lab.on_gpu), [0.0]

    def outside(executor: Any, *inputs: Any, **more: Any) -> Any:
        if not first[0]:
            if lab.on_gpu:
                torch.cuda.synchronize()
            first[0] = time.perf_counter()
        marks.mark()
        return executor(*inputs, **more)

    model = model.clone()
    model.wrappers[WrappersMP.PREDICT_NOISE] = {
        "outer": [outside],
        **model.wrappers.get(WrappersMP.PREDICT_NOISE, {}),
    }
    latents = lab.latents(edge)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    settings = (steps, 1.0, "euler", "simple", lab.conditioning, lab.conditioning)
    found = comfy.sample.sample(model, noise, *settings, latents, disable_pbar=True, seed=0)
    return marks.seconds(), first[0], found


def take_turns(
    lab: Lab,
    models: Mapping[str, ModelPatcher],
    record: Record,
    rounds: int,
    more_time: Callable[[], bool],
    rate: float,
    add: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Rows of step times, each model against the first one in the same round.  `add` are further cells of the rows."""
    times: dict[str, list[float]] = {name: [] for name in models}
    for number in range(rounds):
        if number and not more_time():
            record.note(f"{number} of {rounds} rounds: the time was over")
            break
        # Every other round backwards, so that a warming card favours none.
        for name in list(models)[:: 1 if number % 2 == 0 else -1]:
            between, _, found = sample(lab, models[name], STEPS, lab.size.edge)
            if not torch.isfinite(found).all():
                record.note(f"{name}: the latents are not finite")
            times[name].append(statistics.median(between[1:]))
        _report(lab, times, record, rate, add or {})


def _report(
    lab: Lab, times: Mapping[str, Sequence[float]], record: Record, rate: float, add: Mapping[str, Mapping[str, Any]]
) -> None:
    bare = next(iter(times.values()))
    for name, taken in times.items():
        ratios = [ours / theirs for ours, theirs in zip(taken, bare, strict=True)]
        share = lab.size.flop / statistics.median(taken) / rate
        numbers = {"ms": spread(taken, 1000), "of bare": spread(ratios, digits=4), "of ceiling": round(share, 3)}
        record.row(name, **numbers, rounds=len(taken), **add.get(name, {}))


def peak(lab: Lab, model: ModelPatcher) -> dict[str, Any]:
    """MiB on the card at the peak of two steps with the model and what it needs alone; nothing on a CPU."""
    keep = [loaded for loaded in comfy.model_management.current_loaded_models if loaded.model.model is lab.base.model]
    comfy.model_management.free_memory(1e30, lab.base.load_device, keep_loaded=keep)
    if not lab.on_gpu:
        sample(lab, model, 2, lab.size.edge)
        return {}
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    sample(lab, model, 2, lab.size.edge)
    return {"peak MiB": round(torch.cuda.max_memory_allocated() / 2**20)}


def ceiling(lab: Lab) -> list[float]:
    """FLOP a second of a large product of random matrices in the type that the model computes in: see spread()."""
    edge, device = (8192, "cuda") if lab.on_gpu else (512, "cpu")
    a, b = (torch.randn(edge, edge, device=device).to(lab.dtype) for _ in range(2))
    marks = Marks(lab.on_gpu)
    for _ in range(24):
        marks.mark()
        torch.mm(a, b)
    marks.mark()
    return spread([2 * edge**3 / seconds for seconds in marks.seconds()[4:]], 1e-12)
