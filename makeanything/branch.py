"""Low-rank updates beside a model's own weights, which stay as they are:  y = W x + B (A x).

Merged into W, an update costs nothing while sampling but every change of it rewrites W.  Beside W it costs two thin
products a layer, and neither W's type nor its place matters.  Updates of one layer are joined into one pair (A, B).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Branch(nn.Module):
    """The update of one linear layer: `down` A (rank, inputs), `up` B (outputs, rank), the latter scaled already.

    A module, so that whoever loads models can move its weights.
    """

    def __init__(self, down: Tensor, up: Tensor) -> None:
        super().__init__()
        self.down = nn.Parameter(down, requires_grad=False)
        self.up = nn.Parameter(up, requires_grad=False)

    @classmethod
    def read(cls, lora: Mapping[str, Tensor], name: str, strength: float, dtype: torch.dtype) -> Branch:
        """A layer of an ordinary kohya LoRA, to be used in `dtype`."""
        down, up = lora[f"{name}.lora_down.weight"], lora[f"{name}.lora_up.weight"]
        scale = strength * float(lora[f"{name}.alpha"]) / down.shape[0]
        # Scaled before the rounding to dtype; here and not in each step.
        return cls(down.to(dtype), (up.float() * scale).to(dtype))

    def hook(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """A forward hook of the layer: B (A x) is added to its output (..., outputs), in place."""
        down, up = self.down.to(inputs[0]), self.up.to(output)
        hidden = F.linear(inputs[0], down).to(output.dtype)
        # One product that adds to what is there: the output is read and written once.
        rows = output.reshape(-1, output.shape[-1])
        return rows.addmm_(hidden.reshape(-1, hidden.shape[-1]), up.t()).view(output.shape)

    def joined(self, other: Branch) -> Branch:
        """One branch that does the work of both: the sum of the B of an A they share, else concatenated by rank."""
        down, up = self.down.to(other.down), self.up.to(other.up)
        if torch.equal(down, other.down):
            return Branch(down, up + other.up)
        return Branch(torch.cat([down, other.down]), torch.cat([up, other.up], dim=1))


class Branches(nn.Module):
    """The branches of a model, by the names of its layers."""

    def __init__(self, layers: Mapping[str, Branch]) -> None:
        super().__init__()
        self._names = tuple(layers)
        self._branches = nn.ModuleList(layers.values())

    def items(self) -> Iterator[tuple[str, Branch]]:
        for name, branch in zip(self._names, self._branches, strict=True):
            assert isinstance(branch, Branch)
            yield name, branch

    def joined(self, other: Branches) -> Branches:
        """Both, with the branches that stand at the same layer joined."""
        layers = dict(self.items())
        for name, branch in other.items():
            layers[name] = layers[name].joined(branch) if name in layers else branch
        return Branches(layers)
