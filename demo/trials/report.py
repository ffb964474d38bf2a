"""What the experiments of `python -m demo.evaluate` found, as tables and plots: docs/evaluation.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from makeanything.saving import atomic, make_folder

COLUMNS = {
    "order": ("steps in order, %", 100),
    "monotone": ("finished stays finished, %", 100),
    "subject": ("subject right, %", 100),
    "colour": ("colour right, %", 100),
    "distance": ("distance from the process, of 255", 1),
    "psnr": ("PSNR of the last frame, dB", 1),
    "styled": ("corners of parchment, %", 100),
}
"""Score -> heading and factor."""

TITLES = {
    "ablation": "Imbalanced data: Colouring 50, Bricks 300, Rings 3000 sequences",
    "adding": "A tenth head from few sequences",
    "recraft": "ReCraft: where the tail comes from in training",
    "stacking": "A style LoRA stacked on the heads",
}

INTRODUCTION = """# FLUX-nano measured

`python -m demo.evaluate` wrote this page: small trainings on the CPU, every subject held out of its process's training,
{seeds} seeds, mean ± standard deviation over seeds. A program that knows each process judges the pictures
(`demo/trials/judge.py`): *steps in order* is the share of steps that come nearer to the last frame (frames in random
order get about 50); *finished stays finished* is the share of a frame's finished pixels that the next frame keeps;
*distance from the process* is the root mean square difference from the sequence that the prompt asks for.
"""

Found = Mapping[str, Mapping[str, float]]


def write(folder: Path, runs: Path) -> None:
    """Write evaluation.md and a plot of each experiment to `folder`, from the results in `runs` so far."""
    make_folder(folder)
    found = {
        name: [json.loads(p.read_text(encoding="utf-8")) for p in sorted(runs.glob(f"{name}_*.json"))]
        for name in TITLES
    }
    parts = [INTRODUCTION.format(seeds=max(len(seeds) for seeds in found.values()))]
    for name, seeds in found.items():
        if seeds:
            _plot(seeds, TITLES[name], folder / f"evaluation_{name}.png")
            parts.append(f"## {TITLES[name]}\n\n{_table(seeds)}\n\n![{TITLES[name]}](evaluation_{name}.png)\n")
    with atomic(folder / "evaluation.md") as temporary:
        temporary.write_text("\n".join(parts), encoding="utf-8")


def _table(seeds: list[Found]) -> str:
    columns = [column for column in COLUMNS if column in next(iter(seeds[0].values()))]
    lines = ["| | " + " | ".join(COLUMNS[column][0] for column in columns) + " |", "|--" * (len(columns) + 1) + "|"]
    for row in seeds[0]:
        cells = (f"{mean:.1f} ± {deviation:.1f}" for mean, deviation in (_spread(seeds, row, c) for c in columns))
        lines.append(f"| {row.replace(' | ', ', ')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _spread(seeds: list[Found], row: str, column: str) -> tuple[float, float]:
    values = np.array([found[row][column] for found in seeds]) * COLUMNS[column][1]
    return float(values.mean()), float(values.std())


def _plot(seeds: list[Found], title: str, path: Path) -> None:
    """Bars of every score, rows from the top."""
    rows = list(seeds[0])
    columns = [column for column in COLUMNS if column in seeds[0][rows[0]]]
    figure = Figure(figsize=(3 * len(columns), 1.2 + 0.32 * len(rows)), layout="constrained")
    figure.suptitle(title)
    for number, column in enumerate(columns):
        axes = figure.add_subplot(1, len(columns), number + 1)
        means, deviations = zip(*(_spread(seeds, row, column) for row in rows), strict=True)
        axes.barh([row.replace(" | ", ", ") for row in rows], means, xerr=deviations, color="#5a78c8")
        axes.invert_yaxis()
        axes.set_title(COLUMNS[column][0], fontsize=9)
        axes.tick_params(labelsize=8, labelleft=number == 0)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
