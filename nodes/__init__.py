"""ComfyUI's side of the pack: each module exports NODES, this one lists them all."""

from comfy_api.latest import ComfyExtension, io

from . import empty_grid, extract, frames, heads, lora_stack, nano, prompt, recraft, sequence
from .browser import routes


class MakeAnything(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            *lora_stack.NODES,
            *prompt.NODES,
            *empty_grid.NODES,
            *extract.NODES,
            *heads.NODES,
            *recraft.NODES,
            *frames.NODES,
            *sequence.NODES,
            *nano.NODES,
        ]


async def comfy_entrypoint() -> MakeAnything:
    nano.offer_models()
    routes.register()
    return MakeAnything()
