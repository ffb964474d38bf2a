"""FLUX-nano's autoencoder: 8x, 16 channels, in the file layout of TAESD, which ComfyUI's stock VAE loader opens.

Key names and shapes follow the TAESD convention (github.com/madebyollin/taesd).  FLUX keeps two latent spaces: the
autoencoder's and the model's, z_model = (z - shift) * scale with FLUX's constants.  Here the encoder's own output is
the model's space, so the demo needs no conversion, and the file's `vae_scale` and `vae_shift` tell the hosts.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from makeanything.flux import LATENT_CHANNELS

SCALE = 0.3611
SHIFT = 0.1159
"""FLUX's latent scale and shift, as every host applies them."""

WIDTH = 64
PAPER = 0.9
"""About the value of an empty pixel."""


def conv(inputs: int, outputs: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=bias)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return layer


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        last = conv(WIDTH, WIDTH)
        # Without norm layers, ten blocks in a row train well when each begins as the identity.
        nn.init.zeros_(last.weight)
        self.conv = nn.Sequential(conv(WIDTH, WIDTH), nn.ReLU(), conv(WIDTH, WIDTH), nn.ReLU(), last)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x) + x)


class Clamp(nn.Module):
    """Latents beyond +-3 carry no picture."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


def encoder() -> nn.Sequential:
    """Pictures (B, 3, H, W), 0..1 -> latents (B, 16, H/8, W/8)."""
    first = conv(3, WIDTH)
    # Begin blind to paper, the white of most pixels, so that what is drawn on it counts from the first step.
    with torch.no_grad():
        first.get_parameter("bias").copy_(-PAPER * first.weight.sum((1, 2, 3)))
    down = [layer for _ in range(3) for layer in (conv(WIDTH, WIDTH, 2, bias=False), Block(), Block(), Block())]
    return nn.Sequential(first, Block(), *down, conv(WIDTH, LATENT_CHANNELS))


def decoder() -> nn.Sequential:
    """Latents (B, 16, h, w) -> pictures (B, 3, 8h, 8w), about 0..1."""
    up = [
        layer
        for _ in range(3)
        for layer in (Block(), Block(), Block(), nn.Upsample(scale_factor=2), conv(WIDTH, WIDTH, bias=False))
    ]
    last = conv(WIDTH, 3)
    nn.init.normal_(last.weight, std=0.01)
    nn.init.constant_(last.get_parameter("bias"), PAPER)
    return nn.Sequential(Clamp(), conv(LATENT_CHANNELS, WIDTH), nn.ReLU(), *up, Block(), last)


class Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.taesd_encoder = encoder()
        self.taesd_decoder = decoder()

    def encode(self, pictures: Tensor) -> Tensor:
        """(B, H, W, 3), 0..1 -> latents in the model's space (B, 16, H/8, W/8)."""
        return self.taesd_encoder(pictures.movedim(-1, 1))

    def decode(self, latents: Tensor) -> Tensor:
        """Latents in the model's space (B, 16, h, w) -> pictures (B, 8h, 8w, 3), 0..1."""
        return self.taesd_decoder(latents).clamp(0, 1).movedim(1, -1)

    def to_file(self) -> dict[str, Tensor]:
        """Tensors of the TAESD file, with FLUX's scale and shift."""
        return {**self.state_dict(), "vae_scale": torch.tensor(SCALE), "vae_shift": torch.tensor(SHIFT)}

    @classmethod
    def from_file(cls, state: Mapping[str, Tensor]) -> Autoencoder:
        model = cls()
        model.load_state_dict({key: value for key, value in state.items() if not key.startswith("vae_")})
        return model
