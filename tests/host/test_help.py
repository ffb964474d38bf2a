"""Help and translations as ComfyUI serves them."""

from __future__ import annotations

import json
import urllib.request
from http.client import HTTPResponse

import pytest

from .locales import schemas_of
from .server import PACK, ROOT, Host

LOCALES = ROOT / "locales"
DOCS = ROOT / "web/docs"
LANGUAGES = sorted(path.name for path in LOCALES.iterdir())
FILES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.*"))


def fetch(host: Host, path: str) -> tuple[str, bytes]:
    """(content type, body) of a file that the server gives out."""
    answer: HTTPResponse
    with urllib.request.urlopen(host.url + path, timeout=60) as answer:
        return answer.headers["Content-Type"], answer.read()


def test_translations_are_served(host: Host) -> None:
    served = host.get("/i18n")
    for language in LANGUAGES:
        written = json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))
        assert {node: served[language]["nodeDefs"][node] for node in written} == written


@pytest.mark.parametrize("file", FILES)
def test_help_is_served(host: Host, file: str) -> None:
    """Where the help panel looks: it takes the folder's name from python_module, and shows anything but HTML."""
    modules = {info["python_module"] for info in schemas_of(host).values()}
    assert modules == {f"custom_nodes.{PACK}"}
    kind, body = fetch(host, f"/extensions/{PACK}/docs/{file}")
    assert body == (DOCS / file).read_bytes()
    assert "text/html" not in kind
