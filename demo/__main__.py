"""Show the method at work on synthetic making-of sequences, or on a grid of your own: `python run.py demo`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from makeanything import pictures, serpentine
from makeanything.contact_sheet import contact_sheet
from makeanything.domains import Domain
from makeanything.sequence import save_gif
from makeanything.serpentine import Layout

from . import domains, page

FPS = 3.0
HOLD = 1.5
"""Seconds that the finished picture stays."""


class Sequence(NamedTuple):
    """A grid (1, H, W, 3), values 0..1, and what to call it."""

    title: str
    words: str
    grid: Tensor
    layout: Layout


def main() -> None:
    options = _parse()
    try:
        sequences = [_from_file(options.grid, options.frames)] if options.grid else list(_synthetic(options))
        written = [_write(sequence, options.out) for sequence in tqdm(sequences, unit="sequence", dynamic_ncols=True)]
        page.write(options.out / "index.html", written)
    except (ValueError, OSError) as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        sys.exit("demo: stopped; the sequences that were finished are kept")
    print(f"\nOpen {(options.out / 'index.html').resolve()} in a browser.")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python run.py demo", description=__doc__)
    parser.add_argument("--domain", help=f"only this process: {', '.join(p.name for p in domains.PROCESSES)}")
    parser.add_argument("--prompt", help='what is made, for example "a small purple cat" (default: a surprise)')
    parser.add_argument("--grid", type=Path, help="take this grid apart instead, with --frames as it was drawn")
    parser.add_argument("--frames", type=int, choices=(4, 9), default=9, help="frames of a grid (default 9)")
    parser.add_argument("--cell", type=int, default=192, help="edge of a synthetic frame in pixels (default 192)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder to write to (default out/demo)")
    options = parser.parse_args()
    if options.prompt and not options.domain:
        parser.error("--prompt says what is made; say with --domain how")
    return options


def _synthetic(options: argparse.Namespace) -> Iterator[Sequence]:
    """A sequence of each process, composed into the grid that a model would draw."""
    rng = np.random.default_rng(options.seed)
    chosen = [domains.process(options.domain)] if options.domain else domains.PROCESSES
    for process in chosen:
        scene = domains.random_scene(rng, process.name)
        if options.prompt:
            scene = domains.read_scene(process.name, options.prompt, options.seed)
        frames = torch.from_numpy(domains.draw(scene, options.frames, options.cell)).float() / 255
        domain = Domain.of(process.name, options.frames, process.phrase)
        grid = serpentine.compose(frames[None], domain.layout)
        yield Sequence(f"{process.name}: {scene.caption}", domain.write_prompt(scene.caption), grid, domain.layout)


def _from_file(path: Path, frames: int) -> Sequence:
    layout = Layout.of(frames)
    return Sequence(path.stem, f"a {layout} grid", pictures.read(path)[None], layout)


def _write(sequence: Sequence, out: Path) -> page.Piece:
    """Split the grid and save grid, frames, animation and contact sheet."""
    name = re.sub(r"\W+", "-", sequence.title.lower()).strip("-")
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    frames = serpentine.split_trimmed(sequence.grid, sequence.layout)[0]
    pictures.save_png(sequence.grid[0], folder / "grid.png")
    for number, frame in enumerate(frames, 1):
        pictures.save_png(frame, folder / f"{number:02d}.png")
    save_gif(frames, folder / "sequence.gif", FPS, HOLD)
    pictures.save_png(contact_sheet(frames), folder / "contact_sheet.png")
    return page.Piece(
        sequence.title,
        sequence.words,
        *(f"{name}/{file}" for file in ("sequence.gif", "grid.png", "contact_sheet.png")),
    )


if __name__ == "__main__":
    main()
