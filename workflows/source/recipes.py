"""The graphs, each for any kit: words, pictures, styles, mixes, and sequences longer than a grid."""

from __future__ import annotations

from . import steps
from .graph import Workflow
from .kits import Kit


def text_to_process(w: Workflow, kit: Kit) -> None:
    w.group("1. The model and how things are made")
    loaded = steps.load_with_domain(w, kit)
    clip, vae = steps.encoders(w, kit)
    words = steps.words(w, kit, loaded["DOMAIN"], clip)
    w.group("3. Draw the grid")
    grid = steps.draw(w, kit, loaded["MODEL"], words, steps.empty_grid(w, kit, loaded["DOMAIN"]), vae)
    w.group("4. Take it apart")
    frames = steps.split(w, grid, loaded["DOMAIN"])["frames"]
    steps.show(w, frames)
    composed = w.add("MakeAnythingComposeGrid", frames=frames, domain=loaded["DOMAIN"], layout=steps.FROM_DOMAIN)
    w.add("PreviewImage", "The grid without dark lines", images=composed["grids"])


def image_to_process(w: Workflow, kit: Kit) -> None:
    """FLUX-nano draws the picture itself, so that the graph runs at once; for FLUX.1-dev it is loaded."""
    w.group("1. The model and how things are made")
    model = steps.load(w, kit)
    loaded = steps.apply_head(w, kit, model)
    clip, vae = steps.encoders(w, kit)
    words = steps.words(w, kit, loaded["DOMAIN"], clip)
    w.group("3. The finished picture")
    if kit.is_nano:
        picture = steps.draw_picture(w, kit, model, clip, words[1], vae)
    else:
        picture = w.add("LoadImage", "Your picture", yours=True, image="example.png")["IMAGE"]
    w.group("4. ReCraft: the steps that led to it")
    stacked = steps.stack(w, kit, loaded["MODEL"], kit.recraft)
    w.column()
    held = steps.recraft(w, kit, stacked["MODEL"], vae, picture, loaded["DOMAIN"])
    grid = steps.draw(w, kit, held["MODEL"], words, held["LATENT"], vae)
    w.group("5. Take it apart")
    steps.show(w, steps.split(w, grid, loaded["DOMAIN"])["frames"])


def with_style(w: Workflow, kit: Kit) -> None:
    w.group("1. The model and how things are made")
    loaded = steps.apply_head(w, kit, steps.load(w, kit))
    clip, vae = steps.encoders(w, kit)
    words = steps.words(w, kit, loaded["DOMAIN"], clip)
    w.group("3. A style")
    stacked = steps.stack(w, kit, loaded["MODEL"], kit.style)
    w.group("4. Draw the grid")
    grid = steps.draw(w, kit, stacked["MODEL"], words, steps.empty_grid(w, kit, loaded["DOMAIN"]), vae)
    w.group("5. Take it apart")
    steps.show(w, steps.split(w, grid, loaded["DOMAIN"])["frames"])
    w.group("Off: keep the head as an ordinary LoRA", below=True)
    steps.extract(w, kit)


def mix_two_domains(w: Workflow, kit: Kit) -> None:
    w.group("1. The model and a mix of two ways to make things")
    mixed = steps.mix(w, kit, steps.load(w, kit))
    clip, vae = steps.encoders(w, kit)
    words = steps.words(w, kit, mixed["DOMAIN"], clip)
    w.group("3. Draw the grid")
    grid = steps.draw(w, kit, mixed["MODEL"], words, steps.empty_grid(w, kit, mixed["DOMAIN"]), vae)
    w.group("4. Take it apart")
    steps.show(w, steps.split(w, grid, mixed["DOMAIN"])["frames"])


def longer_sequence(w: Workflow, kit: Kit) -> None:
    """Two domains in turn: the first frame of one grid is held as the last of the grid before it."""
    w.group("1. The model and two ways to make things")
    model = steps.load(w, kit)
    late = steps.apply_head(w, kit, model, title="Later half")
    early = steps.apply_head(w, kit, model, kit.second, "Earlier half")
    clip, vae = steps.encoders(w, kit)
    w.group("2. What is made")
    negative = steps.negative(w, clip)
    late_words = steps.positive(w, kit, late["DOMAIN"], clip), negative
    early_words = steps.positive(w, kit, early["DOMAIN"], clip), negative
    w.group("3. The later half")
    late_grid = steps.draw(w, kit, late["MODEL"], late_words, steps.empty_grid(w, kit, late["DOMAIN"]), vae)
    w.group("4. ReCraft: the earlier half ends where the later begins")
    late_frames = steps.split(w, late_grid, late["DOMAIN"])["frames"]
    first = w.add("ImageFromBatch", "The first frame of the later half", image=late_frames)
    w.column()
    stacked = steps.stack(w, kit, early["MODEL"], kit.recraft)
    w.column()
    held = steps.recraft(w, kit, stacked["MODEL"], vae, first["IMAGE"], early["DOMAIN"])
    early_grid = steps.draw(w, kit, held["MODEL"], early_words, held["LATENT"], vae)
    w.group("5. One sequence")
    grids = w.add("BatchImagesNode", images=[early_grid, late_grid])
    frames = steps.split(w, grids["IMAGE"], late["DOMAIN"])["frames"]
    w.column()
    before = w.add("ImageFromBatch", "The earlier half without its last frame", image=frames, batch_index=0, length=8)
    after = w.add("ImageFromBatch", "The later half", image=frames, batch_index=9, length=9)
    joined = w.add("BatchImagesNode", images=[before["IMAGE"], after["IMAGE"]])
    steps.show(w, joined["IMAGE"])
