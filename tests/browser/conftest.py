"""A real browser on a real ComfyUI with this pack as it lies here, FLUX-nano's models included.

    def test_something(editor):                          # a fresh page; editor.py says what it can do
    @pytest.mark.parametrize("renderer", ["vue"])        # else a test runs twice: "classic" and "vue" nodes
    @pytest.mark.parametrize("theme", ["light"])         # else "dark"
    @pytest.mark.parametrize("locale", ["ja"])           # else "en"

`host` is the server, one for each ComfyUI that benchmarks/comfyuis.py finds; `host.base` is its folder, which may be
written to.  A page load costs seconds, so let a test look at all it can of one page.  An error in the browser's console
fails the test unless editor.ALLOWED says whose it is.  Wait for conditions (`editor.wait`, `locator.wait_for`), never
for a time.  Nothing but `TYPE_CHECKING` may import playwright at the top of a file: without it these tests are skipped.

The browser is the one named in CHROMIUM_PATH, else the system's chromium.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.comfyuis import HOSTS, is_host
from tests.host.server import Host

from .editor import Editor
from .launch import MissingError, chromium, comfyui, editing

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SKIPPED = "THE PACK WAS NOT TRIED IN A BROWSER:"
SIZE = (1600, 1000)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    try:
        with chromium() as running:
            yield running
    except MissingError as missing:
        pytest.skip(f"{SKIPPED} {missing}")


@pytest.fixture(scope="session", params=HOSTS or [None], ids=lambda folder: folder.name if folder else "no host")
def host(browser: Browser, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    folder: Path | None = request.param
    if folder is None:
        pytest.skip(f"{SKIPPED} no ComfyUI was found; set COMFYUI_PATH to its folder")
    assert is_host(folder), f"COMFYUI_PATH names {folder}, which is no ComfyUI folder"
    try:
        with comfyui(folder, tmp_path_factory.mktemp("comfyui")) as server:
            yield server
    except MissingError as missing:
        pytest.skip(f"{SKIPPED} {missing}")


@pytest.fixture(params=["classic", "vue"])
def renderer(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def theme() -> str:
    return "dark"


@pytest.fixture
def locale() -> str:
    return "en"


@pytest.fixture
def editor(browser: Browser, host: Host, renderer: str, theme: str, locale: str) -> Iterator[Editor]:
    settings = {"Comfy.VueNodes.Enabled": renderer == "vue", "Comfy.ColorPalette": theme, "Comfy.Locale": locale}
    with editing(browser, host, SIZE, settings) as shown:
        yield shown
        problems = list(shown.problems)
    assert problems == []
