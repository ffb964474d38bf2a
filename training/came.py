"""CAME, the paper's optimizer, with a warm-up for each parameter group, counted in the group's own updates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

try:
    from came_pytorch import CAME
except ImportError:
    raise ImportError("the optimizer came needs a package:  pip install came-pytorch==0.1.3") from None

WARMUP = 100


class Came(CAME):
    """came_pytorch.CAME whose groups (A, and every head) each begin with small steps.

    CAME's averages are not corrected for starting at zero: on a gradient of noise its first update is 11 times the
    learning rate, and more on a steady one.  Over a group's first `warmup` updates, whenever they come, its learning
    rate grows linearly to what it is set to; with 100, no update on noise is above 3 times it.  The count is part of
    state_dict().
    """

    def __init__(self, params: Any, lr: float = 1e-4, warmup: int = WARMUP, **options: Any) -> None:
        if warmup < 0:
            raise ValueError(f"warmup counts updates, got {warmup}")
        super().__init__(params, lr=lr, **options)
        for group in self.param_groups:
            group.setdefault("warmup", warmup)
            group.setdefault("updates", 0)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        with torch.enable_grad():
            loss = closure() if closure else None
        rates = [group["lr"] for group in self.param_groups]
        for group in self.param_groups:
            if any(parameter.grad is not None for parameter in group["params"]):
                group["updates"] += 1
            group["lr"] *= min(1.0, group["updates"] / max(group["warmup"], 1))
        try:
            super().step()
        finally:
            for group, rate in zip(self.param_groups, rates, strict=True):
                group["lr"] = rate
        return loss
