"""Pictures that nobody draws, but that come: empty, tiny, huge, damaged, grey, with NaN; and work that is stopped."""

import math
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont
from torch import Tensor

from makeanything import pictures, serpentine
from makeanything.animations import WEBP_EDGE, save_gif, save_webp
from makeanything.asymmetric_lora import AsymmetricLora, extract, save
from makeanything.contact_sheet import MOST_LINES, contact_sheet, wrap
from makeanything.domains import Domain
from makeanything.sequence import MOST_BYTES, timeline
from makeanything.serpentine import Layout
from training.data.stills import read_picture

SAVE = pytest.mark.parametrize("save", [save_gif, save_webp])
GRID = Layout(2, 2)


def frames(count: int = 4, height: int = 8, width: int = 8, channels: int = 3) -> Tensor:
    return torch.rand(count, height, width, channels, generator=torch.Generator().manual_seed(1))


class TestChannels:
    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_png_keeps_them(self, tmp_path, channels):
        frame = frames(channels=channels)[0]
        pictures.save_png(frame, tmp_path / "a.png")
        with Image.open(tmp_path / "a.png") as image:
            assert image.mode == ("L", "LA", "RGB", "RGBA")[channels - 1]
            assert np.array_equal(np.asarray(image).reshape(8, 8, channels), pictures.to_bytes(frame))

    @pytest.mark.parametrize("channels", [1, 2])
    def test_grey_is_the_same_in_three_channels(self, tmp_path, channels):
        grey = frames(channels=channels)
        colours = torch.cat([grey[..., :1].expand(-1, -1, -1, 3), grey[..., 1:]], dim=-1)
        assert torch.equal(pictures.flatten(grey), pictures.flatten(colours))
        assert torch.equal(contact_sheet(grey), contact_sheet(colours))
        assert torch.equal(timeline(grey, 2.0, crossfade=0.5)[0], timeline(colours, 2.0, crossfade=0.5)[0])
        for name, write in (("gif", save_gif), ("webp", save_webp)):
            for batch, kind in ((grey, "grey"), (colours, "colours")):
                write(batch, tmp_path / f"{kind}.{name}", 2.0)
            assert (tmp_path / f"grey.{name}").read_bytes() == (tmp_path / f"colours.{name}").read_bytes()

    def test_alpha_is_no_brightness(self):
        """A black line between bright cells is a gutter, whether or not it is opaque."""
        grid = torch.ones(1, 128, 128, 2)
        grid[:, 62:66, :, 0], grid[:, :, 62:66, 0] = 0, 0
        assert torch.equal(serpentine.split_trimmed(grid, GRID)[..., :1], serpentine.split_trimmed(grid[..., :1], GRID))
        assert serpentine.split_trimmed(grid, GRID).shape[2] < 63

    def test_whole_numbers(self):
        assert torch.equal(timeline(torch.ones(2, 4, 4, 4, dtype=torch.int64), 2.0)[0], torch.ones(2, 4, 4, 3))


WRONG = [(0, 8, 8, 3), (2, 0, 8, 3), (2, 8, 0, 3), (2, 8, 8, 0), (2, 8, 8, 5), (8, 8, 3), (1, 2, 8, 8, 3)]


@pytest.mark.parametrize("shape", WRONG)
@pytest.mark.parametrize(
    "use",
    [
        lambda batch, path: contact_sheet(batch),
        lambda batch, path: timeline(batch, 2.0),
        lambda batch, path: save_gif(batch, path, 2.0),
        lambda batch, path: save_webp(batch, path, 2.0),
    ],
    ids=["contact sheet", "timeline", "gif", "webp"],
)
def test_what_is_no_batch_of_pictures(use, shape, tmp_path):
    with pytest.raises(ValueError, match=r"one or more pictures \(F, h, w, C\) of 1 to 4 channels are needed, got"):
        use(torch.zeros(shape), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_nan_is_black():
    values = torch.tensor([math.nan, math.inf, -math.inf, 0.5])
    assert pictures.to_bytes(values).tolist() == [0, 255, 0, 128]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 50), (50, 1), (7, 3)])
