"""ReCraft: frames of a grid held clean while the others are drawn (paper, section 3.4).

The picture takes its cell's place in the token stream, so no token is added; all tokens attend to all, so the other
frames see it.  Sampling holds the cell at the clean latents; training does the same and leaves it out of the loss.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from PIL import Image
from torch import Tensor

from .pictures import flatten, from_image, to_bytes
from .serpentine import LATENTS_PER_TOKEN, Layout

WHITE = 255

Cells = Mapping[int, Tensor]
"""Frame -> clean latents of its cell, (B or 1, C, h, w)."""


def fit(pictures: Tensor, height: int, width: int) -> Tensor:
    """Pictures (B, H, W, C) of 1, 3 or 4 channels, values 0..1 -> (B, height, width, 3); see `fit_image`.

    Pictures of the cell's own size stay as they are, to the bit.
    """
    if pictures.shape[1:] == (height, width, 3):
        return pictures
    images = [Image.fromarray(pixels) for pixels in to_bytes(flatten(pictures))]
    return torch.stack([from_image(fit_image(image, height, width)) for image in images]).to(pictures.device)


def fit_image(image: Image.Image, height: int, width: int) -> Image.Image:
    """Pad an RGB image with white to the cell's aspect (centred), then resize it with LANCZOS."""
    padded = (
        max(image.width, round(image.height * width / height)),
        max(image.height, round(image.width * height / width)),
    )
    canvas = Image.new("RGB", padded, (WHITE,) * 3)
    canvas.paste(image, ((padded[0] - image.width) // 2, (padded[1] - image.height) // 2))
    return canvas.resize((width, height), Image.Resampling.LANCZOS)


def paste(latents: Tensor, layout: Layout, cells: Cells) -> Tensor:
    """A copy of grid latents (B, C, H, W) with each given frame's cell replaced."""
    pinned = latents.clone()
    batch, _, height, width = latents.shape
    for frame, cell in cells.items():
        box = layout.box(frame, height, width)
        pinned[:, :, box.rows, box.cols] = per_item(cell, batch).to(pinned)
    return pinned


def per_item(cell: Tensor, batch: int) -> Tensor:
    """A cell's latents for a batch: one picture serves all; several are repeated in order, as hosts batch prompts."""
    if cell.shape[0] in (1, batch):
        return cell
    if batch % cell.shape[0] == 0:
        return cell.repeat(batch // cell.shape[0], 1, 1, 1)
    raise ValueError(
        f"{cell.shape[0]} pictures can't be shared out over a batch of {batch} grids; give one picture, or one a grid"
    )


def check_cell(cell: Tensor, layout: Layout, height: int, width: int) -> None:
    """Refuse a cell (B, C, h, w) that does not fit a grid of `height` x `width` latents, saying what would."""
    needed = layout.cell_size(height, width)
    if tuple(cell.shape[-2:]) != needed:
        raise ValueError(
            f"the picture covers {cell.shape[-1]} x {cell.shape[-2]} latents, but a cell of this {width} x {height} "
            f"grid ({layout}) has {needed[1]} x {needed[0]}. Do the latents and the ReCraft node use the same layout "
            "and size?"
        )
    if needed[0] % LATENTS_PER_TOKEN or needed[1] % LATENTS_PER_TOKEN:
        raise ValueError(
            f"a cell must be a whole number of tokens (2 x 2 latents), got {needed[1]} x {needed[0]} latents"
        )


def loss_mask(layout: Layout, height: int, width: int, pinned: Collection[int] | None = None) -> Tensor:
    """(1, 1, height, width) in latents: 0 in the pinned cells (the tail, unless given), 1 elsewhere."""
    mask = torch.ones(1, 1, height, width)
    for frame in (layout.tail,) if pinned is None else pinned:
        box = layout.box(frame, height, width)
        mask[:, :, box.rows, box.cols] = 0
    return mask
