"""`python -m demo` as a user runs it."""

import sys

import numpy as np
import pytest
from PIL import Image

from demo import __main__ as demo
from demo import nano
from demo.scenes import domains


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Run the demo with arguments; the names of what it wrote, and what it said."""
    monkeypatch.setattr(demo, "STEPS", 4)
    monkeypatch.setattr(nano, "STEPS", 4)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["demo", "--out", str(tmp_path / "out"), *arguments])
        assert demo.main() == 0
        files = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
        return files, capsys.readouterr().out

    return call


def whole(folder: str, frames: int) -> set[str]:
    pictures = {f"{folder}/{number:02d}.png" for number in range(1, frames + 1)}
    return pictures | {f"{folder}/{name}" for name in ("grid.png", "sequence.gif", "contact_sheet.png")}


def test_a_domain_and_a_prompt(run, tmp_path):
    files, said = run("--domain", "bricks", "--prompt", "a small red house", "--frames", "4")
    assert files == whole("bricks-a-small-red-house", 4) | {"index.html"}
    assert str(tmp_path / "out/index.html") in said
    page = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    assert "2*2 of 4 sub-images, step-by-step brick building process, a small red house" in page
    with Image.open(tmp_path / "out/bricks-a-small-red-house/01.png") as frame:
        assert frame.size == (96, 96)


def test_a_picture(run, tmp_path):
    Image.fromarray(np.full((50, 80, 3), 200, np.uint8)).save(tmp_path / "mine.jpg")
    files, _ = run("--image", str(tmp_path / "mine.jpg"), "--style", "0.5")
    assert whole("from-a-picture-recraft-a-picture", 9) < files


def test_a_surprise_is_the_seeds(run):
    first, _ = run("--domain", "Rings", "--seed", "4")
    scene = domains.random_scene(np.random.default_rng(4), "Rings")
    assert any(scene.subject in name for name in first)


def test_a_grid_is_taken_apart_without_a_model(run, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "Nano", None)
    colours = np.repeat(np.repeat(np.uint8([[0, 80], [240, 160]]), 32, 0), 32, 1)[..., None].repeat(3, 2)
    Image.fromarray(colours).save(tmp_path / "mine.png")
    files, _ = run("--grid", str(tmp_path / "mine.png"), "--frames", "4")
    assert files == whole("mine", 4) | {"index.html"}
    for number, value in enumerate((0, 80, 160, 240), 1):
        with Image.open(tmp_path / f"out/mine/{number:02d}.png") as frame:
            assert frame.getpixel((16, 16)) == (value,) * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--domain", "Brick"], "Bricks"),
        (["--prompt", "a cat"], "say with --domain how"),
        (["--image", "missing.png"], "missing.png"),
        (["--image", "a.png", "--grid", "b.png"], "not allowed with"),
        (["--domain", "Bricks", "--style", "nan"], "needed a number from -100 to 100, got 'nan'"),
        (["--domain", "Bricks", "--style", "1e38"], "needed a number from -100 to 100"),
        (["--seed", "-1"], "needed a whole number from 0"),
        (["--seed", "1" * 5000], "needed a whole number from 0"),
    ],
)
def test_wrong_arguments(monkeypatch, tmp_path, capsys, arguments, message):
    monkeypatch.setattr(sys, "argv", ["demo", "--out", str(tmp_path / "out"), *arguments])
    try:
        code = demo.main()
    except SystemExit as stopped:
        code = stopped.code
    error = capsys.readouterr().err
    assert code == 2
    assert message in error and error.count("\n") == 1 and len(error) < 500
    assert not (tmp_path / "out").exists()


def test_a_long_prompt_has_a_folder(run):
    files, _ = run("--domain", "Bricks", "--prompt", "house " * 1000, "--frames", "4")
    assert len(files) == 8


def test_ctrl_c_ends_in_a_line(monkeypatch, tmp_path, capsys):
    def stop(options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["demo", "--out", str(tmp_path)])
    monkeypatch.setattr(demo, "demonstrate", stop)
    assert demo.main() == 130
    assert capsys.readouterr().err == "demo: stopped; what was finished is kept\n"
