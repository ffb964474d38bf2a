"""What people keep sequences in: videos, animations and pictures of every kind, whole or broken."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.dataset.making import cells_of, files_in, numbered, write_folder, write_grid, write_video
from training.data import sources, stills


def red_and_blue() -> list[np.ndarray]:
    """Pictures of 64 x 32 whose left half is red, the right one blue."""
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:, :32, 0] = pixels[:, 32:, 2] = 255
    return [pixels] * 9


def colours(cell: np.ndarray) -> list[str]:
    """What is seen at the middle of the left, top, right and bottom quarter."""
    edge = len(cell)
    near, mid, far = edge // 8 * 3, edge // 2, edge // 8 * 5
    spots = [cell[mid, near], cell[near, mid], cell[mid, far], cell[far, mid]]
    return ["white" if spot.min() > 128 else ("red", "green", "blue")[int(spot.argmax())] for spot in spots]


@pytest.mark.parametrize(
    ("matrix", "top", "bottom"), [((0, 1, -1, 0), "red", "blue"), ((0, -1, 1, 0), "blue", "red")], ids=["90", "270"]
)
def test_a_video_is_turned_as_its_file_says(source, make, matrix, top, bottom):
    """ISO 14496-12, 8.3.2: x' = a x + c y, y' = b x + d y, in the track header; y grows downwards."""
    path = write_video(source / "x.mp4", red_and_blue())
    data = path.read_bytes()
    place = data.index(b"tkhd") + 44
    unity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    assert data[place : place + 36] == unity
    a, b, c, d = (65536 * number for number in matrix)
    path.write_bytes(data[:place] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + data[place + 36 :])
    for cell in cells_of(make() / "portrait/x.png"):
        _, upper, _, lower = colours(cell)
        assert (upper, lower) == (top, bottom)
        assert cell[len(cell) // 2, 0].min() > 240, "white to the left: it stands upright"


def test_oblong_pixels_are_stretched(source, make):
    write_video(source / "x.mp4", [np.full((64, 32, 3), 90, np.uint8)] * 9, aspect=2)
    write_video(source / "y.mp4", [np.full((64, 32, 3), 90, np.uint8)] * 9)
    out = make()
    assert all(cell.max() < 100 for cell in cells_of(out / "portrait/x.png")), "square, so no white beside it"
    assert all(cell[:, 0].min() > 240 for cell in cells_of(out / "portrait/y.png"))


def save_kinds(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Pictures of many kinds, and the colour that each shows."""
    folder.mkdir()
    Image.fromarray(np.full((8, 8), 200 * 257, np.uint16)).save(folder / "grey16.png")
    Image.fromarray(np.full((8, 8), 100 * 257, np.uint16)).save(folder / "grey16.tif")
    Image.new("RGBA", (8, 8), (200, 0, 0, 0)).save(folder / "clear.png")
    Image.new("RGBA", (8, 8), (200, 0, 0, 255)).save(folder / "solid.webp", lossless=True)
    Image.new("LA", (8, 8), (0, 128)).save(folder / "half.png")
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(folder / "print.jpg", quality=100)
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.save(folder / "palette.png")
    palette.save(folder / "holes.gif", transparency=1)
    Image.new("1", (8, 8), 1).save(folder / "bits.bmp")
    return {
        "grey16.png": (200, 200, 200),
        "grey16.tif": (100, 100, 100),
        "clear.png": (255, 255, 255),
        "solid.webp": (200, 0, 0),
        "half.png": (127, 127, 127),
        "print.jpg": (255, 0, 0),
        "palette.png": (10, 20, 30),
        "holes.gif": (255, 255, 255),
        "bits.bmp": (255, 255, 255),
    }


