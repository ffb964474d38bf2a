"""The synthetic domains: what a scene promises, its frames keep."""

import dataclasses
import itertools

import numpy as np
import pytest

from demo.scenes.domains import (
    COLOURS,
    PROCESSES,
    SIZES,
    Scene,
    all_subjects,
    backdrop,
    draw,
    finished,
    process,
    random_scene,
    read_scene,
)

NAMES = [p.name for p in PROCESSES]
LAYOUTS = [(9, 64), (4, 96)]


def scenes(name: str, count: int, held_out: bool = False) -> list[Scene]:
    rng = np.random.default_rng([NAMES.index(name), held_out])
    return [random_scene(rng, name, held_out) for _ in range(count)]


def every_subject(name: str) -> list[Scene]:
    """Each subject once, colours and sizes taking turns."""
    colours, sizes = list(COLOURS), list(SIZES)
    return [Scene(name, s, colours[i * 3 % 8], sizes[i % 2], i) for i, s in enumerate(process(name).subjects)]


def far(image: np.ndarray, other: np.ndarray, least: int = 40) -> np.ndarray:
    """Pixels that differ visibly, bool (s, s)."""
    return abs(image.astype(int) - other).max(axis=-1) > least


def remaining(name: str, frames: np.ndarray) -> np.ndarray:
    """What is left to do at each frame, (n,): it must fall to 0.

    For pictures that arrive pixel by pixel, the share of pixels not yet final; for Tree, whose leaves hide wood that
    came before, the share that nothing has touched yet; for Painting and Clay, which change the whole subject at each
    step, the mean squared distance to the finished picture.
    """
    distance = (frames.astype(float) - frames[-1]) ** 2
    if name in ("Painting", "Clay"):
        return distance.mean(axis=(1, 2, 3))
    if name == "Tree":
        bare = (frames == backdrop(name, frames.shape[1])).all(axis=3)
        return (bare & ~bare[-1]).mean(axis=(1, 2))
    return (distance.max(axis=3) > 0).mean(axis=(1, 2))


def falls(values: np.ndarray) -> bool:
    return bool((np.diff(values) < 0).all() and values[-1] == 0)


def test_names_are_unique_and_order_is_kept():
    assert NAMES == [
        "Bricks",
        "Line drawing",
        "Colouring",
        "Mosaic",
        "Tree",
        "Rings",
        "Painting",
        "Lettering",
        "Clay",
        "Carving",
        "Emoji",
    ]
    assert len({p.phrase for p in PROCESSES}) == len(PROCESSES)
    subjects = all_subjects()
    assert len(set(subjects)) == len(subjects) and set(subjects) == {s for p in PROCESSES for s in p.subjects}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("frames", "size"), [(1, 64), (4, 96), (9, 64), (5, 50)])
def test_shape_and_determinism(name, frames, size):
    scene = scenes(name, 1)[0]
    once = draw(scene, frames, size)
    assert once.shape == (frames, size, size, 3) and once.dtype == np.uint8
    draw(dataclasses.replace(scene, seed=scene.seed + 1), frames, size)
    assert np.array_equal(once, draw(scene, frames, size))


@pytest.mark.parametrize("name", NAMES)
def test_seed_moves_the_subject_only_a_little(name):
    scene = scenes(name, 1)[0]
    a, b = (finished(dataclasses.replace(scene, seed=s), 64) for s in (1, 2))
    moved = far(a, b).mean()
    assert 0 < moved < 0.35


@pytest.mark.parametrize("name", NAMES)
def test_last_frame_is_the_finished_picture_for_every_count(name):
    for scene in scenes(name, 2):
        for frames in (1, 2, 4, 7, 9):
            assert np.array_equal(draw(scene, frames, 64)[-1], finished(scene, 64))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("frames", "size"), LAYOUTS)
def test_every_step_adds(name, frames, size):
    for scene in every_subject(name):
        steps = draw(scene, frames, size)
        assert falls(remaining(name, steps)), scene
        assert far(steps[0], backdrop(name, size), 15).any(), scene  # frame 1 shows something
        assert not falls(remaining(name, steps[[1, 0, *range(2, frames)]])), scene  # and the measure sees a swap


def test_steps_go_where_the_process_says():
    """The middle of what each step adds: upwards for bricks, down-right for colouring, outwards for mosaic."""
    y, x = np.mgrid[:64, :64]
    ways = {"Bricks": -y, "Colouring": x + y, "Mosaic": np.hypot(x - 32, y - 32)}
    for name, way in ways.items():
        for subject in ("house", "star", "fish", "car"):
            steps = draw(Scene(name, subject, "red", "big", 3), 4, 64)
            middles = [way[far(a, b)].mean() for a, b in itertools.pairwise(steps)]
            assert (np.diff(middles) > 0).all(), (name, subject)


