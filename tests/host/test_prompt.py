"""Process Prompt and Empty Grid in the host."""

from __future__ import annotations

from typing import Any

import pytest

from . import tiny
from .server import Graph, Host, Node

HEADS = "prompt_heads.safetensors"


@pytest.fixture(scope="module", autouse=True)
def _heads(host: Host) -> None:
    tiny.save_heads(host.base / "models/loras" / HEADS)


def domain(g: Graph, name: str) -> list:
    inputs = {"heads": HEADS, "domain": name, "strength": 1.0}
    return g.add("MakeAnythingApplyDomainHead", model=g.flux()[0], **inputs)[1]


def empty_grid(g: Graph, choice: str, cell: int = 0, batch: int = 1, **inputs: Any) -> Node:
    return g.add("MakeAnythingEmptyGrid", layout=choice, cell=cell, batch_size=batch, **inputs)


def test_prompt_with_steps(host: Host) -> None:
    g = Graph()
    node = g.add(
        "MakeAnythingProcessPrompt",
        domain=domain(g, "Portrait"),
        subject="1 girl, {braces}",
        steps="sketch\n\ncolour\n",
    )
    g.probe("prompt_steps", node[0])
    wanted = (
        "3*3 of 9 sub-images, step-by-step portrait painting process, 1 girl, {braces}, step 1: sketch, step 3: colour"
    )
    assert host.run(g)["prompt_steps"] == wanted


def test_more_lines_than_frames_are_refused(host: Host) -> None:
    g = Graph()
    node = g.add("MakeAnythingProcessPrompt", domain=domain(g, "Emoji"), subject="a cat", steps="1\n2\n3\n4\n5")
    g.probe("x", node[0])
    assert "5 lines describe the frames of Emoji, but its grid has 4 frames" in host.fails(g)


@pytest.mark.parametrize(
    ("choice", "more", "cell", "batch", "shape"),
    [
        ("9 frames (3x3)", {}, 0, 1, (1, 16, 132, 132)),
        ("4 frames (2x2)", {}, 0, 2, (2, 16, 128, 128)),
        ("4 frames (2x2)", {}, 48, 1, (1, 16, 12, 12)),
        ("custom", {"layout.rows": 1, "layout.cols": 3}, 32, 1, (1, 16, 4, 12)),
    ],
)
def test_empty_grid(host: Host, choice: str, more: dict, cell: int, batch: int, shape: tuple[int, ...]) -> None:
    g = Graph()
    g.probe("empty", empty_grid(g, choice, cell, batch, **more)[0])
    grid = host.run(g)["empty"]
    assert tuple(grid.shape) == shape
    assert not grid.any()


def test_empty_grid_from_the_domain(host: Host) -> None:
    g = Graph()
    for name in ("Portrait", "Emoji"):
        g.probe(name, empty_grid(g, "from domain", domain=domain(g, name))[0])
    out = host.run(g)
    assert out["Portrait"].shape[-2:] == (132, 132)
    assert out["Emoji"].shape[-2:] == (128, 128)
    g = Graph()
    g.probe("x", empty_grid(g, "from domain")[0])
    assert "no domain is wired" in host.fails(g)


def test_a_cell_that_is_no_multiple_of_16_is_refused(host: Host) -> None:
    g = Graph()
    g.probe("x", empty_grid(g, "4 frames (2x2)", cell=350)[0])
    assert "A frame of 350 pixels can't be drawn" in (text := host.fails(g))
    assert "such as 352" in text


def test_a_layout_that_is_not_the_domains_is_refused(host: Host) -> None:
    g = Graph()
    g.probe("x", empty_grid(g, "4 frames (2x2)", domain=domain(g, "Portrait"))[0])
    wanted = "The domain wired in (Portrait) is drawn in a 3x3 grid, but layout says 2x2. Choose 'from domain'"
    assert wanted in host.fails(g)
    same = Graph()
    same.probe("same", empty_grid(same, "9 frames (3x3)", domain=domain(same, "Portrait"))[0])
    assert host.run(same)["same"].shape == (1, 16, 132, 132)


def test_a_prompt_needs_a_subject(host: Host) -> None:
    g = Graph()
    g.probe("x", g.add("MakeAnythingProcessPrompt", domain=domain(g, "Emoji"), subject=" ")[0])
    assert "the subject is empty; write what is made" in host.fails(g)
