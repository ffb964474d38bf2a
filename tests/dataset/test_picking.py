"""Which frames of a sequence a grid is made of."""

import numpy as np
import pytest
from PIL import Image

from tests.dataset.making import (
    EVERY_FOURTH,
    frames_of,
    growing,
    noisy,
    numbered,
    numbers_of,
    pixels_of,
    write_animation,
    write_folder,
    write_grid,
    write_video,
)
from training.data import picking
from training.data.picking import Picking, Skip, spread_change
from training.data.sources import Frame
from training.make_dataset import main


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
