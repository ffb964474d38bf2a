"""The graphs, each for any kit: words, pictures, styles, mixes, and sequences longer than a grid."""

from __future__ import annotations

from typing import Any

from .graph import Node, Wire, Workflow
from .kits import Kit

FROM_DOMAIN = "from domain"
NO_LORA = "none"
SINGLE = 192
"""Edge of a single picture of FLUX-nano, in pixels."""


def text_to_process(w: Workflow, kit: Kit) -> None:
    w.group("1. The model and how things are made")
    loaded = _load_with_domain(w, kit)
    clip, vae = _encoders(w, kit)
    words = _words(w, kit, loaded["DOMAIN"], clip)
    w.group("3. Draw the grid")
    latent = _sample(w, kit, loaded["MODEL"], words, _empty(w, kit, loaded["DOMAIN"]))
    grid = _decode(w, latent, vae)
    w.group("4. Take it apart")
    frames = _split(w, grid, loaded["DOMAIN"])["frames"]
    _show(w, frames)
    w.column()
    _sheet(w, frames)
    w.column()
    composed = w.add("MakeAnythingComposeGrid", frames=frames, domain=loaded["DOMAIN"], layout=FROM_DOMAIN)
    w.add("PreviewImage", "The grid without dark lines", images=composed["grids"])


def image_to_process(w: Workflow, kit: Kit) -> None:
    w.group("1. The model and how things are made")
    if kit.is_nano:
        model = _load(w, kit)
        loaded = _apply(w, kit, model)
    else:
        loaded = _load_with_domain(w, kit)
    clip, vae = _encoders(w, kit)
    words = _words(w, kit, loaded["DOMAIN"], clip)
    w.group("3. The finished picture")
    if kit.is_nano:
        picture = _draw_single(w, kit, model, clip, words[1], vae)
    else:
        picture = w.add("LoadImage", "Your picture", yours=True, image="example.png")["IMAGE"]
    w.group("4. ReCraft: the steps that led to it")
    stacked = _stack(w, kit, loaded["MODEL"], kit.recraft)
    w.add("PreviewAny", "What the LoRA reached", source=stacked["report"])
    w.column()
    held = _recraft(w, kit, stacked["MODEL"], vae, picture, loaded["DOMAIN"])
    latent = _sample(w, kit, held["MODEL"], words, held["LATENT"])
    grid = _decode(w, latent, vae)
    w.group("5. Take it apart")
    frames = _split(w, grid, loaded["DOMAIN"])["frames"]
    _show(w, frames)
    w.column()
    _sheet(w, frames)


def with_style(w: Workflow, kit: Kit) -> None:
    w.group("1. The model, how things are made, and a style")
    loaded = _apply(w, kit, _load(w, kit))
    stacked = _stack(w, kit, loaded["MODEL"], kit.style)
    w.add("PreviewAny", "What the LoRA reached", source=stacked["report"])
    w.column()
    clip, vae = _encoders(w, kit)
    words = _words(w, kit, loaded["DOMAIN"], clip)
    w.group("3. Draw the grid")
    latent = _sample(w, kit, stacked["MODEL"], words, _empty(w, kit, loaded["DOMAIN"]))
    grid = _decode(w, latent, vae)
    w.group("4. Take it apart")
    frames = _split(w, grid, loaded["DOMAIN"])["frames"]
    _show(w, frames)
    w.column()
    _sheet(w, frames)
    w.group("Off: keep the head as an ordinary LoRA")
    w.add(
        "MakeAnythingExtractHead",
        models=kit.needs(kit.heads),
        muted=True,
        heads=kit.heads,
        domain=kit.domain,
        file_name="",
    )


