"""Table 3: the time of a sampling step, each way of changing the model against the bare FLUX."""

from __future__ import annotations

import itertools
import statistics
from typing import Any

import torch

from .lab import WAYS, Lab, now
from .report import Table, against, milliseconds, verdict

STEPS = 4
"""Steps of one sampling; the first is not counted."""
CEILING_EDGE = {"cpu": 2048, "cuda": 8192}


def table(lab: Lab, rounds: int) -> Table:
    columns = ("", "ms per step", "against bare FLUX", "by its own part", "of the ceiling")
    found = Table(
        f"3. A sampling step in ComfyUI ({lab.size}{', weights ' + lab.stored if lab.stored else ''})", columns
    )
    models = _models(lab)
    times: dict[str, list[float]] = {name: [] for name in models}
    parts: dict[str, list[float]] = {name: [] for name in models}
    for number in range(rounds):
        # Every other round backwards, so that no model always follows the same one.
        for name in list(models)[:: 1 if number % 2 == 0 else -1]:
            watch = lab.sample(models[name], STEPS, lab.size.edge)
            taken = [after - before for before, after in itertools.pairwise(watch.times[1:])]
            times[name].append(min(taken))
            parts[name] += [step / (step - own) for step, own in zip(taken, watch.own[1:], strict=False)]
    rate = ceiling(lab)
    limits = {"head as a branch": 1.05 if lab.on_gpu else 1.10, "ReCraft": 1.005}
    bare = times["bare FLUX"]
    for name, taken in times.items():
        part = statistics.median(parts[name])
        cells = (against(taken, bare), "-" if lab.on_gpu else f"{part:.4f}", f"{lab.size.flop / min(taken) / rate:.0%}")
        found.rows.append((name, milliseconds(min(taken)), *cells))
        if name in limits:
            ratio = min(taken) / min(bare) if lab.on_gpu else part
            found.notes.append(verdict(f"step time with {name}", ratio, limits[name]))
    found.notes.append(
        f"The least time of {rounds} rounds in which all take turns; in brackets, the ratios of single rounds. By its "
        "own part: the step by what is left of it without the time in this pack's own code, measured in the same step "
        "(median), so that other work on the machine cancels out. A step "
        f"has {lab.size.flop / 1e12:.3g} TFLOP; the ceiling is {rate / 1e12:.3g} TFLOP/s, measured with one large "
        f"matrix product in {str(lab.dtype).removeprefix('torch.')}."
    )
    return found


def _models(lab: Lab) -> dict[str, Any]:
    domain, other = lab.domains[:2]
    heads = {way: lab.head(way, domain) for way in WAYS}
    models = {"bare FLUX": lab.base}
    for way, said in (("patch", "patched"), ("branch", "as a branch")):
        models[f"head {said}"] = heads[way]
        for count in (1, 2, 4):
            models[f"head and {count} LoRA{'s' * (count > 1)} {said}"] = lab.stack(way, heads[way], count)
    return {
        **models,
        "two heads as a branch": lab.head("branch", other, model=heads["branch"]),
        "ReCraft": lab.recraft(lab.base),
        "head patched, ReCraft": lab.recraft(heads["patch"]),
        "head as a branch, ReCraft": lab.recraft(heads["branch"]),
    }


def ceiling(lab: Lab) -> float:
    """FLOP a second of a large matrix product in the type that the model computes in: the best of several."""
    device = "cuda" if lab.on_gpu else "cpu"
    edge = CEILING_EDGE[device]
    a = torch.randn(edge, edge, device=device).to(lab.dtype)

    def seconds() -> float:
        start = now()
        torch.mm(a, a)
        return now() - start

    return 2 * edge**3 / min(seconds() for _ in range(8))
