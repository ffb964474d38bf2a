"""One ComfyUI server for the session."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from safetensors.torch import save_file
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from . import in_process  # noqa: E402  (needs the path above)
from .server import Host, prepare  # noqa: E402


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    base = tmp_path_factory.mktemp("comfyui")
    prepare(base)
    server = Host(Path(os.environ["COMFYUI_PATH"]).expanduser(), base)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def compared() -> Iterator[dict[str, Tensor]]:
    """Tensors that every version of ComfyUI must agree on; tests/test_hosts.py compares what versions leave behind."""
    tensors: dict[str, Tensor] = {}
    yield tensors
    if tensors and "HOST_RESULTS" in os.environ:
        save_file(tensors, os.environ["HOST_RESULTS"])


@pytest.fixture
def record(record_property: Callable[[str, object], None]) -> Iterator[dict[str, float]]:
    """Numbers a test measured: `record["what"] = value` prints them with -s and keeps them in the XML report."""
    numbers: dict[str, float] = {}
    yield numbers
    for name, value in numbers.items():
        record_property(name, value)
        print(f"{name}: {value:.3g}")


@pytest.fixture(scope="session")
def comfy() -> ModuleType:
    return in_process.import_host()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("in_process")
    in_process.save_files(path)
    return path


@pytest.fixture
def base(comfy: Any, folder: Path) -> Iterator[Any]:
    """A FLUX that nothing else has loaded."""
    yield in_process.load(comfy, folder / "flux.safetensors")
    comfy.model_management.unload_all_models()
