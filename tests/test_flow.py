"""Flow matching in closed form."""

import math

import pytest
import torch
from torch import Tensor

from makeanything.recraft import paste
from makeanything.reference.flow import (
    PAPER_SHIFT,
    add_noise,
    flux_shift,
    guided,
    sample,
    schedule,
    shift_time,
    target,
)
from makeanything.serpentine import Layout

STEPS = [1, 2, 3, 7, 20, 28, 50, 999]


def latents(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*(shape or (2, 16, 12, 12)), generator=torch.Generator().manual_seed(seed))


# Times


@pytest.mark.parametrize("shift", [1.0, 1.7, PAPER_SHIFT])
def test_shift_in_closed_form(shift):
    """The exponential form of FLUX's own code: e^mu / (e^mu + 1/t - 1)."""
    t = torch.linspace(0.01, 1, 100, dtype=torch.float64)
    mu = math.log(shift)
    torch.testing.assert_close(shift_time(t, shift), math.exp(mu) / (math.exp(mu) + (1 / t - 1)))
    assert shift_time(torch.zeros(1), shift) == 0


def test_shift_moves_towards_noise():
    t = torch.linspace(0.1, 0.9, 9)
    assert (shift_time(t, 3.0) > t).all()
    assert torch.equal(shift_time(t, 1.0), t)
    assert shift_time(torch.tensor(0.5), 3.0) == 0.75


def test_the_resolution_dependent_shift():
    assert flux_shift(256) == pytest.approx(math.exp(0.5), rel=1e-12)
    assert flux_shift(4096) == pytest.approx(math.exp(1.15), rel=1e-12)
    assert flux_shift(4356) == pytest.approx(3.3003, abs=5e-5), "9 frames: 66 x 66 tokens"
    assert pytest.approx(flux_shift(4096), abs=5e-5) == PAPER_SHIFT


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("shift", [1.0, PAPER_SHIFT, flux_shift(4356)])
def test_schedule_falls_from_one_to_zero(steps, shift):
    times = schedule(steps, shift)
    assert times.shape == (steps + 1,)
    assert times[0] == 1
    assert times[-1] == 0
    assert (times[1:] < times[:-1]).all()


@pytest.mark.parametrize("steps", STEPS)
def test_schedule_is_the_even_one_shifted(steps):
    even = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    expected = PAPER_SHIFT * even / (1 + (PAPER_SHIFT - 1) * even)
    # Times come from a table of 10 000, so an even time is off by less than one entry; the shift stretches that.
    torch.testing.assert_close(schedule(steps).double(), expected, rtol=0, atol=PAPER_SHIFT * 1e-4)


@pytest.mark.parametrize("steps", STEPS)
def test_schedule_reads_comfyuis_table_of_times(steps):
    """ComfyUI's simple scheduler, as its source does it: a table of sigmas, indexed from the end."""
    table = [PAPER_SHIFT * (i / 10_000) / (1 + (PAPER_SHIFT - 1) * (i / 10_000)) for i in range(1, 10_001)]
    picked = [table[-(1 + int(step * (len(table) / steps)))] for step in range(steps)] + [0.0]
    torch.testing.assert_close(schedule(steps), torch.tensor(picked), rtol=1e-6, atol=0)


@pytest.mark.parametrize("steps", [0, -1])
def test_sampling_needs_a_step(steps):
    with pytest.raises(ValueError, match=f"sampling needs at least one step, got {steps}"):
        schedule(steps)


# Training's side


def test_noisy_input_is_a_straight_path_with_the_target_as_its_slope():
    x, noise = latents(0), latents(1)
    zero, one = torch.zeros(2), torch.ones(2)
    assert torch.equal(add_noise(x, noise, zero), x)
    assert torch.equal(add_noise(x, noise, one), noise)
    slope = (add_noise(x, noise, torch.full((2,), 0.75)) - add_noise(x, noise, torch.full((2,), 0.25))) / 0.5
    torch.testing.assert_close(target(x, noise), slope, rtol=1e-5, atol=1e-5)


def test_every_sample_has_its_own_time():
    x, noise = latents(0), latents(1)
    noisy = add_noise(x, noise, torch.tensor([0.25, 1.0]))
    torch.testing.assert_close(noisy[0], 0.75 * x[0] + 0.25 * noise[0])
    assert torch.equal(noisy[1], noise[1])


# Sampling


