"""How a run optimises: the optimizer, its learning rate over time, and how often its state is saved."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from ..heads.network import HeadNetwork

OPTIMIZERS = ("adamw", "came")
SCHEDULES = ("constant", "cosine")
PRECISIONS = ("no", "bf16")


@dataclass(frozen=True)
class Settings:
    """A run of `steps` updates, each on `accumulation` batches in every process.

    The learning rate rises to `lr` over `warmup` steps, then stays or falls along a cosine to nothing.
    optimizer_args: more arguments of the optimizer's class, such as weight_decay.
    clip: the norm that gradients are cut to; 0 leaves them.
    """

    steps: int
    lr: float
    warmup: int = 50
    schedule: str = "cosine"
    optimizer: str = "adamw"
    optimizer_args: Mapping[str, object] = field(default_factory=dict)
    clip: float = 1.0
    accumulation: int = 1
    mixed_precision: str = "no"
    seed: int = 0
    save_every: int = 100

    def __post_init__(self) -> None:
        for name in ("steps", "lr", "accumulation", "save_every"):
            # Written so that NaN is refused too.
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("warmup", "clip", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} can't be negative, got {getattr(self, name)}")
        for name, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("mixed_precision", PRECISIONS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is one of {', '.join(known)}; got {getattr(self, name)!r}")

    def lr_at(self, step: int) -> float:
        """The learning rate of a step, from 0."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        if self.schedule == "constant":
            return self.lr
        return self.lr * (0.5 + 0.5 * math.cos(math.pi * (step - self.warmup) / max(self.steps - self.warmup, 1)))

    def make_optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        """The optimizer of what trains in a module; A and every head are groups of their own.

        ImportError says how to get CAME.  TypeError names an argument that the optimizer does not have.
        """
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        groups = [p for _, p in module.groups()] if isinstance(module, HeadNetwork) else [trained]
        if not trained:
            raise ValueError(f"nothing in this {type(module).__name__} trains: all its parameters are frozen")
        parameters = [{"params": group} for group in groups]
        optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW
        if self.optimizer == "came":
            from ..came import Came

            optimizer = Came
        return optimizer(parameters, lr=self.lr, **self.optimizer_args)
