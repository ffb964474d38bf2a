"""Which files of the loras folder are asymmetric LoRAs, and what domains they hold."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from comfy_api.latest import io
from safetensors import SafetensorError

from ..makeanything.asymmetric_lora import AsymmetricLora
from ..makeanything.domains import DOMAINS
from ..makeanything.files import open_safetensors

LORAS = "loras"
NO_HEADS = "no heads file found"
"""Offered when there is none, so that the node can say where to get one."""

_SUFFIXES = (".safetensors", ".sft")
_SOURCE = "https://huggingface.co/showlab/makeanything"

_seen: dict[str, tuple[tuple[int, int], tuple[str, ...]]] = {}
"""Path -> ((mtime in ns, size), names of the domains; empty for other files)."""


def is_safetensors(name: str) -> bool:
    return name.lower().endswith(_SUFFIXES)


def lora_files() -> list[str]:
    """Names of the safetensors files in the loras folder."""
    return [name for name in folder_paths.get_filename_list(LORAS) if is_safetensors(name)]


def heads_files() -> dict[str, tuple[str, ...]]:
    """File name -> domain names, of the asymmetric LoRAs in the loras folder.  Headers are read once a change."""
    paths = {name: folder_paths.get_full_path(LORAS, name) for name in lora_files()}
    return {name: domains for name, path in paths.items() if path and (domains := domains_in(path))}


def domains_in(path: str) -> tuple[str, ...]:
    """Names of the domains in a file; empty when it is no (readable) asymmetric LoRA."""
    try:
        stat = Path(path).stat()
        stamp = (stat.st_mtime_ns, stat.st_size)
        known = _seen.get(path)
        if known is None or known[0] != stamp:
            known = _seen[path] = (stamp, _read_domains(path))
        return known[1]
    except OSError:
        return ()


def _read_domains(path: str) -> tuple[str, ...]:
    try:
        with open_safetensors(path) as file:
            # Most LoRAs are ordinary ones: their names say so without a look at the shapes.
            if not any(".lora_ups." in key for key in file.keys()):  # noqa: SIM118
                return ()
        return tuple(domain.name for domain in AsymmetricLora.open(path).domains)
    except (ValueError, OSError, SafetensorError):
        return ()


def heads_choices() -> list[str]:
    return list(heads_files()) or [NO_HEADS]


def domain_choices() -> list[str]:
    """Domain names of all heads files, in their order; all known domains when there is no file."""
    found = dict.fromkeys(name for names in heads_files().values() for name in names)
    return list(found) or [domain.name for domain in DOMAINS]


def open_heads(name: str) -> AsymmetricLora:
    """The heads file of this name; ValueError says what is there instead, and where heads come from."""
    path = folder_paths.get_full_path(LORAS, name)
    if path is not None:
        return AsymmetricLora.open(path)
    others = list(heads_files())
    if others:
        raise ValueError(f"The loras folder has no heads file {name!r}; choose one of: {', '.join(others)}.")
    raise ValueError(
        f"There is no heads file in the loras folder: download asymmetric_lora_9f_general.safetensors (9 frames) or "
        f"asymmetric_lora_4f_general.safetensors (4 frames) from {_SOURCE} into "
        f"{folder_paths.get_folder_paths(LORAS)[0]}, then reload ComfyUI's page and choose it in heads."
    )


def heads_input() -> io.Input:
    return io.Combo.Input(
        "heads",
        options=heads_choices(),
        tooltip="An asymmetric LoRA in the loras folder: one file with a head for each domain.",
    )


def domain_input(name: str = "domain", default: str | None = None) -> io.Input:
    return io.Combo.Input(
        name,
        options=domain_choices(),
        default=default,
        tooltip="What is being made. The list holds the domains of all heads files; heads must have this one.",
    )
