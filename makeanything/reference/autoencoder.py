"""FLUX-nano's autoencoder: 8x, 16 channels, in the file layout of TAESD, which ComfyUI's stock VAE loader opens.

Key names and shapes follow the TAESD convention (github.com/madebyollin/taesd).  FLUX keeps two latent spaces: the
autoencoder's and the model's, z_model = (z - shift) * scale with FLUX's constants.  Here the encoder's own output is
the model's space, so the demo needs no conversion, and the file's `vae_scale` and `vae_shift` tell the hosts.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..model_state import check_state
from ..serpentine import LATENT_CHANNELS

SCALE = 0.3611
SHIFT = 0.1159
"""FLUX's latent scale and shift, as every host applies them."""

WIDTH = 64
PAPER = 0.9
"""About the value of an empty pixel."""
COLOUR = 3.0
"""Latent units per unit of colour at the start."""


def conv(inputs: int, outputs: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=bias)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if bias:
        nn.init.zeros_(layer.get_parameter("bias"))
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
    down = [layer for _ in range(3) for layer in (conv(WIDTH, WIDTH, 2, bias=False), Block(), Block(), Block())]
    return nn.Sequential(conv(3, WIDTH), Block(), *down, conv(WIDTH, LATENT_CHANNELS))


def decoder() -> nn.Sequential:
    """Latents (B, 16, h, w) -> pictures (B, 3, 8h, 8w), about 0..1."""
    up = [
        layer
        for _ in range(3)
        for layer in (Block(), Block(), Block(), nn.Upsample(scale_factor=2), conv(WIDTH, WIDTH, bias=False))
    ]
    return nn.Sequential(Clamp(), conv(LATENT_CHANNELS, WIDTH), nn.ReLU(), *up, Block(), conv(WIDTH, 3))


class Autoencoder(nn.Module):
    """Starts as a blur that keeps colours: latents 0..2 are the mean colour of 8 x 8 px, off paper."""

    def __init__(self) -> None:
        super().__init__()
        self.taesd_encoder = encoder()
        self.taesd_decoder = decoder()
        _pass_colour(self.taesd_encoder, COLOUR)
        _pass_colour(self.taesd_decoder, 1 / COLOUR)

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
        weights = {key: value for key, value in state.items() if not key.startswith("vae_")}
        check_state(weights, model, "an autoencoder in TAESD's layout")
        model.load_state_dict(weights)
        return model


@torch.no_grad()
def _pass_colour(network: nn.Sequential, gain: float) -> None:
    """Let colour through from the start: six channels carry what is above and below zero of three, past every ReLU."""
    first, *middle, last = (layer for layer in network if isinstance(layer, nn.Conv2d))
    blur = torch.tensor([1.0, 2.0, 1.0]) / 4
    signs = torch.cat([torch.eye(3), -torch.eye(3)])
    for layer, weights in ((first, signs), *((layer, torch.eye(6)) for layer in middle), (last, gain * signs.T)):
        outputs, inputs = weights.shape
        # These channels take from one another alone, until training changes that.
        layer.weight[:outputs] = 0
        layer.weight[:outputs, :inputs] = weights[..., None, None] * torch.outer(blur, blur)
    last.weight[3:, :6] = 0
    if first.in_channels == 3:
        first.get_parameter("bias").copy_(-PAPER * first.weight.sum((1, 2, 3)))
    else:
        last.get_parameter("bias").fill_(PAPER)
