"""Inputs that nobody means to give, and machines with little room."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from makeanything.recraft import fit_image
from tests.dataset.making import files_in, numbered, reasons, write_folder, write_video
from training.data import folder, grid, sources, stills


def test_old_latents_go_before_the_new_grid_is_there(source, make, monkeypatch):
    """A run that is killed in between must not leave them: the next one finds the grid made."""
    write_folder(source / "a", numbered(33))
    cache = make() / "portrait/a_0096x0096_flux.npz"
    cache.write_bytes(b"old latents")
    (source / "a/step 33.png").unlink()

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(folder, "save_image", killed)
    make(code=130)
    assert not cache.exists()


def test_pipes_and_broken_links_are_skipped_and_listed(source, make):
    write_folder(source / "whole", numbered(9))
    write_folder(source / "piped", numbered(8))
    for name in ("p.png", "p.gif", "p.webp", "p.mp4", "piped/step 9.png", "whole.txt"):
        os.mkfifo(source / name)
    (source / "link.png").symlink_to(source / "nowhere.png")
    write_folder(source / "linked", numbered(8))
    (source / "linked/step 9.png").symlink_to(source / "nowhere.png")
    out = make()
    assert files_in(out / "portrait") == ["whole.caption", "whole.png"]
    found = reasons(out, source)
    for name in ("p.png", "p.gif", "p.webp", "p.mp4", "link.png"):
        assert found.pop(name) == "it is neither a picture, a video nor a folder of pictures"
    assert found == {
        "piped": "step 9.png can't be read (it is not a file); is it whole?",
        "linked": "step 9.png can't be read (No such file or directory)",
    }


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"bad\xff", r"bad\udcff: its grid can't have its name: 'bad\udcff.png' holds half of a character; rename it"),
        (b"a\nb", r"a\nb: its grid can't have its name: 'a\nb.png' holds a character that Windows has in no name"),
        (b"con", "con: its grid can't have its name: Windows keeps the name 'con.png' for itself; rename it"),
        (b"a?", "a?: its grid can't have its name: 'a?.png' holds a character that Windows has in no name"),
        (b"a\\b", "a\\b: its grid can't have its name: it holds a \\; rename it"),
        (b"x" * 230, "x" * 230 + ": its grid can't have its name: "),
    ],
)
def test_names_that_some_systems_do_not_have_are_skipped_and_listed(source, make, capsys, name, shown):
    write_folder(source / "good....", numbered(9))
    write_folder(source / os.fsdecode(name), numbered(9))
    first = write_folder(source / "y", numbered(9)) / "step 1.png"
    first.rename(source / "y" / f"{os.fsdecode(name)}.png")
    out = make()
    lines = (out / "skipped.txt").read_text(encoding="utf-8").splitlines()
    assert [line.removeprefix(f"{source}/")[: len(shown)] for line in lines] == [shown]
    assert f"skipped {lines[0]}\n" in capsys.readouterr().err
    assert sorted(path.name for path in (out / "portrait").glob("*.png")) == ["good.....png", "y.png"]


def test_names_inside_messages_are_in_one_line(source, make):
    """The file that is named lies in a sequence, whose own name is a good one."""
    write_folder(source / "a", numbered(9))
    (source / "a/b\nc.png").write_bytes(b"")
    (source / "d\n.caption").write_text("x")
    out = make(code=1)
    assert (out / "skipped.txt").read_text().splitlines() == [
        rf"{source}/a: b\nc.png can't be read (it is not a picture); is it whole?"
    ]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("portrait_contact_sheet.png", "portrait_contact_sheet.png can't be saved: a folder has this name; move it"),
        ("portrait_contact_sheet_7.png", "portrait_contact_sheet_7.png can't be removed: it is a folder; move it"),
        ("portrait/a_1.npz", "portrait/a_1.npz can't be removed: it is a folder; move it"),
        ("skipped.txt", "skipped.txt can't be removed: it is a folder; move it"),
        ("dataset.toml", "dataset.toml can't be saved: a folder has this name; move it"),
        ("portrait/a.caption", ""),
        ("portrait/a.png", ""),
    ],
)
def test_folders_where_files_should_be_are_one_line(source, make, tmp_path, capsys, place, message):
    write_folder(source / "a", numbered(9))
    write_folder(source / "b", numbered(9))
    (tmp_path / "out" / place).mkdir(parents=True)
    (tmp_path / "out" / place / "kept").touch()
    out = make(code=2 if message else 0)
    assert (out / place / "kept").exists()
    if message:
        (line,) = [line for line in capsys.readouterr().err.splitlines() if "make_dataset:" in line]
        assert line.endswith(message)
    else:
        assert "; move it" in reasons(out, source)["a"]


def test_two_runs_drop_the_same_grid(source, make, monkeypatch):
    write_folder(source / "a", numbered(9))
    write_folder(source / "b", numbered(9))
    out = make()
    (source / "a/step 5.png").unlink()
    read, looks = folder._read_stamp, []

    def as_another_run(grid: Path) -> str:
        stamp = read(grid)
        looks.append(grid.name)
        # The second time it is looked at in order to drop it.
        if grid.name == "a.png" and looks.count("a.png") == 2:
            grid.unlink(missing_ok=True)
        return stamp

    monkeypatch.setattr(folder, "_read_stamp", as_another_run)
    make()
    assert files_in(out / "portrait") == ["b.caption", "b.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--frames", "0"], "0 frames do not fill a square grid"),
        (["--domain", ""], "'' names no domain; leave the option out"),
        (["--domains", ""], "'' names no domain; leave the option out"),
        (["--domains", ";;;"], "got 0 in ';;;'"),
        (["--domain", " "], "got 0 in ' '"),
        (["--domain", "con:9:x"], "can't be a folder con for the domain con: Windows keeps the name"),
        (["--domains", "Sketch;LPT1:9:x"], "can't be a folder lpt1 for the domain LPT1: Windows keeps the name"),
        (["--domain", "\u4e00" * 99 + ":9:x"], "is longer than 200 bytes"),
        (["--size", "16368"], "a 3x3 grid of 16368 x 16368 px is too large: pictures of at most 120,000,000"),
    ],
)
def test_values_that_mean_nothing_are_refused(source, make, capsys, arguments, message):
    write_folder(source / "a", numbered(9))
    assert files_in(make(*arguments, code=2)) == []
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1


def test_it_is_said_that_folders_have_no_seconds(source, make, capsys):
    write_folder(source / "a", numbered(9))
    write_video(source / "b.mp4", numbered(33))
    make("--skip-start", "0.1s")
    assert "1 of the sequences are folders, whose pictures have no seconds" in capsys.readouterr().err
    make("--skip-start", "0")
    assert "no seconds" not in capsys.readouterr().err


def test_fitting_in_strips_gives_the_bits_of_fitting_at_once(monkeypatch):
    rng = np.random.default_rng(0)
    monkeypatch.setattr(stills, "STRIP", 16)
    for _ in range(60):
        height, width = rng.integers(1, 200, 2)
        if max(height, width) > stills.LONGEST * min(height, width):
            continue
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
        edge = int(rng.integers(1, 120))
        assert np.array_equal(stills.fit_square(image, edge), fit_image(image, edge, edge))


def test_strips_convert_every_kind_to_the_same_bits(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for mode in ("L", "LA", "P", "RGBA", "CMYK", "1", "I;16", "RGB"):
        pixels = rng.integers(0, 256, (50, 7, 4), np.uint8)
        image = Image.fromarray(pixels, "RGBA")
        if mode == "I;16":
            image = Image.fromarray(rng.integers(0, 65536, (50, 7), np.uint16))
        image = (
            image if image.mode == mode else image.convert("RGB").convert(mode) if mode != "LA" else image.convert(mode)
        )
        monkeypatch.setattr(stills, "STRIP", 1000)
        whole = np.asarray(stills.to_rgb(image.copy()))
        monkeypatch.setattr(stills, "STRIP", 16)
        assert np.array_equal(stills.to_rgb(image.copy()), whole), mode


def test_frames_that_no_cell_can_hold_are_skipped(source, make, monkeypatch):
    """Padded to a square, the first one would take 38 GB."""
    write_folder(source / "long", numbered(8))
    Image.new("RGB", (100_000, 1)).save(source / "long/step 9.png")
    write_video(source / "wide.mp4", numbered(9, height=16, width=480), aspect=2)
    write_folder(source / "good", numbered(9))
    out = make()
    assert files_in(out / "portrait") == ["good.caption", "good.png"]
    found = reasons(out, source)
    assert found["long"] == "a frame of 100000 x 1 px is not a picture: it is too long for its width"
    assert found["wide.mp4"] == "a frame of 960 x 16 px is not a picture: it is too long for its width"
    monkeypatch.setattr(sources, "MOST_PIXELS", 10_000)
    make()
    assert reasons(out, source)["wide.mp4"] == "its frames are 960 x 16 px; at most 10,000 pixels are read"


def test_a_machine_with_too_little_memory_skips_the_sequence(source, make, monkeypatch):
    for name, error in (("python", MemoryError()), ("torch", RuntimeError("DefaultCPUAllocator: can't allocate"))):
        write_folder(source / name, numbered(9))

        def full(path: Path, error: Exception = error) -> Image.Image:
            raise error

        for reader in ("open_image", "fit_square"):
            with monkeypatch.context() as patch:
                if reader == "fit_square":
                    patch.setattr(grid, reader, lambda *args, error=error: full(source, error))
                else:
                    patch.setattr(stills, reader, full)
                text = reasons(make(code=1), source)[name]
            assert text in (
                "it is too large for this machine's memory",
                "step 1.png is too large for this machine's memory",
            )
    monkeypatch.setattr(grid, "fit_square", lambda *args: full(source, RuntimeError("a fault of ours")))
    with pytest.raises(RuntimeError, match="a fault of ours"):
        make()


LARGE = """
import re, sys
from pathlib import Path
from training.make_dataset import main

