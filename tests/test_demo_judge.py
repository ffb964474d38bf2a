"""The judge of the evaluation, on sequences whose worth is known; and what the report makes of numbers."""

import json
import sys

import numpy as np
import pytest

from demo import evaluate
from demo.scenes import domains, style
from demo.scenes.domains import PROCESSES, Scene
from demo.trials import judge, report

NAMES = [p.name for p in PROCESSES]


def sequence(name: str, seed: int) -> tuple[Scene, np.ndarray]:
    scene = domains.random_scene(np.random.default_rng([seed, NAMES.index(name)]), name, held_out=bool(seed % 2))
    return scene, domains.draw(scene, 9, 64)


@pytest.mark.parametrize("name", NAMES)
def test_true_sequences_are_right_in_everything(name):
    for seed in range(4):
        scene, frames = sequence(name, seed)
        assert judge.in_order(frames) >= 7 / 8
        assert judge.monotone(frames) > 0.95
        assert (judge.subject(frames[-1], scene), judge.colour(frames[-1], scene)) == (scene.subject, scene.colour)
        assert judge.distance(frames, name, scene.subject, scene.colour, scene.size) < 20


@pytest.mark.parametrize("name", NAMES)
def test_what_is_wrong_shows(name):
    rng = np.random.default_rng(NAMES.index(name))
    scene, frames = sequence(name, 0)
    shuffled = [frames[[*rng.permutation(8), 8]] for _ in range(20)]
    assert 0.3 < np.mean([judge.in_order(some) for some in shuffled]) < 0.75
    assert np.mean([judge.monotone(some) for some in shuffled]) < 0.8
    other = next(colour for colour in domains.COLOURS if colour != scene.colour)
    true = judge.distance(frames, name, scene.subject, scene.colour, scene.size)
    assert judge.distance(frames, name, scene.subject, other, scene.size) > true
    assert judge.distance(shuffled[0], name, scene.subject, scene.colour, scene.size) > true


def test_order_and_monotone_in_closed_form():
    frames = np.zeros((4, 2, 2, 3), np.uint8)
    frames[1, 0] = frames[2] = frames[3] = 255
    frames[2, 0, 0] = 0  # one of the two pixels that were finished is undone
    assert judge.in_order(frames) == 1
    assert judge.monotone(frames) == 1 / 2
    assert judge.psnr(np.zeros((1, 2, 2, 3)), np.full((1, 2, 2, 3), 25.5)) == pytest.approx(20)


@pytest.mark.parametrize("name", NAMES)
def test_parchment_is_seen(name):
    _, frames = sequence(name, 0)
    assert (judge.yellow_corners(frames), judge.yellow_corners(style.on_parchment(frames))) == (0, 1)


@pytest.mark.parametrize("name", ["Bricks", "Rings"])
def test_in_the_style_a_sequence_is_held_against_sequences_in_it(name):
    scene, frames = sequence(name, 0)
    styled = style.on_parchment(frames)
    seen = judge.subject(styled[-1], scene, styled=True), judge.colour(styled[-1], scene, styled=True)
    assert seen == (scene.subject, scene.colour)
    asked = name, scene.subject, scene.colour, scene.size
    assert judge.distance(styled, *asked, styled=True) < 20 < judge.distance(styled, *asked)


def test_parchment_tints_white_and_keeps_colours():
    assert style.on_parchment(np.full((1, 3), 255, np.uint8)).tolist() == [[237, 204, 148]]
    red = style.on_parchment(np.array([[217, 58, 54]], np.uint8))[0]
    assert red.argmax() == 0 and red[0] > 150


def test_the_first_experiment_makes_its_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "RUNS", tmp_path / "new/runs")
    monkeypatch.setattr(evaluate, "EXPERIMENTS", {"stacking": lambda seed: {"strength 1": {"order": 0.5 + seed}}})
    monkeypatch.setattr(sys, "argv", ["evaluate", "--seeds", "2", "--out", str(tmp_path / "docs")])
    evaluate.main()
    assert "| strength 1 | 100.0 ± 50.0 |" in (tmp_path / "docs/evaluation.md").read_text(encoding="utf-8")


def test_report(tmp_path):
    runs, docs = tmp_path / "runs", tmp_path / "docs"
    runs.mkdir()
    for seed, order in enumerate((0.5, 0.7)):
        rows = {
            "base | Bricks": {"order": order, "distance": 20.0},
            "one LoRA | Bricks": {"order": 1.0, "distance": 8.0},
        }
        (runs / f"ablation_{seed}.json").write_text(json.dumps(rows))
    report.write(docs, runs)
    text = (docs / "evaluation.md").read_text(encoding="utf-8")
    assert "| base, Bricks | 60.0 ± 10.0 | 20.0 ± 0.0 |" in text
    assert "2 seeds" in text and "evaluation_recraft" not in text
    assert (docs / "evaluation_ablation.png").stat().st_size > 5000
