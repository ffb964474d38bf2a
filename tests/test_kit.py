"""The kit for a GPU machine: what it packs, and that it runs at a tiny size, without a network."""

import importlib
import json
import shutil
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from benchmarks.__main__ import KIT
from benchmarks.comfyuis import HOSTS, interpreter
from benchmarks.kit import fatbin, pack, stubs
from benchmarks.kit.record import Record, spread
from benchmarks.kit.run import table
from benchmarks.measure import ROOT

PARTS = {"steps": 8, "layers": 12, "switch": 5, "fp8": 3}
"""Of inference: rows of each."""


def elf(blobs: bytes, section: bytes = b".nv_fatbin") -> bytes:
    """A 64-bit ELF file with one section of programs, as far as fatbin.py reads it."""
    names = b"\0" + section + b"\0.shstrtab\0"
    start = 64 + len(names)
    table = start + len(blobs)
    head = bytearray(64)
    struct.pack_into("<Q", head, 40, table)
    struct.pack_into("<HHH", head, 58, 64, 2, 1)

    def entry(name: int, offset: int, size: int) -> bytes:
        return struct.pack("<IIQQQQ", name, 1, 0, 0, offset, size).ljust(64, b"\0")

    return bytes(head) + names + blobs + entry(1, start, len(blobs)) + entry(12, 64, len(names))


def program(arch: int, code: bytes) -> bytes:
    return struct.pack("<HHIQ", 2, 1, 64, len(code)).ljust(28, b"\1") + struct.pack("<I", arch) + b"\2" * 32 + code


def blob(*programs: bytes) -> bytes:
    content = b"".join(programs)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(content)) + content


def test_programs_of_other_architectures_are_blanked():
    def library(old: bytes) -> bytes:
        return elf(blob(program(80, old), program(90, b"B" * 24)) + bytes(8) + blob(program(90, b"C" * 8)))

    found = fatbin.keep_only(library(b"A" * 16), 90)
    assert found == library(bytes(16))


def test_a_library_without_the_programs_is_refused():
    with pytest.raises(ValueError, match=r"for the architectures \[80\], none for 90"):
        fatbin.keep_only(elf(blob(program(80, b"A" * 16))), 90)
    with pytest.raises(ValueError, match=r"no section \.nv_fatbin"):
        fatbin.keep_only(elf(b"", section=b".text"), 90)


def test_stand_ins_are_for_named_packages_that_are_missing(monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.setattr(stubs, "NAMES", frozenset(["missing_one", "json"]))
    stubs.install()
    made = importlib.import_module("missing_one.inner")
    try:
        assert issubclass(type("Child", (made.Model,), {}), made.Model)
        assert made.decorate(table) == table or made.decorate()(table) == table
        assert stubs.used() == ["missing_one"]
        assert json.loads("[1]") == [1]
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("missing_two")
    finally:
        for name in ("missing_one", "missing_one.inner"):
            del sys.modules[name]


def test_a_record_is_whole_after_each_row_and_keeps_an_error(tmp_path, capsys):
    path = tmp_path / "part.json"
    with Record(path, size="small") as record:
        record.row("bare", ms=spread([0.003, 0.001, 0.002], 1000))
        record.row("head", ms=[3.0, 3.0, 3.0])
        record.row("bare", ms=[2.0, 1.0, 4.0])
        assert [row["what"] for row in json.loads(path.read_text())["rows"]] == ["head", "bare"]
        raise RuntimeError("the card is full")
    found = json.loads(path.read_text())
    assert found["ended"] == "failed: RuntimeError: the card is full"
    text = table(tmp_path)
    assert "## part" in text
    assert "| bare | 2.0 (1.0 - 4.0) |" in text
    assert [path.name for path in tmp_path.iterdir()] == ["part.json"]


def test_the_benchmarks_say_how_it_is_used():
    assert KIT.read_text(encoding="utf-8") in (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")


needs_host = pytest.mark.skipif(not HOSTS, reason="NO COMFYUI FOUND, SO NO KIT WAS PACKED: set COMFYUI_PATH")


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kit")
    pack.pack(folder, HOSTS[0], None, "3.12", 90, wheels=False)
    return folder


@needs_host
def test_it_holds_sources_alone(kit):
    with tarfile.open(kit / "kit.tar.xz") as archive:
        names = archive.getnames()
    others = [name for name in names if not name.endswith(".py")]
    assert others == [f"repository/{pack.VAE}"]
    for wanted in ("ComfyUI/nodes.py", "ComfyUI/comfy/ops.py", "repository/nodes/heads.py"):
        assert wanted in names


@needs_host
@pytest.mark.parametrize("folder", [pack.ROOT, Path("mine")])
def test_a_run_py_of_others_is_never_replaced(folder, tmp_path):
    folder = tmp_path / folder
    if folder != pack.ROOT:
        folder.mkdir()
        (folder / "run.py").write_text("mine")
    before = (folder / "run.py").read_bytes()
    with pytest.raises(ValueError, match="name another"):
        pack.pack(folder, tmp_path, None, "3.12", 90, wheels=False)
    assert (folder / "run.py").read_bytes() == before
    assert not (folder / "kit.tar.xz").exists()


def test_too_large_a_kit_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(pack, "HOST", ("main.py",))
    monkeypatch.setattr(pack, "LIMIT", 2**20)
    with pytest.raises(ValueError, match=r"the kit is of \d\.\d MiB; at most 1 are allowed"):
        pack.pack(tmp_path, HOSTS[0], None, "3.12", 90, wheels=False)


def offline() -> list[str]:
    """Words before a command that take the network from it, where the system allows that."""
    words = ["unshare", "-r", "-n"]
    allowed = shutil.which("unshare") and subprocess.run([*words, "true"], capture_output=True).returncode == 0
    return words if allowed else []


def run(kit, out, *more):
    python = interpreter(HOSTS[0], "import einops, safetensors, torch, aiohttp")
    if python is None:
        pytest.skip("THE KIT DID NOT RUN: no interpreter of ComfyUI's was found")
    command = [*offline(), python, kit / "run.py", "--out", out, "--size", "tiny", "--device", "cpu", *more]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_host
def test_it_runs_without_a_network(kit, tmp_path):
    said = run(kit, tmp_path, "--parts", "inference")
    found = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert {part: len(content["rows"]) for part, content in found.items()} == PARTS, said
    assert {content["ended"] for content in found.values()} == {"yes"}
    assert not [note for content in found.values() for note in content["notes"] if "not" in note]
    rows = {row["what"]: row for row in found["switch"]["rows"]}
    assert rows["mix, branch"]["merged"] == 0
    assert rows["domain, patch"]["merged"] > 0
    assert (tmp_path / "table.md").read_text() in said


@needs_host
def test_it_begins_nothing_when_the_time_is_over(kit, tmp_path):
    said = run(kit, tmp_path, "--parts", "inference", "--seconds", "0")
    assert "inference: not begun, the time was over" in said
    assert [path.name for path in tmp_path.iterdir()] == ["table.md"]
