"""What ReCraft adds to a step: no token, no wait for the device, nothing to compile."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from makeanything.serpentine import Layout

from .in_process import PACK, sample

LAYOUT = Layout(2, 2)
EDGE = 8


@pytest.fixture
def pins(comfy: Any) -> ModuleType:
    return importlib.import_module(f"{PACK}.nodes.model.pins")


def cell() -> torch.Tensor:
    return torch.randn(1, 16, EDGE // 2, EDGE // 2, generator=torch.Generator().manual_seed(9))


def pinned(pins: ModuleType, base: Any) -> Any:
    return pins.pin_frame(base, LAYOUT, LAYOUT.tail, pins.Pin(cell()))


def test_no_token_is_added(comfy: Any, pins: ModuleType, base: Any) -> None:
    blocks = base.model.diffusion_model
    seen: list[tuple[int, int]] = []
    blocks.double_blocks[0].register_forward_pre_hook(
        lambda block, _, given: seen.append((given["img"].shape[1], given["txt"].shape[1])), with_kwargs=True
    )
    sample(comfy, base, edge=EDGE)
    bare = len(seen)
    sample(comfy, pinned(pins, base), edge=EDGE)
    assert len(seen) == 2 * bare > 0
    assert len(set(seen)) == 1


@pytest.mark.parametrize(("start", "reads"), [(0.0, False), (0.5, True)])
def test_a_step_reads_nothing_from_the_device(pins: ModuleType, base: Any, start: float, reads: bool) -> None:
    """Tensors of the meta device have no values.  Held from the middle on, the noise level has to be read."""
    held = pins.pin_frame(base, LAYOUT, LAYOUT.tail, pins.Pin(cell(), start)).get_attachment(pins.KEY)
    x, sigma = torch.empty(1, 16, EDGE, EDGE, device="meta"), torch.empty(1, device="meta")

    class Guider:
        class_obj = SimpleNamespace(inner_model=base.model)

        def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            return x

    if reads:
        with pytest.raises(RuntimeError, match="meta"):
            held.predict_noise(Guider(), x, sigma)
    else:
        assert held.predict_noise(Guider(), x, sigma).shape == x.shape


def test_pins_go_with_clones_and_are_found_below_what_others_put_around_them(pins: ModuleType, base: Any) -> None:
    first = pinned(pins, base).clone()
    for wrappers in first.wrappers.values():
        # Another pack times, logs or filters the pins' wrappers.
        wrappers[pins.KEY] = [
            lambda executor, *args, inner=inner, **more: inner(executor, *args, **more) for inner in wrappers[pins.KEY]
        ]
    second = pins.pin_frame(first, LAYOUT, 0, pins.Pin(cell()))
    assert set(second.get_attachment(pins.KEY).frames) == {0, LAYOUT.tail}
    assert set(first.get_attachment(pins.KEY).frames) == {LAYOUT.tail}
    assert base.get_attachment(pins.KEY) is None


def test_nothing_is_compiled_anew(comfy: Any, pins: ModuleType, base: Any) -> None:
    """Neither for ReCraft, nor for each of its steps."""
    compiled: list[int] = []

    def backend(graph: Any, _: Any) -> Any:
        compiled.append(len(graph.graph.nodes))
        return graph

    def drawn(model: Any) -> torch.Tensor:
        model = model.clone()
        sys.modules["comfy_api.torch_helpers"].set_torch_compile_wrapper(
            model, backend=backend, keys=["diffusion_model"]
        )
        return sample(comfy, model, edge=EDGE, steps=4)

    torch._dynamo.reset()
    try:
        drawn(base)
        before = len(compiled)
        latents = drawn(pinned(pins, base))
        assert len(compiled) == before > 0
        assert torch.equal(latents[..., EDGE // 2 :, : EDGE // 2], cell())
    finally:
        torch._dynamo.reset()
