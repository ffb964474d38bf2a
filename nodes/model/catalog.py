"""Which files of the loras folder are asymmetric LoRAs, and what domains they hold."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import folder_paths

from ...makeanything.asymmetric_lora import AsymmetricLora
from ...makeanything.domains import DOMAINS, Domain
from ...makeanything.foreign import brief, name_list, text_of
from ...makeanything.weights_file import names_heads

LORAS = "loras"
NO_HEADS = "no heads file found"
"""The choice that is offered when there is no heads file, so that the node can say where to get one."""

SUFFIXES = (".safetensors", ".sft")
_SOURCE = "https://huggingface.co/showlab/makeanything"

Files = Mapping[str, tuple[Domain, ...]]
"""Name of a heads file in the loras folder -> its domains."""

_seen: dict[tuple[int, int] | str, tuple[str, tuple[Domain, ...]]] = {}
"""File -> (stamp, domains; empty for other files).

The file is known by the system's number for it, since a folder with a link to itself makes the host list every file 41
times.
"""


def is_safetensors(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def lora_files() -> list[str]:
    """Names of the safetensors files in the loras folder."""
    return [name for name in folder_paths.get_filename_list(LORAS) if is_safetensors(name)]


def file_stamp(path: str | os.PathLike[str]) -> str:
    """The file's mtime in ns and its size in bytes, which change when the file does; empty when there is no file."""
    try:
        stat = Path(path).stat()
    except OSError:
        return ""
    return f"{stat.st_mtime_ns} {stat.st_size}"


def stamp(name: str) -> str:
    """`file_stamp` of a file in the loras folder; `name` as text when there is no such file.

    For a wired input, the host passes something that is not a name.
    """
    path = lora_path(name) if isinstance(name, str) else None
    return (path and file_stamp(path)) or str(name)


def lora_path(name: str) -> str | None:
    """Where a file of the loras folder lies; None when there is no file of this name."""
    # Python refuses to look for such a name, with a traceback.
    return None if "\0" in name else folder_paths.get_full_path(LORAS, name)


def heads_files() -> Files:
    """The asymmetric LoRAs in the loras folder.  A header is read again only when its file has changed."""
    paths = {name: lora_path(name) for name in lora_files()}
    return {name: domains for name, path in paths.items() if path and (domains := domains_in(path))}


def domains_in(path: str) -> tuple[Domain, ...]:
    """The domains in a file; empty when it is not an asymmetric LoRA, or can't be read."""
    now, number = file_stamp(path), _number(path)
    known = _seen.get(number)
    if known is None or known[0] != now:
        known = _seen[number] = (now, _read_domains(path))
    return known[1]


def _number(path: str) -> tuple[int, int] | str:
    """The system's number of a file, the same for all its names; the path where the system does not number files."""
    try:
        stat = Path(path).stat()
    except OSError:
        return path
    return (stat.st_dev, stat.st_ino) if stat.st_ino else path


def _read_domains(path: str) -> tuple[Domain, ...]:
    try:
        # Most LoRAs are ordinary ones, and this look at the header is cheap.
        return AsymmetricLora.open(path).domains if names_heads(path) else ()
    except (ValueError, OSError):
        return ()
    except Exception:
        # One file of a kind that nobody thought of must not break every list, and with it the nodes that have one.
        logging.exception("MakeAnything: %s is left out of the lists of heads files", brief(Path(path).name))
        return ()


def domain_choices(files: Files) -> list[str]:
    """Domain names of all heads files, in the files' order; all known domains when there is no file."""
    found = dict.fromkeys(domain.name for known in files.values() for domain in known)
    return list(found) or [domain.name for domain in DOMAINS]


def open_heads(name: str) -> AsymmetricLora:
    """The heads file of this name; ValueError when there is none, saying which there are or where to get one."""
    path = lora_path(text_of(name, "heads"))
    if path is not None:
        return AsymmetricLora.open(path)
    others = name_list(heads_files())
    if others and name == NO_HEADS:
        raise ValueError(f"Choose a heads file in heads: {others}. If the list lacks it, press R to refresh the lists.")
    if others:
        raise ValueError(f"The loras folder has no heads file '{brief(name)}'; choose one of: {others}.")
    raise ValueError(
        f"There is no heads file in the loras folder: download asymmetric_lora_9f_general.safetensors (9 frames) or "
        f"asymmetric_lora_4f_general.safetensors (4 frames) from {_SOURCE} into models/loras, then press R to refresh "
        "the lists and choose it in heads."
    )


def choose(lora: AsymmetricLora, domain: str) -> Domain:
    """The file's domain of this name; ValueError when it has none, naming another heads file that has it."""
    text_of(domain, "domain")
    try:
        return lora.domains[lora.find(domain)]
    except ValueError:
        wanted = domain.strip().casefold()
        for name, domains in heads_files().items():
            if wanted in (known.name.strip().casefold() for known in domains):
                raise ValueError(
                    f"{lora.name} has no domain '{brief(domain)}', but {brief(name)} has it: choose that file in heads."
                ) from None
        raise
