"""A small reference FLUX (Black Forest Labs' FLUX.1 transformer), any width and depth, with BFL's parameter names.

It is what the demo draws with, what the built-in trainer trains and what the tests compare the hosts to.  Heads have
128 dimensions: 16 for the index, 56 for the row and 56 for the column of a token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..model_state import check_state
from ..serpentine import LATENT_CHANNELS, LATENTS_PER_TOKEN

HEAD_DIM = 128
AXES_DIM = (16, 56, 56)
THETA = 10_000.0
FREQUENCIES = 256
"""Width of the sinusoidal embedding of time and guidance."""


@dataclass(frozen=True)
class FluxParams:
    """Widths and depths of a FLUX; FLUX.1-dev is the default."""

    hidden_size: int = 3072
    depth: int = 19
    depth_single_blocks: int = 38
    context_in_dim: int = 4096
    vec_in_dim: int = 768
    guidance_embed: bool = True
    mlp_ratio: int = 4

    def __post_init__(self) -> None:
        if self.hidden_size < HEAD_DIM or self.hidden_size % HEAD_DIM:
            raise ValueError(f"hidden_size must be a multiple of {HEAD_DIM}, the width of a head: {self.hidden_size}")

    @property
    def num_heads(self) -> int:
        return self.hidden_size // HEAD_DIM

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> FluxParams:
        """Read the sizes off BFL-named weights; ValueError names what is missing."""
        try:
            hidden = state["img_in.weight"].shape[0]
            return cls(
                hidden_size=hidden,
                depth=_count(state, "double_blocks"),
                depth_single_blocks=_count(state, "single_blocks"),
                context_in_dim=state["txt_in.weight"].shape[1],
                vec_in_dim=state["vector_in.in_layer.weight"].shape[1],
                guidance_embed="guidance_in.in_layer.weight" in state,
                mlp_ratio=state["single_blocks.0.linear2.weight"].shape[1] // hidden - 1,
            )
        except KeyError as missing:
            raise ValueError(f"these are not FLUX weights with BFL names: {missing} is missing") from None
        except (IndexError, ZeroDivisionError):
            raise ValueError("these are not FLUX weights: a layer at the entrance has no width") from None


def _count(state: Mapping[str, Tensor], blocks: str) -> int:
    return len({key.split(".")[1] for key in state if key.startswith(f"{blocks}.")})


class Flux(nn.Module):
    """FLUX on latents: predicts the velocity noise - latents."""

    def __init__(self, params: FluxParams) -> None:
        super().__init__()
        self.params = params
        hidden = params.hidden_size
        patch = LATENT_CHANNELS * LATENTS_PER_TOKEN**2
        self.img_in = nn.Linear(patch, hidden)
        self.time_in = Embedder(FREQUENCIES, hidden)
        self.vector_in = Embedder(params.vec_in_dim, hidden)
        self.guidance_in = Embedder(FREQUENCIES, hidden) if params.guidance_embed else None
        self.txt_in = nn.Linear(params.context_in_dim, hidden)
        self.double_blocks = nn.ModuleList(DoubleBlock(hidden, params.mlp_ratio) for _ in range(params.depth))
        self.single_blocks = nn.ModuleList(
            SingleBlock(hidden, params.mlp_ratio) for _ in range(params.depth_single_blocks)
        )
        self.final_layer = FinalLayer(hidden, patch)

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> Flux:
        """The model whose weights these are (BFL names), in their dtype."""
        with torch.device("meta"):
            model = cls(FluxParams.from_state_dict(state))
        check_state(state, model, "a FLUX of this size")
        model.load_state_dict(dict(state), assign=True)
        return model

    def forward(self, latents: Tensor, t: Tensor, txt: Tensor, vec: Tensor, guidance: Tensor | None = None) -> Tensor:
        """Velocity (B, 16, H, W) at time t.

        latents (B, 16, H, W) with H and W even; t (B,), 1 = noise, 0 = picture; txt (B, L, context) and vec
        (B, vec_in_dim) from the text encoder; guidance (B,), ignored by models without a guidance embedding.
        """
        p = LATENTS_PER_TOKEN
        _, _, height, width = latents.shape
        img = self.img_in(rearrange(latents, "b c (h ph) (w pw) -> b (h w) (c ph pw)", ph=p, pw=p))
        txt = self.txt_in(txt)
        vec = self.time_in(sinusoid(t).to(img)) + self.vector_in(vec)
        if self.guidance_in is not None:
            if guidance is None:
                raise ValueError("this FLUX has a guidance embedding and needs a guidance (1.0 in training)")
            vec = vec + self.guidance_in(sinusoid(guidance).to(img))
        rope = rotations(txt.shape[1], height // p, width // p, img.device)
        for block in self.double_blocks:
            img, txt = block(img, txt, vec, rope)
        tokens = torch.cat((txt, img), dim=1)
        for block in self.single_blocks:
            tokens = block(tokens, vec, rope)
        img = self.final_layer(tokens[:, txt.shape[1] :], vec)
        return rearrange(img, "b (h w) (c ph pw) -> b c (h ph) (w pw)", h=height // p, ph=p, pw=p)


class Embedder(nn.Module):
    """Two-layer embedding of a vector (B, inputs) -> (B, hidden)."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.in_layer = nn.Linear(inputs, hidden)
        self.out_layer = nn.Linear(hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        return self.out_layer(F.silu(self.in_layer(x)))


class Modulation(nn.Module):
    """(B, hidden) -> `count` vectors (B, 1, hidden): shift, scale and gate of one or two sublayers."""

    def __init__(self, hidden: int, count: int) -> None:
        super().__init__()
        self.count = count
        self.lin = nn.Linear(hidden, count * hidden)

    def forward(self, vec: Tensor) -> tuple[Tensor, ...]:
        return self.lin(F.silu(vec))[:, None].chunk(self.count, dim=-1)


class RMSNorm(nn.Module):
    """RMS norm with BFL's parameter name `scale`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.scale.shape, self.scale, eps=1e-6)


class QKNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query_norm = RMSNorm(HEAD_DIM)
        self.key_norm = RMSNorm(HEAD_DIM)

    def forward(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N, 3 hidden) -> q, k, v (B, heads, N, 128), q and k normed."""
        q, k, v = rearrange(qkv, "b n (three h d) -> three b h n d", three=3, d=HEAD_DIM)
        return self.query_norm(q).to(v), self.key_norm(k).to(v), v


class SelfAttention(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.norm = QKNorm()
        self.proj = nn.Linear(hidden, hidden)


class DoubleBlock(nn.Module):
    """Image and text tokens with weights of their own, one attention over both."""

    def __init__(self, hidden: int, mlp_ratio: int) -> None:
        super().__init__()
        self.img_mod = Modulation(hidden, 6)
        self.img_attn = SelfAttention(hidden)
        self.img_mlp = mlp(hidden, mlp_ratio)
        self.txt_mod = Modulation(hidden, 6)
        self.txt_attn = SelfAttention(hidden)
        self.txt_mlp = mlp(hidden, mlp_ratio)

    def forward(self, img: Tensor, txt: Tensor, vec: Tensor, rope: Tensor) -> tuple[Tensor, Tensor]:
        img_mod, txt_mod = self.img_mod(vec), self.txt_mod(vec)
        img_qkv = self.img_attn.norm(self.img_attn.qkv(modulate(img, *img_mod[:2])))
        txt_qkv = self.txt_attn.norm(self.txt_attn.qkv(modulate(txt, *txt_mod[:2])))
        q, k, v = (torch.cat(pair, dim=2) for pair in zip(txt_qkv, img_qkv, strict=True))
        mixed = attend(q, k, v, rope)
        txt_mixed, img_mixed = mixed.split([txt.shape[1], img.shape[1]], dim=1)
        img = img + img_mod[2] * self.img_attn.proj(img_mixed)
        txt = txt + txt_mod[2] * self.txt_attn.proj(txt_mixed)
        img = img + img_mod[5] * self.img_mlp(modulate(img, *img_mod[3:5]))
        txt = txt + txt_mod[5] * self.txt_mlp(modulate(txt, *txt_mod[3:5]))
        return img, txt


class SingleBlock(nn.Module):
    """All tokens through attention and MLP side by side."""

    def __init__(self, hidden: int, mlp_ratio: int) -> None:
        super().__init__()
        self.widths = [3 * hidden, mlp_ratio * hidden]
        self.linear1 = nn.Linear(hidden, sum(self.widths))
        self.linear2 = nn.Linear(hidden + mlp_ratio * hidden, hidden)
        self.norm = QKNorm()
        self.modulation = Modulation(hidden, 3)

    def forward(self, tokens: Tensor, vec: Tensor, rope: Tensor) -> Tensor:
        shift, scale, gate = self.modulation(vec)
        qkv, wide = self.linear1(modulate(tokens, shift, scale)).split(self.widths, dim=-1)
        q, k, v = self.norm(qkv)
        mixed = attend(q, k, v, rope)
        return tokens + gate * self.linear2(torch.cat((mixed, F.gelu(wide, approximate="tanh")), dim=-1))


class FinalLayer(nn.Module):
    def __init__(self, hidden: int, patch: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden, patch)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden, 2 * hidden))

    def forward(self, tokens: Tensor, vec: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(vec)[:, None].chunk(2, dim=-1)
        return self.linear(modulate(tokens, shift, scale))


def mlp(hidden: int, ratio: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(hidden, ratio * hidden), nn.GELU(approximate="tanh"), nn.Linear(ratio * hidden, hidden)
    )


def modulate(tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm without weights, then shift and scale: (B, N, hidden)."""
    return torch.addcmul(shift, F.layer_norm(tokens, tokens.shape[-1:], eps=1e-6), 1 + scale)


def sinusoid(values: Tensor) -> Tensor:
    """Sinusoidal embedding (B,) -> (B, 256) of a time or guidance, scaled by 1000 as BFL does."""
    half = FREQUENCIES // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, dtype=torch.float32, device=values.device) / half)
    angles = 1000.0 * values.float()[:, None] * frequencies
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


@lru_cache(maxsize=32)
def rotations(text: int, rows: int, cols: int, device: torch.device) -> Tensor:
    """Rotary embedding of all tokens, text first: (N, 64, 2) holding cos and sin.  Text tokens lie at the origin."""
    ids = torch.zeros(rows, cols, 3, dtype=torch.float64)
    ids[..., 1] = torch.arange(rows)[:, None]
    ids[..., 2] = torch.arange(cols)[None, :]
    ids = torch.cat((torch.zeros(text, 3, dtype=torch.float64), ids.reshape(-1, 3)))
    angles = [
        ids[:, axis, None] / THETA ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        for axis, dim in enumerate(AXES_DIM)
    ]
    angle = torch.cat(angles, dim=-1)
    return torch.stack((angle.cos(), angle.sin()), dim=-1).to(device, torch.float32)


def rotate(x: Tensor, rope: Tensor) -> Tensor:
    """Turn neighbouring pairs of (B, heads, N, 128) by the angles of `rope`."""
    even, odd = rearrange(x.float(), "b h n (d two) -> two b h n d", two=2)
    cos, sin = rope.unbind(-1)
    turned = torch.stack((cos * even - sin * odd, sin * even + cos * odd), dim=-1)
    return rearrange(turned, "b h n d two -> b h n (d two)").to(x)


def attend(q: Tensor, k: Tensor, v: Tensor, rope: Tensor) -> Tensor:
    """All tokens attend to all: (B, heads, N, 128) -> (B, N, hidden)."""
    mixed = F.scaled_dot_product_attention(rotate(q, rope), rotate(k, rope), v)
    return rearrange(mixed, "b h n d -> b n (h d)")
