"""A list of domains as users write it: in one line, or in a JSON file."""

from __future__ import annotations

import re
from pathlib import Path

from makeanything import domains as released
from makeanything.domains import Domain
from makeanything.foreign import brief, parse_json
from makeanything.lora_header import HEADS

from ..values import path_of

JSON_BYTES, JSON_DEPTH, JSON_VALUES = 2**22, 8, 100_000
"""Of a file of domains."""

EXAMPLE = "Portrait:9:portrait painting;Sketch:9:sketch drawing"


def read_domains(text: str) -> tuple[Domain, ...]:
    """The domains of a list, in order.  ValueError shows how they are written.

    NAME:FRAMES:PROCESS or the name of a released domain, separated by semicolons; or a JSON file with a list of
    {"name", "frames", "process"} (or of what a heads file's header holds).
    """
    parts: list[object] = [entry.strip() for entry in text.split(";") if entry.strip()]
    entries = _read_json(path_of(text)) if text.endswith(".json") else parts
    if not 1 <= len(entries) <= HEADS:
        raise ValueError(f"a list of domains has from 1 to {HEADS:,}, got {len(entries):,} in '{brief(text)}'")
    return tuple(_from_text(entry) if isinstance(entry, str) else _from_json(entry) for entry in entries)


def _read_json(path: Path) -> list[object]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path} with a list of domains")
    if path.stat().st_size > JSON_BYTES:
        raise ValueError(f"{path.name} is not a list of domains: it has more than {JSON_BYTES:,} bytes")
    try:
        entries = parse_json(path.read_bytes(), JSON_DEPTH, JSON_VALUES)
    except ValueError as error:
        raise ValueError(f"{path.name} is not JSON: {error}") from None
    if not isinstance(entries, list):
        raise ValueError(f"{path.name} must hold a JSON list of domains")
    return entries


def _from_text(entry: str) -> Domain:
    name, *rest = (part.strip() for part in entry.split(":"))
    if not rest:
        return released.DOMAINS[released.find(released.DOMAINS, name)]
    if len(rest) != 2 or not re.fullmatch(r"[0-9]{1,4}", rest[0]):
        raise ValueError(f"a domain is written NAME:FRAMES:PROCESS, got '{brief(entry)}'; for example \"{EXAMPLE}\"")
    return Domain.of(name, int(rest[0]), rest[1])


def _from_json(entry: object) -> Domain:
    if isinstance(entry, dict) and "process" in entry:
        name, frames, process = entry.get("name"), entry.get("frames"), entry["process"]
        if not (isinstance(name, str) and type(frames) is int and isinstance(process, str)):
            raise ValueError(
                f'a domain is {{"name": text, "frames": number, "process": text}}, got {brief(str(entry))}'
            )
        return Domain.of(name, frames, process)
    return Domain.from_json(entry)
