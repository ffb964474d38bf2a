"""Everything that saves, to be run against faults: a saver writes a version of its files into a folder.

It gives the exit code of a command, which has said on stderr what went wrong.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from tqdm import tqdm

from demo import __main__ as demo
from demo import page
from makeanything import __main__ as commands
from makeanything import pictures
from makeanything.animations import save_gif, save_webp
from makeanything.domains import Domain
from makeanything.lora_header import DOMAINS_KEY
from makeanything.reference.autoencoder import Autoencoder
from makeanything.reference.flux import Flux, FluxParams
from makeanything.saving import NotSavedError, numbered, save_safetensors
from makeanything.text_encoder import TextEncoder
from training import loop as command
from training import make_dataset
from training.builtin import checkpoint

Saver = Callable[[Path, int], int]
LAYER = "lora_unet_double_blocks_0_img_attn_qkv"
SET = "set"
NAMES = (
    "weights", "checkpoint", "png", "gif", "webp", SET, "page", "extract", "join", "split", "compose", "dataset",
    "demo", "loop",
)  # fmt: skip


def prepare(inputs: Path) -> dict[str, Saver]:
    """The savers by name, with what they need in `inputs`."""
    inputs.mkdir(exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    for number, names in enumerate((("LEGO", "Cook"), ("Sketch",), ("Emoji",))):
        tensors = {f"{LAYER}.lora_down.weight": torch.ones(8, 600), f"{LAYER}.alpha": torch.tensor(1.0)}
        for head in range(len(names)):
            tensors[f"{LAYER}.lora_ups.{head}.weight"] = torch.randn(1800, 8, generator=generator)
        header = json.dumps([Domain.of(name, 9, name).to_json() for name in names])
        save_file(tensors, inputs / f"heads{number}.safetensors", {DOMAINS_KEY: header})
    for version in (1, 2):
        frames = noise(version)
        (inputs / f"sequences{version}/tea").mkdir(parents=True)
        for number, frame in enumerate(frames):
            pictures.save_png(frame, inputs / f"sequences{version}/tea/{number}.png")
        pictures.save_png(frames.repeat(1, 3, 3, 1)[0], inputs / f"grid{version}.png")
    _prepare_training(inputs)
    # What is imported and made by first calls is better made once, before forking.
    torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])
    tqdm.get_lock()
    return {
        "weights": lambda out, version: said(save_safetensors, {"a": noise(version)}, out / "a.safetensors"),
        "checkpoint": lambda out, version: said(_checkpoint, out, version),
        "png": lambda out, version: said(pictures.save_png, noise(version)[0], out / "a.png"),
        "gif": lambda out, version: said(save_gif, noise(version), out / "a.gif", 2.0),
        "webp": lambda out, version: said(save_webp, noise(version), out / "a.webp", 2.0),
        SET: lambda out, version: said(save_set, out, version),
        "page": lambda out, version: said(page.write, out / "a.html", [page.Piece(*[str(version) * 9000] * 5)]),
        "extract": lambda out, version: _command(
            "extract", inputs / "heads0.safetensors", "--domain", str(version), "-o", out / "b.safetensors", "--force"
        ),
        "join": lambda out, version: _command(
            "join", *(inputs / f"heads{n}.safetensors" for n in (0, version)), "-o", out / "c.safetensors", "--force"
        ),
        "split": lambda out, version: _command(
            "split", inputs / f"grid{version}.png", "--frames", "9", "-o", out / "frames", "--force"
        ),
        "compose": lambda out, version: _command(
            "compose", inputs / f"sequences{version}/tea", "-o", out / "c.png", "--force"
        ),
        "dataset": lambda out, version: make_dataset.main(
            [str(inputs / f"sequences{version}"), "--domain", "Sketch", "--size", "96", "-o", str(out / "data")]
        ),
        "demo": lambda out, version: _with_arguments(
            demo.main, "--grid", inputs / f"grid{version}.png", "--out", out / "demo"
        ),
        "loop": lambda out, version: _with_arguments(
            command.main, "heads", "--config_file", inputs / "run.toml", f"output_dir={json.dumps(str(out))}",
            f'output_name="mine{version}"'
        ),
    }  # fmt: skip


def files(folder: Path) -> dict[str, bytes]:
    """Path inside the folder -> content, wherever the folder lies."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {path: data.replace(bytes(folder), b"FOLDER") for path, data in found.items()}


