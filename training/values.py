"""Settings from TOML files and the command line; each is checked when it is taken."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import toml

from makeanything.foreign import brief, finite, kind

Values = Mapping[str, Any]
NUMBER = (int, float)

TOML_BYTES = 2**16
TOML_MARKS = 10_000
"""Brackets, and equals signs, in TOML: toml's time grows with their square, and 60,000 of them took it a minute."""
PATH_CHARACTERS, PART_BYTES = 4096, 255
_BREAKS = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
LARGEST = 10**12
"""Of a whole number."""


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file holds.  ValueError says where it is not TOML."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if path.stat().st_size > TOML_BYTES:
        raise ValueError(f"{path} is not a settings file: it has more than {TOML_BYTES:,} bytes")
    try:
        return _loads(path.read_text(encoding="utf-8"))
    # Broken text makes toml raise whatever Python has: IndexError, TypeError, RecursionError ...
    except Exception as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error) or type(error).__name__
        raise ValueError(f"{path} is not TOML: {brief(reason, 150)}") from None


def _loads(text: str) -> dict[str, Any]:
    for marks in ("[{", "="):
        if sum(map(text.count, marks)) > TOML_MARKS:
            raise ValueError(f"it has more than {TOML_MARKS:,} of {' or '.join(marks)}")
    return toml.loads(text)


def printable(path: Path) -> str:
    """A whole path for a message or a list: in one line, and in letters that can be written as UTF-8."""
    return brief(str(path), PATH_CHARACTERS)


def path_of(text: str) -> Path:
    """A path that someone wrote, with ~ for a home.  ValueError for one that can't exist on any system."""
    longest = max(len(part.encode("utf-8", "replace")) for part in re.split(r"[/\\]", text))
    # A line break in a path is a quotation mark that was forgotten.
    if longest > PART_BYTES or len(text) > PATH_CHARACTERS or _BREAKS.search(text):
        raise ValueError(f"{brief(text)} can't be a path")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError(f"{brief(text)}: there is no such user, whose home ~ stands for") from None


def flatten(sections: Values) -> dict[str, Any]:
    """All sections in one, as sd-scripts reads its settings."""
    flat: dict[str, Any] = {}
    for name, value in sections.items():
        flat.update(value if isinstance(value, dict) else {name: value})
    return flat


def parse(overrides: Sequence[str]) -> dict[str, Any]:
    """Settings written key=value; what is not a TOML value is text."""
    values: dict[str, Any] = {}
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals:
            raise ValueError(f"settings on the command line are written key=value, got {brief(override)}")
        if len(text) > TOML_BYTES:
            raise ValueError(f"{brief(name)} has more than {TOML_BYTES:,} characters")
        values[name] = _value(text)
    return values


def _value(text: str) -> Any:
    try:
        return _loads(f"value = {text}")["value"]
    # As in read_toml.
    except Exception:
        return text


def take(values: Values, name: str, wanted: type | tuple[type, ...], *default: Any) -> Any:
    """A setting of this type; ValueError where it has another, or is missing and has no default."""
    if name not in values:
        if not default:
            raise ValueError(f"the setting {name} is missing")
        return default[0]
    value = values[name]
    if isinstance(value, bool) or not isinstance(value, wanted):
        words: dict[object, str] = {str: "text", int: "a whole number", dict: "a table"}
        raise ValueError(f"{name} must be {words.get(wanted, 'a number')}, got {shown(value)}")
    if isinstance(value, NUMBER) and abs(finite(value, name)) > LARGEST:
        raise ValueError(f"{name} must be a number that can be meant, got {shown(value)}")
    return value


def shown(value: object) -> str:
    """A setting's value for a message, not longer than a line."""
    if isinstance(value, list) and all(isinstance(part, (str, int, float)) for part in value):
        return brief(", ".join(shown(part) for part in value[:9]))
    if isinstance(value, int) and abs(value) > 10**30:
        return "a number of many digits"
    return brief(repr(value)) if isinstance(value, (str, int, float)) else kind(value)


def choose(values: Values, name: str, known: Mapping[str, Any], default: str) -> Any:
    """What a setting with a few possible values, in any case, stands for."""
    wanted = str(values.get(name, default)).lower()
    if wanted not in known:
        raise ValueError(f"{name} is one of {', '.join(known)} in the built-in loop; got {shown(values[name])}")
    return known[wanted]


def pairs(values: Values, name: str) -> dict[str, str]:
    """A setting that is a list of "name=value"."""
    texts = values.get(name, [])
    if not isinstance(texts, list) or not all(isinstance(text, str) and "=" in text for text in texts):
        raise ValueError(f'{name} is a list of texts such as "name=value", got {shown(texts)}')
    return {key.strip(): value.strip() for key, _, value in (text.partition("=") for text in texts)}
