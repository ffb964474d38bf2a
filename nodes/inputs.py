"""Socket types and inputs that several nodes share."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..makeanything.domains import Domain
from ..makeanything.foreign import need, within
from ..makeanything.serpentine import Layout
from .model.catalog import NO_HEADS, Files, domain_choices
from .model.ways import AUTO, BRANCH, PATCH

CATEGORY = "MakeAnything"

DomainSocket = io.Custom("MAKEANYTHING_DOMAIN")
"""Carries a `Domain`: its name, layout and prompt form."""

LoraStackSocket = io.Custom("LORA_STACK")
"""A list of (file name, model strength, clip strength), as other packs' LoRA stacks."""

FROM_DOMAIN = "from domain"
_FRAMES = {"9 frames (3x3)": 9, "4 frames (2x2)": 4}
_CUSTOM = "custom"
EDGE = 1, 16
"""The fewest and the most rows and columns."""


def layout_inputs() -> list[io.Input]:
    """A `domain` socket and a `layout` choice; `read_layout` turns both into a Layout."""
    return [
        DomainSocket.Input(
            "domain", optional=True, tooltip="The domain whose grid to use, from the node that loads its head."
        ),
        io.DynamicCombo.Input(
            "layout",
            options=[
                io.DynamicCombo.Option(FROM_DOMAIN, []),
                *(io.DynamicCombo.Option(name, []) for name in _FRAMES),
                io.DynamicCombo.Option(
                    _CUSTOM,
                    [
                        io.Int.Input("rows", default=3, min=EDGE[0], max=EDGE[1], tooltip="Rows of cells in the grid."),
                        io.Int.Input(
                            "cols", default=3, min=EDGE[0], max=EDGE[1], tooltip="Columns of cells in the grid."
                        ),
                    ],
                ),
            ],
            tooltip="How the frames lie in the grid. Rows alternate direction: 1 2 3 / 6 5 4 / 7 8 9.",
        ),
    ]


def read_layout(layout: dict[str, Any] | None, domain: Domain | None) -> Layout:
    """The Layout chosen with `layout_inputs`.  The host passes None for a choice that it does not know.

    ValueError for a wrong choice, rows or columns beyond EDGE, and a domain that is missing or of another layout.
    """
    choice = layout.get("layout") if isinstance(layout, dict) else None
    # A wire may bring anything, such as a dict of latents.
    if layout is None or not isinstance(choice, str) or choice not in (FROM_DOMAIN, *_FRAMES, _CUSTOM):
        raise ValueError(f"layout is one of: {', '.join((FROM_DOMAIN, *_FRAMES, _CUSTOM))}.")
    if domain is not None:
        need(domain, Domain, "domain")
    if choice == FROM_DOMAIN:
        if domain is None:
            raise ValueError(
                "The layout is set to 'from domain', but no domain is wired to this node. "
                "Wire a DOMAIN, or choose the number of frames in layout."
            )
        return domain.layout
    if choice == _CUSTOM:
        chosen = Layout(*(within(layout.get(edge), *EDGE, edge) for edge in ("rows", "cols")))
    else:
        chosen = Layout.of(_FRAMES[choice])
    if domain is not None and domain.layout != chosen:
        raise ValueError(
            f"The domain wired in ({domain.name}) is drawn in a {domain.layout} grid, but layout says {chosen}. "
            "Choose 'from domain', or take the domain's wire off."
        )
    return chosen


def heads_input(files: Files) -> io.Input:
    return io.Combo.Input(
        "heads",
        options=list(files) or [NO_HEADS],
        tooltip="An asymmetric LoRA in the loras folder: one file with a head for each domain.",
    )


def domain_input(files: Files, row: int | None = None) -> io.Input:
    """The choice of a domain; in a node with several rows of them, it has the row's number and a default of its own."""
    names = domain_choices(files)
    return io.Combo.Input(
        "domain" if row is None else f"domain_{row}",
        display_name=None if row is None else f"domain {row}",
        options=names,
        default=None if row is None else names[(row - 1) % len(names)],
        tooltip="What is being made: one of the domains of the heads file.",
    )


def apply_input(what: str) -> io.Input:
    """How `what` is applied.  It comes last and is optional, so that workflows saved before it was there still run."""
    return io.Combo.Input(
        "apply",
        options=[AUTO, PATCH, BRANCH],
        default=AUTO,
        optional=True,
        advanced=True,
        tooltip=f"patch merges the {what} into the weights: no cost per step. branch computes it beside them: quick to "
        "change, and quantized weights stay as they are. auto is branch for quantized weights, else patch.",
    )
