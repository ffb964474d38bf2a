"""`python -m training.make_dataset`, on videos whose frames carry their number as brightness."""

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import toml
from PIL import Image

from makeanything.recraft import fit_image
from training.data import folder, grid, picking, sources, stills
from training.data.picking import Picking, Skip, spread_change
from training.data.sources import Frame
from training.make_dataset import main

STEP = 7
"""Brightness from one frame to the next; codecs and resizing move it by less than 3."""
SMALL = "--size", "96"
EVERY_FOURTH = [0, 4, 8, 12, 16, 20, 24, 28, 32]
SNAKE = {9: (0, 1, 2, 5, 4, 3, 6, 7, 8), 4: (0, 1, 3, 2)}
"""Frames as they lie in a grid, row by row."""


def numbered(count: int, height: int = 48, width: int = 48) -> list[np.ndarray]:
    return [np.full((height, width, 3), 10 + STEP * number, np.uint8) for number in range(count)]


def write_video(
    path: Path, frames: Sequence[np.ndarray], codec: str = "libx264", millis: Sequence[int] = (), aspect: int = 1
) -> Path:
    options = {"cpu-used": "8", "deadline": "realtime"} if codec == "libvpx-vp9" else {"preset": "ultrafast"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(aspect)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if millis:
                frame.pts, frame.time_base = millis[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_animation(path: Path, frames: Sequence[np.ndarray], millis: int | list[int] = 40) -> Path:
    first, *rest = (Image.fromarray(pixels) for pixels in frames)
    lossless = {"lossless": True} if path.suffix == ".webp" else {}
    first.save(path, save_all=True, append_images=rest, duration=millis, **lossless)
    return path


def write_folder(path: Path, frames: Sequence[np.ndarray]) -> Path:
    """Names as people give them: 2 comes before 10."""
    path.mkdir(parents=True)
    for number, pixels in enumerate(frames, 1):
        Image.fromarray(pixels).save(path / f"step {number}.png")
    return path


def write_grid(path: Path, numbers: Sequence[int], cell: int = 32, gutter: int = 0) -> Path:
    """A grid whose cells, row by row, have these numbers' brightness."""
    edge = round(len(numbers) ** 0.5)
    cells = np.array(numbers, np.uint8).reshape(edge, edge) * STEP + 120
    pixels = cells.repeat(cell, 0).repeat(cell, 1)
    for boundary in range(cell, edge * cell, cell):
        pixels[boundary - gutter : boundary + gutter] = pixels[:, boundary - gutter : boundary + gutter] = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert("RGB").save(path)
    return path


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return np.asarray(image).astype(float)


def cells_of(grid: Path, frames: int = 9) -> list[np.ndarray]:
    """The cells in time order, cut out with the published order."""
    edge, pixels = round(frames**0.5), pixels_of(grid)
    size = len(pixels) // edge
    boxes = [pixels[r * size : (r + 1) * size, c * size : (c + 1) * size] for r in range(edge) for c in range(edge)]
    return [boxes[SNAKE[frames].index(frame)] for frame in range(frames)]


def numbers_of(grid: Path, frames: int = 9, black: int = 10) -> list[int]:
    found = [(cell.mean() - black) / STEP for cell in cells_of(grid, frames)]
    assert all(abs(number - round(number)) < 0.45 for number in found)
    return [round(number) for number in found]


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def source(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def make(source, tmp_path):
    """Runs the command on `source`, for the domain Portrait unless others are named; gives the output folder."""

    def run(*arguments: str, code: int = 0, released: bool = False) -> Path:
        named = released or any(text.startswith("--domain") for text in arguments)
        domain = () if named else ("--domain", "Portrait")
        assert main([str(source), "-o", str(tmp_path / "out"), *SMALL, *domain, *arguments]) == code
        return tmp_path / "out"

    return run


@pytest.mark.parametrize(
    ("name", "codec"), [("x.mp4", "libx264"), ("x.mov", "libx264"), ("x.mkv", "libx264"), ("x.webm", "libvpx-vp9")]
)
def test_frames_of_a_video(source, make, name, codec):
    write_video(source / name, numbered(33), codec)
    assert numbers_of(make() / "portrait/x.png") == EVERY_FOURTH


@pytest.mark.parametrize("name", ["x.gif", "x.webp", "x.png"])
def test_frames_of_an_animation(source, make, name):
    write_animation(source / name, numbered(33))
    assert numbers_of(make() / "portrait/x.png") == EVERY_FOURTH


def test_frames_of_a_folder_come_in_the_order_of_their_numbers(source, make):
    write_folder(source / "x", numbered(33))
    (source / "x/notes.md").write_text("not a picture")
    assert numbers_of(make() / "portrait/x.png") == EVERY_FOURTH


def test_four_frames_at_the_trained_size(source, tmp_path):
    write_folder(source / "x", numbered(10))
    assert main([str(source), "-o", str(tmp_path / "out"), "--domain", "Portrait", "--frames", "4"]) == 0
    grid = tmp_path / "out/portrait/x.png"
    assert pixels_of(grid).shape == (1024, 1024, 3)
    assert numbers_of(grid, frames=4) == [0, 3, 6, 9]
    text = grid.with_name("x.caption").read_text()
    assert text == "2*2 of 4 sub-images, step-by-step portrait painting process, x\n"


def test_nine_frames_at_the_trained_size(source, tmp_path):
    write_folder(source / "x", numbered(9))
    assert main([str(source), "-o", str(tmp_path / "out"), "--domain", "Portrait"]) == 0
    assert pixels_of(tmp_path / "out/portrait/x.png").shape == (1056, 1056, 3)


def test_reverse(source, make):
    write_folder(source / "x", numbered(33))
    write_grid(source / "y.png", [0, 1, 2, 5, 4, 3, 6, 7, 8])
    out = make("--reverse")
    assert numbers_of(out / "portrait/x.png") == EVERY_FOURTH[::-1]
    assert numbers_of(out / "portrait/y.png", black=120) == list(range(8, -1, -1))


def test_skipping_frames(source, make):
    write_video(source / "x.mp4", numbered(33))
    write_folder(source / "y", numbered(33))
    out = make("--skip-start", "5", "--skip-end", "11")
    assert numbers_of(out / "portrait/x.png") == [5, 7, 9, 11, 13, 15, 17, 19, 21]
    assert numbers_of(out / "portrait/y.png") == [5, 7, 9, 11, 13, 15, 17, 19, 21]


def test_skipping_seconds(source, make):
    # 25 frames per second; the others hold their first frame for one second, and another one near their end for three.
    write_video(source / "even.mp4", numbered(33))
    uneven = [0, *range(1000, 1000 + 40 * 17, 40), 5000, 5100, 5200]
    write_video(source / "uneven.mkv", numbered(21), millis=uneven)
    write_animation(source / "moving.gif", numbered(21), [*np.diff(uneven).tolist(), 100])
    write_folder(source / "no clock", numbered(33))
    out = make("--skip-start", "0.18s", "--skip-end", "0.42s")
    assert numbers_of(out / "portrait/even.png") == [5, 7, 9, 11, 13, 15, 17, 19, 21]
    assert numbers_of(out / "portrait/uneven.png") == [1, 3, 5, 7, 9, 11, 13, 15, 17]
    assert numbers_of(out / "portrait/moving.png") == [1, 3, 5, 7, 9, 11, 13, 15, 17]
    assert numbers_of(out / "portrait/no clock.png") == EVERY_FOURTH


def test_picking_by_change_leaves_still_stretches_out(source, make):
    frames = numbered(17)
    held = [frame for number, frame in enumerate(frames) for _ in range(20 if number in (0, 3, 16) else 1)]
    write_video(source / "x.mp4", held)
    write_animation(source / "y.gif", held)
    write_folder(source / "z", held)
    out = make("--pick", "change")
    for name in "xyz":
        assert numbers_of(out / f"portrait/{name}.png") == list(range(0, 17, 2))
    assert numbers_of(make() / "portrait/x.png") != list(range(0, 17, 2))


def growing(amounts: Sequence[float]) -> list[np.ndarray]:
    """Thumbnails of a white page that fills with black row by row, each up to its amount (0..1)."""
    pixels = np.arange(64 * 64).reshape(64, 64)
    return [np.where(pixels < amount * 64 * 64, 0, 255).astype(np.uint8) for amount in amounts]


def frames_of(thumbnails: Sequence[np.ndarray]) -> list[Frame]:
    return [Frame(None, lambda: Image.new("RGB", (1, 1)), lambda t=t: t) for t in thumbnails]


def test_steps_of_equal_change_whatever_the_speed():
    amounts = np.linspace(0, 1, 200) ** 4
    chosen = Picking(by_change=True).choose(frames_of(growing(amounts)), 9)
    steps = np.diff(amounts[chosen])
    assert (chosen[0], chosen[-1]) == (0, 199)
    assert np.abs(steps - 1 / 8).max() < 0.02
    evenly = Picking().choose(frames_of(growing(amounts)), 9)
    assert np.abs(np.diff(amounts[evenly]) - 1 / 8).max() > 0.2


def test_a_hand_is_not_change_and_is_kept_out_of_the_grid():
    amounts = np.linspace(0, 1, 200) ** 4
    thumbnails = growing(amounts)
    rng = np.random.default_rng(0)
    hands = np.flatnonzero(rng.random(200) < 0.3)
    hands = hands[(hands > 0) & (hands < 199)]
    for frame in hands:
        top, left = rng.integers(0, 44, 2)
        thumbnails[frame] = thumbnails[frame].copy()
        thumbnails[frame][top : top + 20, left : left + 20] = 128
    chosen = Picking(by_change=True).choose(frames_of(thumbnails), 9)
    assert not set(chosen) & set(hands.tolist())
    assert np.abs(np.diff(amounts[chosen]) - 1 / 8).max() < 0.05


def noisy(amounts: Sequence[float]) -> list[Frame]:
    """As a codec might show them: one pixel in a hundred is off by one."""
    rng = np.random.default_rng(0)
    return frames_of([page ^ (rng.random((64, 64)) < 0.01).astype(np.uint8) for page in growing(amounts)])


def test_noise_is_not_change():
    amounts = np.concatenate((np.zeros(400), np.linspace(0, 1, 41), np.ones(400)))
    chosen = Picking(by_change=True).choose(noisy(amounts), 9)
    assert np.abs(np.diff(amounts[chosen]) - 1 / 8).max() < 0.03
    with pytest.raises(ValueError, match="3 of the 9 different frames"):
        Picking(by_change=True).choose(noisy([0] * 50 + [0.5] * 50 + [1] * 50), 9)


def test_repainting_over_and_over_is_seen_as_change():
    """Every picture differs from every other by as much: equal steps are steps of equal numbers of pictures."""
    rng = np.random.default_rng(0)
    stages = [rng.integers(0, 256, (64, 64)).astype(np.uint8) for _ in range(9)]
    held = [stage for number, stage in enumerate(stages) for _ in range(10 + 7 * number)]
    chosen = spread_change(np.stack(held), 9)
    assert [next(n for n, stage in enumerate(stages) if stage is held[place]) for place in chosen] == list(range(9))


def test_memory_stays_flat_however_long_the_video(monkeypatch):
    monkeypatch.setattr(picking, "MOST", 64)
    amounts = np.linspace(0, 1, 5000) ** 2
    alive = [0, 0]

    class Thumbnail(np.ndarray):
        def __array_finalize__(self, other: object) -> None:
            alive[0] += 1
            alive[1] = max(alive)

        def __del__(self) -> None:
            alive[0] -= 1

    made = (Frame(None, lambda: Image.new("RGB", (1, 1)), lambda a=a: growing([a])[0].view(Thumbnail)) for a in amounts)
    thumbnails = picking.Thumbnails()
    for index, frame in enumerate(made):
        thumbnails.add(frame, index)
    assert 32 < alive[1] <= 64 + 2
    chosen = thumbnails.choose(range(5000), 9)
    assert (chosen[0], chosen[-1]) == (0, 4999)
    assert np.abs(np.diff(amounts[chosen]) - 1 / 8).max() < 0.04
    middle = thumbnails.choose(range(1001, 4001), 9)
    assert (middle[0], middle[-1]) == (1001, 4000)
    assert np.abs(np.diff(amounts[middle]) - np.diff(amounts[middle]).mean()).max() < 0.04


def test_too_few_and_too_similar_frames_are_refused():
    with pytest.raises(ValueError, match="8 of the 9 frames"):
        Picking().choose(frames_of(growing(np.linspace(0, 1, 8))), 9)
    with pytest.raises(ValueError, match="0 of the 9 frames that a grid holds, after skipping 20"):
        Picking(skip_start=Skip(15), skip_end=Skip(15)).choose(frames_of(growing(np.linspace(0, 1, 20))), 9)
    with pytest.raises(ValueError, match="it changes too little: 3 of the 9 different frames"):
        Picking(by_change=True).choose(frames_of(growing([0] * 20 + [0.5] * 20 + [1] * 20)), 9)
    # Of exactly nine, none can be left out, however alike they are.
    assert Picking(by_change=True).choose(frames_of(growing([0] * 9)), 9) == list(range(9))


@pytest.mark.parametrize("text", ["", "s", "-1", "1.5", "5m", "1e3s", "nan"])
def test_wrong_skips_are_refused(text):
    with pytest.raises(ValueError, match="such as 90 or 2.5s"):
        Skip.parse(text)


def test_skips_are_read():
    assert Skip.parse("90") == Skip(90)
    assert Skip.parse("2.5s") == Skip(2.5, in_seconds=True)


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


def test_a_finished_grid_goes_through_to_the_bit(source, make):
    rng = np.random.default_rng(0)
    grid = rng.integers(0, 256, (96, 96, 3), np.uint8)
    grid[30:34] = grid[:, 62:66] = 0
    Image.fromarray(grid).save(source / "x.png")
    assert np.array_equal(pixels_of(make("--keep-gutters") / "portrait/x.png"), grid)


def test_grids_of_other_sizes_orders_and_with_gutters(source, make):
    write_grid(source / "a.png", [0, 1, 2, 5, 4, 3, 6, 7, 8], gutter=2)
    write_grid(source / "b.png", [0, 1, 2, 5, 4, 3, 6, 7, 8], cell=61)
    Image.open(source / "b.png").resize((185, 182)).save(source / "b.png")
    out = make()
    for name in ("a", "b"):
        cells = cells_of(out / f"portrait/{name}.png")
        assert [round((cell[8:-8, 8:-8].mean() - 120) / STEP) for cell in cells] == list(range(9))
    assert min(cell.min() for cell in cells_of(out / "portrait/a.png")) >= 118, "no dark lines"
    kept = make("--keep-gutters")
    assert min(cell.min() for cell in cells_of(kept / "portrait/a.png")) == 0


def test_grids_in_row_major_order(source, make):
    write_grid(source / "x.png", range(9))
    write_video(source / "y.mp4", numbered(33))
    out = make("--order", "rows")
    assert numbers_of(out / "portrait/x.png", black=120) == list(range(9))
    assert numbers_of(out / "portrait/y.png") == EVERY_FOURTH
    assert numbers_of(make() / "portrait/x.png", black=120) == [0, 1, 2, 5, 4, 3, 6, 7, 8]


def test_row_major_grids_of_four(source, make):
    write_grid(source / "x.png", range(4))
    out = make("--order", "rows", "--frames", "4")
    assert numbers_of(out / "portrait/x.png", frames=4, black=120) == list(range(4))


def test_the_authors_dataset(source, make):
    """Grids and captions of several domains side by side, numbered as the released heads are."""
    form = "3*3 of 9 sub-images, step-by-step"
    for name, caption in {
        "portrait_001": f"{form} portrait painting process, 1 girl --lora_up 6",
        "lego_001": f"{form} LEGO model building process, a castle --lora_up_cur 1",
        "clay_001": "2*2 of 4 sub-images, step-by-step clay toy making process, a dog --lora_up 11",
        "unsaid_001": f"{form} portrait painting process, 1 boy",
        "wrong_001": f"{form} oil painting process, a sea --lora_up 18",
        "far_001": "a sea --lora_up 99",
    }.items():
        write_grid(source / f"{name}.png", range(4) if "2*2" in caption else range(9))
        (source / f"{name}.caption").write_text(caption + "\n")
    out = make(released=True)
    assert (out / "portrait/portrait_001.caption").read_text() == f"{form} portrait painting process, 1 girl\n"
    assert (out / "lego/lego_001.caption").read_text() == f"{form} LEGO model building process, a castle\n"
    assert numbers_of(out / "clay_toys/clay_001.png", frames=4, black=120) == [0, 1, 3, 2]
    skipped = (out / "skipped.txt").read_text()
    assert "unsaid_001.png: put it into a folder with the name of its domain" in skipped
    assert "wrong_001.png: its caption says 3*3 of 9 sub-images, but Oil painting has grids of 4" in skipped
    assert "far_001.png: there is no domain 99: the numbers go from 1 to 21" in skipped
    assert len(skipped.splitlines()) == 3
    make("--lora-up", released=True)
    assert (out / "portrait/portrait_001.caption").read_text().endswith("process, 1 girl --lora_up_cur 6\n")
    assert (out / "clay_toys/clay_001.caption").read_text().endswith("process, a dog --lora_up_cur 11\n")


def test_a_folder_for_each_domain(source, make):
    (source / "sand_art").mkdir()
    write_video(source / "sand_art/a castle.mp4", numbered(9))
    write_folder(source / "Origami/crane 2", numbered(9))
    (source / "Origami/crane 2/caption.txt").write_text("a paper crane --lora_up 9")
    write_folder(source / "Orgami/frog", numbered(9))
    out = make("--domains", "Sand art;Origami:4:origami folding")
    assert (out / "sand_art/a castle.caption").read_text().endswith("step-by-step sand art process, a castle\n")
    text = (out / "origami/crane 2.caption").read_text()
    assert text == "2*2 of 4 sub-images, step-by-step origami folding process, a paper crane\n"
    assert "no domain 'Orgami': did you mean 'Origami'?" in (out / "skipped.txt").read_text()
    config = toml.loads((out / "dataset.toml").read_text())
    assert config == {
        "datasets": [
            {
                "resolution": 96,
                "batch_size": 2,
                "enable_bucket": False,
                "subsets": [
                    {
                        "image_dir": (out / folder).resolve().as_posix(),
                        "caption_extension": ".caption",
                        "num_repeats": 1,
                        "custom_attributes": {"domain": name},
                    }
                    for folder, name in (("origami", "Origami"), ("sand_art", "Sand art"))
                ],
            }
        ]
    }


def test_the_toml_has_a_dataset_for_each_size(source, tmp_path):
    for name in ("a", "b"):
        (source / name).mkdir()
        write_grid(source / name / "x.png", range(9) if name == "a" else range(4))
    domains = tmp_path / "domains.json"
    entries = '[{"name": "A", "frames": 9, "process": "p"}, {"name": "B", "frames": 4, "process": "q"}]'
    domains.write_text(entries)
    arguments = [str(source), "-o", str(tmp_path / "out"), "--domains", str(domains), "--captions", ".txt"]
    assert main([*arguments, "--repeats", "3", "--batch-size", "1"]) == 0
    config = toml.loads((tmp_path / "out/dataset.toml").read_text())
    assert [(d["resolution"], d["batch_size"], len(d["subsets"])) for d in config["datasets"]] == [
        (1056, 1, 1),
        (1024, 1, 1),
    ]
    assert [d["subsets"][0]["num_repeats"] for d in config["datasets"]] == [3, 3]
    assert [d["subsets"][0]["caption_extension"] for d in config["datasets"]] == [".txt", ".txt"]
    assert (tmp_path / "out/a/x.txt").exists()


def test_grids_that_are_not_square(source, make, tmp_path):
    """The same prompt in 2 rows of 3 and then in 3 rows of 2: made anew, at another size."""
    write_folder(source / "x", numbered(6))
    domains = tmp_path / "domains.json"
    for rows, cols, height, rows_of_numbers in (
        (2, 3, 64, [[0, 1, 2], [5, 4, 3]]),
        (3, 2, 144, [[0, 1], [3, 2], [4, 5]]),
    ):
        entry = f'{{"name": "Comic", "rows": {rows}, "cols": {cols}, "prompt": "a comic of {{subject}}"}}'
        domains.write_text(f"[{entry}]")
        out = make("--domain", str(domains))
        pixels = pixels_of(out / "comic/x.png")
        assert pixels.shape == (height, 96, 3)
        cell = 96 // cols
        middles = pixels[cell // 2 :: cell, cell // 2 :: cell, 0]
        assert ((middles - 10) / STEP).round().tolist() == rows_of_numbers
        (dataset,) = toml.loads((out / "dataset.toml").read_text())["datasets"]
        assert dataset["resolution"] == [96, height]


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--domain", "Potrait"], "did you mean 'Portrait'?"),
        (["--domain", "Portrait;Sketch"], "--domain is one domain, got 2"),
        (["--domains", "A:9:x;a:9:y"], "these domains would share a folder: A, a"),
        (["--size", "100"], "a 3x3 grid can't be 100 px wide"),
        (["--size", "100"], "the nearest width is 96"),
        (["--size", "-96"], "can't be -96 px wide"),
        (["--frames", "5"], "5 frames do not fill a square grid"),
    ],
)
def test_wrong_commands_say_what_is_wrong(source, make, capsys, arguments, message):
    write_folder(source / "a", numbered(9))
    assert files_in(make(*arguments, code=2)) == []
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--skip-start", "5m"], ["--batch-size", "0"], ["--repeats", "x"], ["--pick", "?"]]
)
def test_wrong_values_end_with_the_usage(source, make, capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        make(*arguments)
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_wrong_folders(source, tmp_path, capsys):
    file = write_grid(tmp_path / "x.png", range(9))
    for wrong, output, message in (
        (tmp_path / "nowhere", tmp_path / "out", "there is no folder"),
        (source, file, "is a file"),
        (source, source, "lie in each other"),
        (source, source / "out", "lie in each other"),
        (source, tmp_path, "lie in each other"),
    ):
        assert main([str(wrong), "-o", str(output), "--domain", "Portrait"]) == 2
        assert message in capsys.readouterr().err


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


def reasons(out: Path, source: Path) -> dict[str, str]:
    lines = (out / "skipped.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.removeprefix(f"{source}/").split(": ", 1) for line in lines)


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
