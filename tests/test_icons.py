"""Icons as subjects: three drawings of our own, in the form in which Iconify packs icons."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from demo import render
from demo.scenes import domains, icons, subjects
from demo.scenes.domains import Scene
from makeanything import pictures, serpentine
from makeanything.serpentine import Layout
from training import make_dataset

FOLDER = Path(__file__).parent / "data/icons"


@pytest.fixture
def known(monkeypatch):
    """The subjects with ours in use, for one test."""
    monkeypatch.setattr(subjects, "_known", dict(subjects._known))
    monkeypatch.setattr(subjects, "_folders", [])
    subjects.use(FOLDER)


def test_an_icon_comes_apart_into_its_elements():
    house = icons.load(FOLDER)["house"]
    assert house.colours.tolist() == [[184, 204, 224], [90, 104, 120], [184, 204, 224], [140, 90, 60], [255, 215, 90]]
    # The two parts of one colour are one tone; a part stays whole under those that lie on it.
    assert len(house.tones("")) == 5
    assert house.masks[0].sum() > (house.master == 1).sum()


def test_an_icon_stands_on_the_ground_and_fills_its_square():
    for name, drawing in icons.load(FOLDER).items():
        shape = drawing.masks.any(0)
        rows, columns = (np.flatnonzero(shape.any(axis)) for axis in (1, 0))
        assert rows[-1] == len(shape) - 1, name
        assert max(np.ptp(rows), np.ptp(columns)) >= 0.97 * len(shape), name
        assert abs(columns[0] - (len(shape) - 1 - columns[-1])) <= 1, name


def test_a_colour_takes_what_goes_with_the_largest_part():
    balloon = icons.load(FOLDER)["balloon"]
    string, skin, knot, shine = balloon.painted("blue")
    assert string.tolist() == [110, 110, 120]
    assert skin.tolist() == knot.tolist() == list(domains.COLOURS["blue"])
    assert shine[2] > shine[0] and shine.sum() > skin.sum()
    snowman = icons.load(FOLDER)["snowman"]
    assert snowman.painted("green")[0].tolist() == list(domains.COLOURS["green"])  # a white one turns green
    assert snowman.painted("green")[3].tolist() == [255, 140, 40]  # its nose does not


def test_groups_hand_their_fill_down():
    body = '<g fill="#ff0000"><g><rect x="4" y="4" width="24" height="24"/></g></g>'
    assert icons.Icon(body, (32, 32)).colours.tolist() == [[255, 0, 0]]


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("process", [p.name for p in domains.PROCESSES if p.icons])
def test_every_process_makes_icons(process):
    made = domains.process(process)
    assert {"house", "balloon", "snowman"} <= set(domains.subjects_of(made))
    for colour in ("", "green"):
        frames = domains.draw(Scene(process, "snowman", colour, "big", 3), 9, 64)
        last = frames[-1].astype(float)
        assert (np.diff(((frames - last) ** 2).mean((1, 2, 3))) < 0).all(), (process, colour)


@pytest.mark.usefixtures("known")
def test_prompts_name_a_colour_or_leave_the_icon_its_own():
    rng = np.random.default_rng(0)
    scenes = [domains.random_scene(rng, "Emoji") for _ in range(300)]
    plain = [scene for scene in scenes if not scene.colour]
    assert plain and {scene.subject for scene in plain} <= {"house", "balloon", "snowman"}
    assert domains.prompt(Scene("Emoji", "house", "", "big"), Layout(1, 1)) == "a big house, emoji drawing"
    assert domains.read_scene("Emoji", "a big red house").subject == "house"
    # An icon takes the place of our own drawing of the same name.
    assert isinstance(subjects.find("house"), icons.Icon) and not isinstance(subjects.find("cat"), icons.Icon)


def test_folders_that_are_no_package(tmp_path):
    with pytest.raises(ValueError, match=r"no icons.json in .*@iconify-json/fluent-emoji-flat"):
        icons.load(tmp_path)
    (tmp_path / "icons.json").write_text(json.dumps({"icons": {"other": {"body": ""}}}))
    with pytest.raises(ValueError, match="none of the icons that FLUX-nano knows"):
        icons.load(tmp_path)


def test_words_are_unique():
    words = [icons.word(name) for name in icons.NAMES]
    assert len(set(words)) == len(words) and set(words) >= icons.UNSEEN and set(icons.SHORT) <= set(icons.NAMES)


def test_rendered_sequences_become_a_dataset(tmp_path, monkeypatch):
    """What `demo.render` writes, `training.make_dataset` takes: frames in order, and what is made."""
    arguments = [str(tmp_path / "in"), "--icons", str(FOLDER), "--count", "3", "--size", "64", "--domain", "Emoji"]
    monkeypatch.setattr(sys, "argv", ["render", *arguments])
    monkeypatch.setattr(subjects, "_known", dict(subjects._known))
    monkeypatch.setattr(subjects, "_folders", [])
    assert render.main() == 0
    options = ["--domain", "Emoji:9:emoji drawing", "--pick", "even", "--size", "192", "-o", str(tmp_path / "out")]
    assert make_dataset.main([str(tmp_path / "in"), *options]) == 0
    for folder in (tmp_path / "in").iterdir():
        assert any(name in folder.name for name in ("house", "balloon", "snowman"))
        caption = (folder / "caption.txt").read_text(encoding="utf-8")
        (grid,) = (path for path in (tmp_path / "out").rglob("*.png") if folder.name in path.name)
        assert caption in grid.with_suffix(".caption").read_text(encoding="utf-8")
        drawn = serpentine.split(pictures.read(grid)[None], Layout.of(9))[0]
        for number, frame in enumerate(drawn, 1):
            true = pictures.read(folder / f"{number:02d}.png")
            assert (frame - true).abs().max() < 0.02, number
