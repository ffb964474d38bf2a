"""The developer's entry point, without running what it runs; and that what runs elsewhere is the same."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import run

ROOT = Path(__file__).resolve().parents[1]

run_codes: dict[str, int] = {}
"""Module -> exit code that its run shall have."""


@pytest.fixture
def calls(monkeypatch, tmp_path) -> list[list[str]]:
    """Commands that would have run, from an environment that is up to date."""
    monkeypatch.setattr(run, "ROOT", tmp_path / "pack")
    monkeypatch.setattr(run, "PYTHON", tmp_path / "python")
    monkeypatch.setattr(run, "STAMP", tmp_path / "stamp")
    monkeypatch.setattr(run, "REQUIREMENTS", tmp_path / "requirements-dev.txt")
    run.REQUIREMENTS.write_text("torch==2.13.0\n")
    monkeypatch.setattr(run, "make_venv", lambda: run.PYTHON.touch() or 0)
    # Node is there, and npx has Biome.
    monkeypatch.setattr(run.shutil, "which", lambda name: name)
    monkeypatch.setattr(
        run.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], run_codes.get("npx", 0))
    )
    told: list[list[str]] = []

    def record(*command) -> int:
        told.append([str(word) for word in command])
        return run_codes.get(told[-1][2], 0)

    monkeypatch.setattr(run, "run", record)
    run_codes.clear()
    run.prepare()
    told.clear()
    return told


def test_demo_passes_its_arguments_on(calls):
    assert run.main(["demo", "--frames", "4"]) == 0
    assert calls == [[str(run.PYTHON), "-m", "demo", "--frames", "4"]]


def test_test_lints_checks_types_and_passes_its_arguments_to_pytest(calls):
    assert run.main(["test", "-k", "tail"]) == 0
    assert [call[2:] for call in calls] == [
        ["ruff", "check"],
        ["ruff", "format", "--check"],
        ["mypy"],
        ["mypy", "-p", "pack.nodes"],
        [run.BIOME, "check", "--error-on-warnings"],
        ["pytest", "-k", "tail"],
    ]


def test_tests_of_hosts_run_by_themselves(calls):
    assert run.main(["test"]) == 0
    shared, alone = (call[3:] for call in calls if call[2] == "pytest")
    assert alone == ["tests/test_hosts.py", "tests/browser"]
    assert [argument for argument in shared if "ignore" in argument] == [f"--ignore={path}" for path in alone]
    assert "-n" in shared


def test_a_folder_that_mypy_can_not_name_is_said(calls, monkeypatch, capsys):
    monkeypatch.setattr(run, "ROOT", Path("pack-0.1.0"))
    assert run.main(["test"]) == 0
    assert [call[2:] for call in calls if call[2] == "mypy"] == [["mypy"]]
    assert "THE TYPES IN nodes/ WERE NOT CHECKED" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["Node", "Biome"])
def test_scripts_that_can_not_be_checked_are_said(calls, monkeypatch, capsys, missing):
    if missing == "Node":
        monkeypatch.setattr(run.shutil, "which", lambda name: None)
    else:
        run_codes["npx"] = 1
    assert run.main(["test"]) == 0
    assert [call[2] for call in calls][-3:] == ["mypy", "pytest", "pytest"]
    assert "THE SCRIPTS IN web/ WERE NOT CHECKED" in capsys.readouterr().err


@pytest.mark.parametrize("broken", ["ruff", "mypy", run.BIOME, "pytest"])
def test_the_exit_code_is_the_childs(calls, broken):
    run_codes[broken] = 5
    assert run.main(["test"]) == 5
    assert calls[-1][2] == broken, "nothing runs after a failure"


def test_the_environment_is_installed_once_and_again_when_the_file_changes(calls):
    assert run.prepare() == 0
    assert calls == []
    run.REQUIREMENTS.write_text("torch==2.13.1\n")
    assert run.prepare() == 0
    assert [call[1:4] for call in calls] == [["-m", "pip", "install"]]
    assert str(run.REQUIREMENTS) in calls[0]
    assert run.prepare() == 0
    assert len(calls) == 1


def test_a_failed_installation_is_tried_again(calls):
    run.REQUIREMENTS.write_text("torch==2.13.1\n")
    run_codes["pip"] = 1
    assert run.main(["test"]) == 1
    assert [call[2] for call in calls] == ["pip"]
    run_codes.clear()
    assert run.prepare() == 0
    assert len(calls) == 2


@pytest.mark.parametrize("arguments", [[], ["tset"], ["--frames"]])
def test_a_wrong_command_is_one_line_and_exit_2(arguments, calls, capsys):
    assert run.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("run.py: ")
    assert err.count("\n") == 1
    assert "use: python run.py demo|test" in err
    assert calls == []


def test_help(calls, capsys):
    assert run.main(["--help"]) == 0
    assert "python run.py demo | test" in capsys.readouterr().out


def test_run_returns_the_exit_code_and_works_in_the_root(capfd):
    code = run.run(sys.executable, "-c", "import os, sys; print(os.getcwd()); sys.exit(7)")
    assert code == 7
    assert str(ROOT) in capfd.readouterr().out


def test_an_old_python_gets_a_sentence():
    source = (ROOT / "run.py").read_text(encoding="utf-8")
    old = source.replace("sys.version_info < (3, 10)", "sys.version_info < (99,)")
    assert old != source
    result = subprocess.run([sys.executable, "-c", old, "test"], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith("run.py needs Python 3.10 or newer, this is 3.")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_pre_commit_has_the_versions_of_the_test_command():
    pinned = set(re.findall(r'additional_dependencies: \["(.+)"\]', read(".pre-commit-config.yaml")))
    (ruff,) = re.findall(r"^ruff==.+$", read("requirements-dev.txt"), re.MULTILINE)
    assert pinned == {ruff, run.BIOME}


def test_github_runs_the_test_command_on_every_python_that_the_project_is_for():
    workflow = read(".github/workflows/test.yml")
    (pythons,) = re.findall(r"python: \[(.+)\]", workflow)
    (oldest,) = re.findall(r'requires-python = ">=3\.(\d+)"', read("pyproject.toml"))
    assert pythons.startswith(f'"3.{oldest}", ')
    assert "run: python run.py test\n" in workflow


def test_only_a_tag_publishes_and_the_key_is_a_secret():
    workflow = read(".github/workflows/publish.yml")
    starts = workflow.partition("\non:\n")[2].partition("\n\n")[0]
    assert [line.split(":")[0].strip() for line in starts.splitlines()] == ["push", "tags"]
    assert re.findall(r"personal_access_token: (.+)", workflow) == ["${{ secrets.REGISTRY_ACCESS_TOKEN }}"]
