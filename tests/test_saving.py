"""Saving leaves a whole file or the old one, under names that no list shows; what was left behind goes."""

import errno
import os
import stat
import sys
import time

import pytest
import torch
from PIL import Image
from safetensors import SafetensorError

from makeanything.__main__ import main
from makeanything.saving import (
    DAY,
    NotSavedError,
    atomic,
    folder_beside,
    make_folder,
    save_safetensors,
    saving,
    unfinished,
)  # fmt: skip
from training.data import dataset


def test_atomic_writes_beside_the_target_and_replaces_it(tmp_path):
    target = tmp_path / "weights.safetensors"
    target.write_bytes(b"old")
    with atomic(target) as temporary:
        assert temporary.parent == tmp_path, "a rename across disks is no rename"
        temporary.write_bytes(b"new")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


def test_atomic_leaves_the_old_file_when_writing_fails(tmp_path):
    target = tmp_path / "weights.safetensors"
    target.write_bytes(b"old")

    def write_half() -> None:
        with atomic(target) as temporary:
            temporary.write_bytes(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_half()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows locks a file that is being read")
def test_a_reader_of_the_old_file_is_not_disturbed(tmp_path):
    """Samplers map weights into memory; a file that changes under them gives garbage."""
    target = tmp_path / "weights.safetensors"
    target.write_bytes(b"old")
    with target.open("rb") as reader:
        with atomic(target) as temporary:
            temporary.write_bytes(b"new")
        assert reader.read() == b"old"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no umask")
def test_a_saved_file_is_as_readable_as_any_other(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    with atomic(tmp_path / "saved") as temporary:
        temporary.write_bytes(b"")
    assert stat.S_IMODE((tmp_path / "saved").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    before = os.umask(0o077)
    try:
        with atomic(tmp_path / "private") as temporary:
            temporary.write_bytes(b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["w.safetensors", "W.SFT"])
def test_no_list_of_models_shows_a_temporary_file(tmp_path, name):
    """ComfyUI lists what ends so, hidden or not."""
    with atomic(tmp_path / name) as temporary:
        temporary.write_bytes(b"")
        assert temporary.name.startswith(".")
        assert temporary.suffix == ".tmp"


def test_other_writers_go_by_the_suffix(tmp_path):
    with atomic(tmp_path / "a.png") as temporary:
        Image.new("RGB", (1, 1)).save(temporary)
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG"


@pytest.mark.parametrize("suffix", [".safetensors", ".png", ".caption"])
def test_names_may_be_as_long_as_they_can_be(tmp_path, suffix):
    name = "é" * ((255 - len(suffix)) // 2)
    path = tmp_path / f"{name}{suffix}"
    with atomic(path) as temporary:
        temporary.write_bytes(b"new")
    save_safetensors({"a": torch.ones(1)}, path)
    assert list(tmp_path.iterdir()) == [path]


def old(path):
    os.utime(path, (time.time() - DAY - 60,) * 2)
    return path


def test_the_next_save_removes_what_was_left_a_day_ago(tmp_path):
    left = [tmp_path / unfinished(suffix) for suffix in (".tmp", ".png", ".caption")]
    for path in left:
        path.touch()
    folder = tmp_path / unfinished("")
    folder.mkdir()
    (folder / ".tmpAbC").touch()
    kept = [tmp_path / name for name in (unfinished(), ".hidden.png", ".makeanything-notes.txt", "a.tmp")]
    for path in kept:
        path.touch()
    for path in (*left, folder, *kept[1:]):
        old(path)
    save_safetensors({"a": torch.ones(1)}, tmp_path / "a.safetensors")
    assert set(tmp_path.iterdir()) == {*kept, tmp_path / "a.safetensors"}


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_sweeping_follows_no_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/mine").touch()
    link = tmp_path / unfinished("")
    link.symlink_to(tmp_path / "elsewhere")
    os.utime(link, (0, 0), follow_symlinks=False)
    with atomic(tmp_path / "a") as temporary:
        temporary.touch()
    assert not link.is_symlink()
    assert (tmp_path / "elsewhere/mine").exists()


def test_a_folder_for_what_is_not_finished(tmp_path):
    def write_half() -> None:
        with folder_beside(tmp_path / "a") as folder:
            (folder / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left", "/a/b.png"), "the disk is full; make room, or save elsewhere"),
        (SafetensorError(f"Error while serializing: I/O error: full (os error {errno.ENOSPC})"), "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/a/b.png"), "its folder or a file of this name is protec"),
        (OSError(errno.ENAMETOOLONG, "File name too long"), "its name is too long"),
        (OSError(errno.EIO, "Input/output error", "/a/b.png"), "Input/output error"),
        (OSError("encoder\nerror -2"), "encoder error -2"),
    ],
)  # fmt: skip
def test_writers_errors_become_one_line(error, reason):
    with pytest.raises(NotSavedError) as told, saving("/a/b.png"), saving("/a/other.png"):
        raise error
    assert str(told.value).startswith(f"other.png can't be saved: {reason}")
    assert "\n" not in str(told.value)
    assert "/a" not in str(told.value)


def test_a_folder_that_can_not_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotSavedError, match=r"^deep can't be saved: its folder is a file$"):
        make_folder(tmp_path / "file/deep")
    with (
        pytest.raises(NotSavedError, match=r"^a.png can't be saved: its folder is gone$"),
        atomic(tmp_path / "no/a.png"),
    ):
        (tmp_path / "no/x").touch()


def test_readers_of_datasets_pass_over_hidden_files(tmp_path, capsys):
    """A run that was killed leaves them."""
    for name in ("1.png", "2.png", "3.png", "4.png", unfinished(".png")):
        (tmp_path / name).write_bytes(b"")
        Image.new("RGB", (16, 16)).save(tmp_path / name)
    (tmp_path / "d.toml").write_text(
        "[[datasets]]\nresolution = 16\n[[datasets.subsets]]\n"
        f'image_dir = "{tmp_path.as_posix()}"\nclass_tokens = "a"\n'
    )
    (found,) = dataset.read(tmp_path / "d.toml")
    assert [sample.path.name for sample in found.samples] == ["1.png", "2.png", "3.png", "4.png"]
    assert main(["compose", str(tmp_path), "-o", str(tmp_path / "grid.png")]) == 0, capsys.readouterr().err
