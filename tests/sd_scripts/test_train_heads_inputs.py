"""What `python -m training.train_heads` is given: wrong input is refused before FLUX is loaded, and says why."""

import argparse
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import flux_train_network
import pytest
import tiny_run
import toml
from accelerate.state import AcceleratorState
from library import config_util, flux_utils

from makeanything.domains import RELEASED_BY_HEADS, Domain
from makeanything.drawn import FLUX_DEV
from training import train_heads, train_recraft
from training.heads.options import plan
from training.sd import engine
from training.sd.samples import read_heads

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted(
    path for path in (ROOT / "training" / "configs").glob("*.toml") if not re.search("dataset|flux_nano", path.name)
)
EDGE = 96
TWO = ("--network_args", "domains=Portrait;Emoji")
PORTRAIT = 'custom_attributes = { domain = "Portrait" }'


@pytest.fixture
def command(tiny: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """The command line of a run on one grid, whose subset and dataset get these lines."""

    def make(*options: str, subset: str = PORTRAIT, dataset: str = "", caption: str = "a cat") -> list[str]:
        path = tiny_run.make_grids(tmp_path, EDGE, count=1, captions=[caption])
        text = path.read_text(encoding="utf-8").replace(f"resolution = {EDGE}", dataset or f"resolution = {EDGE}")
        path.write_text(f"{text}{subset}\n", encoding="utf-8")
        return [*tiny_run.arguments(tiny, tmp_path / "out", path, 2), *options]

    return make


@pytest.fixture(autouse=True)
def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def load(*arguments: object, **named: object) -> None:
        pytest.fail("FLUX was loaded")

    monkeypatch.setattr(flux_utils, "load_flow_model", load)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize(
    ("options", "lines", "message"),
    [
        (TWO, {"subset": ""}, r"0\.png is of no domain.*custom_attributes.*--lora_up N; there are Portrait, Emoji"),
        (
            TWO,
            {"subset": 'custom_attributes = { domain = "Portait" }'},
            r"0\.png: .*'Portait': did you mean 'Portrait'",
        ),
        (TWO, {"subset": "custom_attributes = { domain = 3 }"}, "there is no domain 3: the numbers go from 1 to 2"),
        (TWO, {"subset": "custom_attributes = { domain = [1] }"}, r"a domain is a name or a number, got \[1\]"),
        (
            TWO,
            {"caption": "a cat --lora_up 2"},
            r"0\.png: its subset is of domain Portrait, but its c.* --lora_up 2",
        ),
        (TWO, {"subset": "", "caption": "a cat --lora_up 5"}, "there is no domain 5: the numbers go from 1 to 2"),
        (TWO, {"subset": "", "caption": "a cat --lora_up"}, r"0\.png: --lora_up needs the number of a head"),
        (("--network_args", "domains=Emoji"), {}, "there is no domain 'Portrait'"),
        ((), {}, "needs to know its domains.*--network_args"),
        (("--network_args", "domain=Emoji"), {}, "no option 'domain': did you mean domains"),
        (("--network_args", "Portrait"), {}, "--network_args are written name=value, got 'Portrait'"),
        ((*TWO, "idle_heads=disk"), {}, "idle_heads is cpu, or not given; got disk"),
        ((*TWO, "idle_heads=cpu", "--deepspeed"), {}, "idle_heads.*DeepSpeed"),
        (
            (*TWO, "--network_module", "networks.lora_flux"),
            {},
            "module training.asymmetric_network, not by networks.lo",
        ),
        (TWO, {"subset": f"{PORTRAIT}\nflip_aug = true"}, "flip_aug of .* moves the grid's cells"),
        (TWO, {"dataset": "resolution = 192"}, r"resolution is 192 x 192 px.*0\.png \(96 x 96\)"),
        (TWO, {"dataset": "resolution = 96\nenable_bucket = true\nmin_bucket_reso = 64"}, "bucketing crops grids"),
        (
            ("--network_args", "domains=Portrait:16:painting"),
            {},
            "cells of 24 x 24; their edges must be multiples of 16",
        ),
    ],
)
def test_a_run_that_can_not_be(command, options, lines, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        train_heads.main(command(*options, **lines))


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ("a cat\n", r"p\.txt, prompt 1 \('a cat'\): it names no domain.*--domain NAME; there are Portrait, Emoji"),
        ("a cat --domain Emoji\na dog --domain Portait", r"prompt 2 \('a dog'\): .*did you mean 'Portrait'"),
        ("a cat --domain Portrait --w 100", r"prompt 1 .*100 x 1056 does not divide into 3 columns"),
    ],
)
def test_prompts_that_can_not_be(command, tmp_path, prompts, message):
    (tmp_path / "p.txt").write_text(prompts, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        train_heads.main(command(*TWO, "--sample_prompts", str(tmp_path / "p.txt")))


def test_the_prompts_of_a_network_with_one_head_need_no_domain(tmp_path):
    (tmp_path / "p.json").write_text(json.dumps([{"prompt": "a"}, {"prompt": "b", "domain": 1}]), encoding="utf-8")
    assert read_heads(str(tmp_path / "p.json"), [Domain.of("Emoji", 4, "emoji")]) == [0, 0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('[a]\nlearning_rat = 1e-4\n[b]\nx = "y"', "there is no setting learning_rat; did you mean learning_rate?"),
        ("learning_rate = ", "settings.toml is not TOML"),
        (None, "there is no settings file"),
    ],
)
def test_settings_files_that_can_not_be(command, tmp_path, capsys, settings, message):
    path = tmp_path / "settings.toml"
    if settings is not None:
        path.write_text(settings, encoding="utf-8")
    with pytest.raises(SystemExit):
        train_heads.main(command("--config_file", str(path)))
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("leave_out", "options", "message"),
    [
        ("--ae", (), "--ae is missing, a file of FLUX.1-dev"),
        ("", ("--clip_l", "nowhere.safetensors"), "--clip_l: there is no nowhere.safetensors"),
        ("", ("--dataset_config", "nowhere.toml"), "--dataset_config: there is no nowhere.toml"),
        ("", ("--sample_prompts", "nowhere.txt"), "--sample_prompts: there is no nowhere.txt"),
        ("--output_dir", (), "--output_dir and --output_name say where the result goes"),
        ("", ("--max_train_stepz", "3"), "unrecognized arguments: --max_train_stepz"),
    ],
)
def test_command_lines_that_can_not_be(command, capsys, leave_out, options, message):
    arguments = command(*options)
    if leave_out:
        place = arguments.index(leave_out)
        del arguments[place : place + 2]
    with pytest.raises(SystemExit):
        train_heads.main(arguments)
    assert message in capsys.readouterr().err


