"""What the kit holds: Python sources of ComfyUI, of sd-scripts and of this project, and packages the machine lacks."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from makeanything.saving import atomic, make_folder

from ..measure import ROOT
from .fatbin import keep_only

LIMIT = 28 * 2**20
"""Bytes of the kit."""
HOST = (
    "*.py",
    *(
        f"{name}/**/*.py"
        for name in "api_server app comfy comfy_api comfy_config comfy_execution comfy_extras middleware utils".split()
    ),
)
"""Of ComfyUI: neither its web interface, nor the tokenizers, nor nodes that are not timed."""
OWN = ("__init__.py", *(f"{name}/**/*.py" for name in ("benchmarks", "makeanything", "nodes", "training")))
VAE = "models/vae/flux_nano_ae.safetensors"
"""ReCraft's node encodes the picture with it."""
SD_SCRIPTS = ("train_network.py", "flux_train_network.py", "library/**/*.py", "networks/**/*.py")
WHEELS = ("comfy-kitchen", "comfy-aimdo")
CUDA = "comfy_kitchen/backends/cuda/_C.abi3.so"
LEFT_OUT = "comfy_kitchen/backends/hip/_C.abi3.so"
"""Programs for AMD's cards."""
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux1_x86_64")


def pack(folder: Path, host: Path, sd_scripts: Path | None, python: str, arch: int, wheels: bool) -> int:
    """Write kit.tar.xz and run.py; their bytes.  ValueError when they are more than LIMIT; OSError when pip fails."""
    archive, runner = folder / "kit.tar.xz", folder / "run.py"
    source = Path(__file__).with_name("run.py")
    if folder.resolve() == ROOT:
        raise ValueError("a kit does not lie in the project's own folder; name another one")
    if runner.exists() and runner.read_bytes() != source.read_bytes() and not archive.exists():
        raise ValueError(f"{folder} has a run.py that is not the kit's; name another folder")
    make_folder(folder)
    with atomic(archive) as temporary, tarfile.open(temporary, "w:xz") as out:
        _add(out, "ComfyUI", host, HOST)
        _add(out, "repository", ROOT, (*OWN, VAE))
        if sd_scripts:
            _add(out, "sd-scripts", sd_scripts, SD_SCRIPTS)
        if wheels:
            for name, content in _packages(host, python, arch):
                info = tarfile.TarInfo(f"site/{name}")
                info.size = len(content)
                out.addfile(info, io.BytesIO(content))
    with atomic(runner) as temporary:
        shutil.copyfile(source, temporary)
    size = sum(path.stat().st_size for path in (archive, runner))
    if size > LIMIT:
        raise ValueError(f"the kit is of {size / 2**20:.1f} MiB; at most {LIMIT / 2**20:.0f} are allowed")
    return size


def _add(out: tarfile.TarFile, name: str, root: Path, patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        for path in sorted(root.glob(pattern)):
            out.add(path, f"{name}/{path.relative_to(root).as_posix()}")


def _packages(host: Path, python: str, arch: int) -> Iterator[tuple[str, bytes]]:
    """Files of the packages in WHEELS, in the versions that this ComfyUI asks for."""
    required = (host / "requirements.txt").read_text(encoding="utf-8")
    names = [re.search(rf"^{name}\b.*$", required, re.M) for name in WHEELS]
    wanted = [found.group().strip() for found in names if found]
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--implementation", "cp", "--python-version", python, "--dest", folder]
        command += [f"--platform={platform}" for platform in PLATFORMS]
        done = subprocess.run([*command, *wanted], capture_output=True, text=True)  # noqa: S603
        if done.returncode:
            raise OSError(f"pip could not bring {', '.join(wanted)}:\n{done.stderr}")
        for wheel in sorted(Path(folder).glob("*.whl")):
            with zipfile.ZipFile(wheel) as files:
                for name in files.namelist():
                    if name not in (LEFT_OUT,) and not name.endswith("/"):
                        content = files.read(name)
                        yield name, keep_only(content, arch) if name == CUDA else content
