"""Samples while ReCraft trains: a prompt's picture is the tail of its grid, held clean while the rest is drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from library import flux_utils
from torch import Tensor

from makeanything import pictures
from makeanything.recraft import fit, paste
from makeanything.serpentine import PIXELS_PER_TOKEN, Layout

from ..data.cells import check_size, encode_clean
from .samples import read_prompts, size_of

Denoise = Callable[..., Tensor]
"""sd-scripts' loop over the steps: (FLUX, packed noise, ...) -> packed latents."""


def read_conditions(file: str, layout: Layout) -> list[Path]:
    """The picture of every prompt of a file, said by its key "condition"; paths are relative to that file.

    ValueError names the prompt whose picture is missing or unreadable, or whose grid does not divide into cells.
    """
    return [_condition(prompt, Path(file), layout) for prompt in read_prompts(file, "condition")]


def _condition(prompt: Mapping[str, Any], path: Path, layout: Layout) -> Path:
    try:
        check_size(*size_of(prompt, layout), layout)
        if "condition" not in prompt:
            raise ValueError('the finished picture is missing: add the key "condition", in .txt --condition FILE')
        condition = path.parent / prompt["condition"]
        pictures.read(condition)
    except (FileNotFoundError, ValueError) as error:
        text = f"{path.name}, prompt {prompt['enum'] + 1} ({prompt.get('prompt', '')!r})"
        raise ValueError(f"{text}: {error}") from None
    return condition


@torch.no_grad()
def encode_condition(ae: Any, condition: Path, height: int, width: int, device: torch.device) -> Tensor:
    """A picture fitted to a cell of this size in pixels -> its clean latents (1, C, h, w)."""
    picture = fit(pictures.read(condition)[None], height, width).movedim(-1, 1) * 2 - 1
    home = ae.device
    # Samples are drawn under autocast; training's latents are encoded in the autoencoder's own precision.
    with torch.autocast(device.type, enabled=False):
        cell = encode_clean(ae.to(device), picture.to(device, ae.dtype))
    ae.to(home)
    return cell


def pin_tail_in(denoise: Denoise, cell: Tensor, layout: Layout, height: int, width: int) -> Denoise:
    """`denoise` with a cell's latents for the tail: in FLUX's input at every step, and in the result, exactly.

    `height` and `width` are the grid's, in pixels.
    """
    tokens = height // PIXELS_PER_TOKEN, width // PIXELS_PER_TOKEN

    def pin(packed: Tensor) -> Tensor:
        return flux_utils.pack_latents(paste(flux_utils.unpack_latents(packed, *tokens), layout, {layout.tail: cell}))

    def pin_input(module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return arguments, {**named, "img": pin(named["img"])}

    def denoise_pinned(flux: Any, noise: Tensor, *arguments: Any, **named: Any) -> Tensor:
        hook = flux.register_forward_pre_hook(pin_input, with_kwargs=True)
        try:
            return pin(denoise(flux, noise, *arguments, **named))
        finally:
            hook.remove()

    return denoise_pinned
