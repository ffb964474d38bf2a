"""ComfyUI's own loading and sampling, and this pack's nodes, without a server.  Runs inside ComfyUI's interpreter with
its folder as the current one, so that `nodes` is the host's.  See host.py."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.options

comfy.options.enable_args_parsing(False)

from comfy.cli_args import args  # noqa: E402  (before anything of the host asks for a device)

args.cpu = "cuda" not in sys.argv

import comfy.model_management  # noqa: E402
import comfy.sample  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.utils  # noqa: E402
import folder_paths  # noqa: E402
import torch  # noqa: E402
from comfy.model_patcher import ModelPatcher  # noqa: E402
from comfy.patcher_extension import WrappersMP  # noqa: E402

from makeanything.asymmetric_lora import AsymmetricLora, extract  # noqa: E402

from .measure import ROOT  # noqa: E402
from .models import NANO, Size, lora_shapes, weights, write  # noqa: E402

PACK = "makeanything_pack"
NANO_HEADS = "flux_nano_heads_9f.safetensors"
HEADS = 10
LORAS = 4
STRENGTH = 0.7
WAYS = ("patch", "branch")


def load_pack() -> dict[str, Any]:
    """This pack's nodes by their id, loaded as ComfyUI loads them."""
    found = importlib.util.spec_from_file_location(PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert found is not None and found.loader is not None
    module = sys.modules[PACK] = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)

    async def list_nodes() -> list[Any]:
        return await (await module.comfy_entrypoint()).get_node_list()

    return {node.define_schema().node_id: node for node in asyncio.run(list_nodes())}


class Clock:
    """Seconds of all calls of the functions that it wraps."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*inputs: Any, **more: Any) -> Any:
            start = time.perf_counter()
            result = function(*inputs, **more)
            self.seconds += time.perf_counter() - start
            return result

        return timed


class Watch:
    """Notes when each step of a sampling begins, and how long it is in this pack's own code: in what wraps a step, and
    in the hooks of the model's layers.  A GPU runs behind, so there only the beginnings mean something."""

    def __init__(self, hooks: Clock) -> None:
        self.times: list[float] = []
        self.own: list[float] = []
        self._hooks, self._inside = hooks, Clock()

    def _outside(self, executor: Any, *inputs: Any, **more: Any) -> Any:
        self.times.append(now())
        before = self._own_now()
        result = executor(*inputs, **more)
        self.own.append(self._own_now() - before)
        return result

    def _own_now(self) -> float:
        """Grows with the time that passes, less that of the model, of which the hooks are the pack's again."""
        return time.perf_counter() - self._inside.seconds + self._hooks.seconds

    def on(self, model: ModelPatcher) -> ModelPatcher:
        """A clone of the model with a wrapper outside all others and one inside them."""
        model = model.clone()
        wrappers = model.wrappers.get(WrappersMP.PREDICT_NOISE, {})
        inner = lambda executor, *inputs, **more: self._inside.wrap(executor)(*inputs, **more)  # noqa: E731
        model.wrappers[WrappersMP.PREDICT_NOISE] = {"outer": [self._outside], **wrappers, "inner": [inner]}
        return model


def now() -> float:
    """Seconds; the device has finished what it was given."""
    if not args.cpu:
        torch.cuda.synchronize()
    return time.perf_counter()


