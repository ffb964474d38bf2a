"""Asymmetric LoRA files: one shared down matrix A per layer, one up matrix B per domain (paper, section 3.3).

    lora_unet_<layer>.lora_down.weight      A    (rank, in)      shared
    lora_unet_<layer>.lora_ups.<i>.weight   B_i  (out, rank)     one per domain, i from 0
    lora_unet_<layer>.alpha                 scalar

The update of head i is  dW = strength * alpha / rank * B_i A.  It is linear in B, so a weighted mix of heads is the
head sum_i w_i B_i.  One head with `lora_ups.<i>` renamed to `lora_up` is an ordinary kohya LoRA.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from . import domains
from .domains import Domain
from .foreign import brief, finite
from .lora_header import DOMAINS_KEY, Layer, check_names, parse, read_domains, read_layers
from .saving import save_safetensors
from .steps import Step, go_on
from .weights_file import WeightsFile, changed, open_weights, refuse_nan, same

Choice = str | int | Mapping[str, float]
"""A domain by name, by number (from 1), or names with weights."""


@dataclass(frozen=True)
class AsymmetricLora:
    """The header of an asymmetric LoRA file; tensors are read when a head is selected."""

    path: Path
    domains: tuple[Domain, ...]
    layers: Mapping[str, Layer]
    metadata: Mapping[str, str]

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> AsymmetricLora:
        """Read the header.  ValueError says what the file holds when it is no (whole) asymmetric LoRA."""
        with open_weights(path) as file:
            return cls._of(file)

    @classmethod
    def _of(cls, file: WeightsFile) -> AsymmetricLora:
        try:
            layers, heads = read_layers(file.shapes)
            return cls(file.path, read_domains(file.metadata, heads), layers, file.metadata)
        except ValueError as error:
            raise ValueError(f"{file.name}: {error}") from None

    def _read(self, names: Iterable[str], step: Step = go_on) -> dict[str, Tensor]:
        """The named tensors; ValueError where the file became another one since its header was read."""
        with open_weights(self.path) as file:
            if self._of(file) != self:
                raise ValueError(changed(file.name))
            return file.read(names, step)

    @property
    def name(self) -> str:
        """The file's name, for messages."""
        return brief(self.path.name)

    @property
    def rank(self) -> int:
        """The largest rank of any layer (the released files have one rank, 64)."""
        return max(layer.rank for layer in self.layers.values())

    @property
    def head_elements(self) -> tuple[int, int]:
        """Elements of (all A, all B of one head): what selecting a head reads."""
        down = sum(layer.rank * layer.inputs for layer in self.layers.values())
        up = sum(layer.rank * layer.outputs for layer in self.layers.values())
        return down, up

    def alpha(self) -> float | None:
        """The alpha all layers share, or None when they differ."""
        alphas = self._read(f"{layer}.alpha" for layer in self.layers)
        values = {float(alpha) for alpha in alphas.values()}
        return values.pop() if len(values) == 1 else None

    def find(self, domain: str | int) -> int:
        """Index of a head by domain name or number (from 1); ValueError suggests the nearest name."""
        try:
            return domains.find(self.domains, domain)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from None

    def weights(self, choice: Choice) -> dict[int, float]:
        """Head index -> weight of a choice.  Heads of weight 0 are left out."""
        if not isinstance(choice, Mapping):
            return {self.find(choice): 1.0}
        mix: dict[int, float] = defaultdict(float)
        for domain, weight in choice.items():
            mix[self.find(domain)] += finite(weight, f"the weight of {brief(domain)}")
        kept = {head: weight for head, weight in mix.items() if weight}
        if not kept:
            raise ValueError("a mix of heads needs at least one domain with a weight other than 0")
        return kept

    def select(self, choice: Choice, step: Step = go_on) -> dict[str, Tensor]:
        """The chosen head as an ordinary LoRA: `lora_down.weight`, `lora_up.weight` and `alpha` of every layer.

        Reads A and the chosen heads only.  One head comes in the file's dtype; a mix is summed in float32.
        """
        weights = self.weights(choice)
        parts = ["lora_down.weight", "alpha", *(f"lora_ups.{head}.weight" for head in weights)]
        state = self._read((f"{name}.{part}" for name in self.layers for part in parts), step)
        for name in self.layers:
            step(0)
            ups = {head: state.pop(f"{name}.lora_ups.{head}.weight") for head in weights}
            state[f"{name}.lora_up.weight"] = _mix(ups, weights)
        refuse_nan(self.name, state, step)
        return state

    def read(self) -> dict[str, Tensor]:
        """Every tensor of the file."""
        parts = ["lora_down.weight", "alpha", *(f"lora_ups.{head}.weight" for head in range(len(self.domains)))]
        state = self._read(f"{name}.{part}" for name in self.layers for part in parts)
        refuse_nan(self.name, state)
        return state


