"""Asymmetric LoRA for training: a shared A and one B per head on every linear layer, routed sample by sample.

The update of a sample with head i is  scale * B_i (A x),  scale = multiplier * alpha / rank.  A batch may mix heads: A
gets a gradient from every sample, B_i from its own alone; an unused head has no gradient at all, so no optimizer moves
it.  Parameter names are those of the file format (see makeanything/asymmetric_lora.py).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from makeanything import asymmetric_lora
from makeanything.domains import Domain

BLOCKS = re.compile(r"(double_blocks|single_blocks)\.\d+\..+")
"""The linear layers of FLUX that carry LoRA: all of the blocks, the modulation layers too."""


@dataclass
class Route:
    """Which head each sample of the coming batch goes through; shared by all layers of a network."""

    heads: tuple[int, ...] = (0,)
    multiplier: float = 1.0


class AsymmetricLinear(nn.Module):
    """A and the heads' B of one linear layer."""

    def __init__(self, inputs: int, outputs: int, rank: int, alpha: float, heads: int) -> None:
        super().__init__()
        self.lora_down = nn.Linear(inputs, rank, bias=False)
        self.lora_ups = nn.ModuleList(nn.Linear(rank, outputs, bias=False) for _ in range(heads))
        self.register_buffer("alpha", torch.tensor(float(alpha)))
        self.scale = alpha / rank
        nn.init.kaiming_uniform_(self.lora_down.weight, a=math.sqrt(5))
        for up in self.lora_ups.parameters():
            nn.init.zeros_(up)

    def forward(self, x: Tensor, route: Route) -> Tensor:
        """The update for inputs (B, ..., in) -> (B, ..., out)."""
        down = self.lora_down(x)
        used = sorted(set(route.heads))
        if len(used) == 1:
            return self.lora_ups[used[0]](down) * (self.scale * route.multiplier)
        if len(route.heads) != x.shape[0]:
            raise ValueError(f"a batch of {x.shape[0]} samples came with heads for {len(route.heads)}")
        ups = torch.stack([self.lora_ups[head].get_parameter("weight") for head in used])
        # One B per sample, and one batched product for the whole batch.
        ups = ups[[used.index(head) for head in route.heads]].to(down)
        update = torch.bmm(down.reshape(x.shape[0], -1, down.shape[-1]), ups.mT)
        return update.reshape(*down.shape[:-1], -1) * (self.scale * route.multiplier)


class AsymmetricNetwork(nn.Module):
    """Asymmetric LoRA on a FLUX.  `attach` makes it act; `route.heads` chooses the heads of the next batch."""

    def __init__(self, model: nn.Module, domains: Sequence[Domain], rank: int = 64, alpha: float = 1.0) -> None:
        super().__init__()
        self.domains = tuple(domains)
        self.route = Route()
        targets = linear_layers(model)
        if not targets:
            raise ValueError("no linear layer of a FLUX block in this model; asymmetric LoRA needs BFL's names")
        for name, layer in targets.items():
            module = AsymmetricLinear(layer.in_features, layer.out_features, rank, alpha, len(self.domains))
            self.add_module(_file_name(name), module)

    def attach(self, model: nn.Module) -> list[RemovableHandle]:
        """Add the updates to the outputs of the model's layers, until the handles are removed."""
        return [
            layer.register_forward_hook(self._hook(getattr(self, _file_name(name))))
            for name, layer in linear_layers(model).items()
        ]

    def _hook(self, module: AsymmetricLinear) -> Callable[[nn.Module, tuple[Tensor], Tensor], Tensor]:
        def add_update(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
            return output + module(inputs[0], self.route).to(output)

        return add_update

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the heads with their domains, atomically."""
        asymmetric_lora.save(self.state_dict(), self.domains, path)


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """The layers of a FLUX that carry LoRA, by BFL name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear) and BLOCKS.match(name)}


def _file_name(layer: str) -> str:
    return "lora_unet_" + layer.replace(".", "_")
