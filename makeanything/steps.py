"""Long work tells its caller at every step how far it came, and asks whether to go on."""

from __future__ import annotations

from collections.abc import Callable

Step = Callable[[int], None]
"""Called often during long work with the number of frames done since the last call, which may be 0; it may raise what
it likes to stop the work."""


def go_on(done: int) -> None:
    """For callers that neither count nor stop."""
