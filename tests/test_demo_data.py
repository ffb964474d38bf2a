"""FLUX-nano's training data: pictures in files, their latents, and batches of both with their words."""

import numpy as np
import pytest
import torch
from torch import Tensor

from demo import data, pictures
from demo.encoders import CELL, Pool
from demo.nano import load_text
from demo.pictures import Chunk, Kind
from demo.scenes import domains, style
from makeanything import serpentine
from makeanything.reference.autoencoder import Autoencoder
from makeanything.text_encoder import PAD, TextEncoder, tokenize

COUNTS = {
    Kind("Bricks", 9, 64): 5,
    Kind("Clay", 9, 64): 3,
    Kind("Clay", 4, 96): 3,
    Kind("Rings", 1, 192): 2,
    Kind("Emoji", 2, 64): 3,
}


def means(autoencoder: object, frames: np.ndarray) -> Tensor:
    """In place of an encoder: the mean colour of every 8 x 8 px, in the first three of 16 channels."""
    n, f, h, w, _ = frames.shape
    blocks = torch.from_numpy(frames).float().reshape(n, f, h // 8, 8, w // 8, 8, 3).mean((3, 5)).movedim(-1, 2) / 255
    return torch.nn.functional.pad(blocks, (0, 0, 0, 0, 0, 13))


@pytest.fixture
def small_files(monkeypatch):
    monkeypatch.setattr(pictures, "CHUNK", 2)


@pytest.fixture
def loaded(tmp_path, small_files):
    found = data.load(tmp_path / "latents.safetensors", None, COUNTS, 5, means)
    return found, pictures.chunks(tmp_path / "latents", COUNTS, 5)


def test_every_sequence_is_there_once_with_its_words(loaded):
    found, chunks = loaded
    assert set(found) == {kind[1:] for kind in COUNTS}
    for kind, count in COUNTS.items():
        sequences = found[kind[1:]]
        start, number = sequences.spans[kind.process]
        assert number == count
        files = sorted((chunk for chunk in chunks if chunk.kind == kind), key=lambda chunk: chunk.number)
        frames, prompts = zip(*(chunk.read() for chunk in files), strict=True)
        here = slice(start, start + number)
        assert sequences.tokens[here].tolist() == [
            tokenize(text, load_text().words.num_embeddings) for some in prompts for text in some
        ]
        wanted = means(None, np.concatenate(frames))
        torch.testing.assert_close(sequences.latents[here].float(), wanted, atol=1e-3, rtol=0)


def test_a_batch_is_of_the_processes_asked_for_with_the_words_of_its_pictures(loaded, monkeypatch):
    monkeypatch.setattr(data, "UNPROMPTED", 0.0)
    sequences = loaded[0][9, 64]
    asked = ["Clay", "Bricks", "Bricks", "Clay"] * 5
    grids, tokens = sequences.draw(asked, torch.Generator().manual_seed(0))
    assert grids.shape == (20, 16, 24, 24)
    drawn = set()
    for grid, words, process in zip(grids, tokens, asked, strict=True):
        start, number = sequences.spans[process]
        cells = sequences.latents[start : start + number].float()
        wanted = data.grid_latents(cells, sequences.layout)
        (match,) = [k for k in range(number) if torch.equal(grid, wanted[k])]
        assert torch.equal(words, sequences.tokens[start + match])
        drawn.add((process, match))
    assert len(drawn) > 4


def test_some_prompts_are_empty(loaded):
    _, tokens = loaded[0][9, 64].draw(["Bricks"] * 400, torch.Generator().manual_seed(1))
    empty = (tokens == PAD).all(1)
    assert 0.05 < empty.float().mean() < 0.16
    assert tokenize("") == tokens[empty][0].tolist()


def test_shuffled_grids_hold_the_same_frames(loaded):
    sequences = loaded[0][9, 64]
    start, number = sequences.spans["Bricks"]
    grids, _ = sequences.draw(["Bricks"] * 20, torch.Generator().manual_seed(2), shuffle=True)
    orders = set()
    for grid in grids:
        cells = serpentine.split(grid.movedim(0, -1)[None], sequences.layout)[0]
        for true in sequences.latents[start : start + number].float().movedim(2, -1):
            order = tuple(int((cells - frame).abs().amax((1, 2, 3)).argmin()) for frame in true)
            if sorted(order) == list(range(9)) and torch.equal(cells[list(order)], true):
                orders.add(order)
                break
        else:
            pytest.fail("a grid of no sequence")
    assert len(orders) > 15


def test_files_depend_on_seed_kind_and_number_alone(tmp_path, small_files):
    one, again = pictures.chunks(tmp_path / "a", COUNTS, 7), pictures.chunks(tmp_path / "b", COUNTS, 7)
    pictures.draw(one, processes=2)
    for drawn, alone in zip(one, again, strict=True):
        assert np.array_equal(drawn.read()[0], alone.read()[0]) and drawn.read()[1] == alone.read()[1]
    other = Chunk(tmp_path / "c", one[0].kind, one[0].number, one[0].count, 8)
    assert other.read()[1] != one[0].read()[1]
    frames, prompts = Chunk(tmp_path / "d", one[0].kind, one[0].number, one[0].count, 7, styled=True).read()
    assert np.array_equal(frames, style.on_parchment(one[0].read()[0]))
    assert prompts == [f"{words}, {style.PHRASE}" for words in one[0].read()[1]]
    assert sorted(chunk.path.name for chunk in one) == sorted(path.name for path in (tmp_path / "a").iterdir())


def test_the_autoencoder_learns_from_what_has_been_drawn(tmp_path, small_files):
    chunks = pictures.chunks(tmp_path, COUNTS, 3)
    pool = Pool(chunks, torch.device("cpu"))
    pool.refresh()
    assert len(pool.read) == 1  # drawn here, for none had come
    pictures.draw(chunks, processes=1)
    pool.refresh()
    assert len(pool.read) == len(chunks) and not pool.missing
    quads = pool.quads(19, np.random.default_rng(0))
    assert quads.shape == (19, 4, CELL, CELL, 3) and quads.dtype == torch.uint8


def test_prompts_of_all_lengths():
    scene = domains.Scene("Emoji", "star", "red", "big")
    assert domains.prompt(scene, pictures.LAYOUTS[1]) == "a big red star, emoji drawing"
    grid = "1*2 of 2 sub-images, step-by-step emoji drawing process, a big red star"
    assert domains.prompt(scene, pictures.LAYOUTS[2]) == grid


def test_tokens_are_those_of_the_text_encoder_in_use(tmp_path, monkeypatch):
    """The shipped one has fewer rows than a new one, and no row for a number beyond its own."""
    monkeypatch.setattr(data, "load_text", lambda: TextEncoder(7))
    counts = {Kind("Bricks", 1, 64): 3}
    found = data.load(tmp_path / "a.safetensors", Autoencoder(), counts, seed=1)
    assert 0 < int(found[1, 64].tokens.max()) < 7
