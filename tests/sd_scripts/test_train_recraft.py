"""ReCraft trained by real sd-scripts, on tiny models: what it merges, encodes, learns, saves and draws."""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_run
import torch
from accelerate import Accelerator
from library import flux_models, flux_train_utils, flux_utils, strategy_flux
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from makeanything import pictures
from makeanything.domains import Domain
from makeanything.lora_header import lora_name
from makeanything.lora_info import layer_of
from makeanything.recraft import fit
from makeanything.serpentine import Layout
from training import train_recraft
from training.asymmetric_network import AsymmetricNetwork
from training.data.cells import encode_clean
from training.heads.layer import linear_layers
from training.heads.merged import Base
from training.sd import recraft
from training.sd.recraft import ReCraftTrainer
from training.sd.recraft_samples import pin_tail_in

NINE, FOUR = Layout.of(9), Layout.of(4)
GRIDS = {NINE: 96, FOUR: 64}
"""Edge of a grid in pixels: cells of 32 px, 4 x 4 latents."""
TAILS = {NINE: (slice(64, 96), slice(64, 96)), FOUR: (slice(32, 64), slice(0, 32))}
"""Pixels of the tail: bottom right in 3x3, bottom left in 2x2."""
RANK, ALPHA = 4, 2.0
PROMPT = "3*3 of 9 sub-images, a lego house"


@pytest.fixture(scope="module")
def tiny(tiny: Path) -> Path:
    """Beside the tiny models: grids of both layouts and heads.safetensors (Portrait, 9 frames; Emoji, 4)."""
    for edge in GRIDS.values():
        tiny_run.make_grids(tiny, edge, captions=("a lego house --lora_up 3", "--lora_up_cur 3 a lego car"))
    flux = flux_models.Flux(flux_models.configs["dev"].params)
    heads = (Domain.of("Portrait", 9, "portrait painting"), Domain.of("Emoji", 4, "emoji design"))
    network = AsymmetricNetwork(flux, heads, RANK, ALPHA)
    for head in range(2):
        for parameter in network.head(head):
            torch.nn.init.normal_(parameter, std=0.2)
    network.save(tiny / "heads.safetensors")
    Image.fromarray(np.arange(40 * 30 * 3, dtype=np.uint8).reshape(40, 30, 3)).save(tiny / "picture.png")
    return tiny


def command(tiny: Path, output: Path, layout: Layout, steps: int, *more: str) -> list[str]:
    base = tiny_run.arguments(tiny, output, tiny / f"grids{GRIDS[layout]}.toml", steps)
    return [*base, "--frames", str(layout.frames), *more]


def load_ae(tiny: Path, dtype: torch.dtype = torch.float32) -> flux_models.AutoEncoder:
    return flux_utils.load_ae(str(tiny / "ae.safetensors"), dtype, "cpu")


def pixels_of(path: Path) -> Tensor:
    """(1, 3, H, W), values -1..1."""
    return torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None] / 127.5 - 1


