"""Whether FLUX-nano draws what prompts ask for: `python -m demo.goals` draws and prints a table.

A program that knows each process judges the pictures (demo.trials.judge), and is itself judged by the true ones beside
them.  Drawing is quick on a GPU and judging needs none: `--draw` and `--judge` do one of the two.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from makeanything.command_line import Parser, ended
from makeanything.saving import atomic, make_folder
from makeanything.serpentine import Layout

from .nano import GRID, heads, load_autoencoder, load_flux
from .scenes import domains, icons, subjects
from .scenes.domains import PROCESSES, Scene
from .train import attach_heads
from .trials import judge
from .trials.trial import Studio, score, to_bytes

SEED = 2027
EACH = 16
"""Prompts of every process in a set."""
SETS = {
    "seen, 9 frames": (9, False),
    "unseen combinations, 9 frames": (9, True),
    "seen, 4 frames": (4, False),
    "unseen combinations, 4 frames": (4, True),
}
"""Title -> frames, and whether the subjects are held out of their process's training."""

PICTURES = 500
"""Of the autoencoder's set: every process and size, a fifth of them of held-out subjects."""


def scenes(held_out: bool) -> list[Scene]:
    """The scenes of a set: all have a colour, so that it can be judged; none is of a subject that no process knows."""
    rng = np.random.default_rng((SEED, held_out))
    found: list[Scene] = []
    # Trees and letters held out are of no other process, so nothing can know them.
    known = {domain.name for domain in heads(9).domains}
    for process in [p for p in PROCESSES if p.name in known and (p.icons or not held_out)]:
        while sum(scene.process == process.name for scene in found) < EACH:
            scene = domains.random_scene(rng, process.name, held_out)
            if scene.colour and scene.subject not in icons.UNSEEN:
                found.append(scene)
    return found


def draw(out: Path) -> None:
    """Draw every set with the files of models/."""
    make_folder(out)
    for title, (frames, held_out) in SETS.items():
        flux = load_flux()
        drawn = Studio().draw(flux, scenes(held_out), SEED, attach_heads(flux, frames), layout=Layout.of(frames))
        with atomic(_file(out, title)) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, frames=drawn)


def judged(out: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """(title, scores) of every set, and of the true sequences of the 9-frame ones."""
    for title, (frames, held_out) in SETS.items():
        asked = scenes(held_out)
        yield title, score(_drawn(_file(out, title)), asked)
        if frames == 9:
            true = np.stack([domains.draw(scene, frames, GRID // 3) for scene in asked])
            yield f"true sequences of {title}", score(true, asked)


def reconstruction() -> dict[str, float]:
    """PSNR in dB, the mean over the fixed set, and the error of the gradients as a share of the true ones."""
    autoencoder, rng = load_autoencoder(), np.random.default_rng(SEED)
    psnr, gradients = [], []
    for k in tqdm(range(PICTURES), desc="autoencoder", dynamic_ncols=True):
        scene = domains.random_scene(rng, PROCESSES[k % len(PROCESSES)].name, held_out=k % 5 == 0)
        true = domains.finished(scene, (64, 96, 192)[k % 3])[None]
        again = to_bytes(autoencoder.decode(autoencoder.encode(torch.from_numpy(true).float() / 255)))
        psnr.append(judge.psnr(again, true))
        steps = [
            np.concatenate([np.diff(x[0].astype(float), axis=axis).ravel() for axis in (0, 1)]) for x in (true, again)
        ]
        gradients.append(float(np.abs(steps[0] - steps[1]).sum() / np.abs(steps[0]).sum()))
    return {"psnr": float(np.mean(psnr)), "gradient error": float(np.mean(gradients))}


def _drawn(path: Path) -> np.ndarray:
    """The frames that `draw` wrote to a file."""
    if not path.is_file():
        raise ValueError(f"there is no {path}; draw first: python -m demo.goals --draw --out {path.parent}")
    try:
        with path.open("rb") as raw, np.load(raw) as file:
            frames: np.ndarray = file["frames"]
            return frames
    except (EOFError, KeyError, ValueError, zipfile.BadZipFile):
        raise ValueError(f"{path} does not hold what demo.goals draws; remove it and draw again") from None


def _file(out: Path, title: str) -> Path:
    return out / f"{title.replace(', ', '_').replace(' ', '_')}.npz"


def main() -> int:
    """Draw, judge, or both; the exit code."""
    parser = Parser(prog="python -m demo.goals", description=__doc__)
    parser.add_argument("--icons", type=Path, metavar="FOLDER", help="the unpacked package of icons")
    parser.add_argument("--out", type=Path, default=Path("runs/goals"), help="folder of what is drawn")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--draw", action="store_true", help="only draw")
    only.add_argument("--judge", action="store_true", help="only judge what was drawn")
    options = parser.parse_args()

    def run() -> None:
        subjects.use(*([options.icons] if options.icons else []))
        if not options.judge:
            draw(options.out)
        if not options.draw:
            for title, scores in judged(options.out):
                print(title, {name: round(value, 3) for name, value in scores.items()})
            print("autoencoder", reconstruction())

    return ended(parser.prog, run)


if __name__ == "__main__":
    sys.exit(main())
