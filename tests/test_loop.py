"""The built-in loop: exact resuming, stopping, several processes, and runs from a settings file.

As a script it is a run for other processes:  python test_loop.py STATE RESULT OPTIMIZER [KILL_AT].
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from makeanything.asymmetric_lora import AsymmetricLora
from makeanything.domains import Domain
from makeanything.reference.autoencoder import Autoencoder
from makeanything.reference.flux import Flux, FluxParams
from makeanything.reference.merge import merge
from makeanything.saving import save_safetensors
from makeanything.serpentine import Layout
from makeanything.text_encoder import WIDTH, TextEncoder
from training import loop as command
from training.builtin import checkpoint, grids, kinds, loop, recipe
from training.builtin.objective import Objective
from training.builtin.settings import Settings
from training.data import dataset
from training.heads.layer import Dropout
from training.heads.network import HeadNetwork

ROOT = Path(__file__).resolve().parents[1]
PARAMS = FluxParams(
    hidden_size=128, depth=1, depth_single_blocks=1, context_in_dim=WIDTH, vec_in_dim=WIDTH, mlp_ratio=1
)
HEADS = tuple(Domain.of(name, 9, "painting") for name in ("A1", "B2", "late", "never"))
LATE, NEVER = 2, 3
STEPS = 8


def tiny_flux() -> Flux:
    torch.manual_seed(0)
    return Flux(PARAMS).requires_grad_(False)


def run(
    state: Path,
    optimizer: str = "adamw",
    before: Callable[[int], None] = lambda step: None,
    used: list[tuple[int, ...]] | None = None,
    **settings,
) -> HeadNetwork:
    """Train heads with dropout on random latents; `before` is called in every step, before its loss."""
    flux = tiny_flux()
    network = HeadNetwork(flux, HEADS, rank=2, dropout=Dropout(hidden=0.2))
    network.attach(flux)
    with torch.no_grad():
        for head in range(len(HEADS)):
            for parameter in network.head(head):
                parameter.normal_(std=0.1)

    def loss(generator: torch.Generator, step: int) -> tuple[Tensor, dict[str, float]]:
        before(step)
        # The last head comes late.
        heads = torch.randint(LATE if step < STEPS // 2 else LATE + 1, (2,), generator=generator).tolist()
        network.route.heads = tuple(heads)
        if used is not None:
            used.append(network.route.heads)
        latents = torch.randn(2, 16, 6, 6, generator=generator)
        text = (torch.randn(2, 3, WIDTH, generator=generator), torch.randn(2, WIDTH, generator=generator))
        return Objective().losses(flux, latents, text, generator).mean(), {}

    every = {"steps": STEPS, "lr": 1e-2, "warmup": 2, "save_every": 3, "optimizer": optimizer, **settings}
    if optimizer == "came":
        every["optimizer_args"] = {"warmup": 3}
    loop.fit(network, loss, Settings(**every), state, "tiny")
    return network


def weights(network: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def assert_same(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert got.keys() == wanted.keys()
    assert [name for name in got if not torch.equal(got[name], wanted[name])] == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Optimizer -> weights and state file of an uninterrupted run."""
    result = {}
    for optimizer in ("adamw", "came"):
        state = tmp_path_factory.mktemp("whole") / "state.safetensors"
        result[optimizer] = weights(run(state, optimizer)), load_file(state)
    return result


@pytest.mark.parametrize("optimizer", ["adamw", "came"])
@pytest.mark.parametrize("killed_at", range(STEPS))
def test_a_run_that_dies_in_any_step_ends_on_the_same_bits(tmp_path, whole, optimizer, killed_at):
    def die(step: int) -> None:
        if step == killed_at:
            raise RuntimeError("died")

    state = tmp_path / "state.safetensors"
    with pytest.raises(RuntimeError, match="died"):
        run(state, optimizer, die)
    assert state.exists() == (killed_at >= 3)
    assert_same(weights(run(state, optimizer)), whole[optimizer][0])
    assert_same(load_file(state), whole[optimizer][1])


