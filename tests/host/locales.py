"""Write the English texts of the nodes, locales/en/nodeDefs.json, from their schemas:  python -m tests.host.locales

Run it after a change to a node's texts or inputs.  It starts the first ComfyUI that benchmarks/comfyuis.py finds.  The
other languages are written by people; tests/test_locales.py says what they lack.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.comfyuis import HOSTS, interpreter

from .server import ROOT, Host, prepare

ENGLISH = ROOT / "locales/en/nodeDefs.json"
PROBE = "import aiohttp, einops, safetensors, torch"

Schemas = dict[str, dict[str, Any]]


def main() -> None:
    python = interpreter(HOSTS[0], PROBE) if HOSTS else None
    if python is None:
        sys.exit("No ComfyUI was found that can run the nodes; set COMFYUI_PATH to its folder.")
    with tempfile.TemporaryDirectory() as base:
        prepare(Path(base))
        host = Host(HOSTS[0], Path(base), python)
        try:
            host.start()
            ENGLISH.write_text(english(schemas_of(host)), encoding="utf-8", newline="\n")
        finally:
            host.stop()


def schemas_of(host: Host) -> Schemas:
    """Node -> what the host says about it, for the nodes of the pack."""
    return {node: info for node, info in host.get("/object_info").items() if node.startswith("MakeAnything")}


def english(schemas: Schemas) -> str:
    """The file's text."""
    texts = {node: described(info) for node, info in sorted(schemas.items())}
    return json.dumps(texts, indent=2, ensure_ascii=False) + "\n"


def described(info: Mapping[str, Any]) -> dict[str, Any]:
    """A node's texts in the form of the frontend's nodeDefs; it puts _ where a key has a dot.

    An output that is named as its type has no name of its own: the frontend translates types itself.
    """
    outputs = zip(info["output"], info["output_name"], info["output_tooltips"], strict=True)
    return {
        "display_name": info["display_name"],
        "description": info["description"],
        "inputs": {
            name.replace(".", "_"): {
                "name": options.get("display_name") or name.rpartition(".")[2],
                "tooltip": options["tooltip"],
            }
            for name, _, options in inputs_of(info["input"])
        },
        "outputs": {
            str(number): {**({"name": name} if name != kind else {}), "tooltip": tooltip}
            for number, (kind, name, tooltip) in enumerate(outputs)
        },
    }


def inputs_of(groups: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    """(name, type, options) of every input; those of a dynamic choice are named CHOICE.NAME."""
    for group in ("required", "optional"):
        for name, (kind, *options) in groups.get(group, {}).items():
            yield before + name, kind, options[0] if options else {}
            for choice in options[0]["options"] if kind == "COMFY_DYNAMICCOMBO_V3" else ():
                yield from inputs_of(choice["inputs"], f"{before}{name}.")


if __name__ == "__main__":
    main()
