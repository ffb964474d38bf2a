"""FLUX models and LoRA files of random numbers, of any size."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from makeanything.lora_header import lora_name
from makeanything.reference.flux import Flux, FluxParams

_NAMES = {torch.bfloat16: "BF16", torch.float32: "F32"}


@dataclass(frozen=True)
class Size:
    """Of a model, of the grid it draws (edge in pixels), of its prompt (tokens) and of its LoRAs."""

    params: FluxParams
    edge: int
    text: int
    rank: int
    dtype: torch.dtype

    def __str__(self) -> str:
        p = self.params
        return (
            f"width {p.hidden_size}, {p.depth} + {p.depth_single_blocks} blocks, rank {self.rank}, {self.edge} x "
            f"{self.edge} px ({self.tokens} tokens), {str(self.dtype).removeprefix('torch.')}"
        )

    @property
    def tokens(self) -> int:
        return (self.edge // 16) ** 2 + self.text

    @property
    def flop(self) -> float:
        """Of the products of one step: each linear layer of the blocks, and attention."""
        p, n = self.params, self.tokens
        weights = (4 + 2 * p.mlp_ratio) * p.hidden_size**2
        return (p.depth + p.depth_single_blocks) * (2 * n * weights + 4 * n * n * p.hidden_size)


NANO = Size(FluxParams(256, 1, 4, 128, 128), edge=192, text=24, rank=16, dtype=torch.float32)
MIDDLE = Size(FluxParams(1024, 2, 4, 256, 64), edge=384, text=64, rank=24, dtype=torch.float32)
FULL = Size(FluxParams(), edge=1056, text=512, rank=64, dtype=torch.bfloat16)
"""FLUX.1-dev on grids of 9 frames, with heads of the released rank."""
TINY = Size(FluxParams(128, 1, 1, 32, 16), edge=96, text=8, rank=4, dtype=torch.float32)


def weights(size: Size, device: str) -> dict[str, Tensor]:
    """Random weights with BFL names, made on `device` and kept in main memory."""
    with torch.device("meta"):
        shapes = {key: weight.shape for key, weight in Flux(size.params).state_dict().items()}

    def draw(key: str, shape: torch.Size) -> Tensor:
        if key.endswith(".scale"):
            return torch.ones(shape, dtype=size.dtype)
        return torch.empty(shape, dtype=size.dtype, device=device).normal_(std=0.02).cpu()

    return {key: draw(key, shape) for key, shape in shapes.items()}


def lora_shapes(size: Size, heads: int) -> dict[str, tuple[int, ...]]:
    """Key -> shape of an asymmetric LoRA with that many heads; with 0, of an ordinary kohya LoRA."""
    with torch.device("meta"):
        state = Flux(size.params).state_dict()
    shapes: dict[str, tuple[int, ...]] = {}
    for key, weight in state.items():
        if "_blocks." in key and key.endswith(".weight"):
            name = lora_name(key.removesuffix(".weight"))
            outputs, inputs = weight.shape
            ups = [f"lora_ups.{head}" for head in range(heads)] or ["lora_up"]
            shapes |= {f"{name}.{up}.weight": (outputs, size.rank) for up in ups}
            shapes |= {f"{name}.lora_down.weight": (size.rank, inputs), f"{name}.alpha": ()}
    return shapes


def write(
    shapes: Mapping[str, tuple[int, ...]], path: Path, dtype: torch.dtype = torch.bfloat16, seed: int = 0
) -> None:
    """A safetensors file of random numbers, in the order safetensors keeps; little of it is in memory at a time."""
    header, end = {}, 0
    for key, shape in sorted(shapes.items()):
        start, end = end, end + math.prod(shape) * dtype.itemsize
        header[key] = {"dtype": _NAMES[dtype], "shape": shape, "data_offsets": (start, end)}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    # Each tensor begins elsewhere in one pool: drawing every number anew takes longer than all measurements.
    pool = torch.empty(max(map(math.prod, shapes.values())) + len(shapes), dtype=dtype)
    pool.uniform_(-0.02, 0.02, generator=torch.Generator().manual_seed(seed))
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for offset, key in enumerate(header):
            values = pool[offset : offset + math.prod(shapes[key])]
            file.write(values.view(torch.uint8).numpy().data)
