"""What our trainers on sd-scripts share: exact resuming, several processes, and samples saved with their frames.

Import it after engine.enable().

Every batch draws its noise from a seed of its own and every epoch its order of the data, so what a step does depends on
its number, the weights and the optimizer's state alone.  A resumed run goes through the data from the start without
training, and loads the state where it was saved: step numbers, epochs, order of the data, captions drawn at random and
schedules are then those of the run that it continues.  (sd-scripts' own skipping counts steps from the epoch it starts
in, and draws other data.)
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import random
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast
from flux_train_network import FluxNetworkTrainer
from torch import Tensor, nn

from makeanything.saving import atomic
from makeanything.serpentine import Layout

from ..distributed import all_reduce_gradients, share_weights
from . import samples

logger = logging.getLogger(__name__)

TRAIN_STATE = "train_state.json"
PROGRESS = "makeanything_progress.json"
"""Files in the folder of a state: sd-scripts' and ours."""
HELD = {
    "save_every_n_steps": None,
    "save_every_n_epochs": None,
    "validate_every_n_steps": None,
    "validate_every_n_epochs": sys.maxsize,
}
"""Settings while a resumed run goes through its data, so that nothing is saved or validated a second time."""
EPOCH, BATCH = range(2)


class FluxTrainer(FluxNetworkTrainer):
    """sd-scripts' FLUX trainer, whose steps are seeded by their number.

    A subclass that overrides a hook calls super() first; while `replaying`, nothing trains.
    """

    network: nn.Module
    accelerator: Any
    run: dict[str, int]
    """What must be the same in a run that resumes this one."""
    replaying: Path | None = None
    """The state that a resumed run is on its way to."""
    goal: int
    """The number of steps done in that state."""
    held: dict[str, Any]
    """The settings that HELD replaces on that way."""
    batches = 0
    steps = 0
    loss: Tensor | None = None
    """About the mean of the last hundred batches."""

    def assert_extra_args(self, args: argparse.Namespace, train: Any, validation: Any) -> None:
        super().assert_extra_args(args, train, validation)
        for dataset in datasets(train, validation):
            for subset in dataset.subsets:
                # toml reads an inline table as a class of its own, which can't be sent to the loader's processes: they
                # would wait for it forever.
                subset.custom_attributes = json.loads(json.dumps(subset.custom_attributes, default=str))
        if args.resume and args.initial_step is None and args.initial_epoch is None:
            args.initial_step = 0

    def post_process_network(
        self, args: argparse.Namespace, accelerator: Any, network: nn.Module, text_encoders: Any, unet: nn.Module
    ) -> None:
        super().post_process_network(args, accelerator, network, text_encoders, unet)
        self.network, self.accelerator = network, accelerator
        self.run = {"seed": args.seed, "processes": accelerator.num_processes}
        accelerator.register_save_state_pre_hook(self._save_progress)
        accelerator.register_load_state_pre_hook(self._load_progress)
        if accelerator.num_processes > 1 and not args.deepspeed:
            # DistributedDataParallel refuses a frozen FLUX, and for the network it would only reserve memory: gradients
            # are reduced in all_reduce_network.
            accelerator.prepare_model = functools.partial(accelerator.prepare_model, evaluation_mode=True)
        # What was drawn before depends on what the caches held.
        torch.manual_seed(args.seed)

    def on_step_start(self, args: argparse.Namespace, accelerator: Any, *rest: Any, is_train: bool = True) -> None:
        super().on_step_start(args, accelerator, *rest, is_train=is_train)
        if not is_train:
            return
        if self.batches == 0:
            self._begin(args, accelerator)
        if self.replaying and self.steps == self.goal:
            self._load_state(args, accelerator)
        _seed(args.seed, BATCH, self.batches, accelerator.process_index)
        self.batches += 1
        self.steps += bool(accelerator.sync_gradients)

    def process_batch(self, *arguments: Any, is_train: bool = True, **named: Any) -> Tensor:
        if self.replaying:
            # A gradient of zero, because a gradient scaler wants to see one.
            anything = next(parameter for parameter in self.network.parameters() if parameter.requires_grad)
            return 0 * anything.flatten()[0] + (0 if self.loss is None else self.loss)
        loss = super().process_batch(*arguments, is_train=is_train, **named)
        if is_train:
            self.loss = loss.detach() if self.loss is None else torch.lerp(self.loss, loss.detach(), 0.01)
        return loss

    def all_reduce_network(self, accelerator: Any, network: nn.Module) -> None:
        if accelerator.num_processes > 1 and not self.replaying:
            mean = functools.partial(accelerator.reduce, reduction="mean")
            all_reduce_gradients(self.network.parameters(), mean, accelerator.device)

    def sampling(self, prompt: dict[str, Any], ae: Any) -> AbstractContextManager[Layout]:
        """What holds while a prompt of --sample_prompts is drawn; the layout of its grid."""
        raise NotImplementedError

    def sample_images(self, accelerator: Any, args: argparse.Namespace, epoch: int | None, *rest: Any) -> None:
        if not self.replaying:
            with samples.grids(self.sampling), samples.evaluating(self.network):
                super().sample_images(accelerator, args, epoch, *rest)
        if epoch is not None:
            # sd-scripts calls this at the start and at the end of every epoch: next it draws an epoch's order.
            _seed(args.seed, EPOCH, epoch)

    def step_logging(self, *arguments: Any, **named: Any) -> None:
        if not self.replaying:
            super().step_logging(*arguments, **named)

    def epoch_logging(self, *arguments: Any, **named: Any) -> None:
        if not self.replaying:
            super().epoch_logging(*arguments, **named)

    def _begin(self, args: argparse.Namespace, accelerator: Any) -> None:
        if accelerator.num_processes > 1:
            share_weights(self.network.parameters(), broadcast, accelerator.device)
        if self.replaying:
            if self.goal >= args.max_train_steps:
                raise ValueError(
                    f"{self.replaying} is the state after step {self.goal}, and --max_train_steps is "
                    f"{args.max_train_steps}: nothing is left to train"
                )
            logger.info(f"going through the data of the {self.goal} steps up to {self.replaying}")
            self.held = {name: getattr(args, name) for name in HELD}
            vars(args).update(HELD)

    def _load_state(self, args: argparse.Namespace, accelerator: Any) -> None:
        folder, self.replaying = self.replaying, None
        vars(args).update(self.held)
        # The replay has brought these to where they were; the state has them from one batch earlier.
        kept, drawn, shuffled = accelerator.step, np.random.get_state(), random.getstate()
        accelerator.load_state(folder)
        accelerator.step = kept
        np.random.set_state(drawn)
        random.setstate(shuffled)

    def _save_progress(self, models: Any, weights: Any, folder: str) -> None:
        progress = {**self.run, "loss": None if self.loss is None else self.loss.item()}
        with atomic(Path(folder, PROGRESS)) as temporary:
            temporary.write_text(json.dumps(progress), encoding="utf-8")

    def _load_progress(self, models: Any, folder: str) -> None:
        """Called when sd-scripts resumes, before the first batch: from here on the run replays."""
        if self.batches:
            return
        saved = {name: Path(folder, name) for name in (TRAIN_STATE, PROGRESS)}
        if missing := [str(path) for path in saved.values() if not path.is_file()]:
            raise FileNotFoundError(
                f"{', '.join(missing)} is missing: it is not a state of this trainer, or one saved halfway"
            )
        progress = json.loads(saved[PROGRESS].read_text(encoding="utf-8"))
        for name, value in self.run.items():
            if progress[name] != value:
                raise ValueError(f"{folder} was saved with {name} {progress[name]}; now it is {value}, another run")
        self.replaying = Path(folder)
        self.goal = json.loads(saved[TRAIN_STATE].read_text(encoding="utf-8"))["current_step"]
        if progress["loss"] is not None:
            self.loss = torch.tensor(progress["loss"], device=self.accelerator.device)


def datasets(*groups: Any) -> Iterator[Any]:
    """sd-scripts' datasets of several groups, of which any may be None."""
    for group in groups:
        yield from getattr(group, "datasets", ())


def _seed(*numbers: int) -> None:
    torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]))
