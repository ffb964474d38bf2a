"""Runs of the built-in loop that are stopped at odd moments, and state files that no loop wrote."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from makeanything.files import open_safetensors
from makeanything.foreign import ECHO
from training import loop as command
from training.builtin import checkpoint, loop
from training.builtin.settings import Settings

STEPS, BATCHES = 4, 3


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def run(state: Path, before=lambda step, turn: None, **settings) -> nn.Module:
    """Train on random data; `before` is called before every batch."""
    module, turns = small(), {}

    def loss(generator: torch.Generator, step: int) -> tuple[Tensor, dict[str, float]]:
        turns[step] = turns.get(step, -1) + 1
        before(step, turns[step])
        return module(torch.randn(5, 3, generator=generator)).square().mean(), {}

    every = {"steps": STEPS, "lr": 1e-2, "warmup": 3, "save_every": 100, "accumulation": BATCHES, **settings}
    loop.fit(module, loss, Settings(**every), state, "small")
    return module


def press(at: tuple[int, int], number: int = signal.SIGINT):
    def before(step: int, turn: int) -> None:
        if (step, turn) == at:
            os.kill(os.getpid(), number)

    return before


def parts(state: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with open_safetensors(state) as file:
        return load_file(state), file.metadata()


def same(one: Path, other: Path) -> bool:
    (mine, texts), (theirs, others) = parts(one), parts(other)
    return mine.keys() == theirs.keys() and texts == others and all(torch.equal(mine[k], theirs[k]) for k in mine)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("optimizer", ["adamw", "came"])
def test_a_step_is_broken_off_between_its_batches_and_leaves_nothing(tmp_path, number, optimizer):
    """The state is that of a run which ends with the last whole step, but for the rate's plan, which has no state."""
    stopped, whole, plain = (tmp_path / name for name in ("stopped", "whole", "plain"))
    batches = []

    def before(step: int, turn: int) -> None:
        batches.append((step, turn))
        press((2, 0), number)(step, turn)

    settings = {"schedule": "constant", "optimizer": optimizer}
    with pytest.raises(loop.Interrupted, match="small: stopped after 2 steps"):
        run(stopped, before, **settings)
    assert batches[-1] == (2, 0)
    run(plain, steps=2, **settings)
    assert same(stopped, plain)
    run(stopped, **settings)
    run(whole, **settings)
    assert same(stopped, whole)


def test_a_step_of_a_million_batches_can_be_stopped(tmp_path):
    with pytest.raises(loop.Interrupted, match="stopped after 0 steps"):
        run(tmp_path / "state", press((0, 1)), accumulation=10**6)
    assert not (tmp_path / "state").exists()


def test_what_is_saved_is_not_saved_again_when_the_next_step_is_broken_off(tmp_path):
    saved = []
    module = small()

    def loss(generator: torch.Generator, step: int) -> tuple[Tensor, dict[str, float]]:
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return module.weight.sum(), {}

    settings = Settings(steps=4, lr=1e-3, accumulation=2, save_every=2)
    with pytest.raises(loop.Interrupted):
        loop.fit(module, loss, settings, tmp_path / "state", "x", saved.append)
    assert saved == [2]


def test_the_loss_of_the_last_whole_step_is_looked_at_before_it_is_saved(tmp_path):
    module = small()

    def loss(generator: torch.Generator, step: int) -> tuple[Tensor, dict[str, float]]:
        if step == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return module.weight.sum() * (torch.nan if step == 0 else 1), {}

    with pytest.raises(FloatingPointError, match="the loss of step 0 is nan"):
        loop.fit(module, loss, Settings(steps=4, lr=1e-3, accumulation=2), tmp_path / "state", "x")
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(("second", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, loop.Interrupted)])
def test_a_second_ctrl_c_does_not_wait(tmp_path, second, raised):
    """Launchers of several processes send SIGTERM after SIGINT, which is no second Ctrl-C."""
    after = []

    def before(step: int, turn: int) -> None:
        if (step, turn) == (1, 0):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), second)
            after.append(step)

    with pytest.raises(KeyboardInterrupt) as stopped:
        run(tmp_path / "state", before)
    assert stopped.type is raised
    assert after == ([] if raised is KeyboardInterrupt else [1])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("where", ["read", "prepare", "run"])
def test_ctrl_c_at_any_time_is_one_line_and_code_130(where, monkeypatch, capsys):
    def pressed(*args: object) -> None:
        raise KeyboardInterrupt

    class Read:
        passed_over = ()
        run = staticmethod(pressed)
        read = staticmethod(pressed if where == "read" else lambda *args: Read)

    monkeypatch.setattr(command, "Recipe", Read)
    monkeypatch.setattr(command, "prepare", pressed if where == "prepare" else lambda *args: Read)
    monkeypatch.setattr(sys, "argv", ["loop", "heads", "--config_file", "run.toml"])
    assert command.main() == 130
    assert capsys.readouterr().err == "\npython -m training.loop: stopped; the same command goes on\n"


