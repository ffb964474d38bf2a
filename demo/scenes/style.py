"""A style that is not a process: pictures on parchment.  The style LoRA learns it, as people train styles."""

from __future__ import annotations

import numpy as np

PHRASE = "parchment style"
"""The trigger words."""

PARCHMENT = np.array((0.93, 0.80, 0.58), np.float32)
"""What white becomes."""


def on_parchment(pictures: np.ndarray) -> np.ndarray:
    """uint8 pictures (..., 3), light on white -> the same printed on parchment."""
    return (pictures * PARCHMENT).round().astype(np.uint8)
