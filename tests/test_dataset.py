"""Dataset TOMLs in sd-scripts' form, the heads of their samples, and their grids as latents."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from makeanything import pictures
from makeanything.domains import Domain
from makeanything.reference.autoencoder import Autoencoder
from makeanything.saving import save_safetensors
from makeanything.serpentine import Layout
from training.builtin import grids
from training.data import dataset
from training.data.dataset import Sample

HEADS = (Domain.of("Portrait", 9, "portrait painting"), Domain.of("Sketch", 9, "sketch drawing"))


def picture(path: Path, seed: int, size: int = 48) -> torch.Tensor:
    path.parent.mkdir(exist_ok=True)
    pixels = torch.rand(size, size, 3, generator=torch.Generator().manual_seed(seed))
    pictures.save_png(pixels, path)
    return pictures.read(path)


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / "ae.safetensors"
    save_safetensors(Autoencoder().to_file(), path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two subsets: `a` of Portrait with two grids, `b` whose caption has a flag."""
    for name in ("a/1", "a/0", "b/0"):
        picture(tmp_path / f"{name}.png", seed=len(name) + int(name[-1]))
        (tmp_path / f"{name}.caption").write_text(f"grid {name}\nsecond line\n")
    (tmp_path / "b/0.caption").write_text("grid b --lora_up 2")
    return write(
        tmp_path,
        """
        [general]
        caption_extension = ".caption"
        caption_dropout_rate = 0.25
        [[datasets]]
        resolution = 48
        batch_size = 2
        enable_bucket = false
        keep_tokens = 1
        [[datasets.subsets]]
        image_dir = "FOLDER/a"
        num_repeats = 3
        custom_attributes = { domain = "Portrait" }
        [[datasets.subsets]]
        image_dir = "FOLDER/b"
        caption_dropout_rate = 0
        """,
    )


def write(folder: Path, text: str) -> Path:
    path = folder / "data.toml"
    path.write_text(text.replace("FOLDER", str(folder)))
    return path


def change(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


def test_a_dataset_reads_as_sd_scripts_reads_it(data, tmp_path):
    (found,) = dataset.read(data)
    assert (found.width, found.height, found.batch_size) == (48, 48, 2)
    assert found.samples == (
        Sample(tmp_path / "a/0.png", "grid a/0", "Portrait", None, 3, 0.25),
        Sample(tmp_path / "a/1.png", "grid a/1", "Portrait", None, 3, 0.25),
        Sample(tmp_path / "b/0.png", "grid b", None, 2, 1, 0),
    )
    assert [sample.head(HEADS) for sample in found.samples] == [0, 0, 1]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("keep_tokens = 1", "flip_aug = true", "can't honour flip_aug = True"),
        ("enable_bucket = false", "enable_bucket = true", "can't honour enable_bucket = True"),
        ("keep_tokens = 1", "shufle_caption = true", "can't honour shufle_caption"),
        ("resolution = 48", "resolution = 50", "multiple of 16 px, or two, got 50"),
        ("resolution = 48", 'resolution = "48"', "multiple of 16 px"),
        ("resolution = 48", "", "multiple of 16 px, or two, got nothing"),
        ("batch_size = 2", "batch_size = 0", "batch_size must be at least 1 and at most 4096, got 0"),
        ("batch_size = 2", "batch_size = 1.5", "batch_size must be a whole number, got 1.5"),
        ('{ domain = "Portrait" }', '"Portrait"', "custom_attributes must be a table, got 'Portrait'"),
        ("num_repeats = 3", "num_repeats = 0", "num_repeats must be at least 1"),
        ("caption_dropout_rate = 0.25", "caption_dropout_rate = 2", "caption_dropout_rate lie in 0..1"),
        ("/a", "/nowhere", "no pictures in the image_dir .*nowhere"),
        ('".caption"', '".txt"', r"0.png has no caption, 0.txt, beside it"),
        ("[[datasets]]", "[[sets]]", r"there is no \[\[datasets\]\]"),
        ("resolution = 48", "resolution = ", "is not TOML"),
    ],
)
def test_what_a_dataset_can_not_have_is_named(data, old, new, message):
    with pytest.raises(ValueError, match=message) as error:
        dataset.read(change(data, old, new))
    assert "data.toml" in str(error.value)


