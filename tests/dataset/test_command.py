"""The command: values and folders that are wrong."""

import pytest

from tests.dataset.making import files_in, numbered, write_folder, write_grid
from training.make_dataset import main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--domain", "Potrait"], "did you mean 'Portrait'?"),
        (["--domain", "Portrait;Sketch"], "--domain is one domain, got 2"),
        (["--domains", "A:9:x;a:9:y"], "these domains would share a folder: A, a"),
        (["--size", "100"], "a 3x3 grid can't be 100 px wide"),
        (["--size", "100"], "the nearest width is 96"),
        (["--size", "-96"], "can't be -96 px wide"),
        (["--frames", "5"], "5 frames do not fill a square grid"),
    ],
)
def test_wrong_commands_say_what_is_wrong(source, make, capsys, arguments, message):
    write_folder(source / "a", numbered(9))
    assert files_in(make(*arguments, code=2)) == []
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--skip-start", "5m"], ["--batch-size", "0"], ["--repeats", "x"], ["--pick", "?"]]
)
def test_wrong_values_end_with_the_usage(source, make, capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        make(*arguments)
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_wrong_folders(source, tmp_path, capsys):
    file = write_grid(tmp_path / "x.png", range(9))
    for wrong, output, message in (
        (tmp_path / "nowhere", tmp_path / "out", "there is no folder"),
        (source, file, "is a file"),
        (source, source, "lie in each other"),
        (source, source / "out", "lie in each other"),
        (source, tmp_path, "lie in each other"),
    ):
        assert main([str(wrong), "-o", str(output), "--domain", "Portrait"]) == 2
        assert message in capsys.readouterr().err
