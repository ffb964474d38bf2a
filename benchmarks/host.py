"""Tables that are measured inside a real ComfyUI, with its interpreter."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from .comfyuis import HOSTS, interpreter
from .measure import ROOT
from .report import Table

PROBE = "import einops, safetensors, torch, aiohttp"
MISSING = "no ComfyUI that can be run was found; set COMFYUI_PATH to its folder"


def table(name: str, size: str, rounds: int, stored: str = "-", device: str = "cpu") -> Table:
    """A table of inside.py.  FileNotFoundError without a ComfyUI; RuntimeError with what it says when it fails."""
    folder = HOSTS[0] if HOSTS else None
    python = interpreter(folder, PROBE) if folder else None
    if folder is None or python is None:
        raise FileNotFoundError(MISSING)
    with TemporaryDirectory() as temporary:
        out = Path(temporary, "table.json")
        command = [str(python), "-m", "benchmarks.inside", name, size, str(rounds), stored, device, str(out)]
        # ComfyUI's folder is searched first: `nodes` is its own.
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)  # noqa: S603
        if done.returncode:
            raise RuntimeError(f"{name} failed inside ComfyUI:\n{done.stderr}")
        return Table(**json.loads(out.read_text(encoding="utf-8")))


def version() -> str:
    """ComfyUI's version; empty without one."""
    file = HOSTS[0] / "comfyui_version.py" if HOSTS else None
    if file is None or not file.exists():
        return ""
    return file.read_text(encoding="utf-8").partition('"')[2].partition('"')[0]