class Lab:
    """A FLUX of a size in ComfyUI, files of heads and LoRAs for it in `folder`, and the nodes that apply them."""

    count = HEADS

    def __init__(self, size: Size, folder: Path, stored: str = "") -> None:
        """`stored` names the type the model's weights are kept in; without it, the files'."""
        self.size, self.stored, self.nodes, self.on_gpu = size, stored, load_pack(), not args.cpu
        self.stock = importlib.import_module("nodes").LoraLoaderModelOnly
        self.hooks = self._time_hooks()
        folder_paths.add_model_folder_path("loras", str(folder), is_default=True)
        folder_paths.set_temp_directory(str(folder / "temp"))
        self.base = self.load()
        self.dtype = self.base.model.manual_cast_dtype or self.base.model.get_dtype()
        self.heads = self._heads(folder)
        path = folder_paths.get_full_path_or_raise("loras", self.heads)
        self.lora = AsymmetricLora.open(path)
        self.domains = [domain.name for domain in self.lora.domains]
        self.loras = [f"lora_{number}.safetensors" for number in range(LORAS)]
        for number, name in enumerate(self.loras):
            write(lora_shapes(size, 0), folder / name, seed=number)
        self._extract(folder)
        vec = torch.randn(1, size.params.vec_in_dim)
        self.conditioning = [[torch.randn(1, size.text, size.params.context_in_dim), {"pooled_output": vec}]]

    def load(self) -> ModelPatcher:
        """The FLUX as ComfyUI's loader gives it."""
        options = {"dtype": getattr(torch, self.stored)} if self.stored else {}
        return comfy.sd.load_diffusion_model_state_dict(self._weights(), model_options=options)

    def _time_hooks(self) -> Clock:
        branch, clock = sys.modules[f"{PACK}.makeanything.branch"].Branch, Clock()
        branch.hook = clock.wrap(branch.hook)
        return clock

    def _extract(self, folder: Path) -> None:
        for domain in self.domains[:2]:
            extract(self.lora, domain, folder / self.extracted(domain))

    def _weights(self) -> dict[str, torch.Tensor]:
        if self.size is NANO:
            return comfy.utils.load_torch_file(str(ROOT / "models/diffusion_models/flux_nano.safetensors"))
        return weights(self.size, "cpu" if args.cpu else "cuda")

    def _heads(self, folder: Path) -> str:
        if self.size is NANO:
            return NANO_HEADS
        write(lora_shapes(self.size, self.count), folder / "heads.safetensors")
        return "heads.safetensors"

    def extracted(self, domain: str) -> str:
        return f"extracted {domain}.safetensors"

    def head(self, way: str, domain: str, strength: float = 1.0, model: ModelPatcher | None = None) -> ModelPatcher:
        """Apply Domain Head."""
        node = self.nodes["MakeAnythingApplyDomainHead"]
        return node.execute(model or self.base, self.heads, domain, strength, apply=way)[0]

    def mix(self, way: str, first: float) -> ModelPatcher:
        """Mix Domain Heads: this share of one domain, the rest of another."""
        rows = {f"domain_{row}": self.domains[row % 2] for row in range(1, 5)}
        shares = {"weight_1": first, "weight_2": 1 - first, "weight_3": 0.0, "weight_4": 0.0}
        node = self.nodes["MakeAnythingMixDomainHeads"]
        return node.execute(self.base, self.heads, 1.0, apply=way, **rows, **shares)[0]

    def stack(self, way: str, model: ModelPatcher, count: int) -> ModelPatcher:
        """LoRA Stack with that many LoRAs."""
        rows: dict[str, Any] = {}
        for row in range(1, 6):
            name = self.loras[row - 1] if row <= count else "none"
            rows |= {f"on_{row}": True, f"lora_{row}": name, f"model_{row}": STRENGTH, f"clip_{row}": 0.0}
        return self.nodes["MakeAnythingLoraStack"].execute(model=model, apply=way, **rows)[0]

    def recraft(self, model: ModelPatcher) -> ModelPatcher:
        """The ReCraft node, holding the last of 9 frames."""
        file = comfy.utils.load_torch_file(str(ROOT / "models/vae/flux_nano_ae.safetensors"))
        inputs = {"layout": {"layout": "9 frames (3x3)"}, "frame": 0, "start_percent": 0.0, "end_percent": 1.0}
        latent = {"samples": self.latents(self.size.edge)}
        picture = torch.rand(1, self.size.edge // 3, self.size.edge // 3, 3)
        node = self.nodes["MakeAnythingReCraft"]
        return node.execute(model=model, vae=comfy.sd.VAE(sd=file), image=picture, latent=latent, **inputs)[0]

    def latents(self, edge: int) -> torch.Tensor:
        return torch.zeros(1, 16, edge // 8, edge // 8)

    def sample(self, model: ModelPatcher, steps: int, edge: int) -> Watch:
        """What was noted of a sampling with euler."""
        watch = Watch(self.hooks)
        noise = torch.randn_like(latents := self.latents(edge))
        cond = self.conditioning
        settings = (steps, 1.0, "euler", "simple", cond, cond)
        comfy.sample.sample(watch.on(model), noise, *settings, latents, disable_pbar=True, seed=0)
        return watch
