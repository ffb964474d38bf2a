"""Help and translations as ComfyUI serves them, against the schemas of the nodes it has loaded."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator, Mapping
from http.client import HTTPResponse
from typing import Any

import pytest

from .server import PACK, ROOT, Host

LOCALES = ROOT / "locales"
DOCS = ROOT / "web/docs"
LANGUAGES = sorted(path.name for path in LOCALES.iterdir())
FILES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.*"))

Schemas = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def schemas(host: Host) -> Schemas:
    return {node: info for node, info in host.get("/object_info").items() if node.startswith("MakeAnything")}


def inputs_of(groups: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    """(name, type, options) of every input; those of a dynamic choice are named CHOICE.NAME."""
    for group in ("required", "optional"):
        for name, (kind, *options) in groups.get(group, {}).items():
            yield before + name, kind, options[0] if options else {}
            for choice in options[0]["options"] if kind == "COMFY_DYNAMICCOMBO_V3" else ():
                yield from inputs_of(choice["inputs"], f"{before}{name}.")


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


def fetch(host: Host, path: str) -> tuple[str, bytes]:
    """(content type, body) of a file that the server gives out."""
    answer: HTTPResponse
    with urllib.request.urlopen(host.url + path, timeout=60) as answer:
        return answer.headers["Content-Type"], answer.read()


def test_english_texts_are_the_schemas_own(schemas: Schemas) -> None:
    written = json.loads((LOCALES / "en/nodeDefs.json").read_text(encoding="utf-8"))
    assert written == {node: described(info) for node, info in schemas.items()}


def test_translations_are_served(host: Host) -> None:
    served = host.get("/i18n")
    for language in LANGUAGES:
        written = json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))
        assert {node: served[language]["nodeDefs"][node] for node in written} == written


@pytest.mark.parametrize("file", FILES)
def test_help_is_served(host: Host, schemas: Schemas, file: str) -> None:
    """Where the help panel looks: it takes the folder's name from python_module, and shows anything but HTML."""
    modules = {info["python_module"] for info in schemas.values()}
    assert modules == {f"custom_nodes.{PACK}"}
    kind, body = fetch(host, f"/extensions/{PACK}/docs/{file}")
    assert body == (DOCS / file).read_bytes()
    assert "text/html" not in kind


def test_pages_give_the_range_of_every_number(schemas: Schemas) -> None:
    for node, info in schemas.items():
        rows = [line for line in (DOCS / f"{node}.md").read_text(encoding="utf-8").splitlines() if line[:3] == "| `"]
        for name, kind, options in inputs_of(info["input"]):
            if kind in ("INT", "FLOAT"):
                # Of a row of numbered inputs, the page names the first.
                shown = re.sub(r" \d$", " 1", options.get("display_name") or name.rpartition(".")[2])
                (row,) = [row for row in rows if f"`{shown}`" in row and " to " in row.replace("` to `", "")]
                assert f"| {options['min']:g} to {options['max']:g}" in row, (node, name)


def test_pages_name_every_output(schemas: Schemas) -> None:
    for node, info in schemas.items():
        rows = (DOCS / f"{node}.md").read_text(encoding="utf-8").partition("\n## Outputs\n")[2].splitlines()
        assert [row.split("`")[1] for row in rows if row[:3] == "| `"] == info["output_name"], node
