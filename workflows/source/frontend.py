"""A workflow as ComfyUI's frontend saves it: litegraph's JSON, version 0.4."""

from __future__ import annotations

import uuid
from typing import Any

from .graph import Input, Node, Wire, Workflow
from .places import Box, note, place

PACK = "comfyui-makeanything"
CORE = "comfy-core"
MUTED = 2
"""litegraph's mode of a node that does not run."""

OPTIONAL = 7
"""litegraph's shape of a socket that may stay empty."""

PALETTE = {"yours": ("#232", "#353"), "note": ("#432", "#653"), "muted": ("#222", "#000")}
"""litegraph's own green, yellow and black: bar and body."""

FRAME = "#3f789e"
AFTER_RUN = {False: "randomize", True: "fixed"}
"""What becomes of a seed after a run, for nodes that are not and that are steady."""

Link = list[Any]
"""Number, node and slot where it starts, node and slot where it ends, type."""


def to_ui(workflow: Workflow) -> dict[str, Any]:
    boxes, frames = place(workflow.groups)
    links: list[Link] = []
    nodes = [_node(node, boxes[node], links) for node in workflow.nodes]
    for node in nodes:
        _plug(node, links)
    nodes.append(_note(len(nodes) + 1, workflow.note))
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{PACK}/{workflow.name}")),
        "revision": 0,
        "last_node_id": len(nodes),
        "last_link_id": len(links),
        "nodes": nodes,
        "links": links,
        "groups": [
            {"id": number, "title": group.title, "bounding": list(frame), "color": FRAME, "font_size": 24, "flags": {}}
            for number, (group, frame) in enumerate(zip(workflow.groups, frames, strict=True), 1)
        ],
        "config": {},
        "extra": {},
        "version": 0.4,
    }


def _node(node: Node, box: Box, links: list[Link]) -> dict[str, Any]:
    """The node without its outputs' links; its own wires are added to `links`."""
    inputs = [_input(each, node.number, slot, links) for slot, each in enumerate(node.inputs)]
    package = PACK if node.type.startswith("MakeAnything") else CORE
    properties = {"cnr_id": package, "Node name for S&R": node.type}
    colour = "muted" if node.muted else "yours" if node.yours else None
    return {
        "id": node.number,
        "type": node.type,
        "pos": list(box[:2]),
        "size": list(box[2:]),
        "flags": {},
        "order": node.number - 1,
        "mode": MUTED if node.muted else 0,
        "inputs": inputs,
        "outputs": [
            {"name": name, "type": kind, "links": []}
            for name, kind in zip(node.schema["output_name"], node.schema["output"], strict=True)
        ],
        "properties": {**properties, **({"models": list(node.models)} if node.models else {})},
        "widgets_values": [value for each in node.inputs for value in _saved(each, node.steady)],
        **({"title": node.title} if node.title else {}),
        **_coloured(colour),
    }


def _coloured(name: str | None) -> dict[str, str]:
    return dict(zip(("color", "bgcolor"), PALETTE[name], strict=True)) if name else {}


def _input(each: Input, number: int, slot: int, links: list[Link]) -> dict[str, Any]:
    saved: dict[str, Any] = {"name": each.name, "type": each.kind, "link": None}
    if each.is_widget:
        saved["widget"] = {"name": each.name}
    if each.optional:
        saved["shape"] = OPTIONAL
    if isinstance(each.value, Wire):
        saved["link"] = len(links) + 1
        links.append([saved["link"], each.value.node.number, each.value.slot, number, slot, each.value.kind])
    return saved


def _saved(each: Input, steady: bool) -> list[Any]:
    """What the frontend keeps of an input among the values of the node's widgets."""
    if not each.is_widget:
        return []
    if each.options.get("control_after_generate"):
        return [each.value, AFTER_RUN[steady]]
    # The button that uploads a picture is a widget of its own.
    if each.options.get("image_upload"):
        return [each.value, "image"]
    return ["" if isinstance(each.value, Wire) else each.value]


def _plug(node: dict[str, Any], links: list[Link]) -> None:
    """Note at a node's outputs the links that start there."""
    for number, source, slot, *_ in links:
        if source == node["id"]:
            node["outputs"][slot]["links"].append(number)
    # Later hosts give their previews an output; on earlier ones it would lead nowhere.
    if node["type"].startswith("Preview"):
        node["outputs"] = []


def _note(number: int, text: str) -> dict[str, Any]:
    box = note(text)
    return {
        "id": number,
        "type": "MarkdownNote",
        "pos": list(box[:2]),
        "size": list(box[2:]),
        "flags": {},
        "order": number - 1,
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "title": "How to use this workflow",
        "properties": {},
        "widgets_values": [text],
        **_coloured("note"),
    }
