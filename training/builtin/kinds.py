"""The three kinds of run that a settings file can describe: domain heads, ReCraft, and the whole FLUX."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor, nn

from makeanything.reference.flux import Flux
from makeanything.saving import save_safetensors
from makeanything.serpentine import Layout
from makeanything.text_encoder import WIDTH, TextEncoder, tokenize
from makeanything.weights_file import load, open_weights

from ..asymmetric_network import ALPHA, RANK, create_network
from ..data import dataset
from ..data.cells import check_size
from ..data.dataset import Dataset, Sample
from ..heads.layer import linear_layers
from ..heads.merged import Base
from ..heads.network import HeadNetwork
from ..heads.options import Options
from ..heads.ordinary import OrdinaryLora
from ..values import naming
from . import grids
from .recipe import Recipe
from .task import Batch, Task


def _said(sample: Sample) -> str:
    return "" if sample.domain is None else str(sample.domain)


@dataclass(frozen=True)
class Trained:
    """What a kind of run trains.

    write: saves the result.  domain_of: the domain of a sample, empty where none is said.  heads, recraft: see Task.
    """

    module: nn.Module
    write: Callable[[Path], None]
    domain_of: Callable[[Sample], str] = _said
    heads: Sequence[HeadNetwork] = ()
    recraft: Layout | None = None


def prepare(recipe: Recipe, process: PartialState) -> Task:
    """Load the models, encode the data, and check that they fit.  ValueError says what does not."""
    flux, text = _load_flux(recipe.flux), _load_text(recipe.text_encoder)
    datasets = dataset.read(recipe.datasets)
    # All processes begin with the same A.
    torch.manual_seed(recipe.settings.seed)
    trained = {"heads": _heads, "recraft": _recraft, "full": _full}[recipe.kind](recipe, flux, datasets)
    out = f"{recipe.output_dir / recipe.output_name}"
    with process.main_process_first():
        data = grids.encode(datasets, recipe.autoencoder, Path(f"{out}.latents.safetensors"), trained.recraft)

    def batches(generator: torch.Generator) -> Batch:
        drawn = data.draw(generator)
        tokens = torch.tensor([tokenize(prompt, text.words.num_embeddings) for prompt in drawn.prompts])
        return Batch(drawn.latents, tokens, [trained.domain_of(sample) for sample in drawn.samples], generator)

    def on_save(step: int) -> None:
        if step == recipe.settings.steps:
            trained.write(Path(f"{out}.safetensors"))
        elif recipe.keep_every:
            trained.write(Path(f"{out}-step{step:08d}.safetensors"))

    return Task(
        flux,
        text,
        trained.module,
        batches,
        recipe.objective,
        recipe.settings,
        Path(f"{out}.state.safetensors"),
        recipe.output_name,
        trained.heads,
        trained.recraft,
        on_save,
    )


def _heads(recipe: Recipe, flux: Flux, datasets: Sequence[Dataset]) -> Trained:
    # Models that fit have room for their idle heads too.
    options: dict[str, Any] = {name: value for name, value in recipe.network.items() if name != "idle_heads"}
    network = create_network(1.0, recipe.rank, recipe.alpha, None, [], flux, **options)
    if recipe.weights:
        network.load_weights(recipe.weights)
    names = {}
    for entry, sample in _each(datasets):
        head = sample.head(network.domains)
        names[sample] = network.domains[head].name
        check_size(entry.height, entry.width, network.domains[head].layout)
        if not any(parameter.requires_grad for parameter in (*network.shared(), *network.head(head))):
            raise ValueError(
                f"{sample.path} is of {names[sample]}, but with add_to this head and A stay as they are: leave its "
                "pictures out, or set train_a=true in network_args"
            )
    network.attach(flux)
    return Trained(network, lambda path: network.save_weights(path, recipe.precision, {}), names.__getitem__, [network])


def _recraft(recipe: Recipe, flux: Flux, datasets: Sequence[Dataset]) -> Trained:
    base = Base.read(str(recipe.flux), recipe.head_file, recipe.head, recipe.frames)
    for entry, sample in _each(datasets):
        check_size(entry.height, entry.width, base.layout)
        base.check_picture(sample.path, sample.domain, sample.flag)
    if base.file:
        base.merge(flux)
    rank = RANK if recipe.rank is None else recipe.rank
    alpha = ALPHA if recipe.alpha is None else recipe.alpha or rank
    options = Options.read(recipe.network)
    if options.domains or options.add_to or options.train_a:
        raise ValueError("domains, add_to and train_a in network_args are for heads; ReCraft is an ordinary LoRA")
    network = OrdinaryLora(flux, rank, alpha, options.select(linear_layers(flux)), options.drop)
    network.attach(flux)
    title = {"modelspec.title": recipe.output_name}
    return Trained(network, lambda path: network.save(path, recipe.precision, title), recraft=base.layout)


def _full(recipe: Recipe, flux: Flux, datasets: Sequence[Dataset]) -> Trained:
    return Trained(flux.requires_grad_(True), lambda path: _save(flux.state_dict(), path, recipe.precision))


def _each(datasets: Iterable[Dataset]) -> Iterator[tuple[Dataset, Sample]]:
    return ((dataset, sample) for dataset in datasets for sample in dataset.samples)


def _save(state: Mapping[str, Tensor], path: Path, dtype: torch.dtype) -> None:
    save_safetensors({key: tensor.detach().to("cpu", dtype) for key, tensor in state.items()}, path)


def _load_flux(path: Path) -> Flux:
    """A frozen FLUX in float32.  ValueError for one that reads other prompts than FLUX-nano's text encoder writes."""
    with open_weights(path) as file:
        shape = file.shapes.get("txt_in.weight", ())
        if len(shape) == 2 and shape[1] != WIDTH:
            raise ValueError(
                f"{path.name} reads text of width {shape[1]}, as T5 writes it for FLUX.1-dev; the built-in loop has "
                f"the small text encoder alone (width {WIDTH}). Train this model with sd-scripts: "
                "python -m training.train_heads, or training.train_recraft"
            )
        state = file.read(file.entries)
    with naming(path):
        return Flux.from_state_dict(state).float().requires_grad_(False)


def _load_text(path: Path) -> TextEncoder:
    with naming(path):
        return TextEncoder.from_state_dict(load(path)).requires_grad_(False)