def test_carving_takes_away():
    empty = backdrop("Carving", 64)
    for scene in scenes("Carving", 5):
        left = [far(frame, empty, 15).sum() for frame in draw(scene, 9, 64)]
        assert (np.diff(left) <= 0).all() and left[-1] < 0.8 * left[0]


def test_processes_differ_half_way():
    """The middle frame is nearest to that of another seed of the same process, for one subject and colour."""
    names = [n for n in NAMES if "star" in process(n).subjects]
    middle = {n: [draw(Scene(n, "star", "blue", "big", s), 9, 64)[4].astype(float) for s in (1, 2)] for n in names}
    for name in names:
        gaps = {n: abs(middle[name][0] - middle[n][1]).mean() for n in names}
        assert min(gaps, key=gaps.get) == name
        assert sorted(gaps.values())[1] > 1.2 * gaps[name]


@pytest.mark.parametrize("name", NAMES)
def test_the_colour_asked_for_dominates(name):
    palette = np.array(list(COLOURS.values()))
    empty = backdrop(name, 64)
    for subject in process(name).subjects[::3]:
        for i, colour in enumerate(COLOURS):
            image = finished(Scene(name, subject, colour, "big", i), 64)
            angle = hue(image[far(image, empty)].mean(axis=0))
            gaps = abs((hue(palette) - angle + 180) % 360 - 180)
            assert gaps.argmin() == i, (subject, colour, gaps.round())


def hue(rgb: np.ndarray) -> np.ndarray:
    """Hue in degrees, which shades, tints and ink leave nearly as it is."""
    r, g, b = np.moveaxis(np.asarray(rgb, float), -1, 0)
    return np.degrees(np.arctan2(np.sqrt(3) * (g - b), 2 * r - g - b))


@pytest.mark.parametrize("name", NAMES)
def test_big_is_bigger_than_small(name):
    empty = backdrop(name, 64)
    small, big = (far(finished(dataclasses.replace(scenes(name, 1)[0], size=s), 64), empty).sum() for s in SIZES)
    assert big > 1.5 * small


@pytest.mark.parametrize("name", NAMES)
def test_caption_round_trip(name):
    for scene in every_subject(name):
        assert read_scene(name, scene.caption, scene.seed) == scene
        assert name.lower() not in scene.caption and process(name).phrase not in scene.caption


def test_read_scene_fills_gaps_and_takes_free_text():
    assert read_scene("Clay", "Draw a CAT please!") == Scene("Clay", "cat", "blue", "big", 0)
    assert read_scene("Lettering", "the letter a, in small, teal") == Scene("Lettering", "letter A", "teal", "small", 0)
    assert read_scene("Bricks", "a carpet shape, a star shape, a cat").subject == "star"


def test_errors_name_what_is_known():
    with pytest.raises(ValueError, match="zeppelin.*house.*crown"):
        read_scene("Bricks", "a big zeppelin")
    with pytest.raises(ValueError, match="oak.*bonsai"):
        read_scene("Tree", "a house")
    for call in (lambda: process("Lego"), lambda: read_scene("Lego", "a house")):
        with pytest.raises(ValueError, match="Lego.*Bricks.*Carving"):
            call()
    with pytest.raises(ValueError, match="0 frames"):
        draw(scenes("Bricks", 1)[0], 0, 64)


@pytest.mark.parametrize("name", NAMES)
def test_held_out_subjects_stay_out_of_training(name):
    known = process(name)
    assert all(known.holds_out(subject) == (subject in known.held_out) for subject in known.subjects)
    assert 0 < len(known.held_out) < len(known.subjects) and set(known.held_out) <= set(known.subjects)
    assert {s.subject for s in scenes(name, 300)} == set(known.subjects) - set(known.held_out)
    assert {s.subject for s in scenes(name, 60, held_out=True)} == set(known.held_out)


def test_random_scenes_cover_everything_and_repeat_with_the_seed():
    drawn = [random_scene(np.random.default_rng(5)) for _ in range(2)]
    assert drawn[0] == drawn[1]
    rng = np.random.default_rng(0)
    many = [random_scene(rng) for _ in range(300)]
    assert {s.process for s in many} == set(NAMES)
    assert {s.colour for s in many} == set(COLOURS) and {s.size for s in many} == set(SIZES)


def test_a_held_out_silhouette_is_trained_in_other_processes():
    for known in PROCESSES:
        for subject in set(known.held_out) - set(process("Tree").subjects) - set(process("Lettering").subjects):
            assert any(subject in p.subjects and subject not in p.held_out for p in PROCESSES)
