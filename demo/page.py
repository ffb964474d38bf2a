"""One HTML page that shows what the demo drew."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path

from makeanything.saving import atomic

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem;
       background: #fbfaf7; color: #23202b; }
h1 { font-size: 1.6rem } h2 { font-size: 1.15rem; margin-top: 2.2rem } p { margin: .3rem 0 .8rem; color: #5b5666 }
.row { display: flex; gap: 1rem; align-items: flex-start; flex-wrap: wrap }
img { image-rendering: auto; border-radius: 6px; background: #fff; box-shadow: 0 1px 4px #0002 }
img { width: 18rem }
@media (prefers-color-scheme: dark) { body { background: #1d1b22; color: #eceaf2 } p { color: #a9a4b8 } }
"""


@dataclass(frozen=True)
class Piece:
    """One sequence: its title, the words that made it, and its files (relative to the page)."""

    title: str
    words: str
    animation: str
    grid: str
    sheet: str


def write(path: Path, pieces: list[Piece]) -> None:
    """Write the page, atomically."""
    body = "\n".join(_section(piece) for piece in pieces)
    text = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>MakeAnything demo</title><style>{_STYLE}</style>"
        "<h1>MakeAnything: how a picture is made</h1><p>From left to right: the sequence as it plays, the grid that "
        "the model drew (rows alternate direction), and its frames in time order. The model is FLUX-nano, a FLUX of 7 "
        f"million parameters that comes with the pack; FLUX.1-dev draws the same way, large.</p>\n{body}</html>\n"
    )
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _section(piece: Piece) -> str:
    return (
        f"<h2>{html.escape(piece.title)}</h2><p>{html.escape(piece.words)}</p>"
        f'<div class="row"><img src="{piece.animation}" alt="the sequence playing">'
        f'<img src="{piece.grid}" alt="the grid"><img src="{piece.sheet}" alt="all frames, numbered"></div>'
    )
