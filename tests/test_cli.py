"""The command line, called as people call it; and once as a process."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from makeanything import pictures
from makeanything.__main__ import main
from makeanything.domains import Domain
from makeanything.lora_header import DOMAINS_KEY
from makeanything.serpentine import Layout, compose, split, trimmed_boxes
from tests import draw_grids

ROOT = Path(__file__).resolve().parents[1]
LAYER = "lora_unet_double_blocks_0_img_attn_qkv"


def heads(*names: str, seed: int = 0, down: float = 1.0) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header of an asymmetric LoRA of one layer with rank 2; its bytes differ by seed, A by `down`."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {f"{LAYER}.lora_down.weight": torch.full((2, 5), down), f"{LAYER}.alpha": torch.tensor(0.5)}
    for head in range(len(names)):
        tensors[f"{LAYER}.lora_ups.{head}.weight"] = torch.randn(7, 2, generator=generator).bfloat16()
    domains = [Domain.of(name, 9, name).to_json() for name in names]
    return tensors, {DOMAINS_KEY: json.dumps(domains)}


@pytest.fixture
def weights(tmp_path) -> Path:
    path = tmp_path / "heads.safetensors"
    tensors, header = heads("LEGO", "Cook", "Portrait")
    save_file(tensors, path, header)
    return path


@pytest.fixture
def grid(tmp_path) -> Path:
    """A 2 x 3 grid of 4 x 6 pixels a cell, all different."""
    pictures.save_png(torch.arange(8 * 18).reshape(8, 18, 1).expand(-1, -1, 3) / 255, tmp_path / "grid.png")
    return tmp_path / "grid.png"


@pytest.fixture
def fails(capsys):
    def fails(*arguments: object) -> str:
        """The one line of a wrong call."""
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        assert (code, out) == (2, "")
        assert re.fullmatch(r"python -m makeanything.*: .+\n", err), err
        return err

    return fails


def run(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


class TestInspect:
    def test_says_what_is_in_it(self, weights, capsys):
        run("inspect", weights)
        out = capsys.readouterr().out
        assert f"{weights.stat().st_size:,} bytes, BF16, F32" in out
        assert "1 layers, rank 2, alpha 0.5" in out
        assert "10 parameters shared by all heads (A), 14 in each head (B)" in out
        assert re.search(r"3 heads:\n +1  LEGO +3x3 .*\n +2  Cook .*\n +3  Portrait +3x3  3\*3 of 9 sub-images", out)

    def test_ordinary_lora(self, tmp_path, fails):
        save_file(
            {f"{LAYER}.lora_down.weight": torch.ones(2, 5), f"{LAYER}.lora_up.weight": torch.ones(7, 2)}, tmp_path / "a"
        )
        assert "ordinary LoRA" in fails("inspect", tmp_path / "a")

    @pytest.mark.parametrize(("content", "says"), [(None, "there is no file"), (b"", "empty"), (b"PK\3\4" * 9, "zip")])
    def test_other_files(self, tmp_path, fails, content, says):
        if content is not None:
            (tmp_path / "a").write_bytes(content)
        assert says in fails("inspect", tmp_path / "a")


class TestExtract:
    @pytest.mark.parametrize("domain", ["Cook", "cook", "2"])
    def test_writes_an_ordinary_lora(self, weights, tmp_path, domain):
        run("extract", weights, "--domain", domain, "-o", tmp_path / "cook.safetensors")
        found, whole = load_file(tmp_path / "cook.safetensors"), load_file(weights)
        assert set(found) == {f"{LAYER}.{part}" for part in ("lora_down.weight", "lora_up.weight", "alpha")}
        assert torch.equal(found[f"{LAYER}.lora_up.weight"], whole[f"{LAYER}.lora_ups.1.weight"])

    def test_wrong_input(self, weights, tmp_path, fails):
        out = tmp_path / "a.safetensors"
        assert "did you mean 'Portrait'" in fails("extract", weights, "--domain", "Portait", "-o", out)
        assert "from 1 to 3" in fails("extract", weights, "--domain", "4", "-o", out)
        assert "there is no folder" in fails("extract", weights, "--domain", "1", "-o", tmp_path / "no/a.safetensors")
        assert "does not end in .safetensors" in fails("extract", weights, "--domain", "1", "-o", tmp_path / "a.pt")
        assert "--domain" in fails("extract", weights, "-o", out)
        assert not out.exists()

    def test_overwrites_when_told_only(self, weights, tmp_path, fails):
        out = tmp_path / "a.safetensors"
        out.write_bytes(b"mine")
        assert "--force" in fails("extract", weights, "--domain", "1", "-o", out)
        assert out.read_bytes() == b"mine"
        run("extract", weights, "--domain", "1", "-o", out, "--force")
        assert len(load_file(out)) == 3

    def test_never_replaces_its_input(self, weights, fails):
        before = weights.read_bytes()
        assert "is an input" in fails("extract", weights, "--domain", "1", "-o", weights, "--force")
        assert weights.read_bytes() == before


class TestJoin:
    def test_joins(self, weights, tmp_path):
        tensors, header = heads("Icon", seed=1)
        save_file(tensors, tmp_path / "b.safetensors", header)
        run("join", weights, tmp_path / "b.safetensors", "-o", tmp_path / "all.safetensors")
        found = load_file(tmp_path / "all.safetensors")
        assert torch.equal(found[f"{LAYER}.lora_ups.3.weight"], tensors[f"{LAYER}.lora_ups.0.weight"])
        with safe_open(tmp_path / "all.safetensors", "pt") as file:
            names = [domain["name"] for domain in json.loads(file.metadata()[DOMAINS_KEY])]
        assert names == ["LEGO", "Cook", "Portrait", "Icon"]

    def test_wrong_input(self, weights, tmp_path, fails):
        tensors, header = heads("Icon", down=2.0)
        save_file(tensors, tmp_path / "b.safetensors", header)
        assert "does not share A" in fails(
            "join", weights, tmp_path / "b.safetensors", "-o", tmp_path / "c.safetensors"
        )
        assert "more than one head is of the domain" in fails(
            "join", weights, weights, "-o", tmp_path / "c.safetensors"
        )
        assert not (tmp_path / "c.safetensors").exists()


class TestSplit:
    def test_time_order(self, grid, tmp_path):
        run("split", grid, "--layout", "2x3", "--keep-gutters", "-o", tmp_path / "deep/frames")
        names = sorted(path.name for path in (tmp_path / "deep/frames").iterdir())
        assert names == [f"0{n}.png" for n in range(1, 7)]
        whole = pictures.read(grid)
        # Rows alternate direction: 1 2 3 / 6 5 4.
        for name, (row, column) in zip(names, [(0, 0), (0, 1), (0, 2), (1, 2), (1, 1), (1, 0)], strict=True):
            cell = whole[4 * row : 4 * row + 4, 6 * column : 6 * column + 6]
            assert torch.equal(pictures.read(tmp_path / "deep/frames" / name), cell)

    def test_compose_undoes_it(self, grid, tmp_path):
        run("split", grid, "--layout", "2x3", "--keep-gutters", "-o", tmp_path / "frames")
        run("compose", tmp_path / "frames", "--layout", "2x3", "-o", tmp_path / "again.png")
        assert torch.equal(pictures.read(tmp_path / "again.png"), pictures.read(grid))

    def test_wrong_input(self, grid, tmp_path, fails):
        out = tmp_path / "frames"
        assert "required" in fails("split", grid, "-o", out)
        assert "not allowed with" in fails("split", grid, "--frames", 4, "--layout", "2x2", "-o", out)
        assert "rows x columns" in fails("split", grid, "--layout", "2by2", "-o", out)
        assert "at least one row" in fails("split", grid, "--layout", "0x2", "-o", out)
        assert "5 frames do not fill a square" in fails("split", grid, "--frames", 5, "-o", out)
        assert "does not divide" in fails("split", grid, "--layout", "3x3", "-o", out)
        assert "there is no file" in fails("split", tmp_path / "no.png", "--frames", 4, "-o", out)
        assert "is a file" in fails("split", grid, "--layout", "2x3", "-o", grid)
        (tmp_path / "text.png").write_text("text")
        assert "is not a picture" in fails("split", tmp_path / "text.png", "--frames", 4, "-o", out)
        assert not out.exists()

    def test_overwrites_when_told_only(self, grid, tmp_path, fails):
        out = tmp_path / "frames"
        out.mkdir()
        (out / "03.png").write_bytes(b"mine")
        assert "03.png exists" in fails("split", grid, "--layout", "2x3", "-o", out)
        assert [path.name for path in out.iterdir()] == ["03.png"]
        run("split", grid, "--layout", "2x3", "-o", out, "--force")
        assert len(list(out.iterdir())) == 6

    @pytest.mark.parametrize("path", draw_grids.paths(), ids=lambda path: path.name)
    def test_real_grids(self, tmp_path, path):
        frames = path.name.split(".")[1]
        run("split", path, "--frames", frames, "-o", tmp_path / "frames")
        grid, layout = pictures.read(path), Layout.of(int(frames))
        names = sorted(found.name for found in (tmp_path / "frames").iterdir())
        assert len(names) == int(frames)
        for found, cell, box in zip(names, split(grid[None], layout)[0], trimmed_boxes(grid, layout), strict=True):
            with Image.open(tmp_path / "frames" / found) as image:
                assert image.width == image.height > 0.97 * cell.shape[0]
            frame = pictures.read(tmp_path / "frames" / found)
            # Undone by looking: the frame occurs in its cell, less the gutters.
            top = (box.bottom - box.top - frame.shape[0]) // 2 + box.top
            left = (box.right - box.left - frame.shape[1]) // 2 + box.left
            assert torch.equal(grid[top : top + frame.shape[0], left : left + frame.shape[1]], frame)


class TestCompose:
    def frames(self, folder: Path, names: list[str]) -> Tensor:
        folder.mkdir()
        frames = torch.arange(len(names)).reshape(-1, 1, 1, 1).expand(-1, 2, 3, 3) / 255
        for name, frame in zip(names, frames, strict=True):
            pictures.save_png(frame, folder / name)
        return frames

    def test_names_sort_by_their_numbers(self, tmp_path):
        frames = self.frames(tmp_path / "in", [f"step{n}.png" for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)])
        (tmp_path / "in/notes.txt").write_text("not a picture")
        run("compose", tmp_path / "in", "--layout", "3x4", "-o", tmp_path / "out.png")
        assert torch.equal(pictures.read(tmp_path / "out.png"), compose(frames[None], Layout(3, 4))[0])

    def test_layout_follows_the_number_of_pictures(self, tmp_path):
        frames = self.frames(tmp_path / "in", ["a.png", "b.png", "c.png", "d.png"])
        run("compose", tmp_path / "in", "-o", tmp_path / "out.png")
        assert torch.equal(pictures.read(tmp_path / "out.png"), compose(frames[None], Layout(2, 2))[0])

    def test_wrong_input(self, tmp_path, fails):
        out = tmp_path / "out.png"
        self.frames(tmp_path / "in", ["a.png", "b.png", "c.png"])
        assert "3 frames do not fill a square" in fails("compose", tmp_path / "in", "-o", out)
        assert "needs 4 frames" in fails("compose", tmp_path / "in", "--frames", 4, "-o", out)
        assert "does not end in .png" in fails("compose", tmp_path / "in", "--layout", "1x3", "-o", tmp_path / "a.jpg")
        pictures.save_png(torch.zeros(5, 4, 3), tmp_path / "in/b2.png")
        assert "b2.png is 4 x 5 pixels, but a.png is 3 x 2" in fails("compose", tmp_path / "in", "-o", out)
        assert "there is no folder" in fails("compose", tmp_path / "none", "-o", out)
        (tmp_path / "empty").mkdir()
        assert "there are no pictures" in fails("compose", tmp_path / "empty", "-o", out)
        assert not out.exists()

    def test_overwrites_when_told_only(self, tmp_path, fails):
        self.frames(tmp_path / "in", ["a.png"])
        out = tmp_path / "out.png"
        out.write_bytes(b"mine")
        assert "--force" in fails("compose", tmp_path / "in", "-o", out)
        assert out.read_bytes() == b"mine"
        run("compose", tmp_path / "in", "-o", out, "--force")
        assert pictures.read(out).shape == (2, 3, 3)


@pytest.mark.parametrize("name", ["con", "a\nb", ".makeanything-x", "x" * 240, "a\udcff"])
def test_names_that_some_system_can_not_have(weights, tmp_path, fails, name):
    assert "can't be written: " in fails("extract", weights, "--domain", "1", "-o", tmp_path / f"{name}.safetensors")
    Image.new("RGB", (6, 6)).save(tmp_path / "grid.png")
    assert "can't be written: " in fails("split", tmp_path / "grid.png", "--frames", "9", "-o", tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grid.png", weights.name]


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_that_leads_to_itself_is_no_traceback(weights, tmp_path):
    (tmp_path / "loop.safetensors").symlink_to("loop.safetensors")
    run("extract", weights, "--domain", "1", "-o", tmp_path / "loop.safetensors", "--force")
    assert len(load_file(tmp_path / "loop.safetensors")) == 3


def test_ctrl_c_ends_in_a_line(tmp_path, monkeypatch, capsys):
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    Image.new("RGB", (6, 6)).save(tmp_path / "grid.png")
    monkeypatch.setattr(pictures, "save_png", stop)
    assert main(["split", str(tmp_path / "grid.png"), "--frames", "9", "-o", str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err == "python -m makeanything split: stopped; what was finished is kept\n"


def test_a_folder_is_looked_through_for_leftovers_once(tmp_path, monkeypatch):
    """Looking before each of 36,864 frames took longer than a minute."""
    looks, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: looks.append(folder) or scandir(folder))
    Image.new("RGB", (64, 64)).save(tmp_path / "grid.png")
    run("split", tmp_path / "grid.png", "--layout", "8x8", "-o", tmp_path / "out")
    assert looks.count(tmp_path / "out") == 1


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_fp8_heads_are_joined(tmp_path, dtype):
    """torch compares no fp8."""
    for name, seed in (("LEGO", 1), ("Cook", 2)):
        tensors, header = heads(name, seed=seed)
        kept = {key: t if key.endswith("alpha") else t.to(dtype) for key, t in tensors.items()}
        kept[f"{LAYER}.lora_down.weight"] = torch.ones(2, 5).to(dtype)
        save_file(kept, tmp_path / f"{name}.safetensors", header)
    run("join", tmp_path / "LEGO.safetensors", tmp_path / "Cook.safetensors", "-o", tmp_path / "both.safetensors")
    assert load_file(tmp_path / "both.safetensors")[f"{LAYER}.lora_ups.1.weight"].dtype == dtype


def test_no_command(fails):
    assert "COMMAND" in fails()


@pytest.mark.parametrize("arguments", [["--help"], ["split", "--help"]])
def test_help(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0
    assert "--frames" in capsys.readouterr().out


def test_as_a_process(tmp_path):
    command = [sys.executable, "-m", "makeanything", "split", "no.png", "--frames", "9", "-o", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "python -m makeanything split: there is no file no.png\n"
