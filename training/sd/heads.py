"""Domain heads on sd-scripts' FLUX trainer: every sample of a batch trains its own head (paper, section 3.3).

Import it after engine.enable().
"""

from __future__ import annotations

import argparse
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from makeanything.domains import Domain
from makeanything.serpentine import Layout

from ..asymmetric_network import AsymmetricNetwork
from ..data.cells import check_dataset
from ..heads.idle import IdleHeads
from ..heads.options import plan
from . import samples
from .sample_heads import DOMAIN, assign
from .trainer import FluxTrainer, datasets

logger = logging.getLogger(__name__)

NETWORK = "training.asymmetric_network"


class HeadsTrainer(FluxTrainer):
    """Chooses the heads of every batch, and draws each sample with the head of its domain."""

    network: AsymmetricNetwork
    heads: tuple[Domain, ...]
    """The network's, in order."""
    samples: list[int]
    """The head (from 0) of each sample prompt."""
    idle: IdleHeads | None = None
    """With the option idle_heads, from the first batch on."""

    def assert_extra_args(self, args: argparse.Namespace, train: Any, validation: Any) -> None:
        super().assert_extra_args(args, train, validation)
        if args.network_module != NETWORK:
            raise ValueError(f"heads are trained by the network module {NETWORK}, not by {args.network_module}")
        self.heads, resting = _read_heads(args)
        pictures = Counter[int]()
        for dataset in datasets(train, validation):
            count = assign(dataset, self.heads)
            for layout in {self.heads[head].layout for head in count}:
                check_dataset(dataset, layout)
            pictures += count
        if idle := resting & pictures.keys():
            raise ValueError(
                f"there are pictures of {self._names(idle)}, but with add_to these heads and A stay as they are: leave "
                "the pictures out, or pass train_a=true in --network_args"
            )
        for head, domain in enumerate(self.heads):
            logger.info(f"domain {head + 1}, {domain.name}: {pictures[head]} pictures")
        self.samples = samples.read_heads(args.sample_prompts, self.heads) if args.sample_prompts else []

    def on_step_start(self, args: argparse.Namespace, accelerator: Any, *rest: Any, is_train: bool = True) -> None:
        super().on_step_start(args, accelerator, *rest, is_train=is_train)
        if self.replaying:
            return
        *_, batch, _dtype = rest
        self.network.choose([attributes[DOMAIN] for attributes in batch["custom_attributes"]])
        self._place(is_train)

    @contextmanager
    def sampling(self, prompt: dict[str, Any], ae: Any) -> Iterator[Layout]:
        head = self.samples[prompt["enum"]]
        self.network.choose([head + 1])
        self._place(is_train=False)
        yield self.heads[head].layout

    def sample_images(self, *arguments: Any) -> None:
        before = self.network.route.heads
        super().sample_images(*arguments)
        self.network.route.heads = before

    def _place(self, is_train: bool) -> None:
        """Bring the chosen heads to the device; in training those of all processes, which step them together."""
        if not self.network.idle_on_cpu:
            return
        accelerator, used = self.accelerator, set(self.network.route.heads)
        if self.idle is None:
            self.idle = IdleHeads(self.network, accelerator._optimizers[0], accelerator.device)
        if is_train and accelerator.num_processes > 1:
            mine = torch.tensor([float(head in used) for head in range(len(self.heads))], device=accelerator.device)
            used = set(accelerator.reduce(mine, "sum").nonzero().flatten().tolist())
        self.idle.place(used)

    def _names(self, heads: Iterable[int]) -> str:
        return ", ".join(self.heads[head].name for head in sorted(heads))


def _read_heads(args: argparse.Namespace) -> tuple[tuple[Domain, ...], frozenset[int]]:
    """The network's heads, and those (from 0) that do not train."""
    for text in args.network_args or ():
        if "=" not in text:
            raise ValueError(f"--network_args are written name=value, got {text!r}")
    options = dict(text.split("=", 1) for text in args.network_args or ())
    if options.get("idle_heads") and args.deepspeed:
        raise ValueError(
            "idle_heads moves the optimizer's state, which DeepSpeed keeps to itself: leave one of them out"
        )
    return plan(options, args.network_weights if args.dim_from_weights else None)
