"""A few thousand cases of every fuzzer, those that once escaped, and the proof that the fuzzers find what there was."""

import json
import re

import pytest
import toml

from makeanything import file_names, lora_header, lora_info, pictures, weights_header
from tests.fuzz import __main__ as long_run
from tests.fuzz.fuzzer import Tally, fuzz
from tests.fuzz.fuzzers import FOUND, FUZZERS
from training import values

CASES, SEED = 2000, 1
SHARE = 0.5
"""Of cases that must get past the header, so that what lies behind is tried as well."""


@pytest.fixture
def no_limits(monkeypatch):
    """Python's own JSON parser, as it was used before."""
    for module in (lora_header, lora_info):
        monkeypatch.setattr(module, "parse_json", lambda text, *_, **__: json.loads(text))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FUZZERS)
def test_no_case_escapes(name, tmp_path):
    tally = fuzz(FUZZERS[name](tmp_path), SEED, CASES)
    print(f"{name}: {tally.past / tally.cases:.0%} of {tally.cases:,} cases got past the header")
    assert tally.escapes == []
    assert tally.cases == CASES
    assert tally.past >= SHARE * CASES


@pytest.mark.parametrize("case", sorted(FOUND.glob("*.case")), ids=lambda path: path.stem)
def test_what_once_escaped(case, tmp_path):
    FUZZERS[case.stem.split("-")[0]](tmp_path).run(case.read_bytes())


# Faults that were there are put back, and must be found.


def test_heads_that_are_numbered_twice_are_found(monkeypatch, tmp_path):
    key = re.compile(r"(?P<layer>.+)\.(?:lora_down\.weight|lora_ups\.(?P<head>\d+)\.weight|alpha)")
    monkeypatch.setattr(lora_header, "_KEY", key)
    assert finds("headers", tmp_path, "KeyError")


def test_deep_json_is_found(no_limits, tmp_path):
    assert finds("json", tmp_path, "RecursionError")
    (tmp_path / "headers").mkdir()
    assert finds("headers", tmp_path / "headers", "RecursionError")


def test_offsets_that_nobody_checks_are_found(monkeypatch, tmp_path):
    monkeypatch.setattr(weights_header, "_check_places", lambda entries, size: None)
    assert finds("headers", tmp_path, "SafetensorError")


def test_names_that_are_only_kept_in_their_folder_are_found(monkeypatch, tmp_path):
    monkeypatch.setattr(file_names, "problem_of", lambda text: ".." in text or text[:1] in "/\\" or text[1:2] == ":")
    assert finds("names", tmp_path, "null")


def test_damaged_pictures_that_pillow_says_are_found(monkeypatch, tmp_path):
    monkeypatch.setattr(pictures, "UnidentifiedImageError", KeyError)
    monkeypatch.setattr(pictures, "OSError", KeyError, raising=False)
    assert finds("pictures", tmp_path, "the folder is in it")


def test_broken_toml_is_found(monkeypatch, tmp_path):
    monkeypatch.setattr(values, "read_toml", lambda path: toml.loads(path.read_text(encoding="utf-8")))
    monkeypatch.setattr("training.data.dataset.read_toml", values.read_toml)
    assert finds("configs", tmp_path, "IndexError")


def finds(name, folder, what):
    """Whether the fuzzer meets this escape before its cases are at an end."""
    fuzzer = FUZZERS[name](folder)
    return any(what in str(fuzz(fuzzer, SEED, 50, first).escapes) for first in range(0, CASES, 50))


# Long runs


def test_a_long_run_adds_its_counts(monkeypatch, tmp_path):
    report = tmp_path / "report.md"
    table = "| date | commit | fuzzer |\n|--|--|--|\n| then | x | y |"
    report.write_text(f"# Reliability\n\n| a |\n\n{long_run.SECTION}\n\nWords.\n\n{table}\n\n## Next\n\n| b |\n")
    monkeypatch.setattr(
        "sys.argv", ["x", "--minutes", "0.001", "--only", "names", "--seed", "5", "--report", str(report)]
    )
    monkeypatch.setattr(long_run, "CHUNK", 20)
    monkeypatch.setattr(long_run, "_prepare_process", lambda: None)
    assert long_run.main() == 0
    text = report.read_text()
    new = re.search(r"\| then \| x \| y \|\n(\| .*)\n\n## Next", text)[1]
    assert re.fullmatch(r"\| \d{4}-\d\d-\d\d \| \w[-\w]+ \| names \| 5 \| [\d,]+0 \| \d+% \| 0 \|", new)


def test_a_long_run_keeps_what_escapes(monkeypatch, tmp_path):
    monkeypatch.setattr(long_run, "FOUND", tmp_path)
    monkeypatch.setattr(long_run, "_prepare_process", lambda: None)
    monkeypatch.setattr(long_run, "fuzz", lambda fuzzer, seed, count, first: Tally(count, 0, [(7, "escaped")]))
    tallies = long_run.run(["names"], 1, 1e-9)
    assert len(tallies["names"].escapes) == len(list(tmp_path.iterdir())) == 1
