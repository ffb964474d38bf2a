"""What others wrote, in files and requests: parsed within bounds, and quoted within bounds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from numbers import Real
from typing import Any, TypeVar

import numpy as np

ECHO = 60
"""Characters of one foreign text in a message; no message has more than three of them."""
NAMED = 120
"""Characters of a list of foreign names in a message."""
LARGEST = 1e300
"""Of what stands for a number."""
DIGITS = 400
"""Of a whole number in JSON; even a float has no more than 309."""

Number = TypeVar("Number", int, float)


def brief(text: object, most: int = ECHO) -> str:
    """The start of a text on one line, of at most `most` characters; of anything else its kind."""
    if not isinstance(text, str):
        return kind(text)
    # A few more than are shown: escapes make text longer, never shorter.
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: most + 1])
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def name_list(names: Iterable[str], most: int = NAMED) -> str:
    """As many names as have room, and how many more there are."""
    every, shown = list(names), ""
    for count, name in enumerate(every):
        longer = f"{shown}, {brief(name)}" if shown else brief(name)
        if len(longer) > most:
            return f"{shown} and {len(every) - count} more"
        shown = longer
    return shown


def kind(value: object) -> str:
    """What a value of JSON is, in words."""
    words = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return "nothing" if value is None else words.get(type(value), f"a {type(value).__name__}")


def text_of(value: object, what: str) -> str:
    """The value, which must be text; ValueError says so in one line.  `what` is the name of an input."""
    if not isinstance(value, str):
        hint = '; write a number as text, such as "3"' if kind(value) == kind(3) else ""
        raise ValueError(f"{what} must be text, got {kind(value)}{hint}")
    return value


def finite(value: Any, what: str) -> float:
    """The value, which must be a number; ValueError for anything else, and for NaN and infinity.

    Other packs send numbers of NumPy too, and tensors and arrays of one number.
    """
    number: Any = value
    if hasattr(value, "item"):
        with suppress(TypeError, ValueError, RuntimeError):
            number = value.item()
    real = isinstance(number, Real) and not isinstance(number, bool)
    if not real:
        raise ValueError(f"{what} must be a number, got {kind(value)}")
    # The bound is for whole numbers, which may be too long for a float.
    if not abs(number) <= LARGEST:
        raise ValueError(f"{what} must be a finite number; NaN and infinity are none")
    return number if isinstance(number, int) else float(number)


def within(value: Any, low: Number, high: Number, what: str) -> Number:
    """The value, a number from `low` to `high`, and a whole one where they are; ValueError for anything else.

    The host holds only what is typed into a widget to its bounds, not what comes by wire.
    """
    number = finite(value, what)
    if not low <= number <= high:
        raise ValueError(f"{what} must be from {low} to {high}, got {brief(str(number))}")
    if isinstance(low, int) and number != int(number):
        raise ValueError(f"{what} must be a whole number, got {number}")
    return type(low)(number)


def need(value: Any, wanted: type | tuple[type, ...], name: str) -> None:
    """ValueError when an input that is to be wired gives nothing, or an API call something else."""
    if not isinstance(value, wanted):
        raise ValueError(
            f"Nothing that fits came in at {name}, but {kind(value)}; is the node before it bypassed, or its wire lost?"
        )


def parse_json(text: str | bytes, depth: int, most: int, *, lenient: bool = False) -> Any:
    """JSON in UTF-8 whose lists and objects lie at most `depth` deep and hold at most `most` values together.

    ValueError, also for what only some parsers take: a name twice in an object and NaN (unless `lenient`, as Python's
    own parser is), half of a surrogate pair.  Nothing is parsed before it is known to be within the bounds: json
    recurses, and an empty list of 2 bytes takes 56.
    """
    raw = text if isinstance(text, bytes) else text.encode()
    outside = re.sub(rb'"[^"]*"', b"", raw.replace(rb"\\", b"").replace(rb"\"", b""))
    if outside.count(b",") + outside.count(b"[") + outside.count(b"{") > most:
        raise ValueError(f"it holds more than {most:,} values")
    brackets = np.frombuffer(outside.translate(None, _NO_BRACKETS), np.uint8)
    steps = np.where((brackets == ord("[")) | (brackets == ord("{")), 1, -1)
    if steps.size and steps.cumsum().max() > depth:
        raise ValueError(f"it is nested more than {depth} deep")
    unique, constant = (None, None) if lenient else (_unique, _no_number)
    value = json.loads(raw.decode(), object_pairs_hook=unique, parse_constant=constant, parse_int=_whole)
    if rb"\u" in raw:
        json.dumps(value, ensure_ascii=False).encode()
    return value


_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has two entries of one name")
    return found


def _whole(text: str) -> int | float:
    if len(text) > DIGITS:
        raise ValueError(f"a number has {len(text):,} digits")
    # Other parsers take this for a fraction.
    return -0.0 if text == "-0" else int(text)


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is not a number")
