"""A style that is no process: pictures by night.  What the style LoRA learns, as people train styles for any model."""

from __future__ import annotations

import numpy as np

PHRASE = "night style"
"""The trigger words."""

DARK = np.array((0.12, 0.15, 0.34), np.float32)
"""What white becomes."""


def by_night(pictures: np.ndarray) -> np.ndarray:
    """uint8 pictures (..., 3), light on white -> the same colours on the dark: their share of white turns to DARK."""
    colours = pictures.astype(np.float32)
    white = colours.min(-1, keepdims=True)
    return (colours - white * (1 - DARK)).round().clip(0, 255).astype(np.uint8)
