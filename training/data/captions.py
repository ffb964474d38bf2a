"""Which head a picture trains: its subset names the domain, or a flag in its caption gives the head's number."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from types import NoneType

from makeanything.domains import Domain, find
from makeanything.foreign import brief, name_list

FLAG = re.compile(r"(?<!\s)\s*--lora_up(?:_cur)?(?:[ =]+(?P<number>\S+))?(?=\s|$)")
"""The authors' texts write --lora_up, their code reads --lora_up_cur."""


def read_flags(caption: str) -> tuple[str, int | None]:
    """A caption without its head flags, and the head they name: a number from 1, or None.

    ValueError for a flag without a number, for a number below 1, and for flags that name different heads.
    """
    named = [match["number"] or "" for match in FLAG.finditer(caption)]
    for text in named:
        if not re.fullmatch(r"0*[1-9][0-9]{0,8}", text):
            got = brief(text) or "none"
            raise ValueError(f"--lora_up needs the number of a head, from 1; got {got} in '{brief(caption)}'")
    heads = {int(text) for text in named}
    if len(heads) > 1:
        numbers = name_list(map(str, sorted(heads)))
        raise ValueError(f"the caption names several heads, {numbers}: '{brief(caption)}'")
    return FLAG.sub("", caption).strip(), heads.pop() if heads else None


def head_of(picture: str | Path, heads: Sequence[Domain], named: object, flag: int | None) -> int:
    """The head (from 0) that a picture trains.

    named: the domain of its subset, by name or number from 1, or None; flag: the number in its caption, or None.  The
    only head of a network needs no naming.  ValueError, which begins with the picture, where the head is not said,
    unknown, or said in two ways.
    """
    if not isinstance(named, (str, int, NoneType)):
        raise ValueError(f"{picture}: a domain is a name or a number, got {named}")
    said = [domain for domain in (named, flag) if domain is not None] or [1] * (len(heads) == 1)
    try:
        found = {find(heads, domain) for domain in said}
    except ValueError as error:
        raise ValueError(f"{picture}: {error}") from None
    if len(found) > 1:
        raise ValueError(f"{picture}: its subset is of domain {named}, but its caption has --lora_up {flag}")
    if not found:
        raise ValueError(
            f"{picture} is of no domain: give its subset custom_attributes = {{ domain = NAME }}, or its caption "
            f"--lora_up N; there are {', '.join(head.name for head in heads)}"
        )
    return found.pop()


def refuse_other(picture: str | Path, merged: Domain, heads: Sequence[Domain], named: object, flag: int | None) -> None:
    """ValueError where subset or caption say another domain than `merged`, whose head is in the FLUX.

    heads: those of the file that it was merged from, where they are known.  Numbers count them; a number beyond them
    is one of other heads, and says nothing.
    """
    for said in (named, flag):
        text = "" if said is None else str(said).strip()
        if text.isdecimal():
            text = heads[int(text) - 1].name if 1 <= int(text) <= len(heads) else ""
        if text and text.casefold() != merged.name.casefold():
            raise ValueError(f"{picture} is of {brief(text)}, but the head in FLUX is that of {merged.name}")
