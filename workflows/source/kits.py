"""What a workflow is built with: FLUX-nano, which comes with the pack, or FLUX.1-dev and the released weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .graph import Model

_HUB = "https://huggingface.co"
_MAKEANYTHING = f"{_HUB}/showlab/makeanything/resolve/main"


def _model(directory: str, url: str) -> Model:
    return {"name": url.rsplit("/", 1)[-1], "url": url, "directory": directory}


UNET = _model("diffusion_models", f"{_HUB}/Comfy-Org/flux1-dev/resolve/main/flux1-dev.safetensors")
VAE = _model("vae", f"{_HUB}/Comfy-Org/Lumina_Image_2.0_Repackaged/resolve/main/split_files/vae/ae.safetensors")
CLIP_L = _model("text_encoders", f"{_HUB}/comfyanonymous/flux_text_encoders/resolve/main/clip_l.safetensors")
T5 = _model("text_encoders", f"{_HUB}/comfyanonymous/flux_text_encoders/resolve/main/t5xxl_fp16.safetensors")
FP8_T5 = _model(
    "text_encoders", f"{_HUB}/comfyanonymous/flux_text_encoders/resolve/main/t5xxl_fp8_e4m3fn_scaled.safetensors"
)
FP8_CHECKPOINT = _model("checkpoints", f"{_HUB}/Comfy-Org/flux1-dev/resolve/main/flux1-dev-fp8.safetensors")
HEADS_9F = _model("loras", f"{_MAKEANYTHING}/asymmetric_lora/asymmetric_lora_9f_general.safetensors")
HEADS_4F = _model("loras", f"{_MAKEANYTHING}/asymmetric_lora/asymmetric_lora_4f_general.safetensors")
RECRAFT_9F = _model("loras", f"{_MAKEANYTHING}/recraft/recraft_9f_portrait.safetensors")
RECRAFT_SKETCH = _model("loras", f"{_MAKEANYTHING}/recraft/recraft_9f_sketch.safetensors")
RECRAFT_4F = _model("loras", f"{_MAKEANYTHING}/recraft/recraft_4f_wood_sculpture.safetensors")
STYLE = _model("loras", f"{_HUB}/XLabs-AI/flux-lora-collection/resolve/main/anime_lora_comfy_converted.safetensors")


@dataclass(frozen=True)
class Kit:
    """Files by name, and settings.

    `second` is another domain of the heads file, for graphs with two; `cell` is a frame's edge in pixels, 0 as trained;
    `guidance` is None for a model that is guided by cfg.
    """

    unet: str
    vae: str
    text_encoders: tuple[str, ...]
    heads: str
    recraft: str
    style: str
    domain: str
    subject: str
    cell: int
    steps: int
    cfg: float
    guidance: float | None
    seed: int = 1
    second: str = ""
    models: tuple[Model, ...] = ()

    @property
    def is_nano(self) -> bool:
        return self.guidance is None

    def needs(self, *names: str) -> list[Model]:
        """The files of these names that must be downloaded."""
        return [model for model in self.models if model["name"] in names]


NANO_9F = Kit(
    unet="flux_nano.safetensors",
    vae="flux_nano_ae.safetensors",
    text_encoders=("flux_nano_text.safetensors",),
    heads="flux_nano_heads_9f.safetensors",
    recraft="flux_nano_recraft_9f.safetensors",
    style="flux_nano_parchment_style.safetensors",
    domain="Tree",
    subject="a big pink cherry",
    cell=64,
    steps=20,
    cfg=2.0,
    guidance=None,
)
NANO_4F = replace(NANO_9F, heads="flux_nano_heads_4f.safetensors", recraft="flux_nano_recraft_4f.safetensors", cell=96)
DEV_9F = Kit(
    unet=UNET["name"],
    vae=VAE["name"],
    text_encoders=(CLIP_L["name"], T5["name"]),
    heads=HEADS_9F["name"],
    recraft=RECRAFT_9F["name"],
    style=STYLE["name"],
    domain="Portrait",
    subject="1 girl with a red scarf",
    cell=0,
    steps=25,
    cfg=1.0,
    guidance=3.5,
    second="Sketch",
    models=(UNET, VAE, CLIP_L, T5, HEADS_9F, RECRAFT_9F, RECRAFT_SKETCH, STYLE),
)
DEV_4F = replace(
    DEV_9F,
    heads=HEADS_4F["name"],
    recraft=RECRAFT_4F["name"],
    domain="Wood sculpture",
    subject="a sleeping fox",
    models=(UNET, VAE, CLIP_L, T5, HEADS_4F, RECRAFT_4F, STYLE),
)
