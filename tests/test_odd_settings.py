"""Settings of the trainers that no run could honour: one line each, before any of them is used."""

import math
from pathlib import Path

import pytest
import toml
from torch import nn

from makeanything.domains import Domain
from training.builtin.recipe import Recipe
from training.builtin.settings import Settings
from training.data import dataset
from training.data.captions import read_flags
from training.data.grid import Drawing
from training.data.picking import Picking, Skip
from training.heads.network import HeadNetwork
from training.heads.options import Options
from training.make_dataset import main as make_dataset
from training.values import parse, path_of, read_toml

BLOCKS = ["double_blocks.0.img_attn.qkv", "double_blocks.1.txt_mlp.0", "single_blocks.0.linear1"]


@pytest.mark.parametrize(
    "text", ["0-99999999999", "0-1,99999999999999", "5-99999999999", "99999999999", "0-" + "9" * 15]
)
def test_blocks_are_checked_before_they_are_counted(text):
    """The first took 18 GB."""
    with pytest.raises(ValueError, match="names block "):
        Options(train_double_block_indices=text).select(BLOCKS)


@pytest.mark.parametrize("text", ["9" * 5000, "٣", "0-", "-1", "1-0", "3-2", ""])
def test_blocks_are_written_in_digits(text):
    with pytest.raises(ValueError, match='blocks are "all"') as refused:
        Options(train_double_block_indices=text).select(BLOCKS)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    "text", [".=", '"".', "{=}", ".={", "=", "[a\n", "[" * 5000, "a = 1\na = 2", "\x00", "a = '''", "a = [1, 'a']"]
)
def test_broken_toml_is_named(text, tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match="run.toml is not TOML: ") as refused:
        read_toml(path)
    assert "\n" not in str(refused.value)


def test_deep_toml_is_named_in_plain_words(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("a = " + "[" * 5000)
    with pytest.raises(ValueError, match="run.toml is not TOML: it is nested too deep$"):
        read_toml(path)


def test_an_override_that_is_no_toml_is_text():
    """toml drops what it can't read of the first, and raises IndexError at the second."""
    for text in ('""""', ".=", "'"):
        assert parse([f"name={text}"]) == {"name": text}


def test_settings_files_have_a_size_and_an_encoding(tmp_path):
    path = tmp_path / "run.toml"
    path.write_bytes(b"a = '\xff'")
    with pytest.raises(ValueError, match="run.toml is not TOML: 'utf-8' codec"):
        read_toml(path)
    path.write_bytes(b"#" * (2**16 + 1))
    with pytest.raises(ValueError, match="run.toml is not a settings file: it has more than 65,536 bytes"):
        read_toml(path)


@pytest.mark.parametrize(
    ("text", "marks"),
    [("a = " + "[" * 60_000, r"\[ or {"), ("a = [" + "{}," * 20_000, r"\[ or {"), ("a" + "=" * 60_000, "=")],
)
def test_toml_that_would_take_minutes_is_refused_unread(text, marks, tmp_path, monkeypatch):
    path = tmp_path / "run.toml"
    path.write_text(text)
    read = []
    monkeypatch.setattr(toml, "loads", read.append)
    with pytest.raises(ValueError, match=f"run.toml is not TOML: it has more than 10,000 of {marks}$"):
        read_toml(path)
    parse([text])
    assert read == []


def test_a_setting_on_the_command_line_has_a_size():
    with pytest.raises(ValueError, match="^name has more than 65,536 characters$"):
        parse(["name=" + "x" * 70_000])


@pytest.mark.parametrize("text", ["~nouser_of_this_name/x", "a\0b", "a\nb", "a\u2028b", "x" * 5000, "a/" + "x" * 300])
def test_paths_that_no_system_has_are_named(text):
    with pytest.raises(ValueError, match="can't be a path|there is no such user") as refused:
        path_of(text)
    assert len(str(refused.value)) < 150


SETTINGS = """text_encoder = "FILE"
pretrained_model_name_or_path = "FILE"
ae = "FILE"
dataset_config = "FILE"
output_dir = "out"
output_name = "mine"
max_train_steps = 20
learning_rate = 1e-3
"""


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("lr_warmup_steps=-inf", "lr_warmup_steps must be a finite number"),
        ("lr_warmup_steps=nan", "lr_warmup_steps must be a finite number"),
        ("learning_rate=nan", "learning_rate must be a finite number"),
        ("learning_rate=1e999", "learning_rate must be a finite number"),
        ("max_train_steps=" + "9" * 60, "max_train_steps must be a number that can be meant"),
        ("seed=99999999999999999", "seed must be a number that can be meant"),
        ("output_dir='~nouser_of_this_name/x'", "there is no such user"),
        ("ae='~nouser_of_this_name/x'", "there is no such user"),
        ("optimizer_args=['a=" + "(" * 500 + "1" + ")" * 500 + "']", "optimizer_args are names with numbers"),
        ("network_args=" + "x" * 5000, "network_args is a list of texts"),
        ("x" * 5000 + "=1", "the built-in loop can't honour xxx"),
    ],
)
def test_settings_that_no_run_could_honour(setting, message, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    path = tmp_path / "run.toml"
    path.write_text(SETTINGS.replace("FILE", str(tmp_path / "file")))
    Recipe.read("heads", path)
    with pytest.raises(ValueError, match=message) as refused:
        Recipe.read("heads", path, [setting])
    assert len(str(refused.value)) < 300


def test_a_run_is_finite():
    for name in ("lr", "clip"):
        with pytest.raises(ValueError, match=name):
            Settings(**{"steps": 1, "lr": 1.0, name: math.nan})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("general = 1", "general must be a table, got 1"),
        ("datasets = 1", r"there is no \[\[datasets\]\]"),
        ("datasets = [1]", r"there is no \[\[datasets\]\]"),
        ("datasets = []", r"there is no \[\[datasets\]\]"),
        ("[[datasets]]\nresolution = 48\nsubsets = [2]", r"there is no \[\[datasets.subsets\]\] in a"),
        ("[[datasets]]\nresolution = 99999999984", "resolution must be at most 16384 px"),
        ("[[datasets]]\nresolution = 48\nbatch_size = 1000000", "at most 4096, got 1000000"),
        ("[[datasets]]\nresolution = 48\n[[datasets.subsets]]\nnum_repeats = 100000000", "at most 1,000,000"),
        ("[[datasets]]\nresolution = 48\n[[datasets.subsets]]\nimage_dir = '~nouser_of_this_name'", "no such user"),
    ],
)
def test_datasets_that_no_run_could_read(text, message, tmp_path):
    path = tmp_path / "data.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"data.toml: .*{message}"):
        dataset.read(path)


