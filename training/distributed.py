"""Gradients and weights shared between processes, each of which may have used another part of the network."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

Collective = Callable[[Tensor], Tensor]
"""A tensor of this process -> the same tensor of all processes: their mean, or that of the first."""


@torch.no_grad()
def all_reduce_gradients(parameters: Iterable[nn.Parameter], mean: Collective, device: torch.device | str) -> None:
    """Replace every gradient by its mean over the processes; a gradient that no process has stays None.

    The processes agree first on which gradients there are, and a process that lacks one adds zeros: reducing only what
    each has would pair one head's gradient with another's.  `device` is where the processes exchange tensors.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    present = mean(torch.tensor([float(p.grad is not None) for p in trained], device=device)).tolist()
    for parameter, share in zip(trained, present, strict=True):
        if share:
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = mean(gradient)


@torch.no_grad()
def share_weights(parameters: Iterable[nn.Parameter], from_first: Collective, device: torch.device | str) -> None:
    """Give all processes the first one's weights."""
    for parameter in parameters:
        parameter.copy_(from_first(parameter.to(device)))
