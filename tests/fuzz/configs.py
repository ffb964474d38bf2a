"""Settings of the trainers: their TOML files, overrides and options, and the captions of pictures."""

from __future__ import annotations

from pathlib import Path
from random import Random

from training.builtin.recipe import KINDS, Recipe
from training.data import dataset
from training.data.captions import read_flags
from training.heads.options import Options
from training.values import read_toml

from .fuzzer import MARK, Fuzzer

CONFIGS = Path(__file__).resolve().parents[2] / "training/configs"
LOOP = """text_encoder = "FILE"
pretrained_model_name_or_path = "FILE"
ae = "FILE"
dataset_config = "FILE"
output_dir = "out"
output_name = "mine"
max_train_steps = 20
learning_rate = 1e-3
lr_warmup_steps = 0.1
network_dim = 4
network_args = ["domains=Tea:4:tea making", "train_double_block_indices=0-1", "dropout=0.1"]
optimizer_args = ["weight_decay=0.01"]
seed = 3
"""
DATASET = """[general]
caption_extension = ".txt"
[[datasets]]
resolution = [48, 48]
batch_size = 2
[[datasets.subsets]]
image_dir = "FOLDER"
num_repeats = 3
[datasets.subsets.custom_attributes]
domain = "Tea"
"""
WHOLE = [
    "1", "-1", "0", "inf", "-inf", "nan", "1e999", "9" * 30, "true", "[]", "[1]", '""', "''", '"~nouser/x"', '"/"',
    f'"{MARK * 3000}"', "[[1, 2], [3, 4]]", "1979-05-27", '["a=((((((((1))))))))"]', '["dropout=nan"]', '"\\u0000"',
    '["train_single_block_indices=0-99999999999"]', "{ a = 1 }", "16384", "1.5", '"9-1"', "999999999999",
]  # fmt: skip
BROKEN = ['"""', '""""', "'a", "[" * 200, "{}", "=", "", "0-99999999999", "[1, 'a']", "{ a = 1", "1 2"]
BLOCKS = ["double_blocks.0.img_attn.qkv", "double_blocks.1.txt_mlp.0", "single_blocks.0.linear1"]


class ConfigFuzzer(Fuzzer):
    name = "configs"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / "weights").write_bytes(b"")
        (folder / "pictures").mkdir()
        (folder / "pictures/a.png").write_bytes(b"")
        (folder / "pictures/a.txt").write_text("tea --lora_up 1", encoding="utf-8")
        ours = [LOOP.replace("FILE", str(folder / "weights")), DATASET.replace("FOLDER", str(folder / "pictures"))]
        self.texts = [*ours * 4, *(path.read_text(encoding="utf-8") for path in sorted(CONFIGS.glob("*.toml")))]

    def case(self, random: Random) -> bytes:
        lines = random.choice(self.texts).split("\n")
        for _ in range(random.choice([1, 1, 1, 2])):
            number = random.choice([number for number, line in enumerate(lines) if "=" in line])
            lines[number : number + 1] = _change(lines[number], random)
        return "\n".join(lines).encode()

    def run(self, case: bytes) -> bool:
        path = self.folder / "case.toml"
        path.write_bytes(case)
        past = False
        with self.refusals(named=True):
            read_toml(path)
            past = True
        text = case.decode("utf-8", "replace")
        for line in text.split("\n"):
            name, _, value = line.partition("=")
            with self.refusals(named=True):
                read_flags(f"{line} --lora_up {value}")
            if name.strip() == "network_args":
                with self.refusals(named=True):
                    Options.read(_options(value)).select(BLOCKS)
        kind = KINDS[len(case) % len(KINDS)]
        with self.refusals(named=True):
            Recipe.read(kind, path, [text.split("\n")[0].replace(" ", "")])
        with self.refusals(named=True):
            dataset.read(path)
        return past


def _options(text: str) -> dict[str, object]:
    """Network options, as the command line parts them."""
    pairs = [part.strip(" []'\"").partition("=") for part in text.split(",")]
    return {name: value for name, _, value in pairs}


def _change(line: str, random: Random) -> list[str]:
    """A line with another value, another name, a damaged letter, left out or twice."""
    name, equals, value = line.partition("=")
    place = random.randrange(len(line) + 1)
    return random.choice(
        [
            *[[f"{name}{equals} {random.choice(WHOLE)}"]] * 4,
            [f"{name}{equals} {random.choice(BROKEN)}"],
            [f"{random.choice(['general', 'datasets', 'frames', 'head', MARK * 400, 'a.b', ''])} = {value}"],
            [line[:place] + random.choice("\"'[]{}=#.,\\\n\x00é") + line[place + random.choice([0, 1]) :]],
            [],
            [line, line],
            [line, random.choice(["[general]", "[[datasets]]", "[datasets]", "general = 1", "datasets = [1]"])],
        ]
    )
