"""One domain's head written as an ordinary LoRA."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

import folder_paths
from comfy_api.latest import io, ui
from server import PromptServer
from torch import Tensor

from ..makeanything import file_names
from ..makeanything.asymmetric_lora import AsymmetricLora, extract
from ..makeanything.foreign import brief
from ..makeanything.saving import make_folder
from ..makeanything.weights_file import names_heads, open_weights, same
from .inputs import CATEGORY, domain_input, heads_input
from .model.catalog import (
    LORAS,
    SUFFIXES,
    choose,
    file_stamp,
    heads_files,
    is_safetensors,
    open_heads,
    stamp,
)
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
        """The node runs again when the heads file or the new file is replaced or deleted."""
        return stamp(heads), file_stamp(_place(_name(open_heads(heads), domain, file_name)))

    @classmethod
    def execute(cls, heads: str, domain: str, file_name: str, overwrite: bool) -> io.NodeOutput:
        lora = open_heads(heads)
        name = _name(lora, domain, file_name)
        path = _place(name)
        # Queuing the same graph once more, in a later session too, is not a mistake.
        if not (path.is_file() and _holds(path, lora.select(domain, ask))):
            _check_free(path, name, overwrite)
            make_folder(path.parent)
            extract(lora, domain, path, step=ask)
        PromptServer.instance.send_progress_text(str(name), cls.hidden.unique_id)
        return io.NodeOutput(str(name), ui=ui.PreviewText(str(name)))


def _name(lora: AsymmetricLora, domain: str, file_name: str) -> Path:
    """The new file's name in the loras folder; ValueError for an unknown domain, or for a name outside the folder."""
    chosen = choose(lora, domain).name
    return lora_name(file_name.strip() or re.sub(r"\W+", "_", f"{lora.path.stem}_{chosen}".lower()))


def _place(name: Path) -> Path:
    """Where a file of this name lies, in the first loras folder that has one; else where a new one goes."""
    folders = folder_paths.get_folder_paths(LORAS)
    # A link counts even while the disk that it leads to is away.
    return next((path for folder in folders if os.path.lexists(path := Path(folder, name))), Path(folders[0], name))


def _check_free(path: Path, name: Path, overwrite: bool) -> None:
    """ValueError unless a file may be written there.

    The host looks through several folders, and a file in the first hides files of the same name in the others.
    """
    # On some systems, capital and small letters are the same in names.
    offered = {known.replace("\\", "/").casefold() for known in folder_paths.get_filename_list(LORAS)}
    if not os.path.lexists(path) and name.as_posix().casefold() not in offered:
        return
    if names_heads(path):
        raise ValueError(f"{name} is a heads file, with all its heads; choose another file_name.")
    if path != Path(folder_paths.get_folder_paths(LORAS)[0], name):
        raise ValueError(f"Another of ComfyUI's loras folders already has {name}; choose another file_name.")
    if not path.is_file():
        raise ValueError(f"The loras folder has something else of the name {name}; choose another file_name.")
    if not overwrite:
        raise ValueError(
            f"The loras folder already has {name}, and it is not this head; choose another file_name, or turn "
            "overwrite on."
        )


def _holds(path: Path, wanted: Mapping[str, Tensor]) -> bool:
    """Whether the file is this head, written before.  Tensors are read one by one, so that memory holds only one."""
    try:
        with open_weights(path) as file:
            return file.entries.keys() == wanted.keys() and all(
                same(file.read([key])[key], tensor) for key, tensor in wanted.items()
            )
    except (OSError, ValueError):
        return False


def lora_name(text: str) -> Path:
    """A file name inside the loras folder, with its suffix.

    ValueError for a name outside the folder, or one that some systems don't allow.
    """
    path = PureWindowsPath(text)
    problem = file_names.problem_of(text)
    if not problem and path.name.lower() in SUFFIXES:
        problem = "it is only the ending of one"
    if problem:
        raise ValueError(
            f"'{brief(text)}' is not a name inside the loras folder: {problem}; give one such as portrait or "
            "heads/portrait."
        )
    return Path(*path.parts) if is_safetensors(path.name) else Path(*path.parts[:-1], f"{path.name}.safetensors")


NODES: list[type[io.ComfyNode]] = [ExtractHead]