@pytest.mark.parametrize(
    ("subset", "caption", "message"),
    [
        ("caption_extension = '" + "x" * 999 + "'", b"tea", "caption_extension must be an ending such as .txt"),
        ("caption_extension = '.'", b"tea", "caption_extension must be an ending such as .txt"),
        ("custom_attributes = { domain = [1] }", b"tea", "domain must be a number, got"),
        ("caption_extension = '.txt'", b"\xff\xfe", "a.txt is not text in UTF-8"),
        ("caption_extension = '.txt'", b"tea --lora_up " + b"9" * 5000, "--lora_up needs the number of a head, from 1"),
    ],
)
def test_subsets_that_no_run_could_read(subset, caption, message, tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "a.txt").write_bytes(caption)
    path = tmp_path / "data.toml"
    where = f"[[datasets]]\nresolution = 48\n[[datasets.subsets]]\nimage_dir = '{tmp_path}'\n"
    path.write_text(where + subset)
    with pytest.raises(ValueError, match=message) as refused:
        dataset.read(path)
    assert len(str(refused.value).replace(str(tmp_path), "")) < 250


def test_a_caption_full_of_spaces_is_read_at_once():
    """A flag is looked for once in a run of spaces, not from each of them: that took minutes."""
    assert read_flags("a" + " " * 200_000 + "b --lora_up 2") == ("a" + " " * 200_000 + "b", 2)


@pytest.mark.parametrize("text", ["9" * 400, "9" * 400 + "s", "٣"])
def test_skips_have_a_size(text):
    with pytest.raises(ValueError, match="so many frames or seconds"):
        Skip.parse(text)


def test_grids_and_ranks_have_a_size(tmp_path, capsys):
    with pytest.raises(ValueError, match="a grid can be 16384 px wide at most"):
        Drawing(Picking(), 3 * 2**40).cell(Domain.of("Tea", 9, "tea").layout)
    with pytest.raises(ValueError, match="a rank of at most 4096, got 1000000000000"):
        HeadNetwork(nn.Module(), [Domain.of("Tea", 9, "tea")], rank=10**12)
    with pytest.raises(ValueError, match="the alpha of a network must be a finite number"):
        HeadNetwork(nn.Module(), [Domain.of("Tea", 9, "tea")], rank=4, alpha=math.nan)
    with pytest.raises(SystemExit):
        make_dataset([str(tmp_path), "-o", str(tmp_path / "out"), "--repeats", "9" * 5000])
    assert "a number from 1 is needed" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["[" * 3000 + "]" * 3000, '[{"name":' + "[" * 20 + "]" * 20 + "}]", "[NaN]"])
def test_a_file_of_domains_is_parsed_within_bounds(text, tmp_path):
    path = Path(tmp_path, "domains.json")
    path.write_text(text)
    with pytest.raises(ValueError, match="^domains.json is not JSON: "):
        Options(domains=str(path)).read_domains()