def tail_of(latents: Tensor, layout: Layout) -> Tensor:
    rows, cols = (slice(side.start // 8, side.stop // 8) for side in TAILS[layout])
    return latents[..., rows, cols]


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The loss of every step."""
    found: list[float] = []
    original = ReCraftTrainer.process_batch

    def process_batch(*arguments: object, **named: object) -> Tensor:
        loss = original(*arguments, **named)
        found.append(loss.item())
        return loss

    monkeypatch.setattr(ReCraftTrainer, "process_batch", process_batch)
    return found


# Whole runs


@pytest.mark.parametrize(
    ("layout", "options"), [(NINE, ("--cache_latents", "--head_file", "heads.safetensors", "--head", "1")), (FOUR, ())]
)
def test_fifty_steps(tiny, tmp_path, losses, monkeypatch, layout, options):
    """The loss falls, and the file is the LoRA that stock tools know."""
    monkeypatch.chdir(tiny)
    train_recraft.main(command(tiny, tmp_path, layout, 50, "--learning_rate", "0.01", *options))
    assert len(losses) == 50
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])

    flux = flux_utils.load_flow_model(str(tiny / "flux.safetensors"), None, "cpu")[1]
    state = load_file(tmp_path / "tiny.safetensors")
    names = {lora_name(name) for name in linear_layers(flux)}
    parts = ("lora_down.weight", "lora_up.weight", "alpha")
    assert state.keys() == {f"{name}.{part}" for name in names for part in parts}
    assert {layer_of(key, names) for key in state} == names
    assert all(state[f"{name}.lora_up.weight"].any() for name in names)
    with safe_open(tmp_path / "tiny.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert metadata["ss_network_module"] == "networks.lora_flux" and metadata["ss_timestep_sampling"] == "flux_shift"
    assert metadata["ss_recraft_layout"] == str(layout)
    assert metadata["ss_recraft_head"] == ("Portrait" if options else "none")


def test_stock_lora_opens_the_result(tiny, tmp_path):
    from networks import lora_flux

    train_recraft.main(command(tiny, tmp_path, FOUR, 2))
    flux = flux_utils.load_flow_model(str(tiny / "flux.safetensors"), None, "cpu")[1]
    path = str(tmp_path / "tiny.safetensors")
    network, _ = lora_flux.create_network_from_weights(1.0, path, None, [], flux)
    network.apply_to([], flux, False, True)
    info = network.load_weights(path)
    assert not info.missing_keys and not info.unexpected_keys and len(network.unet_loras) == 13


@pytest.mark.parametrize("options", [(), ("--cache_text_encoder_outputs",)])
def test_flags_never_reach_the_text_encoder(tiny, tmp_path, monkeypatch, options):
    read: list[str] = []
    original = strategy_flux.FluxTokenizeStrategy.tokenize

    def tokenize(self: object, text: str | list[str]) -> list[Tensor]:
        read.extend([text] if isinstance(text, str) else text)
        return original(self, text)

    monkeypatch.setattr(strategy_flux.FluxTokenizeStrategy, "tokenize", tokenize)
    train_recraft.main(command(tiny, tmp_path, FOUR, 2, *options))
    assert set(read) == {"a lego house", "a lego car"}


def test_validation_leaves_the_tail_out_too(tiny, tmp_path, monkeypatch):
    kinds: list[bool] = []
    original = ReCraftTrainer.get_noise_pred_and_target

    def get(self: object, *arguments: object, is_train: bool) -> tuple[Tensor, ...]:
        result = original(self, *arguments, is_train=is_train)
        assert torch.equal(result[3] == 0, tail_mask(NINE))
        kinds.append(is_train)
        return result

    monkeypatch.setattr(ReCraftTrainer, "get_noise_pred_and_target", get)
    options = ("--validation_split", "0.5", "--validate_every_n_steps", "1", "--max_validation_steps", "1")
    train_recraft.main(command(tiny, tmp_path, NINE, 2, *options))
    assert kinds.count(True) == 2 and kinds.count(False) >= 4


def tail_mask(layout: Layout) -> Tensor:
    edge = GRIDS[layout] // 8
    mask = torch.zeros(1, 1, edge, edge, dtype=torch.bool)
    tail_of(mask, layout)[:] = True
    return mask


# Latents


@pytest.mark.parametrize("layout", [NINE, FOUR])
def test_cached_tails_are_cells_encoded_alone(tiny, tmp_path, monkeypatch, layout):
    """Whatever lies around them; and no cache of whole grids is read."""
    edge = GRIDS[layout]
    toml = tiny_run.make_grids(tmp_path, edge, count=2)
    first, second = (tmp_path / f"grids{edge}" / f"{n}.png" for n in range(2))
    changed = np.array(Image.open(second))
    changed[TAILS[layout]] = np.array(Image.open(first))[TAILS[layout]]
    Image.fromarray(changed).save(second)
    size = f"_{edge // 8}x{edge // 8}"
    stale = {f"latents{size}": np.full((16, edge // 8, edge // 8), 7.0), f"original_size{size}": [edge, edge]}
    np.savez(first.with_name(f"0_{edge:04d}x{edge:04d}_flux.npz"), **stale, **{f"crop_ltrb{size}": [0, 0, edge, edge]})
    seen: list[Tensor] = []
    original = ReCraftTrainer.get_noise_pred_and_target

    def get(self: object, *arguments: object, **named: object) -> tuple[Tensor, ...]:
        seen.append(arguments[3])
        return original(self, *arguments, **named)

    monkeypatch.setattr(ReCraftTrainer, "get_noise_pred_and_target", get)
    options = ("--dataset_config", str(toml), "--cache_latents_to_disk")
    train_recraft.main(command(tiny, tmp_path / "out", layout, 1, *options))

    names = [first.with_name(f"{n}_{edge:04d}x{edge:04d}_tail{layout}.npz") for n in range(2)]
    cached = [torch.from_numpy(np.load(name)[f"latents{size}"]) for name in names]
    with torch.no_grad():
        ae = load_ae(tiny)
        alone = encode_clean(ae, pixels_of(first)[(..., *TAILS[layout])])[0]
        whole = encode_clean(ae, pixels_of(first))[0]
    torch.testing.assert_close(tail_of(cached[0], layout), alone, rtol=0, atol=1e-5)
    assert torch.equal(tail_of(cached[0], layout), tail_of(cached[1], layout))
    assert (tail_of(whole, layout) - alone).abs().max() > 0.01
    assert not torch.equal(*cached)
    assert {row.sum().item() for row in seen[0]} == {row.sum().item() for row in cached}


def test_latents_that_are_not_cached(tiny):
    trainer, ae = ReCraftTrainer(), load_ae(tiny)
    trainer.base = Base(NINE)
    grid = pixels_of(tiny / "grids96" / "0.png")
    with torch.no_grad():
        tail = tail_of(trainer.encode_images_to_latents(argparse.Namespace(), ae, grid), NINE)
        assert torch.equal(tail, encode_clean(ae, grid[(..., *TAILS[NINE])]))


# The loss


class Step:
    """One step of the trainer on given latents and noise, with a LoRA that acts."""

    def __init__(self, tiny: Path, layout: Layout) -> None:
        from networks import lora_flux

        torch.manual_seed(0)
        self.trainer, self.layout, edge = ReCraftTrainer(), layout, GRIDS[layout] // 8
        self.trainer.base = Base(layout)
        self.flux = flux_utils.load_flow_model(str(tiny / "flux.safetensors"), torch.float32, "cpu")[1]
        self.flux.requires_grad_(False)
        self.network = lora_flux.create_network(1.0, RANK, ALPHA, None, [], self.flux)
        self.network.apply_to([], self.flux, False, True)
        for parameter in self.network.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        self.latents, self.noise = torch.randn(2, 2, 16, edge, edge)
        self.conditions = [torch.randn(2, 16), torch.randn(2, 8, 32), torch.zeros(2, 8, 3), torch.ones(2, 8).long()]
        values = {
            "timestep_sampling": "flux_shift", "sigmoid_scale": 1.0, "ip_noise_gamma": None, "guidance_scale": 1.0,
            "gradient_checkpointing": False, "apply_t5_attn_mask": True, "model_prediction_type": "raw",
            "weighting_scheme": "none", "loss_type": "l2", "masked_loss": False,
        }  # fmt: skip
        self.args = argparse.Namespace(**values)

    def run(self, monkeypatch: pytest.MonkeyPatch, noise: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The trainer's loss, and its gradients."""
        scheduler = self.trainer.get_noise_scheduler(argparse.Namespace(discrete_flow_shift=1.0), torch.device("cpu"))
        batch = {
            "latents": self.latents, "text_encoder_outputs_list": self.conditions, "loss_weights": torch.ones(2),
            "custom_attributes": [{}, {}],
        }  # fmt: skip
        dtype = torch.float32
        self.network.zero_grad()
        with monkeypatch.context() as patched:
            patched.setattr(torch, "randn_like", lambda like: noise)
            torch.manual_seed(5)
            loss = self.trainer.process_batch(
                batch, [], self.flux, self.network, None, scheduler, dtype, dtype, Accelerator(cpu=True), self.args,
                None, None, is_train=True, train_text_encoder=False, train_unet=True,
            )  # fmt: skip
        loss.backward()
        return loss.detach(), {name: p.grad.clone() for name, p in self.network.named_parameters()}

    def closed_form(self) -> Tensor:
        """Mean squared error of the velocity over all cells but the tail, which is clean in the input."""
        torch.manual_seed(5)
        tokens = self.latents.shape[-1] ** 2 // 4
        shift = np.exp(0.5 + 0.65 * (tokens - 256) / (4096 - 256))
        t = torch.randn(2).sigmoid()
        t = (shift * t / (1 + (shift - 1) * t)).float().reshape(2, 1, 1, 1)
        noisy, tail = (1 - t) * self.latents + t * self.noise, tail_mask(self.layout)
        noisy = torch.where(tail, self.latents, noisy)
        edge = noisy.shape[-1] // 2
        pooled, txt, txt_ids, mask = self.conditions
        velocity = self.flux(
            img=flux_utils.pack_latents(noisy),
            img_ids=flux_utils.prepare_img_ids(2, edge, edge),
            txt=txt,
            txt_ids=txt_ids,
            y=pooled,
            timesteps=t.flatten(),
            guidance=torch.ones(2),
            txt_attention_mask=mask,
        )
        error = flux_utils.unpack_latents(velocity, edge, edge) - (self.noise - self.latents)
        return error.square()[(~tail).expand_as(error)].mean()


@pytest.mark.parametrize("layout", [NINE, FOUR])
def test_a_step_in_closed_form(tiny, monkeypatch, layout):
    step = Step(tiny, layout)
    loss, gradients = step.run(monkeypatch, step.noise)
    expected = step.closed_form()
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-5, atol=0)
    step.network.zero_grad()
    expected.backward()
    for name, parameter in step.network.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("layout", [NINE, FOUR])
def test_no_gradient_comes_from_the_target_in_the_tail(tiny, monkeypatch, layout):
    step, mask = Step(tiny, layout), tail_mask(layout)
    loss, gradients = step.run(monkeypatch, step.noise)
    in_tail, gradients_in_tail = step.run(monkeypatch, torch.where(mask, step.noise + 3, step.noise))
    assert torch.equal(in_tail, loss)
    assert all(torch.equal(gradients_in_tail[name], gradient) for name, gradient in gradients.items())
    outside, gradients_outside = step.run(monkeypatch, torch.where(mask, step.noise, step.noise + 3))
    assert not torch.isclose(outside, loss)
    assert not any(torch.allclose(gradients_outside[name], gradient) for name, gradient in gradients.items())
    # The other frames see the picture.
    step.latents = torch.where(mask, step.latents + 1, step.latents)
    assert not torch.isclose(step.run(monkeypatch, step.noise)[0], loss)


# The head


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """The weights of FLUX as they are trained on."""
    found: list[dict[str, Tensor]] = []
    original = ReCraftTrainer.prepare_unet_with_accelerator

    def prepare(self: object, args: object, accelerator: object, unet: torch.nn.Module) -> torch.nn.Module:
        found.append({name: weight.clone() for name, weight in unet.state_dict().items()})
        return original(self, args, accelerator, unet)

    monkeypatch.setattr(ReCraftTrainer, "prepare_unet_with_accelerator", prepare)
    return found


def merged(tiny: Path, head: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """W + alpha / rank * B A, from the files, in float64, rounded once."""
    state, weights = load_file(tiny / "heads.safetensors"), load_file(tiny / "flux.safetensors")
    for key, weight in weights.items():
        name = f"lora_unet_{key.removesuffix('.weight').replace('.', '_')}"
        if f"{name}.alpha" in state:
            down, up = (state[f"{name}.{part}.weight"].double() for part in ("lora_down", f"lora_ups.{head}"))
            weight = weight.to(dtype).double() + ALPHA / RANK * (up @ down)
        weights[key] = weight.to(dtype)
    return weights


@pytest.mark.parametrize(("name", "index", "layout"), [("portrait", 0, NINE), ("2", 1, FOUR)])
def test_the_merged_head(tiny, tmp_path, models, name, index, layout):
    """In closed form, from the asymmetric file; the layout is the head's; FLUX's own file stays as it was."""
    before = (tiny / "flux.safetensors").read_bytes()
    heads = (
        "--head_file",
        str(tiny / "heads.safetensors"),
        "--head",
        name,
        "--save_merged",
        str(tmp_path / "m.safetensors"),
    )
    arguments = tiny_run.arguments(tiny, tmp_path, tiny / f"grids{GRIDS[layout]}.toml", 1)
    train_recraft.main([*arguments, *heads])
    expected, saved = merged(tiny, index, torch.float32), load_file(tmp_path / "m.safetensors")
    assert models[0].keys() == expected.keys() == saved.keys()
    for key, weight in expected.items():
        torch.testing.assert_close(models[0][key], weight, rtol=0, atol=1e-6)
        assert torch.equal(models[0][key], saved[key])
    assert (tiny / "flux.safetensors").read_bytes() == before
    # Saved, it brings its head and layout along.
    train_recraft.main([*arguments, "--pretrained_model_name_or_path", str(tmp_path / "m.safetensors")])
    assert all(torch.equal(models[1][key], weight) for key, weight in saved.items())


def test_the_head_is_merged_before_the_cast_to_fp8(tiny, tmp_path, models):
    heads = ("--head_file", str(tiny / "heads.safetensors"), "--head", "Portrait")
    options = ("--fp8_base_unet", "--mixed_precision", "bf16", "--gradient_checkpointing")
    train_recraft.main(command(tiny, tmp_path, NINE, 2, *heads, *options))
    before, weights = load_file(tiny / "flux.safetensors"), merged(tiny, 0, torch.float32)
    assert models[0].keys() == weights.keys()
    for key, weight in models[0].items():
        assert weight.dtype == torch.float8_e4m3fn
        once = weights[key].to(weight.dtype).float()
        assert (weight.float() == once).float().mean() > 0.999, key
        if not torch.equal(before[key], weights[key]):
            after_the_cast = before[key].to(weight.dtype).float() + weights[key] - before[key]
            assert (after_the_cast.to(weight.dtype).float() == once).float().mean() < 0.99, key


@pytest.mark.parametrize(
    ("options", "domain", "warnings"),
    [
        (("--head", "Portrait"), "portrait", []),
        (("--head", "Portrait"), "Sketch", [".*grids96.0.png is of Sketch, but the head in FLUX is that of Portrait"]),
        (("--head", "Emoji", "--frames", "9"), "Emoji", ["--frames asks for 3x3, the head draws 2x2"]),
        ((), "Emoji", ["no head is merged into FLUX"]),
    ],
)
def test_a_head_that_is_not_the_data_s(tiny, tmp_path, monkeypatch, options, domain, warnings):
    said: list[str] = []
    monkeypatch.setattr(recraft.logger, "warning", said.append)
    path = tiny / "domain.toml"
    text = (tiny / "grids96.toml").read_text(encoding="utf-8")
    path.write_text(f'{text}custom_attributes = {{ domain = "{domain}" }}\n', encoding="utf-8")
    heads = ("--head_file", str(tiny / "heads.safetensors")) if options else ("--frames", "9")
    train_recraft.main([*tiny_run.arguments(tiny, tmp_path, path, 1), *heads, *options])
    assert len(said) == len(warnings) and all(map(re.match, warnings, said))


# Resuming


def test_a_killed_run_resumes_to_equal_weights(tiny, tmp_path):
    options = ("--save_state", "--save_every_n_steps", "3", "--cache_latents", "--lr_scheduler", "cosine")
    train_recraft.main(command(tiny, tmp_path / "whole", NINE, 7, *options))
    environment = {**os.environ, "KILL_IN_STEP": "5", "SD_SCRIPTS_PATH": os.environ["SD_SCRIPTS_PATH"]}
    killed = subprocess.run(
        [
            sys.executable,
            tiny_run.__file__,
            "training.train_recraft",
            *command(tiny, tmp_path / "cut", NINE, 7, *options),
        ],
        env=environment,
        capture_output=True,
        timeout=300,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
    assert not (tmp_path / "cut" / "tiny.safetensors").exists()
    state = tmp_path / "cut" / "tiny-step00000003-state"
    train_recraft.main(command(tiny, tmp_path / "cut", NINE, 7, *options, "--resume", str(state)))
    whole, cut = (load_file(tmp_path / name / "tiny.safetensors") for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert all(torch.equal(cut[key], tensor) for key, tensor in whole.items())
    start = load_file(tmp_path / "whole" / "tiny-step00000003.safetensors")
    assert not any(torch.equal(start[key], tensor) for key, tensor in whole.items() if not key.endswith(".alpha"))


# Samples


@pytest.mark.parametrize("layout", [NINE, FOUR])
@pytest.mark.parametrize(("dtype", "scale"), [(torch.float32, 1.0), (torch.float32, 2.0), (torch.bfloat16, 1.0)])
def test_the_picture_is_held_at_every_step_and_exact_at_the_end(tiny, layout, dtype, scale):
    flux = flux_utils.load_flow_model(str(tiny / "flux.safetensors"), dtype, "cpu")[1]
    torch.manual_seed(1)
    edge = GRIDS[layout] // 16
    cell = torch.randn(1, 16, 4, 4, dtype=dtype)
    noise, txt, pooled = (torch.randn(1, *shape, dtype=dtype) for shape in ((edge**2, 64), (8, 32), (16,)))
    seen: list[Tensor] = []
    flux.img_in.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    denoise = pin_tail_in(flux_train_utils.denoise, cell, layout, GRIDS[layout], GRIDS[layout])
    ids = flux_utils.prepare_img_ids(1, edge, edge).to(dtype)
    guided = (scale, pooled + 1, txt + 1, None) if scale != 1 else None
    times = flux_train_utils.get_schedule(3, edge**2)
    with torch.no_grad():
        end = denoise(
            flux, noise, ids, txt, torch.zeros(1, 8, 3, dtype=dtype), pooled, timesteps=times, neg_cond=guided
        )
    assert len(seen) == 3
    for packed in (*seen, end):
        tail = tail_of(flux_utils.unpack_latents(packed, edge, edge), layout)
        assert torch.equal(tail, cell.expand(len(packed), -1, -1, -1))
    frames = ~tail_mask(layout).expand(1, 16, -1, -1)
    first, last = (flux_utils.unpack_latents(packed, edge, edge)[frames] for packed in (noise, end))
    assert (first != last).float().mean() > 0.9
    assert not flux._forward_pre_hooks


@pytest.mark.parametrize(("kind", "precision"), [("txt", ()), ("json", ("--mixed_precision", "bf16", "--no_half_vae"))])
def test_samples_are_drawn_with_their_pictures(tiny, tmp_path, monkeypatch, kind, precision):
    """The grid and its frames are saved; the latents that are decoded end on the picture's own."""
    decoded: list[Tensor] = []
    original = flux_models.AutoEncoder.decode

    def decode(self: object, z: Tensor) -> Tensor:
        decoded.append(z)
        return original(self, z)

    monkeypatch.setattr(flux_models.AutoEncoder, "decode", decode)
    prompts = tiny / f"prompts.{kind}"
    if kind == "txt":
        prompts.write_text(
            f"# a comment\n\n{PROMPT} --w 96 --h 96 --condition picture.png --s 2 --d 1\n", encoding="utf-8"
        )
    else:
        entry = {"prompt": PROMPT, "width": 96, "height": 96, "sample_steps": 2, "condition": str(tiny / "picture.png")}
        prompts.write_text(json.dumps([entry, {**entry, "seed": 1}]), encoding="utf-8")
    count = {"txt": 1, "json": 2}[kind]
    options = ("--sample_prompts", str(prompts), "--sample_every_n_steps", "2", "--cache_latents", *precision)
    train_recraft.main(command(tiny, tmp_path, NINE, 3, *options))

    picture = fit(pictures.read(tiny / "picture.png")[None], 32, 32).movedim(-1, 1) * 2 - 1
    with torch.no_grad():
        expected = encode_clean(load_ae(tiny, torch.bfloat16 if precision else torch.float32).float(), picture)
    assert len(decoded) == count
    assert all(torch.equal(tail_of(z, NINE), expected) for z in decoded)
    grids = sorted((tmp_path / "sample").glob("*.png"))
    assert len(grids) == count
    for grid in grids:
        frames = sorted(grid.with_suffix("").iterdir())
        assert [path.name for path in frames] == [f"0{n}.png" for n in range(1, 10)]
        assert np.array_equal(np.array(Image.open(frames[-1])), np.array(Image.open(grid))[TAILS[NINE]])


# What can't be


@pytest.mark.parametrize(
    ("options", "prompt", "message"),
    [
        (
            ("--head_file", "heads.safetensors"),
            "",
            "heads.safetensors has several heads; choose one with --head: 1 Port",
        ),
        (("--frames", "9", "--save_merged", "m.safetensors"), "", "pass --head_file too"),
        (("--frames", "16"), "", "a 4x4 grid of 96 x 96 px has cells of 24 x 24"),
        (("--frames", "9", "--flip_aug"), "", "flip_aug of .* moves the grid's cells"),
        (("--frames", "9", "--enable_bucket", "--min_bucket_reso", "64"), "", "leave enable_bucket out"),
        (("--frames", "9", "--resolution", "480"), "", "the dataset's resolution is 480 x 480 px"),
        (("--frames", "9"), PROMPT, r"prompt 1 .'3\*3 of.*: the finished picture is missing: add the key"),
        (("--frames", "9"), f"{PROMPT} --condition no.png", "prompt 1 .*there is no file .*no.png"),
        (("--frames", "9"), f"{PROMPT} --condition picture.png --w 100", "prompt 1 .*does not divide into 3 columns"),
    ],
)
def test_what_can_not_be_trained_is_said_at_the_start(tiny, tmp_path, monkeypatch, options, prompt, message):
    monkeypatch.chdir(tiny)
    monkeypatch.setattr(flux_utils, "load_flow_model", None)
    prompts = tiny / "wrong.txt"
    prompts.write_text(prompt, encoding="utf-8")
    if prompt:
        options = (*options, "--sample_prompts", str(prompts))
    toml = tiny / "resolution.toml"
    text = (tiny / "grids96.toml").read_text(encoding="utf-8")
    toml.write_text(text.replace("resolution = 96\n", ""), encoding="utf-8")
    arguments = tiny_run.arguments(tiny, tmp_path, toml, 1)
    with pytest.raises(ValueError, match=message):
        train_recraft.main([*arguments, "--resolution", "96", *options])