@pytest.mark.parametrize("optimizer", ["adamw", "came"])
def test_a_head_that_no_batch_used_keeps_its_weights_and_has_no_memory(whole, optimizer):
    final, state = whole[optimizer]
    for head in range(len(HEADS)):
        remembered = {key.split(".")[0] for key in state if f".lora_ups.{head}." in key}
        assert (remembered == {"weight"}) == (head == NEVER)
        assert "exp_avg" in remembered or head == NEVER
    (name,) = {key for key in final if key.endswith("double_blocks_0_img_attn_qkv.lora_ups.3.weight")}
    torch.manual_seed(0)
    fresh = tiny_flux()
    network = HeadNetwork(fresh, HEADS, rank=2)
    with torch.no_grad():
        for head in range(len(HEADS)):
            for parameter in network.head(head):
                parameter.normal_(std=0.1)
    assert torch.equal(final[name], network.state_dict()[name])
    assert not torch.equal(final[name.replace("ups.3", "ups.2")], network.state_dict()[name.replace("ups.3", "ups.2")])


def child(*arguments: object, **environment: str) -> subprocess.Popen:
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize(("optimizer", "kill_at"), [("adamw", "step 4"), ("came", "save 2")])
def test_kill_9_in_a_step_or_while_saving_loses_nothing(tmp_path, whole, optimizer, kill_at):
    state, result = tmp_path / "state.safetensors", tmp_path / "result.safetensors"
    killed = child(state, result, optimizer, kill_at)
    output, _ = killed.communicate(timeout=300)
    assert killed.returncode == -signal.SIGKILL, output
    assert not result.exists()
    resumed = child(state, result, optimizer)
    output, _ = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, output
    assert "3/8" in output
    assert_same(load_file(result), whole[optimizer][0])


