"""An ordinary LoRA in training: an asymmetric one with a single head, saved as every loader reads it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import nn

from makeanything.domains import SUBJECT, Domain
from makeanything.saving import save_safetensors
from makeanything.serpentine import Layout

from .layer import Dropout
from .network import HeadNetwork

ANY = Domain("LoRA", Layout(1, 1), SUBJECT)


class OrdinaryLora(HeadNetwork):
    """A network whose only head serves every batch without being chosen."""

    def __init__(
        self,
        model: nn.Module,
        rank: int,
        alpha: float,
        layers: Iterable[str] | None = None,
        dropout: Dropout | None = None,
    ) -> None:
        super().__init__(model, [ANY], rank, alpha, layers, dropout)

    def save(
        self,
        path: str | os.PathLike[str],
        dtype: torch.dtype | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Write a kohya LoRA, atomically; in `dtype`, all but alpha.  Its title is the file's, unless given."""
        state = {key.replace(".lora_ups.0.", ".lora_up."): tensor for key, tensor in self.export(dtype).items()}
        texts = {
            "ss_network_module": "networks.lora_flux",
            "ss_network_dim": str(self.rank),
            "ss_network_alpha": str(self.alpha),
            "modelspec.title": Path(path).stem,
        }
        save_safetensors(state, path, {**texts, **(metadata or {})})
