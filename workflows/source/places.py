"""Where the nodes of a workflow stand: groups from left to right, each of columns, in the frontend's units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .graph import Group, Node, Wire

Box = tuple[int, int, int, int]
"""Left, top, width and height; a node's without its title bar, which lies above."""

TITLE = 30
SLOT, WIDGET, TEXT = 20, 24, 110
"""Heights of a row of sockets, of a widget, and of a text field."""

WIDTH = 340
MARGIN = 14
GAP = 30
BETWEEN = 60
"""Between groups."""

HEADING = 50
"""Of a group."""

SHOWN: Mapping[str, int] = {
    "BatchImagesNode": 12,
    "LoadImage": 300,
    "MakeAnythingAnimateSequence": 300,
    "MakeAnythingReCraft": 200,
    "MakeAnythingSaveSequence": 300,
    "MakeAnythingSplitFrames": 340,
    "PreviewAny": 110,
    "PreviewImage": 340,
}
"""Room that nodes need for what they show."""


def size(node: Node) -> tuple[int, int]:
    widgets = [each for each in node.inputs if each.is_widget]
    sockets = max(len(node.inputs) - len(widgets), len(node.schema["output"]))
    # A text that is wired in needs no field.
    texts = sum(bool(each.options.get("multiline")) and not isinstance(each.value, Wire) for each in widgets)
    # The frontend adds a widget that says what becomes of a seed after each run.
    singles = len(widgets) - texts + sum(bool(each.options.get("control_after_generate")) for each in widgets)
    height = sockets * SLOT + singles * WIDGET + texts * TEXT + MARGIN + SHOWN.get(node.type, 0)
    return WIDTH, height


def place(groups: Sequence[Group]) -> tuple[dict[Node, Box], list[Box]]:
    """The boxes of the nodes and of the groups."""
    boxes: dict[Node, Box] = {}
    frames: list[Box] = []
    for group in groups:
        left, top = _corner(frames, group.below)
        bottom = top
        for index, column in enumerate(group.columns):
            x, y = left + GAP + index * (WIDTH + GAP), top + HEADING + TITLE
            for node in column:
                boxes[node] = x, y, *size(node)
                y += boxes[node][3] + TITLE + GAP
            bottom = max(bottom, y - TITLE)
        frames.append((left, top, GAP + len(group.columns) * (WIDTH + GAP), bottom - top))
    return boxes, frames


def _corner(frames: Sequence[Box], below: bool) -> tuple[int, int]:
    """Where the next group begins: right of all, or below the last."""
    if not frames:
        return 0, 0
    if below:
        left, top, _, height = frames[-1]
        return left, top + height + BETWEEN
    return max(left + width for left, _, width, _ in frames) + BETWEEN, 0


def note(text: str) -> Box:
    """Room for a note, left of everything."""
    width = 440
    lines = sum(1 + len(line) // 58 for line in text.splitlines())
    return -width - BETWEEN, TITLE, width, 60 + 22 * lines
