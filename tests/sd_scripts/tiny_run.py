"""Tiny models, tokenizers and grids in a folder, and sd-scripts' parts sized for them: a trainer's run takes seconds.

As a script it runs a trainer:  python tiny_run.py training.train_recraft ARGUMENTS;  with KILL_IN_STEP=N in the
environment it kills itself before the N-th step.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
MODELS = ("flux", "ae", "clip_l", "t5xxl")


def shrink() -> None:
    """Size sd-scripts' FLUX, autoencoder and text encoders as `make_models` does."""
    from library import flux_models, flux_utils

    dev = flux_models.configs["dev"]
    sizes = {"hidden_size": 128, "num_heads": 1, "depth": 1, "depth_single_blocks": 1}
    flux = replace(dev.params, **sizes, vec_in_dim=16, context_in_dim=32)
    ae = replace(dev.ae_params, ch=32, ch_mult=[1, 1, 1, 1], num_res_blocks=1)
    flux_models.configs["dev"] = replace(dev, params=flux, ae_params=ae)
    flux_utils.load_clip_l = lambda path, dtype, *_, **__: _load(_clip_l(), path, dtype)
    flux_utils.load_t5xxl = lambda path, dtype, *_, **__: _load(_t5xxl(), path, dtype)


def make_models(folder: Path) -> None:
    """Write flux, ae, clip_l and t5xxl .safetensors and the folder tokenizers."""
    from library import flux_models

    torch.manual_seed(0)
    dev = flux_models.configs["dev"]
    modules = (flux_models.Flux(dev.params), flux_models.AutoEncoder(dev.ae_params), _clip_l(), _t5xxl())
    for name, module in zip(MODELS, modules, strict=True):
        state = {key: tensor.clone() for key, tensor in module.state_dict().items()}
        save_file(state, folder / f"{name}.safetensors")
    _make_tokenizers(folder / "tokenizers")


def make_grids(folder: Path, size: int, count: int = 4, captions: Iterable[str] = ("a lego house",)) -> Path:
    """A dataset of sd-scripts: noise in large pixels, with captions; the path of its TOML."""
    images = folder / f"grids{size}"
    images.mkdir(parents=True)
    texts = list(captions)
    for number in range(count):
        torch.manual_seed(number)
        pixels = torch.randint(0, 256, (size // 8, size // 8, 3), dtype=torch.uint8).numpy()
        Image.fromarray(pixels).resize((size, size), Image.Resampling.NEAREST).save(images / f"{number}.png")
        (images / f"{number}.caption").write_text(texts[number % len(texts)], encoding="utf-8")
    subset = f'[[datasets.subsets]]\nimage_dir = {json.dumps(str(images))}\ncaption_extension = ".caption"\n'
    path = folder / f"grids{size}.toml"
    path.write_text(f"[[datasets]]\nresolution = {size}\nbatch_size = 2\n{subset}", encoding="utf-8")
    return path


def arguments(folder: Path, output: Path, dataset: Path, steps: int) -> list[str]:
    """A command line that trains on the models of `folder`."""
    options = {
        "pretrained_model_name_or_path": folder / "flux.safetensors",
        **{name: folder / f"{name}.safetensors" for name in MODELS[1:]},
        "tokenizer_cache_dir": folder / "tokenizers",
        "t5xxl_max_token_length": 16,
        "dataset_config": dataset,
        "output_dir": output,
        "output_name": "tiny",
        "network_dim": 4,
        "learning_rate": 1e-3,
        "optimizer_type": "AdamW",
        "max_train_steps": steps,
        "max_data_loader_n_workers": 0,
        "save_precision": "float",
    }
    return [text for name, value in options.items() for text in (f"--{name}", str(value))]


def _clip_l() -> nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModel

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    return CLIPTextModel(CLIPTextConfig(vocab_size=600, **sizes))


def _t5xxl() -> nn.Module:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(T5Config(vocab_size=64, d_model=32, d_kv=16, d_ff=32, num_layers=1, num_heads=2))


def _load(module: nn.Module, path: str, dtype: torch.dtype | None) -> nn.Module:
    module.load_state_dict(load_file(path))
    return module.to(dtype)


def _make_tokenizers(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import CLIPTokenizer, T5TokenizerFast
    from transformers.models.clip.tokenization_clip import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    clip_l = folder / "openai_clip-vit-large-patch14"
    clip_l.mkdir(parents=True)
    (clip_l / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(words)}), encoding="utf-8")
    (clip_l / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    CLIPTokenizer(str(clip_l / "vocab.json"), str(clip_l / "merges.txt")).save_pretrained(clip_l)
    pieces = ["<pad>", "</s>", "<unk>", "\u2581", *"abcdefghijklmnopqrstuvwxyz0123456789*,-"]
    unigram = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=2))
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    T5TokenizerFast(tokenizer_object=unigram, extra_ids=0).save_pretrained(folder / "google_t5-v1_1-xxl")


def _kill_in_step(number: int) -> None:
    from training.sd.trainer import FluxTrainer

    original = FluxTrainer.on_step_start

    def on_step_start(self: FluxTrainer, *arguments: object, **named: object) -> None:
        if self.steps == number - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        original(self, *arguments, **named)

    FluxTrainer.on_step_start = on_step_start


if __name__ == "__main__":
    sys.path += [str(ROOT), str(Path(os.environ["SD_SCRIPTS_PATH"]).expanduser())]
    torch.set_num_threads(1)
    shrink()
    if number := os.environ.get("KILL_IN_STEP"):
        _kill_in_step(int(number))
    trainer = importlib.import_module(sys.argv[1])
    trainer.main(sys.argv[2:])
