"""Sequences in time: closed-form timelines, and saved animations read back with Pillow."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont
from torch import Tensor

from makeanything import pictures
from makeanything.animations import save_gif, save_webp
from makeanything.contact_sheet import INK, PAPER, contact_sheet, wrap
from makeanything.sequence import timeline
from makeanything.serpentine import Layout, split_trimmed
from tests.draw_grids import FOLDER

WORKFLOW = {"prompt": '{"1": "\\u00e9"}', "workflow": '{"nodes": "' + 3000 * "x" + '"}'}


def greys(*values: float, height: int = 2, width: int = 3) -> Tensor:
    """One flat frame a value."""
    return torch.tensor(values).reshape(-1, 1, 1, 1).expand(-1, height, width, 3).contiguous()


def played(frames: Tensor, *arguments, **options) -> tuple[list[float], float]:
    """A timeline of flat frames as numbers, and its rate."""
    result = timeline(frames, *arguments, **options)
    assert torch.equal(result.frames.amin((1, 2, 3)), result.frames.amax((1, 2, 3)))
    return [round(value, 5) for value in result.frames[:, 0, 0, 0].tolist()], result.fps


def shots(path: Path) -> tuple[np.ndarray, list[int]]:
    """(N, h, w, 3) bytes and the milliseconds of each frame of an animation, as Pillow reads them."""
    with Image.open(path) as image:
        frames, durations = [], []
        for number in range(image.n_frames):
            image.seek(number)
            frames.append(np.asarray(image.convert("RGB")))
            durations.append(int(image.info["duration"]))
    return np.stack(frames), durations


@pytest.fixture(scope="module")
def painting() -> Tensor:
    return split_trimmed(pictures.read(FOLDER / "painting.9.png")[None], Layout.of(9))[0]


class TestTimeline:
    def test_plays_frames_as_they_are(self):
        assert played(greys(0.1, 0.2, 0.3), 2.0) == ([0.1, 0.2, 0.3], 2.0)

    def test_holds_the_last(self):
        assert played(greys(0.1, 0.2), 2.0, hold_last=1.5) == ([0.1, 0.2, 0.2, 0.2, 0.2], 2.0)

    def test_ping_pong_repeats_without_doubled_ends(self):
        once, _ = played(greys(0.1, 0.2, 0.3, 0.4), 2.0, ping_pong=True)
        assert once == [0.1, 0.2, 0.3, 0.4, 0.3, 0.2]
        twice = once + once
        assert all(now != after for now, after in pairwise(twice))

    @pytest.mark.parametrize("values", [(0.5,), (0.1, 0.9)])
    def test_ping_pong_of_one_and_two(self, values):
        assert played(greys(*values), 2.0, ping_pong=True) == (list(values), 2.0)

    def test_ping_pong_holds_at_the_turn(self):
        assert played(greys(0.1, 0.2, 0.3), 1.0, hold_last=2, ping_pong=True)[0] == [0.1, 0.2, 0.3, 0.3, 0.3, 0.2]

    def test_crossfade_is_linear(self):
        """At 6 fps every frame is played 4 times at 24 fps: 2 still and 2 blended."""
        values, rate = played(greys(0.0, 0.9), 6.0, crossfade=0.5)
        assert rate == 24
        assert values == [0, 0, 0.3, 0.6, 0.9, 0.9, 0.9, 0.9]

    def test_crossfade_goes_round_in_ping_pong_only(self):
        values, _ = played(greys(0.0, 0.4), 6.0, crossfade=1.0, ping_pong=True)
        assert values == [0, 0.1, 0.2, 0.3, 0.4, 0.3, 0.2, 0.1]
        values, _ = played(greys(0.0, 0.4), 6.0, crossfade=1.0)
        assert values == [0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.4]

    @pytest.mark.parametrize("fps", [0.7, 2.0, 5.0, 23.0, 24.0, 30.0])
    @pytest.mark.parametrize("crossfade", [0.0, 0.3, 1.0])
    def test_time_is_right(self, fps, crossfade):
        frames, rate = timeline(greys(0, 0.5, 1), fps, hold_last=2.0, crossfade=crossfade)
        assert len(frames) / rate == pytest.approx(3 / fps + 2, abs=0.5 / rate)
        assert not crossfade or rate >= 24

    def test_first_and_last_are_exact(self):
        frames = torch.rand(3, 4, 5, 3)
        out = timeline(frames, 2.0, crossfade=1.0).frames
        assert torch.equal(out[0], frames[0])
        assert torch.equal(out[-1], frames[2])

    def test_transparency_becomes_white(self):
        clear = torch.tensor([0.2, 0.4, 0.6, 0.5]).expand(1, 2, 2, 4)
        assert torch.allclose(timeline(clear, 1.0).frames[0, 0, 0], torch.tensor([0.6, 0.7, 0.8]))

    @pytest.mark.parametrize(
        ("frames", "options", "says"),
        [
            (torch.zeros(0, 2, 2, 3), {"fps": 1.0}, r"\(0, 2, 2, 3\)"),
            (torch.zeros(2, 2, 3), {"fps": 1.0}, r"\(2, 2, 3\)"),
            (torch.zeros(1, 2, 2, 3), {"fps": 0.0}, r"fps must be from 0\.1 to 240\.0, got 0\.0"),
            (torch.zeros(1, 2, 2, 3), {"fps": 1e-12}, r"fps must be from 0\.1 to 240\.0, got 1e-12"),
            (torch.zeros(1, 2, 2, 3), {"fps": float("nan")}, "fps must be a finite number"),
            (
                torch.zeros(1, 2, 2, 3),
                {"fps": 1.0, "hold_last": -1.0},
                r"hold_last must be from 0\.0 to 60\.0, got -1\.0",
            ),
            (
                torch.zeros(1, 2, 2, 3),
                {"fps": 1.0, "hold_last": 9e18},
                r"hold_last must be from 0\.0 to 60\.0, got 9e\+18",
            ),
            (torch.zeros(1, 2, 2, 3), {"fps": 1.0, "crossfade": 1.5}, r"crossfade must be from 0\.0 to 1\.0, got 1\.5"),
        ],
    )
    def test_refuses(self, frames, options, says):
        with pytest.raises(ValueError, match=says):
            timeline(frames, **options)


@pytest.mark.parametrize("save", [save_gif, save_webp])
class TestSaved:
    def path(self, tmp_path, save) -> Path:
        return tmp_path / f"a.{save.__name__[5:]}"

    def test_durations(self, tmp_path, save):
        save(greys(0, 0.5, 1), self.path(tmp_path, save), 4.0, 1.5)
        frames, durations = shots(self.path(tmp_path, save))
        assert durations == [250, 250, 1750]
        assert [round(value / 255, 1) for value in frames[:, 0, 0, 0]] == [0, 0.5, 1]

    def test_rounding_does_not_add_up(self, tmp_path, save):
        """100 frames at 24 fps are 4.167 s, though GIF knows no 41.67 ms."""
        save(torch.rand(100, 16, 16, 3), self.path(tmp_path, save), 24.0)
        frames, durations = shots(self.path(tmp_path, save))
        assert len(frames) == 100
        assert sum(durations) == pytest.approx(100_000 / 24, abs=5)

    def test_too_fast_for_gif_keeps_the_time_and_the_last(self, tmp_path, save):
        frames = torch.rand(61, 16, 16, 3)
        frames[-1] = torch.tensor([0.0, 1.0, 0.0])
        save(frames, self.path(tmp_path, save), 60.0)
        frames, durations = shots(self.path(tmp_path, save))
        assert sum(durations) == pytest.approx(61_000 / 60, abs=10)
        assert min(durations) >= (20 if save is save_gif else 16)
        assert (frames[-1].mean((0, 1)) > 200).tolist() == [False, True, False]

    def test_held_frames_become_one(self, tmp_path, save):
        save(greys(0, 1, 1, 1, 1), self.path(tmp_path, save), 2.0, 0.5)
        frames, durations = shots(self.path(tmp_path, save))
        assert len(frames) == 2
        assert durations == [500, 2500]

    @pytest.mark.parametrize("loop", [True, False])
    def test_loop(self, tmp_path, save, loop):
        save(greys(0, 1), self.path(tmp_path, save), 2.0, loop=loop)
        with Image.open(self.path(tmp_path, save)) as image:
            assert image.info.get("loop") == (0 if loop else {"GIF": None, "WEBP": 1}[image.format])

    def test_single_frame(self, tmp_path, save):
        save(greys(0.5), self.path(tmp_path, save), 2.0)
        with Image.open(self.path(tmp_path, save)) as image:
            assert (image.n_frames, image.size) == (1, (3, 2))

    def test_metadata(self, tmp_path, save):
        save(greys(0, 1), self.path(tmp_path, save), 2.0, metadata=WORKFLOW)
        with Image.open(self.path(tmp_path, save)) as image:
            if save is save_gif:
                assert json.loads(image.info["comment"]) == WORKFLOW
            else:
                exif = image.getexif()
                assert exif[0x0110] == "prompt:" + WORKFLOW["prompt"]
                assert exif[0x010F] == "workflow:" + WORKFLOW["workflow"]

    def test_no_metadata(self, tmp_path, save):
        save(greys(0, 1), self.path(tmp_path, save), 2.0)
        with Image.open(self.path(tmp_path, save)) as image:
            assert not image.getexif()
            assert not image.info.get("comment")

    def test_stopping_leaves_nothing(self, tmp_path, save):
        def stop(done: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            save(greys(0, 1), self.path(tmp_path, save), 2.0, step=stop)
        assert list(tmp_path.iterdir()) == []

    def test_real_frames(self, tmp_path, save, painting):
        save(painting, self.path(tmp_path, save), 2.0, 1.0)
        frames, durations = shots(self.path(tmp_path, save))
        assert durations == [500] * 8 + [1500]
        assert np.abs(frames / 255 - painting.numpy()).mean() < 0.015


class TestGif:
    def test_frames_share_one_palette(self, tmp_path, painting):
        save_gif(painting, tmp_path / "a.gif", 2.0)
        data = (tmp_path / "a.gif").read_bytes()
        tables, frames = local_colour_tables(data)
        assert frames == 9
        assert tables == 0

    def test_what_stays_still_does_not_flicker(self, tmp_path):
        """Noise changes above and beside a photograph-like part that stays."""
        torch.manual_seed(0)
        still = torch.rand(1, 24, 24, 3)
        frames = torch.rand(5, 48, 48, 3)
        frames[:, 24:, 24:] = still
        save_gif(frames, tmp_path / "a.gif", 2.0)
        seen, _ = shots(tmp_path / "a.gif")
        assert len(seen) == 5
        assert (seen[:, 24:, 24:] == seen[:1, 24:, 24:]).all()
        assert not (seen[:, :24] == seen[:1, :24]).all()

    def test_a_small_bright_part_keeps_its_colour(self, tmp_path):
        frames = torch.full((3, 100, 100, 3), 0.5) + torch.linspace(-0.3, 0.3, 100)[None, None, :, None]
        frames[-1, :3, :3] = torch.tensor([1.0, 0.0, 0.0])
        save_gif(frames, tmp_path / "a.gif", 2.0)
        red, green, blue = shots(tmp_path / "a.gif")[0][-1, 1, 1].tolist()
        assert red > 230
        assert max(green, blue) < 25


def local_colour_tables(data: bytes) -> tuple[int, int]:
    """(colour tables that belong to one frame alone, frames) of a GIF, read block by block (GIF89a, section 20)."""

    def after_blocks(place: int) -> int:
        while data[place]:
            place += data[place] + 1
        return place + 1

    assert data[10] & 0x80
    place = 13 + 3 * 2 ** ((data[10] & 7) + 1)
    tables = frames = 0
    while data[place] != 0x3B:
        if data[place] == 0x21:
            place = after_blocks(place + 2)
            continue
        assert data[place] == 0x2C
        flags = data[place + 9]
        tables += flags >> 7
        frames += 1
        place = after_blocks(place + 11 + (3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0))
    return tables, frames


class TestContactSheet:
    def places(self, sheet: Tensor, frames: Tensor) -> list[tuple[int, int]]:
        """(top, left) of each flat frame's colour."""
        found = []
        for frame in frames:
            rows, columns = torch.where((sheet - frame[0, 0]).abs().amax(-1) < 1e-3)
            found.append((int(rows.min()), int(columns.min())))
            assert (len(rows), int(columns.max() - columns.min()) + 1) == (frame[..., 0].numel(), frame.shape[1])
        return found

    def colours(self, count: int) -> Tensor:
        colours = torch.stack([torch.tensor([1.0, n * 20 / 255, 0.0]) for n in range(count)])
        return colours[:, None, None].expand(-1, 40, 48, 3).contiguous()

    @pytest.mark.parametrize(("count", "columns", "wide"), [(9, 0, 3), (4, 0, 2), (5, 0, 3), (5, 2, 2), (3, 8, 3)])
    def test_reading_order(self, count, columns, wide):
        frames = self.colours(count)
        places = self.places(contact_sheet(frames, columns), frames)
        assert places == sorted(places)
        tops = sorted({top for top, _ in places})
        assert [tops.index(top) for top, _ in places] == [n // wide for n in range(count)]
        assert len({left for _, left in places}) == min(wide, count)

    def test_bare_sheet_has_even_margins(self):
        frames = self.colours(4)
        sheet = contact_sheet(frames, numbered=False)
        assert sheet.shape == (3 * 6 + 2 * 40, 3 * 6 + 2 * 48, 3)
        assert torch.equal(sheet[6:46, 6:54], frames[0])
        assert torch.allclose(sheet[0, 0], torch.tensor(PAPER) / 255)

    def ink(self, sheet: Tensor, top: int, left: int) -> int:
        """Dark pixels in the strip below a 48 x 40 frame."""
        strip = sheet[top + 40 : top + 60, left : left + 48]
        return int(((strip - torch.tensor(INK) / 255).abs().amax(-1) < 0.15).sum())

    def test_numbers_and_captions_lie_under_their_frames(self):
        frames = self.colours(4)
        captioned = contact_sheet(frames, captions=["", "abc"], numbered=False)
        inks = [self.ink(captioned, *place) for place in self.places(captioned, frames)]
        assert inks[1] > 10
        assert inks[0] == inks[2] == inks[3] == 0
        numbered = contact_sheet(frames)
        assert all(self.ink(numbered, *place) for place in self.places(numbered, frames))
        both = contact_sheet(frames, captions=["", "abc"])
        places = self.places(both, frames)
        assert self.ink(both, *places[1]) > self.ink(numbered, *self.places(numbered, frames)[1])

    def test_long_captions_wrap_and_stay_inside(self):
        frames = self.colours(4)
        sheet = contact_sheet(frames, captions=["word " * 20, "", "w" * 60])
        assert sheet.shape[0] > contact_sheet(frames, captions=["word"]).shape[0] + 60
        places = self.places(sheet, frames)
        for column in (0, 5, places[0][1] + 48 + 1, sheet.shape[1] - 1):
            assert torch.allclose(sheet[:, column], torch.tensor(PAPER) / 255)
        assert torch.allclose(sheet[-1], torch.tensor(PAPER) / 255)

    def test_more_captions_than_frames(self):
        with pytest.raises(ValueError, match="3 captions were given for 2 frames"):
            contact_sheet(self.colours(2), captions=["a", "b", "c"])

    @pytest.mark.parametrize("text", ["", "   ", "one", "some words that wrap", "x" * 50, "a " + "b" * 30 + " c"])
    def test_wrap_loses_nothing(self, text):
        font = ImageFont.load_default(12)
        lines = wrap(text, font, 50)
        assert all(font.getlength(line) <= 50 for line in lines)
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")
        assert all(lines)

    def test_wrap_ends_on_letters_wider_than_the_line(self):
        assert wrap("abc", ImageFont.load_default(40), 3) == ["a", "b", "c"]


class TestPictures:
    def test_png_is_exact_and_carries_texts(self, tmp_path):
        frame = torch.arange(256).reshape(16, 16, 1).expand(-1, -1, 3) / 255
        pictures.save_png(frame, tmp_path / "a.png", WORKFLOW)
        assert torch.equal(pictures.read(tmp_path / "a.png"), frame)
        with Image.open(tmp_path / "a.png") as image:
            assert image.text == WORKFLOW

    def test_transparency_reads_as_white(self, tmp_path):
        Image.new("RGBA", (2, 2), (10, 20, 30, 0)).save(tmp_path / "a.png")
        assert torch.equal(pictures.read(tmp_path / "a.png"), torch.ones(2, 2, 3))

    def test_values_outside_are_clamped(self, tmp_path):
        assert pictures.to_bytes(torch.tensor([-1.0, 0.5, 2.0])).tolist() == [0, 128, 255]

    @pytest.mark.parametrize(
        ("content", "says"), [(b"text", "is not a picture"), (b"", "is not a picture"), (None, "there is no file")]
    )
    def test_refuses(self, tmp_path, content, says):
        if content is not None:
            (tmp_path / "a.png").write_bytes(content)
        with pytest.raises((ValueError, OSError), match=says):
            pictures.read(tmp_path / "a.png")

    def test_refuses_a_cut_file(self, tmp_path):
        pictures.save_png(torch.rand(64, 64, 3), tmp_path / "a.png")
        data = (tmp_path / "a.png").read_bytes()
        (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
        with pytest.raises(ValueError, match=r"a\.png is a damaged picture"):
            pictures.read(tmp_path / "a.png")


def test_numbers_sort_by_name_whatever_their_count():
    for count in (1, 9, 99, 100, 216):
        names = [f"{number:0{pictures.digits(count)}}" for number in range(1, count + 1)]
        assert names == sorted(names)
    assert pictures.digits(9) == 2