@pytest.mark.parametrize("steps", [1, 4, 20])
def test_euler_with_the_exact_velocity_recovers_the_picture(steps):
    x, noise = latents(0), latents(1)
    times = []

    def velocity(seen, t):
        times.append(t)
        torch.testing.assert_close(seen, add_noise(x, noise, t), rtol=1e-5, atol=1e-5)
        return noise - x

    torch.testing.assert_close(sample(velocity, noise, schedule(steps)), x, rtol=1e-5, atol=1e-5)
    assert torch.equal(torch.stack(times), schedule(steps)[:-1, None].expand(steps, 2)), "one time a sample"


def test_euler_of_a_velocity_that_bends():
    """v = x_t: x shrinks by the factor 1 + (t' - t) at every step."""
    noise = latents(1)
    times = torch.tensor([1.0, 0.6, 0.5, 0.0])
    result = sample(lambda seen, t: seen, noise, times)
    torch.testing.assert_close(result, noise * 0.6 * 0.9 * 0.5, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layout", [Layout.of(9), Layout.of(4)])
def test_pinned_cells_are_seen_clean_and_end_exact(layout):
    x, noise = latents(0), latents(1)
    edge = 12 // layout.rows
    cells = {frame: latents(10 + frame, 1, 16, edge, edge) for frame in (0, layout.tail)}
    boxes = {frame: layout.box(frame, 12, 12) for frame in cells}
    calls = 0

    def velocity(seen, t):
        nonlocal calls
        calls += 1
        for frame, box in boxes.items():
            assert torch.equal(seen[:, :, box.rows, box.cols], cells[frame].expand(2, -1, -1, -1)), (
                "clean at every step"
            )
        # A model that is wrong in the pinned cells and right in the others.
        return (noise - x) + 100 * paste(
            torch.zeros_like(x), layout, dict.fromkeys(cells, torch.ones(1, 16, edge, edge))
        )

    result = sample(velocity, noise, schedule(5), pin=lambda grid: paste(grid, layout, cells))
    assert calls == 5
    for frame, box in boxes.items():
        assert torch.equal(result[:, :, box.rows, box.cols], cells[frame].expand(2, -1, -1, -1)), "bit exact"
    blank = dict.fromkeys(cells, torch.zeros(1, 16, edge, edge))
    torch.testing.assert_close(paste(result, layout, blank), paste(x, layout, blank), rtol=1e-5, atol=1e-5)


def test_the_state_runs_straight_to_the_pinned_cell():
    """A sampler that jumped there in the last step would differ from every host's."""
    layout, times = Layout.of(4), schedule(4)
    noise, cell = latents(1), latents(2, 1, 16, 6, 6)
    box = layout.box(layout.tail, 12, 12)
    pinned, told = [], []

    def pin(grid):
        pinned.append(grid[:, :, box.rows, box.cols].clone())
        return paste(grid, layout, {layout.tail: cell})

    def on_step(step, denoised):
        told.append(denoised[:, :, box.rows, box.cols])

    sample(lambda seen, t: torch.ones_like(seen), noise, times, pin, on_step)
    # Every step pins its state and its estimate; the result is pinned once more.
    states = pinned[::2]
    assert len(states) == 5
    assert len(told) == 4
    for t, state in zip(times, states, strict=True):
        expected = add_noise(cell.expand(2, -1, -1, -1), noise[:, :, box.rows, box.cols], t.expand(2))
        torch.testing.assert_close(state, expected, rtol=1e-5, atol=1e-5)
    assert all(torch.equal(denoised, cell.expand(2, -1, -1, -1)) for denoised in told)


def test_sampling_leaves_the_noise_as_it_was():
    noise = latents(1)
    before = noise.clone()
    sample(lambda seen, t: seen, noise, schedule(3))
    assert torch.equal(noise, before)


def test_steps_are_told_and_can_be_cancelled():
    x, noise = latents(0), latents(1)
    told = []

    def on_step(step, denoised):
        torch.testing.assert_close(denoised, x, rtol=1e-5, atol=1e-5)
        told.append(step)
        if step == 2:
            raise InterruptedError("enough")

    with pytest.raises(InterruptedError, match="enough"):
        sample(lambda seen, t: noise - x, noise, schedule(9), on_step=on_step)
    assert told == [0, 1, 2]


def test_guidance_goes_from_no_prompt_past_the_prompt():
    latents, t = torch.ones(2, 1, 1, 1), torch.tensor([0.25, 0.5])

    def predict(both: Tensor, times: Tensor) -> Tensor:
        assert both.shape[0] == 4 and times.tolist() == [0.25, 0.5, 0.25, 0.5]
        return both * torch.tensor([3.0, 5.0, 1.0, 2.0]).reshape(4, 1, 1, 1)

    assert guided(predict, 2.0)(latents, t).flatten().tolist() == [5.0, 8.0]
    assert guided(predict, 1.0)(latents, t).flatten().tolist() == [3.0, 5.0]