def mix_two_domains(w: Workflow, kit: Kit) -> None:
    w.group("1. The model and a mix of two ways to make things")
    model = _load(w, kit)
    mixed = w.add(
        "MakeAnythingMixDomainHeads",
        models=kit.needs(kit.heads),
        yours=True,
        model=model["MODEL"],
        heads=kit.heads,
        domain_1=kit.domain,
        domain_2=kit.second,
        # Of weight 0, which leaves them out.
        domain_3=kit.domain,
        domain_4=kit.second,
    )
    clip, vae = _encoders(w, kit)
    words = _words(w, kit, mixed["DOMAIN"], clip)
    w.group("3. Draw the grid")
    latent = _sample(w, kit, mixed["MODEL"], words, _empty(w, kit, mixed["DOMAIN"]))
    grid = _decode(w, latent, vae)
    w.group("4. Take it apart")
    frames = _split(w, grid, mixed["DOMAIN"])["frames"]
    _show(w, frames)
    w.column()
    _sheet(w, frames)


def longer_sequence(w: Workflow, kit: Kit) -> None:
    """Two domains in turn: the first frame of one grid is held as the last of the grid before it."""
    w.group("1. The model, and two ways to make things")
    model = _load(w, kit)
    late, early = _apply(w, kit, model, title="Later half"), _apply(w, kit, model, kit.second, "Earlier half")
    clip, vae = _encoders(w, kit)
    w.group("2. What is made")
    negative = _negative(w, clip)
    late_words = _positive(w, kit, late["DOMAIN"], clip), negative
    early_words = _positive(w, kit, early["DOMAIN"], clip), negative
    w.group("3. The later half")
    late_grid = _decode(w, _sample(w, kit, late["MODEL"], late_words, _empty(w, kit, late["DOMAIN"])), vae)
    w.group("4. ReCraft: the earlier half ends where the later begins")
    split = _split(w, late_grid, late["DOMAIN"])
    first = w.add("ImageFromBatch", "The first frame of the later half", image=split["frames"])
    w.column()
    stacked = _stack(w, kit, early["MODEL"], kit.recraft)
    w.column()
    held = _recraft(w, kit, stacked["MODEL"], vae, first["IMAGE"], early["DOMAIN"])
    early_grid = _decode(w, _sample(w, kit, held["MODEL"], early_words, held["LATENT"]), vae)
    w.group("5. One sequence")
    grids = w.add("BatchImagesNode", images=[early_grid, late_grid])
    frames = _split(w, grids["IMAGE"], late["DOMAIN"])["frames"]
    w.column()
    before = w.add("ImageFromBatch", "The earlier half without its last frame", image=frames, batch_index=0, length=8)
    after = w.add("ImageFromBatch", "The later half", image=frames, batch_index=9, length=9)
    joined = w.add("BatchImagesNode", images=[before["IMAGE"], after["IMAGE"]])
    _show(w, joined["IMAGE"])
    w.column()
    _sheet(w, joined["IMAGE"])


def _load(w: Workflow, kit: Kit) -> Node:
    return w.add("UNETLoader", models=kit.needs(kit.unet), unet_name=kit.unet, weight_dtype="default")


def _load_with_domain(w: Workflow, kit: Kit) -> Node:
    return w.add(
        "MakeAnythingLoadFluxWithDomain",
        models=kit.needs(kit.unet, kit.heads),
        yours=True,
        unet_name=kit.unet,
        weight_dtype="default",
        heads=kit.heads,
        domain=kit.domain,
    )


def _apply(w: Workflow, kit: Kit, model: Node, domain: str = "", title: str = "") -> Node:
    return w.add(
        "MakeAnythingApplyDomainHead",
        title,
        models=kit.needs(kit.heads),
        yours=True,
        model=model["MODEL"],
        heads=kit.heads,
        domain=domain or kit.domain,
    )


def _encoders(w: Workflow, kit: Kit) -> tuple[Wire, Wire]:
    """CLIP and VAE."""
    if kit.is_nano:
        clip = w.add("MakeAnythingLoadNanoTextEncoder", text_encoder=kit.text_encoders[0])
    else:
        first, second = kit.text_encoders
        clip = w.add(
            "DualCLIPLoader",
            models=kit.needs(first, second),
            clip_name1=first,
            clip_name2=second,
            type="flux",
            device="default",
        )
    vae = w.add("VAELoader", models=kit.needs(kit.vae), vae_name=kit.vae)
    return clip["CLIP"], vae["VAE"]


