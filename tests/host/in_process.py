"""ComfyUI in the tests' own process, without its server: what a test does to a MODEL.  conftest.py has the fixtures.

`comfy` is the host's package, `folder` holds flux.safetensors, heads.safetensors, others.safetensors (other heads) and
plain.safetensors (an ordinary LoRA), and `base` is a MODEL of that FLUX.
"""

from __future__ import annotations

import importlib
import os
import sys
import types
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from makeanything.asymmetric_lora import AsymmetricLora

from . import tiny
from .server import ROOT

CLOSE = 1e-5
"""Of float32 latents, relative to their size."""
PACK = "makeanything_in_process"


def import_host() -> types.ModuleType:
    """`comfy`, and the pack's modules that need no server under PACK."""
    sys.path.insert(0, str(Path(os.environ["COMFYUI_PATH"]).expanduser()))
    try:
        options = importlib.import_module("comfy.options")
        options.enable_args_parsing(False)
        importlib.import_module("comfy.cli_args").args.cpu = True
        for name in ("sample", "sd", "model_management", "model_patcher", "quant_ops", "utils"):
            importlib.import_module(f"comfy.{name}")
        for name in ("folder_paths", "comfy_api.latest", "comfy_api.torch_helpers"):
            importlib.import_module(name)
    finally:
        sys.path.pop(0)
    for name, folder in ((PACK, ROOT), (f"{PACK}.nodes", ROOT / "nodes")):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [str(folder)]
    return sys.modules["comfy"]


def save_files(path: Path) -> None:
    save_file(tiny.flux(tiny.PARAMS), path / "flux.safetensors")
    tiny.save_heads(path / "heads.safetensors", seed=1)
    tiny.save_heads(path / "others.safetensors", seed=2)
    plain = {key.replace("lora_ups.0", "lora_up"): w for key, w in tiny.heads(tiny.PARAMS, tiny.DOMAINS[:1], 3).items()}
    save_file(plain, path / "plain.safetensors")


def load(comfy: Any, path: Path, **options: Any) -> Any:
    return comfy.sd.load_diffusion_model(str(path), model_options=options)


def apply(model: Any, folder: Path, choice: Any = "Portrait", strength: float = 1.0, way: str = "branch", **file: str):
    patching = importlib.import_module(f"{PACK}.nodes.model.patching")
    lora = AsymmetricLora.open(folder / file.get("heads", "heads.safetensors"))
    return patching.apply_head(model, lora, choice, strength, way)


def sample(comfy: Any, model: Any, batch: int = 1, edge: int = 4, steps: int = 2, cfg: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    txt = torch.randn(1, 5, tiny.PARAMS.context_in_dim, generator=generator)
    vec = torch.randn(1, tiny.PARAMS.vec_in_dim, generator=generator)
    noise = torch.randn(batch, 16, edge, edge, generator=generator)
    cond = [[txt, {"pooled_output": vec}]]
    rest = {"positive": cond, "negative": [[-txt, {"pooled_output": vec}]], "latent_image": torch.zeros_like(noise)}
    return comfy.sample.sample(model, noise, steps, cfg, "euler", "simple", **rest, disable_pbar=True, seed=1)


def apart(a: Tensor, b: Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


def hooks(model: Any) -> int:
    return sum(len(module._forward_hooks) for module in model.model.modules())


def classes(model: Any) -> list[type]:
    return [type(module) for module in model.model.modules()]


def weights(model: Any) -> dict[str, Tensor]:
    return {key: weight.clone() for key, weight in model.model.diffusion_model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
