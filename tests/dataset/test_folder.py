"""What lies in the dataset: names, captions, sheets, and what is made again."""

from pathlib import Path

import pytest
from PIL import Image

from tests.dataset.making import (
    EVERY_FOURTH,
    STEP,
    files_in,
    numbered,
    numbers_of,
    pixels_of,
    write_folder,
    write_grid,
    write_video,
)
from training.data import folder


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("portrait_001", "portrait"),
        ("a-lady_with.a  hat", "a lady with a hat"),
        ("How I draw a cat [dQw4w9WgXcQ]", "How I draw a cat"),
        ("03 red house (2)", "red house"),
        ("house.9", "house"),
        ("0042", "portrait"),
        ("boeing 747 wing", "boeing 747 wing"),
        ("\u043f\u043e\u0440\u0442\u0440\u0435\u0442_3", "\u043f\u043e\u0440\u0442\u0440\u0435\u0442"),
    ],
)
def test_names_become_subjects(source, make, name, words):
    write_grid(source / f"{name}.png", range(9))
    (caption,) = (make() / "portrait").glob("*.caption")
    assert caption.name == f"{name}.caption"
    text = caption.read_text(encoding="utf-8")
    assert text == f"3*3 of 9 sub-images, step-by-step portrait painting process, {words}\n"


@pytest.mark.parametrize(
    ("file", "caption", "text"),
    [
        ("x.caption", "1 girl", "3*3 of 9 sub-images, step-by-step portrait painting process, 1 girl"),
        (
            "x.txt",
            "1 girl\n  with a hat\n",
            "3*3 of 9 sub-images, step-by-step portrait painting process, 1 girl with a hat",
        ),
        ("x/caption.txt", "\ufeff1 girl", "3*3 of 9 sub-images, step-by-step portrait painting process, 1 girl"),
        ("x/x.caption", "--lora_up 3 a boy", "3*3 of 9 sub-images, step-by-step portrait painting process, a boy"),
        ("x.caption", "3*3 of 9 sub-images, a cat grows", "3*3 of 9 sub-images, a cat grows"),
        ("x.caption", "   ", "3*3 of 9 sub-images, step-by-step portrait painting process, x"),
    ],
)
def test_captions_are_found(source, make, file, caption, text):
    write_folder(source / "x", numbered(9))
    (source / file).write_text(caption, encoding="utf-8")
    assert (make() / "portrait/x.caption").read_text(encoding="utf-8") == text + "\n"


def states(folder: Path) -> dict[str, tuple[int, int]]:
    return {file: ((folder / file).stat().st_ino, (folder / file).stat().st_mtime_ns) for file in files_in(folder)}


def test_what_is_made_is_not_made_again(source, make, capsys):
    write_video(source / "a.mp4", numbered(33))
    write_grid(source / "b.png", range(9))
    out = make() / "portrait"
    (out / "a.caption").write_text("edited by hand")
    before = states(out)
    make("--repeats", "5")
    assert states(out) == before
    assert "0 of them made now" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--pick", "change"],
        ["--reverse"],
        ["--skip-start", "1"],
        ["--skip-end", "1s"],
        ["--order", "rows"],
        ["--keep-gutters"],
        ["--size", "144"],
        ["--captions", ".txt"],
        ["--lora-up"],
        ["--domains", "Portrait:9:drawing"],
    ],
    ids=" ".join,
)
def test_other_settings_make_it_anew(source, make, arguments):
    frames = numbered(33)
    write_folder(source / "a", frames[:1] * 5 + frames)
    grid = make() / "portrait/a.png"
    before = states(grid.parent)["a.png"]
    make(*arguments)
    assert states(grid.parent)["a.png"] != before


def test_changes_of_the_source_make_it_anew(source, make):
    write_folder(source / "a", numbered(33))
    write_folder(source / "b", numbered(33))
    out = make()
    cache = out / "portrait/a_0096x0096_flux.npz"
    cache.write_bytes(b"old latents")
    untouched = states(out)["portrait/b.png"]

    def remade() -> bool:
        before = states(out)["portrait/a.png"]
        make()
        assert states(out)["portrait/b.png"] == untouched
        return states(out)["portrait/a.png"] != before

    assert not remade() and cache.exists()
    (source / "a/step 33.png").unlink()
    assert remade() and not cache.exists()
    (source / "a.txt").write_text("a new caption")
    assert remade()
    (out / "portrait/a.caption").unlink()
    assert remade()
    assert not remade()


