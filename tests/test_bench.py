"""What the benchmark makes of its measurements; tests/sd_scripts/test_bench.py measures."""

import json
import sys
from types import SimpleNamespace

import pytest

from training import bench
from training.sd import engine

ORDER: list[str] = []


class Run:
    """Of sd-scripts' own network every step takes 2, 4, 8 ... s; of another, `case` times as long."""

    def __init__(self, base: str, size: int, case: object) -> None:
        assert (base, size) == ("flux of 7 on tpu", 7)
        self.case, self.steps = case, 0

    def step(self) -> None:
        pass

    def peak_bytes(self) -> int:
        return 2**20 * (10 if self.case == "stock" else int(30 * self.case))

    def seconds(self) -> float:
        ORDER.append("stock" if self.case == "stock" else "run")
        self.steps += 1
        return 2.0**self.steps * (1 if self.case == "stock" else self.case)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(Run=Run, STOCK="stock", make_flux=lambda size, device: f"flux of {size} on {device}")
    monkeypatch.setitem(sys.modules, "training.sd.bench_runs", module)
    ORDER.clear()


def test_times_are_the_median_ratio_of_neighbours_that_take_turns(fake):
    rows = bench.measure(7, [1.5, 0.5], rounds=3, device="tpu")
    assert [(row.name, row.time) for row in rows] == [("stock", 1.0), ("1.5", 1.5), ("0.5", 0.5)]
    assert [row.milliseconds for row in rows] == [4000, 6000, 2000]
    assert [row.memory for row in rows] == [1.0, 4.5, 1.5]
    assert ORDER == ["stock", "run", "run", "stock", "stock", "run"] * 2


def test_the_report_is_a_table(fake):
    assert bench.report(bench.measure(7, [1.5], rounds=1, device="tpu")).splitlines() == [
        "| network | ms per step | time | MiB | memory |",
        "|--|--:|--:|--:|--:|",
        "| stock | 2000 | 1.000 | 10 | 1.000 |",
        "| 1.5 | 3000 | 1.500 | 45 | 4.500 |",
    ]


def test_no_network_is_begun_after_its_time_and_the_rows_are_kept_as_json(fake, tmp_path):
    out = tmp_path / "training.json"
    rows = bench.measure(7, [1.5, 0.5], rounds=1, device="tpu", seconds=-1, out=out)
    assert [row.name for row in rows] == ["stock", "1.5"]
    found = json.loads(out.read_text())
    assert [(row["what"], row["time"], row["memory"]) for row in found["rows"]] == [("stock", 1, 1), ("1.5", 1.5, 4.5)]
    assert found["ended"] == "no"
    bench.measure(7, [1.5, 0.5], rounds=1, device="tpu", out=out)
    assert json.loads(out.read_text())["ended"] == "yes"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--rounds", "0"], "--rounds: needed a whole number from 1 to 1000"), (["--full"], "--full needs a CUDA card")],
)
def test_wrong_arguments(monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    monkeypatch.setattr(bench.torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        bench.main()
    assert message in capsys.readouterr().err


def test_without_sd_scripts_it_says_where_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["bench", "--sd_scripts", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        bench.main()
    assert engine.TESTED in str(stopped.value)