def test_class_tokens_stand_in_for_captions(data, tmp_path):
    (tmp_path / "b/0.caption").unlink()
    change(data, 'image_dir = "' + str(tmp_path) + '/b"', f'image_dir = "{tmp_path}/b"\nclass_tokens = "--lora_up 1 b"')
    last = dataset.read(data)[0].samples[-1]
    assert (last.prompt, last.flag) == ("b", 1)


@pytest.mark.parametrize(
    ("named", "wanted"),
    [(("sketch", None), 1), ((None, 1), 0), ((2, None), 1), (("Sketch", 2), 1)],
)
def test_a_sample_trains_the_head_that_subset_or_flag_name(named, wanted):
    assert Sample(Path("x.png"), "", *named).head(HEADS) == wanted


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ((None, None), "x.png is of no domain.*there are Portrait, Sketch"),
        (("Portrait", 2), "x.png: its subset is of domain Portrait, but its caption has --lora_up 2"),
        (("Skecth", None), "x.png: there is no domain 'Skecth': did you mean 'Sketch'"),
        ((None, 3), "x.png: there is no domain 3"),
    ],
)
def test_a_sample_without_one_head_is_refused(named, message):
    with pytest.raises(ValueError, match=message):
        Sample(Path("x.png"), "", *named).head(HEADS)


def test_a_network_with_one_head_needs_no_domain():
    assert Sample(Path("x.png"), "").head(HEADS[:1]) == 0


