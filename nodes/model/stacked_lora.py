"""A row of a LORA_STACK: the name of a LoRA file and its strengths, checked before the file is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ...makeanything.foreign import brief, finite, text_of
from ...makeanything.weights_file import WeightsFile, open_weights
from .catalog import is_safetensors, lora_path


@dataclass(frozen=True)
class StackedLora:
    """The file's name in the loras folder, and its strengths on the model and the CLIP."""

    name: str
    model: float
    clip: float

    @classmethod
    def of(cls, entry: object) -> StackedLora:
        """An entry of a LORA_STACK, whatever pack made it; ValueError says what it should be."""
        if not isinstance(entry, (list, tuple)) or len(entry) != 3:
            raise ValueError("Each entry of lora_stack must be (file name, model strength, clip strength).")
        name, model, clip = entry
        text_of(name, "the file name of a LoRA")
        what = f"the strength of {brief(name)}"
        return cls(name, finite(model, what), finite(clip, what))

    @property
    def path(self) -> str:
        """Where the file lies; ValueError when it is gone, or is not a safetensors file."""
        if not is_safetensors(self.name):
            raise ValueError(
                f"{brief(self.name)} is not a .safetensors file, and weights are read from safetensors only."
            )
        path = lora_path(self.name)
        if path is None:
            raise ValueError(
                f"The loras folder has no file '{brief(self.name)}'; choose another one, or turn its row off."
            )
        return path

    @contextmanager
    def open(self) -> Iterator[WeightsFile]:
        """The file; ValueError for a broken one, and for one that holds domain heads."""
        with open_weights(self.path) as file:
            if any(".lora_ups." in key for key in file.entries):
                raise ValueError(
                    f"{brief(self.name)} is an asymmetric LoRA with a head for each domain, which a LoRA stack can't "
                    "apply; choose it in Apply Domain Head instead."
                )
            yield file
