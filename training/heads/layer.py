"""Asymmetric LoRA for training: a shared A and one B per head on every linear layer, routed sample by sample.

The update of a sample with head i is  scale * B_i (A x),  scale = multiplier * alpha / rank (paper, section 3.3).  A
batch may mix heads: A gets a gradient from every sample, B_i from its own alone.  Every head has a Parameter of its
own, so a head that no sample used has no gradient at all (None), and no optimizer moves it.  Parameter names are those
of the file format (see makeanything/asymmetric_lora.py).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

BLOCKS = re.compile(r"(double_blocks|single_blocks)\.(?P<index>\d+)\..+")
"""The linear layers of FLUX that carry LoRA: all of the blocks, the modulation layers too."""


@dataclass
class Route:
    """Which head each sample of the coming batch goes through; shared by all layers of a network.

    One head serves a batch of any size.  The route stands until it is set again: set it before the forward and leave it
    until after the backward, because gradient checkpointing runs the forward once more in between.
    """

    heads: tuple[int, ...] = ()
    multiplier: float = 1.0
    _groups: tuple[object, list[int], Tensor] | None = field(default=None, init=False, repr=False, compare=False)

    def of(self, batch: int) -> tuple[int, ...]:
        """The heads of a batch of this many samples.  ValueError when none was chosen, or for another number."""
        if not self.heads:
            raise ValueError("no head was chosen for this batch: call choose() before the model")
        if len(self.heads) not in (1, batch):
            raise ValueError(f"heads were chosen for {len(self.heads)} samples, the batch has {batch}")
        return self.heads

    def groups(self, device: torch.device) -> tuple[list[int], Tensor]:
        """The heads that the samples go through, each once, and the place of every sample's among them, on a device.

        All layers ask for the same, and a copy to the device would hold each of them up.
        """
        if self._groups is None or self._groups[0] != (self.heads, device):
            used = sorted(set(self.heads))
            place = torch.tensor([used.index(head) for head in self.heads], device=device)
            self._groups = (self.heads, device), used, place
        return self._groups[1:]


@dataclass(frozen=True)
class Dropout:
    """Probabilities of dropping a value of A x, a rank of a sample, or the update of a layer, as kohya's LoRA does."""

    hidden: float = 0.0
    rank: float = 0.0
    module: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value < 1:
                raise ValueError(f"the {name} dropout must lie in 0 <= p < 1, got {value}")


class AsymmetricLinear(nn.Module):
    """A (rank, in) and every head's B (out, rank) of one linear layer.  A starts random, B at zero."""

    ups_stay = False
    """Whether to() leaves every B on the CPU."""

    def __init__(self, layer: nn.Linear, rank: int, alpha: float, heads: int, dropout: Dropout | None = None) -> None:
        super().__init__()
        # skip_init: drawing random numbers for 21 heads that start at zero takes minutes at full size.
        self.lora_down = nn.utils.skip_init(nn.Linear, layer.in_features, rank, bias=False)
        self.lora_ups = nn.ModuleList(
            nn.utils.skip_init(nn.Linear, rank, layer.out_features, bias=False) for _ in range(heads)
        )
        nn.init.kaiming_uniform_(self.lora_down.weight, a=math.sqrt(5))
        for up in self.lora_ups.parameters():
            nn.init.zeros_(up)
        self.register_buffer("alpha", torch.tensor(float(alpha)))
        self.scale = alpha / rank
        self.dropout = dropout or Dropout()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> AsymmetricLinear:
        super()._apply(fn, recurse)
        if self.ups_stay:
            self.lora_ups._apply(Tensor.cpu)
        return self

    def up(self, head: int) -> nn.Parameter:
        """B of a head."""
        return self.lora_ups[head].get_parameter("weight")

    def forward(self, x: Tensor, route: Route) -> Tensor:
        """The update for inputs (B, ..., in) -> (B, ..., out), in the dtype of A (under autocast, in autocast's)."""
        heads = route.of(x.shape[0])
        if not torch.is_autocast_enabled(x.device.type):
            x = x.to(self.lora_down.weight.dtype)
        # Scaled here, where a token has `rank` values, rather than after B, where it has thousands.
        down = self._drop(self.lora_down(x)) * (self.scale * route.multiplier)
        if len(set(heads)) == 1:
            return self.lora_ups[heads[0]](down)
        used, place = route.groups(down.device)
        ups = torch.stack([self.up(head) for head in used]).to(down.dtype)[place]
        update = torch.bmm(rearrange(down, "b ... rank -> b (...) rank"), ups.mT)
        return update.reshape(*down.shape[:-1], update.shape[-1])

    @torch.no_grad()
    def limit_norm(self, head: int, most: float) -> float:
        """Shrink B of a head until the Frobenius norm of alpha / rank * B A is at most `most`.

        A stays as it is, for it belongs to the other heads too.  Returns the norm before.
        """
        down, up = self.lora_down.weight.float(), self.up(head)
        # |B A|^2 = trace(B^T B A A^T), a product of matrices of rank x rank.
        norm = self.scale * ((up.float().T @ up.float()) * (down @ down.T)).sum().clamp(min=0).sqrt().item()
        if norm > most:
            up.mul_(most / norm)
        return norm

    def is_dropped(self) -> bool:
        """Whether this pass leaves the layer's update out."""
        return self.training and self.dropout.module > 0 and torch.rand(()).item() < self.dropout.module

    def _drop(self, down: Tensor) -> Tensor:
        if not self.training:
            return down
        down = F.dropout(down, self.dropout.hidden)
        if self.dropout.rank:
            shape = (down.shape[0], *(1,) * (down.ndim - 2), down.shape[-1])
            kept = torch.rand(shape, device=down.device) >= self.dropout.rank
            down = down * kept / (1 - self.dropout.rank)
        return down


def add_update(module: AsymmetricLinear, route: Route) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    """A forward hook that adds the update to a linear layer's output, in the output's dtype."""

    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        # At multiplier 0 trainers run other batches than the route was chosen for, to see the model without LoRA.
        if route.multiplier == 0 or module.is_dropped():
            return output
        return output + module(inputs[0], route).to(output.dtype)

    return hook


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """The layers of a FLUX that carry LoRA, by BFL name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear) and BLOCKS.fullmatch(name)}
