"""Table 2: seconds from another domain, strength or mix of heads to the first step of the sampling."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from .lab import WAYS, Lab, now
from .report import Table, against, milliseconds, verdict

SMALL = 96
"""Edge in pixels of what is sampled, since only the way to the first step matters."""
STOCK = "stock loader"

Make = Callable[[int], Any]
"""Number of a change, from 0 -> the model with it."""


def table(lab: Lab, rounds: int) -> Table:
    columns = ("", "changed", "ms", "against the stock loader", "weights merged")
    found = Table(f"2. To the first step with another head, in ComfyUI ({lab.size})", columns)
    for change, makers in _changes(lab).items():
        models = {name: make(0) for name, make in makers.items()}
        times: dict[str, list[float]] = {name: [] for name in makers}
        for number in range(1, rounds + 1):
            for name, make in makers.items():
                lab.sample(models[name], 1, SMALL)
                start = now()
                models[name] = make(number)
                times[name].append(lab.sample(models[name], 1, SMALL).times[0] - start)
        for name, taken in times.items():
            least, merged = milliseconds(min(taken)), len(models[name].patches)
            found.rows.append((name, change, least, against(taken, times[STOCK]), str(merged)))
            if name.endswith("branch") and lab.on_gpu:
                found.notes.append(verdict(f"{change} changed beside the weights, in seconds", min(taken), 0.5))
    if not lab.on_gpu:
        found.notes.append("The target, 0.5 s at FLUX.1-dev's size on a GPU, is not measured here.")
    found.notes.append(
        "From the change to the start of the first step, the nodes' work included; the files are in the page cache. "
        "The stock loader is LoraLoaderModelOnly with a head extracted before, two of them for a mix; it keeps the "
        "file it read last, this pack reads the head again. The least time of "
        f"{rounds} rounds in which all take turns; in brackets, the ratios of single rounds."
    )
    return found


def _changes(lab: Lab) -> dict[str, dict[str, Make]]:
    first, second = lab.domains[:2]
    stock = lab.stock()
    pair = (lab.stock(), lab.stock())

    def domain(number: int) -> str:
        return (first, second)[number % 2]

    def share(number: int) -> float:
        return (0.3, 0.6)[number % 2]

    def load(node: Any, model: Any, name: str, strength: float) -> Any:
        return node.load_lora_model_only(model, lab.extracted(name), strength)[0]

    def stock_mix(number: int) -> Any:
        model = load(pair[0], lab.base, first, 1 - share(number))
        return load(pair[1], model, second, share(number))

    def ours(make: Callable[[str, int], Any]) -> dict[str, Make]:
        return {f"this pack, {way}": partial(make, way) for way in WAYS}

    return {
        "domain": {
            STOCK: lambda number: load(stock, lab.base, domain(number), 1.0),
            **ours(lambda way, number: lab.head(way, domain(number))),
        },
        "strength": {
            STOCK: lambda number: load(stock, lab.base, first, 1 - share(number)),
            **ours(lambda way, number: lab.head(way, first, 1 - share(number))),
        },
        "mix": {STOCK: stock_mix, **ours(lambda way, number: lab.mix(way, share(number)))},
    }