def _words(w: Workflow, kit: Kit, domain: Wire, clip: Wire) -> tuple[Wire, Wire]:
    """A group that writes the prompt: the positive and the negative conditioning."""
    w.group("2. What is made")
    return _positive(w, kit, domain, clip), _negative(w, clip)


def _positive(w: Workflow, kit: Kit, domain: Wire, clip: Wire) -> Wire:
    prompt = w.add("MakeAnythingProcessPrompt", yours=True, domain=domain, subject=kit.subject)
    words = w.add("CLIPTextEncode", clip=clip, text=prompt["prompt"])["CONDITIONING"]
    if kit.guidance is None:
        return words
    return w.add("FluxGuidance", conditioning=words, guidance=kit.guidance)["CONDITIONING"]


def _negative(w: Workflow, clip: Wire) -> Wire:
    return w.add("CLIPTextEncode", "Negative prompt, empty", clip=clip, text="")["CONDITIONING"]


def _empty(w: Workflow, kit: Kit, domain: Wire) -> Wire:
    return w.add("MakeAnythingEmptyGrid", domain=domain, layout=FROM_DOMAIN, cell=kit.cell)["LATENT"]


def _sample(w: Workflow, kit: Kit, model: Wire, words: tuple[Wire, Wire], latent: Wire) -> Wire:
    positive, negative = words
    sampler = w.add(
        "KSampler",
        yours=True,
        model=model,
        positive=positive,
        negative=negative,
        latent_image=latent,
        seed=kit.seed,
        steps=kit.steps,
        cfg=kit.cfg,
        sampler_name="euler",
        scheduler="simple",
    )
    return sampler["LATENT"]


def _decode(w: Workflow, latent: Wire, vae: Wire) -> Wire:
    w.column()
    image = w.add("VAEDecode", samples=latent, vae=vae)["IMAGE"]
    w.add("PreviewImage", images=image)
    return image


def _draw_single(w: Workflow, kit: Kit, model: Node, clip: Wire, negative: Wire, vae: Wire) -> Wire:
    """A single picture, drawn without a head."""
    words = w.add(
        "CLIPTextEncode", "What is in the picture", clip=clip, text=f"{kit.subject}, colouring in", yours=True
    )
    empty = w.add("EmptySD3LatentImage", width=SINGLE, height=SINGLE)
    latent = _sample(w, kit, model["MODEL"], (words["CONDITIONING"], negative), empty["LATENT"])
    return _decode(w, latent, vae)


def _stack(w: Workflow, kit: Kit, model: Wire, lora: str) -> Node:
    rows: dict[str, Any] = {f"lora_{row}": NO_LORA for row in range(2, 6)}
    return w.add("MakeAnythingLoraStack", models=kit.needs(lora), model=model, lora_1=lora, **rows)


def _recraft(w: Workflow, kit: Kit, model: Wire, vae: Wire, image: Wire, domain: Wire) -> Node:
    empty = _empty(w, kit, domain)
    return w.add(
        "MakeAnythingReCraft", model=model, vae=vae, image=image, domain=domain, latent=empty, layout=FROM_DOMAIN
    )


def _split(w: Workflow, grids: Wire, domain: Wire) -> Node:
    return w.add("MakeAnythingSplitFrames", grids=grids, domain=domain, layout=FROM_DOMAIN)


def _show(w: Workflow, frames: Wire) -> None:
    """Play and save a sequence."""
    w.column()
    w.add("MakeAnythingAnimateSequence", frames=frames)
    w.add("MakeAnythingSaveSequence", frames=frames, filename_prefix=f"MakeAnything/{w.name}", hold_last=1.0)


def _sheet(w: Workflow, frames: Wire) -> None:
    sheet = w.add("MakeAnythingContactSheet", frames=frames)
    w.add("PreviewImage", images=sheet["sheet"])