@SAVE
def test_tiny_frames(save, height, width, tmp_path):
    batch = frames(3, height, width)
    save(batch, tmp_path / "a", 2.0)
    with Image.open(tmp_path / "a") as image:
        assert (image.size, image.n_frames) == ((width, height), 3)
    assert contact_sheet(batch, captions=["a b"] * 3).shape[-1] == 3


@pytest.mark.parametrize(("save", "edge"), [(save_webp, WEBP_EDGE + 1), (save_gif, 65_536)])
@pytest.mark.parametrize("count", [1, 2])
def test_frames_that_a_format_can_not_hold(save, edge, count, tmp_path):
    with pytest.raises(ValueError, match=rf"has at most {edge - 1:,} pixels in a row or column"):
        save(torch.zeros(count, 1, edge, 3), tmp_path / "a", 2.0)
    assert list(tmp_path.iterdir()) == []
    save(frames(count, 1, edge - 1), tmp_path / "a", 2.0)


def test_a_timeline_that_memory_can_not_hold():
    batch = torch.zeros(1, 1, 1, 3).expand(2, 2048, 2048, 3)
    assert batch.element_size() * batch[0].numel() * 60 * 60 > MOST_BYTES
    with pytest.raises(
        ValueError, match=r"played frames of 2048 x 2048 pixels take .* GiB of memory, and 8 are allowed"
    ):
        timeline(batch, 60.0, hold_last=60.0)
    for wrong in (math.inf, math.nan):
        with pytest.raises(ValueError, match="fps must be a finite number"):
            timeline(batch, wrong)
        with pytest.raises(ValueError, match="hold_last must be a finite number"):
            timeline(batch, 1.0, hold_last=wrong)


@pytest.mark.parametrize("count", [6, 7, 8, 100, 700])
def test_webp_holds_any_number_of_texts(count, tmp_path):
    texts = {f"name{number}": f'{{"value": {number}}}' for number in range(count)}
    save_webp(frames(2), tmp_path / "a.webp", 2.0, metadata=texts)
    with Image.open(tmp_path / "a.webp") as image:
        found = [text for text in image.getexif().values() if isinstance(text, str)]
    assert dict(text.split(":", 1) for text in found) == texts


@pytest.mark.parametrize("kind", ["AVIF", "PNG", "JPEG", "WEBP", "GIF"])
def test_damaged_pictures_are_one_sentence(kind, tmp_path):
    path = tmp_path / "a.picture"
    Image.fromarray(pictures.to_bytes(frames()[0])).save(path, kind)
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    refused = set()
    for _ in range(300):
        data = bytearray(whole[: rng.integers(len(whole)) if rng.random() < 0.2 else None])
        for place in rng.integers(max(len(data), 1), size=rng.integers(1, 4)):
            data[place : place + 1] = rng.bytes(1)
        path.write_bytes(data)
        try:
            pictures.read(path)
        except ValueError as error:
            refused.add(str(error)[:30])
    assert len(refused) > 1
    assert all(text.startswith("a.picture is ") for text in refused)


class Counting:
    """A font that counts the letters that it measures."""

    def __init__(self) -> None:
        self.font, self.letters = ImageFont.load_default(12), 0

    def getlength(self, text: str) -> float:
        self.letters += len(text)
        return self.font.getlength(text)


