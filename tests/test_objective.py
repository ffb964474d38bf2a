"""The flow-matching objective against closed forms, on models whose answer is known."""

import math

import pytest
import torch
from torch import Tensor

from makeanything.reference import flow
from makeanything.serpentine import Layout
from training.builtin.objective import Objective, by_domain

TEXT = (torch.zeros(3, 2, 4), torch.zeros(3, 4))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def latents(size: int = 12) -> Tensor:
    return torch.randn(3, 16, size, size, generator=generator(9), dtype=torch.float64)


class Recorder:
    """A linear model, velocity = weight * input, which keeps what it was given."""

    def __init__(self, weight: float | Tensor) -> None:
        self.weight = weight

    def __call__(self, noisy: Tensor, t: Tensor, txt: Tensor, vec: Tensor, guidance: Tensor) -> Tensor:
        self.noisy, self.t, self.txt, self.vec, self.guidance = noisy, t, txt, vec, guidance
        return self.weight * noisy

    def noise(self, clean: Tensor) -> Tensor:
        """Solved from x_t = (1 - t) x + t e."""
        t = self.t[:, None, None, None]
        return (self.noisy - (1 - t) * clean) / t


def test_the_loss_of_a_linear_model_in_closed_form():
    clean, model = latents(), Recorder(0.3)
    losses = Objective().losses(model, clean, TEXT, generator())
    wanted = [
        sum((0.3 * y - (e - x)) ** 2 for y, e, x in zip(*(v.flatten().tolist() for v in sample), strict=True))
        / clean[0].numel()
        for sample in zip(model.noisy, model.noise(clean), clean, strict=True)
    ]
    torch.testing.assert_close(losses, torch.tensor(wanted, dtype=torch.float64), rtol=1e-9, atol=0)
    assert len(set(wanted)) == 3
    assert model.txt is TEXT[0] and model.vec is TEXT[1]


def test_the_noise_is_standard_normal_and_every_sample_has_its_own():
    clean, model = latents(64), Recorder(0.0)
    Objective().losses(model, clean, TEXT, generator())
    noise = model.noise(clean)
    assert noise.mean().abs() < 0.01 and (noise.std() - 1).abs() < 0.01
    assert (noise[0] - noise[1]).std() > 1


def test_the_right_velocity_has_no_loss():
    clean = latents()

    def model(noisy: Tensor, t: Tensor, txt: Tensor, vec: Tensor, guidance: Tensor) -> Tensor:
        # e - x = (x_t - x) / t
        return (noisy - clean) / t[:, None, None, None]

    assert Objective().losses(model, clean, TEXT, generator()).max() < 1e-20


@pytest.mark.parametrize(("layout", "corner"), [(Layout(3, 3), (8, 8)), (Layout(2, 2), (6, 0))])
def test_in_recraft_the_tail_is_clean_and_has_no_part_in_the_loss(layout, corner):
    size = 12 // layout.rows
    tail = (slice(None), slice(None), slice(corner[0], corner[0] + size), slice(corner[1], corner[1] + size))
    clean = latents()
    weight = torch.full((1, 1, 12, 12), 0.3, dtype=torch.float64, requires_grad=True)
    model = Recorder(weight)
    losses = Objective().losses(model, clean, TEXT, generator(), layout)
    losses.sum().backward()
    assert torch.equal(model.noisy[tail], clean[tail])
    assert (weight.grad[tail] == 0).all() and (weight.grad != 0).sum() == 12 * 12 - size**2

    plain = Recorder(0.3)
    Objective().losses(plain, clean, TEXT, generator())
    error = (0.3 * plain.noisy - (plain.noise(clean) - clean)).square()
    kept = torch.ones(12, 12, dtype=torch.bool)
    kept[tail[2:]] = False
    torch.testing.assert_close(losses.detach(), error[:, :, kept].mean((1, 2)), rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("objective", "median"),
    [
        # The median of a normal draw is 0, whose sigmoid is 1/2; shifted, s / 2 / (1 + (s - 1) / 2) = s / (s + 1).
        (Objective(shift=1.0), 1 / 2),
        (Objective(shift=1.0, spread=None), 1 / 2),
        (Objective(), flow.PAPER_SHIFT / (flow.PAPER_SHIFT + 1)),
        (Objective(shift=3.0, spread=None), 3 / 4),
        (Objective(shift=None), math.exp(0.5) / (math.exp(0.5) + 1)),
    ],
)
def test_the_median_of_the_times(objective, median):
    t = objective.draw_times(100_000, 256, generator())
    assert t.min() > 0 and t.max() < 1
    assert abs(t.median().item() - median) < 0.005


@pytest.mark.parametrize("spread", [0.5, 1.0, 2.0])
def test_times_are_logit_normal(spread):
    t = Objective(shift=1.0, spread=spread).draw_times(100_000, 256, generator())
    assert abs(t.logit().std().item() - spread) < 0.02


def test_flux_shift_is_that_of_the_grids_own_size():
    """A 12 x 12 grid of latents has 36 tokens; the same draws differ by the ratio of the shifts in odds."""
    own, fixed = Recorder(0.0), Recorder(0.0)
    Objective(shift=None).losses(own, latents(), TEXT, generator())
    Objective(shift=1.0).losses(fixed, latents(), TEXT, generator())
    ratio = (own.t / (1 - own.t)) / (fixed.t / (1 - fixed.t))
    wanted = torch.full_like(ratio, math.exp(0.5 + 0.65 * (36 - 256) / 3840))
    torch.testing.assert_close(ratio, wanted, rtol=1e-5, atol=0)


def test_guidance_is_drawn_between_the_two_and_fixed_where_they_are_one():
    model = Recorder(0.0)
    Objective().losses(model, latents(), TEXT, generator())
    assert model.guidance.tolist() == [1.0] * 3
    Objective(guidance=(1.0, 4.0)).losses(model, latents(), TEXT, generator())
    assert 1 <= model.guidance.min() < model.guidance.max() <= 4


def test_the_generator_alone_decides():
    clean = latents()
    torch.manual_seed(1)
    first = Objective().losses(Recorder(0.1), clean, TEXT, generator(5))
    torch.manual_seed(2)
    assert torch.equal(first, Objective().losses(Recorder(0.1), clean, TEXT, generator(5)))
    assert not torch.equal(first, Objective().losses(Recorder(0.1), clean, TEXT, generator(6)))


@pytest.mark.parametrize("wrong", [{"shift": 0.0}, {"spread": -1.0}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="must be positive"):
        Objective(**wrong)


def test_losses_by_domain():
    losses = torch.tensor([1.0, 2.0, 4.0, 8.0])
    assert by_domain(["Sketch", "", "Sketch", "3"], losses) == {"Sketch": 2.5, "3": 8.0}
