"""The benchmarks at a tiny size: what they compare does the same work, and their tables say what was measured."""

import re
import sys

import pytest
import torch
from safetensors.torch import load_file

from benchmarks import __main__ as command
from benchmarks import grids, head_load, host, measure
from benchmarks.comfyuis import HOSTS
from benchmarks.measure import Reading
from benchmarks.models import FULL, TINY, lora_shapes, write
from benchmarks.report import MIB, Table, against, verdict
from makeanything.asymmetric_lora import AsymmetricLora

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="THE BENCHMARKS READ /proc: Linux only")


@pytest.fixture
def heads(tmp_path):
    path = tmp_path / "heads.safetensors"
    write(lora_shapes(TINY, 10), path)
    return path


def test_full_size_is_flux_dev_with_the_released_rank():
    assert FULL.tokens == 4868
    assert FULL.flop == pytest.approx(79.5e12, rel=0.001)
    shapes = lora_shapes(FULL, 1)
    elements = [sum(torch.Size(shapes[key]).numel() for key in shapes if part in key) for part in ("down", "ups.0")]
    assert elements == [pytest.approx(112e6, rel=0.01), pytest.approx(194e6, rel=0.01)]


def test_a_written_file_is_an_asymmetric_lora(heads):
    lora = AsymmetricLora.open(heads)
    assert len(lora.domains) == 10
    assert lora.rank == TINY.rank
    state = load_file(heads)
    assert state.keys() == lora_shapes(TINY, 10).keys()
    first, second = (state[f"lora_unet_single_blocks_0_linear1.lora_ups.{head}.weight"] for head in (0, 1))
    assert first.std() > 0.01
    assert not torch.equal(first, second)


def test_all_ways_give_the_same_head(heads):
    ours = head_load.pack(heads)
    head_load.split_step(heads)
    theirs = load_file(heads.with_name("split.safetensors"))
    lazy, _ = head_load.lazy(heads)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert sorted(lazy) == sorted(key.replace("lora_up.", f"lora_ups.{head_load.HEAD}.") for key in ours)
    assert head_load.whole(heads).keys() > lazy.keys()


@pytest.mark.parametrize("what", ["split", "compose"])
def test_all_ways_give_the_same_frames_and_grids(what):
    subject = grids.make_grids(2, 48)
    wanted = grids.slice_apart(subject)
    if what == "compose":
        subject, wanted = wanted, subject
    ways = [case for case in grids.CASES if case.startswith(f"{what}, ")]
    assert len(ways) == 3
    for case in ways:
        found = grids.CASES[case](subject).reshape(wanted.shape)
        assert (found - wanted).abs().max() <= (0.5001 / 255 if "Pillow" in case else 0)


@pytest.mark.parametrize("case", grids.CASES)
def test_every_case_of_the_grids_runs(case):
    assert grids.run(case, 1, 48, 1).seconds > 0


def test_a_peak_is_over_what_was_there_and_gone_by_the_next():
    size = 64 * MIB
    peak = measure.measured(lambda: torch.ones(size, dtype=torch.uint8)).peak
    assert size <= peak < 1.5 * size
    assert measure.measured(lambda: None).peak < size / 2


def test_a_child_reports_and_its_errors_are_shown(heads):
    case = next(iter(head_load.CASES))
    assert measure.in_child("benchmarks.head_load", case, heads, "once").peak > 0
    assert measure.in_child("benchmarks.head_load", case, heads, "again").seconds > 0
    with pytest.raises(RuntimeError, match="KeyError: 'no such case'"):
        measure.in_child("benchmarks.head_load", "no such case", heads, "once")


def test_the_head_table_compares_with_the_bytes_of_a_head(monkeypatch):
    own = 2 * sum(torch.Size(shape).numel() for shape in lora_shapes(TINY, 1).values())
    monkeypatch.setattr(
        head_load, "in_child", lambda module, case, path, times: Reading(0.5, int(1.05 * own), int(1.5 * own))
    )
    text = str(head_load.table(1, TINY, (10,)))
    assert text.count("| 500.0 | 500.0 |") == len(head_load.CASES)
    assert "**met**: of 10 heads one is read with its own bytes x <= 1.1 (measured 1.05" in text
    assert "**missed**: the peak of reading one of 10 heads is its own bytes x <= 1.2 (measured 1.5" in text


