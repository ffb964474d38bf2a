"""The routes that the browser asks about files in the loras folder."""

from __future__ import annotations

import json
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import torch
from safetensors.torch import save_file

from . import tiny
from .server import Host

HEADS, PLAIN, BROKEN = "routes_heads.safetensors", "plain.safetensors", "broken.sft"
STYLE = "sub/style & ink.safetensors"


@pytest.fixture(scope="module")
def loras(host: Host) -> Iterator[Path]:
    folder = host.base / "models/loras"
    (folder / "sub").mkdir(exist_ok=True)
    weights = {"lora_unet_x.lora_up.weight": torch.zeros(1, 1)}
    tiny.save_heads(folder / HEADS)
    save_file(weights, folder / STYLE, {"modelspec.trigger_phrase": "inkstyle, wet paper"})
    save_file(weights, folder / PLAIN)
    (folder / BROKEN).write_bytes(b"PK\x03\x04" + b"\xff" * 40)
    save_file(weights, folder.parent / "outside.safetensors", {"modelspec.trigger_phrase": "secret"})
    yield folder
    for path in (*(folder / name for name in (HEADS, STYLE, PLAIN, BROKEN)), folder.parent / "outside.safetensors"):
        path.unlink()


def ask(host: Host, name: str | None) -> tuple[int, Any]:
    """(status, JSON) of the trigger words of a file."""
    try:
        return 200, host.get("/makeanything/lora" + ("" if name is None else f"?name={quote(name)}"))
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_every_heads_file_comes_with_its_domains(host: Host, loras: Path) -> None:
    files = host.get("/makeanything/heads")
    assert files[HEADS] == [
        {"name": "Portrait", "rows": 3, "cols": 3, "frames": 9},
        {"name": "Sketch", "rows": 3, "cols": 3, "frames": 9},
        {"name": "Emoji", "rows": 2, "cols": 2, "frames": 4},
    ]
    assert not {STYLE, PLAIN, BROKEN} & files.keys()
    assert {domain["frames"] for domain in files["flux_nano_heads_4f.safetensors"]} == {4}


def test_the_domains_follow_the_files(host: Host, loras: Path) -> None:
    late, domain = loras / "routes_late.safetensors", tiny.Domain.of("Knitting", 4, "knitting")
    tiny.save(tiny.heads(tiny.PARAMS, (domain,)), (domain,), late)
    assert host.get("/makeanything/heads")[late.name] == [{"name": "Knitting", "rows": 2, "cols": 2, "frames": 4}]
    late.unlink()
    assert late.name not in host.get("/makeanything/heads")


def test_trigger_words_come_from_the_header(host: Host, loras: Path) -> None:
    assert ask(host, STYLE) == (200, {"trigger_words": ["inkstyle", "wet paper"]})
    assert ask(host, PLAIN) == (200, {"trigger_words": []})


@pytest.mark.parametrize(
    "name", [None, "", "gone.safetensors", "../outside.safetensors", "sub/../plain.safetensors", "/etc/passwd", "sub"]
)
def test_only_listed_files_are_read(host: Host, loras: Path, name: str | None) -> None:
    status, reply = ask(host, name)
    assert status == 404
    assert reply == {"error": f"the loras folder has no file {name or ''!r}"}


@pytest.mark.parametrize(("name", "reason"), [(BROKEN, "it is a zip archive"), (HEADS, "an asymmetric LoRA")])
def test_a_file_that_is_no_lora_gets_a_sentence(host: Host, loras: Path, name: str, reason: str) -> None:
    status, reply = ask(host, name)
    assert status == 400
    assert name in reply["error"]
    assert reason in reply["error"]
