"""Finished grids as sources, and a dataset of several domains."""

import numpy as np
import toml
from PIL import Image

from tests.dataset.making import (
    EVERY_FOURTH,
    STEP,
    cells_of,
    numbered,
    numbers_of,
    pixels_of,
    write_folder,
    write_grid,
    write_video,
)
from training.make_dataset import main


def test_a_finished_grid_goes_through_to_the_bit(source, make):
    rng = np.random.default_rng(0)
    grid = rng.integers(0, 256, (96, 96, 3), np.uint8)
    grid[30:34] = grid[:, 62:66] = 0
    Image.fromarray(grid).save(source / "x.png")
    assert np.array_equal(pixels_of(make("--keep-gutters") / "portrait/x.png"), grid)


def test_grids_of_other_sizes_orders_and_with_gutters(source, make):
    write_grid(source / "a.png", [0, 1, 2, 5, 4, 3, 6, 7, 8], gutter=2)
    write_grid(source / "b.png", [0, 1, 2, 5, 4, 3, 6, 7, 8], cell=61)
    Image.open(source / "b.png").resize((185, 182)).save(source / "b.png")
    out = make()
    for name in ("a", "b"):
        cells = cells_of(out / f"portrait/{name}.png")
        assert [round((cell[8:-8, 8:-8].mean() - 120) / STEP) for cell in cells] == list(range(9))
    assert min(cell.min() for cell in cells_of(out / "portrait/a.png")) >= 118, "no dark lines"
    kept = make("--keep-gutters")
    assert min(cell.min() for cell in cells_of(kept / "portrait/a.png")) == 0


def test_grids_in_row_major_order(source, make):
    write_grid(source / "x.png", range(9))
    write_video(source / "y.mp4", numbered(33))
    out = make("--order", "rows")
    assert numbers_of(out / "portrait/x.png", black=120) == list(range(9))
    assert numbers_of(out / "portrait/y.png") == EVERY_FOURTH
    assert numbers_of(make() / "portrait/x.png", black=120) == [0, 1, 2, 5, 4, 3, 6, 7, 8]


def test_row_major_grids_of_four(source, make):
    write_grid(source / "x.png", range(4))
    out = make("--order", "rows", "--frames", "4")
    assert numbers_of(out / "portrait/x.png", frames=4, black=120) == list(range(4))


def test_the_authors_dataset(source, make):
    """Grids and captions of several domains side by side, numbered as the released heads are."""
    form = "3*3 of 9 sub-images, step-by-step"
    for name, caption in {
        "portrait_001": f"{form} portrait painting process, 1 girl --lora_up 6",
        "lego_001": f"{form} LEGO model building process, a castle --lora_up_cur 1",
        "clay_001": "2*2 of 4 sub-images, step-by-step clay toy making process, a dog --lora_up 11",
        "unsaid_001": f"{form} portrait painting process, 1 boy",
        "wrong_001": f"{form} oil painting process, a sea --lora_up 18",
        "far_001": "a sea --lora_up 99",
    }.items():
        write_grid(source / f"{name}.png", range(4) if "2*2" in caption else range(9))
        (source / f"{name}.caption").write_text(caption + "\n")
    out = make(released=True)
    assert (out / "portrait/portrait_001.caption").read_text() == f"{form} portrait painting process, 1 girl\n"
    assert (out / "lego/lego_001.caption").read_text() == f"{form} LEGO model building process, a castle\n"
    assert numbers_of(out / "clay_toys/clay_001.png", frames=4, black=120) == [0, 1, 3, 2]
    skipped = (out / "skipped.txt").read_text()
    assert "unsaid_001.png: put it into a folder with the name of its domain" in skipped
    assert "wrong_001.png: its caption says 3*3 of 9 sub-images, but Oil painting has grids of 4" in skipped
    assert "far_001.png: there is no domain 99: the numbers go from 1 to 21" in skipped
    assert len(skipped.splitlines()) == 3
    make("--lora-up", released=True)
    assert (out / "portrait/portrait_001.caption").read_text().endswith("process, 1 girl --lora_up_cur 6\n")
    assert (out / "clay_toys/clay_001.caption").read_text().endswith("process, a dog --lora_up_cur 11\n")


