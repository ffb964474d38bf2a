"""A real ComfyUI server on the CPU, for tests.

    def test_something(host):                        # the running server, one for the session (conftest.py)
        g = Graph()
        model = g.flux()                             # a tiny FLUX with random weights, from the stock UNETLoader
        vae = g.vae()                                # a tiny VAE with random weights, from the stock VAELoader
        latent = g.add("EmptySD3LatentImage", width=96, height=96, batch_size=1)
        g.probe("z", g.sample(model[0], latent[0]))  # saves what arrives: tensor, LATENT, MODEL's weight, text, number
        out = host.run(g)                            # HostError with the host's text when the graph fails
        out["z"]                                     # a Tensor for tensors and latents, else the JSON value

    assert "sentence" in host.fails(g)               # the text of the error, from /prompt or from the execution

`g.add(class_type, **inputs)` returns a node; `node[0]` is its first output.  Inputs of dynamic nodes have dots in their
names: `g.add("MakeAnythingEmptyGrid", **{"layout": "custom", "layout.rows": 1, "layout.cols": 2}, cell=32, batch=1)`.
More nodes in test_pack/: TestConditioning(seed), TestImage(seed, height, width, batch, channels=3), TestClip(seed),
TestWeight(model, key) (a weight of a MODEL or CLIP as it is used, patches merged),
TestOtherModel(kind="SDXL", latents="SDXL").
Other fixtures: `record["what"] = number` keeps a measured number; `compared["name"] = tensor` is held against the same
tensor of other versions of ComfyUI.
`host.base` is the server's folder: models/loras and the like may be written to while it runs.  `host.log()` is its log.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from . import tiny

ROOT = Path(__file__).resolve().parents[2]
PACK = "ComfyUI-MakeAnything"
TEST_PACK = "makeanything_test_pack"
FLUX, WIDER_FLUX, VAE = "tiny_flux.safetensors", "wider_flux.safetensors", "tiny_vae.safetensors"
POLL = 0.03
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


class HostError(RuntimeError):
    """The host refused or failed a graph; the text is what it says."""


class Node:
    def __init__(self, number: str) -> None:
        self.number = number

    def __getitem__(self, output: int) -> list[Any]:
        return [self.number, output]


class Graph:
    """A workflow in the host's API form."""

    def __init__(self) -> None:
        self.nodes: dict[str, dict[str, Any]] = {}

    def add(self, class_type: str, **inputs: Any) -> Node:
        number = str(len(self.nodes) + 1)
        self.nodes[number] = {"class_type": class_type, "inputs": inputs}
        return Node(number)

    def probe(self, name: str, value: list[Any]) -> None:
        """Save what arrives at `value`; `Host.run` returns it under `name`."""
        self.add("TestProbe", name=name, value=value)

    def flux(self, name: str = FLUX) -> Node:
        return self.add("UNETLoader", unet_name=name, weight_dtype="default")

    def vae(self) -> Node:
        return self.add("VAELoader", vae_name=VAE)

    def conditioning(self, seed: int = 1) -> Node:
        return self.add("TestConditioning", seed=seed)

    def sample(self, model: list[Any], latent: list[Any], **options: Any) -> list[Any]:
        """LATENT of a stock KSampler: 3 euler steps, cfg 1, unless told otherwise."""
        inputs = {"seed": 7, "steps": 3, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
        inputs["positive"] = options.pop("positive", None) or self.conditioning(1)[0]
        inputs["negative"] = options.pop("negative", None) or self.conditioning(2)[0]
        return self.add("KSampler", model=model, latent_image=latent, **{**inputs, **options})[0]


class Host:
    """A running server, in `python`, the host's interpreter; `url` has no slash at its end."""

    def __init__(self, comfyui: Path, base: Path, python: str | Path = sys.executable) -> None:
        self.comfyui, self.base, self.python = comfyui, base, python
        self._log = base / "server.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self, seconds: float = 300.0) -> None:
        """Start and wait until it answers."""
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [str(self.python), "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(port)]
        command += ["--base-directory", str(self.base), "--database-url", f"sqlite:///{self.base}/user/comfyui.db"]
        command += ["--disable-auto-launch", "--disable-api-nodes", "--disable-all-custom-nodes"]
        command += ["--whitelist-custom-nodes", PACK, TEST_PACK]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=self.comfyui, stdout=log, stderr=log)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise HostError(f"ComfyUI stopped with code {self.process.returncode} while starting:\n{self.log()}")
            try:
                self.get("/queue")
                return
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        raise HostError(f"ComfyUI did not answer in {seconds:.0f} s:\n{self.log()}")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def log(self) -> str:
        return _ANSI.sub("", self._log.read_text(errors="replace"))

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return json.load(answer)

    def post(self, path: str, body: Any) -> bytes:
        """The answer to a JSON body."""
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    def run(self, graph: Graph, seconds: float = 120.0) -> Probes:
        """Run a graph to its end; what its probes saw."""
        number = self._submit(graph)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            entry = self.get(f"/history/{number}").get(number)
            if entry is not None:
                return self._finished(entry)
            if self.process is not None and self.process.poll() is not None:
                raise HostError(f"ComfyUI died:\n{self.log()[-4000:]}")
            time.sleep(POLL)
        raise HostError(f"the graph did not finish in {seconds:.0f} s:\n{self.log()[-4000:]}")

    def fails(self, graph: Graph) -> str:
        """The text of the error a graph ends in; AssertionError if it ends well."""
        try:
            self.run(graph)
        except HostError as error:
            return str(error)
        raise AssertionError("the graph ran without an error")

    def _submit(self, graph: Graph) -> str:
        try:
            reply = json.loads(self.post("/prompt", {"prompt": graph.nodes}))
        except urllib.error.HTTPError as error:
            reply = json.loads(error.read())
        # With several outputs the host runs those that are valid and only reports the others.
        if reply.get("node_errors") or "prompt_id" not in reply:
            raise HostError(_refusal(reply))
        return reply["prompt_id"]

    def _finished(self, entry: Mapping[str, Any]) -> Probes:
        for kind, message in entry["status"]["messages"]:
            if kind == "execution_error":
                raise HostError(f"{message['node_type']}: {message['exception_message'].strip()}")
        if entry["status"]["status_str"] != "success":
            raise HostError(json.dumps(entry["status"]))
        found = [name for output in entry["outputs"].values() for name in output.get("probes", ())]
        return Probes(self.base / "output", found, entry["outputs"])


class Probes(dict[str, Any]):
    """What the probes of a run saw, by name; `outputs` is the host's own record of the output nodes."""

    def __init__(self, folder: Path, names: list[str], outputs: Mapping[str, Any]) -> None:
        super().__init__({Path(name).stem: _read(folder / name) for name in names})
        self.outputs = outputs


def _read(path: Path) -> Any:
    return load_file(path)["value"] if path.suffix == ".safetensors" else json.loads(path.read_text())


def _refusal(reply: Mapping[str, Any]) -> str:
    errors = [error for node in reply.get("node_errors", {}).values() for error in node["errors"]]
    if errors:
        return "\n".join(f"{error['message']}: {error['details']}" for error in errors)
    return json.dumps(reply)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def prepare(base: Path) -> None:
    """Folders, tiny models and both packs in `base`.  The pack lies in a folder named as people clone it."""
    models = ("models/loras", "models/vae", "models/diffusion_models")
    for folder in ("custom_nodes", *models, "input", "output", "temp", "user"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    (base / "custom_nodes" / PACK).symlink_to(ROOT, target_is_directory=True)
    (base / "custom_nodes" / TEST_PACK).symlink_to(ROOT / "tests/host/test_pack", target_is_directory=True)
    save_file(tiny.flux(tiny.PARAMS), base / "models/diffusion_models" / FLUX)
    save_file(tiny.flux(tiny.WIDER), base / "models/diffusion_models" / WIDER_FLUX)
    save_file(tiny.vae(), base / "models/vae" / VAE)
