"""The domain head that a ReCraft LoRA stands on: chosen from an asymmetric file and merged into FLUX."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.types import Device

from makeanything.asymmetric_lora import AsymmetricLora
from makeanything.domains import Domain
from makeanything.lora_header import lora_name
from makeanything.saving import save_safetensors
from makeanything.serpentine import Layout
from makeanything.weights_file import open_weights

from ..data.captions import refuse_other
from .layer import linear_layers

MERGED_KEY = "makeanything_merged"
"""Header entry of a FLUX file with a head in it: the head's domain as JSON."""


@dataclass(frozen=True)
class Base:
    """How the grids are laid out, the domain of the head in FLUX (if any), and the file with heads to merge it from."""

    layout: Layout
    domain: Domain | None = None
    file: Path | None = None
    heads: tuple[Domain, ...] = ()

    @classmethod
    def read(cls, model: str, file: str | None, head: str | None, frames: int | None) -> Base:
        """From a FLUX file, and what --head_file, --head and --frames say.  ValueError says what does not fit."""
        merged = merged_domain(Path(model))
        if head and not file:
            raise ValueError("--head chooses from a file of heads: pass --head_file too")
        if file and merged:
            raise ValueError(f"{Path(model).name} has the head {merged.name} in it already: drop --head_file")
        lora = AsymmetricLora.open(file) if file else None
        domain = _choose(lora, head) if lora else merged
        if frames:
            layout = Layout.of(frames)
        elif domain:
            layout = domain.layout
        else:
            raise ValueError("pass --frames 9 or 4: without --head_file nothing says how the grids are laid out")
        return cls(layout, domain, *((lora.path, lora.domains) if lora else ()))

    def check_picture(self, picture: str | Path, named: object, flag: int | None) -> None:
        """ValueError for a picture that is said to be of another domain (see captions.refuse_other)."""
        if self.domain:
            refuse_other(picture, self.domain, self.heads, named, flag)

    def check_target(self, path: Path, model: str) -> None:
        """ValueError unless FLUX with the head in it can be saved there."""
        if not self.file:
            raise ValueError("--save_merged writes FLUX with a head in it: pass --head_file too")
        if path.suffix != ".safetensors" or not path.parent.is_dir():
            raise ValueError(f"--save_merged {path}: it needs a folder that exists and the ending .safetensors")
        if path.exists() and path.samefile(model):
            raise ValueError(f"--save_merged {path}: that is the FLUX without the head; choose another name")

    def merge(self, flux: nn.Module, device: Device = None) -> None:
        """Add the head to the weights of a FLUX with BFL names (see merge_into)."""
        assert self.file and self.domain
        merge_into(flux, AsymmetricLora.open(self.file).select(self.domain.name), device=device)

    def save(self, flux: nn.Module, path: str | os.PathLike[str]) -> None:
        """Write a FLUX with the head in it, saying so in its header, atomically."""
        assert self.domain
        save_safetensors(flux.state_dict(), path, {MERGED_KEY: json.dumps(self.domain.to_json())})


@torch.no_grad()
def merge_into(flux: nn.Module, lora: Mapping[str, Tensor], strength: float = 1.0, device: Device = None) -> None:
    """Add an ordinary LoRA to the weights of a FLUX, layer by layer, each computed in float32 on `device`.

    The weights keep their dtype and device.  ValueError, before any of them changes, names a layer of the LoRA that
    this FLUX lacks or has in another shape.
    """
    layers = {lora_name(name): layer for name, layer in linear_layers(flux).items()}
    changed = {key.removesuffix(".lora_up.weight") for key in lora if key.endswith(".lora_up.weight")}
    parts = {name: (lora[f"{name}.lora_up.weight"], lora[f"{name}.lora_down.weight"]) for name in sorted(changed)}
    for name, (up, down) in parts.items():
        shape, found = (up.shape[0], down.shape[1]), tuple(layers[name].weight.shape) if name in layers else "missing"
        if shape != found:
            raise ValueError(f"the LoRA's {name} has shape {shape}, the model's is {found}; is it of another model?")
    for name, pair in parts.items():
        weight = layers[name].weight
        on = device or weight.device
        up, down = (matrix.to(on, torch.float32) for matrix in pair)
        scale = strength * float(lora[f"{name}.alpha"]) / down.shape[0]
        # In place: a layer of FLUX.1-dev takes 264 MB in float32.
        update = (up @ down).mul_(scale)
        weight.copy_(update.add_(weight.to(on, torch.float32)))


def merged_domain(model: Path) -> Domain | None:
    """The domain of the head that a FLUX file has in it, if its header names one."""
    if not model.is_file():
        return None
    with open_weights(model) as file:
        text = file.metadata.get(MERGED_KEY)
    return Domain.from_json(json.loads(text)) if text else None


def _choose(lora: AsymmetricLora, head: str | None) -> Domain:
    if head is None and len(lora.domains) > 1:
        names = ", ".join(f"{number} {domain.name}" for number, domain in enumerate(lora.domains, 1))
        raise ValueError(f"{lora.path.name} has several heads; choose one with --head: {names}")
    return lora.domains[lora.find(1 if head is None else head)]
