"""Measure the paper's claims in miniature, with FLUX-nano: `python -m demo.evaluate` writes docs/evaluation.md.

Everything is seeded.  What a trial found is kept in runs/evaluation, so an interrupted run goes on where it was.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from makeanything.command_line import Parser, between, ended
from makeanything.reference.flux import Flux
from makeanything.reference.merge import merge
from makeanything.saving import atomic, make_folder
from makeanything.serpentine import Layout
from training.builtin import loop
from training.builtin.settings import Settings
from training.builtin.task import Batches
from training.heads.network import HeadNetwork

from . import data
from .batches import mixed
from .data import Data
from .nano import STYLE, load_autoencoder, load_flux, read
from .pictures import Kind
from .scenes import style, subjects
from .scenes.domains import PROCESSES, domain, process
from .train import attach_heads, attach_lora, train
from .trials import judge, report
from .trials.trial import FRAMES, LAYOUT, Scores, Studio, held_out, score

RUNS = Path("runs/evaluation")
BATCH = 12
RANK = 16
NAMES = [p.name for p in PROCESSES if p.name != "Emoji"]
"""Those that the shipped heads know."""

IMBALANCED = {"Colouring": 50, "Bricks": 300, "Rings": 3000}
"""Sequences of each process in the ablation."""

ADDED = "Carving"
FEW = (10, 25, 50)
"""Sequences of the process that is added, and of each that was there before."""
OLD = 100

PROMPTS = 24
"""Held-out prompts for each process in the first two experiments; the others draw a few of every process."""
EACH = 5

Rows = dict[str, Scores]


def ablation(seed: int) -> Rows:
    """Table 2 of the paper: no LoRA, one LoRA for all processes, one for each, and one asymmetric LoRA.

    All have the same rank and as many steps; batches take sequences as often as there are.
    """
    names = list(IMBALANCED)
    sequences = _load("imbalanced", IMBALANCED)
    shares = np.array(list(IMBALANCED.values())) / sum(IMBALANCED.values())

    def rows(title: str, flux: Flux, names: Sequence[str], heads: HeadNetwork | None = None) -> Rows:
        return {f"{title} | {name}": _trial(flux, name, seed, heads) for name in names}

    found = rows("base", load_flux(), names)
    flux = load_flux()
    _fit(attach_lora(flux, RANK), flux, _draw(sequences, names, shares), f"one_{seed}", seed, 240)
    found |= rows("one LoRA", flux, names)
    for name in names:
        flux = load_flux()
        _fit(attach_lora(flux, RANK), flux, _draw(sequences, [name]), f"own_{name}_{seed}", seed, 240)
        found |= rows("LoRA per process", flux, [name])
    flux = load_flux()
    heads = _heads(flux, names)
    _fit(heads, flux, _draw(sequences, names, shares), f"asymmetric_{seed}", seed, 240, heads)
    return found | rows("asymmetric LoRA", flux, names, heads)


def adding(seed: int) -> Rows:
    """A head added to nine with A frozen, from few sequences, against a new LoRA from the same ones."""
    old = [name for name in NAMES if name != ADDED]
    sequences = _load("old", dict.fromkeys(old, OLD))
    flux = load_flux()
    ten = _heads(flux, NAMES)
    _fit(ten, flux, _draw(sequences, old), f"nine_{seed}", seed, 300, ten)
    start = {name: value.clone() for name, value in ten.state_dict().items()}
    found = {}
    for count in FEW:
        few = _draw(_load(f"few_{count}_{seed}", {ADDED: count}, seed), [ADDED])
        flux = load_flux()
        ten = _heads(flux, NAMES)
        ten.load_state_dict(start)
        ten.freeze(shared=True, heads=[NAMES.index(name) for name in old])
        _fit(ten, flux, few, f"added_{count}_{seed}", seed, 100, ten)
        found[f"{count} sequences | added head"] = _trial(flux, ADDED, seed, ten)
        flux = load_flux()
        _fit(attach_lora(flux, RANK), flux, few, f"fresh_{count}_{seed}", seed, 100)
        found[f"{count} sequences | new LoRA"] = _trial(flux, ADDED, seed)
    return found


def recraft(seed: int) -> Rows:
    """The tail encoded alone in training, or cut from the latents of whole grids, or no ReCraft training at all.

    All are then given pictures encoded alone, as every user's picture is.
    """
    scenes = held_out(NAMES, EACH, seed)
    tails, given = Studio().pictures(scenes)
    found = {}
    for title, encode in (("pinned only", None), ("tail from the grid", data.whole), ("tail alone", data.tail_alone)):
        flux = load_flux()
        heads = attach_heads(flux, FRAMES)
        if encode is not None:
            sequences = _load(encode.__name__, dict.fromkeys(NAMES, 60), encode=encode)
            lora = attach_lora(flux, RANK)
            _fit(lora, flux, _draw(sequences, NAMES), f"recraft_{encode.__name__}_{seed}", seed, 200, heads, LAYOUT)
        drawn = Studio().draw(flux, scenes, seed, heads, tails)
        found[title] = {**score(drawn, scenes), "psnr": judge.psnr(drawn[:, -1], given)}
    return found


def stacking(seed: int) -> Rows:
    """The style LoRA, trained on no process, stacked on the heads."""
    scenes = held_out(NAMES, EACH, seed)
    found = {}
    for strength in (0.0, 0.5, 1.0):
        flux = Flux.from_state_dict(merge(load_flux().state_dict(), read(STYLE), strength))
        words = f", {style.PHRASE}" if strength else ""
        drawn = Studio().draw(flux, scenes, seed, attach_heads(flux, FRAMES), suffix=words)
        found[f"strength {strength}"] = {**score(drawn, scenes, strength > 0), "styled": judge.yellow_corners(drawn)}
    return found


def _load(name: str, counts: dict[str, int], seed: int = 7, encode: data.Encode = data.alone) -> Data:
    keys = {Kind(process, FRAMES, data.cell(FRAMES)): count for process, count in counts.items()}
    found = data.load(RUNS / f"{name}.safetensors", load_autoencoder(), keys, seed, encode)
    return {shape: sequences.to(loop.this_process().device) for shape, sequences in found.items()}


def _heads(flux: Flux, names: Sequence[str]) -> HeadNetwork:
    network = HeadNetwork(flux, [domain(process(name), LAYOUT) for name in names], rank=RANK, alpha=RANK)
    network.attach(flux)
    return network


def _draw(sequences: Data, names: Sequence[str], shares: np.ndarray | None = None) -> Batches:
    return mixed(sequences, FRAMES, BATCH, names, shares)


def _fit(
    network: HeadNetwork,
    flux: Flux,
    batches: Batches,
    name: str,
    seed: int,
    steps: int,
    heads: HeadNetwork | None = None,
    held: Layout | None = None,
) -> None:
    settings = Settings(steps=steps, lr=1e-3, seed=100 + seed, mixed_precision=data.precision())
    train(network, flux, batches, settings, RUNS / f"{name}.safetensors", [heads] if heads else [], held)


def _trial(flux: Flux, name: str, seed: int, heads: HeadNetwork | None = None) -> Scores:
    scenes = held_out([name], PROMPTS, seed)
    return score(Studio().draw(flux, scenes, seed, heads), scenes)


EXPERIMENTS: dict[str, Callable[[int], Rows]] = {run.__name__: run for run in (ablation, adding, recraft, stacking)}


def main() -> None:
    parser = Parser(prog="python -m demo.evaluate", description=__doc__)
    parser.add_argument("experiments", nargs="*", choices=[*EXPERIMENTS, []], help="experiments to run (default: all)")
    parser.add_argument("--seeds", type=between(int, 1, 1000), default=3, help="repetitions, each of its own seed (3)")
    parser.add_argument("--icons", type=Path, metavar="FOLDER", help="the unpacked package of icons")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder to write to (default docs)")
    options = parser.parse_args()
    subjects.use(*([options.icons] if options.icons else []))
    make_folder(RUNS)
    runs = [(name, seed) for name in options.experiments or EXPERIMENTS for seed in range(options.seeds)]
    for name, seed in tqdm(runs, desc="experiments"):
        found = RUNS / f"{name}_{seed}.json"
        if not found.exists():
            rows = EXPERIMENTS[name](seed)
            with atomic(found) as temporary:
                temporary.write_text(json.dumps(rows, indent=1), encoding="utf-8")
        report.write(options.out, RUNS)


if __name__ == "__main__":
    sys.exit(ended("python -m demo.evaluate", main))
