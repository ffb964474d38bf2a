"""Heads that the next batch does not use wait on the CPU, so that more heads need no more of a card's memory."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import Tensor

from .network import HeadNetwork


class IdleHeads:
    """Moves B of heads, and what the optimizer keeps for them, between the training's device and the CPU.

    At first all heads wait.  A head stays on the device as long as it has gradients that no step has used.
    """

    def __init__(self, network: HeadNetwork, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        self.network, self.optimizer, self.device = network, optimizer, device
        self.placed: set[int] = set()

    @torch.no_grad()
    def place(self, used: Collection[int]) -> None:
        """Have these heads (from 0) on the device, and the others on the CPU."""
        idle = [head for head in self.placed - set(used) if all(p.grad is None for p in self.network.head(head))]
        for head in idle:
            self._move(head, self.to_cpu)
        coming = set(used) - self.placed
        for head in coming:
            self._move(head, self.to_device)
        self.placed = (self.placed | coming) - set(idle)

    def to_device(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=True)

    def to_cpu(self, tensor: Tensor) -> Tensor:
        # Pinned memory is copied from at the full speed of the bus, while the host goes on.
        pinned = tensor.device.type == "cuda"
        return torch.empty_like(tensor, device="cpu", pin_memory=pinned).copy_(tensor) if pinned else tensor.cpu()

    def _move(self, head: int, move: Callable[[Tensor], Tensor]) -> None:
        for parameter in self.network.head(head):
            parameter.data = move(parameter.data)
            # .get: looking a parameter up would give it a state.
            state = self.optimizer.state.get(parameter, {})
            state.update({name: move(value) for name, value in state.items() if _follows(value)})


def _follows(value: object) -> bool:
    """Whether an optimizer's value goes where its parameter goes: AdamW wants its count of steps on the CPU."""
    return isinstance(value, Tensor) and value.ndim > 0
