"""The ComfyUIs that benchmarks and tests run in.

Those named in COMFYUI_PATH (several are separated as in PATH), else the one whose custom_nodes this pack lies in, else
~/ComfyUI.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def is_host(folder: Path) -> bool:
    return (folder / "main.py").is_file() and (folder / "comfy" / "model_base.py").is_file()


def named() -> list[Path]:
    return [Path(path).expanduser() for path in os.environ.get("COMFYUI_PATH", "").split(os.pathsep) if path]


def found() -> list[Path]:
    around = [ROOT.parents[1]] if ROOT.parent.name == "custom_nodes" and len(ROOT.parents) > 1 else []
    return named() or [folder for folder in (*around, Path("~/ComfyUI").expanduser()) if is_host(folder)][:1]


HOSTS = found()


def interpreter(host: Path, probe: str) -> Path | None:
    """The host's Python, if it can run `probe`."""
    own = [host / venv / name for venv in (".venv", "venv") for name in ("bin/python", "Scripts/python.exe")]
    for python in [path for path in own if path.exists()][:1] or [Path(sys.executable)]:
        if subprocess.run([python, "-c", probe], capture_output=True).returncode == 0:  # noqa: S603
            return python
    return None
