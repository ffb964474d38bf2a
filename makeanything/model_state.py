"""Weights that must be those of one model: names, shapes and types are compared before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from .foreign import brief
from .weights_header import WEIGHTS

Shapes = Mapping[str, tuple[int, ...]]


def shapes_of(tensors: Mapping[str, Tensor]) -> Shapes:
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}


def check_shapes(shapes: Shapes, wanted: Shapes, what: str) -> None:
    """ValueError names the first tensor that is missing, too many, or of another shape; `what` they should be."""
    for key in sorted(wanted.keys() | shapes.keys()):
        got, needed = shapes.get(key), wanted.get(key)
        if got != needed:
            have = (
                "is missing" if got is None else f"has shape {got}" if needed is not None else "does not belong there"
            )
            need = f", needed {needed}" if None not in (got, needed) else ""
            raise ValueError(f"these are not the weights of {what}: {brief(key)} {have}{need}")


def check_state(state: Mapping[str, Tensor], model: nn.Module, what: str) -> None:
    """ValueError unless the tensors have a model's names and shapes, and types of weights."""
    check_shapes(shapes_of(state), shapes_of(model.state_dict()), what)
    for key, tensor in state.items():
        if not tensor.is_floating_point() or tensor.dtype not in WEIGHTS.values():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise ValueError(f"these are not the weights of {what}: {brief(key)} is of type {kind}")
