"""Samples during training: every grid that sd-scripts draws is saved together with its frames."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from library import flux_train_utils, train_util
from torch import nn

from makeanything import pictures, serpentine
from makeanything.domains import Domain, find
from makeanything.saving import folder_beside, make_folder
from makeanything.serpentine import Layout

from ..data.cells import check_size

Sampling = Callable[[dict[str, Any], Any], AbstractContextManager[Layout]]
"""(prompt of --sample_prompts, autoencoder) -> what holds while it is drawn; gives the layout of its grid."""


@contextmanager
def grids(sampling: Sampling) -> Iterator[None]:
    """Draw every sample within `sampling`, at the standard size of its layout unless the prompt gives another.

    A grid lies where sd-scripts puts its samples; its frames, in time order, in the folder of the same name beside it.
    """

    def draw(accelerator: Any, args: Any, flux: Any, texts: Any, ae: Any, folder: str, prompt: Any, *rest: Any) -> None:
        with sampling(prompt, ae) as layout, folder_beside(Path(folder, "samples")) as drawn:
            prompt["height"], prompt["width"] = size_of(prompt, layout)
            original(accelerator, args, flux, texts, ae, str(drawn), prompt, *rest)
            for path in drawn.iterdir():
                _save_frames(path, layout, Path(folder, path.stem))
                path.replace(Path(folder, path.name))

    original = flux_train_utils.sample_image_inference
    # sd-scripts has no method to override for one sample.
    flux_train_utils.sample_image_inference = draw
    try:
        yield
    finally:
        flux_train_utils.sample_image_inference = original


def _save_frames(path: Path, layout: Layout, folder: Path) -> None:
    grid = pictures.read(path)
    make_folder(folder)
    for number, frame in enumerate(serpentine.split(grid[None], layout)[0], 1):
        pictures.save_png(frame, folder / f"{number:0{pictures.digits(layout.frames)}}.png")


def size_of(prompt: Mapping[str, Any], layout: Layout) -> tuple[int, int]:
    """(height, width) in pixels of the grid that a prompt asks for: the standard one, unless it says another."""
    edge = layout.standard_cell
    return prompt.get("height", layout.rows * edge), prompt.get("width", layout.cols * edge)


def read_prompts(file: str, key: str) -> list[dict[str, Any]]:
    """The prompts of a file with a key of ours: .json and .toml have any, a line of .txt has flags, --KEY VALUE."""
    if not file.endswith((".txt", ".toml", ".json")):
        raise ValueError(f"--sample_prompts takes .txt, .toml and .json, not {Path(file).name}")
    prompts: list[dict[str, Any]] = train_util.load_prompts(file)
    if file.endswith(".txt"):
        # The lines that sd-scripts takes; of their flags it leaves out those that it does not know.
        lines = [line for line in Path(file).read_text(encoding="utf-8").split("\n") if line.strip() and line[0] != "#"]
        for prompt, line in zip(prompts, lines, strict=True):
            if match := re.search(rf"\s--{key}[ =]+(.+?)\s*(?=\s--|$)", line):
                prompt[key] = match[1]
    return prompts


def read_heads(path: str, heads: Sequence[Domain]) -> list[int]:
    """The head (from 0) of every prompt of a file, named by its key "domain"; an only head need not be named.

    ValueError names the prompt whose domain is missing or unknown, or whose grid does not divide into cells.
    """
    return [_head(prompt, Path(path).name, heads) for prompt in read_prompts(path, "domain")]


def _head(prompt: Mapping[str, Any], file: str, heads: Sequence[Domain]) -> int:
    domain = prompt.get("domain", 1 if len(heads) == 1 else None)
    try:
        if domain is None:
            names = ", ".join(head.name for head in heads)
            raise ValueError(f'it names no domain: add the key "domain", in .txt --domain NAME; there are {names}')
        head = find(heads, domain)
        check_size(*size_of(prompt, heads[head].layout), heads[head].layout)
    except ValueError as error:
        raise ValueError(f"{file}, prompt {prompt['enum'] + 1} ({prompt.get('prompt', '')!r}): {error}") from None
    return head


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Have a network without dropout for a while."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)
