"""An input folder, and the command run on it."""

from pathlib import Path

import pytest

from tests.dataset.making import SMALL
from training.make_dataset import main


@pytest.fixture
def source(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def make(source, tmp_path):
    """Runs the command on `source`, for the domain Portrait unless others are named; gives the output folder."""

    def run(*arguments: str, code: int = 0, released: bool = False) -> Path:
        named = released or any(text.startswith("--domain") for text in arguments)
        domain = () if named else ("--domain", "Portrait")
        assert main([str(source), "-o", str(tmp_path / "out"), *SMALL, *domain, *arguments]) == code
        return tmp_path / "out"

    return run
