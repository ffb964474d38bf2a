"""All fuzzers by name, and the cases that once escaped."""

from __future__ import annotations

from pathlib import Path

from .configs import ConfigFuzzer
from .fuzzer import Fuzzer
from .headers import HeaderFuzzer
from .json_cases import JsonFuzzer
from .names import NameFuzzer
from .pictures import PictureFuzzer

FUZZERS: dict[str, type[Fuzzer]] = {
    fuzzer.name: fuzzer for fuzzer in (HeaderFuzzer, JsonFuzzer, NameFuzzer, PictureFuzzer, ConfigFuzzer)
}

FOUND = Path(__file__).parent / "found"
"""FUZZER-WHAT.case: each is run on every test run."""
