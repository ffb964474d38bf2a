"""The state of a run in one safetensors file: weights, what the optimizer remembers, and the number of steps done.

    weight.<parameter>    <memory>.<parameter>, such as exp_avg.<parameter>

Numbers that the optimizer keeps are JSON in the header.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from makeanything.foreign import brief
from makeanything.saving import make_folder, save_safetensors
from makeanything.weights_file import open_weights

from .remembered import Memory, Trained, check, count, read_groups, read_numbers

WEIGHT = "weight"
TEXTS = ("step", "optimizer", "numbers", "groups")
"""What the header says."""


def save(path: Path, trained: Trained, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Write the state after `step` steps, atomically."""
    tensors: dict[str, Tensor] = {f"{WEIGHT}.{name}": parameter for name, parameter in trained.items()}
    numbers: Memory = {}
    state = optimizer.state_dict()
    for index, name in enumerate(_names(trained, optimizer)):
        for key, value in state["state"].get(index, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{key}.{name}"] = value
            else:
                numbers.setdefault(name, {})[key] = value
    values = (str(step), type(optimizer).__name__, json.dumps(numbers), json.dumps(state["param_groups"]))
    make_folder(path.parent)
    save_safetensors(tensors, path, dict(zip(TEXTS, values, strict=True)))


def restore(path: Path, trained: Trained, optimizer: torch.optim.Optimizer) -> int:
    """Load the state into parameters and optimizer.  Returns the number of steps done, 0 where there is no file.

    The optimizer's options stay those of this run.  ValueError when the file is of another model or optimizer, or is no
    state; then nothing is loaded.
    """
    if not path.exists():
        return 0
    with _parsing(path):
        with open_weights(path) as file:
            tensors, texts = file.read(file.entries), file.metadata
        if missing := [name for name in TEXTS if name not in texts]:
            raise ValueError(f"its header does not say {', '.join(missing)}")
    _refuse_other(path, trained, optimizer, tensors, texts["optimizer"])
    with _parsing(path):
        step, groups = count(texts["step"]), read_groups(texts["groups"], optimizer)
        # A parameter that was never used has no memory, and must have none after resuming either.
        memory = read_numbers(texts["numbers"])
        for key, tensor in tensors.items():
            what, _, name = key.partition(".")
            if what != WEIGHT:
                memory.setdefault(name, {})[what] = tensor
            elif tensor.dtype != trained[name].dtype:
                raise ValueError(f"{brief(name)} is in {tensor.dtype}, not {trained[name].dtype}")
        check(memory, trained, optimizer)
    for name, parameter in trained.items():
        parameter.data.copy_(tensors[f"{WEIGHT}.{name}"])
        for what, value in memory.get(name, {}).items():
            memory[name][what] = _like(parameter, value) if isinstance(value, Tensor) else value
    by_index = {index: memory[name] for index, name in enumerate(_names(trained, optimizer)) if name in memory}
    optimizer.load_state_dict({"state": by_index, "param_groups": groups})
    return step


@contextmanager
def _parsing(path: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        reason = brief(str(error), 200)
        raise ValueError(f"{path} is not a state of this loop: {reason}; remove it to start anew") from None


def _names(trained: Trained, optimizer: torch.optim.Optimizer) -> list[str]:
    """Names in the order in which the optimizer numbers its parameters."""
    names = {parameter: name for name, parameter in trained.items()}
    return [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]


def _like(parameter: Tensor, tensor: Tensor) -> Tensor:
    """A copy in memory, in the parameter's order of dimensions, which makes updates fast."""
    return torch.empty_like(parameter).copy_(tensor) if tensor.shape == parameter.shape else tensor.clone()


def _refuse_other(
    path: Path, trained: Trained, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], written_with: str
) -> None:
    mine = type(optimizer).__name__
    if written_with != mine:
        raise ValueError(f"{path} was written with {brief(written_with)}, this run has {mine}; remove it to start anew")
    saved = {key.removeprefix(f"{WEIGHT}."): t.shape for key, t in tensors.items() if key.startswith(f"{WEIGHT}.")}
    for name in sorted(saved.keys() | trained.keys()):
        there, here = saved.get(name), trained[name].shape if name in trained else None
        if there != here:
            raise ValueError(
                f"{path} is the state of another run: {brief(name)} is {_words(there)} there and {_words(here)} here; "
                "remove it to start anew"
            )


def _words(shape: torch.Size | None) -> str:
    return "missing" if shape is None else f"of shape {tuple(shape)}"
