"""One domain's head written as an ordinary LoRA."""

from __future__ import annotations

import re
from pathlib import Path, PureWindowsPath

import folder_paths
from comfy_api.latest import io

from ..makeanything.asymmetric_lora import extract
from .catalog import LORAS, domain_input, heads_input, is_safetensors, open_heads
from .sockets import CATEGORY


class ExtractHead(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MakeAnythingExtractHead",
            display_name="Extract Head",
            category=CATEGORY,
            description="Writes one domain's head into the loras folder as an ordinary LoRA, for any LoRA loader.",
            search_aliases=["makeanything", "asymmetric lora", "save lora", "export head"],
            inputs=[
                heads_input(),
                domain_input(),
                io.String.Input(
                    "file_name",
                    default="",
                    tooltip="The new file in the loras folder, such as heads/portrait. Empty: heads file and domain.",
                ),
                io.Boolean.Input("overwrite", default=False, tooltip="Replace a file that already has this name."),
            ],
            outputs=[io.String.Output(display_name="file_name", tooltip="The new file, as LoRA loaders list it.")],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, heads: str, domain: str) -> bool:
        """As in Load FLUX with Domain."""
        return True

    @classmethod
    def execute(cls, heads: str, domain: str, file_name: str, overwrite: bool) -> io.NodeOutput:
        lora = open_heads(heads)
        chosen = lora.domains[lora.find(domain)].name
        name = lora_name(file_name.strip() or re.sub(r"\W+", "_", f"{lora.path.stem}_{chosen}".lower()))
        path = Path(folder_paths.get_folder_paths(LORAS)[0], name)
        if path.exists() and path.samefile(lora.path):
            raise ValueError(f"{name} is the heads file itself, with all its heads; choose another file_name.")
        if path.exists() and not overwrite:
            raise ValueError(f"The loras folder already has {name}; choose another file_name, or turn overwrite on.")
        path.parent.mkdir(parents=True, exist_ok=True)
        extract(lora, domain, path)
        return io.NodeOutput(str(name))


def lora_name(text: str) -> Path:
    """A file name inside the loras folder, with its suffix; ValueError for one that would leave the folder."""
    # A Windows path takes both kinds of slash, so one rule holds on every system.
    path = PureWindowsPath(text)
    if path.anchor or ".." in path.parts or not path.name:
        raise ValueError(f"{text!r} is no name inside the loras folder; give one such as portrait or heads/portrait.")
    return Path(*path.parts) if is_safetensors(path.name) else Path(*path.parts[:-1], f"{path.name}.safetensors")


NODES: list[type[io.ComfyNode]] = [ExtractHead]
