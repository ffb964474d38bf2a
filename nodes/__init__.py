"""ComfyUI's side of the pack: each module exports NODES, this one lists them all."""

from comfy_api.latest import ComfyExtension, io

from . import recraft


class MakeAnything(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [*recraft.NODES]


async def comfy_entrypoint() -> MakeAnything:
    return MakeAnything()
