"""One domain's head written as an ordinary LoRA."""

from __future__ import annotations

import re
from pathlib import Path, PureWindowsPath
from typing import Any

import folder_paths
import torch
from comfy_api.latest import io, ui
from safetensors import SafetensorError
from safetensors.torch import load_file
from server import PromptServer

from ..makeanything.asymmetric_lora import AsymmetricLora, extract
from ..makeanything.saving import make_folder
from .catalog import (
    LORAS,
    choose,
    domain_input,
    file_stamp,
    heads_files,
    heads_input,
    is_safetensors,
    open_heads,
    stamp,
)
from .sockets import CATEGORY
from .stopping import ask


class ExtractHead(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        files = heads_files()
        return io.Schema(
            node_id="MakeAnythingExtractHead",
            display_name="Extract Head",
            category=CATEGORY,
            description="Writes one domain's head into the loras folder as an ordinary LoRA, for any LoRA loader. "
            "Press R to refresh the lists, and LoRA loaders show the new file.",
            search_aliases=["makeanything", "asymmetric lora", "save lora", "export head"],
            inputs=[
                heads_input(files),
                domain_input(files),
                io.String.Input(
                    "file_name",
                    default="",
                    tooltip="The new file in the loras folder, such as heads/portrait. Empty: heads file and domain.",
                ),
                io.Boolean.Input("overwrite", default=False, tooltip="Replace a file that already has this name."),
            ],
            outputs=[io.String.Output(display_name="file_name", tooltip="The new file, as LoRA loaders list it.")],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, heads: str, domain: str) -> bool:
        """As in Load FLUX with Domain."""
        return True

    @classmethod
    def fingerprint_inputs(cls, heads: str, domain: str, file_name: str, **_: Any) -> tuple[str, str]:
        """A heads file or a new file that is replaced or deleted runs the node again."""
        return stamp(heads), file_stamp(_target(_name(open_heads(heads), domain, file_name)))

    @classmethod
    def execute(cls, heads: str, domain: str, file_name: str, overwrite: bool) -> io.NodeOutput:
        lora = open_heads(heads)
        name = _name(lora, domain, file_name)
        path = _target(name)
        if path.exists() and path.samefile(lora.path):
            raise ValueError(f"{name} is the heads file itself, with all its heads; choose another file_name.")
        # The same graph queued once more, in a later session too, is no mistake.
        if not (path.exists() and _holds(path, lora, domain)):
            if path.exists() and not overwrite:
                raise ValueError(
                    f"The loras folder already has {name}, and it is not this head; choose another file_name, or turn "
                    "overwrite on."
                )
            make_folder(path.parent)
            extract(lora, domain, path, step=ask)
        PromptServer.instance.send_progress_text(str(name), cls.hidden.unique_id)
        return io.NodeOutput(str(name), ui=ui.PreviewText(str(name)))


def _name(lora: AsymmetricLora, domain: str, file_name: str) -> Path:
    """The new file's name in the loras folder; ValueError for an unknown domain or a name that would leave it."""
    chosen = choose(lora, domain).name
    return lora_name(file_name.strip() or re.sub(r"\W+", "_", f"{lora.path.stem}_{chosen}".lower()))


def _target(name: Path) -> Path:
    return Path(folder_paths.get_folder_paths(LORAS)[0], name)


def _holds(path: Path, lora: AsymmetricLora, domain: str) -> bool:
    """Whether the file is this head, written before."""
    try:
        found = load_file(path)
    except (OSError, SafetensorError):
        return False
    wanted = lora.select(domain, ask)
    return found.keys() == wanted.keys() and all(torch.equal(found[key], wanted[key]) for key in wanted)


def lora_name(text: str) -> Path:
    """A file name inside the loras folder, with its suffix; ValueError for one that would leave the folder."""
    # A Windows path takes both kinds of slash, so one rule holds on every system.
    path = PureWindowsPath(text)
    if path.anchor or ".." in path.parts or not path.name:
        raise ValueError(f"{text!r} is no name inside the loras folder; give one such as portrait or heads/portrait.")
    return Path(*path.parts) if is_safetensors(path.name) else Path(*path.parts[:-1], f"{path.name}.safetensors")


NODES: list[type[io.ComfyNode]] = [ExtractHead]
