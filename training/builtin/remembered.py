"""What the optimizers remember, parsed from a file: nothing goes into an optimizer that it could not have written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from makeanything.foreign import brief, parse_json

NUMBERS = ("step", "RMS")
"""What is a single number for each parameter; it may have another type than the parameter."""
COUNTED = "updates"
"""Of a group of parameters, what changes as the optimizer goes on (CAME's); the rate is the loop's."""
LARGEST = 10**12
"""Of what is counted."""
JSON_DEPTH, JSON_VALUES = 4, 1_000_000

Trained = Mapping[str, nn.Parameter]
"""What trains, by name."""
Memory = dict[str, dict[str, Any]]
"""What is remembered of parameters, by their names."""


def check(memory: Memory, trained: Trained, optimizer: torch.optim.Optimizer) -> None:
    """ValueError unless the optimizer could have remembered this of parameters that it has updated."""
    for name, kept in memory.items():
        if name not in trained:
            raise ValueError(f"it remembers {brief(name)}, which this run does not train")
        wanted = _wanted(optimizer, trained[name].shape)
        if kept.keys() != wanted.keys():
            there, here = (brief(", ".join(sorted(names))) for names in (kept, wanted))
            raise ValueError(f"of {brief(name)} it remembers {there}, not {here}")
        for what, shape in wanted.items():
            if problem := _problem_of(kept[what], what, shape, trained[name].dtype):
                raise ValueError(f"{what} of {brief(name)} is {problem}")


def _problem_of(value: Any, what: str, shape: torch.Size, dtype: torch.dtype) -> str:
    types = {dtype, torch.float32, torch.float64} if what in NUMBERS else {dtype}
    if isinstance(value, Tensor) or what not in NUMBERS:
        if not isinstance(value, Tensor) or value.shape != shape or value.dtype not in types:
            return f"not of shape {tuple(shape)} in {dtype}"
        value = value.item() if what in NUMBERS else 0
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "not a number"
    return "not a count" if what == "step" and not _is_count(value) else ""


def _wanted(optimizer: torch.optim.Optimizer, shape: torch.Size) -> dict[str, torch.Size]:
    """What an optimizer remembers of a parameter, and of which shape."""
    one = torch.Size()
    if type(optimizer).__name__ == "Came":
        rows, cols = shape[:-1], shape[:-2] + shape[-1:]
        squares = {"exp_avg_sq_row": rows, "exp_avg_sq_col": cols, "exp_avg_res_row": rows, "exp_avg_res_col": cols}
        return {"step": one, "RMS": one, "exp_avg": shape, **(squares if len(shape) > 1 else {"exp_avg_sq": shape})}
    highest = {"max_exp_avg_sq": shape} if optimizer.defaults.get("amsgrad") else {}
    return {"step": one, "exp_avg": shape, "exp_avg_sq": shape, **highest}


def read_numbers(text: str) -> Memory:
    """What is remembered in numbers alone, as JSON."""
    memory = parse_json(text, JSON_DEPTH, JSON_VALUES, lenient=True)
    if not isinstance(memory, dict) or not all(isinstance(kept, dict) for kept in memory.values()):
        raise ValueError("its numbers are not those of parameters")
    return memory


def read_groups(text: str, optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """The optimizer's groups of parameters as this run has them, with what those of the JSON have counted."""
    there, here = parse_json(text, JSON_DEPTH, JSON_VALUES, lenient=True), optimizer.state_dict()["param_groups"]
    if not isinstance(there, list) or not all(isinstance(group, dict) for group in there):
        raise ValueError("its groups are not those of parameters")
    if [group.get("params") for group in there] != [group["params"] for group in here]:
        raise ValueError("its groups are of other parameters")
    for old, group in zip(there, here, strict=True):
        if COUNTED in group:
            group[COUNTED] = count(old.get(COUNTED))
    return here


def count(value: Any) -> int:
    """What was counted, as a number or in digits; ValueError for what is not a whole number from 0."""
    number = int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,15}", value) else value
    if not _is_count(number):
        raise ValueError(f"{brief(str(value))} is not a count")
    return int(number)


def _is_count(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and 0 <= value <= LARGEST and value == int(value)
