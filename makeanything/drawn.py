"""How a head is drawn: what must be set for sampling as it was in training, or in the authors' programs."""

from __future__ import annotations

from dataclasses import dataclass, fields

from .foreign import finite, kind, within
from .serpentine import PIXELS_PER_TOKEN

LARGEST_CELL = 2048
GUIDANCE = 0.0, 100.0
"""The least and the most that a file may ask for."""


@dataclass(frozen=True)
class Drawn:
    """FLUX.1-dev's ways, unless a file says otherwise.

    cell: edge of a frame in pixels; None for the standard one of the layout (see Layout.standard_cell).
    padding: whether the model sees the padding tokens of T5, of which ComfyUI adds some up to 256.
    guidance: FLUX's own guidance for a head alone; recraft_guidance: with a frame held at a picture.
    shift_by_grid: whether noise is shifted by the size of the grid, as FLUX does it, or as the model does it anyway.
    The authors' programs have guidance 3.5 and 1.0, and shift by the size (showlab/MakeAnything).
    """

    cell: int | None = None
    padding: bool = True
    guidance: float = 3.5
    recraft_guidance: float = 1.0
    shift_by_grid: bool = True

    def __post_init__(self) -> None:
        if self.cell is not None:
            within(self.cell, PIXELS_PER_TOKEN, LARGEST_CELL, "cell")
            if self.cell % PIXELS_PER_TOKEN:
                raise ValueError(f"cell must be a multiple of {PIXELS_PER_TOKEN} pixels, got {self.cell}")
        for name in ("guidance", "recraft_guidance"):
            within(finite(getattr(self, name), name), *GUIDANCE, name)

    def to_json(self) -> dict[str, object]:
        """What differs from FLUX.1-dev's ways."""
        every = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in every.items() if value != getattr(FLUX_DEV, name)}

    @classmethod
    def from_json(cls, data: object) -> Drawn:
        """Read what `to_json` wrote, passing over what later versions may add; ValueError says what is wrong."""
        if not isinstance(data, dict):
            raise ValueError(f"how a head is drawn is described by a JSON object, got {kind(data)}")
        known = {field.name: data[field.name] for field in fields(cls) if field.name in data}
        for name, value in known.items():
            wanted = (bool,) if name in ("padding", "shift_by_grid") else (int,) if name == "cell" else (int, float)
            # JSON's true would pass as an int.
            if type(value) not in wanted:
                raise ValueError(f"{name} of a head is of the wrong kind, {kind(value)}")
        return cls(**known)


FLUX_DEV = Drawn()