class TestCaptions:
    @pytest.mark.parametrize("text", ["w", "w ", "long ", "\u0301"])
    def test_wrapping_is_linear(self, text):
        """Cubic before: 1,000 letters without a space took minutes."""
        measured = []
        for length in (200, 400, 10**6):
            font = Counting()
            wrap((text * length)[:length], font, 48)
            measured.append(font.letters)
        assert measured[1] < 3 * measured[0]
        assert measured[2] < 100 * MOST_LINES + 4 * 10**6 * (text == "\u0301")

    def test_long_captions_are_cut(self):
        font = ImageFont.load_default(12)
        lines = wrap("word " * 10**5, font, 48)
        assert len(lines) == MOST_LINES
        assert (lines[0], lines[-2], lines[-1]) == ("word", "word", "...")
        assert "..." not in wrap("word " * MOST_LINES, font, 48)
        sheet = contact_sheet(frames(), captions=["x" * 10**5] * 4)
        assert sheet.shape[0] < 3 * (MOST_LINES * 20 + 100)

    @pytest.mark.parametrize("text", ["a\nb", "a\tb\x0bc", "a\ud800b", "a\0b"])
    def test_any_character(self, text):
        assert contact_sheet(frames(), captions=[text, text]).shape[-1] == 3


class StoppedError(Exception):
    """As a host's own, it is neither an OSError nor a ValueError."""


def stopped_after(calls: int, use: Callable[[Callable[[int], None]], object]) -> int:
    """Call with a step that stops the work at this call of it; how often it was called."""
    called = 0

    def step(done: int) -> None:
        nonlocal called
        called += 1
        if called == calls:
            raise StoppedError

    try:
        use(step)
    except StoppedError:
        return called
    return -called


@pytest.fixture
def lora(tmp_path) -> AsymmetricLora:
    name = "lora_unet_double_blocks_0_img_attn_qkv"
    tensors = {f"{name}.lora_down.weight": torch.ones(2, 5), f"{name}.alpha": torch.tensor(1.0)}
    tensors |= {f"{name}.lora_ups.{head}.weight": torch.ones(7, 2) for head in range(2)}
    save(tensors, [Domain.of(domain, 9, domain) for domain in ("LEGO", "Cook")], tmp_path / "heads.safetensors")
    return AsymmetricLora.open(tmp_path / "heads.safetensors")


LONG = {
    "split": lambda step, out, lora: serpentine.split(frames(2), GRID, step),
    "split trimmed": lambda step, out, lora: serpentine.split_trimmed(frames(2, 64, 64), GRID, step),
    "compose": lambda step, out, lora: serpentine.compose(frames(8).unflatten(0, (2, 4)), GRID, step),
    "contact sheet": lambda step, out, lora: contact_sheet(frames(), step=step),
    "timeline": lambda step, out, lora: timeline(frames(), 2.0, crossfade=0.5, step=step),
    "gif": lambda step, out, lora: save_gif(frames(), out / "a.gif", 2.0, step=step),
    "webp": lambda step, out, lora: save_webp(frames(), out / "a.webp", 2.0, step=step),
    "extract": lambda step, out, lora: extract(lora, "Cook", out / "a.safetensors", step=step),
}


@pytest.mark.parametrize("name", LONG)
def test_long_work_asks_whether_to_stop_and_leaves_nothing(name, lora, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    calls = -stopped_after(0, lambda step: LONG[name](step, out, lora))
    assert calls >= 2
    for file in out.iterdir():
        file.unlink()
    for call in range(1, calls + 1):
        # Where the work is given up, Pillow seeks once more.
        assert stopped_after(call, lambda step: LONG[name](step, out, lora)) in (call, call + 1)
        assert list(out.iterdir()) == []


@SAVE
def test_every_encoded_frame_is_counted(save, tmp_path):
    done = []
    save(frames(5), tmp_path / "a", 2.0, step=done.append)
    assert sum(done) == 5


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(12_000, 11_000), (2**31 - 1, 1)])
def test_a_few_bytes_that_claim_a_huge_picture_are_not_decoded(tmp_path, size):
    """The header alone says how large a PNG is: everything behind it is missing here."""
    header = b"IHDR" + struct.pack(">IIBBBBB", *size, 8, 6, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (tmp_path / "a.png").write_bytes(start + struct.pack(">I", 2**30) + b"IDAT")
    for read in (pictures.read, read_picture):
        with pytest.raises(ValueError, match=r"a\.png.*(too large|can't be read)") as raised:
            read(tmp_path / "a.png")
        assert str(size[0]) in str(raised.value)
