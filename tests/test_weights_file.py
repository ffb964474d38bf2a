"""Reading strangers' safetensors files: as the library reads them, within bounds, and whatever happens meanwhile."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from makeanything import weights_file
from makeanything.asymmetric_lora import AsymmetricLora
from makeanything.weights_file import names_heads, open_weights
from makeanything.weights_header import AXES, DTYPES, HEADER_BYTES, NAME_CHARACTERS, TENSORS, WEIGHTS

ROOT = Path(__file__).resolve().parents[1]
NANO = sorted((ROOT / "models").glob("*/*.safetensors"))


def write(path: Path, header: object, data: int = 0) -> Path:
    """A file with a header of any kind before so many bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(data))
    return path


def entry(shape=(1,), dtype="F32", offsets=(0, 4)) -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def heads(path: Path, seed: int = 0, count: int = 2, rank: int = 4) -> Path:
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for layer in ("a", "b"):
        state[f"{layer}.lora_down.weight"] = torch.randn(rank, 6, generator=generator)
        state[f"{layer}.alpha"] = torch.tensor(1.0)
        for head in range(count):
            state[f"{layer}.lora_ups.{head}.weight"] = torch.randn(8, rank, generator=generator)
    save_file(state, path)
    return path


@pytest.mark.parametrize("path", NANO, ids=lambda path: path.stem)
def test_what_the_library_reads(path):
    with open_weights(path) as file:
        found = file.read(file.entries)
    wanted = load_file(path)
    assert found.keys() == wanted.keys()
    assert all(found[key].dtype == wanted[key].dtype and torch.equal(found[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize("name", WEIGHTS)
def test_every_type_of_weights(name, tmp_path):
    dtype = weights_file.DTYPES[name]
    wanted = {"a": torch.arange(-3, 3).reshape(2, 3).to(dtype), "scalar": torch.tensor(2).to(dtype)}
    save_file(wanted, tmp_path / "x.safetensors", {"title": "Tea"})
    with open_weights(tmp_path / "x.safetensors") as file:
        assert file.metadata == {"title": "Tea"}
        assert file.shapes == {"a": (2, 3), "scalar": ()}
        found = file.read(["scalar", "a"])
    assert all(found[key].dtype == dtype and torch.equal(found[key].float(), wanted[key].float()) for key in wanted)


@pytest.mark.parametrize("name", sorted(DTYPES.keys() - WEIGHTS.keys()))
@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_lora_may_hold_anything_beside_its_weights(name, count, tmp_path):
    size = DTYPES[name].itemsize * count
    header = {"z": entry(), "a": entry((count,), name, (4, 4 + size)), "b": entry((0, 2), "F32", (4, 4))}
    with open_weights(write(tmp_path / "x.safetensors", {"__metadata__": None, **header}, 4 + size)) as file:
        assert file.metadata == {}
        found = file.read(file.entries)
    wanted = load_file(tmp_path / "x.safetensors")
    assert found.keys() == wanted.keys()
    for key, tensor in found.items():
        assert (tensor.dtype, tensor.shape) == (wanted[key].dtype, wanted[key].shape)
        assert torch.equal(tensor.view(torch.uint8), wanted[key].view(torch.uint8))


UP = "a.lora_ups.0.weight"
REFUSED = {
    "types that weights never have": ({UP: entry((1,), "U16", (0, 2))}, 2, f"{UP} is of type U16, no type of weights"),
    "complex numbers": ({UP: entry((1,), "C64", (0, 8))}, 8, f"{UP} is of type C64, no type of weights"),
    "a type that nobody knows": ({"a": entry((1,), "F4")}, 4, "a is of type F4, no type that is known here"),
    "a type that is no text": ({"a": entry((1,), [])}, 4, "a is of type a list"),
    "no elements": ({UP: entry((3, 0), "F32", (0, 0))}, 0, f"{UP} has no elements"),
    "an alpha of no elements": (
        {UP: entry(), "a.alpha": entry((0,), "F32", (4, 4))},
        4,
        "a.alpha has no elements",
    ),
    "huge edges beside none": ({"a": entry((2**61, 2**61, 0), "F32", (0, 0))}, 0, "a has a shape that is too large"),
    "an edge that can't be": ({"a": entry((-1,))}, 4, "a has a shape or place that can't be"),
    "a huge edge": ({"a": entry((2**63,))}, 4, "a has a shape or place that can't be"),
    "true as an edge": ({"a": entry((True,))}, 4, "a has a shape or place that can't be"),
    "too many axes": ({"a": entry((1,) * (AXES + 1))}, 4, "a has a shape or place that can't be"),
    "a shape that is text": ({"a": {**entry(), "shape": "1"}}, 4, "a has a shape or place that can't be"),
    "bytes that don't fit the shape": ({"a": entry((2,))}, 4, "a has another number of bytes than its shape needs"),
    "too many bytes to be": ({"a": entry((1,), "F32", (0, 870_000_000_000_000_000))}, 4, "another number of bytes"),
    "an end before the start": ({"a": entry((1,), "F32", (4, 0))}, 4, "a has another number of bytes"),
    "no place": ({"a": {"dtype": "F32", "shape": [1]}}, 4, "a lacks its type, shape or place"),
    "no entry": ({"a": 5}, 4, "a lacks its type, shape or place"),
    "a gap": ({"a": entry(offsets=(4, 8))}, 8, "there are gaps between its tensors, or they overlap"),
    "tensors on one place": ({"a": entry(), "b": entry()}, 4, "there are gaps between its tensors, or they overlap"),
    "bytes behind the last tensor": ({"a": entry()}, 5, "it is cut short or damaged"),
    "fewer bytes": ({"a": entry()}, 3, "it is cut short or damaged"),
    "metadata that is no text": ({"__metadata__": {"a": 5}}, 0, "its metadata is not text"),
    "metadata that is a list": ({"__metadata__": []}, 0, "its metadata is not text"),
    "a long name": ({"x" * (NAME_CHARACTERS + 1): entry()}, 4, "a tensor's name is of 501 characters"),
    "no name": ({"": entry()}, 4, "a tensor's name is of 0 characters"),
    "a list": ([], 0, "it is no JSON object"),
    "a deep header": (b'{"a":' * 9 + b"1" + b"}" * 9, 0, "it is nested more than 3 deep"),
    "many values": (b'{"a":[' + b"0," * 1_300_000 + b"0]}", 0, "it holds more than 1,200,000 values"),
    "a name twice": (b'{"a":1,"a":1}', 0, "two entries of one name"),
    "no UTF-8": (b'{"\xff":1}', 0, "'utf-8' codec"),
    "half a character": (b'{"\\ud800":1}', 0, "surrogates"),
    "NaN": (b'{"a":NaN}', 0, "NaN is not a number"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_headers_are_refused_in_a_sentence(case, tmp_path):
    header, data, message = REFUSED[case]
    path = write(tmp_path / "x.safetensors", header, data)
    with pytest.raises(ValueError, match="^x.safetensors is not a readable safetensors file: ") as refused:
        with open_weights(path):
            pass
    assert message in str(refused.value)


def test_too_many_tensors(tmp_path):
    path = write(tmp_path / "x.safetensors", {str(number): 0 for number in range(TENSORS + 1)})
    with pytest.raises(ValueError, match="at most 100,000 tensors"), open_weights(path):
        pass


def test_a_header_of_too_many_bytes_is_not_read(tmp_path):
    path = write(tmp_path / "x.safetensors", {})
    with path.open("r+b") as file:
        file.write((HEADER_BYTES + 1).to_bytes(8, "little"))
        file.truncate(2**40)
    with pytest.raises(ValueError, match="at most 33,554,432 are read"), open_weights(path):
        pass


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.safetensors")
    with pytest.raises(FileNotFoundError, match=r"^there is no file x.safetensors$"):
        with open_weights(tmp_path / "x.safetensors"):
            pass
    assert not names_heads(tmp_path / "x.safetensors")


def test_no_message_gives_the_folder(tmp_path, monkeypatch):
    path = heads(tmp_path / "x.safetensors")
    for name in ("gone.safetensors", "folder"):
        (tmp_path / "folder").mkdir(exist_ok=True)
        with pytest.raises(FileNotFoundError, match=f"^there is no file {name}$"), open_weights(tmp_path / name):
            pass
    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(PermissionError, match=r"^x.safetensors can't be read: Permission denied$"), open_weights(path):
        pass


def denied(path, *_, **__):
    raise PermissionError(13, "Permission denied", str(path))


def test_files_that_name_heads_are_told_from_others(tmp_path):
    assert names_heads(heads(tmp_path / "heads.safetensors"))
    save_file({"a.lora_up.weight": torch.ones(1)}, tmp_path / "plain.safetensors")
    assert not names_heads(tmp_path / "plain.safetensors")
    assert not names_heads(tmp_path / "gone.safetensors")


# While it is read


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 5)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def overwrite(path: Path) -> None:
    """As a download does: the same file, other bytes."""
    other = heads(path.with_name("other"), seed=5, rank=2).read_bytes()
    with path.open("r+b") as file:
        file.write(other)
        file.truncate()
    os.utime(path, ns=(1, 1))


def damage(path: Path) -> None:
    """The same size, another header."""
    with path.open("r+b") as file:
        file.seek(8)
        file.write(b"\xff" * 200)
    os.utime(path, ns=(1, 1))


def replace(path: Path) -> None:
    """As a whole, as our own writer does."""
    os.replace(heads(path.with_name("other"), seed=5, count=3), path)


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("happens", [cut, empty, grow, overwrite, damage, replace, remove])
@pytest.mark.parametrize("what", ["select", "read", "alpha", "open"])
def test_a_file_that_changes_between_any_two_reads(happens, what, tmp_path, monkeypatch):
    """Every read gives what was there before, or a sentence: never other numbers, and never the end of the process."""
    path = heads(tmp_path / "x.safetensors")
    wanted = result(AsymmetricLora.open(path), what)
    meddler = Meddler(weights_file._read_span, lambda: happens(path))
    monkeypatch.setattr(weights_file, "_read_span", meddler)
    outcomes = []
    while meddler.done:
        heads(path)
        meddler.wait(len(outcomes))
        outcomes.append(outcome(path, what, wanted))
    assert outcomes[-1] == "same", "the last one ran without a change"
    assert len(outcomes) > 2
    # Before the first two reads, of a length and a header, a replaced file is simply another one.
    assert set(outcomes[2:]) <= {"same", "refused"}


class Meddler:
    """Does something before the read of a number."""

    def __init__(self, read, action):
        self.read, self.action, self.left, self.done = read, action, 0, True

    def wait(self, reads):
        self.left, self.done = reads, False

    def __call__(self, *arguments):
        if self.left == 0:
            self.done = True
            self.action()
        self.left -= 1
        return self.read(*arguments)


def outcome(path, what, wanted):
    """What opening and reading ends in: the same as ever, a sentence with the file's name, or other numbers."""
    try:
        found = result(AsymmetricLora.open(path), what)
    except (ValueError, OSError) as error:
        return "refused" if path.name in str(error) and str(path.parent) not in str(error) else f"unclear: {error}"
    return "same" if same(found, wanted) else "other"


def result(lora, what):
    read = {"select": lambda: lora.select(1), "read": lora.read, "alpha": lora.alpha, "open": lambda: lora.layers}
    return read[what]()


def same(found, wanted):
    if isinstance(wanted, dict) and any(isinstance(value, torch.Tensor) for value in wanted.values()):
        return found.keys() == wanted.keys() and all(torch.equal(found[key], wanted[key]) for key in wanted)
    return found == wanted


def test_another_file_of_the_same_name_is_noticed(tmp_path):
    path = heads(tmp_path / "x.safetensors")
    lora = AsymmetricLora.open(path)
    heads(path, count=3)
    with pytest.raises(ValueError, match=r"^x.safetensors changed while it was read"):
        lora.select(1)


@pytest.mark.skipif(sys.platform != "linux", reason="measured as Linux does")
def test_a_file_is_in_memory_once(tmp_path):
    """At most 1.1 times the file, of which 64 MB are read."""
    code = """
import re, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from makeanything.weights_file import open_weights
path = Path(sys.argv[1])
def peak(): return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
with open_weights(path) as file:
    file.read([next(iter(file.entries))])
    before = peak()
    state = file.read(file.entries)
    print((peak() - before) / path.stat().st_size)
"""
    path = tmp_path / "x.safetensors"
    save_file({f"{number:02}": torch.ones(2**20) for number in range(16)}, path)
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert 0.5 < float(done.stdout) <= 1.1
