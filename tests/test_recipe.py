"""Settings files of the built-in loop: sd-scripts' names and meanings, and what is refused."""

import re
from pathlib import Path

import pytest
import torch

from makeanything.asymmetric_lora import AsymmetricLora
from training.builtin.objective import Objective
from training.builtin.recipe import Recipe
from training.builtin.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
TEXT = """
    [model]
    pretrained_model_name_or_path = "FOLDER/flux"
    ae = "FOLDER/ae"
    text_encoder = "FOLDER/text"
    [anything]
    dataset_config = "FOLDER/data"
    output_dir = "FOLDER/out"
    output_name = "mine"
    learning_rate = 1e-4
    max_train_steps = 1000
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    for name in ("flux", "ae", "text", "data"):
        (tmp_path / name).touch()
    path = tmp_path / "run.toml"
    path.write_text(TEXT.replace("FOLDER", str(tmp_path)))
    return path


def test_a_recipe_of_all_settings(path, tmp_path):
    recipe = Recipe.read(
        "heads",
        path,
        (
            'network_module="training.asymmetric_network"',
            "network_dim=16",
            "network_alpha=2",
            'network_args=["domains=Portrait:9:a=b", "train_a = true"]',
            "network_weights=old.safetensors",
            "optimizer_type=came_pytorch.CAME",
            'optimizer_args=["betas=0.9,0.99,0.999", "weight_decay=0.1"]',
            "lr_scheduler=cosine",
            "lr_warmup_steps=0.1",
            "save_every_n_steps=50",
            "seed=7",
            "mixed_precision=bf16",
            "save_precision=bf16",
            "timestep_sampling=shift",
            "discrete_flow_shift=2.5",
            "guidance_scale=3.5",
            "gradient_accumulation_steps=4",
            "max_grad_norm=0",
        ),
    )
    assert recipe == Recipe(
        "heads",
        *(tmp_path / name for name in ("flux", "ae", "text", "data", "out")),
        "mine",
        Objective(2.5, 1.0, (3.5, 3.5)),
        Settings(
            1000,
            1e-4,
            warmup=100,
            schedule="cosine",
            optimizer="came",
            optimizer_args={"betas": (0.9, 0.99, 0.999), "weight_decay": 0.1},
            clip=0,
            accumulation=4,
            mixed_precision="bf16",
            seed=7,
            save_every=50,
        ),
        keep_every=50,
        precision=torch.bfloat16,
        rank=16,
        alpha=2,
        network={"domains": "Portrait:9:a=b", "train_a": "true"},
        weights="old.safetensors",
    )


def test_defaults_are_the_trainers(path):
    """sd-scripts' own, but for what the heads and ReCraft trainers set."""
    heads, recraft = Recipe.read("heads", path), Recipe.read("recraft", path, ["head=2"])
    assert heads.objective == Objective(3.1582, 1.0, (1.0, 1.0))
    assert recraft.objective == Objective(None, 1.0, (1.0, 1.0))
    assert heads.settings == Settings(1000, 1e-4, warmup=0, schedule="constant")
    assert (heads.precision, heads.keep_every, recraft.head) == (torch.float32, None, "2")


@pytest.mark.parametrize(
    ("sampling", "shift", "spread"),
    [
        ("flux_shift", None, 2.0),
        ("shift", 3.1582, 2.0),
        ("sigmoid", 1.0, 2.0),
        ("uniform", 1.0, None),
        ("sigma", 3.1582, None),
    ],
)
def test_the_samplings_of_times(path, sampling, shift, spread):
    recipe = Recipe.read("full", path, [f"timestep_sampling={sampling}", "sigmoid_scale=2"])
    assert (recipe.objective.shift, recipe.objective.spread) == (shift, spread)


CONFIGS = sorted(
    path for path in (ROOT / "training/configs").glob("*.toml") if not re.search("dataset|flux_nano", path.name)
)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.stem)
def test_the_trainers_settings_files_drive_this_loop_too(config, tmp_path, path):
    files = ("pretrained_model_name_or_path=flux", "ae=ae", "text_encoder=text", "dataset_config=data")
    kind = "recraft" if "recraft" in config.name else "heads"
    recipe = Recipe.read(kind, config, [setting.replace("=", f"={tmp_path}/") for setting in files])
    assert (recipe.settings.optimizer, recipe.settings.lr, recipe.rank) == ("came", 1e-4, 64)
    assert {"clip_l", "t5xxl", "gradient_checkpointing"} <= set(recipe.passed_over)


