"""The tail's cell encoded alone, left out of the loss, and datasets that would move it."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from makeanything.reference.flow import add_noise
from makeanything.serpentine import Layout
from training.data.cells import check_dataset, check_size, encode_clean, encode_grids, loss_weights, pin_tail

NINE, FOUR = Layout.of(9), Layout.of(4)
BOXES = [(NINE, 48, slice(32, 48), slice(32, 48)), (FOUR, 32, slice(16, 32), slice(0, 16))]
"""Layout, edge of a grid in pixels, and the pixels of its tail: bottom right in 3x3, bottom left in 2x2."""


class Autoencoder:
    """BFL's shape of an autoencoder: 8x, a distribution drawn from in `encode`, and cells that see their neighbours."""

    scale_factor, shift_factor = 0.5, 0.25

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.encoder = nn.Conv2d(3, 4, 24, stride=8, padding=8).requires_grad_(False)

    def encode(self, x: Tensor) -> Tensor:
        mean, spread = self.encoder(x).chunk(2, dim=1)
        return (mean + spread.exp() * torch.randn_like(mean) - self.shift_factor) * self.scale_factor


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def latents_of(pixels: slice) -> slice:
    return slice(pixels.start // 8, pixels.stop // 8)


@pytest.mark.parametrize(("layout", "edge", "rows", "cols"), BOXES)
def test_the_tail_is_encoded_alone(layout, edge, rows, cols):
    ae, grids = Autoencoder(), draw(2, 3, edge, edge)
    torch.manual_seed(2)
    whole = ae.encode(grids)
    torch.manual_seed(2)
    encoded = encode_grids(ae, grids, layout)
    tail = (..., latents_of(rows), latents_of(cols))
    expected = (ae.encoder(grids[..., rows, cols])[:, :2] - 0.25) * 0.5
    assert torch.equal(encoded[tail], expected)
    assert not torch.isclose(whole[tail], expected).any()
    rest = torch.ones_like(encoded, dtype=torch.bool)
    rest[tail] = False
    assert torch.equal(encoded[rest], whole[rest])


@pytest.mark.parametrize(("layout", "edge", "rows", "cols"), BOXES)
def test_the_tail_does_not_see_its_neighbours(layout, edge, rows, cols):
    ae, grids = Autoencoder(), draw(1, 3, edge, edge)
    others = draw(1, 3, edge, edge, seed=3)
    others[..., rows, cols] = grids[..., rows, cols]
    tail = (..., latents_of(rows), latents_of(cols))
    before, after = (encode_grids(ae, pictures, layout)[tail] for pictures in (grids, others))
    assert torch.equal(before, after)
    assert not torch.equal(ae.encoder(grids)[:, :2][tail], ae.encoder(others)[:, :2][tail])


def test_clean_latents_are_the_mean():
    ae, pictures = Autoencoder(), draw(1, 3, 16, 16)
    torch.manual_seed(0)
    drawn = torch.stack([ae.encode(pictures) for _ in range(4000)]).mean(0)
    torch.testing.assert_close(encode_clean(ae, pictures), drawn, rtol=0, atol=0.05)
    assert torch.equal(encode_clean(ae, pictures), encode_clean(ae, pictures))


@pytest.mark.parametrize(("layout", "edge", "rows", "cols"), BOXES)
def test_pinning_and_the_loss_name_the_same_cell(layout, edge, rows, cols):
    size = edge // 8
    latents, noise = draw(2, 4, size, size), draw(2, 4, size, size, seed=2)
    noisy = add_noise(latents, noise, torch.tensor([0.3, 0.9]))
    pinned, weights = pin_tail(noisy, latents, layout), loss_weights(layout, size, size)
    assert torch.equal((pinned == latents).all(1, keepdim=True).float(), (weights == 0).float().expand(2, -1, -1, -1))
    assert torch.equal(
        pinned[:, :, latents_of(rows), latents_of(cols)], latents[..., latents_of(rows), latents_of(cols)]
    )
    torch.testing.assert_close((pinned - noisy)[(weights > 0).expand_as(noisy)].abs().max(), torch.tensor(0.0))


@pytest.mark.parametrize("layout", [NINE, FOUR])
def test_a_weighted_mean_is_the_mean_over_the_rest(layout):
    error = draw(2, 4, 12, 12).double()
    box = layout.box(layout.tail, 12, 12)
    kept = torch.ones(12, 12, dtype=torch.bool)
    kept[box.rows, box.cols] = False
    weighted = (error * loss_weights(layout, 12, 12)).mean((1, 2, 3))
    torch.testing.assert_close(weighted, error[:, :, kept].mean((1, 2)), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("size", "layout", "message"),
    [
        ((1024, 1024), NINE, "a grid of 1024 x 1024 does not divide into 3 columns and 3 rows"),
        ((1032, 1056), FOUR, "cells of 528 x 516; their edges must be multiples of 16. The standard size is 1024 x"),
        ((1080, 1080), NINE, "has cells of 360 x 360; .* The standard size is 1056 x 1056"),
    ],
)
def test_sizes_whose_cells_are_no_tokens(size, layout, message):
    with pytest.raises(ValueError, match=message):
        check_size(*size, layout)


def dataset(size: int = 1056, pictures: tuple[int, ...] = (1056,), bucket: bool = False, **subset: object) -> object:
    options = {"image_dir": "lego", "flip_aug": False, "random_crop": False, "face_crop_aug_range": None, **subset}
    infos = {n: SimpleNamespace(absolute_path=f"{n}.png", image_size=(edge, 1056)) for n, edge in enumerate(pictures)}
    return SimpleNamespace(
        width=size, height=size, enable_bucket=bucket, subsets=[SimpleNamespace(**options)], image_data=infos
    )


def test_four_frames_on_grids_of_nine():
    with pytest.raises(ValueError, match=r"grids of 1056 x 1056 px have 9 frames .3x3., not 2x2"):
        check_dataset(dataset(), FOUR)


def test_datasets_of_whole_grids_pass():
    check_dataset(dataset(1024, pictures=()), FOUR)
    check_dataset(dataset(pictures=(1056, 1056)), NINE)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"bucket": True}, "bucketing crops grids .1056 px to 1024.*enable_bucket"),
        ({"flip_aug": True}, "flip_aug of lego moves the grid's cells"),
        ({"random_crop": True}, "random_crop of lego moves the grid's cells"),
        ({"face_crop_aug_range": (2.0, 4.0)}, "face_crop_aug_range of lego"),
        ({"size": 1024}, "a grid of 1024 x 1024 does not divide"),
        ({"pictures": (1056, 512)}, r"resolution is 1056 x 1056 px, .*: 1\.png \(512 x 1056\)\. Were they"),
        ({"pictures": (8, 8, 8, 8, 8)}, r"0\.png \(8 x 1056\), 1\.png .*, 2\.png \(8 x 1056\) and 2 more"),
    ],
)
def test_datasets_that_would_move_the_tail(wrong, message):
    with pytest.raises(ValueError, match=message):
        check_dataset(dataset(**wrong), NINE)
