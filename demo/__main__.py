"""Draw making-of sequences with FLUX-nano, the miniature FLUX that the pack ships: `python run.py demo`."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from makeanything import pictures, serpentine
from makeanything.animations import save_gif
from makeanything.asymmetric_lora import Choice
from makeanything.command_line import Parser, between, ended
from makeanything.contact_sheet import contact_sheet
from makeanything.domains import Domain, find
from makeanything.saving import make_folder
from makeanything.serpentine import Layout

from . import page
from .nano import GRID, STEPS, Nano, heads
from .scenes import domains, style

SMALL, ENLARGE = 96, 3
"""Frames of up to so many pixels are shown at so many times their size."""
FPS = 3.0
NAME = 60
"""Characters of a folder's name at most."""
HOLD = 1.5
"""Seconds that the finished picture stays."""

SHOWN = (
    ("Bricks", "a big red house"),
    ("Line drawing", "a big teal cat"),
    ("Tree", "a big orange oak"),
    ("Carving", "a big blue rocket"),
    ("Lettering", "a big pink letter B"),
)

OnStep = Callable[[int, Tensor], None]


@dataclass(frozen=True)
class Work:
    """One sequence to draw: `draw` gives its grids (1, 192, 192, 3), the last one first in time."""

    title: str
    words: str
    layout: Layout
    draw: Callable[[OnStep], list[Tensor]]
    grids: int = 1


@dataclass(frozen=True)
class Options:
    """What is asked for on the command line; None where nothing is said."""

    prompt: str | None
    domain: str | None
    frames: int
    image: Path | None
    style: float
    grid: Path | None
    seed: int
    out: Path


def main() -> int:
    """Draw what is asked for; the exit code."""
    options = _parse()

    def run() -> None:
        written = demonstrate(options)
        print(f"\nOpen {written.resolve()} in a browser.")

    return ended("demo", run)


def _parse() -> Options:
    parser = Parser(prog="python run.py demo", description=__doc__)
    parser.add_argument("--prompt", help='what is made, for example "a small purple cat"; needs --domain or --image')
    parser.add_argument("--domain", help=f"how it is made: {', '.join(d.name for d in heads(9).domains)}")
    parser.add_argument("--frames", type=int, choices=(4, 9), default=9, help="frames of a sequence (default 9)")
    given = parser.add_mutually_exclusive_group()
    given.add_argument("--image", type=Path, help="a picture whose making is drawn (ReCraft)")
    given.add_argument("--grid", type=Path, help="only take this grid apart, with --frames as it was drawn")
    parser.add_argument(
        "--style",
        type=between(float, -100, 100),
        default=0.0,
        help="strength of the parchment style LoRA (default 0, try 1)",
    )
    parser.add_argument("--seed", type=between(int, 0, 2**63), default=1)
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder to write to (default out/demo)")
    options = Options(**vars(parser.parse_args()))
    if options.prompt and not (options.domain or options.image):
        parser.error("--prompt says what is made; say with --domain how")
    return options


def demonstrate(options: Options) -> Path:
    """Draw everything asked for, with progress; the path of the page."""
    works = [_from_file(options.grid, Layout.of(options.frames))] if options.grid else list(_works(Nano(), options))
    pieces = []
    with tqdm(total=sum(work.grids for work in works) * STEPS, unit="step", dynamic_ncols=True) as bar:
        for work in works:
            bar.set_description(work.title)
            pieces.append(_save(work, work.draw(lambda step, denoised: bar.update() and None), options.out))
            # After every piece, so that stopping early loses nothing.
            page.write(options.out / "index.html", pieces)
    return options.out / "index.html"


def _works(nano: Nano, options: Options) -> Iterator[Work]:
    known = heads(options.frames).domains

    def named(name: str) -> Domain:
        return known[find(known, name)]

    if options.image:
        caption = options.prompt or "a picture"
        yield _from_picture(nano, named(options.domain or "Painting"), caption, pictures.read(options.image), options)
    elif options.domain:
        domain = named(options.domain)
        scene = domains.random_scene(np.random.default_rng(options.seed), domain.name)
        yield _from_text(nano, domain, options.prompt or scene.caption, options)
    else:
        for name, caption in SHOWN:
            yield _from_text(nano, named(name), caption, options)
        yield _from_drawing(nano, named("Colouring"), "a big green duck", options)
        yield _mix(nano, (named("Bricks"), named("Mosaic")), "a big purple heart", options)
        yield _in_style(nano, named("Bricks"), "a big orange boat", options)
        yield _longer(nano, (named("Line drawing"), named("Colouring")), "a big blue cat", options)


