"""Low-rank updates beside a model's own weights, which stay as they are:  y = W x + B (A x).

Merged into W, an update costs nothing while sampling but every change of it rewrites W.  Beside W it costs two thin
products a layer, and neither W's type nor its place matters.  Updates of one layer are joined into one pair (A, B).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Branch(nn.Module):
    """The update of one linear layer: `down` A (rank, inputs), `up` B (outputs, rank), the latter scaled already.

    B may be for a part of the layer's outputs alone, those from `first` on.  A module, so that whoever loads models can
    move its weights.
    """

    def __init__(self, down: Tensor, up: Tensor, first: int = 0) -> None:
        super().__init__()
        self.down = nn.Parameter(down, requires_grad=False)
        self.up = nn.Parameter(up, requires_grad=False)
        self.first = first

    @classmethod
    def read(cls, lora: Mapping[str, Tensor], name: str, strength: float, dtype: torch.dtype) -> Branch:
        """A layer of an ordinary kohya LoRA, to be used in `dtype`."""
        down, up = lora[f"{name}.lora_down.weight"], lora[f"{name}.lora_up.weight"]
        return cls.scaled(down, up, strength * float(lora[f"{name}.alpha"]) / down.shape[0], dtype)

    @classmethod
    def scaled(cls, down: Tensor, up: Tensor, scale: float, dtype: torch.dtype, first: int = 0) -> Branch:
        """scale * up @ down, to be used in `dtype`."""
        # Here and not in each step.  Torch multiplies by a number in float32, so B is rounded once, in either case.
        scaled = up * scale if up.dtype == dtype else (up.float() * scale).to(dtype)
        return cls(down.to(dtype), scaled, first)

    def hook(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """A forward hook of the layer: B (A x) is added to its output (..., outputs), in place."""
        down, up = self.down.to(inputs[0]), self.up.to(output)
        hidden = F.linear(inputs[0], down).to(output.dtype)
        # One product that adds to what is there: the output is read and written once.
        rows = output.reshape(-1, output.shape[-1])
        rows[:, self.first : self.first + len(up)].addmm_(hidden.reshape(-1, hidden.shape[-1]), up.t())
        return rows.view(output.shape)

    def joined(self, other: Branch) -> Branch:
        """One branch that does the work of two of the same outputs: the sum of the B of an A they share, else
        concatenated by rank."""
        down, up = self.down.to(other.down), self.up.to(other.up)
        if torch.equal(down, other.down):
            return Branch(down, up + other.up, self.first)
        return Branch(torch.cat([down, other.down]), torch.cat([up, other.up], dim=1), self.first)


class Branches(nn.Module):
    """The branches of a model, with the names of its layers.  Those given for the same outputs are joined."""

    def __init__(self, branches: Iterable[tuple[str, Branch]]) -> None:
        super().__init__()
        places: dict[tuple[str, int, int], Branch] = {}
        for name, branch in branches:
            place = name, branch.first, len(branch.up)
            places[place] = places[place].joined(branch) if place in places else branch
        self._names = tuple(name for name, *_ in places)
        self._branches = nn.ModuleList(places.values())

    def items(self) -> Iterator[tuple[str, Branch]]:
        for name, branch in zip(self._names, self._branches, strict=True):
            assert isinstance(branch, Branch)
            yield name, branch