def test_pictures_of_every_kind(tmp_path):
    expected = save_kinds(tmp_path / "x")
    assert [path.name for path in sources.pictures_in(tmp_path / "x")] == sorted(expected)
    for name, colour in expected.items():
        picture = stills.read_picture(tmp_path / "x" / name)
        assert picture.mode == "RGB"
        assert np.abs(np.asarray(picture)[4, 4].astype(int) - colour).max() <= 2, name


def test_photographs_are_turned_as_exif_says(tmp_path):
    """Orientation 6: the camera was held so that the stored top is the right-hand side."""
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:16] = (255, 0, 0)
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "x.jpg", exif=exif, quality=100)
    turned = np.asarray(stills.read_picture(tmp_path / "x.jpg"))
    assert turned.shape == (64, 32, 3)
    assert turned[:, 28, 0].min() > 200 > 50 > turned[:, 4, 0].max()


def test_floating_point_pictures_are_refused(tmp_path):
    Image.fromarray(np.zeros((8, 8), np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(ValueError, match=r"x.tif can't be read \(its pixels are floating point"):
        stills.read_picture(tmp_path / "x.tif")


def test_broken_and_short_ones_are_listed_and_the_others_made(source, make, capsys):
    whole = write_video(source / "whole.mp4", numbered(33)).read_bytes()
    (source / "half.mp4").write_bytes(whole[: len(whole) // 2])
    noisy = [np.random.default_rng(n).integers(0, 256, (48, 48, 3), np.uint8) for n in range(50)]
    data = write_video(source / "cut.mkv", noisy).read_bytes()
    (source / "cut.mkv").write_bytes(data[: len(data) // 2])
    (source / "empty.webm").write_bytes(b"")
    (source / "page.mov").write_text("<html>")
    (source / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (source / "broken.gif").write_bytes(b"GIF89a")
    (source / "manual.pdf").write_bytes(b"%PDF")
    write_video(source / "one.mp4", numbered(1))
    write_folder(source / "few", numbered(8))
    (source / "nothing").mkdir()
    write_folder(source / "torn", numbered(9))
    torn = source / "torn/step 5.png"
    torn.write_bytes(torn.read_bytes()[:60])
    (source / "odd.caption").write_bytes(b"\xff\xfe\xff")
    write_grid(source / "odd.png", [0] * 9)
    out = make()
    assert files_in(out) == [
        "dataset.toml", "portrait/whole.caption", "portrait/whole.png", "portrait_contact_sheet.png", "skipped.txt",
    ]  # fmt: skip
    lines = (out / "skipped.txt").read_text().splitlines()
    reasons = dict(line.removeprefix(f"{source}/").split(": ", 1) for line in lines)
    assert set(reasons) == {path.name for path in source.iterdir()} - {"whole.mp4", "odd.caption"}
    assert reasons["cut.mkv"].startswith("cut.mkv ends after 1.0") and "of 2.0 seconds" in reasons["cut.mkv"]
    for name in ("half.mp4", "empty.webm", "page.mov", "broken.png", "broken.gif"):
        assert "/" not in reasons[name]
        assert reasons[name].startswith(f"{name} can't be read (") and reasons[name].endswith("is it whole?")
    assert reasons["torn"].startswith("step 5.png can't be read (")
    assert "neither a picture, a video nor a folder" in reasons["manual.pdf"]
    assert "1 of the 9 frames" in reasons["one.mp4"] and "8 of the 9 frames" in reasons["few"]
    assert "0 of the 9 frames" in reasons["nothing"]
    assert reasons["odd.png"] == "odd.caption is not text in UTF-8; save it so"
    shown = capsys.readouterr()
    assert all(f"skipped {line}" in shown.err for line in lines)
    assert f"{len(lines)} sequences skipped" in shown.out


def test_nothing_to_make_is_a_failure(source, make, capsys):
    (source / "empty.mp4").write_bytes(b"")
    out = make(code=1)
    assert files_in(out) == ["skipped.txt"]
    assert f"there is nothing to make a dataset of in {source}" in capsys.readouterr().err
