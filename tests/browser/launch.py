"""A browser, a ComfyUI and a page, for tests and for screenshots."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.comfyuis import interpreter
from tests.host.server import Host, prepare

from .editor import Editor

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PROBE = "import aiohttp, einops, safetensors, torch"
# Drawn by the processor; names of other machines lead nowhere.
FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
FLAGS += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
START = 300.0
"""Seconds that a host may take to start."""

SETTINGS = {"Comfy.TutorialCompleted": True, "Comfy.Minimap.Visible": False, "Comfy.RightSidePanel.IsOpen": False}
"""What the page before may have left open is closed."""


class MissingError(RuntimeError):
    """Something that must be installed is not."""


@contextmanager
def chromium() -> Iterator[Browser]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise MissingError("pip install playwright") from error
    path = os.environ.get("CHROMIUM_PATH") or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        raise MissingError("no chromium was found; set CHROMIUM_PATH to one")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def comfyui(folder: Path, base: Path) -> Iterator[Host]:
    """A server of the ComfyUI in `folder`, run by its own Python, with `base` as its data."""
    python = interpreter(folder, PROBE)
    if python is None:
        raise MissingError(f"the Python of {folder} can't run `{PROBE}`")
    prepare(base)
    # Every ComfyUI has this picture among its inputs.
    shutil.copy(folder / "input/example.png", base / "input")
    server = Host(folder, base, python)
    try:
        server.start(START)
        yield server
    finally:
        server.stop()


@contextmanager
def editing(browser: Browser, host: Host, size: tuple[int, int], settings: dict[str, Any]) -> Iterator[Editor]:
    """A fresh page of width and height `size`, and a user with these settings."""
    host.post("/api/settings", {**SETTINGS, **settings})
    context = browser.new_context(viewport={"width": size[0], "height": size[1]})
    yield Editor(context.new_page(), host)
    context.close()