def test_the_command_line_wins_over_the_file_and_the_file_over_our_defaults(command, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(train_heads, "make_trainer", lambda: argparse.Namespace(train=seen.append))
    path = tmp_path / "settings.toml"
    path.write_text('[a]\nguidance_scale = 3.5\napply_t5_attn_mask = false\n[b]\nseed = 7\ntext_encoder = "x"\n')
    train_heads.main(command("--config_file", str(path), "--seed", "9", "--optimizer_type", "CAME"))
    (args,) = seen
    assert (args.guidance_scale, args.apply_t5_attn_mask, args.seed) == (3.5, False, 9)
    assert (args.timestep_sampling, args.discrete_flow_shift, args.model_prediction_type) == ("shift", 3.1582, "raw")
    assert args.network_train_unet_only and args.network_module == "training.asymmetric_network"
    assert args.optimizer_type == "training.came.Came"


def test_the_mask_of_t5_can_be_left_out(command, monkeypatch):
    seen = []
    monkeypatch.setattr(train_heads, "make_trainer", lambda: argparse.Namespace(train=seen.append))
    arguments = command()
    train_heads.main(arguments)
    train_heads.main([*arguments, "--no_apply_t5_attn_mask"])
    assert [args.apply_t5_attn_mask for args in seen] == [True, False]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_setting_of_a_config_is_one_of_its_trainer(path, monkeypatch):
    """As sd-scripts reads it, with the files taken to be there."""
    monkeypatch.setattr(engine, "_check_files", lambda *arguments: None)
    seen = []
    trainer = train_recraft if path.stem.startswith("recraft") else train_heads
    monkeypatch.setattr(trainer, "make_trainer", lambda: argparse.Namespace(train=seen.append))
    trainer.main(["--config_file", str(path)])
    (args,) = seen
    known = vars(flux_train_network.setup_parser().parse_args([]))
    for name, value in vars(args).items():
        kind = type(known.get(name))
        assert value is None or known.get(name) is None or isinstance(value, (kind, float) if kind is int else kind), (
            name
        )
    assert (args.learning_rate, args.optimizer_type, args.guidance_scale) == (1e-4, "training.came.Came", 1.0)
    assert args.network_dim == 64 and args.mixed_precision == "bf16"
    steps = {"add_head": 2000, "recraft_9f": 15_000, "recraft_4f": 15_000}
    assert args.max_train_steps == steps.get(path.stem, 40_000)
    sampling = ("flux_shift", 3.1582) if trainer is train_recraft else ("shift", 3.1582)
    assert (args.timestep_sampling, args.discrete_flow_shift) == sampling


@pytest.mark.parametrize(("frames", "heads"), [(9, 10), (4, 21)])
def test_the_papers_configs_have_the_released_domains(frames, heads, monkeypatch):
    monkeypatch.chdir(ROOT)
    settings = toml.loads((ROOT / "training" / "configs" / f"heads_{frames}f.toml").read_text(encoding="utf-8"))
    options = dict(text.split("=", 1) for text in settings["heads"]["network_args"])
    # sd-scripts writes into the header that padding was masked, from which the trained file's domains know it.
    released = tuple(replace(domain, drawn=FLUX_DEV) for domain in RELEASED_BY_HEADS[heads])
    assert plan(options) == (released, frozenset())


def test_the_example_of_a_dataset_is_what_sd_scripts_reads():
    config = config_util.load_user_config(ROOT / "training" / "configs" / "dataset_example.toml")
    config_util.ConfigSanitizer(True, True, True, True).sanitize_user_config(config)
    subsets = config["datasets"][0]["subsets"]
    assert [subset["custom_attributes"]["domain"] for subset in subsets] == ["Portrait", "Sketch"]