class Results:
    """Each saver with what it leaves when nothing goes wrong: version 1, and version 2 saved after it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.savers = folder, prepare(folder / "inputs")
        self._known: dict[str, tuple[Path, dict[str, bytes]]] = {}

    def of(self, name: str, out: Path) -> tuple[Saver, dict[str, bytes], dict[str, bytes]]:
        """The saver, and the files before and after it saves version 2 to `out`, which is filled with version 1."""
        save = self.savers[name]
        if name not in self._known:
            first, second = self.folder / f"{name}1", self.folder / f"{name}2"
            first.mkdir()
            assert forked(lambda: save(first, 1))[0] == 0
            shutil.copytree(first, second)
            assert forked(lambda: save(second, 2))[0] == 0
            self._known[name] = first, files(second)
        first, after = self._known[name]
        shutil.copytree(first, out)
        return save, files(out), after


def noise(version: int, frames: int = 9, edge: int = 64) -> torch.Tensor:
    return torch.rand(frames, edge, edge, 3, generator=torch.Generator().manual_seed(version))


def save_set(out: Path, version: int, name: str = "seq") -> None:
    """A numbered set of files, as Save Sequence writes it, each saying of which version it is."""
    with numbered(out, name) as start:
        for number in range(4):
            pictures.save_png(noise(version)[0], f"{start}_{number}.png", {"version": str(version)})


def said(save: Callable[..., None], *arguments: object) -> int:
    """A saver that raises, as a command that says what it raises."""
    try:
        save(*arguments)
    except NotSavedError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _checkpoint(out: Path, version: int) -> None:
    trained = {"a": torch.nn.Parameter(noise(version))}
    checkpoint.save(out / "state" / "s.safetensors", trained, torch.optim.AdamW(trained.values()), version)


def _command(*arguments: object) -> int:
    return commands.main([str(argument) for argument in arguments])


def _with_arguments(main: Callable[[], int | None], *arguments: object) -> int:
    before, sys.argv = sys.argv, ["command", *map(str, arguments)]
    try:
        return main() or 0
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
            return 2
        return stop.code or 0
    finally:
        sys.argv = before


def _prepare_training(inputs: Path) -> None:
    torch.manual_seed(0)
    flux = Flux(FluxParams(hidden_size=128, depth=1, depth_single_blocks=1, context_in_dim=128, vec_in_dim=128))
    save_safetensors(flux.state_dict(), inputs / "flux.safetensors")
    save_safetensors(TextEncoder().state_dict(), inputs / "text.safetensors")
    save_safetensors(Autoencoder().to_file(), inputs / "ae.safetensors")
    (inputs / "train").mkdir(exist_ok=True)
    Image.fromarray(np.zeros((48, 48, 3), np.uint8)).save(inputs / "train/0.png")
    (inputs / "train/0.caption").write_text("a thing")
    subset = f'[[datasets]]\nresolution = 48\nbatch_size = 1\n[[datasets.subsets]]\nimage_dir = "{inputs / "train"}"\n'
    (inputs / "data.toml").write_text(subset)
    values = {
        "pretrained_model_name_or_path": str(inputs / "flux.safetensors"),
        "ae": str(inputs / "ae.safetensors"),
        "text_encoder": str(inputs / "text.safetensors"),
        "dataset_config": str(inputs / "data.toml"),
        "network_dim": 4,
        "network_args": ["domains=Sketch"],
        "learning_rate": 1e-3,
        "max_train_steps": 1,
    }
    (inputs / "run.toml").write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))


def forked(work: Callable[[], int]) -> tuple[int, str]:
    """Work done in a child process: its exit code (minus the signal that ended it), and what it said on stderr."""
    return finished(*start(work))


def start(work: Callable[[], int]) -> tuple[int, int]:
    """Begin work in a child process: its id, and the pipe of its stderr."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        code = 99
        try:
            os.dup2(write, 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
            code = work()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(write)
    return child, read


def finished(child: int, read: int) -> tuple[int, str]:
    with os.fdopen(read, encoding="utf-8") as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), text


def lines(text: str) -> list[str]:
    """What was said, without progress bars."""
    return [line for line in re.split(r"[\r\n]+", text) if line.strip() and not re.search(r"\d+%\||(it|step)/s", line)]
