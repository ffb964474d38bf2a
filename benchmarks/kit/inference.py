"""Parts that run inside ComfyUI with one FLUX after another: step times, switches, fp8, layers."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from comfy import quant_ops
from comfy.ldm.modules import attention as attention_module

from ..switching import SMALL
from . import layers
from .kit_lab import SIZES, KitLab
from .record import Record, spread
from .timing import ceiling, peak, sample, take_turns

MoreTime = Callable[[], bool]


def measure(size: str, folder: Path, out: Path, more_time: MoreTime) -> None:
    """The parts, the most valuable first; each has a file of its own in `out`."""
    about = {"size": str(SIZES[size]), "attention": attention(), "kernels": kernels()}
    lab = KitLab(SIZES[size], folder)
    with Record(out / "steps.json", **about) as record:
        rate = ceiling(lab)
        record.note(f"the ceiling, TFLOP/s of a large product (median, least, largest): {rate}")
        steps(lab, record, more_time, rate[0] * 1e12)
    for name, part in (("layers", layers.measure), ("switch", switch), ("fp8", fp8)):
        if more_time():
            with Record(out / f"{name}.json", **about) as record:
                part(lab, record, more_time)


def steps(lab: KitLab, record: Record, more_time: MoreTime, rate: float) -> None:
    """Bare, with a head as a branch, with ReCraft; then with 1, 2 and 4 LoRAs too."""
    head = lab.head("branch", lab.domains[0])
    models = {"bare": lab.base, "head": head, "ReCraft": lab.recraft(lab.base)}
    peaks = {name: peak(lab, model) for name, model in models.items()}
    take_turns(lab, models, record, 4, more_time, rate, peaks)
    more = {"bare, again": lab.base, "head, again": head}
    for count in (1, 2, 4):
        if not more_time():
            record.note(f"head and {count} LoRAs: not measured, the time was over")
            return
        name = f"head and {count} LoRA{'s' * (count > 1)}"
        more[name] = lab.stack("branch", head, count)
        peaks[name] = peak(lab, more[name])
    take_turns(lab, more, record, 3, more_time, rate, peaks)
    record.note(f"the ceiling at the end: {ceiling(lab)}")


def switch(lab: KitLab, record: Record, more_time: MoreTime) -> None:
    """Seconds from another domain, strength or mix to the first step, beside the weights, then in them."""
    first, second = lab.domains[:2]
    changes: dict[str, Callable[[str, int], Any]] = {
        "domain": lambda way, number: lab.head(way, (first, second)[number % 2]),
        "strength": lambda way, number: lab.head(way, first, (0.7, 0.4)[number % 2]),
        "mix": lambda way, number: lab.mix(way, (0.3, 0.6)[number % 2]),
    }
    sample(lab, lab.base, 2, SMALL)
    # Patching rewrites every weight, whatever changed.
    for way, rounds, changed in (("branch", 4, list(changes)), ("patch", 1, ["domain"])):
        for change in changed:
            if not more_time():
                record.note(f"{change}, {way}: not measured, the time was over")
                continue
            node, ready = [], []
            for number in range(rounds):
                start = _now(lab)
                model = changes[change](way, number)
                node.append(time.perf_counter() - start)
                _, began, _ = sample(lab, model, 1, SMALL)
                ready.append(began - start)
            merged = len(model.patches)
            numbers = {"s to the first step": spread(ready, digits=3), "s in the node": spread(node, digits=3)}
            record.row(f"{change}, {way}", **numbers, merged=merged, rounds=rounds)
            if way == "patch":
                between, _, _ = sample(lab, model, 6, lab.size.edge)
                numbers["ms per step"] = spread(between[1:], 1000)
                record.row(f"{change}, {way}", **numbers, merged=merged, rounds=rounds)
    between, _, _ = sample(lab, lab.base, 6, lab.size.edge)
    record.row("bare, after these", **{"ms per step": spread(between[1:], 1000)})


def fp8(lab: KitLab, record: Record, more_time: MoreTime) -> None:
    """Step times with weights kept in fp8 and cast to be used, as ComfyUI does."""
    lab.use("float8_e4m3fn")
    head = lab.head("branch", lab.domains[0])
    models = {"bare": lab.base, "head": head, "head and 4 LoRAs": lab.stack("branch", head, 4)}
    peaks = {name: peak(lab, model) for name, model in models.items()}
    take_turns(lab, models, record, 3, more_time, ceiling(lab)[0] * 1e12, peaks)


def _now(lab: KitLab) -> float:
    if lab.on_gpu:
        torch.cuda.synchronize()
    return time.perf_counter()


def attention() -> str:
    """The host's function for it."""
    return str(attention_module.optimized_attention.__name__)


def kernels() -> str:
    """Which of comfy_kitchen's backends can be used."""
    backends = quant_ops.ck.list_backends()
    return ", ".join(sorted(name for name, found in backends.items() if found["available"] and not found["disabled"]))