def test_what_changes_no_result_is_passed_over_and_what_is_off_is_nothing(path):
    settings = ["blocks_to_swap=10", "fp8_base=true", "highvram=false", "full_bf16=false", "sample_prompts=x.txt",
                "loss_type=l2", "log_with=wandb"]  # fmt: skip
    recipe = Recipe.read("heads", path, settings)
    assert recipe.passed_over == ("blocks_to_swap", "fp8_base", "sample_prompts", "log_with")


@pytest.mark.parametrize(
    ("kind", "setting", "message"),
    [
        ("heads", "noise_offset=0.1", "can't honour noise_offset = 0.1 for heads: leave it out"),
        ("heads", "full_bf16=true", "can't honour full_bf16 = True"),
        ("heads", "learning_rat=1", "can't honour learning_rat = 1 for heads: did you mean learning_rate"),
        ("heads", "head_file=x", "can't honour head_file = 'x' for heads"),
        ("recraft", "network_weights=x", "can't honour network_weights = 'x' for recraft"),
        ("full", "network_dim=4", "can't honour network_dim = 4 for full"),
        ("recraft", "network_module=training.asymmetric_network", "knows network_module = 'networks.lora_flux' alone"),
        ("full", "network_module=networks.lora_flux", "can't honour network_module"),
        ("full", "loss_type=huber", "knows loss_type = 'l2' alone, got 'huber'"),
        ("full", "learning_rate=fast", "learning_rate must be a number, got 'fast'"),
        ("full", "learning_rate=0", "lr must be positive, got 0"),
        ("full", "max_train_steps=1.5", "max_train_steps must be a whole number, got 1.5"),
        ("full", "max_train_steps=true", "max_train_steps must be a whole number, got True"),
        ("full", "output_name=3", "output_name must be text, got 3"),
        ("full", "optimizer_type=prodigy", "optimizer_type is one of adamw, came.* got 'prodigy'"),
        ("full", "lr_scheduler=polynomial", "lr_scheduler is one of constant"),
        ("full", "timestep_sampling=logit", "timestep_sampling is one of shift"),
        ("full", "mixed_precision=fp16", "mixed_precision is one of no, bf16; got fp16"),
        ("full", f"mixed_precision={'x' * 5000}", "mixed_precision is one of no, bf16; got x{59}…$"),
        ("full", "gradient_accumulation_steps=1000000", "gradient_accumulation_steps must be from 1 to 100000"),
        ("full", 'output_name=""', "output_name = .* can't begin the name of a file: it ends without a name"),
        ("full", "output_name=.", "can't begin the name of a file: it ends without a name"),
        ("full", "output_name=..", "it goes up with '..'"),
        ("full", "output_name=con", "Windows keeps the name"),
        ("full", 'output_name="a/b"', "it holds a slash"),
        ("full", 'output_name="a\\u001b[31mb"', "holds a character that Windows has in no name"),
        ("heads", f"network_weights={'x' * 5000}", "can't be a path"),
        ("full", "discrete_flow_shift=0", "the shift of times must be positive"),
        ("full", "optimizer_args=weight_decay=1", "optimizer_args is a list of texts"),
        ("full", 'optimizer_args=["weight_decay=much"]', "optimizer_args are names with numbers"),
        ("full", "seed", "written key=value, got seed"),
        ("full", "seed=-1", "seed can't be negative"),
    ],
)
def test_wrong_settings_are_named(path, kind, setting, message):
    with pytest.raises(ValueError, match=message):
        Recipe.read(kind, path, [setting])


def test_missing_settings_and_files_are_named(path, tmp_path):
    (tmp_path / "ae").unlink()
    with pytest.raises(FileNotFoundError, match=r"ae: there is no file .*/ae"):
        Recipe.read("full", path)
    path.write_text("learning_rate = 1")
    with pytest.raises(ValueError, match="text_encoder is missing.*FLUX.1-dev is trained with sd-scripts"):
        Recipe.read("full", path)
    path.write_text('text_encoder = "x"')
    with pytest.raises(ValueError, match="the setting pretrained_model_name_or_path is missing"):
        Recipe.read("full", path)
    path.write_text("learning_rate = ")
    with pytest.raises(ValueError, match=r"run.toml is not TOML"):
        Recipe.read("full", path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        Recipe.read("full", tmp_path / "other.toml")


def test_the_settings_for_flux_nano_fit_its_files(monkeypatch):
    """All but the dataset comes with the pack."""
    monkeypatch.chdir(ROOT)
    recipe = Recipe.read("heads", ROOT / "training/configs/add_head_flux_nano.toml", ["dataset_config=pyproject.toml"])
    old = AsymmetricLora.open(recipe.network["add_to"])
    assert (recipe.rank, recipe.alpha, recipe.passed_over) == (old.rank, old.alpha(), ())