def test_two_processes_are_one_that_accumulates(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    results = [tmp_path / f"{rank}.safetensors" for rank in range(2)]
    state = tmp_path / "state.safetensors"
    both = [
        child(state, result, "adamw", RANK=str(rank), LOCAL_RANK=str(rank), **place, LOCAL_WORLD_SIZE="2")
        for rank, result in enumerate(results)
    ]
    for process in both:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    used: list[tuple[int, ...]] = []
    wanted = weights(run(tmp_path / "one.safetensors", used=used, accumulation=2))
    pairs = list(zip(used[::2], used[1::2], strict=True))
    assert any(not set(first) & set(second) for first, second in pairs)
    for result in results:
        assert_same(load_file(result), wanted)
    assert_same(load_file(state), load_file(tmp_path / "one.safetensors"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_the_step_under_way_and_stops(tmp_path, whole, number):
    steps: list[int] = []

    def press(step: int) -> None:
        steps.append(step)
        if step == 4:
            os.kill(os.getpid(), number)

    state, handler = tmp_path / "state.safetensors", signal.getsignal(number)
    with pytest.raises(loop.Interrupted, match="tiny: stopped after 5 steps"):
        run(state, before=press)
    assert steps == [0, 1, 2, 3, 4]
    assert signal.getsignal(number) is handler
    run(state, before=steps.append)
    assert steps[5:] == [5, 6, 7]
    assert_same(load_file(state), whole["adamw"][1])


def test_the_seed_decides_and_every_batch_has_its_own_data(tmp_path):
    seen: list[float] = []

    def draws(seed: int) -> list[float]:
        seen.clear()
        module = torch.nn.Linear(1, 1)

        def loss(generator: torch.Generator, step: int) -> tuple[Tensor, dict[str, float]]:
            seen.extend((torch.rand((), generator=generator).item(), torch.rand(()).item()))
            return module(torch.ones(1)).sum(), {}

        state = tmp_path / f"{seed}-{len(list(tmp_path.iterdir()))}.safetensors"
        loop.fit(module, loss, Settings(steps=3, lr=1e-3, accumulation=2, seed=seed), state, "draws")
        return list(seen)

    first = draws(1)
    assert len(set(first)) >= 6
    assert draws(1) == first
    assert not set(draws(2)) & set(first)


def test_progress_shows_a_running_mean_for_every_domain(tmp_path, capsys):
    module = torch.nn.Linear(1, 1)
    figures = [{"Portrait": 1.0}, {"Sketch": 5.0}, {"Portrait": 2.0, "Sketch": 7.0}, {"Portrait": 3.0}]

    def loss(generator: torch.Generator, step: int) -> tuple[Tensor, dict[str, float]]:
        return 0 * module(torch.ones(1)).sum() + 4, figures[step]

    loop.fit(module, loss, Settings(steps=4, lr=1e-3), tmp_path / "state", "progress")
    shown = capsys.readouterr().err.split("\r")[-1]
    portrait = 0.95 * (0.95 * 1 + 0.05 * 2) + 0.05 * 3
    assert f"loss=4.0000, Portrait={portrait:.4f}, Sketch={0.95 * 5 + 0.05 * 7:.4f}" in shown


def test_a_step_of_plain_arithmetic(tmp_path):
    """Two steps of Adam on the mean of two batches, clipped: every update is the learning rate times the sign."""
    module = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
    torch.nn.init.constant_(module.weight, 3.0)
    gradients: list[float] = []

    def loss(generator: torch.Generator, step: int) -> tuple[Tensor, dict[str, float]]:
        factor = 10 * torch.rand((), generator=generator, dtype=torch.float64)
        gradients.append(factor.item())
        return factor * module.weight.sum(), {}

    settings = Settings(
        steps=2, lr=0.1, warmup=2, schedule="constant", accumulation=2, clip=0.5, optimizer_args={"weight_decay": 0.0}
    )
    loop.fit(module, loss, settings, tmp_path / "state", "plain")
    assert min(gradients) / 2 > 0.5
    assert module.weight.item() == pytest.approx(3.0 - 0.05 - 0.1, abs=1e-6)
    # exp_avg of two clipped gradients of 0.5
    assert load_file(tmp_path / "state")["exp_avg.weight"].item() == pytest.approx(0.5 * (1 - 0.9**2), rel=1e-4)


@pytest.mark.parametrize(("precision", "dtype"), [("no", torch.float32), ("bf16", torch.bfloat16)])
def test_the_loss_is_computed_in_mixed_precision_and_weights_stay(tmp_path, precision, dtype):
    module, seen = torch.nn.Linear(1, 1), []

    def loss(generator: torch.Generator, step: int) -> tuple[Tensor, dict[str, float]]:
        seen.append(module(torch.ones(1)))
        return seen[-1].float().sum(), {}

    loop.fit(module, loss, Settings(steps=1, lr=1e-3, mixed_precision=precision), tmp_path / "state", "mixed")
    assert seen[0].dtype == dtype and module.weight.dtype == module.weight.grad.dtype == torch.float32


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    module = torch.nn.Linear(1, 1)
    with pytest.raises(FloatingPointError, match="the loss of step 0 is nan; lower the learning rate"):
        loop.fit(module, lambda g, s: (module.weight.sum() * torch.nan, {}), Settings(1, 1.0), tmp_path / "s", "nan")


def test_a_state_of_another_run_is_refused(tmp_path):
    def fit(module: torch.nn.Module, **settings) -> None:
        def loss(generator: torch.Generator, step: int) -> tuple[Tensor, dict[str, float]]:
            return sum(p.sum() for p in module.parameters()), {}

        loop.fit(module, loss, Settings(steps=2, lr=1e-3, **settings), tmp_path / "state", "x")

    fit(torch.nn.Linear(2, 3))
    with pytest.raises(ValueError, match=r"another run: bias is of shape \(3,\) there and of shape \(2,\) here"):
        fit(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"bias is of shape \(3,\) there and missing here"):
        fit(torch.nn.Linear(2, 3, bias=False))
    with pytest.raises(ValueError, match="written with AdamW, this run has Came"):
        fit(torch.nn.Linear(2, 3), optimizer="came")


def test_a_module_at_rest_is_refused(tmp_path):
    module = torch.nn.Linear(1, 1).requires_grad_(False)
    with pytest.raises(ValueError, match="nothing in this Linear trains"):
        loop.fit(module, lambda g, s: (torch.zeros(()), {}), Settings(1, 1.0), tmp_path / "s", "x")


def test_schedules_in_closed_form():
    cosine = Settings(steps=10, lr=2.0, warmup=4)
    wanted = [0.5, 1.0, 1.5, 2.0, *(1 + np.cos(np.pi * k / 6) for k in range(6))]
    assert [cosine.lr_at(step) for step in range(10)] == pytest.approx(wanted)
    constant = Settings(steps=10, lr=2.0, warmup=2, schedule="constant")
    assert [constant.lr_at(step) for step in range(4)] == [1.0, 2.0, 2.0, 2.0]
    assert Settings(steps=1, lr=2.0, warmup=0).lr_at(0) == 2.0


# Runs from a settings file.


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny models and two domains of grids, with a dataset for both and one for Sketch alone."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    save_safetensors(tiny_flux().state_dict(), folder / "flux.safetensors")
    save_safetensors(TextEncoder().state_dict(), folder / "text.safetensors")
    save_safetensors(Autoencoder().to_file(), folder / "ae.safetensors")
    rng = np.random.default_rng(0)
    for name in ("Portrait", "Sketch"):
        (folder / name).mkdir()
        for number in range(2):
            blocks = Image.fromarray(rng.integers(0, 256, (3, 3, 3), dtype=np.uint8))
            blocks.resize((48, 48), Image.Resampling.NEAREST).save(folder / name / f"{number}.png")
            (folder / name / f"{number}.caption").write_text(f"a {name}")
    for names in (["Portrait", "Sketch"], ["Sketch"]):
        subsets = "".join(
            f'[[datasets.subsets]]\nimage_dir = "{folder / name}"\ncustom_attributes = {{ domain = "{name}" }}\n'
            for name in names
        )
        path = folder / ("both.toml" if len(names) == 2 else "sketch.toml")
        path.write_text(f"[[datasets]]\nresolution = 48\nbatch_size = 2\n{subsets}")
    return folder


def settings_file(models: Path, out: Path, **changes: object) -> Path:
    values = {
        "pretrained_model_name_or_path": str(models / "flux.safetensors"),
        "ae": str(models / "ae.safetensors"),
        "text_encoder": str(models / "text.safetensors"),
        "dataset_config": str(models / "both.toml"),
        "output_dir": str(out / "out"),
        "output_name": "mine",
        "learning_rate": 5e-3,
        "max_train_steps": 30,
        "max_grad_norm": 1.0,
        **changes,
    }
    path = out / "run.toml"
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
    return path


def launch(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["loop", *map(str, arguments)])
    return command.main()


HEAD_SETTINGS = {"network_dim": 4, "network_alpha": 4, "network_args": ["domains=Portrait;Sketch"]}


@pytest.fixture(scope="module")
def heads_file(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("heads")
    with pytest.MonkeyPatch.context() as patch:
        path = settings_file(models, out, **HEAD_SETTINGS, save_every_n_steps=20)
        assert launch(patch, "heads", "--config_file", path, "blocks_to_swap=10") == 0
    return out / "out" / "mine.safetensors"


def test_heads_from_a_settings_file(heads_file, models):
    lora = AsymmetricLora.open(heads_file)
    assert [domain.name for domain in lora.domains] == ["Portrait", "Sketch"]
    assert (lora.rank, lora.alpha()) == (4, 4.0)
    assert {path.name for path in heads_file.parent.iterdir()} == {
        "mine.safetensors", "mine-step00000020.safetensors", "mine.state.safetensors", "mine.latents.safetensors",
    }  # fmt: skip
    early = AsymmetricLora.open(heads_file.with_name("mine-step00000020.safetensors")).select("Sketch")
    final = lora.select("Sketch")
    assert any(not torch.equal(final[key], early[key]) for key in final)
    merge(load_file(models / "flux.safetensors"), final)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("heads", {**HEAD_SETTINGS, "optimizer_type": "came", "optimizer_args": ["warmup=5"]}),
        ("heads", {**HEAD_SETTINGS, "network_args": ["domains=Portrait;Sketch", "idle_heads=cpu"]}),
        ("recraft", {"network_dim": 4, "network_alpha": 4, "frames": 9}),
        ("full", {"learning_rate": 1e-3}),
    ],
)
def test_the_loss_falls(models, tmp_path, kind, changes):
    path = settings_file(models, tmp_path, timestep_sampling="uniform", **changes)
    task = kinds.prepare(recipe.Recipe.read(kind, path), loop.this_process())

    @torch.no_grad()
    def loss() -> float:
        return np.mean([task.loss(torch.Generator().manual_seed(seed), 0)[0].item() for seed in range(10)])

    before = loss()
    task.run()
    assert loss() < 0.9 * before


def test_the_seed_decides_what_a_begins_as(models, tmp_path):
    path = settings_file(models, tmp_path, **HEAD_SETTINGS)

    def first(seed: int) -> Tensor:
        task = kinds.prepare(recipe.Recipe.read("heads", path, [f"seed={seed}"]), loop.this_process())
        return next(task.module.shared())

    assert torch.equal(first(1), first(1)) and not torch.equal(first(1), first(2))


def test_a_sample_trains_the_head_of_its_subset_alone(models, tmp_path):
    path = settings_file(models, tmp_path, **{**HEAD_SETTINGS, "dataset_config": str(models / "sketch.toml")})
    task = kinds.prepare(recipe.Recipe.read("heads", path), loop.this_process())
    loss, figures = task.loss(torch.Generator().manual_seed(0), 0)
    loss.backward()
    used = {name.split(".")[2] for name, p in task.module.named_parameters() if p.grad is not None and "ups" in name}
    assert used == {"1"} and figures == {"Sketch": pytest.approx(loss.item())}


def test_the_recraft_stage_is_the_objective_on_grids_with_their_tail_encoded_alone(models, tmp_path):
    layout, settings = Layout.of(9), {"dataset_config": str(models / "sketch.toml"), "frames": 9, "network_dim": 2}
    path = settings_file(models, tmp_path, **settings)
    task = kinds.prepare(recipe.Recipe.read("recraft", path), loop.this_process())
    loss, _ = task.loss(torch.Generator().manual_seed(0), 0)
    data = grids.encode(dataset.read(models / "sketch.toml"), models / "ae.safetensors", tmp_path / "cache", layout)
    generator = torch.Generator().manual_seed(0)
    batch = data.draw(generator)
    flux = Flux.from_state_dict(load_file(models / "flux.safetensors"))
    text = TextEncoder.from_state_dict(load_file(models / "text.safetensors")).encode(batch.prompts)
    wanted = Objective(shift=None).losses(flux, batch.latents, text, generator, layout).mean()
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=0)


def test_progress_has_the_loss_of_every_domain(models, tmp_path, monkeypatch, capsys):
    path = settings_file(models, tmp_path, **HEAD_SETTINGS, max_train_steps=6)
    assert launch(monkeypatch, "heads", "--config_file", path, "fp8_base=true") == 0
    shown = capsys.readouterr().err
    assert "passed over, for the built-in loop needs none: fp8_base" in shown
    assert re.search(r"6/6.*loss=\d\.\d+, .*Portrait=\d\.\d+", shown) and "Sketch=" in shown
    assert launch(monkeypatch, "heads", "--config_file", path) == 0
    assert "has done its 6 steps; remove it to start anew" in capsys.readouterr().err


def test_recraft_gives_an_ordinary_lora_on_the_head(models, heads_file, tmp_path, monkeypatch):
    path = settings_file(models, tmp_path, network_dim=2, dataset_config=str(models / "sketch.toml"), max_train_steps=3)
    assert launch(monkeypatch, "recraft", "--config_file", path, f"head_file={heads_file}", "head=2") == 0
    lora = load_file(tmp_path / "out/mine.safetensors")
    assert {key.split(".", 1)[1] for key in lora} == {"lora_down.weight", "lora_up.weight", "alpha"}
    assert {float(value) for key, value in lora.items() if key.endswith("alpha")} == {1.0}
    assert any(tensor.abs().max() > 0 for key, tensor in lora.items() if "lora_up" in key)
    with_head = merge(load_file(models / "flux.safetensors"), AsymmetricLora.open(heads_file).select("Sketch"))
    merge(with_head, lora)


def test_recraft_trains_on_the_flux_with_its_head(models, heads_file, tmp_path):
    path = settings_file(models, tmp_path, network_dim=2, dataset_config=str(models / "sketch.toml"))
    path.write_text(path.read_text() + f'head_file = "{heads_file}"\nhead = "Sketch"\n')
    task = kinds.prepare(recipe.Recipe.read("recraft", path), loop.this_process())
    loss, _ = task.loss(torch.Generator().manual_seed(0), 0)
    merged = merge(load_file(models / "flux.safetensors"), AsymmetricLora.open(heads_file).select("Sketch"))
    save_safetensors(merged, tmp_path / "merged.safetensors")
    path.write_text(path.read_text().split("head_file")[0] + "frames = 9\n")
    change = [f"pretrained_model_name_or_path={tmp_path / 'merged.safetensors'}"]
    again = kinds.prepare(recipe.Recipe.read("recraft", path, change), loop.this_process())
    torch.testing.assert_close(again.loss(torch.Generator().manual_seed(0), 0)[0], loss, rtol=1e-5, atol=0)


def test_a_full_run_gives_a_flux(models, tmp_path, monkeypatch):
    path = settings_file(models, tmp_path, max_train_steps=2, save_precision="bf16")
    assert launch(monkeypatch, "full", "--config_file", path) == 0
    before, after = load_file(models / "flux.safetensors"), load_file(tmp_path / "out/mine.safetensors")
    assert before.keys() == after.keys() and {tensor.dtype for tensor in after.values()} == {torch.bfloat16}
    assert not torch.equal(before["img_in.weight"].bfloat16(), after["img_in.weight"])
    Flux.from_state_dict(after)


def test_what_can_not_be_trained_is_one_line_and_code_2(models, heads_file, tmp_path, monkeypatch, capsys):
    path = settings_file(models, tmp_path, network_dim=4)
    save_file({"txt_in.weight": torch.zeros(8, 4096)}, tmp_path / "dev.safetensors")
    frozen = f'network_args=["add_to={heads_file}", "domains=Emoji:9:emoji design"]'
    for kind, setting, message in (
        ("heads", f"pretrained_model_name_or_path={tmp_path / 'dev.safetensors'}", "as T5 writes it for FLUX.1-dev"),
        ("heads", "network_args=[]", "the network needs to know its domains"),
        ("heads", 'network_args=["domains=Portrait;Icon"]', "Sketch/0.png: there is no domain 'Sketch'"),
        ("heads", frozen, "0.png is of Portrait, but with add_to this head and A stay as they are"),
        ("heads", 'network_args=["domains=Portrait:25:x;Sketch"]', "48 x 48 does not divide into 5 columns and 5 rows"),
        ("recraft", f"head_file={heads_file}", "has several heads; choose one"),
        ("recraft", "network_alpha=1", "nothing says how the grids are laid out"),
        ("recraft", 'network_args=["domains=Sketch"]\nframes=9', "network_args are for heads"),
        ("recraft", "frames=4", "a 2x2 grid of 48 x 48 px has cells of 24 x 24"),
        ("heads", "dataset_config=none.toml", "dataset_config: there is no file none.toml"),
        ("heads", "optimizer_type=lion", "optimizer_type is one of adamw"),
    ):
        assert launch(monkeypatch, kind, "--config_file", path, *setting.split("\n")) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and message in lines[0], lines
    overrides = (f"head_file={heads_file}", "head=Sketch")
    assert launch(monkeypatch, "recraft", "--config_file", path, *overrides) == 2
    assert "Portrait/0.png is of Portrait, but the head in FLUX is that of Sketch" in capsys.readouterr().err


def test_ctrl_c_on_the_command_line_ends_with_code_130(models, tmp_path, monkeypatch, capsys):
    path = settings_file(models, tmp_path, **HEAD_SETTINGS)
    save = checkpoint.save
    monkeypatch.setattr(checkpoint, "save", lambda *args: (save(*args), os.kill(os.getpid(), signal.SIGINT)))
    assert launch(monkeypatch, "heads", "--config_file", path, "save_every_n_steps=4") == loop.INTERRUPTED
    assert "mine: stopped after 5 steps; run the same command to go on" in capsys.readouterr().err
    assert (tmp_path / "out/mine-step00000005.safetensors").exists()


def main(state: Path, result: Path, optimizer: str, kill_at: str = "") -> None:
    torch.set_num_threads(1)
    what, _, number = kill_at.partition(" ")
    saves = 0

    def before(step: int) -> None:
        if what == "step" and step == int(number):
            os.kill(os.getpid(), signal.SIGKILL)

    def replace(source: str, target: str) -> None:
        nonlocal saves
        saves += 1
        if what == "save" and saves == int(number):
            os.kill(os.getpid(), signal.SIGKILL)
        Path(source).rename(target)

    os.replace = replace
    save_file(weights(run(state, optimizer, before)), result)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
