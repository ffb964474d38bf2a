"""Parts with a FLUX of full width and few blocks: under torch.compile, and with ComfyUI's dynamic VRAM on and off."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.memory_management
import comfy.model_management
import comfy.model_patcher
import torch
from comfy.cli_args import args

from ..lab import Lab
from ..switching import SMALL
from .kit_lab import SIZES, KitLab, shallow
from .record import Record
from .timing import ceiling, peak, sample, take_turns

MoreTime = Callable[[], bool]


def compiled(size: str, folder: Path, out: Path, more_time: MoreTime) -> None:
    """Steps compiled and not, bare and with a head; the seconds of the first, which compiles."""
    with Record(out / "compiled.json") as record:
        lab = KitLab(shallow(SIZES[size], 2, 4), folder)
        record.content["about"] = {"size": str(lab.size)}
        head = lab.head("branch", lab.domains[0])
        models = {"bare": lab.base, "head": head}
        for name, model in list(models.items()):
            if not more_time():
                record.note(f"{name}, compiled: not measured, the time was over")
                continue
            start = time.perf_counter()
            models[f"{name}, compiled"] = made = compile_model(model)
            sample(lab, made, 2, lab.size.edge)
            record.note(f"{name}: compiled and ran two steps in {time.perf_counter() - start:.1f} s")
        take_turns(lab, models, record, 3, more_time, ceiling(lab)[0] * 1e12)


def compile_model(model: Any) -> Any:
    """A clone of the model as ComfyUI's TorchCompileModel gives it; without a GPU nothing is built."""
    model = model.clone()
    helpers = importlib.import_module("comfy_api.torch_helpers")
    helpers.set_torch_compile_wrapper(model, backend="inductor" if torch.cuda.is_available() else "eager")
    return model


class DynamicLab(KitLab):
    """A FLUX as the loader gives it, whose weights come to the device when they are needed."""

    def load(self) -> Any:
        return Lab.load(self)


def dynamic(size: str, folder: Path, out: Path, more_time: MoreTime) -> None:
    """Steps and switches with dynamic VRAM off, then on, as ComfyUI starts with it on NVIDIA."""
    small = shallow(SIZES[size], 5, 10)
    with Record(out / "dynamic.json", size=str(small)) as record:
        _vram(KitLab(small, folder), record, more_time, "off")
        comfy.model_management.unload_all_models()
        if not _start_dynamic():
            record.note("comfy-aimdo did not start, so dynamic VRAM was not measured")
            if torch.cuda.is_available():
                return
        if more_time():
            _vram(DynamicLab(small, folder), record, more_time, "on")


def _vram(lab: KitLab, record: Record, more_time: MoreTime, said: str) -> None:
    first, second = lab.domains[:2]
    models = {"bare": lab.base, "head": lab.head("branch", first), "head patched": lab.head("patch", first)}
    record.note(f"{said}: {type(lab.base).__name__}")
    for way in ("branch", "patch"):
        sample(lab, models["bare"], 2, SMALL)
        start = time.perf_counter()
        _, began, _ = sample(lab, lab.head(way, second), 1, SMALL)
        record.row(f"{said}: to another domain, {way}", **{"s to the first step": round(began - start, 3)})
    rate = ceiling(lab)[0] * 1e12
    named = {f"{said}: {name}": model for name, model in models.items()}
    peaks = {name: peak(lab, model) for name, model in named.items()}
    # What is patched stays so for a sampling, and is patched again in the next round.
    take_turns(lab, named, record, 2, more_time, rate, peaks)


def _start_dynamic() -> bool:
    """As ComfyUI's main.py does once its modules are there; init() came before torch (see parts.py)."""
    import comfy_aimdo.control

    headroom = int(args.vram_headroom * 2**30)
    devices = comfy.model_management.get_all_torch_devices() if torch.cuda.is_available() else []
    if not devices or not comfy_aimdo.control.init_devices((device.index, headroom) for device in devices):
        return False
    comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
    comfy.memory_management.aimdo_enabled = True
    return True
