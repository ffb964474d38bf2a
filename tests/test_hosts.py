"""Runs tests/host inside real ComfyUIs, each with its own interpreter; every test there is a subtest here.

Hosts are the folders named in COMFYUI_PATH (several are separated as in PATH), else the ComfyUI whose custom_nodes this
pack lies in, else ~/ComfyUI.
"""

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 1800
PROBE = "import einops, pytest, safetensors, torch, aiohttp"
"""What the host's interpreter must be able to do."""


def is_host(folder: Path) -> bool:
    return (folder / "main.py").is_file() and (folder / "comfy" / "model_base.py").is_file()


def named() -> list[Path]:
    return [Path(path).expanduser() for path in os.environ.get("COMFYUI_PATH", "").split(os.pathsep) if path]


def found() -> list[Path]:
    around = [ROOT.parents[1]] if ROOT.parent.name == "custom_nodes" and len(ROOT.parents) > 1 else []
    return named() or [folder for folder in (*around, Path("~/ComfyUI").expanduser()) if is_host(folder)][:1]


HOSTS = found()


def interpreter(host: Path) -> Path | None:
    """The host's Python, if it has what the tests import."""
    own = [host / venv / name for venv in (".venv", "venv") for name in ("bin/python", "Scripts/python.exe")]
    for python in [path for path in own if path.exists()][:1] or [Path(sys.executable)]:
        if subprocess.run([python, "-c", PROBE], capture_output=True).returncode == 0:
            return python
    return None


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each host leaves the latents it sampled here, in NAME.safetensors."""
    return tmp_path_factory.mktemp("hosts")


@pytest.mark.skipif(not HOSTS, reason="NO COMFYUI FOUND, SO THE NODES WERE NOT TESTED: set COMFYUI_PATH to its folder")
@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_host(host: Path, results: Path, subtests: pytest.Subtests, capsys: pytest.CaptureFixture[str]) -> None:
    assert is_host(host), f"COMFYUI_PATH names {host}, which is no ComfyUI folder"
    python = interpreter(host)
    if python is None:
        pytest.skip(f"THE NODES WERE NOT TESTED: the Python of {host} can't run `{PROBE}`; pip install pytest there")
    report = results / f"{host.name}.xml"
    command = [python, "-m", "pytest", ROOT / "tests/host", f"--junitxml={report}"]
    environment = {**os.environ, "COMFYUI_PATH": str(host), "HOST_RESULTS": str(results / f"{host.name}.safetensors")}
    with capsys.disabled():
        print(f"\nin {host}:", flush=True)
        code = subprocess.run(command, cwd=ROOT, env=environment, timeout=SECONDS).returncode
    cases = list(inner_tests(report))
    for name, problem, skipped in cases:
        with subtests.test(msg=name):
            if skipped:
                pytest.skip(skipped)
            assert problem is None, problem
    assert cases
    assert code == 0, f"the tests in {host} ended with code {code}"


def inner_tests(report: Path) -> Iterator[tuple[str, str | None, str | None]]:
    """(name, problem or None, reason for a skip or None) of every test in a JUnit report."""
    if not report.exists():
        return
    for case in ET.parse(report).getroot().iter("testcase"):
        problem = case.find("failure") if case.find("failure") is not None else case.find("error")
        skipped = case.find("skipped")
        yield (
            f"{case.get('classname', '').removeprefix('host.')}::{case.get('name')}",
            None if problem is None else problem.text or problem.get("message"),
            None if skipped is None else skipped.get("message"),
        )


def test_hosts_agree(results: Path) -> None:
    """The same graphs give the same latents in every version of ComfyUI."""
    files = sorted(results.glob("*.safetensors"))
    if len(files) < 2:
        pytest.skip("one ComfyUI at most, so versions were not compared: name two in COMFYUI_PATH")
    first, *others = map(load_file, files)
    assert first
    for other in others:
        assert first.keys() == other.keys()
        worst = {name: (other[name] - latents).abs().max().item() for name, latents in first.items()}
        print(f"largest differences between versions: {worst}")
        assert max(worst.values()) < 1e-4
