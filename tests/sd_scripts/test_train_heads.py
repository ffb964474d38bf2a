"""Domain heads trained by real sd-scripts, on tiny models: what learns, what is drawn, how a run goes on."""

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_run
import torch
from accelerate.state import AcceleratorState
from library import flux_models, flux_train_utils, strategy_flux
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from makeanything import pictures, serpentine
from makeanything.asymmetric_lora import AsymmetricLora, extract
from makeanything.serpentine import Layout
from training import train_heads
from training.came import Came
from training.heads.idle import IdleHeads
from training.sd.heads import HeadsTrainer

EDGE = 96
"""Of a grid in pixels: 3x3 cells of 32 px, or 2x2 of 48."""
PORTRAIT, SKETCH, EMOJI = range(3)
THREE = "domains=Portrait;Sketch;Emoji"
Run = Callable[..., dict[str, Tensor]]


def make_dataset(folder: Path, captions: Mapping[str, Sequence[str]], batch: int = 2, *general: str) -> Path:
    """A subset of the dataset for every domain (for none where its name is empty); the path of the TOML."""
    lines = ["[general]", 'caption_extension = ".txt"', *general]
    lines += ["[[datasets]]", f"resolution = {EDGE}", f"batch_size = {batch}"]
    for place, (domain, texts) in enumerate(captions.items()):
        images = folder / f"subset{place}"
        images.mkdir(parents=True)
        for number, text in enumerate(texts):
            torch.manual_seed(100 * place + number)
            pixels = torch.randint(0, 256, (EDGE // 8, EDGE // 8, 3), dtype=torch.uint8).numpy()
            grid = Image.fromarray(pixels).resize((EDGE, EDGE), Image.Resampling.NEAREST)
            grid.save(images / f"{number}.png")
            (images / f"{number}.txt").write_text(text, encoding="utf-8")
        lines += ["[[datasets.subsets]]", f"image_dir = {json.dumps(str(images))}"]
        # An inline table: what sd-scripts' loader can't send to its processes.
        lines += [f"custom_attributes = {{ domain = {json.dumps(domain)} }}"] if domain else []
    path = folder / "dataset.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


MIXED = {"Portrait": ["a", "b", "c", "d"], "Sketch": ["a", "b", "c"], "emoji": ["a"]}


@pytest.fixture
def command(tiny: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """The command line of a run into a folder of this name, on MIXED unless a dataset is given."""

    def make(name: str, steps: int, *options: str, data: Path | None = None) -> list[str]:
        path = data or tmp_path / "data" / "dataset.toml"
        if not path.exists():
            make_dataset(tmp_path / "data", MIXED)
        return [*tiny_run.arguments(tiny, tmp_path / name, path, steps), *options]

    return make


@pytest.fixture
def train(command: Callable[..., list[str]], tmp_path: Path) -> Run:
    """Train in this process; the weights that were saved."""

    def run(name: str, steps: int, *options: str, data: Path | None = None) -> dict[str, Tensor]:
        train_heads.main(command(name, steps, *options, data=data))
        AcceleratorState._reset_state(reset_partial_state=True)
        return load_file(tmp_path / name / "tiny.safetensors")

    return run


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, tuple[int, ...], list[str]]]:
    """Loss, heads and captions of every batch."""
    found: list[tuple[float, tuple[int, ...], list[str]]] = []
    original = HeadsTrainer.process_batch

    def process_batch(self: HeadsTrainer, batch: dict, *arguments: object, **named: object) -> Tensor:
        loss = original(self, batch, *arguments, **named)
        found.append((loss.item(), self.network.route.heads, batch["captions"]))
        return loss

    monkeypatch.setattr(HeadsTrainer, "process_batch", process_batch)
    return found


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def head_of(state: Mapping[str, Tensor], head: int) -> list[Tensor]:
    return [tensor for key, tensor in state.items() if f".lora_ups.{head}." in key]


def is_large(value: object) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0


def shared_of(state: Mapping[str, Tensor]) -> list[Tensor]:
    return [tensor for key, tensor in state.items() if "lora_down" in key]


def test_fifty_steps_of_mixed_batches(train, tmp_path, seen):
    """The loss falls, each sample trains its own head, and the file is what the other tools open."""
    trained = train(
        "out", 50, "--network_args", f"{THREE};LEGO", "--learning_rate", "0.01", "--max_data_loader_n_workers", "2"
    )
    losses = [loss for loss, _, _ in seen]
    assert len(losses) == 50 and sum(losses[-10:]) < 0.9 * sum(losses[:10])
    assert {PORTRAIT, SKETCH, EMOJI} == {head for _, heads, _ in seen for head in heads}
    assert any(len(set(heads)) > 1 for _, heads, _ in seen)
    for head in (PORTRAIT, SKETCH, EMOJI):
        assert all(tensor.any() for tensor in head_of(trained, head))
    assert not any(tensor.any() for tensor in head_of(trained, 3))

    lora = AsymmetricLora.open(tmp_path / "out" / "tiny.safetensors")
    assert [domain.name for domain in lora.domains] == ["Portrait", "Sketch", "Emoji", "LEGO"]
    assert [domain.layout for domain in lora.domains] == [Layout.of(9), Layout.of(9), Layout.of(4), Layout.of(9)]
    expected = {"ss_steps": "50", "ss_guidance_scale": "1.0", "ss_model_prediction_type": "raw", "ss_network_dim": "4"}
    expected |= {"ss_timestep_sampling": "shift", "ss_discrete_flow_shift": "3.1582", "ss_apply_t5_attn_mask": "True"}
    assert expected.items() <= lora.metadata.items()
    extract(lora, "Sketch", tmp_path / "sketch.safetensors")
    sketch = load_file(tmp_path / "sketch.safetensors")
    for key, tensor in sketch.items():
        assert torch.equal(tensor, trained[key.replace("lora_up.", f"lora_ups.{SKETCH}.")])


def test_a_run_killed_and_resumed_ends_on_the_same_bits(train, command, tmp_path):
    """With all that is drawn at random: order, noise, dropped captions, dropout; in the middle of an epoch."""
    options = ["--network_args", THREE, "dropout=0.1", "idle_heads=cpu", "--save_every_n_steps", "3", "--save_state"]
    options += ["--optimizer_type", "came", "--lr_scheduler", "cosine", "--caption_dropout_rate", "0.3"]
    options += ["--gradient_accumulation_steps", "3"]
    whole = train("whole", 11, *options)

    script = [sys.executable, tiny_run.__file__, "training.train_heads", *command("cut", 11, *options)]
    killed = subprocess.run(script, env={**os.environ, "KILL_IN_STEP": "8"}, capture_output=True, timeout=900)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
    state = tmp_path / "cut" / "tiny-step00000006-state"
    assert state.is_dir() and not (tmp_path / "cut" / "tiny.safetensors").exists()
    before = {path.name: path.read_bytes() for path in state.parent.glob("*.safetensors")}
    resumed = train("cut", 11, *options, "--resume", str(state))
    assert same(whole, resumed)
    # Going through the data again has written nothing again.
    assert {path.name: path.read_bytes() for path in state.parent.glob("*3.safetensors")}.items() <= before.items()
    assert same(
        load_file(tmp_path / "whole" / "tiny-step00000009.safetensors"),
        load_file(state.parent / "tiny-step00000009.safetensors"),
    )

    other = train("other", 11, *options, "--seed", "1")
    assert not same(whole, other)


def test_resuming_refuses_what_would_be_another_run(train, tmp_path):
    train("out", 2, "--network_args", THREE, "--save_state")
    state = tmp_path / "out" / "tiny-state"
    with pytest.raises(ValueError, match="nothing is left to train"):
        train("out", 2, "--network_args", THREE, "--resume", str(state))
    AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.raises(ValueError, match="saved with seed 0; now it is 5"):
        train("out", 4, "--network_args", THREE, "--resume", str(state), "--seed", "5")
    AcceleratorState._reset_state(reset_partial_state=True)
    (state / "train_state.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"train_state\.json is missing"):
        train("out", 4, "--network_args", THREE, "--resume", str(state))


def test_two_processes_with_another_domain_each_are_one_with_both(command, tmp_path):
    """In every step each process has one of the two pictures; no gradient lands on another head."""
    pair = {"Portrait": ["a"], "Sketch": ["b"]}
    options = ["--network_args", THREE, "idle_heads=cpu", "--optimizer_type", "SGD", "--learning_rate", "10"]
    options += ["--max_grad_norm", "0.5", "--sigmoid_scale", "0"]
    script = str(Path(__file__).with_name("steady_run.py"))
    together = make_dataset(tmp_path / "together", pair, 2)
    apart = make_dataset(tmp_path / "apart", pair, 1)
    one = [sys.executable, script, *command("one", 4, *options, data=together)]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    two = [*launch, script, *command("two", 4, *options, data=apart)]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    for run in (one, two):
        done = subprocess.run(run, env=environment, capture_output=True, timeout=900)
        assert done.returncode == 0, done.stderr.decode()[-2000:]
    wanted, found = (load_file(tmp_path / name / "tiny.safetensors") for name in ("one", "two"))
    for head in (PORTRAIT, SKETCH):
        assert all(tensor.any() for tensor in head_of(wanted, head))
    assert not any(tensor.any() for tensor in head_of(found, EMOJI))
    for key, tensor in wanted.items():
        torch.testing.assert_close(found[key], tensor, rtol=0, atol=1e-5 * tensor.abs().max().item())


def test_a_late_head_warms_up_in_its_own_updates(train, monkeypatch, tmp_path):
    groups = []
    original = Came.step

    def step(self: Came, closure: object = None) -> object:
        result = original(self, closure)
        groups.append([group["updates"] for group in self.param_groups])
        return result

    monkeypatch.setattr(Came, "step", step)
    options = ("--network_args", THREE, "--optimizer_type", "came", "--optimizer_args", "warmup=7")
    train("out", 9, *options)
    updates = torch.tensor([[0] * 4, *groups])
    assert updates[-1, 0] == 9
    assert all(0 < count < 9 for count in updates[-1, [1 + SKETCH, 1 + EMOJI]].tolist())
    assert set((updates[1:] - updates[:-1]).flatten().tolist()) == {0, 1}


def test_a_head_added_to_a_file(train, tmp_path):
    """The file's own heads and A stay as they were; pictures for them are refused."""
    old = train(
        "old", 3, "--network_args", "domains=Portrait;Sketch", data=make_dataset(tmp_path / "a", {"Portrait": ["a"]})
    )
    add = f"add_to={tmp_path / 'old' / 'tiny.safetensors'}"
    lego = make_dataset(tmp_path / "b", {"LEGO": ["a", "b"]})
    new = train("new", 3, "--network_args", add, "domains=LEGO", "idle_heads=cpu", data=lego)
    assert all(torch.equal(new[key], tensor) for key, tensor in old.items())
    assert all(tensor.any() for tensor in head_of(new, 2))
    both = make_dataset(tmp_path / "c", {"LEGO": ["a"], "Sketch": ["b"]})
    with pytest.raises(ValueError, match=r"pictures of Sketch, but .*add_to.*train_a=true"):
        train("never", 3, "--network_args", add, "domains=LEGO", data=both)
    follow = train("follow", 3, "--network_args", add, "domains=LEGO", "train_a=true", data=both)
    assert not any(torch.equal(a, b) for a, b in zip(shared_of(follow), shared_of(old), strict=True))


def test_training_goes_on_from_saved_heads(train, tmp_path):
    first = train("first", 3, "--network_args", THREE)
    weights = ("--network_weights", str(tmp_path / "first" / "tiny.safetensors"))
    again = train("again", 1, *weights, "--dim_from_weights", "--learning_rate", "1e-12")
    for key, tensor in first.items():
        torch.testing.assert_close(again[key], tensor, rtol=0, atol=1e-6)


def test_low_memory_settings_together(train, monkeypatch, tmp_path, seen):
    """fp8 weights, block swap, checkpointing, cached texts and latents, idle heads: as configs/heads_24gb.toml."""
    dev = flux_models.configs["dev"]
    deeper = replace(dev, params=replace(dev.params, depth=4, depth_single_blocks=4))
    monkeypatch.setitem(flux_models.configs, "dev", deeper)
    (tmp_path / "deep").mkdir()
    tiny_run.make_models(tmp_path / "deep")
    options = ["--fp8_base", "--mixed_precision", "bf16", "--blocks_to_swap", "2", "--gradient_checkpointing"]
    options += ["--cache_latents_to_disk", "--cache_text_encoder_outputs_to_disk", "--optimizer_type", "came"]
    flux = ["--pretrained_model_name_or_path", str(tmp_path / "deep" / "flux.safetensors")]
    trained = train("out", 2, "--network_args", THREE, "idle_heads=cpu", "--save_precision", "bf16", *options, *flux)
    assert {tensor.dtype for key, tensor in trained.items() if "alpha" not in key} == {torch.bfloat16}
    used = {head for _, heads, _ in seen for head in heads}
    assert used and all(tensor.any() == (head in used) for head in range(3) for tensor in head_of(trained, head))


def test_idle_heads_change_no_bit(train, monkeypatch, tmp_path):
    """A mark stands for the device: what lies there begins one element into its storage."""
    (tmp_path / "p.txt").write_text(f"a --domain emoji --s 1 --w {EDGE} --h {EDGE}\n", encoding="utf-8")
    options = ["--optimizer_type", "came", "--gradient_accumulation_steps", "2", "--save_every_n_steps", "2"]
    options += ["--sample_prompts", str(tmp_path / "p.txt"), "--sample_every_n_steps", "2", "--sample_at_first"]
    wanted = train("stay", 7, "--network_args", THREE, *options)
    moves = []

    def to_device(self: IdleHeads, tensor: Tensor) -> Tensor:
        assert tensor.storage_offset() == 0
        moves.append(tensor.shape)
        return torch.cat([tensor.new_zeros(1), tensor.flatten()])[1:].view(tensor.shape)

    def to_cpu(self: IdleHeads, tensor: Tensor) -> Tensor:
        assert tensor.storage_offset() == 1
        return tensor.clone()

    def step(self: Came, closure: object = None) -> object:
        used = [p for group in self.param_groups[1:] for p in group["params"] if p.grad is not None]
        for parameter in used:
            held = {"parameter": parameter, **self.state.get(parameter, {})}
            assert {tensor.storage_offset() for tensor in held.values() if is_large(tensor)} == {1}
        result = original(self, closure)
        for parameter in used:
            state = self.state[parameter]
            # What the optimizer has made since lies on the device too.
            new = {name: t for name, t in state.items() if is_large(t) and not t.storage_offset()}
            state.update({name: to_device(None, tensor) for name, tensor in new.items()})
        return result

    original = Came.step
    monkeypatch.setattr(IdleHeads, "to_device", to_device)
    monkeypatch.setattr(IdleHeads, "to_cpu", to_cpu)
    monkeypatch.setattr(Came, "step", step)
    found = train("move", 7, "--network_args", THREE, "idle_heads=cpu", *options)
    assert same(wanted, found) and moves


@pytest.mark.parametrize("cached", [False, True])
def test_flags_in_captions_choose_heads_and_never_reach_the_text_encoder(train, tmp_path, monkeypatch, seen, cached):
    texts = []
    original = strategy_flux.FluxTokenizeStrategy.tokenize

    def tokenize(self: object, text: str | list[str]) -> list[Tensor]:
        texts.extend([text] if isinstance(text, str) else text)
        return original(self, text)

    monkeypatch.setattr(strategy_flux.FluxTokenizeStrategy, "tokenize", tokenize)
    captions = {"": ["cat --lora_up 1", "dog --lora_up_cur 3", "--lora_up 3 bird"], "Sketch": ["fish --lora_up 2"]}
    data = make_dataset(tmp_path / "flags", captions)
    train("out", 10, "--network_args", THREE, *(["--cache_text_encoder_outputs"] if cached else []), data=data)
    assert set(texts) == {"cat", "dog", "bird", "fish"}
    heads = {"cat": PORTRAIT, "dog": EMOJI, "bird": EMOJI, "fish": SKETCH}
    found = {(text, head) for _, batch, texts in seen for text, head in zip(texts, batch, strict=True)}
    assert found == set(heads.items())


def test_attributes_can_be_sent_to_the_loaders_processes(train, monkeypatch):
    """toml's inline tables can't, and sd-scripts then waits for its processes forever."""
    sent = []
    original = HeadsTrainer.assert_extra_args

    def assert_extra_args(self: HeadsTrainer, args: object, data: object, validation: object) -> None:
        original(self, args, data, validation)
        sent.extend(pickle.loads(pickle.dumps((each.subsets, each.image_to_subset))) for each in data.datasets)

    monkeypatch.setattr(HeadsTrainer, "assert_extra_args", assert_extra_args)
    train("out", 1, "--network_args", THREE)
    ((subsets, pictures),) = sent
    assert [subset.custom_attributes for subset in subsets] == [{"domain": name} for name in MIXED]
    assert {subset.custom_attributes["domain"] for subset in pictures.values()} == {"Portrait", "Sketch", "Emoji"}


def test_one_head_needs_no_domain(train, tmp_path):
    trained = train("out", 2, "--network_args", "domains=Sketch", data=make_dataset(tmp_path / "d", {"": ["a", "b"]}))
    assert all(tensor.any() for tensor in head_of(trained, 0))


@pytest.mark.parametrize("suffix", [".txt", ".json", ".toml"])
def test_samples_are_grids_with_their_frames(train, tmp_path, monkeypatch, seen, suffix):
    """Each is drawn with its own head, whose choice ends with it."""
    size = {"width": EDGE, "height": EDGE, "sample_steps": 1}
    prompts = [{"prompt": "a cat", "domain": "Portrait"}, {"prompt": "a dog", "domain": "emoji"}]
    texts = {
        ".txt": "# no prompt\n"
        + "".join(f"{p['prompt']} --w {EDGE} --domain {p['domain']} --h {EDGE} --s 1\n" for p in prompts),
        ".json": json.dumps([prompt | size for prompt in prompts]),
        ".toml": f"[prompt]\nwidth = {EDGE}\nheight = {EDGE}\nsample_steps = 1\n"
        + "".join(f'[[prompt.subset]]\nprompt = "{p["prompt"]}"\ndomain = "{p["domain"]}"\n' for p in prompts),
    }
    path = tmp_path / f"prompts{suffix}"
    path.write_text(texts[suffix], encoding="utf-8")
    trainers, drawn = [], []
    original, denoise = HeadsTrainer.sampling, flux_train_utils.denoise

    def sampling(self: HeadsTrainer, prompt: dict, ae: object) -> object:
        trainers.append(self)
        drawn.append(prompt["prompt"])
        return original(self, prompt, ae)

    def draw(*arguments: object, **named: object) -> Tensor:
        drawn.append((trainers[-1].network.route.heads, trainers[-1].network.training))
        return denoise(*arguments, **named)

    monkeypatch.setattr(HeadsTrainer, "sampling", sampling)
    monkeypatch.setattr(flux_train_utils, "denoise", draw)
    train("out", 2, "--network_args", THREE, "--sample_prompts", str(path), "--sample_every_n_steps", "2")
    assert drawn == ["a cat", ((PORTRAIT,), False), "a dog", ((EMOJI,), False)]
    assert (trainers[-1].network.route.heads, trainers[-1].network.training) == (seen[-1][1], True)
    grids = sorted((tmp_path / "out" / "sample").glob("*.png"))
    assert len(grids) == 2
    for grid, layout in zip(grids, (Layout.of(9), Layout.of(4)), strict=True):
        frames = [pictures.read(path) for path in sorted(grid.with_suffix("").iterdir())]
        assert torch.equal(torch.stack(frames), serpentine.split(pictures.read(grid)[None], layout)[0])


def test_sampling_leaves_the_training_as_it_was(train, tmp_path):
    (tmp_path / "p.txt").write_text(f"a --domain Sketch --s 1 --w {EDGE} --h {EDGE}\n", encoding="utf-8")
    plain = train("plain", 5, "--network_args", THREE, "dropout=0.2")
    prompts = ("--sample_prompts", str(tmp_path / "p.txt"), "--sample_every_n_steps", "2", "--sample_at_first")
    assert same(plain, train("drawn", 5, "--network_args", THREE, "dropout=0.2", *prompts))


def test_validation_goes_through_the_heads_of_its_pictures(train, tmp_path, monkeypatch, seen):
    held_out = set()
    original = HeadsTrainer.on_step_start

    def on_step_start(self: HeadsTrainer, *arguments: object, is_train: bool = True) -> None:
        original(self, *arguments, is_train=is_train)
        if not is_train:
            held_out.update(arguments[5]["captions"])

    monkeypatch.setattr(HeadsTrainer, "on_step_start", on_step_start)
    data = make_dataset(tmp_path / "d", {"Sketch": ["s1", "s2", "s3"], "Portrait": ["p1", "p2", "p3"]})
    options = ("--validation_split", "0.4", "--validate_every_n_steps", "2")
    train("out", 2, "--network_args", THREE, *options, data=data)
    assert len(held_out) == 2
    for _, heads, texts in seen:
        assert heads == tuple({"p": PORTRAIT, "s": SKETCH}[text[0]] for text in texts)
