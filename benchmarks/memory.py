"""Table 5: main memory of a switch, and what is left of the heads that are no longer used."""

from __future__ import annotations

import gc

import torch

from . import measure
from .lab import WAYS, Lab
from .report import Table, mebibytes, verdict
from .switching import SMALL


def table(lab: Lab) -> Table:
    columns = (
        "",
        "peak of a switch",
        "tensors after the first",
        "after the last",
        "process after the first",
        "the last",
    )
    found = Table(f"5. MiB while switching through {len(lab.domains)} heads, in ComfyUI ({lab.size})", columns)
    head = sum(tensor.nbytes for tensor in lab.lora.select(lab.domains[0]).values())
    for way in WAYS:
        peaks, alive, resident = _through_all(lab, way)
        # The first switch has no head before it; the second has the old and the new one.
        cells = (max(peaks[1:]), alive[0], alive[-1], resident[0], resident[-1])
        found.rows.append((f"this pack, {way}", *map(mebibytes, cells)))
        kept = (alive[-1] - alive[0]) / head
        found.notes.append(verdict(f"{way}: heads left alive after {len(lab.domains) - 1} switches", kept, 0.1))
    found.notes.append(
        f"A head is {mebibytes(head)} MiB. Tensors: every storage still reached after a collection, those of "
        "the base model too. The process: its resident pages, with what its allocator keeps for later."
    )
    return found


def _through_all(lab: Lab, way: str) -> tuple[list[int], list[int], list[int]]:
    """After each head: the peak over what was resident before, live tensors, resident bytes."""
    peaks, alive, resident = [], [], []
    model = lab.base
    lab.sample(model, 1, SMALL)
    for domain in lab.domains:
        gc.collect()
        before = measure.rss()
        measure.reset_peak()
        model = lab.head(way, domain)
        lab.sample(model, 1, SMALL)
        peaks.append(measure.peak_rss() - before)
        gc.collect()
        alive.append(live_bytes())
        resident.append(measure.rss())
    return peaks, alive, resident


def live_bytes() -> int:
    """Bytes of all tensors that can be reached, each storage once."""
    storages = {}
    for thing in gc.get_objects():
        # Not isinstance, which asks lazy objects of other packages what they are.
        if issubclass(type(thing), torch.Tensor) and thing.device.type != "meta":
            storage = thing.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())
