"""The server's answers about the files in the loras folder, for the scripts in web/.  Only headers are read."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web
from server import PromptServer

from ...makeanything.foreign import brief
from ...makeanything.lora_info import trigger_words
from ..model.catalog import heads_files, lora_files
from ..model.stacked_lora import StackedLora

HEADS = "/makeanything/heads"
"""GET -> {heads file: [{"name", "rows", "cols", "frames"} of each domain]}."""
LORA = "/makeanything/lora"
"""GET ?name=FILE -> {"trigger_words": [...]}; 404 for a file that is not listed, 400 with what is wrong with a file."""


def register() -> None:
    """Add the routes to the server, if it is there and lacks them: the host stops when a route comes twice."""
    server = getattr(PromptServer, "instance", None)
    if server is not None and HEADS not in {getattr(route, "path", "") for route in server.routes}:
        server.routes.get(HEADS)(heads)
        server.routes.get(LORA)(lora)


async def heads(request: web.Request) -> web.Response:
    return web.json_response(await asyncio.to_thread(_domains))


async def lora(request: web.Request) -> web.Response:
    try:
        words = await asyncio.to_thread(_trigger_words, request.query.get("name", ""))
    except FileNotFoundError as error:
        return web.json_response({"error": str(error)}, status=404)
    except (ValueError, OSError) as error:
        return web.json_response({"error": str(error)}, status=400)
    return web.json_response({"trigger_words": words})


def _domains() -> dict[str, list[dict[str, Any]]]:
    return {
        name: [
            {"name": known.name, "rows": known.layout.rows, "cols": known.layout.cols, "frames": known.layout.frames}
            for known in domains
        ]
        for name, domains in heads_files().items()
    }


def _trigger_words(name: str) -> list[str]:
    if name not in lora_files():
        raise FileNotFoundError(f"the loras folder has no file '{brief(name)}'")
    with StackedLora(name, model=0.0, clip=0.0).open() as file:
        return trigger_words(file.metadata)
