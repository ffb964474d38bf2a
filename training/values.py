"""Settings of TOML files and of the command line, checked as they are taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import toml

Values = Mapping[str, Any]
NUMBER = (int, float)


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file holds.  ValueError says where it is no TOML."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        return toml.loads(path.read_text(encoding="utf-8"))
    except toml.TomlDecodeError as error:
        raise ValueError(f"{path} is no TOML: {error}") from None


def flatten(sections: Values) -> dict[str, Any]:
    """All sections in one, as sd-scripts reads its settings."""
    flat: dict[str, Any] = {}
    for name, value in sections.items():
        flat.update(value if isinstance(value, dict) else {name: value})
    return flat


def parse(overrides: Sequence[str]) -> dict[str, Any]:
    """Settings written key=value; what is no TOML value is text."""
    values: dict[str, Any] = {}
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals:
            raise ValueError(f"settings on the command line are written key=value, got {override}")
        values[name] = _value(text)
    return values


def _value(text: str) -> Any:
    try:
        return toml.loads(f"value = {text}")["value"]
    except (toml.TomlDecodeError, IndexError):
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
        raise ValueError(f"{name} must be {words.get(wanted, 'a number')}, got {value!r}")
    return value


def choose(values: Values, name: str, known: Mapping[str, Any], default: str) -> Any:
    """What a setting with a few possible values, in any case, stands for."""
    wanted = str(values.get(name, default)).lower()
    if wanted not in known:
        raise ValueError(f"{name} is one of {', '.join(known)} in the built-in loop; got {values[name]!r}")
    return known[wanted]


def pairs(values: Values, name: str) -> dict[str, str]:
    """A setting that is a list of "name=value"."""
    texts = values.get(name, [])
    if not isinstance(texts, list) or not all(isinstance(text, str) and "=" in text for text in texts):
        raise ValueError(f'{name} is a list of texts such as "name=value", got {texts!r}')
    return {key.strip(): value.strip() for key, _, value in (text.partition("=") for text in texts)}
