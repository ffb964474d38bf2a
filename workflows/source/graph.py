"""A workflow described node by node, checked against the schemas of a host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Schemas = Mapping[str, Mapping[str, Any]]
"""What a host's /object_info answers: the type of a node -> its inputs and outputs."""

Model = Mapping[str, str]
"""A file that a node needs: its name, url and directory (below ComfyUI/models)."""

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3"}
GROWING = "COMFY_AUTOGROW_V3"
"""An input with as many sockets as are wired, and an empty one."""


@dataclass(frozen=True)
class Wire:
    """An output of a node."""

    node: Node
    slot: int
    kind: str


@dataclass(frozen=True)
class Input:
    """A socket or a widget of a node; `value` is a Wire, a widget's value, or None."""

    name: str
    kind: str
    optional: bool
    value: Any
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_widget(self) -> bool:
        return self.kind in WIDGETS


@dataclass(frozen=True, eq=False)
class Node:
    """A node; `node["MODEL"]` is its output of that name.

    An empty title leaves it to the frontend, which translates.  `yours` marks what an artist changes; `muted` nodes do
    not run until they are switched on; the seed of a `steady` one stays after a run.
    """

    number: int
    type: str
    title: str
    inputs: Sequence[Input]
    schema: Mapping[str, Any]
    models: Sequence[Model] = ()
    yours: bool = False
    muted: bool = False
    steady: bool = False

    def __getitem__(self, output: str) -> Wire:
        names = self.schema["output_name"]
        if output not in names:
            raise ValueError(f"{self.type} has no output {output!r}; it has {', '.join(names)}")
        slot = names.index(output)
        return Wire(self, slot, self.schema["output"][slot])


@dataclass
class Group:
    """A titled frame around columns of nodes, beside the group before it or below it."""

    title: str
    below: bool = False
    columns: list[list[Node]] = field(default_factory=lambda: [[]])


class Workflow:
    """A note and groups of nodes, from left to right; nodes go to the last column of the last group."""

    def __init__(self, schemas: Schemas, name: str) -> None:
        self.schemas, self.name = schemas, name
        self.note = ""
        self.groups: list[Group] = []

    @property
    def nodes(self) -> list[Node]:
        """In the order in which they were added, so that wires come from nodes before."""
        found = [node for group in self.groups for column in group.columns for node in column]
        return sorted(found, key=lambda node: node.number)

    def group(self, title: str, below: bool = False) -> None:
        self.groups.append(Group(title, below))

    def column(self) -> None:
        self.groups[-1].columns.append([])

    def add(
        self,
        kind: str,
        title: str = "",
        *,
        models: Sequence[Model] = (),
        yours: bool = False,
        muted: bool = False,
        steady: bool = False,
        **values: Any,
    ) -> Node:
        """Add a node with these wires and values; what is not given has the schema's default.

        ValueError for a node or input that the host lacks, a wire of another type, and a value that is missing.
        """
        if kind not in self.schemas:
            raise ValueError(
                f"{self.name}: the host has no node {kind}; is it older than 0.12.1, or the pack not in it?"
            )
        schema = self.schemas[kind]
        try:
            inputs = list(_inputs(schema, values))
        except ValueError as error:
            raise ValueError(f"{self.name}: {kind}: {error}") from None
        node = Node(len(self.nodes) + 1, kind, title, inputs, schema, models, yours, muted, steady)
        self.groups[-1].columns[-1].append(node)
        return node


def _inputs(schema: Mapping[str, Any], values: dict[str, Any]) -> list[Input]:
    """Inputs in the frontend's order: sockets, then widgets, each as the schema orders them."""
    found: list[Input] = []
    for part in ("required", "optional"):
        for name in schema["input_order"].get(part, ()):
            kind, *options = schema["input"][part][name]
            optional = part == "optional"
            if kind == GROWING:
                found += _grown(name, options[0]["template"], values.pop(name))
                continue
            # Older nodes give the list of choices in place of the type.
            kind = "COMBO" if isinstance(kind, list) else kind
            given = Input(name, kind, optional, values.pop(name, None), *options)
            found.append(_checked(given))
    if values:
        raise ValueError(f"there is no input {', '.join(values)}")
    return sorted(found, key=lambda each: each.is_widget)


def _grown(name: str, template: Mapping[str, Any], wires: Sequence[Wire]) -> list[Input]:
    (kind,) = template["input"]["required"].values()
    names = [f"{name}.{template['prefix']}{index}" for index in range(len(wires) + 1)]
    return [
        _checked(Input(each, kind[0], wire is None, wire)) for each, wire in zip(names, [*wires, None], strict=True)
    ]


def _checked(given: Input) -> Input:
    """The input with the schema's default where nothing was given."""
    value = given.value
    if isinstance(value, Wire) and given.kind not in (value.kind, "*"):
        raise ValueError(f"{given.name} takes {given.kind}, not the {value.kind} of {value.node.type}")
    if value is None and given.is_widget:
        value = given.options.get("default", "" if given.kind == "STRING" else None)
    if value is None and not given.optional:
        raise ValueError(f"{given.name} needs a value")
    return Input(given.name, given.kind, given.optional, value, given.options)
