"""Processes that are killed while they save: what was there stays whole, what is left behind is not listed, and goes.

A process is killed by SIGKILL before each file that it opens, renames or removes, and by the kernel in the middle of
its writes (SIGXFSZ, where files may grow no further).
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from makeanything.saving import DAY

from .savers import NAMES, SET, Results, Saver, files, forked, save_set

if sys.platform == "win32":
    pytest.skip("faults are made with POSIX calls", allow_module_level=True)

import resource

EVENTS = {"os.mkdir", "os.rename", "os.remove", "os.rmdir"}
LEFT = re.compile(r"\.makeanything-[0-9a-f]{32}(\.tmp|\.\w+)?")
LISTED = (".safetensors", ".sft")
QUICK = [name for name in NAMES if name != "loop"]
"""The loop saves by the same functions as checkpoint and extract, after a while."""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return Results(tmp_path_factory.mktemp("kills"))


def killed_at(count: int, save: Saver, out: Path) -> int:
    """Save version 2, and die before the system call of this number that changes something in `out`."""
    left = count

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        writes = event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)
        if (writes or event in EVENTS) and str(arguments[0]).startswith(str(out)):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    return save(out, 2)


def killed_after(most: int, save: Saver, out: Path) -> int:
    sys.dont_write_bytecode = True
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    return save(out, 2)


def check(out: Path, before: dict[str, bytes], after: dict[str, bytes]) -> int:
    """How many unfinished files there are, when everything else is whole."""
    found = files(out)
    left = [path for path in found if any(LEFT.fullmatch(part) for part in Path(path).parts)]
    for path in found.keys() - left:
        assert found[path] in (before.get(path), after.get(path)), path
    assert before.keys() <= found.keys() - left
    assert not [path for path in left if path.endswith(LISTED)]
    return len(left)


def check_next(save: Saver, out: Path, after: dict[str, bytes]) -> None:
    """The next save a day later removes what was left, and succeeds."""
    then = time.time() - DAY - 60
    for path in out.rglob(".makeanything-*"):
        os.utime(path, (then, then))
    code, text = forked(lambda: save(out, 2))
    assert code == 0, text
    found = files(out)
    if out.name != SET:
        assert found == after


# The demo saves many files, but by page, png and gif.
@pytest.mark.parametrize("name", [name for name in QUICK if name != "demo"])
def test_killed_before_each_step(name: str, results: Results, tmp_path: Path) -> None:
    unfinished, code, count = 0, -signal.SIGKILL, 0
    while code == -signal.SIGKILL:
        count += 1
        out = tmp_path / str(count) / name
        out.parent.mkdir()
        save, before, after = results.of(name, out)
        code, text = forked(lambda: killed_at(count, save, out))  # noqa: B023 (called at once)
        assert code in (0, -signal.SIGKILL), text
        unfinished += check(out, before, after)
        if code:
            check_next(save, out, after)
    assert count > 2
    assert unfinished > 0


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.99])
@pytest.mark.parametrize("name", QUICK)
def test_killed_in_the_middle_of_a_write(name: str, share: float, results: Results, tmp_path: Path) -> None:
    out = tmp_path / name
    save, before, after = results.of(name, out)
    most = int(max(len(data) for data in after.values()) * share)
    code, text = forked(lambda: killed_after(most, save, out))
    assert code == -signal.SIGXFSZ, text
    assert check(out, before, after) >= 1
    check_next(save, out, after)


def test_a_set_that_was_killed_keeps_its_number(tmp_path: Path) -> None:
    """And the next set takes another: files of two runs never share one."""
    save: Saver = lambda out, version: save_set(out, version) or 0  # noqa: E731
    for count in range(1, 20):
        out = tmp_path / str(count)
        out.mkdir()
        code, _ = forked(lambda: killed_at(count, save, out))  # noqa: B023 (called at once)
        there = files(out)
        forked(lambda: save(out, 1))  # noqa: B023 (called at once)
        new = files(out).keys() - there.keys()
        numbers = {path[:9] for path in new}
        assert len(numbers) == 1
        assert len(new) == 4
        assert not [path for path in there if path[:9] in numbers]
        if code == 0:
            break
    assert count > 4
