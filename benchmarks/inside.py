"""`python -m benchmarks.inside TABLE SIZE ROUNDS STORED DEVICE FILE`, in ComfyUI's interpreter: a table as JSON."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from . import lab, memory, models, steps, switching
from .report import Table


def main() -> None:
    name, size, rounds, stored, _, out = sys.argv[1:]
    logging.disable(logging.INFO)
    torch.manual_seed(0)
    with TemporaryDirectory() as folder, torch.inference_mode():
        made = lab.Lab(getattr(models, size), Path(folder), "" if stored == "-" else stored)
        Path(out).write_text(json.dumps(measure(name, made, int(rounds)).to_json()), encoding="utf-8")


def measure(name: str, made: lab.Lab, rounds: int) -> Table:
    if name == "memory":
        return memory.table(made)
    return {"switch": switching, "steps": steps}[name].table(made, rounds)


if __name__ == "__main__":
    main()