def test_no_room_for_the_file_is_said(monkeypatch):
    monkeypatch.setattr(head_load.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 5}))
    with pytest.raises(OSError, match="too little room: .* MiB are needed; name another in TMPDIR"):
        head_load.table(1, TINY, (10,))


def test_the_grid_table_divides_by_the_grids(monkeypatch):
    grid = 48 * 48 * 3 * 4
    monkeypatch.setattr(
        grids, "in_child", lambda module, case, count, *_: Reading(count**2 / 1000, 0, 2 * count * grid)
    )
    found = grids.table(1, edge=48, counts=(2, 4), cases=["split, this pack"])
    assert found.rows == [("split, this pack", "2.0", "0.1", "4.0", "0.1")]
    assert "a grid among 4 costs one among 2 x <= 1.2 (measured 2.000)" in found.notes[0]
    assert found.notes[1].startswith(
        "**missed**: split, this pack: peak memory is the result x <= 1.1 (measured 2.000)"
    )


def test_the_least_times_are_compared():
    assert against([3.0, 2.0, 9.0], [2.0, 2.5, 1.6]) == "1.250 (0.800 - 5.625)"


def test_tables_and_verdicts():
    assert str(Table("T", ("", "a"), [("x", "1")], ["Note."])) == "## T\n\n|  | a |\n|--|--:|\n| x | 1 |\n\nNote."
    assert verdict("it", 1.1, 1.1) == "**met**: it <= 1.1 (measured 1.100)."
    assert verdict("it", 1.2, 1.1) == "**missed**: it <= 1.1 (measured 1.200)."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds", "0"], "--rounds: needed a whole number from 1 to 1000, got '0'"),
        (["--full"], "--full needs a CUDA card"),
        (["--only", "nothing"], "invalid choice"),
        (["--only", "load", "-o", "no/such/folder.md"], "can't be written"),
        (["--only", "load", "-o", "."], "can't be written"),
    ],
)
def test_wrong_arguments(monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(command.torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert message in capsys.readouterr().err


def test_the_report_names_its_command_and_no_paths(monkeypatch, tmp_path):
    monkeypatch.setattr(command, "SMALL", {"load": (lambda rounds: Table(f"{rounds} rounds", ("a",)),)})
    command.main(["--only", "load", "--rounds", "2", "-o", str(tmp_path / "out.md")])
    text = (tmp_path / "out.md").read_text()
    assert re.match(r"# Benchmarks\n\n`python -m benchmarks --only load --rounds 2 .*` on .+ threads?\. Python 3", text)
    assert "## 2 rounds" in text
    assert str(measure.ROOT) not in text
    command.main(["-o", str(tmp_path / "whole.md")])
    assert (tmp_path / "whole.md").read_text().endswith(command.KIT.read_text())
    assert not text.endswith(command.KIT.read_text())


@pytest.mark.skipif(not HOSTS, reason="NO COMFYUI FOUND, SO ITS BENCHMARKS DID NOT RUN: set COMFYUI_PATH to its folder")
@pytest.mark.parametrize(("name", "rows"), [("switch", 9), ("steps", 13), ("memory", 2)])
def test_inside_comfyui(name, rows):
    try:
        found = host.table(name, "TINY", 1)
    except FileNotFoundError as missing:
        pytest.skip(f"THE BENCHMARKS IN COMFYUI DID NOT RUN: {missing}")
    assert len(found.rows) == rows
    assert all(len(row) == len(found.columns) for row in found.rows)
    assert "**m" in str(found) or name == "switch"


def test_without_comfyui_it_says_so(monkeypatch):
    monkeypatch.setattr(host, "HOSTS", [])
    with pytest.raises(FileNotFoundError, match="COMFYUI_PATH"):
        host.table("switch", "TINY", 1)
