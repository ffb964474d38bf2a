"""FLUX-nano's text encoder: a few words to the context and the pooled vector that FLUX reads.

Words are hashed into a table, so any prompt has tokens; two transformer layers let them see each other.  It was trained
together with FLUX-nano and knows the demo's prompts only.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

# By name: linters for ComfyUI want its own layers wherever `nn.` stands, and this runs without it too.
from torch.nn import Embedding, LayerNorm, Linear, Parameter, Sequential, TransformerEncoder, TransformerEncoderLayer

from . import model_state

TOKENS = 24
"""Length of every prompt in tokens: longer ones are cut, shorter ones padded with PAD."""

NAME = "FLUX-nano's text encoder"
WORDS = 4645
"""Rows of the word table; row PAD is not a word.  At this number no two words that FLUX-nano knows share a row."""

MOST_WORDS = 65536
"""Rows that a file may have."""

PAD = 0
WIDTH = 128
HEADS = 4
DEPTH = 2


def tokenize(prompt: str, rows: int = WORDS) -> list[int]:
    """TOKENS word numbers below `rows`: words and numbers in lower case, everything else parts them."""
    words = re.findall(r"[a-z]+|\d+", prompt.lower())[:TOKENS]
    numbers = [zlib.crc32(word.encode()) % (rows - 1) + 1 for word in words]
    return numbers + [PAD] * (TOKENS - len(numbers))


class TextEncoder(nn.Module):
    """Tokens (B, TOKENS) -> txt (B, TOKENS, WIDTH) and vec (B, WIDTH).

    rows: of the word table; files of version 0.1 have 2048.
    """

    def __init__(self, rows: int = WORDS) -> None:
        super().__init__()
        self.words = Embedding(rows, WIDTH)
        self.places = Parameter(torch.zeros(TOKENS, WIDTH))
        layer = TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = TransformerEncoder(layer, DEPTH, enable_nested_tensor=False)
        self.norm = LayerNorm(WIDTH)
        self.pool = Sequential(Linear(WIDTH, WIDTH), LayerNorm(WIDTH))
        nn.init.normal_(self.words.weight, std=0.5)
        nn.init.normal_(self.places, std=0.5)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        txt = self.norm(self.layers(self.words(tokens) + self.places))
        written = (tokens != PAD).unsqueeze(-1)
        return txt, self.pool((txt * written).sum(1) / written.sum(1).clamp(min=1))

    def encode(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """Prompts -> txt (B, TOKENS, WIDTH) and vec (B, WIDTH)."""
        rows = self.words.num_embeddings
        return self(torch.tensor([tokenize(prompt, rows) for prompt in prompts], device=self.places.device))

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> TextEncoder:
        """The encoder whose weights these are, in float32; ValueError when they are something else."""
        check_rows(model_state.shapes_of(state))
        encoder = cls(state["words.weight"].shape[0])
        model_state.check_state(state, encoder, NAME)
        encoder.load_state_dict({key: value.float() for key, value in state.items()})
        return encoder.eval()


def check_rows(shapes: model_state.Shapes) -> None:
    """ValueError names the first tensor that the encoder lacks, or has in another shape; words have any rows."""
    words = shapes.get("words.weight")
    rows = words[0] if words and 2 <= words[0] <= MOST_WORDS else WORDS
    with torch.device("meta"):
        model_state.check_shapes(shapes, model_state.shapes_of(TextEncoder(rows).state_dict()), NAME)
