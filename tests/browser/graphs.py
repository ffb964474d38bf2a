"""Small graphs put into the editor node by node."""

from __future__ import annotations

from typing import Any

from .editor import Editor

Described = tuple[str, dict[str, Any], dict[str, str]]
"""Class of a node, its widgets' values, and its wires: input -> "node.output"."""


def build(editor: Editor, **nodes: Described) -> dict[str, int]:
    """A graph of these nodes, each wired to nodes before it, in place of the one shown; name -> number."""
    return editor.js(
        """nodes => {
            app.graph.clear();
            const made = {};
            Object.entries(nodes).forEach(([name, [type, values, wires]], i) => {
                const node = made[name] = LiteGraph.createNode(type);
                node.pos = [60 + (i % 5) * 300, 80 + Math.floor(i / 5) * 400];
                app.graph.add(node);
                for (const [name, value] of Object.entries(values)) {
                    const widget = node.widgets.find(w => w.name === name);
                    widget.value = value;
                    widget.callback?.(value, app.canvas, node);
                }
                for (const [input, wire] of Object.entries(wires)) {
                    const [from, output] = wire.split(".");
                    made[from].connect(Number(output), node, node.inputs.findIndex(i => i.name === input));
                }
            });
            app.canvas.ds.offset = [0, 0];
            app.canvas.ds.scale = 1;
            app.graph.setDirtyCanvas(true, true);
            return Object.fromEntries(Object.entries(made).map(([name, node]) => [name, node.id]));
        }""",
        nodes,
    )
