"""The 21 domains of the released weights, and how a prompt asks for one (paper, section 4.1; upstream docs)."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .drawn import FLUX_DEV, Drawn
from .foreign import brief, kind, name_list
from .serpentine import Layout

SUBJECT = "{subject}"
DRAWN = "drawn"
"""Entry of a domain's JSON: how it is drawn, where that is not as FLUX.1-dev."""

NAME_CHARACTERS = 100
PROMPT_CHARACTERS = 10_000
MOST_CELLS = 64
"""Rows, and columns, of a grid that a file describes."""

UNWRITABLE = {"Cc", "Cs", "Zl", "Zp"}
"""Control characters, halves of pairs, and line ends, as Unicode names their kinds."""

_NUMBER = re.compile(r"[+-]?[0-9]{1,9}")


@dataclass(frozen=True)
class Domain:
    """A kind of making-of sequence: a name for people, the grid it is drawn in, and its prompt form.

    `prompt` is the sentence the head was trained on, with `{subject}` where the subject goes; `drawn`: see Drawn.
    """

    name: str
    layout: Layout
    prompt: str
    drawn: Drawn = FLUX_DEV

    @property
    def cell(self) -> int:
        """Edge of a frame in pixels, as the head was trained."""
        return self.drawn.cell or self.layout.standard_cell

    def __post_init__(self) -> None:
        # A number would stand for a position.
        name = self.name.strip()
        if not name or name.isdecimal() or _NUMBER.fullmatch(name):
            raise ValueError(f"a domain needs a name that is not a number, got '{brief(self.name)}'")
        if any(unicodedata.category(letter) in UNWRITABLE for letter in name):
            raise ValueError(f"the name of domain '{brief(name)}' has letters that can't be shown in a list")
        for what, text, most in (("name", self.name, NAME_CHARACTERS), ("prompt form", self.prompt, PROMPT_CHARACTERS)):
            if len(text) > most:
                raise ValueError(f"the {what} of domain '{brief(name)}' is longer than {most:,} characters")
        if SUBJECT not in self.prompt:
            raise ValueError(f"the prompt form of domain '{brief(name)}' lacks {SUBJECT}: '{brief(self.prompt)}'")

    @classmethod
    def of(cls, name: str, frames: int, process: str) -> Domain:
        """A domain whose prompt follows the released datasets: grid, process, subject."""
        return cls(name, Layout.of(frames), prompt_form(Layout.of(frames), process))

    def write_prompt(self, subject: str, steps: Sequence[str] = ()) -> str:
        """The prompt for a subject, with one optional line of text per frame (first frame first; empty lines skip)."""
        if not subject.strip():
            raise ValueError("the subject is empty; write what is made, such as: 1 girl with a red scarf")
        lines = [line.strip() for line in steps]
        if len(lines) > self.layout.frames:
            raise ValueError(
                f"{len(lines)} lines describe the frames of {self.name}, but its grid has {self.layout.frames} frames"
            )
        # str.replace, not str.format: a subject may hold braces.
        prompt = self.prompt.replace(SUBJECT, subject.strip())
        return ", ".join([prompt, *(f"step {n}: {line}" for n, line in enumerate(lines, 1) if line)])

    def to_json(self) -> dict[str, object]:
        layout = {"rows": self.layout.rows, "cols": self.layout.cols}
        drawn = {DRAWN: found} if (found := self.drawn.to_json()) else {}
        return {"name": self.name, **layout, "prompt": self.prompt, **drawn}

    @classmethod
    def from_json(cls, data: object, unsaid: Drawn = FLUX_DEV) -> Domain:
        """Read what `to_json` wrote; a ValueError says what is wrong with it.  `unsaid`: how, where it does not say."""
        if not isinstance(data, dict):
            raise ValueError(f"a domain is described by a JSON object, got {kind(data)}")
        try:
            name, rows, cols, prompt = (data[key] for key in ("name", "rows", "cols", "prompt"))
        except KeyError as missing:
            raise ValueError(f"the description of a domain lacks {missing}") from None
        # JSON's true would pass as an int.
        if (type(name), type(prompt), type(rows), type(cols)) != (str, str, int, int):
            raise ValueError(f"the description of domain '{brief(name)}' holds values of the wrong kind")
        if not (1 <= rows <= MOST_CELLS and 1 <= cols <= MOST_CELLS):
            raise ValueError(
                f"the grid of domain '{brief(name)}' must have at least one row and one column, at most {MOST_CELLS}"
            )
        return cls(name, Layout(rows, cols), prompt, Drawn.from_json(data[DRAWN]) if DRAWN in data else unsaid)


