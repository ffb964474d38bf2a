"""What `python -m demo.goals` asks for and how it scores, on sequences whose worth is known."""

import sys

import numpy as np
import pytest
import torch

from demo import goals, nano
from demo.scenes import domains, icons
from demo.scenes.domains import PROCESSES
from demo.trials import trial

TITLE = "seen, 9 frames"


@pytest.fixture
def one_each(monkeypatch):
    """A prompt of each process, in 9 frames."""
    monkeypatch.setattr(goals, "EACH", 1)
    monkeypatch.setattr(goals, "SETS", {TITLE: goals.SETS[TITLE]})


@pytest.mark.parametrize("held_out", [False, True])
def test_every_set_can_be_known(held_out):
    scenes = goals.scenes(held_out)
    assert scenes == goals.scenes(held_out)
    known = {domain.name for domain in nano.heads(9).domains}
    asked = {process.name for process in PROCESSES if process.name in known and (process.icons or not held_out)}
    assert {scene.process for scene in scenes} == asked and len(scenes) == goals.EACH * len(asked)
    for scene in scenes:
        assert scene.colour and scene.subject not in icons.UNSEEN
        assert domains.process(scene.process).holds_out(scene.subject) == held_out


def test_true_sequences_reach_every_goal_and_others_do_not(one_each, tmp_path):
    scenes = goals.scenes(False)
    true = np.stack([domains.draw(scene, 9, 64) for scene in scenes])
    for frames, reached in ((true, True), (true[:, [5, 2, 7, 0, 3, 6, 1, 4, 8]], False)):
        np.savez(tmp_path / "seen_9_frames.npz", frames=frames)
        scores = dict(goals.judged(tmp_path))
        assert scores[f"true sequences of {TITLE}"]["subject"] == 1
        assert (scores[TITLE] == scores[f"true sequences of {TITLE}"]) == reached
        assert (scores[TITLE]["order"] > 0.9) == reached


@pytest.mark.filterwarnings("ignore:Mismatch dtype")  # of norms in bf16, where the processor has it
def test_it_draws_and_judges_as_a_user_runs_it(one_each, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(trial, "STEPS", 2)
    monkeypatch.setattr(goals, "PICTURES", 3)
    monkeypatch.setattr(sys, "argv", ["goals", "--out", str(tmp_path)])
    assert goals.main() == 0
    said = capsys.readouterr().out
    assert said.count("order") == 2 and "psnr" in said
    with np.load(tmp_path / "seen_9_frames.npz") as file:
        assert file["frames"].shape == (len(goals.scenes(False)), 9, 64, 64, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--draw", "--judge"], "not allowed with"),
        (["--judge", "--out", "none"], "there is no none/seen_9_frames.npz; draw first"),
        (["--judge"], "does not hold what demo.goals draws"),
        (["--icons", "none"], "there is no icons.json in none"),
    ],
)
def test_wrong_arguments(monkeypatch, tmp_path, capsys, arguments, message):
    (tmp_path / "seen_9_frames.npz").write_bytes(b"PK\x03\x04 damaged")
    monkeypatch.setattr(sys, "argv", ["goals", "--out", str(tmp_path), *arguments])
    try:
        code = goals.main()
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2
    assert message in capsys.readouterr().err


def test_reconstruction_in_closed_form(monkeypatch):
    """An autoencoder that is off by a tenth everywhere."""

    class Off:
        def encode(self, pictures: torch.Tensor) -> torch.Tensor:
            return pictures

        def decode(self, latents: torch.Tensor) -> torch.Tensor:
            return latents + torch.where(latents > 0.5, -0.1, 0.1)

    monkeypatch.setattr(goals, "PICTURES", 3)
    monkeypatch.setattr(goals, "load_autoencoder", Off)
    monkeypatch.setattr(goals.domains, "finished", lambda scene, size: np.full((size, size, 3), 255, np.uint8))
    with np.errstate(invalid="ignore"):
        found = goals.reconstruction()
    assert found["psnr"] == pytest.approx(20 * np.log10(255 / 25))  # 229.5 of 255, rounded
