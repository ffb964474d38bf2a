"""The stages of `python -m demo.train` that train FLUX-nano, on a few random latents: what they write, and resuming."""

import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from demo import batches, encoders, nano, train
from demo.data import Data, Sequences
from demo.pictures import LAYOUTS
from demo.scale import SEQUENCES, Scale
from demo.scenes import style
from makeanything.asymmetric_lora import AsymmetricLora
from makeanything.reference.flux import Flux
from makeanything.reference.merge import merge
from makeanything.text_encoder import TOKENS
from training.builtin.task import Task

EACH = 2
"""Sequences of every process."""
SCALE = Scale(grids=4, lora=3)


def random_data() -> Data:
    generator, count = torch.Generator().manual_seed(0), EACH * len(batches.NAMES)
    spans = {name: (EACH * number, EACH) for number, name in enumerate(batches.NAMES)}
    return {
        (frames, edge): Sequences(
            LAYOUTS[frames],
            torch.randn(count, frames, 16, edge // 8, edge // 8, generator=generator).half(),
            torch.randint(1, 2000, (count, TOKENS), generator=generator),
            spans,
        )
        for frames, edge in SEQUENCES
    }


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of models/, where the stages read and write."""
    data = random_data()
    shutil.copytree(nano.MODELS, tmp_path / "models")
    for module in (nano, train, encoders):
        monkeypatch.setattr(module, "MODELS", tmp_path / "models")
    monkeypatch.setattr(train, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(train, "SAVE_EVERY", 1)
    monkeypatch.setattr(train, "precision", lambda: "no")
    monkeypatch.setattr(train, "load", lambda *arguments, **named: data)
    return tmp_path / "models"


def run(stage: str, steps: int = 2) -> None:
    torch.manual_seed(0)
    train.STAGES[stage][0](steps, SCALE)


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata()


def test_heads_are_of_every_process(models):
    path = models / nano.heads_file(4)
    path.unlink()
    run("heads_4f", steps=1)
    lora = AsymmetricLora.open(path)
    assert [domain.name for domain in lora.domains] == batches.NAMES
    assert (lora.rank, lora.alpha()) == (train.RANK, train.RANK)
    state = lora.read()
    trained = [n for n in range(len(batches.NAMES)) if any(t.any() for key, t in state.items() if f"ups.{n}." in key)]
    assert 1 <= len(trained) <= SCALE.lora


@pytest.mark.parametrize(("stage", "name"), [("recraft_9f", nano.recraft_file(9)), ("style", nano.STYLE)])
def test_an_ordinary_lora_says_what_it_is(models, stage, name):
    path = models / name
    path.unlink()
    run("heads_9f", steps=1)
    run(stage)
    lora = load_file(path)
    assert {tensor.dtype for key, tensor in lora.items() if not key.endswith("alpha")} == {torch.float16}
    assert any(tensor.any() for key, tensor in lora.items() if key.endswith("lora_up.weight"))
    wanted = {"ss_network_module": "networks.lora_flux", "ss_network_dim": "8", "ss_network_alpha": "8"}
    texts = metadata(path)
    assert wanted.items() <= texts.items() and texts["modelspec.title"] == path.stem
    assert texts.get("modelspec.trigger_phrase") == (style.PHRASE if stage == "style" else None)
    merge(nano.read(nano.FLUX), lora)


def test_a_base_of_its_own(models):
    before = nano.read(nano.FLUX)
    run("base")
    after = nano.read(nano.FLUX)
    assert not torch.equal(after["img_in.weight"], before["img_in.weight"])
    # Zero at first.
    assert after["final_layer.linear.weight"].any()
    Flux.from_state_dict(after)


def test_a_stage_that_dies_goes_on_to_the_same_bits(models, monkeypatch):
    path = models / nano.recraft_file(4)
    run("heads_4f", steps=1)
    run("recraft_4f", steps=3)
    whole = load_file(path)
    (train.RUNS / "recraft_4f.safetensors").unlink()
    path.unlink()
    loss, steps = Task.loss, []

    def die(self: Task, generator: torch.Generator, step: int) -> tuple[Tensor, object]:
        steps.append(step)
        if steps == [0, 1, 2]:
            raise RuntimeError("died")
        return loss(self, generator, step)

    monkeypatch.setattr(Task, "loss", die)
    with pytest.raises(RuntimeError, match="died"):
        run("recraft_4f", steps=3)
    run("recraft_4f", steps=3)
    assert steps == [0, 1, 2, 2]
    cut = load_file(path)
    assert cut.keys() == whole.keys() and all(torch.equal(cut[key], tensor) for key, tensor in whole.items())


def test_grids_of_an_unusual_size_are_not_compiled_for(models, monkeypatch):
    """A stance stands while the loss of a batch is computed."""
    stances: list[str] = []

    def set_stance(stance: str) -> nullcontext[None]:
        stances.append(stance)
        return nullcontext()

    sizes = []

    def see(self: Flux, latents: Tensor, *rest: Tensor) -> Tensor:
        sizes.append(tuple(latents.shape[-2:]))
        return latents * self.img_in.weight.mean()

    monkeypatch.setattr(torch.compiler, "set_stance", set_stance)
    monkeypatch.setattr(Flux, "forward", see)
    monkeypatch.setattr(batches, "LARGE", 0.5)
    run("base", steps=6)
    assert stances == ["default" if size == (24, 24) else "force_eager" for size in sizes]
    assert set(stances) == {"default", "force_eager"}