def peak():
    # Not getrusage, which counts the process that started this one.
    return int(re.search("VmHWM:\\s+([0-9]+)", Path("/proc/self/status").read_text())[1]) // 1024

before = peak()
code = main([sys.argv[1], "-o", sys.argv[2], "--domain", "Portrait", "--size", "96"])
print(code, peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the system counts memory otherwise")
@pytest.mark.parametrize("kind", ["folder", "grid"])
def test_the_largest_pictures_take_little_more_memory_than_one_of_them(source, tmp_path, kind):
    """A picture of this size is 100 MB, as Pillow holds it.  At 120 megapixels nine took 4.7 GB, and a grid 4 GB."""
    picture = tmp_path / "large.png"
    Image.new("L", (5000, 5000), 90).save(picture, compress_level=1)
    (source / "x").mkdir()
    for number in range(9):
        (source / f"x/{number}.png").symlink_to(picture)
    if kind == "grid":
        shutil.rmtree(source / "x")
        picture.rename(source / "x.png")
    result = subprocess.run(
        [sys.executable, "-c", LARGE, str(source), str(tmp_path / "out")], capture_output=True, text=True, check=True
    )
    code, grown = map(int, result.stdout.split("\n")[-2].split())
    assert (code, "Warning" in result.stderr) == (0, False)
    assert grown < 400
