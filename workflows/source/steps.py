"""Steps that several graphs share; each adds its nodes where the workflow stands and gives what they put out."""

from __future__ import annotations

from typing import Any

from .graph import Node, Wire, Workflow
from .kits import Kit

FROM_DOMAIN = "from domain"
NO_LORA = "none"
SINGLE = 192
"""Edge of a single picture of FLUX-nano, in pixels."""

Words = tuple[Wire, Wire]
"""Positive and negative conditioning."""


def load(w: Workflow, kit: Kit) -> Node:
    return w.add("UNETLoader", models=kit.needs(kit.unet), unet_name=kit.unet, weight_dtype="default")


def load_with_domain(w: Workflow, kit: Kit) -> Node:
    return w.add(
        "MakeAnythingLoadFluxWithDomain",
        models=kit.needs(kit.unet, kit.heads),
        yours=True,
        unet_name=kit.unet,
        weight_dtype="default",
        heads=kit.heads,
        domain=kit.domain,
    )


def apply_head(w: Workflow, kit: Kit, model: Node, domain: str = "", title: str = "") -> Node:
    return w.add(
        "MakeAnythingApplyDomainHead",
        title,
        models=kit.needs(kit.heads),
        yours=True,
        model=model["MODEL"],
        heads=kit.heads,
        domain=domain or kit.domain,
    )


def mix(w: Workflow, kit: Kit, model: Node) -> Node:
    """Half the kit's domain, half its second; the other rows have weight 0."""
    return w.add(
        "MakeAnythingMixDomainHeads",
        models=kit.needs(kit.heads),
        yours=True,
        model=model["MODEL"],
        heads=kit.heads,
        domain_1=kit.domain,
        domain_2=kit.second,
        domain_3=kit.domain,
        domain_4=kit.second,
    )


def extract(w: Workflow, kit: Kit) -> Node:
    """Off, since it writes into the user's loras folder."""
    models = kit.needs(kit.heads)
    return w.add("MakeAnythingExtractHead", models=models, muted=True, heads=kit.heads, domain=kit.domain)


def encoders(w: Workflow, kit: Kit) -> tuple[Wire, Wire]:
    """CLIP and VAE."""
    if kit.is_nano:
        clip = w.add("MakeAnythingLoadNanoTextEncoder", text_encoder=kit.text_encoders[0])
    else:
        first, second = kit.text_encoders
        models = kit.needs(first, second)
        clip = w.add(
            "DualCLIPLoader", models=models, clip_name1=first, clip_name2=second, type="flux", device="default"
        )
    vae = w.add("VAELoader", models=kit.needs(kit.vae), vae_name=kit.vae)
    return clip["CLIP"], vae["VAE"]


def words(w: Workflow, kit: Kit, domain: Wire, clip: Wire) -> Words:
    """A group of their own."""
    w.group("2. What is made", below=True)
    return positive(w, kit, domain, clip), negative(w, clip)


def positive(w: Workflow, kit: Kit, domain: Wire, clip: Wire) -> Wire:
    prompt = w.add("MakeAnythingProcessPrompt", yours=True, domain=domain, subject=kit.subject)
    encoded = w.add("CLIPTextEncode", clip=clip, text=prompt["prompt"])["CONDITIONING"]
    if kit.guidance is None:
        return encoded
    return w.add("FluxGuidance", conditioning=encoded, guidance=kit.guidance)["CONDITIONING"]


def negative(w: Workflow, clip: Wire) -> Wire:
    return w.add("CLIPTextEncode", "Negative prompt, empty", clip=clip, text="")["CONDITIONING"]


def empty_grid(w: Workflow, kit: Kit, domain: Wire) -> Wire:
    return w.add("MakeAnythingEmptyGrid", domain=domain, layout=FROM_DOMAIN, cell=kit.cell)["LATENT"]


def draw(w: Workflow, kit: Kit, model: Wire, said: Words, latent: Wire, vae: Wire, steady: bool = False) -> Wire:
    """Sample and decode; the picture is shown too."""
    sampled = w.add(
        "KSampler",
        yours=True,
        steady=steady,
        model=model,
        positive=said[0],
        negative=said[1],
        latent_image=latent,
        seed=kit.seed,
        steps=kit.steps,
        cfg=kit.cfg,
        sampler_name="euler",
        scheduler="simple",
    )
    image = w.add("VAEDecode", samples=sampled["LATENT"], vae=vae)["IMAGE"]
    w.add("PreviewImage", images=image)
    return image


def draw_picture(w: Workflow, kit: Kit, model: Node, clip: Wire, nothing: Wire, vae: Wire) -> Wire:
    """A single picture, drawn without a head; `nothing` is the negative conditioning."""
    # FLUX-nano's single pictures are called after the process that ends in them.
    text = f"{kit.subject}, colouring in"
    said = w.add("CLIPTextEncode", "What is in the picture", yours=True, clip=clip, text=text)["CONDITIONING"]
    empty = w.add("EmptySD3LatentImage", width=SINGLE, height=SINGLE)["LATENT"]
    return draw(w, kit, model["MODEL"], (said, nothing), empty, vae, steady=True)


def stack(w: Workflow, kit: Kit, model: Wire, lora: str) -> Node:
    rows: dict[str, Any] = {f"lora_{row}": NO_LORA for row in range(2, 6)}
    stacked = w.add("MakeAnythingLoraStack", models=kit.needs(lora), model=model, lora_1=lora, **rows)
    w.add("PreviewAny", "What the LoRA reached", source=stacked["report"])
    return stacked


def recraft(w: Workflow, kit: Kit, model: Wire, vae: Wire, image: Wire, domain: Wire) -> Node:
    latent = empty_grid(w, kit, domain)
    return w.add(
        "MakeAnythingReCraft", model=model, vae=vae, image=image, domain=domain, latent=latent, layout=FROM_DOMAIN
    )


def split(w: Workflow, grids: Wire, domain: Wire) -> Node:
    return w.add("MakeAnythingSplitFrames", grids=grids, domain=domain, layout=FROM_DOMAIN)


def show(w: Workflow, frames: Wire) -> None:
    """Play, save, and lay out a sequence."""
    sheet = w.add("MakeAnythingContactSheet", frames=frames)
    w.column()
    w.add("MakeAnythingAnimateSequence", frames=frames)
    w.add("MakeAnythingSaveSequence", frames=frames, filename_prefix=f"MakeAnything/{w.name}", hold_last=1.0)
    w.column()
    w.add("PreviewImage", images=sheet["sheet"])
