"""Render making-of sequences into a folder, to train on: `python -m demo.render FOLDER --icons PACKAGE --domain Emoji`.

Each sequence is a folder of pictures, with what is made in its caption.txt, as `training.make_dataset` reads them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from makeanything.command_line import Parser, between, ended
from makeanything.saving import atomic

from .scenes import domains, subjects


def render(folder: Path, process: str, count: int, frames: int, size: int, seed: int) -> None:
    """Write `count` sequences of random trained subjects, each of so many frames of size x size px.

    With a package in use they are its icons, where the process makes icons.  A sequence whose caption is there is not
    drawn again.
    """
    rng = np.random.default_rng(seed)
    made = domains.process(process)
    with_icons = bool(subjects.used()) and made.icons
    for number in tqdm(range(1, count + 1), desc=process, dynamic_ncols=True):
        scene = domains.random_scene(rng, process)
        while with_icons and not domains.is_icon(made, scene.subject):
            scene = domains.random_scene(rng, process)
        place = folder / f"{number:04d} {scene.caption}"
        if (place / "caption.txt").exists():
            continue
        place.mkdir(parents=True, exist_ok=True)
        for index, frame in enumerate(domains.draw(scene, frames, size), 1):
            with atomic(place / f"{index:02d}.png") as temporary:
                Image.fromarray(frame).save(temporary, format="PNG")
        with atomic(place / "caption.txt") as temporary:
            temporary.write_text(scene.caption, encoding="utf-8")


def main() -> int:
    """Render; the exit code."""
    parser = Parser(prog="python -m demo.render", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the sequences go")
    parser.add_argument("--icons", type=Path, metavar="PACKAGE", help="the unpacked package of icons")
    parser.add_argument("--domain", default="Emoji", help=", ".join(process.name for process in domains.PROCESSES))
    parser.add_argument("--count", type=between(int, 1, 10**6), default=50, help="sequences (default 50)")
    parser.add_argument("--frames", type=between(int, 1, 1000), default=9, help="frames of a sequence (default 9)")
    parser.add_argument(
        "--size", type=between(int, 16, 4096), default=352, help="edge of a frame in pixels (default 352)"
    )
    parser.add_argument("--seed", type=between(int, 0, 2**63), default=1)
    options = parser.parse_args()

    def run() -> None:
        subjects.use(*([options.icons] if options.icons else []))
        render(options.folder, options.domain, options.count, options.frames, options.size, options.seed)

    return ended(parser.prog, run)


if __name__ == "__main__":
    sys.exit(main())