def test_a_folder_for_each_domain(source, make):
    (source / "sand_art").mkdir()
    write_video(source / "sand_art/a castle.mp4", numbered(9))
    write_folder(source / "Origami/crane 2", numbered(9))
    (source / "Origami/crane 2/caption.txt").write_text("a paper crane --lora_up 9")
    write_folder(source / "Orgami/frog", numbered(9))
    out = make("--domains", "Sand art;Origami:4:origami folding")
    assert (out / "sand_art/a castle.caption").read_text().endswith("step-by-step sand art process, a castle\n")
    text = (out / "origami/crane 2.caption").read_text()
    assert text == "2*2 of 4 sub-images, step-by-step origami folding process, a paper crane\n"
    assert "no domain 'Orgami': did you mean 'Origami'?" in (out / "skipped.txt").read_text()
    config = toml.loads((out / "dataset.toml").read_text())
    assert config == {
        "datasets": [
            {
                "resolution": 96,
                "batch_size": 2,
                "enable_bucket": False,
                "subsets": [
                    {
                        "image_dir": (out / folder).resolve().as_posix(),
                        "caption_extension": ".caption",
                        "num_repeats": 1,
                        "custom_attributes": {"domain": name},
                    }
                    for folder, name in (("origami", "Origami"), ("sand_art", "Sand art"))
                ],
            }
        ]
    }


def test_the_toml_has_a_dataset_for_each_size(source, tmp_path):
    for name in ("a", "b"):
        (source / name).mkdir()
        write_grid(source / name / "x.png", range(9) if name == "a" else range(4))
    domains = tmp_path / "domains.json"
    entries = '[{"name": "A", "frames": 9, "process": "p"}, {"name": "B", "frames": 4, "process": "q"}]'
    domains.write_text(entries)
    arguments = [str(source), "-o", str(tmp_path / "out"), "--domains", str(domains), "--captions", ".txt"]
    assert main([*arguments, "--repeats", "3", "--batch-size", "1"]) == 0
    config = toml.loads((tmp_path / "out/dataset.toml").read_text())
    assert [(d["resolution"], d["batch_size"], len(d["subsets"])) for d in config["datasets"]] == [
        (1056, 1, 1),
        (1024, 1, 1),
    ]
    assert [d["subsets"][0]["num_repeats"] for d in config["datasets"]] == [3, 3]
    assert [d["subsets"][0]["caption_extension"] for d in config["datasets"]] == [".txt", ".txt"]
    assert (tmp_path / "out/a/x.txt").exists()


def test_grids_that_are_not_square(source, make, tmp_path):
    """The same prompt in 2 rows of 3 and then in 3 rows of 2: made anew, at another size."""
    write_folder(source / "x", numbered(6))
    domains = tmp_path / "domains.json"
    for rows, cols, height, rows_of_numbers in (
        (2, 3, 64, [[0, 1, 2], [5, 4, 3]]),
        (3, 2, 144, [[0, 1], [3, 2], [4, 5]]),
    ):
        entry = f'{{"name": "Comic", "rows": {rows}, "cols": {cols}, "prompt": "a comic of {{subject}}"}}'
        domains.write_text(f"[{entry}]")
        out = make("--domain", str(domains))
        pixels = pixels_of(out / "comic/x.png")
        assert pixels.shape == (height, 96, 3)
        cell = 96 // cols
        middles = pixels[cell // 2 :: cell, cell // 2 :: cell, 0]
        assert ((middles - 10) / STEP).round().tolist() == rows_of_numbers
        (dataset,) = toml.loads((out / "dataset.toml").read_text())["datasets"]
        assert dataset["resolution"] == [96, height]
