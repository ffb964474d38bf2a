"""Saving leaves a whole file or the old one; strangers are named."""

import io
import os
import pickle
import re
import zipfile

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from makeanything.saving import save_safetensors
from makeanything.weights_file import open_weights


def test_save_safetensors_is_read_by_the_library(tmp_path):
    tensors = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.ones(2, dtype=torch.bfloat16, requires_grad=True)}
    save_safetensors(tensors, tmp_path / "x.safetensors", {"title": "Tea"})
    with safe_open(tmp_path / "x.safetensors", framework="pt") as file:
        assert file.metadata()["title"] == "Tea"
    loaded = load_file(tmp_path / "x.safetensors")
    assert torch.equal(loaded["a"], torch.tensor([[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]))
    assert loaded["b"].dtype == torch.bfloat16


def test_a_failing_save_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "x.safetensors"
    save_safetensors({"a": torch.ones(2)}, target)
    old = target.read_bytes()
    with pytest.raises(Exception, match="metadata|str"):
        save_safetensors({"a": torch.zeros(2)}, target, {"count": 5})
    assert target.read_bytes() == old
    assert list(tmp_path.iterdir()) == [target]


def test_open_reads_what_the_library_wrote(tmp_path):
    save_file({"a": torch.ones(3)}, tmp_path / "x.safetensors")
    with open_weights(tmp_path / "x.safetensors") as file:
        assert list(file.entries) == ["a"]


def test_a_missing_file_is_named(tmp_path):
    for path in (tmp_path / "gone.safetensors", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"^there is no file {re.escape(path.name)}$"), open_weights(path):
            pass


def pt_file() -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(2)}, buffer)
    return buffer.getvalue()


def zip_file() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("weights.txt", "no weights")
    return buffer.getvalue()


STRANGERS = {
    "a torch.save file": (pt_file(), "it is a zip archive, as PyTorch's .pt and .ckpt pickles are"),
    "a zip": (zip_file(), "it is a zip archive"),
    "an old pickle": (
        pickle.dumps({"weights": [1.0] * 50}, protocol=2),
        "it is a Python pickle, which is never loaded",
    ),
    "a GGUF": (b"GGUF\x03\x00\x00\x00" + bytes(64), "it is a GGUF file; load it with a GGUF loader node"),
    "a login page": (b"<!DOCTYPE html><html><body>Log in</body></html>", "it is a web page"),
    "an indented page": (b"\n  \n<html><body>Log in</body></html>", "it is a web page"),
    "an LFS pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 8400000000\n",
        "it is a Git LFS pointer; download the real file",
    ),
    "an API's error": (b'{"error": "Repository not found"}', "it is JSON text"),
    "nothing": (b"", "it is empty; the download failed"),
    "noise": (bytes(range(255, 0, -1)), "its header can't be read"),
    "zeros": (bytes(100), "its header can't be read"),
}


@pytest.mark.parametrize("kind", STRANGERS)
def test_strangers_are_named(kind, tmp_path):
    content, message = STRANGERS[kind]
    path = tmp_path / "stranger.safetensors"
    path.write_bytes(content)
    with (
        pytest.raises(ValueError, match="^stranger.safetensors is not a readable safetensors file: ") as refused,
        open_weights(path),
    ):
        pass
    assert message in str(refused.value)


@pytest.mark.parametrize("keep", ["3 bytes", "the length", "half the header", "the header", "all but a byte"])
def test_a_truncated_file_is_named(keep, tmp_path):
    whole = tmp_path / "whole.safetensors"
    save_file({"a": torch.ones(100)}, whole)
    content = whole.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    size = {
        "3 bytes": 3,
        "the length": 8,
        "half the header": header // 2,
        "the header": header,
        "all but a byte": len(content) - 1,
    }[keep]
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(content[:size])
    with (
        pytest.raises(ValueError, match=rf"it is cut short or damaged \({size:,} bytes on disk"),
        open_weights(cut),
    ):
        pass


def test_a_cut_header_that_starts_like_a_pickle_is_no_pickle(tmp_path):
    path = tmp_path / "cut.safetensors"
    path.write_bytes((0x0280).to_bytes(8, "little") + b'{"a":')
    with pytest.raises(ValueError, match="it is cut short"), open_weights(path):
        pass


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
def test_safetensors_can_be_read_by_whom_other_files_can(tmp_path):
    (tmp_path / "plain").write_text("")
    save_safetensors({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode
