"""The grids of a run as latents: encoded once, kept in a file, drawn at random."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from makeanything import pictures
from makeanything.files import open_safetensors
from makeanything.reference.autoencoder import Autoencoder
from makeanything.saving import make_folder, save_safetensors
from makeanything.serpentine import Layout
from makeanything.weights_file import open_weights

from ..data.cells import encode_tail_alone
from ..data.dataset import Dataset, Sample


@dataclass(frozen=True)
class Drawn:
    """Latents (B, 16, h, w) in the model's space, of these samples; a prompt is empty where it was dropped."""

    latents: Tensor
    samples: list[Sample]
    prompts: list[str]


class Grids:
    """Datasets with the latents (16, h, w) of their samples.  A batch is of one dataset, and mixes its domains."""

    def __init__(self, datasets: list[Dataset], latents: list[list[Tensor]]) -> None:
        self.datasets, self.latents = datasets, latents
        self._repeats = [torch.tensor([float(sample.repeats) for sample in d.samples]) for d in datasets]
        self._batches = torch.stack([r.sum() / d.batch_size for r, d in zip(self._repeats, datasets, strict=True)])

    def draw(self, generator: torch.Generator) -> Drawn:
        """A random batch; every sample comes as often as its repeats ask."""
        chosen = int(torch.multinomial(self._batches, 1, generator=generator))
        dataset, latents = self.datasets[chosen], self.latents[chosen]
        again = dataset.batch_size > len(dataset.samples)
        picked = torch.multinomial(self._repeats[chosen], dataset.batch_size, again, generator=generator).tolist()
        samples = [dataset.samples[index] for index in picked]
        draws = torch.rand(len(samples), generator=generator).tolist()
        prompts = ["" if draw < s.dropout else s.prompt for s, draw in zip(samples, draws, strict=True)]
        return Drawn(torch.stack([latents[index] for index in picked]), samples, prompts)


def encode(datasets: list[Dataset], autoencoder: Path, cache: Path, recraft: Layout | None = None) -> Grids:
    """The grids as latents in float32, from the file `cache` or else encoded and written there.

    With a layout, the tail of every grid is encoded alone (ReCraft).  A grid is encoded again when its picture (name,
    size, date), the resolution or the autoencoder has changed.  ValueError for a picture of another size.
    """
    made_by = hashlib.sha256(autoencoder.read_bytes()).hexdigest()
    keys = [[_key(sample.path, dataset, recraft, made_by) for sample in dataset.samples] for dataset in datasets]
    kept = _load(cache, {key for row in keys for key in row})
    todo = {
        key: (sample.path, dataset)
        for row, dataset in zip(keys, datasets, strict=True)
        for key, sample in zip(row, dataset.samples, strict=True)
        if key not in kept
    }
    if todo:
        model = load_autoencoder(autoencoder)
        try:
            for key, (path, dataset) in tqdm(todo.items(), desc="encoding", dynamic_ncols=True):
                kept[key] = _encode(model, path, dataset, recraft)
        finally:
            # What was encoded before Ctrl-C need not be again.
            make_folder(cache.parent)
            save_safetensors(kept, cache)
    return Grids(datasets, [[kept[key] for key in row] for row in keys])


def load_autoencoder(path: Path) -> Autoencoder:
    """An autoencoder in the layout of TAESD; ValueError for another kind."""
    with open_safetensors(path) as file:
        state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    if not any(key.startswith("taesd_encoder.") for key in state):
        raise ValueError(
            f"{path} is not an autoencoder in TAESD's layout (it holds {min(state, default='nothing')}); FLUX's own is "
            "for sd-scripts: python -m training.train_heads"
        )
    return Autoencoder.from_file(state).requires_grad_(False)


def _key(picture: Path, dataset: Dataset, recraft: Layout | None, made_by: str) -> str:
    stat = picture.stat()
    file = (str(picture.resolve()), stat.st_size, stat.st_mtime_ns)
    return hashlib.sha256(json.dumps([file, dataset.width, dataset.height, str(recraft), made_by]).encode()).hexdigest()


def _load(cache: Path, keys: set[str]) -> dict[str, Tensor]:
    if not cache.exists():
        return {}
    with open_weights(cache) as file:
        return file.read(keys & file.entries.keys())


@torch.no_grad()
def _encode(model: Autoencoder, path: Path, dataset: Dataset, recraft: Layout | None) -> Tensor:
    picture = pictures.read(path)[None]
    _, height, width, _ = picture.shape
    if (height, width) != (dataset.height, dataset.width):
        raise ValueError(
            f"{path} is {width} x {height} px, the dataset's resolution {dataset.width} x {dataset.height}, and every "
            "grid must have it. Was it made with another number of frames?"
        )

    def encode(pictures: Tensor) -> Tensor:
        return model.encode(pictures.movedim(1, -1))

    grids = picture.movedim(-1, 1)
    return (encode(grids) if recraft is None else encode_tail_alone(grids, recraft, encode, encode))[0]
