"""Draw making-of sequences with FLUX-nano, the miniature FLUX that the pack ships: `python -m demo`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from makeanything import pictures, serpentine
from makeanything.asymmetric_lora import Choice
from makeanything.contact_sheet import contact_sheet
from makeanything.domains import Domain, find
from makeanything.sequence import save_gif, timeline

from . import domains, page
from .nano import STEPS, Nano, heads

ENLARGE = 3
"""Frames are shown at this many times their 64 or 96 pixels."""

DEFAULTS = (
    ("Bricks", "a big red house"),
    ("Painting", "a big orange fish"),
    ("Tree", "a big green oak"),
    ("Clay", "a big blue car"),
)


@dataclass(frozen=True)
class Work:
    """One sequence to draw: `run` gives its frames (F, h, w, 3)."""

    name: str
    title: str
    words: str
    run: Callable[[Callable[[int, Tensor], None]], Tensor]
    grids: int = 1


def main() -> None:
    options = _parse()
    try:
        written = demonstrate(options)
    except (ValueError, OSError) as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        sys.exit("demo: stopped; what was finished is kept")
    print(f"\nOpen {written.resolve()} in a browser.")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python run.py demo", description=__doc__)
    parser.add_argument("--prompt", help='what to draw, for example "a small purple cat"; needs --domain')
    parser.add_argument("--domain", help=f"how it is made: {', '.join(p.name for p in domains.PROCESSES)}")
    parser.add_argument("--frames", type=int, choices=(4, 9), default=9, help="frames of a sequence (default 9)")
    parser.add_argument("--image", type=Path, help="a picture whose making is drawn (ReCraft)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder to write to (default out/demo)")
    options = parser.parse_args()
    if options.prompt and not options.domain:
        parser.error("--prompt says what to draw; say with --domain how it is made")
    return options


def demonstrate(options: argparse.Namespace) -> Path:
    """Draw everything asked for, with progress; the path of the page."""
    nano = Nano()
    works = list(_works(nano, options))
    pieces = []
    with tqdm(total=sum(work.grids for work in works) * STEPS, unit="step", dynamic_ncols=True) as bar:
        for work in works:
            bar.set_description(work.name)
            frames = work.run(lambda step, denoised: bar.update() or None)
            pieces.append(_save(work, frames, options.out))
            # After every piece, so that stopping early loses nothing.
            page.write(options.out / "index.html", pieces)
    return options.out / "index.html"


def _works(nano: Nano, options: argparse.Namespace) -> Iterator[Work]:
    known = heads(options.frames).domains
    if options.image:
        yield _from_picture(nano, _find(known, options.domain or "Painting"), options)
    elif options.domain:
        yield _from_text(nano, _find(known, options.domain), options.prompt or "a big blue house", options)
    else:
        for name, caption in DEFAULTS:
            yield _from_text(nano, _find(known, name), caption, options)
        yield _from_picture(nano, _find(known, "Colouring"), options)
        yield _mix(nano, known, ("Bricks", "Mosaic"), "a big purple heart", options)
        yield _longer(nano, _find(known, "Rings"), "a big teal star", options)


def _find(known: tuple[Domain, ...], name: str) -> Domain:
    return known[find(known, name)]


def _from_text(nano: Nano, domain: Domain, caption: str, options: argparse.Namespace) -> Work:
    prompt = domain.write_prompt(caption)

    def run(on_step: Callable[[int, Tensor], None]) -> Tensor:
        grid = nano.draw(domain, domain.name, prompt, options.seed, on_step=on_step)
        return serpentine.split(grid, domain.layout)[0]

    return Work(_slug(domain.name, caption), f"{domain.name}: {caption}", prompt, run)


def _from_picture(nano: Nano, domain: Domain, options: argparse.Namespace) -> Work:
    if options.image:
        picture, caption = pictures.read(options.image), options.prompt or "a picture"
    else:
        caption = "a big green cat"
        scene = domains.read_scene(domain.name, caption, seed=options.seed)
        picture = torch.from_numpy(domains.finished(scene, 192 // domain.layout.cols)).float() / 255
    prompt = domain.write_prompt(caption)

    def run(on_step: Callable[[int, Tensor], None]) -> Tensor:
        held = {domain.layout.tail: picture}
        grid = nano.draw(domain, domain.name, prompt, options.seed, held, on_step)
        return serpentine.split(grid, domain.layout)[0]

    return Work(_slug("recraft", caption), f"ReCraft: the making of a given picture ({caption})", prompt, run)


def _mix(
    nano: Nano, known: tuple[Domain, ...], names: tuple[str, str], caption: str, options: argparse.Namespace
) -> Work:
    first = _find(known, names[0])
    choice: Choice = dict.fromkeys(names, 0.5)
    prompt = first.write_prompt(caption)

    def run(on_step: Callable[[int, Tensor], None]) -> Tensor:
        return serpentine.split(nano.draw(first, choice, prompt, options.seed, on_step=on_step), first.layout)[0]

    return Work(_slug("mix", caption), f"Half {names[0]}, half {names[1]}: {caption}", prompt, run)


def _longer(nano: Nano, domain: Domain, caption: str, options: argparse.Namespace) -> Work:
    """Twice the frames: the first frame of one grid is held as the tail of the grid before it."""
    prompt = domain.write_prompt(caption)

    def run(on_step: Callable[[int, Tensor], None]) -> Tensor:
        late = serpentine.split(nano.draw(domain, domain.name, prompt, options.seed, on_step=on_step), domain.layout)[0]
        held = {domain.layout.tail: late[0]}
        grid = nano.draw(domain, domain.name, prompt, options.seed + 1, held, on_step)
        return torch.cat([serpentine.split(grid, domain.layout)[0][:-1], late])

    return Work(_slug("longer", caption), f"A longer sequence: {domain.name}, {caption}", prompt, run, grids=2)


def _slug(*words: str) -> str:
    return "-".join("".join(c if c.isalnum() else "-" for c in word.lower()).strip("-") for word in words)


def _save(work: Work, frames: Tensor, out: Path) -> page.Piece:
    folder = out / work.name
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames, 1):
        pictures.save_png(frame, folder / f"{number:02d}.png")
    shown = frames.repeat_interleave(ENLARGE, 1).repeat_interleave(ENLARGE, 2)
    played = timeline(shown, fps=3, hold_last=1.5)
    save_gif(played.frames, folder / "sequence.gif", played.fps)
    pictures.save_png(contact_sheet(shown), folder / "contact_sheet.png")
    return page.Piece(work.title, work.words, f"{work.name}/sequence.gif", f"{work.name}/contact_sheet.png")


if __name__ == "__main__":
    main()