def prompt_form(layout: Layout, process: str) -> str:
    """`3*3 of 9 sub-images, step-by-step PROCESS process, {subject}`."""
    return f"{layout.rows}*{layout.cols} of {layout.frames} sub-images, step-by-step {process} process, {SUBJECT}"


# Order is the index of the head.  Only the portrait sentence is published; the others follow its pattern.
_RELEASED = (
    ("LEGO", 9, "LEGO model building"),
    ("Cook", 9, "cooking"),
    ("Painting", 9, "painting"),
    ("Icon", 9, "icon design"),
    ("Landscape illustration", 9, "landscape illustration painting"),
    ("Portrait", 9, "portrait painting"),
    ("Transformer", 9, "transformer model transforming"),
    ("Sand art", 9, "sand art"),
    ("Illustration", 9, "illustration painting"),
    ("Sketch", 9, "sketch drawing"),
    ("Clay toys", 4, "clay toy making"),
    ("Clay sculpture", 4, "clay sculpture making"),
    ("Zbrush modeling", 4, "zbrush modeling"),
    ("Wood sculpture", 4, "wood sculpture carving"),
    ("Ink painting", 4, "ink painting"),
    ("Pencil sketch", 4, "pencil sketch drawing"),
    ("Fabric toys", 4, "fabric toy making"),
    ("Oil painting", 4, "oil painting"),
    ("Jade carving", 4, "jade carving"),
    ("Line draw", 4, "line drawing"),
    ("Emoji", 4, "emoji design"),
)

DOMAINS: tuple[Domain, ...] = tuple(Domain.of(*row) for row in _RELEASED)
"""All 21, each in the layout it is known for."""

_MASKED = Drawn(padding=False)
"""The released heads were trained with T5's padding masked."""

RELEASED_BY_HEADS: dict[int, tuple[Domain, ...]] = {
    10: tuple(replace(domain, drawn=_MASKED) for domain in DOMAINS[:10]),
    21: tuple(replace(Domain.of(name, 4, process), drawn=_MASKED) for name, _, process in _RELEASED),
}
"""Number of heads -> domains, for the released files, which carry no metadata (9 frames: 10 heads; 4 frames: 21)."""


def find(domains: Sequence[Domain], wanted: str | int) -> int:
    """Index of a domain asked for by name (any case) or by its number, which counts from 1 as captions do.

    ValueError names the nearest name on a typo, and the range on a wrong number.
    """
    text = str(wanted).strip()
    if _NUMBER.fullmatch(text):
        number = int(text)
        if not 1 <= number <= len(domains):
            raise ValueError(f"there is no domain {number}: the numbers go from 1 to {len(domains)}")
        return number - 1
    names = [domain.name.strip().casefold() for domain in domains]
    if text.casefold() in names:
        return names.index(text.casefold())
    near = difflib.get_close_matches(text[: NAME_CHARACTERS + 1].casefold(), names, n=1)
    hint = f"did you mean '{brief(domains[names.index(near[0])].name)}'?" if near else "the domains are"
    known = "" if near else " " + name_list(domain.name for domain in domains)
    raise ValueError(f"there is no domain '{brief(text)}': {hint}{known}")