def _mix(ups: Mapping[int, Tensor], weights: Mapping[int, float]) -> Tensor:
    if list(weights.values()) == [1.0]:
        return next(iter(ups.values()))
    return torch.stack([weight * ups[head].float() for head, weight in weights.items()]).sum(0)


def extract(
    lora: AsymmetricLora,
    choice: Choice,
    path: str | os.PathLike[str],
    more: Mapping[str, str] | None = None,
    step: Step = go_on,
) -> None:
    """Write the chosen head as an ordinary kohya LoRA file, atomically; `more` is added to its metadata."""
    state = lora.select(choice, step)
    names = [lora.domains[head].name for head in lora.weights(choice)]
    metadata = {
        "ss_network_module": "networks.lora_flux",
        "ss_network_dim": str(lora.rank),
        "modelspec.title": " + ".join(names),
        DOMAINS_KEY: json.dumps([lora.domains[head].to_json() for head in lora.weights(choice)]),
    }
    if (alpha := lora.alpha()) is not None:
        metadata["ss_network_alpha"] = str(alpha)
    save_safetensors(state, path, {**metadata, **(more or {})})


def save(
    tensors: Mapping[str, Tensor],
    heads: Sequence[Domain],
    path: str | os.PathLike[str],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write an asymmetric LoRA file with its domains in the header, atomically."""
    _, count = read_layers({key: tuple(tensor.shape) for key, tensor in tensors.items()})
    if count != len(heads):
        raise ValueError(f"{count} heads need {count} domains, got {len(heads)}")
    check_names(heads)
    save_safetensors(tensors, path, {**(metadata or {}), DOMAINS_KEY: json.dumps([head.to_json() for head in heads])})


def join(loras: Sequence[AsymmetricLora], path: str | os.PathLike[str]) -> None:
    """Write one file with the heads of several files that share A, in the order given."""
    heads = [domain for lora in loras for domain in _named(lora)]
    check_names(heads)
    state, offset = dict[str, Tensor](), 0
    for lora in loras:
        _merge_heads(state, lora, offset, loras[0])
        offset += len(lora.domains)
    save(state, heads, path, loras[0].metadata)


def _named(lora: AsymmetricLora) -> Sequence[Domain]:
    """The file's domains; heads that nobody named get the name of their file."""
    if DOMAINS_KEY in lora.metadata or len(lora.domains) in domains.RELEASED_BY_HEADS:
        return lora.domains
    stem = lora.path.stem
    names = [stem] if len(lora.domains) == 1 else [f"{stem} {n}" for n in range(1, len(lora.domains) + 1)]
    return [replace(domain, name=name) for domain, name in zip(lora.domains, names, strict=True)]


def _merge_heads(state: dict[str, Tensor], lora: AsymmetricLora, offset: int, first: AsymmetricLora) -> None:
    if lora.layers != first.layers:
        raise ValueError(f"{lora.name} has other layers or shapes than {first.name}")
    for key, tensor in lora.read().items():
        head = parse(key)[1]
        if head is not None:
            state[key.replace(f".lora_ups.{head}.", f".lora_ups.{head + offset}.")] = tensor
        elif not same(state.setdefault(key, tensor), tensor):
            problem = f"{lora.name} does not share A with {first.name} ({key} differs); heads only fit the A they were"
            raise ValueError(f"{problem} trained with. Extract them as ordinary LoRAs instead.")
