"""The steps of a run, on one process or several.

A step is a number of batches, shared out over the processes.  Each draws its data from a generator that depends only on
the seed, the step and the batch's place in the step.  With the weights and the optimizer's memory restored exactly, a
run that was stopped and resumed gives the same result, to the bit, as one that was not.  Several processes
(`accelerate launch` or `torchrun`) share their gradients and end on the same weights.
"""

from __future__ import annotations

import math
import signal
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object, parse_flag_from_env, reduce
from torch import Tensor, nn
from tqdm import tqdm

from ..distributed import all_reduce_gradients
from . import checkpoint
from .settings import Settings

Figures = Mapping[str, float | Tensor]
"""What to show of a batch, by name, such as the loss of each domain in it."""

Loss = Callable[[torch.Generator, int], tuple[Tensor, Figures]]
"""(generator of this batch, step) -> (loss to minimise, figures)."""

MEMORY = 0.05
"""Weight of the newest figure in the running means."""

TOGETHER = 32
"""Batches after which several processes ask each other whether to stop in the middle of a step."""

INTERRUPTED = 130
"""Exit code after Ctrl-C."""


def this_process() -> PartialState:
    """This process among those of the run, and its device."""
    # Unless it is told so, accelerate takes several processes without an accelerator for so many single ones.
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available())


class Interrupted(KeyboardInterrupt):
    """Ctrl-C: the state of all whole steps was saved."""


def fit(
    module: nn.Module,
    loss: Loss,
    settings: Settings,
    state: Path,
    title: str,
    on_save: Callable[[int], None] = lambda step: None,
) -> None:
    """Train the parameters of `module` that require gradients, resuming from the file `state` when it exists.

    The state is saved every `save_every` steps, at the end, and at Ctrl-C or SIGTERM, which raise Interrupted when the
    batch under way is done: a step of more batches is broken off and leaves nothing behind.  Before that, `on_save` is
    called with the number of steps done.  Another Ctrl-C raises KeyboardInterrupt at once.  Several processes stop at
    the same batch, and the first one alone saves.  torch's own generator is seeded at every batch, for dropout.
    """
    process = this_process()
    module.to(process.device)
    trained = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    optimizer = settings.make_optimizer(module)
    start = checkpoint.restore(state, trained, optimizer)
    means: dict[str, float] = {}
    bar = tqdm(total=settings.steps, initial=start, desc=title, dynamic_ncols=True, disable=not process.is_main_process)
    if start >= settings.steps:
        bar.write(f"{state} has done its {start} steps; remove it to start anew", file=sys.stderr)
    # A step's figures are looked at when the next one is under way, so that the device never waits for this process.
    done = saved = start
    before: tuple[int, list[Figures]] = (start, [])
    with _stop_signals() as stopped, bar:
        while done < settings.steps:
            after = _step(trained, optimizer, loss, settings, done, stopped)
            shown = _read(*before)
            before = (done, after or [])
            done += after is not None
            saving = after is not None and (done % settings.save_every == 0 or done == settings.steps)
            if saving or stopped:
                shown, before = shown + _read(*before), (done, [])
            reports = gather_object([(bool(stopped), shown)])
            stop = any(stopping for stopping, _ in reports)
            if stop:
                # Saving is short: one more Ctrl-C does not break it off.
                stopped.clear()
            if process.is_main_process:
                _show(bar, done, means, [figures for _, shown in reports for figures in shown])
                if (stop or saving) and done > saved:
                    # The state last: a run that is killed in between does these steps again, and saves again.
                    on_save(done)
                    checkpoint.save(state, trained, optimizer, done)
                    saved = done
            if stop and done < settings.steps:
                raise Interrupted(f"{title}: stopped after {done} steps; run the same command to go on")
    process.wait_for_everyone()


def _step(
    trained: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    loss: Loss,
    settings: Settings,
    step: int,
    stopped: Collection[int],
) -> list[Figures] | None:
    """One update; the figures of this process's batches.  None when it was stopped between two of them."""
    process = this_process()
    optimizer.zero_grad(set_to_none=True)
    shown: list[Figures] = []
    for turn in range(settings.accumulation):
        if turn and _break_off(stopped, turn):
            return None
        place = turn * process.num_processes + process.process_index
        entropy = np.random.SeedSequence((settings.seed, step, place)).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(entropy[0]))
        torch.manual_seed(generator.initial_seed())
        with _autocast(settings.mixed_precision):
            value, figures = loss(generator, step)
        (value / settings.accumulation).backward()
        shown.append({"loss": value.detach(), **figures})
    if process.num_processes > 1:
        all_reduce_gradients(trained.values(), reduce, process.device)
    if settings.clip:
        torch.nn.utils.clip_grad_norm_(trained.values(), settings.clip)
    # Not before, so that a step that is broken off changes nothing.
    for group in optimizer.param_groups:
        group["lr"] = settings.lr_at(step)
    optimizer.step()
    return shown


def _break_off(stopped: Collection[int], turn: int) -> bool:
    """Whether to stop before this batch: all processes or none."""
    if this_process().num_processes == 1:
        return bool(stopped)
    return turn % TOGETHER == 0 and any(gather_object([bool(stopped)]))


def _read(step: int, shown: Iterable[Figures]) -> list[dict[str, float]]:
    """A step's figures as numbers.  FloatingPointError when its loss is not finite."""
    numbers = [{name: float(value) for name, value in figures.items()} for figures in shown]
    for figures in numbers:
        if not math.isfinite(figures["loss"]):
            raise FloatingPointError(f"the loss of step {step} is {figures['loss']}; lower the learning rate")
    return numbers


def _show(bar: tqdm, done: int, means: dict[str, float], batches: Iterable[Mapping[str, float]]) -> None:
    """Carry the running means on, each over the batches that have its figure, and show them."""
    for figures in batches:
        for name, value in figures.items():
            means[name] = value + (1 - MEMORY) * (means.get(name, value) - value)
    bar.set_postfix({name: f"{mean:.4f}" for name, mean in means.items()}, refresh=False)
    bar.update(done - bar.n)


def _autocast(precision: str) -> torch.autocast:
    return torch.autocast(this_process().device.type, torch.bfloat16, enabled=precision == "bf16")


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in a list, so that the batch under way can end.  Another Ctrl-C raises at once."""
    stopped: list[int] = []

    def hear(number: int, frame: object) -> None:
        # Schedulers, and launchers of several processes, send SIGTERM after SIGINT: this is not a second thought.
        if number == signal.SIGINT and number in stopped:
            raise KeyboardInterrupt
        stopped.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, hear) for number in numbers]
    try:
        yield stopped
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
