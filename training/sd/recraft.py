"""ReCraft on sd-scripts' FLUX trainer: an ordinary LoRA on a FLUX with one domain's head in it (paper, section 3.4).

In every sample the tail of the grid is the finished picture: encoded alone, clean in the input, out of the loss.
Import it after engine.enable().
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from library import flux_train_utils, flux_utils, strategy_flux
from torch import Tensor, nn

from makeanything.serpentine import Layout

from ..data.cells import check_dataset, encode_grids, loss_weights, pin_tail
from ..heads.merged import Base
from .recraft_samples import encode_condition, pin_tail_in, read_conditions
from .sample_heads import said_of
from .samples import size_of
from .trainer import FluxTrainer, datasets

logger = logging.getLogger(__name__)


class TailCaching(strategy_flux.FluxLatentsCachingStrategy):
    """Latents with the tail encoded alone, in files of their own, so that none of another layout or trainer is read."""

    def __init__(self, to_disk: bool, batch_size: int, layout: Layout) -> None:
        super().__init__(to_disk, batch_size, False)
        self.layout = layout

    @property
    def cache_suffix(self) -> str:
        return f"_tail{self.layout}.npz"

    def get_latents_npz_path(self, absolute_path: str, image_size: tuple[int, int]) -> str:
        width, height = image_size
        # sd-scripts reads the size back from between the last two underscores.
        return f"{os.path.splitext(absolute_path)[0]}_{width:04d}x{height:04d}{self.cache_suffix}"  # noqa: PTH122

    def cache_batch_latents(
        self, ae: Any, infos: list[Any], flip_aug: bool, alpha_mask: bool, random_crop: bool
    ) -> None:
        def encode(grids: Tensor) -> Tensor:
            return encode_grids(ae, grids, self.layout)

        self._default_cache_batch_latents(
            encode, ae.device, ae.dtype, infos, flip_aug, alpha_mask, random_crop, multi_resolution=True
        )


class ReCraftTrainer(FluxTrainer):
    """The trainer that merges the head when FLUX is loaded, and holds the tail in every step and sample."""

    base: Base
    """What the command line says of the head and the grids."""
    conditions: Sequence[Path] = ()
    """Pictures of the sample prompts, in their order."""

    def train(self, args: argparse.Namespace) -> None:
        self.base = Base.read(args.pretrained_model_name_or_path, args.head_file, args.head, args.frames)
        if self.base.domain and self.base.domain.layout != self.base.layout:
            logger.warning(f"--frames asks for {self.base.layout}, the head draws {self.base.domain.layout}")
        if args.save_merged:
            self.base.check_target(Path(args.save_merged), args.pretrained_model_name_or_path)
        if args.sample_prompts:
            self.conditions = read_conditions(args.sample_prompts, self.base.layout)
        super().train(args)

    def get_latents_caching_strategy(self, args: argparse.Namespace) -> TailCaching:
        return TailCaching(args.cache_latents_to_disk, args.vae_batch_size, self.base.layout)

    def assert_extra_args(self, args: argparse.Namespace, train: Any, validation: Any) -> None:
        super().assert_extra_args(args, train, validation)
        for dataset in datasets(train, validation):
            check_dataset(dataset, self.base.layout)
            self._warn_of_other_domains(dataset)

    def _warn_of_other_domains(self, dataset: Any) -> None:
        """One picture of a subset stands for all."""
        warned = set()
        for key, info in dataset.image_data.items():
            subset = dataset.image_to_subset[key]
            said = said_of(info, subset)
            try:
                self.base.check_picture(info.absolute_path, *said)
            except ValueError as error:
                if id(subset) not in warned:
                    logger.warning(str(error))
                warned.add(id(subset))

    def load_target_model(self, args: argparse.Namespace, weight_dtype: torch.dtype, accelerator: Any) -> Any:
        def load(*arguments: Any, **named: Any) -> tuple[bool, nn.Module]:
            schnell, flux = original(*arguments, **named)
            self._merge(flux, args, accelerator)
            return schnell, flux

        original = flux_utils.load_flow_model
        # Before the cast to fp8, on whose coarse steps most of a head's update would be lost.
        with replaced(flux_utils, "load_flow_model", load):
            return super().load_target_model(args, weight_dtype, accelerator)

    def _merge(self, flux: Any, args: argparse.Namespace, accelerator: Any) -> None:
        domain = self.base.domain
        if self.base.file is None or domain is None:
            if not (domain or args.base_weights):
                logger.warning("no head is merged into FLUX; pass --head_file, unless it draws the domain already")
            return
        if flux.dtype.itemsize == 1:
            logger.warning(f"this FLUX is in {flux.dtype}, too coarse for most of a head: take one in bf16")
        self.base.merge(flux, accelerator.device)
        logger.info(f"merged the head {domain.name} of {self.base.file.name}")
        if args.save_merged and accelerator.is_main_process:
            self.base.save(flux, args.save_merged)

    def encode_images_to_latents(self, args: argparse.Namespace, ae: Any, images: Tensor) -> Tensor:
        return encode_grids(ae, images, self.base.layout)

    def get_noise_pred_and_target(
        self, args: argparse.Namespace, accelerator: Any, scheduler: Any, latents: Tensor, *rest: Any, **named: Any
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        def add_noise(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
            noisy, timesteps, sigmas = original(*arguments)
            return pin_tail(noisy, latents, self.base.layout), timesteps, sigmas

        original = flux_train_utils.get_noisy_model_input_and_timesteps
        with replaced(flux_train_utils, "get_noisy_model_input_and_timesteps", add_noise):
            prediction, target, timesteps, weighting = super().get_noise_pred_and_target(
                args, accelerator, scheduler, latents, *rest, **named
            )
        weights = loss_weights(self.base.layout, *latents.shape[-2:]).to(target.device)
        return prediction, target, timesteps, weights if weighting is None else weights * weighting

    @contextmanager
    def sampling(self, prompt: dict[str, Any], ae: Any) -> Iterator[Layout]:
        layout = self.base.layout
        height, width = size_of(prompt, layout)
        condition = self.conditions[prompt["enum"]]
        cell = encode_condition(ae, condition, *layout.cell_size(height, width), self.accelerator.device)
        denoise = pin_tail_in(flux_train_utils.denoise, cell, layout, height, width)
        with replaced(flux_train_utils, "denoise", denoise):
            yield layout

    def update_metadata(self, metadata: dict[str, Any], args: argparse.Namespace) -> None:
        super().update_metadata(metadata, args)
        metadata["ss_recraft_layout"] = str(self.base.layout)
        metadata["ss_recraft_head"] = self.base.domain.name if self.base.domain else "none"


@contextmanager
def replaced(module: ModuleType, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Have sd-scripts call another function in place of a module's, where there is no method to override."""
    original = getattr(module, name)
    setattr(module, name, function)
    try:
        yield
    finally:
        setattr(module, name, original)
