"""Puts the project and sd-scripts on the import path, and gives tiny models."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]


def pytest_configure() -> None:
    # Appended: sd-scripts has top-level packages with common names, such as tests and tools.
    sys.path += [str(ROOT), str(Path(os.environ["SD_SCRIPTS_PATH"]).expanduser())]
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny models."""
    import tiny_run

    folder = tmp_path_factory.mktemp("tiny")
    tiny_run.shrink()
    tiny_run.make_models(folder)
    return folder


@pytest.fixture(autouse=True)
def any_precision() -> Iterator[None]:
    """accelerate keeps the precision of a process's first run."""
    from accelerate.state import AcceleratorState

    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def make_flux() -> Callable[..., torch.nn.Module]:
    """A FLUX of sd-scripts' class, 128 wide, one block of each kind; the same weights at every call."""
    from library.flux_models import Flux, FluxParams

    params = FluxParams(
        in_channels=64,
        vec_in_dim=16,
        context_in_dim=32,
        hidden_size=128,
        mlp_ratio=4.0,
        num_heads=1,
        depth=1,
        depth_single_blocks=1,
        axes_dim=[16, 56, 56],
        theta=10_000,
        qkv_bias=True,
        guidance_embed=True,
    )

    def make(dtype: torch.dtype = torch.float32) -> torch.nn.Module:
        torch.manual_seed(0)
        return Flux(params).to(dtype).requires_grad_(False)

    return make


@pytest.fixture
def make_batch() -> Callable[..., dict[str, Tensor]]:
    """Arguments of the model for a batch: 6 image tokens and 3 text tokens a sample."""

    def make(size: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(1)

        def draw(*shape: int) -> Tensor:
            return torch.randn(size, *shape, generator=generator).to(dtype)

        ids = torch.stack((torch.zeros(6), torch.arange(6) // 3, torch.arange(6) % 3), dim=-1)
        return {
            "img": draw(6, 64),
            "img_ids": ids.repeat(size, 1, 1),
            "txt": draw(3, 32),
            "txt_ids": torch.zeros(size, 3, 3),
            "timesteps": draw().sigmoid(),
            "y": draw(16),
            "guidance": torch.ones(size, dtype=dtype),
        }

    return make
