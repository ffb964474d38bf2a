"""ComfyUI's editor in a browser, as its user has it: opens, runs, saves and reloads workflows.

    editor.open("demo_text_to_process")              # a template of this pack
    editor.load({"nodes": [...], ...})               # or any workflow in the UI's own form
    node = editor.node("KSampler")                   # the number of the only node of this class
    editor.values(node)                              # widget's name -> value
    editor.choose(node, "steps", 4)                  # as its user would, with the widget's callback
    editor.run()                                     # presses Run, waits for the end; HostError with the host's text
    editor.page                                      # Playwright's page, for everything else
    editor.js("id => app.graph.getNodeById(id).size", node)
    editor.wait("id => app.graph.getNodeById(id).imgs", node)

`editor.problems` are the errors that the browser's console has shown; conftest.py fails a test that ends with any.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tests.host.server import PACK, Host, HostError

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Page

SECONDS = 300
"""The longest wait; the slowest thing is a run of a model on a busy processor."""

POLL = 50
"""Milliseconds between looks; looking at every frame would make the page draw frames for nothing."""

ALLOWED = {
    r"Failed to load resource.*/(api/)?user(data/user)?\.css$": "the host asks for a style sheet that users may have",
    r"Failed to load resource.*/api/userdata[/?]": "the host asks for files of its user, who is new and has none",
    r"Failed to load resource.*/favicon\.ico ?$": "an older host has none",
    r"Failed to load resource.*/docs/\w+/en\.md$": "the host looks for en.md first, then for the page beside",
    r"(Connecting to|Fetch API cannot load) '?https://huggingface\.co/": "the host asks how large missing models are",
    r"^ComfyApp graph accessed before initialization": "the host's own extensions do so while they load",
}
"""A pattern of a message with its address -> why it is no fault of this pack."""

READY = """window.app?.extensionManager?.spinner === false && app.graph?.nodes?.length > 0
    && !document.querySelector(".p-blockui-mask")"""
"""The workflow is there, and what takes the clicks until it is has faded."""


Number = int | str
"""A node in the graph, as the frontend numbers it: newer ones write numbers as strings."""


class Editor:
    """One page."""

    def __init__(self, page: Page, host: Host) -> None:
        self.page, self.host = page, host
        self.problems: list[str] = []
        page.set_default_timeout(SECONDS * 1000)
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.problems.append(f"uncaught: {error}"))

    def _hear(self, message: ConsoleMessage) -> None:
        text = f"{message.text} {message.location.get('url', '')}"
        if message.type == "error" and not any(re.search(pattern, text) for pattern in ALLOWED):
            self.problems.append(text)

    def js(self, function: str, argument: Any = None) -> Any:
        """The JSON value of a JavaScript expression or function of `argument`."""
        return self.page.evaluate(function, argument)

    def wait(self, function: str, argument: Any = None) -> None:
        """Wait until a JavaScript expression or function of `argument` is true."""
        self.page.wait_for_function(function, arg=argument, polling=POLL)

    def start(self) -> None:
        """The editor with the workflow it starts with."""
        self.page.goto(self.host.url)
        self.wait(READY)

    def open(self, template: str) -> None:
        """The editor with a template of this pack."""
        self.page.goto(f"{self.host.url}/?template={quote(template)}&source={PACK}")
        self.wait(READY)
        self.wait("name => document.title.includes(name)", template)

    def load(self, workflow: dict[str, Any]) -> None:
        """Put a workflow, in the UI's form, in place of the one shown."""
        if self.page.url == "about:blank":
            self.start()
        self.js("workflow => app.loadGraphData(workflow)", workflow)
        self.wait("count => app.graph.nodes.length === count", len(workflow["nodes"]))

    def nodes(self) -> list[dict[str, Any]]:
        """id, type, title, pos [x, y] and size [w, h] (of its body, in graph units) of every node."""
        return self.js(
            "app.graph.nodes.map(n => ({id: n.id, type: n.type, title: n.title, pos: [...n.pos], size: [...n.size]}))"
        )

    def boxes(self, kind: str) -> list[dict[str, Any]]:
        """title and box [left, top, right, bottom] (with the title bar, in graph units) of the "nodes" or "groups"."""
        return self.js(
            """kind => app.graph[kind].map(item => {
                const [x, y, w, h] = item.getBounding?.() ?? item.boundingRect;
                return {title: `${item.title} ${item.id}`, box: [x, y, x + w, y + h]};
            })""",
            kind,
        )

    def node(self, type_: str) -> Number:
        """The number of the only node of a class."""
        (found,) = (node["id"] for node in self.nodes() if node["type"] == type_)
        return found

    def values(self, node: Number) -> dict[str, Any]:
        """Widget's name -> value, of the widgets that a saved workflow keeps."""
        return self.js(
            """id => Object.fromEntries(app.graph.getNodeById(id).widgets
                .filter(w => w.serialize !== false).map(w => [w.name, w.value]))""",
            node,
        )

    def options(self, node: Number, widget: str) -> list[str]:
        """What a combo offers."""
        return self.js(
            """([id, name]) => {
                const combo = app.graph.getNodeById(id).widgets.find(w => w.name === name);
                const values = combo.options.values;
                return typeof values === "function" ? values(combo) : [...values];
            }""",
            [node, widget],
        )

    def choose(self, node: Number, widget: str, value: Any) -> None:
        """Set a widget as its user would."""
        self.js(
            """([id, name, value]) => {
                const node = app.graph.getNodeById(id), widget = node.widgets.find(w => w.name === name);
                widget.value = value;
                widget.callback?.(value, app.canvas, node);
            }""",
            [node, widget, value],
        )

    def run(self) -> None:
        """Press Run and wait for the end of the run; HostError when it fails or is refused."""
        self.js(
            """() => {
                window.runEnded = null;
                const end = text => event => { window.runEnded = text ? text(event.detail) : "" };
                app.api.addEventListener("execution_success", end(), {once: true});
                app.api.addEventListener("execution_error",
                    end(e => `${e.node_type}: ${e.exception_message}`), {once: true});
                app.api.addEventListener("promptQueued", () => { if (app.lastNodeErrors
                    && Object.keys(app.lastNodeErrors).length) window.runEnded = JSON.stringify(app.lastNodeErrors) });
            }"""
        )
        self.page.get_by_test_id("queue-button").click()
        self.wait("window.runEnded !== null")
        if text := self.js("window.runEnded"):
            raise HostError(text)
        self.wait("app.graph.nodes.every(n => (n.imgs ?? []).every(img => img.complete))")

    def save(self, name: str) -> dict[str, Any]:
        """Save the workflow under a name that is new to the host, with the keys for it; the saved file's contents."""
        self.page.keyboard.press("Control+s")
        field = self.page.get_by_role("dialog").get_by_role("textbox")
        field.fill(name)
        field.press("Enter")
        self.wait("name => document.title.includes(name) && !document.title.startsWith('*')", name)
        return self.host.get(f"/api/userdata/{quote(f'workflows/{name}.json', safe='')}")

    def reload(self) -> None:
        """Load the page anew; it comes back with the workflow it had."""
        title = self.js("document.title")
        self.page.reload()
        self.wait(READY)
        self.wait("title => document.title === title", title)

    def box(self, node: Number) -> dict[str, float]:
        """x, y, width and height of a node, with its title bar, in pixels of the page."""
        return self.js(
            """id => {
                const node = app.graph.getNodeById(id), canvas = app.canvas.canvas.getBoundingClientRect();
                const [x, y, width, height] = node.getBounding(), {scale, offset} = app.canvas.ds;
                return {x: (x + offset[0]) * scale + canvas.x, y: (y + offset[1]) * scale + canvas.y,
                        width: width * scale, height: height * scale};
            }""",
            node,
        )
