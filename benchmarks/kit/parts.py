"""`python -m benchmarks.kit.parts PART SIZE DEVICE OUT`: run.py's child.  Imports what the part needs, says "ready",
waits for a line with the seconds it may take, and measures.
"""

from __future__ import annotations

import importlib
import logging
import runpy
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from . import stubs

TRAINING = {
    "full": ["--full", "--idle", "--blocks", "2", "4", "--rounds", "6"],
    "tiny": ["--idle", "--blocks", "1", "1", "--rounds", "1"],
}
"""Arguments of training.bench."""
NEEDED = {
    "inference": ["benchmarks.lab", "nodes", "server", "benchmarks.kit.inference"],
    "compiled": ["benchmarks.lab", "nodes", "server", "benchmarks.kit.other_flux"],
    "dynamic": ["benchmarks.lab", "nodes", "server", "benchmarks.kit.other_flux"],
    "training": ["library.flux_models", "networks.lora_flux"],
}
"""The lab comes first: it tells ComfyUI which device to use."""


def main() -> None:
    part, size, _, out = sys.argv[1:]
    if part == "dynamic":
        # Before torch, as ComfyUI does.
        importlib.import_module("comfy_aimdo.control").init()
    stubs.install()
    logging.disable(logging.INFO)
    modules = [importlib.import_module(name) for name in NEEDED[part]]
    print(f"ready; stand-ins: {', '.join(stubs.used()) or 'none'}", flush=True)
    seconds = float(sys.stdin.readline())
    if part == "training":
        _train(size, Path(out), seconds)
        return
    import torch

    torch.manual_seed(0)
    end = time.monotonic() + seconds
    measure = getattr(modules[-1], "measure" if part == "inference" else part)
    with TemporaryDirectory() as folder, torch.inference_mode():
        measure(size, Path(folder), Path(out), lambda: time.monotonic() < end)


def _train(size: str, out: Path, seconds: float) -> None:
    more = ["--seconds", str(seconds), "--json", str(out / "training.json")]
    sys.argv = ["training.bench", *TRAINING[size], *more]
    runpy.run_module("training.bench", run_name="__main__")


if __name__ == "__main__":
    main()
