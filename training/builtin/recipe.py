"""A run of the built-in loop, read from a TOML file with the names and meanings of sd-scripts' settings.

Settings that change only speed, memory, logs or samples are passed over.  Any other setting that the loop does not know
is an error, because it would change the result.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from makeanything.foreign import brief

from ..values import NUMBER, Values, choose, flatten, pairs, parse, path_of, read_toml, shown, take
from .objective import Objective
from .settings import Settings

NETWORK = {"network_dim", "network_alpha", "network_args"}
OF_KIND: Mapping[str, set[str]] = {
    "heads": NETWORK | {"network_weights"},
    "recraft": NETWORK | {"head_file", "head", "frames"},
    "full": set(),
}
"""What trains -> the settings that only this kind of run has."""
KINDS = tuple(OF_KIND)
FILES = ("pretrained_model_name_or_path", "ae", "text_encoder", "dataset_config")
READ = {
    *FILES, "output_dir", "output_name", "save_precision", "learning_rate", "optimizer_type", "optimizer_args",
    "lr_scheduler", "lr_warmup_steps", "max_train_steps", "gradient_accumulation_steps", "max_grad_norm",
    "mixed_precision", "seed", "save_every_n_steps", "timestep_sampling", "discrete_flow_shift", "sigmoid_scale",
    "guidance_scale",
}  # fmt: skip
FIXED: Mapping[str, tuple[object, ...]] = {
    "loss_type": ("l2",),
    "model_prediction_type": ("raw",),
    "network_train_unet_only": (True,),
    "prior_loss_weight": (1.0,),
    "save_model_as": ("safetensors",),
    "weighting_scheme": ("none", "uniform"),
}
"""Settings of which this loop knows only these values."""
MODULES = {"heads": "training.asymmetric_network", "recraft": "networks.lora_flux"}
PASSED_OVER = {
    "apply_t5_attn_mask", "blocks_to_swap", "cache_latents", "cache_latents_to_disk", "cache_text_encoder_outputs",
    "cache_text_encoder_outputs_to_disk", "clip_l", "cpu_offload_checkpointing", "fp8_base", "fp8_base_unet",
    "gradient_checkpointing", "highvram", "lowram", "max_data_loader_n_workers", "mem_eff_attn", "no_half_vae",
    "persistent_data_loader_workers", "resume", "save_merged", "sd_scripts", "sdpa", "skip_cache_check",
    "skip_until_initial_step", "split_mode", "t5xxl", "t5xxl_max_token_length", "text_encoder_batch_size",
    "tokenizer_cache_dir", "torch_compile", "training_comment", "vae_batch_size", "xformers",
}  # fmt: skip
PREFIXES_PASSED_OVER = ("ddp_", "huggingface_", "log_", "logging_", "metadata_", "sample_", "save_", "wandb_")

OPTIMIZERS = {"adamw": "adamw", "came": "came", "came_pytorch.came": "came", "training.came.came": "came"}
SCHEDULES = {"constant": "constant", "constant_with_warmup": "constant", "cosine": "cosine"}
PRECISIONS = {"float": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
SAMPLINGS = {name: name for name in ("shift", "flux_shift", "sigmoid", "uniform", "sigma")}


@dataclass(frozen=True)
class Recipe:
    """What a run trains (kind: heads, recraft or full), on what, and how.

    keep_every: steps between weights that are kept, besides the last.  network: its options, as network_args write
    them.  passed_over: settings without a meaning here.
    """

    kind: str
    flux: Path
    autoencoder: Path
    text_encoder: Path
    datasets: Path
    output_dir: Path
    output_name: str
    objective: Objective
    settings: Settings
    keep_every: int | None = None
    precision: torch.dtype = torch.float32
    rank: int | None = None
    alpha: float | None = None
    network: Mapping[str, str] = field(default_factory=dict)
    weights: str | None = None
    head_file: str | None = None
    head: str | None = None
    frames: int | None = None
    passed_over: tuple[str, ...] = ()

    @classmethod
    def read(cls, kind: str, path: Path, overrides: Sequence[str] = ()) -> Recipe:
        """A TOML file, with `key=value` overrides.  ValueError names a setting that is wrong, missing or not known."""
        values = flatten(read_toml(path)) | parse(overrides)
        if "text_encoder" not in values:
            raise ValueError(
                "the setting text_encoder is missing: the built-in loop is for models with the small text encoder; "
                "FLUX.1-dev is trained with sd-scripts: python -m training.train_heads, or training.train_recraft"
            )
        flux, autoencoder, text_encoder, datasets = (_file(values, name) for name in FILES)
        keep = take(values, "save_every_n_steps", int, None)
        head = values.get("head")
        return cls(
            kind,
            flux,
            autoencoder,
            text_encoder,
            datasets,
            output_dir=path_of(take(values, "output_dir", str)),
            output_name=take(values, "output_name", str),
            objective=_read_objective(kind, values),
            settings=_read_settings(values, keep),
            keep_every=keep,
            precision=choose(values, "save_precision", PRECISIONS, "float"),
            rank=take(values, "network_dim", int, None),
            alpha=take(values, "network_alpha", NUMBER, None),
            network=pairs(values, "network_args"),
            weights=take(values, "network_weights", str, None),
            head_file=take(values, "head_file", str, None),
            head=None if head is None else str(head),
            frames=take(values, "frames", int, None),
            passed_over=_passed_over(kind, values),
        )


def _file(values: Values, name: str) -> Path:
    path = path_of(take(values, name, str))
    if not path.is_file():
        raise FileNotFoundError(f"{name}: there is no file {path}")
    return path


def _read_settings(values: Values, keep: int | None) -> Settings:
    steps, warmup = take(values, "max_train_steps", int), take(values, "lr_warmup_steps", NUMBER, 0)
    texts = pairs(values, "optimizer_args")
    try:
        arguments = {name: ast.literal_eval(text) for name, text in texts.items()}
    # Text that is not Python, or is nested too deep for it.
    except (SyntaxError, TypeError, ValueError, RecursionError, MemoryError):
        got = brief(str(texts))
        raise ValueError(f"optimizer_args are names with numbers, such as weight_decay=0.01; got {got}") from None
    return Settings(
        steps=steps,
        lr=take(values, "learning_rate", NUMBER),
        # As in sd-scripts, a fraction is one of all steps.
        warmup=int(warmup * steps) if isinstance(warmup, float) else warmup,
        schedule=choose(values, "lr_scheduler", SCHEDULES, "constant"),
        optimizer=choose(values, "optimizer_type", OPTIMIZERS, "adamw"),
        optimizer_args=arguments,
        clip=take(values, "max_grad_norm", NUMBER, 1.0),
        accumulation=take(values, "gradient_accumulation_steps", int, 1),
        mixed_precision=take(values, "mixed_precision", str, "no"),
        seed=take(values, "seed", int, 0),
        **({} if keep is None else {"save_every": keep}),
    )


def _read_objective(kind: str, values: Values) -> Objective:
    """With sd-scripts' meanings; its "sigma" draws evenly from a table of 1000 times, this loop from all times."""
    sampling = choose(values, "timestep_sampling", SAMPLINGS, "flux_shift" if kind == "recraft" else "shift")
    shift = take(values, "discrete_flow_shift", NUMBER, 3.1582)
    spread = take(values, "sigmoid_scale", NUMBER, 1.0)
    guidance = take(values, "guidance_scale", NUMBER, 1.0)
    return Objective(
        shift={"shift": shift, "sigma": shift, "flux_shift": None}.get(sampling, 1.0),
        spread=None if sampling in ("uniform", "sigma") else spread,
        guidance=(guidance, guidance),
    )


def _passed_over(kind: str, values: Values) -> tuple[str, ...]:
    """Settings that change nothing here.  ValueError for one that would."""
    known = READ | OF_KIND[kind]
    fixed = {**FIXED, **({"network_module": (MODULES[kind],)} if kind in MODULES else {})}
    found = []
    for key, value in values.items():
        # sd-scripts' switches are off at false.
        if key in known or value is False:
            continue
        if key in PASSED_OVER or key.startswith(PREFIXES_PASSED_OVER):
            found.append(key)
        elif key not in fixed:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "leave it out, or train with sd-scripts"
            raise ValueError(f"the built-in loop can't honour {brief(key)} = {shown(value)} for {kind}: {hint}")
        elif value not in fixed[key]:
            raise ValueError(f"the built-in loop knows {key} = {fixed[key][0]!r} alone, got {shown(value)}")
    return tuple(found)