def test_stopping_and_going_on(source, make, monkeypatch, capsys):
    for name in "abc":
        write_folder(source / name, numbered(33))
    complete = make()
    expected = {file: (complete / file).read_bytes() for file in files_in(complete)}
    for path in (complete / "portrait").iterdir():
        path.unlink()
    save, saved = Image.Image.save, []

    def stop_in_the_second(image, path, *args, **kwargs):
        saved.append(path)
        save(image, path, *args, **kwargs)
        if len(saved) == 2:
            data = Path(path).read_bytes()
            Path(path).write_bytes(data[: len(data) // 2])
            raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", stop_in_the_second)
    out = make(code=130)
    assert "the same command goes on" in capsys.readouterr().err
    assert files_in(out / "portrait") == ["a.caption", "a.png", "b.caption"]
    first = states(out)["portrait/a.png"]
    monkeypatch.undo()
    make()
    assert states(out)["portrait/a.png"] == first
    assert {file: (out / file).read_bytes() for file in files_in(out)} == expected


def test_a_full_disk_stops_the_run(source, make, monkeypatch, capsys):
    write_folder(source / "a", numbered(33))

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder, "save_image", full)
    assert files_in(make(code=2)) == ["portrait/a.caption"]
    assert "No space left on device" in capsys.readouterr().err


def test_an_outdated_grid_goes_when_its_source_breaks(source, make):
    write_folder(source / "a", numbered(33))
    write_folder(source / "b", numbered(33))
    out = make()
    (source / "a/step 1.png").write_bytes(b"")
    make()
    assert files_in(out / "portrait") == ["b.caption", "b.png"]


def test_grids_from_elsewhere_are_named_and_never_overwritten(source, make, capsys):
    write_folder(source / "a", numbered(33))
    write_folder(source / "b", numbered(33))
    out = make()
    (source / "b").rename(source / "c")
    mine = write_grid(out / "portrait/d.png", range(9)).read_bytes()
    write_folder(source / "d", numbered(33))
    make()
    shown = capsys.readouterr().out
    assert f"{out}/portrait/b.png does not come from {source}" in shown
    assert f"{out}/portrait/a.png" not in shown and f"{out}/portrait/c.png" not in shown
    assert (out / "portrait/d.png").read_bytes() == mine
    assert "d.png is in its place, which this command did not make" in (out / "skipped.txt").read_text()


def test_two_sequences_of_one_name(source, make):
    write_folder(source / "a", numbered(33))
    write_video(source / "a.mp4", numbered(9))
    write_video(source / "A.mkv", numbered(9))
    out = make("--reverse")
    make()
    assert files_in(out / "portrait") == ["a.caption", "a.png"]
    assert numbers_of(out / "portrait/a.png") == EVERY_FOURTH
    reasons = (out / "skipped.txt").read_text().splitlines()
    assert len(reasons) == 2 and all("rename one of them" in line for line in reasons)


def test_the_contact_sheet_shows_sequences_in_rows(source, make, monkeypatch):
    monkeypatch.setattr(folder, "SHEET_ROWS", 2)
    for name in ("a", "b", "c"):
        write_folder(source / name, numbered(33) if name != "b" else numbered(9))
    out = make()
    sheets = [name for name in files_in(out) if "contact" in name]
    assert sheets == ["portrait_contact_sheet.png", "portrait_contact_sheet_2.png"]
    page = pixels_of(out / sheets[0])
    # 128 px a frame with 6 px between them, and a line of text below.
    left = [6 + column * 134 + 64 for column in range(9)]
    assert [round((page[64, x, 0] - 10) / STEP) for x in left] == EVERY_FOURTH
    assert [round((page[64 + 128 + 6 + 17, x, 0] - 10) / STEP) for x in left] == list(range(9))
    (source / "c/step 3.png").unlink()
    for path in sorted(source.iterdir())[1:]:
        path.rename(source.parent / path.name)
    make()
    assert [name for name in files_in(out) if "contact" in name] == ["portrait_contact_sheet.png"]
