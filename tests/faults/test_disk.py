"""Disks that are full or read-only: one line says so, and no file that was there is harmed.  The faults are real."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from .savers import NAMES, Results, Saver, files, forked, lines

if sys.platform == "win32":
    pytest.skip("faults are made with POSIX calls", allow_module_level=True)

import resource

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return Results(tmp_path_factory.mktemp("disk"))


def limited(save: Saver, out: Path, version: int, most: int) -> int:
    """Save where files grow to `most` bytes: the kernel refuses the rest in the middle of a write."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    return save(out, version)


@pytest.mark.parametrize("share", [0.0, 0.4, 0.99])
@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_can_not_grow(name: str, share: float, results: Results, tmp_path: Path) -> None:
    out = tmp_path / "out"
    save, before, after = results.of(name, out)
    most = int(max(len(data) for data in after.values()) * share)
    code, text = forked(lambda: limited(save, out, 2, most))
    assert code == 2, text
    assert len(lines(text)) == 1, text
    assert re.search(r"[\w.]+ can't be saved: the disk takes no file of this size; save elsewhere$", lines(text)[0])
    found = files(out)
    assert before.keys() <= found.keys() <= before.keys() | after.keys()
    for path, data in found.items():
        assert data in (before.get(path), after.get(path)), path


def test_a_tmpfs_that_is_full_or_read_only(tmp_path: Path) -> None:
    """In a mount namespace of its own, where anybody may mount."""
    mount = f"mount -t tmpfs -o size=4m tmpfs '{tmp_path}'"
    command = ["unshare", "-Urm", "sh", "-c"]
    try:
        subprocess.run([*command, mount], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("NOT TESTED on a real full disk: `unshare -Urm` can't mount a tmpfs here")
    run = f"{mount} && exec '{sys.executable}' -m tests.faults.real_disk '{tmp_path}'"
    done = subprocess.run([*command, run], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == 2 * len(NAMES)
    for case, (code, said, kept) in found.items():
        reason = "the disk is full; make room" if case.endswith("full") else "the disk is read-only; save elsewhere"
        assert code == 2, (case, said)
        assert len(said) == 1, (case, said)
        assert f"can't be saved: {reason}" in said[0]
        assert kept, case


def unprivileged(save: Saver, out: Path) -> int:
    if os.geteuid() == 0:
        # For root no folder is protected.
        os.seteuid(65534)
    return save(out, 2)


@pytest.mark.parametrize("name", ["weights", "checkpoint", "png", "gif", "webp", "set", "page"])
def test_a_folder_that_is_protected(name: str, results: Results, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as free:
        out = Path(free, "out")
        save, before, _ = results.of(name, out)
        for folder in (Path(free), out, *(path for path in out.iterdir() if path.is_dir())):
            folder.chmod(0o555)
        code, text = forked(lambda: unprivileged(save, out))
        found = files(out)
        for folder in (Path(free), out, *(path for path in out.iterdir() if path.is_dir())):
            folder.chmod(0o755)
    assert code == 2, text
    assert len(lines(text)) == 1, text
    assert "can't be saved: its folder or a file of this name is protected; save elsewhere" in text
    assert found == before
