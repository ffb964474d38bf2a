"""FLUX-nano in ComfyUI: its files in the stock loaders' lists, and its text encoder as a CLIP."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfy.sd
import folder_paths
import torch
from comfy_api.latest import io

from ..makeanything.foreign import brief, text_of
from ..makeanything.text_encoder import TextEncoder, check_rows, tokenize
from ..makeanything.weights_file import open_weights
from .inputs import CATEGORY

FOLDER = "text_encoders"
MODELS = Path(__file__).parents[1] / "models"


def offer_models() -> None:
    """Add the pack's model folders after the host's own: loaders list both, and files are still saved in the user's."""
    for folder in sorted(path for path in MODELS.glob("*") if path.is_dir()):
        folder_paths.add_model_folder_path(folder.name, str(folder))


class NanoTokenizer:
    """What the host's CLIP needs of its tokenizer.  `tokenizer_data` is {"rows": rows of the encoder's word table}."""

    def __init__(self, embedding_directory: str | None, tokenizer_data: dict[str, int]) -> None:
        self.rows = tokenizer_data["rows"]

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **_: Any) -> list[int]:
        return tokenize(text, self.rows)


class NanoTextModel(TextEncoder):
    """What the host's CLIP needs of its model."""

    # Its few plain layers are unknown to the host's weight streaming.
    disable_offload = True

    def __init__(self, dtype: torch.dtype, device: torch.device, model_options: Any, rows: int) -> None:
        super().__init__(rows)
        self.dtypes = {torch.float32}

    def set_clip_options(self, options: dict[str, Any]) -> None:
        """Nothing can be set: the output is always that of one layer, on the model's device."""

    def reset_clip_options(self) -> None:
        """As `set_clip_options`."""

    def encode_token_weights(self, tokens: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens -> txt (1, TOKENS, WIDTH) and vec (1, WIDTH)."""
        return self(torch.tensor([tokens], device=self.places.device))


class LoadNanoTextEncoder(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        files = [name for name in folder_paths.get_filename_list(FOLDER) if "flux_nano" in name]
        return io.Schema(
            node_id="MakeAnythingLoadNanoTextEncoder",
            display_name="Load FLUX-nano Text Encoder",
            category=CATEGORY,
            description="The text encoder of FLUX-nano, the miniature FLUX that comes with this pack, as a CLIP. "
            "For FLUX.1-dev use DualCLIPLoader.",
            search_aliases=["makeanything", "demo", "clip loader", "nano"],
            inputs=[io.Combo.Input("text_encoder", options=files, tooltip="The file comes with the pack.")],
            outputs=[io.Clip.Output(tooltip="For CLIP Text Encode.")],
        )

    @classmethod
    def execute(cls, text_encoder: str) -> io.NodeOutput:
        path = folder_paths.get_full_path(FOLDER, text_of(text_encoder, "text_encoder"))
        if path is None:
            raise ValueError(f"The text_encoders folder has no file '{brief(text_encoder)}'; choose another one.")
        with open_weights(path) as file:
            # Before the weights are read: T5 has 10 GB of them.
            check_rows(file.shapes)
            encoder = TextEncoder.from_state_dict(file.read(file.entries))
        rows = {"rows": encoder.words.num_embeddings}
        target = SimpleNamespace(params=rows, clip=NanoTextModel, tokenizer=NanoTokenizer)
        size = sum(weight.numel() for weight in encoder.parameters())
        clip = comfy.sd.CLIP(target, tokenizer_data=rows, parameters=size, state_dict=encoder.state_dict())
        return io.NodeOutput(clip)


NODES: list[type[io.ComfyNode]] = [LoadNanoTextEncoder]
