"""Which files of the loras folder are asymmetric LoRAs, and what domains they hold."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import folder_paths
from comfy_api.latest import io
from safetensors import SafetensorError

from ..makeanything.asymmetric_lora import AsymmetricLora
from ..makeanything.domains import DOMAINS, Domain
from ..makeanything.files import open_safetensors

LORAS = "loras"
NO_HEADS = "no heads file found"
"""Offered when there is none, so that the node can say where to get one."""

_SUFFIXES = (".safetensors", ".sft")
_SOURCE = "https://huggingface.co/showlab/makeanything"

Files = Mapping[str, tuple[str, ...]]
"""Name of a heads file in the loras folder -> names of its domains."""

_seen: dict[str, tuple[str, tuple[str, ...]]] = {}
"""Path -> (stamp, names of the domains; empty for other files)."""


def is_safetensors(name: str) -> bool:
    return name.lower().endswith(_SUFFIXES)


def lora_files() -> list[str]:
    """Names of the safetensors files in the loras folder."""
    return [name for name in folder_paths.get_filename_list(LORAS) if is_safetensors(name)]


def file_stamp(path: str | os.PathLike[str]) -> str:
    """The file's mtime in ns and its size in bytes, which change when the file does; empty when there is none."""
    try:
        stat = Path(path).stat()
    except OSError:
        return ""
    return f"{stat.st_mtime_ns} {stat.st_size}"


def stamp(name: str) -> str:
    """`file_stamp` of a file in the loras folder; its name when it is missing."""
    path = folder_paths.get_full_path(LORAS, name)
    return (path and file_stamp(path)) or name


def heads_files() -> Files:
    """The asymmetric LoRAs in the loras folder.  Headers are read once a change, but every file is looked at."""
    paths = {name: folder_paths.get_full_path(LORAS, name) for name in lora_files()}
    return {name: domains for name, path in paths.items() if path and (domains := domains_in(path))}


def domains_in(path: str) -> tuple[str, ...]:
    """Names of the domains in a file; empty when it is no (readable) asymmetric LoRA."""
    now = file_stamp(path)
    known = _seen.get(path)
    if known is None or known[0] != now:
        known = _seen[path] = (now, _read_domains(path))
    return known[1]


def _read_domains(path: str) -> tuple[str, ...]:
    try:
        with open_safetensors(path) as file:
            # Most LoRAs are ordinary ones: their names say so without a look at the shapes.
            if not any(".lora_ups." in key for key in file.keys()):  # noqa: SIM118
                return ()
        return tuple(domain.name for domain in AsymmetricLora.open(path).domains)
    except (ValueError, OSError, SafetensorError):
        return ()


def domain_choices(files: Files) -> list[str]:
    """Domain names of all heads files, in their order; all known domains when there is no file."""
    found = dict.fromkeys(name for names in files.values() for name in names)
    return list(found) or [domain.name for domain in DOMAINS]


def open_heads(name: str) -> AsymmetricLora:
    """The heads file of this name; ValueError says what is there instead, and where heads come from."""
    path = folder_paths.get_full_path(LORAS, name)
    if path is not None:
        return AsymmetricLora.open(path)
    others = ", ".join(heads_files())
    if others and name == NO_HEADS:
        raise ValueError(f"Choose a heads file in heads: {others}. If the list lacks it, press R to refresh the lists.")
    if others:
        raise ValueError(f"The loras folder has no heads file {name!r}; choose one of: {others}.")
    raise ValueError(
        f"There is no heads file in the loras folder: download asymmetric_lora_9f_general.safetensors (9 frames) or "
        f"asymmetric_lora_4f_general.safetensors (4 frames) from {_SOURCE} into "
        f"{folder_paths.get_folder_paths(LORAS)[0]}, then press R to refresh the lists and choose it in heads."
    )


def choose(lora: AsymmetricLora, domain: str) -> Domain:
    """The file's domain of this name; ValueError names the heads file that has it, when this one has not."""
    try:
        return lora.domains[lora.find(domain)]
    except ValueError:
        wanted = domain.strip().casefold()
        for name, domains in heads_files().items():
            if wanted in (known.casefold() for known in domains):
                raise ValueError(
                    f"{lora.path.name} has no domain {domain!r}, but {name} has it: choose that file in heads."
                ) from None
        raise


def heads_input(files: Files) -> io.Input:
    return io.Combo.Input(
        "heads",
        options=list(files) or [NO_HEADS],
        tooltip="An asymmetric LoRA in the loras folder: one file with a head for each domain.",
    )


def domain_input(files: Files, row: int | None = None) -> io.Input:
    """The choice of a domain; numbered, with the row's own default, when a node has several rows of them."""
    names = domain_choices(files)
    return io.Combo.Input(
        "domain" if row is None else f"domain_{row}",
        display_name=None if row is None else f"domain {row}",
        options=names,
        default=None if row is None else names[(row - 1) % len(names)],
        tooltip="What is being made: one of the domains of the heads file.",
    )
