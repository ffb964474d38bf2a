"""Table 1: one head out of a file of many: seconds, bytes from the disk, peak memory."""

from __future__ import annotations

import math
import shutil
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from makeanything.asymmetric_lora import AsymmetricLora

from . import measure
from .measure import Reading, in_child
from .models import FULL, Size, lora_shapes, write
from .report import Table, mebibytes, milliseconds, verdict

HEAD = 5
"""Neither the first nor the last of 10 or 21."""


def pack(path: Path) -> object:
    return AsymmetricLora.open(path).select(HEAD + 1)


def lazy(path: Path) -> object:
    """The same tensors through safetensors' own reader, which maps the file into memory; a sum touches every page."""
    with safe_open(path, framework="pt") as file:
        state = {key: file.get_tensor(key) for key in file.keys() if _kept(key)}  # noqa: SIM118
    return state, [tensor.sum() for tensor in state.values()]


def whole(path: Path) -> object:
    return AsymmetricLora.open(path).read()


def split_step(path: Path) -> object:
    """What the authors' script does: take up every tensor, keep one head, write it as a file of its own."""
    with safe_open(path, framework="pt") as file:
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    kept = {key.replace(f"lora_ups.{HEAD}.", "lora_up."): tensor for key, tensor in state.items() if _kept(key)}
    save_file(kept, path.with_name("split.safetensors"))
    return kept


def _kept(key: str) -> bool:
    return ".lora_ups." not in key or f".lora_ups.{HEAD}." in key


CASES: dict[str, Callable[[Path], object]] = {
    "one head, this pack": pack,
    "one head, safetensors' reader": lazy,
    "every head": whole,
    "one head, the authors' split step": split_step,
}


def table(rounds: int, size: Size = FULL, counts: Sequence[int] = (10, 21)) -> Table:
    """Makes a file of each number of heads in the temporary folder (8.4 GB at full size); OSError without room."""
    columns = ("", "ms cold", "ms warm", "MiB from disk", "of one head", "peak MiB", "of one head")
    found = Table(f"1. One head out of a file (bfloat16, rank {size.rank}, width {size.params.hidden_size})", columns)
    for count in counts:
        with TemporaryDirectory() as folder:
            path = Path(folder, "heads.safetensors")
            _fill(found, path, lora_shapes(size, count), count, rounds)
    found.notes.append(
        "Cold: the file is dropped from the page cache first. Warm: the second time in a process. Bytes from the disk "
        "are what the system fetched for the process, its read-ahead too. A peak counts pages of mapped files; it and "
        "the bytes are of the cold run. Medians; each run has a process of its own."
    )
    return found


def _fill(found: Table, path: Path, shapes: dict[str, tuple[int, ...]], count: int, rounds: int) -> None:
    total = _bytes(shapes)
    own = _bytes({key: shape for key, shape in shapes.items() if _kept(key)})
    if shutil.disk_usage(path.parent).free < (room := int(1.2 * (total + own))):
        raise OSError(f"{path.parent} has too little room: {mebibytes(room)} MiB are needed; name another in TMPDIR")
    write(shapes, path)
    found.rows.append((f"*{count} heads: {mebibytes(total)} MiB, of one head {mebibytes(own)} MiB*", *[""] * 6))
    readings: dict[str, tuple[list[Reading], list[Reading]]] = {name: ([], []) for name in CASES}
    for number in range(rounds):
        for name, (cold, warm) in readings.items():
            # Whole files take long, and vary little.
            if number == 0 or CASES[name] in (pack, lazy):
                measure.forget(path)
                cold.append(in_child(__name__, name, path, "once"))
                warm.append(in_child(__name__, name, path, "again"))
    for name, (cold, warm) in readings.items():
        disk, peak = (statistics.median(getattr(reading, what) for reading in cold) for what in ("disk", "peak"))
        times = (milliseconds(statistics.median(reading.seconds for reading in runs)) for runs in (cold, warm))
        found.rows.append((name, *times, mebibytes(disk), f"{disk / own:.2f}", mebibytes(peak), f"{peak / own:.2f}"))
        if CASES[name] is pack:
            found.notes.append(verdict(f"of {count} heads one is read with its own bytes x", disk / own, 1.1))
            found.notes.append(verdict(f"the peak of reading one of {count} heads is its own bytes x", peak / own, 1.2))


def _bytes(shapes: dict[str, tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for shape in shapes.values()) * torch.bfloat16.itemsize


if __name__ == "__main__":
    case, file = CASES[sys.argv[1]], Path(sys.argv[2])
    if sys.argv[3] == "again":
        case(file)
    measure.tell(measure.measured(lambda: case(file)))