def encoded(autoencoder: Path, pixels: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return grids.load_autoencoder(autoencoder).encode(pixels[None])[0]


def test_latents_are_the_autoencoders_and_in_recraft_the_tail_is_encoded_alone(data, autoencoder, tmp_path):
    found = dataset.read(data)
    pixels = pictures.read(tmp_path / "a/1.png")
    whole = grids.encode(found, autoencoder, tmp_path / "whole").latents[0][1]
    assert torch.equal(whole, encoded(autoencoder, pixels))
    recraft = grids.encode(found, autoencoder, tmp_path / "recraft", Layout(3, 3)).latents[0][1]
    assert torch.equal(recraft[:, 4:, 4:], encoded(autoencoder, pixels[32:, 32:]))
    assert not torch.equal(recraft[:, 4:, 4:], whole[:, 4:, 4:])
    recraft[:, 4:, 4:] = whole[:, 4:, 4:]
    assert torch.equal(recraft, whole)


def test_grids_are_encoded_once_and_again_when_what_made_them_changes(data, autoencoder, tmp_path, monkeypatch):
    encoding = []
    real = grids._encode

    def spy(model, path, *rest):
        encoding.append(path.relative_to(tmp_path).as_posix())
        return real(model, path, *rest)

    monkeypatch.setattr(grids, "_encode", spy)
    cache = tmp_path / "out" / "cache.safetensors"

    def run(**options) -> list[str]:
        encoding.clear()
        result = grids.encode(dataset.read(data), options.pop("by", autoencoder), cache, **options)
        for row, entry in zip(result.latents, result.datasets, strict=True):
            for latents, sample in zip(row, entry.samples, strict=True):
                assert torch.equal(latents, real(grids.load_autoencoder(run.by), sample.path, entry, run.layout))
        return list(encoding)

    run.by, run.layout = autoencoder, None
    assert run() == ["a/0.png", "a/1.png", "b/0.png"]
    assert run() == []
    picture(tmp_path / "a/1.png", seed=77)
    assert run() == ["a/1.png"]
    os.utime(tmp_path / "b/0.png", ns=(1, 1))
    assert run() == ["b/0.png"]
    run.layout = Layout(3, 3)
    assert len(run(recraft=run.layout)) == 3
    torch.manual_seed(5)
    run.by = tmp_path / "other.safetensors"
    save_safetensors(Autoencoder().to_file(), run.by)
    assert len(run(recraft=run.layout, by=run.by)) == 3
    assert len(load_file(cache)) == 3


def test_what_was_encoded_before_a_stop_is_kept(data, autoencoder, tmp_path, monkeypatch):
    real, cache = grids._encode, tmp_path / "cache"

    def stop(model, path, *rest):
        if path.name == "1.png":
            raise KeyboardInterrupt
        return real(model, path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(grids, "_encode", stop)
        with pytest.raises(KeyboardInterrupt):
            grids.encode(dataset.read(data), autoencoder, cache)
    assert len(load_file(cache)) == 1
    assert len(grids.encode(dataset.read(data), autoencoder, cache).latents[0]) == 3


def test_a_grid_of_another_size_is_refused(data, autoencoder, tmp_path):
    picture(tmp_path / "a/1.png", seed=0, size=64)
    with pytest.raises(ValueError, match=r"a/1.png is 64 x 64 px, the dataset's resolution 48 x 48"):
        grids.encode(dataset.read(data), autoencoder, tmp_path / "cache")


def test_another_kind_of_autoencoder_is_refused(data, tmp_path):
    other = tmp_path / "ae.safetensors"
    save_safetensors({"decoder.conv_in.weight": torch.zeros(1)}, other)
    with pytest.raises(
        ValueError, match=r"is not an autoencoder in TAESD's layout \(it holds decoder.conv_in.weight\)"
    ):
        grids.encode(dataset.read(data), other, tmp_path / "cache")


def drawn(found: grids.Grids, count: int) -> list[grids.Drawn]:
    generator = torch.Generator().manual_seed(0)
    return [found.draw(generator) for _ in range(count)]


def test_batches_mix_domains_and_samples_come_as_often_as_they_repeat(data, autoencoder, tmp_path):
    found = grids.encode(dataset.read(data), autoencoder, tmp_path / "cache")
    batches = drawn(found, 2000)
    latents = dict(zip(found.datasets[0].samples, found.latents[0], strict=True))
    for batch in batches[:20]:
        assert torch.equal(batch.latents, torch.stack([latents[sample] for sample in batch.samples]))
    assert any(len({sample.head(HEADS) for sample in batch.samples}) == 2 for batch in batches)
    # A batch of 2 of 3 without putting back, weights 3, 3, 1: the last comes first in 1/7, or second behind a 3 in 1/4.
    share = sum(sample.path.parent.name == "b" for batch in batches for sample in batch.samples) / len(batches)
    assert abs(share - (1 / 7 + 6 / 7 / 4)) < 0.03


def test_captions_are_dropped_as_often_as_asked(data, autoencoder, tmp_path):
    found = grids.encode(dataset.read(data), autoencoder, tmp_path / "cache")
    prompts = [(s, p) for batch in drawn(found, 2000) for s, p in zip(batch.samples, batch.prompts, strict=True)]
    kept = [prompt == sample.prompt for sample, prompt in prompts if sample.dropout]
    assert {prompt for sample, prompt in prompts if not sample.dropout} == {"grid b"}
    assert {prompt for _, prompt in prompts} == {"", "grid a/0", "grid a/1", "grid b"}
    assert abs(sum(kept) / len(kept) - 0.75) < 0.03


def test_datasets_of_several_sizes_come_as_often_as_they_have_batches(data, autoencoder, tmp_path):
    picture(tmp_path / "c/0.png", seed=3, size=64)
    (tmp_path / "c/0.caption").write_text("large")
    data.write_text(
        data.read_text() + f'[[datasets]]\nresolution = [64, 64]\n[[datasets.subsets]]\nimage_dir = "{tmp_path}/c"\n'
    )
    found = grids.encode(dataset.read(data), autoencoder, tmp_path / "cache")
    sizes = [tuple(batch.latents.shape) for batch in drawn(found, 2000)]
    assert set(sizes) == {(2, 16, 6, 6), (1, 16, 8, 8)}
    # 7 repeats in batches of 2, against 1 in batches of 1.
    assert abs(sizes.count((1, 16, 8, 8)) / 2000 - 1 / 4.5) < 0.03


def test_a_batch_larger_than_its_dataset_repeats_samples(data, autoencoder, tmp_path):
    found = grids.encode(
        dataset.read(change(data, "batch_size = 2", "batch_size = 5")), autoencoder, tmp_path / "cache"
    )
    assert len(drawn(found, 1)[0].samples) == 5
