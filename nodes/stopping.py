"""Long work in nodes asks the host between its steps whether to stop."""

from __future__ import annotations

from comfy.model_management import throw_exception_if_processing_interrupted
from comfy.utils import ProgressBar

from ..makeanything.steps import Step


def ask(done: int) -> None:
    """A `Step` that ends the work when the user has pressed Cancel."""
    throw_exception_if_processing_interrupted()


def counted(total: int) -> Step:
    """A `Step` that also moves a progress bar of `total` frames."""
    progress = ProgressBar(total)

    def step(done: int) -> None:
        ask(done)
        if done:
            progress.update(done)

    return step
