"""Grids against the tables of the paper, an independent walk over the cells, and real published grids."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from makeanything.serpentine import Box, Layout, compose, split, split_trimmed, trimmed_boxes
from tests import draw_grids

PUBLISHED = {
    9: [[1, 2, 3], [6, 5, 4], [7, 8, 9]],
    4: [[1, 2], [4, 3]],
}
"""Frame numbers (from 1) as they lie in the released data sets."""

SHAPES = [(1, 1), (1, 5), (5, 1), (2, 2), (3, 3), (2, 3), (3, 2), (4, 4), (5, 7)]


def walk(rows: int, cols: int) -> list[tuple[int, int]]:
    """The serpentine as a person draws it: to the edge, one down, back."""
    row, col, step, cells = 0, 0, 1, []
    while row < rows:
        cells.append((row, col))
        if 0 <= col + step < cols:
            col += step
        else:
            row, step = row + 1, -step
    return cells


def random_grids(batch: int, height: int, width: int) -> torch.Tensor:
    return torch.rand(batch, height, width, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("frames", PUBLISHED)
def test_published_layouts(frames):
    layout = Layout.of(frames)
    assert {
        (row, col): number - 1 for row, numbers in enumerate(PUBLISHED[frames]) for col, number in enumerate(numbers)
    } == {cell: frame for frame, cell in enumerate(layout.order)}


def test_tails():
    assert Layout.of(9).cell(Layout.of(9).tail) == (2, 2), "bottom right"
    assert Layout.of(4).cell(Layout.of(4).tail) == (1, 0), "bottom left"
    assert (Layout.of(9).tail, Layout.of(4).tail) == (8, 3)


@pytest.mark.parametrize(("rows", "cols"), SHAPES)
def test_order_is_the_serpentine_walk(rows, cols):
    layout = Layout(rows, cols)
    assert list(layout.order) == walk(rows, cols)
    assert layout.frames == rows * cols
    assert layout.cell(layout.tail) == walk(rows, cols)[-1]


@pytest.mark.parametrize(("rows", "cols"), SHAPES)
def test_consecutive_frames_are_neighbours(rows, cols):
    order = Layout(rows, cols).order
    for (row, col), (next_row, next_col) in itertools.pairwise(order):
        assert abs(row - next_row) + abs(col - next_col) == 1


def test_only_square_counts_have_a_layout():
    assert (str(Layout.of(1)), str(Layout.of(16)), str(Layout(2, 3))) == ("1x1", "4x4", "2x3")
    for frames in (0, -4, 2, 6, 8, 10):
        with pytest.raises(ValueError, match=rf"^{frames} frames do not fill a square grid.*4 or 9 frames"):
            Layout.of(frames)
    for rows, cols in ((0, 3), (3, 0), (-1, 1)):
        with pytest.raises(ValueError, match=f"at least one row and one column, got {rows} x {cols}"):
            Layout(rows, cols)


@pytest.mark.parametrize(
    ("frames", "unit", "grid", "cell", "tail"),
    [
        (9, "pixels", 1056, 352, Box(704, 704, 1056, 1056)),
        (9, "latents", 132, 44, Box(88, 88, 132, 132)),
        (9, "tokens", 66, 22, Box(44, 44, 66, 66)),
        (4, "pixels", 1024, 512, Box(512, 0, 1024, 512)),
        (4, "latents", 128, 64, Box(64, 0, 128, 64)),
        (4, "tokens", 64, 32, Box(32, 0, 64, 32)),
    ],
)
def test_standard_sizes(frames, unit, grid, cell, tail):
    layout = Layout.of(frames)
    assert layout.cell_size(grid, grid) == (cell, cell), unit
    assert layout.box(layout.tail, grid, grid) == tail
    assert layout.box(0, grid, grid) == Box(0, 0, cell, cell)
    assert layout.standard_cell * {9: 3, 4: 2}[frames] == {9: 1056, 4: 1024}[frames]


def test_standard_cell_of_other_layouts_is_whole_tokens_within_the_trained_area():
    for rows, cols in SHAPES:
        cell = Layout(rows, cols).standard_cell
        assert cell % 16 == 0
        assert 1000 <= cell * max(rows, cols) <= 1120
    assert Layout(1, 4).standard_cell != 512, "only 2x2 has the cells of 4 frames"


def test_boxes_tile_an_oblong_grid():
    layout = Layout(2, 3)
    covered = np.zeros((20, 36), dtype=int)
    for frame in range(layout.frames):
        box = layout.box(frame, 20, 36)
        covered[box.rows, box.cols] += 1
    assert (covered == 1).all()
    assert layout.box(3, 20, 36) == Box(10, 24, 20, 36), "the second row starts on the right"


def test_a_frame_outside_the_grid_is_refused():
    for frame in (-1, 9):
        with pytest.raises(ValueError, match=f"^frame {frame} is outside a 3x3 grid, whose frames count from 0 to 8$"):
            Layout.of(9).cell(frame)


@pytest.mark.parametrize("height", [100, 1])
def test_a_size_that_does_not_divide_is_refused(height):
    with pytest.raises(ValueError, match=re.escape(f"a grid of 90 x {height} does not divide")) as refused:
        Layout.of(9).cell_size(height, 90)
    nearest = {100: 99, 1: 3}[height]
    assert f"the nearest that does is 90 x {nearest}." in str(refused.value)
    for cut in (split, split_trimmed):
        with pytest.raises(ValueError, match="does not divide into 3 columns and 3 rows"):
            cut(torch.zeros(1, height, 90, 3), Layout.of(9))


@pytest.mark.parametrize(("rows", "cols"), SHAPES)
def test_split_is_cropping_and_compose_undoes_it(rows, cols):
    layout = Layout(rows, cols)
    grids = random_grids(2, rows * 6, cols * 4)
    frames = split(grids, layout)
    assert frames.shape == (2, rows * cols, 6, 4, 3)
    for frame, (row, col) in enumerate(walk(rows, cols)):
        assert torch.equal(frames[:, frame], grids[:, row * 6 : row * 6 + 6, col * 4 : col * 4 + 4])
    assert torch.equal(compose(frames, layout), grids)
    assert torch.equal(split(compose(frames, layout), layout), frames)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.int64])
def test_split_and_compose_keep_every_bit_of_any_type(dtype):
    grids = (random_grids(1, 12, 12) * 250).to(dtype)
    assert torch.equal(compose(split(grids, Layout.of(9)), Layout.of(9)), grids)


def test_compose_needs_the_layouts_frames():
    with pytest.raises(ValueError, match="a 3x3 grid holds 9 frames, got 4"):
        compose(torch.zeros(1, 4, 2, 2, 3), Layout.of(9))


def coordinates(edge: int) -> torch.Tensor:
    """(edge, edge, 3): bright everywhere, row and column in the first two channels."""
    along = torch.arange(edge) / edge / 2 + 0.5
    return torch.stack(
        (along[:, None].expand(edge, edge), along[None].expand(edge, edge), torch.full((edge, edge), 0.9)), -1
    )


def paint_gutter(grid: torch.Tensor, start: int, width: int, value: float = 0.01) -> None:
    """A dark line across both directions, with a half-dark one at each side, as resized grids have."""
    for lines in (grid, grid.transpose(0, 1)):
        lines[[start - 1, start + width]] *= 0.6
        lines[start : start + width] = value


@pytest.mark.parametrize("width", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("shift", [-4, 0, 3])
@pytest.mark.parametrize("frames", [4, 9])
def test_synthetic_gutters_go_wherever_they_lie(frames, width, shift):
    layout = Layout.of(frames)
    cell = layout.standard_cell
    clean = coordinates(layout.cols * cell)
    grid = clean.clone()
    for boundary in range(cell, layout.cols * cell, cell):
        paint_gutter(grid, boundary - width // 2 + shift, width)
    frames_out = split_trimmed(grid[None], layout)[0]
    # The half-dark lines and the shift cost a few lines more; a cut that is larger throws picture away.
    assert cell - 2 * (width + 2 + abs(shift)) <= frames_out.shape[1] == frames_out.shape[2] < cell
    for frame, (row, col) in zip(frames_out, walk(layout.rows, layout.cols), strict=True):
        top, left = ((frame[0, 0, :2] - 0.5) * 2 * layout.cols * cell).round().int().tolist()
        height, width_out, _ = frame.shape
        assert torch.equal(frame, clean[top : top + height, left : left + width_out]), "an untouched piece of the grid"
        assert (top // cell, left // cell) == (row, col) or shift, "of the right cell"
        assert abs(top - row * cell) <= width + abs(shift) + 2
        assert abs(left - col * cell) <= width + abs(shift) + 2


def test_a_grid_without_gutters_is_cut_at_the_boundaries():
    for edge, layout in ((96, Layout.of(9)), (64, Layout.of(4)), (8, Layout.of(4)), (9, Layout.of(9))):
        grids = 0.5 + random_grids(2, edge, edge) / 2
        assert torch.equal(split_trimmed(grids, layout), split(grids, layout))


def test_tiny_cells_never_come_out_empty():
    for edge, width in itertools.product(range(9, 90, 3), (1, 2)):
        grid = torch.ones(edge, edge, 3)
        for boundary in (edge // 3, 2 * edge // 3):
            paint_gutter(grid, boundary - width // 2, width)
        for box in trimmed_boxes(grid, Layout.of(9)):
            assert 0 <= box.top < box.bottom <= edge
            assert 0 <= box.left < box.right <= edge


@pytest.mark.parametrize("dark_frames", [range(9), [0], [4], [3, 4, 8]])
def test_full_bleed_dark_pictures_are_not_cut(dark_frames):
    layout = Layout.of(9)
    grid = coordinates(288)
    for frame in dark_frames:
        box = layout.box(frame, 288, 288)
        grid[box.rows, box.cols] = 0.02
    assert torch.equal(split_trimmed(grid[None], layout), split(grid[None], layout))


def test_a_dark_line_inside_a_picture_is_no_gutter():
    grid = coordinates(288)
    grid[48:52] = 0
    grid[:, 140:144] = 0
    assert torch.equal(split_trimmed(grid[None], Layout.of(9)), split(grid[None], Layout.of(9)))


def test_a_dim_line_is_no_gutter():
    grid = coordinates(288)
    for boundary in (96, 192):
        grid[boundary - 2 : boundary + 2] = 0.5
    assert torch.equal(split_trimmed(grid[None], Layout.of(9)), split(grid[None], Layout.of(9)))


def test_square_cells_stay_square_and_oblong_ones_lose_what_they_must():
    for width, expected in ((288, (90, 90)), (276, (90, 92))):
        grid = coordinates(288)[:, :width].clone()
        for boundary in (96, 192):
            grid[boundary - 2 : boundary + 2] = 0
        assert split_trimmed(grid[None], Layout.of(9)).shape[2:4] == expected


def test_grids_of_a_batch_come_out_in_one_size():
    plain = coordinates(192)
    ruled = plain.clone()
    paint_gutter(ruled, 94, 4)
    frames = split_trimmed(torch.stack((plain, ruled)), Layout.of(4))
    alone = split_trimmed(ruled[None], Layout.of(4))
    assert frames.shape == (2, *alone.shape[1:])
    assert torch.equal(frames[1], alone[0])
    assert frames[0].amin() >= 0.5


def load(path: Path) -> tuple[torch.Tensor, int]:
    pixels = np.asarray(Image.open(path).convert("RGB"), dtype=np.float32) / 255
    return torch.from_numpy(pixels)[None], int(path.stem.split(".")[1])


def edges(frame: np.ndarray) -> dict[str, np.ndarray]:
    return {"top": frame[0], "bottom": frame[-1], "left": frame[:, 0], "right": frame[:, -1]}


def is_uniformly_dark(line: np.ndarray) -> bool:
    """Nine of ten pixels of the line (N, 3) are darker than mid grey in luma."""
    return bool(np.quantile(line @ np.array([0.299, 0.587, 0.114]), 0.9) < 0.5)


@pytest.fixture(params=draw_grids.paths(), ids=lambda path: path.name)
def real_grid(request) -> tuple[torch.Tensor, Layout, Path]:
    """Of the released dataset, or with gutters as wide and dark as there."""
    grid, frames = load(request.param)
    return grid, Layout.of(frames), request.param


@pytest.mark.parametrize("name", draw_grids.GRIDS)
def test_the_drawn_grids_are_what_draws_them(name):
    drawn, frames = load(draw_grids.FOLDER / f"{name}.png")
    assert int(name.split(".")[1]) == frames
    assert torch.allclose(drawn[0], draw_grids.grid(name), atol=0.5 / 255 + 1e-6)


def test_real_grids_come_apart_without_a_dark_edge(real_grid):
    grid, layout, path = real_grid
    frames = split_trimmed(grid, layout)[0].numpy()
    assert frames.shape[:1] == (layout.frames,)
    assert frames.shape[1] == frames.shape[2] >= layout.cell_size(*grid.shape[1:3])[0] - 10
    for number, frame in enumerate(frames, 1):
        dark = [side for side, line in edges(frame).items() if is_uniformly_dark(line)]
        assert not dark, f"frame {number} of {path.name} has a dark edge: {dark}"


def test_real_grids_do_have_dark_edges_when_cut_at_the_boundaries(real_grid):
    """The check above can fail."""
    grid, layout, _ = real_grid
    frames = split(grid, layout)[0].numpy()
    assert any(is_uniformly_dark(line) for frame in frames for line in edges(frame).values())


def test_real_frames_lie_in_their_own_cells_in_time_order(real_grid):
    grid, layout, path = real_grid
    frames = split_trimmed(grid, layout)[0]
    picture = Image.open(path).convert("RGB")
    cell = picture.width // layout.cols
    for row, numbers in enumerate(PUBLISHED[layout.frames]):
        for col, number in enumerate(numbers):
            box = (col * cell, row * cell, (col + 1) * cell, (row + 1) * cell)
            inner = np.asarray(picture.crop(box), dtype=np.float32)[20:-20, 20:-20] / 255
            assert contains(frames[number - 1].numpy(), inner), f"cell {row}, {col} is frame {number}"


def contains(frame: np.ndarray, part: np.ndarray) -> bool:
    height, width, _ = part.shape
    return any(
        np.array_equal(frame[top, left : left + width], part[0])
        and np.array_equal(frame[top : top + height, left : left + width], part)
        for top in range(frame.shape[0] - height + 1)
        for left in range(frame.shape[1] - width + 1)
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_trimmed_like_float(dtype):
    grid = torch.ones(1, 96, 96, 3)
    grid[:, 31:34] = 0
    frames = split_trimmed(grid.to(dtype), Layout.of(9))
    assert frames.dtype == dtype
    assert frames.shape == split_trimmed(grid, Layout.of(9)).shape


def test_alpha_is_not_brightness():
    grid = torch.ones(1, 96, 96, 4)
    grid[:, 31:34, :, :3] = 0
    assert split_trimmed(grid, Layout.of(9)).shape[2:] == (*split_trimmed(grid[..., :3], Layout.of(9)).shape[2:4], 4)
    assert split_trimmed(grid, Layout.of(9)).amin() == 1


def test_an_empty_batch_has_no_frames_to_give():
    with pytest.raises(ValueError, match="the batch is empty"):
        split_trimmed(torch.ones(0, 96, 96, 3), Layout.of(9))
