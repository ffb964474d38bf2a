"""Runs tests/host inside real ComfyUIs and tests/sd_scripts inside sd-scripts, with their own interpreters; every test
there is a subtest here.

benchmarks/comfyuis.py finds the ComfyUIs.  sd-scripts is named in SD_SCRIPTS_PATH, else beside the project, else in
~/sd-scripts.
"""

import os
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from benchmarks.comfyuis import HOSTS, interpreter, is_host

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 1800
PROBE = "import einops, pytest, safetensors, torch, aiohttp"
SD_SCRIPTS_PROBE = "import accelerate, diffusers, einops, pytest, safetensors, torch, transformers"
"""What the host's interpreter must be able to do."""


def sd_scripts() -> Path | None:
    if named := os.environ.get("SD_SCRIPTS_PATH"):
        return Path(named).expanduser()
    around = (ROOT.parent / "sd-scripts", Path("~/sd-scripts").expanduser())
    return next((folder for folder in around if is_sd_scripts(folder)), None)


def is_sd_scripts(folder: Path) -> bool:
    return (folder / "flux_train_network.py").is_file() and (folder / "networks" / "lora_flux.py").is_file()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each host leaves the latents it sampled here, in NAME.safetensors."""
    return tmp_path_factory.mktemp("hosts")


@pytest.mark.skipif(not HOSTS, reason="NO COMFYUI FOUND, SO THE NODES WERE NOT TESTED: set COMFYUI_PATH to its folder")
@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_host(host: Path, results: Path, subtests: pytest.Subtests, capsys: pytest.CaptureFixture[str]) -> None:
    assert is_host(host), f"COMFYUI_PATH names {host}, which is no ComfyUI folder"
    report = results / f"{host.name}.xml"
    environment = {"COMFYUI_PATH": str(host), "HOST_RESULTS": str(results / f"{host.name}.safetensors")}
    run_inside(host, PROBE, "tests/host", report, environment, subtests, capsys)


@pytest.mark.skipif(
    sd_scripts() is None,
    reason="NO SD-SCRIPTS FOUND, SO THE NETWORK MODULE WAS NOT TESTED IN IT: set SD_SCRIPTS_PATH to its folder",
)
def test_sd_scripts(results: Path, subtests: pytest.Subtests, capsys: pytest.CaptureFixture[str]) -> None:
    host = sd_scripts()
    assert host is not None
    assert is_sd_scripts(host), f"SD_SCRIPTS_PATH names {host}, which is no sd-scripts folder"
    environment = {"SD_SCRIPTS_PATH": str(host)}
    run_inside(host, SD_SCRIPTS_PROBE, "tests/sd_scripts", results / "sd_scripts.xml", environment, subtests, capsys)


def run_inside(
    host: Path,
    probe: str,
    tests: str,
    report: Path,
    environment: dict[str, str],
    subtests: pytest.Subtests,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Run a folder of tests in the host's interpreter, each a subtest; skip where `probe` fails there."""
    python = interpreter(host, probe)
    if python is None:
        pytest.skip(f"{tests} DID NOT RUN: the Python of {host} can't run `{probe}`; pip install pytest there")
    command = [python, "-m", "pytest", ROOT / tests, f"--junitxml={report}"]
    with capsys.disabled():
        print(f"\nin {host}:", flush=True)
        code = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, timeout=SECONDS).returncode
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
