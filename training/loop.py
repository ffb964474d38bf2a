"""A small training loop for models that fit: every step is seeded by its number, so a resumed run is the same run.

The loss draws its data from the generator it is given, which depends on the seed and the step alone; with the weights
and the optimizer's state restored exactly, an interrupted and resumed run ends on the bits of an uninterrupted one.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from makeanything.files import open_safetensors, save_safetensors

Loss = Callable[[torch.Generator, int], tuple[Tensor, Mapping[str, float]]]
"""(generator of this step, step) -> (loss to minimise, figures to show)."""


@dataclass(frozen=True)
class Settings:
    """A run: `steps` of AdamW, warmed up over `warmup` steps and then decayed along a cosine to nothing."""

    steps: int
    lr: float
    warmup: int = 50
    weight_decay: float = 0.0
    clip: float = 1.0
    seed: int = 0
    save_every: int = 100

    def __post_init__(self) -> None:
        if self.steps < 1 or self.lr <= 0 or self.save_every < 1:
            raise ValueError(f"steps, lr and save_every must be positive: {self}")

    def lr_at(self, step: int) -> float:
        warm = min(1.0, (step + 1) / max(self.warmup, 1))
        return self.lr * warm * (0.5 + 0.5 * torch.cos(torch.tensor(step / self.steps * torch.pi)).item())


class Interrupted(KeyboardInterrupt):
    """Ctrl-C: the state was saved after the step that was under way."""


def fit(module: nn.Module, loss: Loss, settings: Settings, checkpoint: Path, title: str) -> None:
    """Train the parameters of `module` that require gradients, resuming from `checkpoint` when it exists.

    The checkpoint is a safetensors file, saved every `save_every` steps, at the end and at Ctrl-C.
    """
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), lr=settings.lr, weight_decay=settings.weight_decay)
    start = _restore(checkpoint, trained, optimizer)
    bar = tqdm(range(start, settings.steps), initial=start, total=settings.steps, desc=title, dynamic_ncols=True)
    with _ctrl_c() as interrupted:
        for step in bar:
            figures = _step(trained, optimizer, loss, settings, step)
            bar.set_postfix({name: f"{value:.4f}" for name, value in figures.items()}, refresh=False)
            done = step + 1
            if interrupted or done % settings.save_every == 0 or done == settings.steps:
                _save(checkpoint, trained, optimizer, done)
            if interrupted:
                raise Interrupted(f"{title}: stopped after step {done}; run the same command to go on")


def _step(
    trained: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, loss: Loss, settings: Settings, step: int
) -> Mapping[str, float]:
    for group in optimizer.param_groups:
        group["lr"] = settings.lr_at(step)
    value, figures = loss(torch.Generator().manual_seed(settings.seed * 1_000_003 + step), step)
    if not value.isfinite():
        raise FloatingPointError(f"the loss of step {step} is {value.item()}; lower the learning rate")
    optimizer.zero_grad(set_to_none=True)
    value.backward()
    torch.nn.utils.clip_grad_norm_(trained.values(), settings.clip)
    optimizer.step()
    return {"loss": value.item(), **figures}


def _save(path: Path, trained: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, step: int) -> None:
    tensors = {f"weight.{name}": p for name, p in trained.items()}
    for name, p in trained.items():
        tensors |= {f"{key}.{name}": value for key, value in optimizer.state.get(p, {}).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_safetensors(tensors, path, {"step": str(step)})


def _restore(path: Path, trained: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> int:
    """Load a checkpoint into parameters and optimizer; the step to go on with (0 without a checkpoint)."""
    if not path.exists():
        return 0
    with open_safetensors(path) as file:
        step = int(file.metadata()["step"])
        keys = set(file.keys())
        if wrong := {key.removeprefix("weight.") for key in keys if key.startswith("weight.")} ^ set(trained):
            raise ValueError(f"{path} belongs to another model ({sorted(wrong)[0]} differs); remove it to start anew")
        for name, p in trained.items():
            p.data.copy_(file.get_tensor(f"weight.{name}"))
            # A parameter that was never used has no optimizer state, and must have none after resuming either.
            state = {key: file.get_tensor(f"{key}.{name}") for key in _ADAM if f"{key}.{name}" in keys}
            if state:
                optimizer.state[p] = state
    return step


_ADAM = ("step", "exp_avg", "exp_avg_sq")


@contextmanager
def _ctrl_c() -> Iterator[list[bool]]:
    """Collect Ctrl-C in a list, so that the step under way can end; a second Ctrl-C acts at once."""
    pressed: list[bool] = []

    def note(number: int, frame: object) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(True)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)
