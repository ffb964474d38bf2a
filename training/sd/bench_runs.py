"""A training step to measure: a frozen FLUX of sd-scripts' class, a network on it, AdamW, random tokens."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from library.flux_models import Flux, configs
from networks import lora_flux
from torch import Tensor, nn

from makeanything.domains import Domain

from ..asymmetric_network import AsymmetricNetwork
from ..heads.idle import IdleHeads
from ..heads.network import HeadNetwork
from ..memory import peak_of


@dataclass(frozen=True)
class Size:
    """Sizes of the model, of a sample (grid: tokens along an edge) and of the LoRA."""

    hidden: int = 3072
    double_blocks: int = 19
    single_blocks: int = 38
    context: int = 4096
    vector: int = 768
    grid: int = 66
    text: int = 512
    rank: int = 64
    batch: int = 2
    dtype: torch.dtype = torch.bfloat16
    checkpointing: bool = True

    def __str__(self) -> str:
        text = (
            f"width {self.hidden}, {self.double_blocks} + {self.single_blocks} blocks, rank {self.rank}, "
            f"{self.batch} samples of {self.grid**2} + {self.text} tokens, {str(self.dtype).removeprefix('torch.')}"
        )
        return text + ", gradient checkpointing" * self.checkpointing


FULL = Size()
"""FLUX.1-dev on grids of 1056 x 1056 px, as the paper trains it."""
SMALL = Size(384, 2, 4, 256, 64, grid=16, text=64, rank=8, dtype=torch.float32, checkpointing=False)
"""The same ratio of rank to width."""


@dataclass(frozen=True)
class Case:
    """A network to measure; with 0 domains it is sd-scripts' own."""

    domains: int
    mixed: bool = False
    idle: bool = False

    def __str__(self) -> str:
        if not self.domains:
            return "networks.lora_flux"
        if self.domains == 1:
            return "1 domain"
        batches = "mixed domains" if self.mixed else "one domain"
        return f"{self.domains} domains, batches of {batches}" + (", idle heads on the CPU" if self.idle else "")

    def heads(self, number: int, batch: int) -> list[int]:
        """Heads (from 0) of the samples of a step: another domain every step, or one for every sample."""
        return [(number * batch + k if self.mixed else number) % self.domains for k in range(batch)]


STOCK = Case(0)
CASES = (
    Case(1),
    *(Case(domains, mixed, idle) for domains in (10, 21) for mixed in (False, True) for idle in (False, True)),
)


class Run:
    """A network on a FLUX that shares the weights of `base`, with an optimizer that has seen every parameter."""

    def __init__(self, base: nn.Module, size: Size, case: Case) -> None:
        self.size, self.case, self.number = size, case, 0
        self.flux = make_flux(size, base)
        self.device = next(base.parameters()).device
        self.network = _network(self.flux, size, case).to(self.device)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-6)
        for parameter in self.network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.idle: IdleHeads | None = None
        if isinstance(self.network, HeadNetwork) and case.idle:
            self.idle = IdleHeads(self.network, self.optimizer, self.device)
        self.batch = make_batch(size, self.device)

    def step(self) -> None:
        if isinstance(self.network, HeadNetwork):
            heads = self.case.heads(self.number, self.size.batch)
            self.network.route.heads = tuple(heads)
            if self.idle:
                self.idle.place(set(heads))
        self.number += 1
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.size.dtype == torch.bfloat16):
            velocity = self.flux(**self.batch)
        velocity.float().square().mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def seconds(self) -> float:
        _wait(self.device)
        start = time.perf_counter()
        self.step()
        _wait(self.device)
        return time.perf_counter() - start

    def peak_bytes(self) -> int:
        """Bytes on the card at the peak of a step, FLUX included."""
        self.step()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.step()
            return torch.cuda.max_memory_allocated()
        return peak_of(self.step) + _bytes(self._resident())

    def _resident(self) -> Iterable[Tensor]:
        parameters = set(self.network.parameters())
        if self.idle and isinstance(self.network, HeadNetwork):
            waiting = set(range(self.case.domains)) - self.idle.placed
            parameters -= {parameter for head in waiting for parameter in self.network.head(head)}
        yield from (*self.flux.parameters(), *self.batch.values(), *parameters)
        for parameter in parameters:
            yield from (value for value in self.optimizer.state[parameter].values() if isinstance(value, Tensor))


def make_flux(size: Size, base: nn.Module | None = None, device: str = "cpu") -> nn.Module:
    """A frozen FLUX of sd-scripts' class, with the weights of `base`, or else random ones."""
    params = replace(
        configs["dev"].params,
        hidden_size=size.hidden,
        num_heads=size.hidden // 128,
        depth=size.double_blocks,
        depth_single_blocks=size.single_blocks,
        context_in_dim=size.context,
        vec_in_dim=size.vector,
    )
    with torch.device("meta"):
        flux = Flux(params).to(size.dtype)
    if base is None:
        flux.to_empty(device=device)
        for parameter in flux.parameters():
            nn.init.normal_(parameter, std=0.02)
    else:
        flux.load_state_dict(base.state_dict(), assign=True)
    flux.requires_grad_(False).train()
    if size.checkpointing:
        flux.enable_gradient_checkpointing()
    return flux


def make_batch(size: Size, device: torch.device) -> dict[str, Tensor]:
    """Random arguments of the model."""

    def draw(*shape: int) -> Tensor:
        return torch.randn(size.batch, *shape, device=device, dtype=size.dtype)

    tokens = size.grid**2
    places = torch.arange(tokens, device=device)
    ids = torch.stack((torch.zeros_like(places), places // size.grid, places % size.grid), dim=-1)
    return {
        "img": draw(tokens, 64),
        "img_ids": ids.expand(size.batch, -1, -1).to(size.dtype),
        "txt": draw(size.text, size.context),
        "txt_ids": torch.zeros(size.batch, size.text, 3, device=device, dtype=size.dtype),
        "timesteps": draw().sigmoid(),
        "y": draw(size.vector),
        "guidance": torch.ones(size.batch, device=device, dtype=size.dtype),
    }


def _network(flux: nn.Module, size: Size, case: Case) -> nn.Module:
    if not case.domains:
        network = lora_flux.create_network(1.0, size.rank, 1.0, None, [], flux)
    else:
        heads = [Domain.of(f"Domain {n}x", 9, "painting") for n in range(case.domains)]
        network = AsymmetricNetwork(flux, heads, size.rank, 1.0)
        network.leave_idle_on_cpu(case.idle)
    network.apply_to([], flux, False, True)
    return network.requires_grad_(True)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum({t.data_ptr(): t.numel() * t.element_size() for t in tensors}.values())


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
