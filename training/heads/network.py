"""The domain heads of a FLUX in training: one asymmetric LoRA on all its layers, on any engine."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from makeanything import asymmetric_lora, domains
from makeanything.asymmetric_lora import AsymmetricLora
from makeanything.domains import Domain
from makeanything.foreign import finite
from makeanything.lora_header import Layer, lora_name

from .layer import AsymmetricLinear, Dropout, Route, add_update, linear_layers

MOST_RANK = 4096
"""FLUX.1-dev's layers have 3072 inputs or more: a larger rank would save nothing."""

Network = TypeVar("Network", bound="HeadNetwork")


class HeadNetwork(nn.Module):
    """Asymmetric LoRA on a FLUX.  `attach` makes it act; `choose` says which heads the next batch goes through.

    `layers` are BFL names, all of `linear_layers(model)` by default.  The parameters are float32 on the CPU at first,
    A random and every B zero; state_dict() has the names of the file format.
    """

    def __init__(
        self,
        model: nn.Module,
        heads: Sequence[Domain],
        rank: int = 64,
        alpha: float = 1.0,
        layers: Iterable[str] | None = None,
        dropout: Dropout | None = None,
    ) -> None:
        super().__init__()
        if not heads or rank < 1:
            raise ValueError(f"a network needs heads and a rank of at least 1, got {len(heads)} heads of rank {rank}")
        if rank > MOST_RANK:
            raise ValueError(f"a network has a rank of at most {MOST_RANK}, got {rank}")
        alpha = finite(alpha, "the alpha of a network")
        names = [domain.name.casefold() for domain in heads]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"more than one head is named {', '.join(twice)}; a head is chosen by its name")
        self.domains = tuple(heads)
        self.rank, self.alpha = rank, alpha
        self.route = Route(heads=(0,) if len(self.domains) == 1 else ())
        self._frozen: tuple[bool, frozenset[int]] = (False, frozenset())
        found = linear_layers(model)
        if not found:
            raise ValueError("no linear layer of a FLUX block in this model; asymmetric LoRA needs BFL's names")
        self.targets = tuple(found if layers is None else layers)
        for name in self.targets:
            if name not in found:
                raise ValueError(f"the model has no linear layer {name} in its blocks")
            self.add_module(lora_name(name), AsymmetricLinear(found[name], rank, alpha, len(self.domains), dropout))

    @classmethod
    def like(
        cls: type[Network],
        lora: AsymmetricLora,
        heads: Sequence[Domain],
        model: nn.Module,
        dropout: Dropout | None = None,
    ) -> Network:
        """A network with a file's layers, rank and alpha, and these heads; ValueError when the model lacks a layer."""
        alpha = lora.alpha()
        if alpha is None or any(layer.rank != lora.rank for layer in lora.layers.values()):
            raise ValueError(f"the layers of {lora.path.name} differ in rank or alpha; training needs the same for all")
        layers = [name for name in linear_layers(model) if lora_name(name) in lora.layers]
        if not layers:
            raise ValueError(f"no layer of {lora.path.name}, e.g. {min(lora.layers)}, is in this model")
        network = cls(model, heads, lora.rank, alpha, layers, dropout)
        network.refuse_other(lora)
        return network

    def attach(self, model: nn.Module) -> list[RemovableHandle]:
        """Add the updates to the outputs of the model's layers, until the handles are removed."""
        found = linear_layers(model)
        return [found[name].register_forward_hook(add_update(self.layer(name), self.route)) for name in self.targets]

    def choose(self, wanted: Sequence[str | int]) -> None:
        """The domains of the coming batch's samples, by name or number (from 1, as in captions); one serves any batch.

        ValueError for a domain that the network does not have.  The choice stands until the next (see Route).
        """
        self.route.heads = tuple(domains.find(self.domains, domain) for domain in wanted)

    @property
    def idle_on_cpu(self) -> bool:
        """Whether heads wait on the CPU (see idle.IdleHeads)."""
        return self.layer(self.targets[0]).ups_stay

    def leave_idle_on_cpu(self, leave: bool) -> None:
        """Whether to() leaves the heads on the CPU, to be moved one by one when they are used."""
        for name in self.targets:
            self.layer(name).ups_stay = leave

    def layer(self, name: str) -> AsymmetricLinear:
        """The module of a layer by its BFL name."""
        module = self.get_submodule(lora_name(name))
        assert isinstance(module, AsymmetricLinear)
        return module

    def shared(self) -> Iterator[nn.Parameter]:
        """A of every layer."""
        return (self.layer(name).lora_down.get_parameter("weight") for name in self.targets)

    def head(self, index: int) -> Iterator[nn.Parameter]:
        """B of every layer for a head (from 0)."""
        return (self.layer(name).up(index) for name in self.targets)

    def freeze(self, shared: bool = False, heads: Iterable[int] = ()) -> None:
        """Keep A (if `shared`) and these heads (from 0) as they are in training; all others train."""
        self._frozen = (shared, frozenset(heads))
        for parameter in self.shared():
            parameter.requires_grad_(not shared)
        for index in range(len(self.domains)):
            for parameter in self.head(index):
                parameter.requires_grad_(index not in self._frozen[1])

    def groups(self) -> list[tuple[str, list[nn.Parameter]]]:
        """What trains, with names for logs: "A", then each head by its domain's name."""
        shared, resting = self._frozen
        heads = [(d.name, list(self.head(i))) for i, d in enumerate(self.domains) if i not in resting]
        return heads if shared else [("A", list(self.shared())), *heads]

    def load(self, lora: AsymmetricLora) -> None:
        """Take over the weights of a file of the same layers, rank, alpha and domains.

        ValueError names the first thing that differs; nothing is taken over then.
        """
        self.refuse_other(lora)
        if [(d.name, d.layout) for d in lora.domains] != [(d.name, d.layout) for d in self.domains]:
            raise ValueError(f"{lora.path.name} has the heads {_list(lora.domains)}; wanted {_list(self.domains)}")
        self.fill(lora.read())

    @torch.no_grad()
    def fill(self, state: Mapping[str, Tensor]) -> None:
        """Copy the A and B of a state into the parameters of the same names; alpha stays."""
        for key, tensor in state.items():
            if not key.endswith(".alpha"):
                self.get_parameter(key).copy_(tensor)

    def refuse_other(self, lora: AsymmetricLora) -> None:
        """ValueError names the first of a file's layers, shapes or alpha that is not this network's."""
        mine = {lora_name(name): self.layer(name) for name in self.targets}
        for what, names in (
            ("lacks", mine.keys() - lora.layers.keys()),
            ("has layers that this network lacks:", lora.layers.keys() - mine.keys()),
        ):
            if names:
                raise ValueError(f"{lora.path.name} {what} {', '.join(sorted(names)[:3])} ({len(names)} in all)")
        for name, module in mine.items():
            got, (outputs, rank) = lora.layers[name], module.up(0).shape
            wanted = Layer(rank, module.lora_down.in_features, outputs)
            if got != wanted:
                raise ValueError(f"{lora.path.name}: {name} is {got}; wanted {wanted}")
        alpha = lora.alpha()
        if alpha is None or not self.has_alpha(alpha):
            raise ValueError(f"{lora.path.name} has alpha {alpha or 'of several values'}; wanted {self.alpha}")

    def has_alpha(self, alpha: float) -> bool:
        """Whether this is the network's alpha, up to the 8 bits that a file in bfloat16 keeps of it."""
        return math.isclose(alpha, self.alpha, rel_tol=2**-8)

    def save(
        self,
        path: str | os.PathLike[str],
        dtype: torch.dtype | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Write the heads with their domains, atomically; in `dtype`, all but alpha."""
        asymmetric_lora.save(self.export(dtype), self.domains, path, metadata)

    def export(self, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """The weights on the CPU by their names in files; in `dtype`, all but alpha."""
        state = self.state_dict().items()
        return {key: tensor.to("cpu", None if key.endswith(".alpha") else dtype) for key, tensor in state}


def _list(heads: Sequence[Domain]) -> str:
    return ", ".join(f"{n} {domain.name} ({domain.layout.frames} frames)" for n, domain in enumerate(heads, 1))
