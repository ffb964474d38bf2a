"""Finding sd-scripts: where it is looked for, and what is said when it is missing or too old."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from training.sd import engine
from training.sd.engine import NEEDED, TESTED, enable, find


def make(folder: Path, without: str = "") -> Path:
    """A folder that has what the trainers need, but for one text."""
    for name, texts in NEEDED.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("\n".join(text for text in texts if text != without), encoding="utf-8")
    return folder


PROJECT = engine.ROOT


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """No sd-scripts of this machine is in reach."""
    monkeypatch.delenv("SD_SCRIPTS_PATH", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.setattr(engine, "ROOT", tmp_path / "projects" / "pack")
    monkeypatch.setattr(sys, "path", list(sys.path))


def test_where_it_is_looked_for(tmp_path, monkeypatch):
    """What is named first wins: the argument, the environment, beside the project, the home folder."""
    home = make(tmp_path / "home" / "sd-scripts")
    assert find() == home
    beside = make(tmp_path / "projects" / "sd-scripts")
    assert find() == beside
    monkeypatch.setenv("SD_SCRIPTS_PATH", str(make(tmp_path / "named")))
    assert find() == tmp_path / "named"
    assert find(str(make(tmp_path / "explicit"))) == tmp_path / "explicit"
    monkeypatch.setenv("SD_SCRIPTS_PATH", "~/sd-scripts")
    assert find() == home


def test_beside_the_project_is_beside_its_root():
    assert Path(__file__).resolve().parents[1] == PROJECT


def test_a_named_folder_is_not_replaced_by_another(tmp_path):
    make(tmp_path / "home" / "sd-scripts")
    with pytest.raises(FileNotFoundError, match="(?s)nothing.*--sd_scripts.*git clone"):
        find(str(tmp_path / "nothing"))


def test_missing_or_too_old_gives_the_command_that_brings_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"git clone .*kohya-ss/sd-scripts.*checkout {TESTED}"):
        find()
    assert len(TESTED) == 40
    for name, texts in NEEDED.items():
        for text in texts:
            old = make(tmp_path / "old", without=text)
            with pytest.raises(ValueError, match=f"(?s)too old.*{Path(name).name} lacks.*git clone"):
                find(str(old))


def test_it_comes_last_on_the_import_path(tmp_path):
    folder = make(tmp_path / "sd-scripts")
    before = list(sys.path)
    assert enable(str(folder)) == enable(str(folder)) == folder
    assert sys.path == [*before, str(folder)]


@pytest.mark.parametrize("trainer", ["train_heads", "train_recraft"])
def test_without_it_a_trainer_ends_with_the_command(tmp_path, trainer):
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-m", f"training.{trainer}", "--sd_scripts", str(tmp_path), "--max_train_steps", "1"]
    done = subprocess.run(command, cwd=root, env=dict(os.environ), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.strip().endswith(TESTED) and str(tmp_path) in done.stderr