GROUPS = '[{"params": [0, 1]}]'
DEEP = "[" * 2000 + "]" * 2000
ODD = {
    "no text": lambda tensors, texts: texts.clear(),
    "no step": lambda tensors, texts: texts.pop("step"),
    "no numbers": lambda tensors, texts: texts.pop("numbers"),
    "no groups": lambda tensors, texts: texts.pop("groups"),
    "no optimizer": lambda tensors, texts: texts.pop("optimizer"),
    **{
        f"step {text[:9]}": lambda tensors, texts, text=text: texts.update(step=text)
        for text in ("-5", "1" + "0" * 30, "1.5", "nan", "", "\u0663", "True", "9" * 5000, "a\nb")
    },
    **{
        f"{name} {text[:12]}": lambda tensors, texts, name=name, text=text: texts.update({name: text})
        for name in ("numbers", "groups")
        for text in ("", "1", "null", '"x"', "[1]", '{"weight": 1}', '[{"params": 1}]', DEEP, "[[]]", "{", "\x00")
    },
    "numbers of a stranger": lambda tensors, texts: texts.update(numbers='{"x": {"step": 1}}'),
    "a number in a tensor's place": lambda tensors, texts: (
        tensors.pop("exp_avg.weight"),
        texts.update(numbers='{"weight": {"exp_avg": 1}}'),
    ),
    "numbers that are text": lambda tensors, texts: texts.update(numbers='{"weight": {"x": "y"}}'),
    "no groups at all": lambda tensors, texts: texts.update(groups="[]"),
    "two groups": lambda tensors, texts: texts.update(groups=f"[{GROUPS[1:-1]}, {GROUPS[1:-1]}]"),
    "a group of others": lambda tensors, texts: texts.update(groups='[{"params": [0, 7]}]'),
    "foreign memory": lambda tensors, texts: tensors.update({"exp_avg.x": torch.zeros(2)}),
    "memory without a name": lambda tensors, texts: tensors.update({"exp_avg": torch.zeros(2)}),
    "unknown memory": lambda tensors, texts: tensors.update({"momentum.weight": torch.zeros(2, 3)}),
    "half a memory": lambda tensors, texts: tensors.pop("exp_avg_sq.weight"),
    "memory of another shape": lambda tensors, texts: tensors.update({"exp_avg.weight": torch.zeros(())}),
    **{
        f"memory in {dtype}": lambda tensors, texts, dtype=dtype: tensors.update(
            {"exp_avg.weight": torch.zeros(2, 3).to(dtype)}
        )
        for dtype in (torch.bool, torch.float8_e4m3fn, torch.int64, torch.float64)
    },
    "weights in bool": lambda tensors, texts: tensors.update({"weight.weight": torch.zeros(2, 3).bool()}),
    **{
        f"count {value}": lambda tensors, texts, value=value: tensors.update({"step.weight": torch.tensor(value)})
        for value in (-1.0, 0.5, torch.nan, torch.inf, True, [1.0])
    },
}


@pytest.mark.parametrize("odd", ODD)
def test_a_state_that_no_loop_wrote_is_refused_in_one_line(odd, tmp_path):
    state = tmp_path / "state"
    run(state, steps=1)
    tensors, texts = parts(state)
    ODD[odd](tensors, texts)
    save_file(tensors, state, texts)
    module = small()
    optimizer = Settings(steps=1, lr=1.0).make_optimizer(module)
    with pytest.raises(ValueError, match="is not a state of this loop: .*; remove it to start anew$") as refused:
        checkpoint.restore(state, dict(module.named_parameters()), optimizer)
    text = str(refused.value)
    assert text.startswith(str(state)) and text.isprintable()
    assert len(text.replace(str(state), "")) < 300 + ECHO
    assert not optimizer.state and torch.equal(module.weight, small().weight), "nothing was loaded"


@pytest.mark.parametrize("odd", ["updates", "step", "RMS"])
def test_what_came_counts_is_checked_too(odd, tmp_path):
    state = tmp_path / "state"
    run(state, steps=1, optimizer="came")
    tensors, texts = parts(state)
    if odd == "updates":
        texts["groups"] = texts["groups"].replace('"updates": 1', '"updates": -1')
    elif odd == "step":
        texts["numbers"] = texts["numbers"].replace('"step": 1', '"step": "x"')
    else:
        tensors["RMS.weight"] = torch.zeros(2)
    save_file(tensors, state, texts)
    with pytest.raises(ValueError, match="is not a state of this loop: "):
        run(state, optimizer="came")


@pytest.mark.parametrize("content", [b"", b"not weights", b"\x00" * 100])
def test_other_files_and_folders_in_the_place_of_a_state(content, tmp_path):
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_bytes(content)
    folder.mkdir()
    for path in (file, folder):
        with pytest.raises(ValueError, match=f"{path} is not a state of this loop: "):
            run(path)


def test_the_optimizers_options_are_those_of_the_run(tmp_path):
    """A state's own, whatever they are, are never used: values in a settings file that change apply."""
    state = tmp_path / "state"
    run(state, steps=1)
    tensors, texts = parts(state)
    groups = json.loads(texts["groups"])
    groups[0].update(betas=[5, "x"], weight_decay=None, eps=-1)
    save_file(tensors, state, {**texts, "groups": json.dumps(groups)})
    (tmp_path / "copy").write_bytes(state.read_bytes())
    plain = {"steps": 2, "schedule": "constant"}
    whole, again = run(tmp_path / "whole", **plain), run(state, **plain)
    assert torch.equal(whole.weight, again.weight)
    assert not torch.equal(whole.weight, run(tmp_path / "copy", **plain, optimizer_args={"weight_decay": 0.5}).weight)
