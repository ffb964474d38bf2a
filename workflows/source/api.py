"""From what the frontend saves to what scripts send to /prompt, as the frontend does it when Run is pressed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

NOTES = {"MarkdownNote", "Note"}
RUNS = 0
"""litegraph's mode of a node that runs."""

AFTER_RUN = {"fixed", "increment", "decrement", "randomize"}
SEEDS = {"seed", "noise_seed"}


def to_api(workflow: Mapping[str, Any]) -> dict[str, Any]:
    """The nodes that run, by number: class, inputs and title.

    ValueError when a node's widgets and their values do not pair up, or a wire comes from a node that does not run.
    """
    running = {node["id"]: node for node in workflow["nodes"] if node["mode"] == RUNS and node["type"] not in NOTES}
    sources = {number: (source, slot) for number, source, slot, *_ in workflow["links"]}
    return {
        str(number): {
            "inputs": {**dict(_widgets(node)), **dict(_wires(node, sources, running))},
            "class_type": node["type"],
            "_meta": {"title": node.get("title", node["type"])},
        }
        for number, node in running.items()
    }


def _widgets(node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Names and values of the widgets."""
    left = list(node["widgets_values"])
    for each in node["inputs"]:
        if "widget" not in each:
            continue
        if not left:
            raise ValueError(f"node {node['id']} ({node['type']}) keeps no value for {each['name']}")
        yield each["name"], left.pop(0)
        # Values of widgets that only the frontend has.
        if (each["name"] in SEEDS and left[:1] and left[0] in AFTER_RUN) or (
            node["type"] == "LoadImage" and left == ["image"]
        ):
            left.pop(0)
    if left:
        raise ValueError(f"node {node['id']} ({node['type']}) keeps values for no widget: {left}")


def _wires(
    node: Mapping[str, Any], sources: Mapping[int, tuple[int, int]], running: Mapping[int, Any]
) -> Iterator[tuple[str, list[Any]]]:
    """Names and sources of the inputs that are wired."""
    for each in node["inputs"]:
        if each["link"] is not None:
            source, slot = sources[each["link"]]
            if source not in running:
                raise ValueError(f"node {node['id']} ({node['type']}) gets {each['name']} from a node that is off")
            yield each["name"], [str(source), slot]