def _from_file(path: Path, layout: Layout) -> Work:
    grid = pictures.read(path)[None]
    return Work(path.stem, f"a {layout} grid", layout, lambda on_step: [grid], grids=0)


def _from_text(nano: Nano, domain: Domain, caption: str, options: Options) -> Work:
    prompt = domain.write_prompt(caption)
    if options.style:
        prompt = f"{prompt}, {style.PHRASE}"

    def draw(on_step: OnStep) -> list[Tensor]:
        return [nano.draw(domain, domain.name, prompt, options.seed, style=options.style, on_step=on_step)]

    return Work(f"{domain.name}: {caption}", prompt, domain.layout, draw)


def _in_style(nano: Nano, domain: Domain, caption: str, options: Options) -> Work:
    """A style LoRA, trained on no process, stacked on a head."""
    work = _from_text(nano, domain, caption, replace(options, style=1.0))
    return replace(work, title=f"With a style LoRA: {caption}")


def _from_drawing(nano: Nano, domain: Domain, caption: str, options: Options) -> Work:
    scene = domains.read_scene(domain.name, caption, options.seed)
    picture = domains.finished(scene, GRID // domain.layout.cols)
    return _from_picture(nano, domain, caption, torch.from_numpy(picture).float() / 255, options)


def _from_picture(nano: Nano, domain: Domain, caption: str, picture: Tensor, options: Options) -> Work:
    prompt = domain.write_prompt(caption)
    held = {domain.layout.tail: picture}

    def draw(on_step: OnStep) -> list[Tensor]:
        return [nano.draw(domain, domain.name, prompt, options.seed, held, options.style, on_step)]

    return Work(f"From a picture (ReCraft): {caption}", prompt, domain.layout, draw)


def _mix(nano: Nano, both: tuple[Domain, Domain], caption: str, options: Options) -> Work:
    choice: Choice = {domain.name: 0.5 for domain in both}
    prompt = both[0].write_prompt(caption)

    def draw(on_step: OnStep) -> list[Tensor]:
        return [nano.draw(both[0], choice, prompt, options.seed, on_step=on_step)]

    return Work(f"Half {both[0].name}, half {both[1].name}: {caption}", prompt, both[0].layout, draw)


def _longer(nano: Nano, both: tuple[Domain, Domain], caption: str, options: Options) -> Work:
    """Two processes in one sequence: the first frame of the later grid is held as the tail of the grid before it."""
    before, after = both

    def draw(on_step: OnStep) -> list[Tensor]:
        late = nano.draw(after, after.name, after.write_prompt(caption), options.seed, on_step=on_step)
        held = {before.layout.tail: serpentine.split(late, after.layout)[0, 0]}
        early = nano.draw(before, before.name, before.write_prompt(caption), options.seed, held, on_step=on_step)
        return [late, early]

    words = f"{before.write_prompt(caption)}; then {after.write_prompt(caption)}"
    return Work(f"Longer than a grid: {caption}", words, after.layout, draw, grids=2)


def _save(work: Work, grids: list[Tensor], out: Path) -> page.Piece:
    """Save the grid, its frames, the animation and the contact sheet."""
    name = re.sub(r"\W+", "-", work.title.lower()).strip("-")[:NAME]
    folder = out / name
    make_folder(folder)
    last, *earlier = (serpentine.split_trimmed(grid, work.layout)[0] for grid in grids)
    # The frame that two grids share is shown once.
    frames = torch.cat([*(part[:-1] for part in reversed(earlier)), last])
    pictures.save_png(grids[0][0], folder / "grid.png")
    for number, frame in enumerate(frames, 1):
        pictures.save_png(frame, folder / f"{number:02d}.png")
    shown = frames if frames.shape[1] > SMALL else _enlarged(frames)
    save_gif(shown, folder / "sequence.gif", FPS, HOLD)
    pictures.save_png(contact_sheet(shown), folder / "contact_sheet.png")
    return page.Piece(
        work.title,
        work.words,
        *(f"{name}/{file}" for file in ("sequence.gif", "grid.png", "contact_sheet.png")),
    )


def _enlarged(frames: Tensor) -> Tensor:
    return frames.repeat_interleave(ENLARGE, 1).repeat_interleave(ENLARGE, 2)


if __name__ == "__main__":
    sys.exit(main())
