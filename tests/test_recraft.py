"""ReCraft's cells against Pillow and plain slicing."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from makeanything.recraft import check_cell, fit, fit_image, loss_mask, paste, per_item
from makeanything.serpentine import Layout

NINE, FOUR = Layout.of(9), Layout.of(4)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def as_image(picture: torch.Tensor) -> Image.Image:
    return Image.fromarray((picture * 255).round().byte().numpy())


def as_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image).astype(np.float32) / 255)


# Fitting a picture


@pytest.mark.parametrize(
    ("height", "width", "padded", "offset"),
    [
        (60, 60, (60, 60), (0, 0)),
        (40, 80, (80, 80), (0, 20)),
        (80, 40, (80, 80), (20, 0)),
        (31, 50, (50, 50), (0, 9)),
    ],
)
def test_fit_is_padding_and_lanczos_done_by_hand(height, width, padded, offset):
    picture = noise(height, width, 3)
    canvas = Image.new("RGB", padded, (255, 255, 255))
    canvas.paste(as_image(picture), offset)
    expected = as_tensor(canvas.resize((32, 32), Image.Resampling.LANCZOS))
    assert torch.equal(fit(picture[None], 32, 32)[0], expected)


def test_fit_pads_to_the_aspect_of_an_oblong_cell():
    picture = noise(40, 40, 3)
    canvas = Image.new("RGB", (60, 40), (255, 255, 255))
    canvas.paste(as_image(picture), (10, 0))
    assert torch.equal(fit(picture[None], 32, 48)[0], as_tensor(canvas.resize((48, 32), Image.Resampling.LANCZOS)))


def test_fit_of_a_wide_black_picture_is_white_above_and_below():
    fitted = fit(torch.zeros(1, 20, 80, 3), 64, 64)[0]
    assert (fitted[:20] == 1).all()
    assert (fitted[-20:] == 1).all()
    assert (fitted[28:36] == 0).all()


def test_fit_leaves_pictures_of_the_cells_own_size_alone():
    """To the bit: nothing is rounded to 8 bits on the way."""
    pictures = noise(2, 48, 32, 3)
    assert torch.equal(fit(pictures, 48, 32), pictures)


def test_fit_of_a_batch_is_fit_of_each():
    pictures = noise(3, 20, 30, 3)
    assert torch.equal(fit(pictures, 32, 32), torch.cat([fit(picture[None], 32, 32) for picture in pictures]))


def test_fit_clamps_values_outside_the_range():
    picture = torch.stack((torch.full((32, 32, 3), -0.5), torch.full((32, 32, 3), 1.5)))
    fitted = fit(picture, 16, 16)
    assert (fitted[0] == 0).all()
    assert (fitted[1] == 1).all()


def test_transparency_becomes_white():
    """Hidden colours must not show: many programs leave black under transparent pixels."""
    rgba = torch.zeros(1, 32, 32, 4)
    rgba[:, :, 16:, 3] = 1
    fitted = fit(rgba, 32, 32)[0]
    assert fitted.shape == (32, 32, 3)
    assert (fitted[:, :16] == 1).all()
    assert (fitted[:, 16:] == 0).all()
    half = fit(torch.tensor([1.0, 0.0, 0.0, 0.2]).expand(1, 16, 16, 4), 16, 16)[0, 0, 0]
    torch.testing.assert_close(half, torch.tensor([1.0, 0.8, 0.8]), rtol=0, atol=1 / 255)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "1", "CMYK"])
def test_images_of_any_mode_fit(mode):
    image = Image.new("RGB", (20, 20), (0, 0, 0)).convert(mode)
    fitted = fit_image(image, 16, 32)
    assert (fitted.mode, fitted.size) == ("RGB", (32, 16))
    assert fitted.getpixel((16, 8)) == (0, 0, 0)
    assert fitted.getpixel((0, 8)) == (255, 255, 255)


def test_one_channel_is_grey():
    grey = torch.rand(2, 20, 16, 1)
    assert torch.equal(fit(grey, 16, 16), fit(grey.expand(-1, -1, -1, 3), 16, 16))


# Pinning cells


@pytest.mark.parametrize(("layout", "rows", "cols"), [(NINE, (8, 12), (8, 12)), (FOUR, (6, 12), (0, 6))])
def test_paste_replaces_the_tail_alone(layout, rows, cols):
    latents = noise(2, 16, 12, 12)
    original = latents.clone()
    cell = noise(1, 16, 12 // layout.rows, 12 // layout.cols, seed=1)
    pinned = paste(latents, layout, {layout.tail: cell})
    assert torch.equal(latents, original), "the input is untouched"
    expected = original.clone()
    expected[:, :, rows[0] : rows[1], cols[0] : cols[1]] = cell
    assert torch.equal(pinned, expected)


def test_paste_of_several_cells_and_none():
    latents = noise(1, 16, 12, 12)
    cells = {0: noise(1, 16, 4, 4, seed=1), 3: noise(1, 16, 4, 4, seed=2)}
    pinned = paste(latents, NINE, cells)
    assert torch.equal(pinned[:, :, 0:4, 0:4], cells[0])
    assert torch.equal(pinned[:, :, 4:8, 8:12], cells[3]), "frame 4 lies below frame 3"
    pinned[:, :, 0:4, 0:4] = latents[:, :, 0:4, 0:4]
    pinned[:, :, 4:8, 8:12] = latents[:, :, 4:8, 8:12]
    assert torch.equal(pinned, latents)
    nothing = paste(latents, NINE, {})
    assert torch.equal(nothing, latents)
    assert nothing is not latents


def test_paste_follows_the_type_of_the_latents():
    pinned = paste(torch.zeros(1, 16, 12, 12, dtype=torch.bfloat16), NINE, {8: torch.full((1, 16, 4, 4), 1.0)})
    assert pinned.dtype == torch.bfloat16
    assert pinned[0, 0, 11, 11] == 1


def test_a_batch_gets_its_pictures_in_order():
    cells = noise(2, 16, 4, 4)
    latents = torch.zeros(4, 16, 12, 12)
    pinned = paste(latents, NINE, {8: cells})[:, :, 8:, 8:]
    assert all(torch.equal(pinned[item], cells[item % 2]) for item in range(4))


def test_per_item():
    one, three = noise(1, 16, 4, 4), noise(3, 16, 4, 4)
    assert per_item(one, 5).shape[0] == 1
    assert torch.equal(per_item(three, 3), three)
    assert torch.equal(per_item(three, 6), torch.cat((three, three)))
    for batch in (1, 2, 4):
        with pytest.raises(ValueError, match=f"3 pictures can't be shared out over a batch of {batch} grids"):
            per_item(three, batch)


def test_check_cell_accepts_the_standard_sizes():
    check_cell(torch.zeros(1, 16, 44, 44), NINE, 132, 132)
    check_cell(torch.zeros(2, 16, 64, 64), FOUR, 128, 128)
    check_cell(torch.zeros(1, 16, 4, 6), Layout(2, 3), 8, 18)


@pytest.mark.parametrize(
    ("cell", "layout", "size", "message"),
    [
        (
            (64, 64),
            NINE,
            (132, 132),
            "the picture covers 64 x 64 latents, but a cell of this 132 x 132 grid (3x3) has 44 x 44.",
        ),
        (
            (4, 6),
            Layout(3, 2),
            (18, 8),
            "the picture covers 6 x 4 latents, but a cell of this 8 x 18 grid (3x2) has 4 x 6.",
        ),
        ((44, 44), NINE, (128, 128), "a grid of 128 x 128 does not divide into 3 columns and 3 rows"),
        ((3, 3), NINE, (9, 9), "a cell must be a whole number of tokens (2 x 2 latents), got 3 x 3 latents"),
        ((4, 5), FOUR, (8, 10), "a cell must be a whole number of tokens (2 x 2 latents), got 5 x 4 latents"),
    ],
)
def test_check_cell_says_what_would_fit(cell, layout, size, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        check_cell(torch.zeros(1, 16, *cell), layout, *size)


# The loss


@pytest.mark.parametrize(("layout", "rows", "cols"), [(NINE, (88, 132), (88, 132)), (FOUR, (64, 128), (0, 64))])
def test_loss_leaves_out_the_tail(layout, rows, cols):
    """Bottom right in 3x3, bottom LEFT in 2x2."""
    edge = {9: 132, 4: 128}[layout.frames]
    expected = torch.ones(1, 1, edge, edge)
    expected[0, 0, rows[0] : rows[1], cols[0] : cols[1]] = 0
    assert torch.equal(loss_mask(layout, edge, edge), expected)


def test_loss_leaves_out_the_cells_that_are_pinned():
    mask = loss_mask(FOUR, 8, 8, pinned=[0, 3])
    assert torch.equal(mask[0, 0, :, :4], torch.zeros(8, 4))
    assert torch.equal(mask[0, 0, :, 4:], torch.ones(8, 4))
    assert loss_mask(NINE, 12, 12, pinned=[]).all()


@pytest.mark.parametrize("layout", [NINE, FOUR, Layout(2, 3)])
def test_training_and_sampling_name_the_same_cell(layout):
    height, width = 4 * layout.rows, 4 * layout.cols
    pinned = paste(torch.zeros(1, 1, height, width), layout, {layout.tail: torch.ones(1, 1, 4, 4)})
    assert torch.equal(loss_mask(layout, height, width), 1 - pinned)
