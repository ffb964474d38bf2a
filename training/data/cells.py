"""ReCraft's tail in training: encoded alone, held clean, left out of the loss (paper, section 3.4); on any engine.

Cut from the latents of the whole grid, the cell would carry its neighbours' pixels through the encoder's receptive
field, which sampling never sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from makeanything.recraft import loss_mask, paste
from makeanything.serpentine import PIXELS_PER_TOKEN, STANDARD_CELLS, Layout

EXAMPLES = 3
"""How many pictures an error names."""


Encode = Callable[[Tensor], Tensor]
"""Pictures (B, 3, h, w) -> latents (B, C, h/8, w/8)."""


class Encoder(Protocol):
    """FLUX's autoencoder as BFL and sd-scripts write it: latents are (z - shift_factor) * scale_factor."""

    scale_factor: float
    shift_factor: float
    encoder: Callable[[Tensor], Tensor]

    def encode(self, x: Tensor) -> Tensor: ...


def encode_tail_alone(grids: Tensor, layout: Layout, encode: Encode, encode_tail: Encode) -> Tensor:
    """Grids (B, 3, H, W) -> latents (B, C, H/8, W/8), the tail's cell encoded alone."""
    box = layout.box(layout.tail, *grids.shape[-2:])
    return paste(encode(grids), layout, {layout.tail: encode_tail(grids[:, :, box.rows, box.cols])})


def encode_grids(ae: Encoder, grids: Tensor, layout: Layout) -> Tensor:
    """Grids (B, 3, H, W), values -1..1 -> latents (B, C, H/8, W/8), the tail's cell encoded alone and clean."""
    return encode_tail_alone(grids, layout, ae.encode, partial(encode_clean, ae))


def encode_clean(ae: Encoder, pictures: Tensor) -> Tensor:
    """Pictures (B, 3, h, w), values -1..1 -> the mean of their latents' distribution (B, C, h/8, w/8).

    ComfyUI encodes so; `ae.encode` draws from the distribution.
    """
    mean, _ = ae.encoder(pictures).chunk(2, dim=1)
    return (mean - ae.shift_factor) * ae.scale_factor


def pin_tail(noisy: Tensor, latents: Tensor, layout: Layout) -> Tensor:
    """Noisy latents (B, C, H, W) with the tail of the clean ones."""
    box = layout.box(layout.tail, *latents.shape[-2:])
    return paste(noisy, layout, {layout.tail: latents[:, :, box.rows, box.cols]})


def loss_weights(layout: Layout, height: int, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """(1, 1, height, width) in latents: 0 in the tail; in the other cells one value that makes up for it.

    The mean of weighted errors is the mean over the other cells.
    """
    mask = loss_mask(layout, height, width).to(dtype)
    return mask / mask.mean()


def check_size(height: int, width: int, layout: Layout) -> None:
    """ValueError unless the cells of a grid of this size (pixels) are whole numbers of tokens."""
    cell = layout.cell_size(height, width)
    if cell[0] % PIXELS_PER_TOKEN or cell[1] % PIXELS_PER_TOKEN:
        edge = layout.standard_cell
        raise ValueError(
            f"a {layout} grid of {width} x {height} px has cells of {cell[1]} x {cell[0]}; their edges must be "
            f"multiples of {PIXELS_PER_TOKEN}. The standard size is {layout.cols * edge} x {layout.rows * edge}"
        )


def check_dataset(dataset: Any, layout: Layout) -> None:
    """ValueError for what would move a grid's cells: a dataset of sd-scripts that buckets, crops, flips or resizes."""
    size = (dataset.width, dataset.height)
    if dataset.enable_bucket:
        raise ValueError("bucketing crops grids (1056 px to 1024), which moves their cells: leave enable_bucket out")
    check_size(dataset.height, dataset.width, layout)
    # 2x2 divides 1056 px into whole tokens too.
    if layout == Layout.of(4) and size == (3 * STANDARD_CELLS[9],) * 2:
        raise ValueError(
            f"grids of {size[0]} x {size[1]} px have 9 frames (3x3), not {layout}; is the head one for other grids?"
        )
    for subset in dataset.subsets:
        for option in ("flip_aug", "random_crop", "face_crop_aug_range"):
            if getattr(subset, option):
                raise ValueError(f"{option} of {subset.image_dir} moves the grid's cells: leave it out")
    _check_pictures(((info.absolute_path, tuple(info.image_size)) for info in dataset.image_data.values()), size)


def _check_pictures(pictures: Iterable[tuple[str, tuple[int, int]]], size: tuple[int, int]) -> None:
    wrong = [f"{path} ({width} x {height})" for path, (width, height) in pictures if (width, height) != size]
    if wrong:
        more = f" and {len(wrong) - EXAMPLES} more" if len(wrong) > EXAMPLES else ""
        raise ValueError(
            f"the dataset's resolution is {size[0]} x {size[1]} px, and every grid must have it, not so: "
            f"{', '.join(wrong[:EXAMPLES])}{more}. Were they made with another number of frames?"
        )
