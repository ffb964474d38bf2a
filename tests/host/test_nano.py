"""FLUX-nano, the model that the pack ships, in the host: the same seeds give the pictures of the host-free demo."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from demo.nano import CFG, GRID, STEPS, Nano, heads
from demo.scenes import domains, style
from makeanything import pictures
from makeanything.asymmetric_lora import Choice
from makeanything.domains import Domain, find

from .server import Graph, Host

SEED = 3
LEAST = 1 / 255
"""The promised agreement, in pixel values 0..1."""


@pytest.fixture(scope="module")
def nano() -> Nano:
    return Nano()


def domain(name: str, frames: int) -> Domain:
    known = heads(frames).domains
    return known[find(known, name)]


def draw(g: Graph, model: list[Any], latent: list[Any], prompt: str) -> None:
    """The stock part of the graph, from prompt to picture; its grid is probed."""
    clip = g.add("MakeAnythingLoadNanoTextEncoder", text_encoder="flux_nano_text.safetensors")[0]
    positive, negative = (g.add("CLIPTextEncode", text=text, clip=clip)[0] for text in (prompt, ""))
    latents = g.sample(model, latent, positive=positive, negative=negative, steps=STEPS, cfg=CFG, seed=SEED)
    vae = g.add("VAELoader", vae_name="flux_nano_ae.safetensors")
    g.probe("grid", g.add("VAEDecode", samples=latents, vae=vae[0])[0])


def with_head(g: Graph, name: str, frames: int) -> Any:
    flux = g.flux("flux_nano.safetensors")
    file = f"flux_nano_heads_{frames}f.safetensors"
    return g.add("MakeAnythingApplyDomainHead", model=flux[0], heads=file, domain=name, strength=1.0)


def with_lora(g: Graph, model: list[Any], name: str) -> Any:
    return g.add("LoraLoaderModelOnly", model=model, lora_name=name, strength_model=1.0)


def empty(g: Graph, wired: list[Any], frames: int) -> list[Any]:
    cell = GRID // {4: 2, 9: 3}[frames]
    return g.add("MakeAnythingEmptyGrid", domain=wired, layout="from domain", cell=cell, batch_size=1)[0]


def check(record: dict[str, float], name: str, drawn: Tensor, wanted: Tensor) -> None:
    assert wanted.std() > 0.05  # something is drawn
    record[f"{name}: largest difference of a pixel, of 255"] = 255 * (drawn - wanted).abs().max().item()
    assert (drawn - wanted).abs().max() <= LEAST


@pytest.mark.parametrize(("name", "frames"), [("Bricks", 9), ("Clay", 4)])
def test_text_to_process(host: Host, nano: Nano, record: dict[str, float], name: str, frames: int) -> None:
    drawn = domain(name, frames)
    prompt = drawn.write_prompt("a big red house")
    g = Graph()
    node = with_head(g, name, frames)
    draw(g, node[0], empty(g, node[1], frames), prompt)
    check(record, name, host.run(g)["grid"], nano.draw(drawn, name, prompt, SEED))


def test_picture_to_process(host: Host, nano: Nano, record: dict[str, float]) -> None:
    drawn = domain("Colouring", 9)
    scene = domains.read_scene(drawn.name, "a big green duck")
    picture = torch.from_numpy(domains.finished(scene, 128)).float() / 255
    pictures.save_png(picture, host.base / "input/duck.png")
    prompt = drawn.write_prompt(scene.caption)
    g = Graph()
    node = with_head(g, drawn.name, 9)
    model = with_lora(g, node[0], "flux_nano_recraft_9f.safetensors")
    held = g.add(
        "MakeAnythingReCraft",
        model=model[0],
        vae=g.add("VAELoader", vae_name="flux_nano_ae.safetensors")[0],
        image=g.add("LoadImage", image="duck.png")[0],
        latent=empty(g, node[1], 9),
        domain=node[1],
        layout="from domain",
        frame=0,
        start_percent=0.0,
        end_percent=1.0,
    )
    draw(g, held[0], held[1], prompt)
    wanted = nano.draw(drawn, drawn.name, prompt, SEED, {drawn.layout.tail: picture})
    check(record, "ReCraft", host.run(g)["grid"], wanted)


def test_mix_with_a_style(host: Host, nano: Nano, record: dict[str, float]) -> None:
    drawn = domain("Bricks", 9)
    choice: Choice = {"Bricks": 0.5, "Mosaic": 0.5}
    prompt = f"{drawn.write_prompt('a big purple heart')}, {style.PHRASE}"
    g = Graph()
    flux = g.flux("flux_nano.safetensors")
    rows = {"domain_1": "Bricks", "domain_2": "Mosaic", "domain_3": "Tree", "domain_4": "Tree"}
    rows |= {"weight_1": 0.5, "weight_2": 0.5, "weight_3": 0.0, "weight_4": 0.0}
    node = g.add(
        "MakeAnythingMixDomainHeads", model=flux[0], heads="flux_nano_heads_9f.safetensors", strength=1.0, **rows
    )
    styled = with_lora(g, node[0], "flux_nano_parchment_style.safetensors")
    draw(g, styled[0], empty(g, node[1], 9), prompt)
    check(record, "mix", host.run(g)["grid"], nano.draw(drawn, choice, prompt, SEED, style=1.0))
