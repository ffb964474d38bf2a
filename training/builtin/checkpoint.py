"""The state of a run in one safetensors file: weights, what the optimizer remembers, and the number of steps done.

    weight.<parameter>    <memory>.<parameter>, such as exp_avg.<parameter>

Numbers that the optimizer keeps are JSON in the header.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from makeanything.files import open_safetensors
from makeanything.saving import make_folder, save_safetensors

WEIGHT = "weight"
Trained = Mapping[str, nn.Parameter]
"""What trains, by name."""


def save(path: Path, trained: Trained, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Write the state after `step` steps, atomically."""
    tensors: dict[str, Tensor] = {f"{WEIGHT}.{name}": parameter for name, parameter in trained.items()}
    numbers: dict[str, dict[str, float]] = {}
    state = optimizer.state_dict()
    for index, name in enumerate(_names(trained, optimizer)):
        for key, value in state["state"].get(index, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{key}.{name}"] = value
            else:
                numbers.setdefault(name, {})[key] = value
    texts = {
        "step": str(step),
        "optimizer": type(optimizer).__name__,
        "numbers": json.dumps(numbers),
        "groups": json.dumps(state["param_groups"]),
    }
    make_folder(path.parent)
    save_safetensors(tensors, path, texts)


def restore(path: Path, trained: Trained, optimizer: torch.optim.Optimizer) -> int:
    """Load the state into parameters and optimizer.  Returns the number of steps done, 0 where there is no file.

    ValueError when the file is of another model or optimizer.
    """
    if not path.exists():
        return 0
    with open_safetensors(path) as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        texts = file.metadata() or {}
    if texts.get("optimizer") != type(optimizer).__name__:
        raise ValueError(
            f"{path} was written with {texts.get('optimizer')}, this run has {type(optimizer).__name__}; "
            "remove it to start anew"
        )
    _refuse_other(path, trained, tensors)
    numbers = json.loads(texts["numbers"])
    # A parameter that was never used has no memory, and must have none after resuming either.
    state: dict[str, dict[str, Any]] = {name: dict(kept) for name, kept in numbers.items()}
    for key, tensor in tensors.items():
        memory, name = key.split(".", 1)
        if memory == WEIGHT:
            trained[name].data.copy_(tensor)
        else:
            state.setdefault(name, {})[memory] = _like(trained[name], tensor)
    by_index = {index: state[name] for index, name in enumerate(_names(trained, optimizer)) if name in state}
    optimizer.load_state_dict({"state": by_index, "param_groups": json.loads(texts["groups"])})
    return int(texts["step"])


def _names(trained: Trained, optimizer: torch.optim.Optimizer) -> list[str]:
    """Names in the order in which the optimizer numbers its parameters."""
    names = {parameter: name for name, parameter in trained.items()}
    return [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]


def _like(parameter: Tensor, tensor: Tensor) -> Tensor:
    """A copy in memory, in the parameter's order of dimensions, which makes updates fast."""
    return torch.empty_like(parameter).copy_(tensor) if tensor.shape == parameter.shape else tensor.clone()


def _refuse_other(path: Path, trained: Trained, tensors: Mapping[str, Tensor]) -> None:
    saved = {key.removeprefix(f"{WEIGHT}."): t.shape for key, t in tensors.items() if key.startswith(f"{WEIGHT}.")}
    for name in sorted(saved.keys() | trained.keys()):
        there, here = saved.get(name), trained[name].shape if name in trained else None
        if there != here:
            raise ValueError(
                f"{path} is the state of another run: {name} is {_words(there)} there and {_words(here)} here; "
                "remove it to start anew"
            )


def _words(shape: torch.Size | None) -> str:
    return "missing" if shape is None else f"of shape {tuple(shape)}"
