"""ReCraft in the real host: the pinned cell, the frames around it, and the embedded sampler against ComfyUI's."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from makeanything.recraft import paste
from makeanything.reference import flow
from makeanything.reference.flux import Flux
from makeanything.serpentine import Layout

from . import tiny
from .server import FLUX, Graph, Host

CELL = 32
FOUR, NINE = Layout.of(4), Layout.of(9)
STEPS = 4
SCALE, SHIFT = 0.3611, 0.1159  # FLUX's latent space, as in its VAE's configuration


def chosen(layout: Layout) -> dict[str, Any]:
    return {"layout": {4: "4 frames (2x2)", 9: "9 frames (3x3)"}[layout.frames]}


def empty(g: Graph, layout: Layout, batch: int = 1) -> list[Any]:
    return g.add("EmptySD3LatentImage", width=CELL * layout.cols, height=CELL * layout.rows, batch_size=batch)[0]


def picture(g: Graph, seed: int = 3, batch: int = 1) -> list[Any]:
    return g.add("TestImage", seed=seed, height=CELL, width=CELL, batch=batch)[0]


def recraft(g: Graph, layout: Layout, model: list[Any] | None = None, **options: Any) -> Any:
    """A ReCraft node on the tiny FLUX; its picture's latents are probed as "cell" when it makes them itself."""
    options.setdefault("latent", empty(g, layout))
    options.setdefault("image", picture(g))
    return g.add(
        "MakeAnythingReCraft",
        model=model or g.flux()[0],
        vae=g.vae()[0],
        **{"frame": 0, "start_percent": 0.0, "end_percent": 1.0, **options},
        **chosen(layout),
    )


def encoded(g: Graph, image: list[Any], name: str = "cell") -> None:
    g.probe(name, g.add("VAEEncode", pixels=image, vae=g.vae()[0])[0])


def cell_of(latents: torch.Tensor, layout: Layout, frame: int) -> torch.Tensor:
    box = layout.box(frame, *latents.shape[-2:])
    return latents[:, :, box.rows, box.cols]


def samplers(host: Host) -> list[str]:
    widget = host.get("/object_info/KSampler")["KSampler"]["input"]["required"]["sampler_name"]
    return widget[0] if isinstance(widget[0], list) else widget[1]["options"]


@pytest.mark.parametrize("layout", [FOUR, NINE], ids=str)
def test_every_sampler_ends_exactly_on_the_picture(host: Host, layout: Layout) -> None:
    names = samplers(host)
    assert len(names) > 30
    g = Graph()
    image = picture(g)
    encoded(g, image)
    node = recraft(g, layout, image=image)
    for name in names:
        g.probe(name, g.sample(node[0], node[1], steps=STEPS, sampler_name=name, cfg=2.0))
    out = host.run(g, seconds=400)
    wrong = [name for name in names if not torch.equal(cell_of(out[name], layout, layout.tail), out["cell"])]
    assert not wrong
    # The other cells are drawn, and differ from the picture.
    assert all(not torch.allclose(cell_of(out[name], layout, 0), out["cell"], atol=0.1) for name in names)


@pytest.mark.parametrize("pinned", [(), (3,), (0, 3)], ids=["free", "tail", "first and last"])
def test_the_embedded_sampler_agrees_with_the_hosts_euler(
    host: Host, pinned: tuple[int, ...], record: dict[str, float], compared: dict[str, torch.Tensor]
) -> None:
    g = Graph()
    model, latent = g.flux()[0], empty(g, FOUR)
    for frame in pinned:
        image = picture(g, seed=frame)
        encoded(g, image, f"cell{frame}")
        model, latent = (node := recraft(g, FOUR, model, latent=latent, image=image, frame=frame + 1))[0], node[1]
    g.probe("z", g.sample(model, latent, seed=11, steps=STEPS))
    out = host.run(g)

    cells = {frame: (out[f"cell{frame}"] - SHIFT) * SCALE for frame in pinned}
    drawn = embedded(cells, seed=11) / SCALE + SHIFT
    difference = (drawn - out["z"]).abs().max().item()
    record[f"embedded euler against the host's, frames {pinned} pinned"] = difference
    compared[f"recraft {pinned}"] = out["z"]
    assert difference < 1e-4
    assert out["z"].std() > 0.1


def embedded(cells: dict[int, torch.Tensor], seed: int) -> torch.Tensor:
    """The same picture without a host: latents in the model's space."""
    model = Flux.from_state_dict(tiny.flux(tiny.PARAMS))
    generator = torch.Generator().manual_seed(1)  # TestConditioning(1)
    txt = torch.randn(1, 5, tiny.PARAMS.context_in_dim, generator=generator)
    vec = torch.randn(1, tiny.PARAMS.vec_in_dim, generator=generator)
    edge = 2 * CELL // 8
    noise = torch.randn(1, 16, edge, edge, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return flow.sample(
            lambda x, t: model(x, t, txt, vec, torch.full((1,), 3.5)),
            noise,
            flow.schedule(STEPS),
            pin=lambda x: paste(x, FOUR, cells),
        )


def test_guidance_batches_and_a_picture_for_every_grid(host: Host) -> None:
    g = Graph()
    image = picture(g, batch=2)
    encoded(g, image)
    node = recraft(g, NINE, image=image, latent=empty(g, NINE, batch=2))
    g.probe("z", g.sample(node[0], node[1], cfg=4.0, sampler_name="dpmpp_2m", scheduler="beta"))
    out = host.run(g)
    assert torch.equal(cell_of(out["z"], NINE, 8), out["cell"])
    assert not torch.equal(out["cell"][0], out["cell"][1])


def test_one_picture_serves_a_batch_and_a_partial_denoise(host: Host) -> None:
    g = Graph()
    image = picture(g)
    encoded(g, image)
    node = recraft(g, FOUR, image=image, latent=empty(g, FOUR, batch=2))
    g.probe("z", g.sample(node[0], node[1], denoise=0.5))
    out = host.run(g)
    assert torch.equal(cell_of(out["z"], FOUR, 3), out["cell"].expand(2, -1, -1, -1))


def test_the_model_wired_in_stays_free(host: Host) -> None:
    """One loaded model, kept by the host from run to run: free, pinned, then free again by another sampling node."""
    runs = []
    for pinned in (False, True, False):
        g = Graph()
        model, latent = g.flux()[0], empty(g, FOUR)
        if pinned:
            node = recraft(g, FOUR, model, latent=latent)
            again = recraft(g, FOUR, node[0], latent=node[1], image=picture(g, seed=9), frame=1)
            g.probe("one", g.sample(node[0], node[1], steps=STEPS))
            g.probe("two", g.sample(again[0], again[1], steps=STEPS))
        else:
            # The host would answer the same node with what it remembers.
            g.probe("free", custom(g, model, latent) if runs else g.sample(model, latent, steps=STEPS))
        runs.append(host.run(g))
    before, pins, after = runs
    assert torch.equal(before["free"], after["free"])
    assert not torch.equal(cell_of(pins["one"], FOUR, 0), cell_of(pins["two"], FOUR, 0))
    assert torch.equal(cell_of(pins["one"], FOUR, 3), cell_of(pins["two"], FOUR, 3))


def custom(g: Graph, model: list[Any], latent: list[Any]) -> list[Any]:
    """What `g.sample(model, latent, steps=STEPS)` gives, from the host's other sampling nodes."""
    return g.add(
        "SamplerCustomAdvanced",
        noise=g.add("RandomNoise", noise_seed=7)[0],
        guider=g.add("BasicGuider", model=model, conditioning=g.conditioning(1)[0])[0],
        sampler=g.add("KSamplerSelect", sampler_name="euler")[0],
        sigmas=g.add("BasicScheduler", model=model, scheduler="simple", steps=STEPS, denoise=1.0)[0],
        latent_image=latent,
    )[0]


def halfway(g: Graph, model: list[Any], latent: list[Any]) -> list[Any]:
    """The state after two of four euler steps."""
    return g.add(
        "KSamplerAdvanced", model=model, positive=g.conditioning(1)[0], negative=g.conditioning(2)[0],
        latent_image=latent, noise_seed=7, steps=STEPS, cfg=1.0, sampler_name="euler", scheduler="simple",
        add_noise="enable", start_at_step=0, end_at_step=2, return_with_leftover_noise="enable",
    )[0]  # fmt: skip


@pytest.mark.parametrize("stale", [False, True], ids=["alone", "over a stale cache"])
def test_the_state_runs_to_the_picture_on_a_straight_line(host: Host, stale: bool) -> None:
    """Half way the cell is sigma * noise + (1 - sigma) * picture, whatever wrappers lie below the pins."""
    g = Graph()
    image = picture(g)
    encoded(g, image)
    model = g.flux()
    node = recraft(g, FOUR, g.add("TestStale", model=model[0])[0] if stale else model[0], image=image)
    g.probe("half", halfway(g, node[0], node[1]))
    out = host.run(g)
    noise = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(7))
    sigma = flow.schedule(STEPS)[2]
    wanted = sigma * cell_of(noise, FOUR, 3) + (1 - sigma) * (out["cell"] - SHIFT) * SCALE
    # The host hands on a state with noise left in it divided by 1 - sigma.
    state = (cell_of(out["half"], FOUR, 3) - SHIFT) * SCALE * (1 - sigma)
    torch.testing.assert_close(state, wanted, atol=1e-5, rtol=0)


def test_every_scheduler_and_an_fp8_model_end_on_the_picture(host: Host) -> None:
    widget = host.get("/object_info/KSampler")["KSampler"]["input"]["required"]["scheduler"]
    names = widget[0] if isinstance(widget[0], list) else widget[1]["options"]
    assert len(names) >= 9
    g = Graph()
    image = picture(g)
    encoded(g, image)
    node = recraft(g, FOUR, image=image)
    for name in names:
        g.probe(name, g.sample(node[0], node[1], scheduler=name))
    fp8 = g.add("UNETLoader", unet_name=FLUX, weight_dtype="fp8_e4m3fn")
    pinned = recraft(g, FOUR, fp8[0], image=image)
    g.probe("fp8", g.sample(pinned[0], pinned[1]))
    out = host.run(g)
    assert not [name for name in [*names, "fp8"] if not torch.equal(cell_of(out[name], FOUR, 3), out["cell"])]
    assert out["fp8"].isfinite().all()
    assert not torch.equal(out["fp8"], out["simple"])


def test_all_frames_see_the_picture(host: Host) -> None:
    g = Graph()
    for seed in (3, 4):
        node = recraft(g, NINE, image=picture(g, seed=seed))
        g.probe(f"z{seed}", g.sample(node[0], node[1]))
    out = host.run(g)
    for frame in range(8):
        assert not torch.equal(cell_of(out["z3"], NINE, frame), cell_of(out["z4"], NINE, frame))


def test_two_stages_and_custom_sampling_agree_with_one(host: Host) -> None:
    g = Graph()
    node = recraft(g, FOUR)
    g.probe("one", g.sample(node[0], node[1], steps=STEPS))
    stage = {
        "model": node[0],
        "noise_seed": 7,
        "steps": STEPS,
        "cfg": 1.0,
        "sampler_name": "euler",
        "scheduler": "simple",
    }
    stage |= {"positive": g.conditioning(1)[0], "negative": g.conditioning(2)[0]}
    first = halfway(g, node[0], node[1])
    second = g.add(
        "KSamplerAdvanced", **stage, latent_image=first, add_noise="disable", start_at_step=2, end_at_step=99,
        return_with_leftover_noise="disable",
    )  # fmt: skip
    g.probe("half", first)
    g.probe("two", second[0])
    g.probe("custom", custom(g, node[0], node[1]))
    out = host.run(g)
    assert torch.equal(out["one"], out["custom"])
    assert torch.allclose(out["one"], out["two"], atol=1e-5)
    assert torch.equal(cell_of(out["one"], FOUR, 3), cell_of(out["two"], FOUR, 3))
    # Half way there is still noise in the cell: it is not the finished picture's place yet.
    assert not torch.allclose(cell_of(out["half"], FOUR, 3), cell_of(out["one"], FOUR, 3), atol=0.1)


def test_it_composes_with_caches_reference_latents_and_masks(host: Host) -> None:
    g = Graph()
    image = picture(g)
    encoded(g, image)
    node = recraft(g, FOUR, image=image)
    cached = g.add("EasyCache", model=node[0], reuse_threshold=0.5, start_percent=0.0, end_percent=1.0, verbose=False)
    g.probe("cached", g.sample(cached[0], node[1], steps=8))
    reference = g.add("VAEEncode", pixels=picture(g, seed=8), vae=g.vae()[0])
    positive = g.add("ReferenceLatent", conditioning=g.conditioning(1)[0], latent=reference[0])
    g.probe("reference", g.sample(node[0], node[1], positive=positive[0]))
    mask = g.add("SolidMask", value=1.0, width=2 * CELL, height=2 * CELL)
    masked = g.add("SetLatentNoiseMask", samples=node[1], mask=mask[0])
    g.probe("masked", g.sample(node[0], masked[0]))
    out = host.run(g)
    for name in ("cached", "reference", "masked"):
        assert torch.equal(cell_of(out[name], FOUR, 3), out["cell"]), name
    assert not torch.allclose(out["reference"], out["masked"], atol=1e-3)


def test_a_controlnet_sees_the_clean_picture_and_acts(host: Host) -> None:
    g = Graph()
    image = picture(g)
    encoded(g, image)
    node = recraft(g, FOUR, image=image)
    positive = g.add("TestControl", positive=g.conditioning(1)[0])
    controlled = g.sample(node[0], node[1], positive=positive[0])
    g.probe("controlled", controlled)
    g.probe("seen", g.add("TestControlSeen", after=controlled)[0])
    g.probe("free", g.sample(node[0], node[1]))
    out = host.run(g)
    clean = (out["cell"] - SHIFT) * SCALE
    assert len(out["seen"]) == 3
    torch.testing.assert_close(cell_of(out["seen"], FOUR, 3), clean.expand(3, -1, -1, -1), atol=1e-6, rtol=0)
    assert torch.equal(cell_of(out["controlled"], FOUR, 3), out["cell"])
    assert not torch.allclose(out["controlled"], out["free"], atol=1e-2)


def test_conditioning_of_an_area_keeps_the_picture(host: Host) -> None:
    g = Graph()
    image = picture(g)
    encoded(g, image)
    node = recraft(g, NINE, image=image)
    area = g.add("ConditioningSetArea", conditioning=g.conditioning(5)[0], width=64, height=64, x=0, y=0, strength=1.0)
    both = g.add("ConditioningCombine", conditioning_1=g.conditioning(1)[0], conditioning_2=area[0])
    g.probe("area", g.sample(node[0], node[1], positive=both[0]))
    g.probe("free", g.sample(node[0], node[1]))
    out = host.run(g)
    assert torch.equal(cell_of(out["area"], NINE, 8), out["cell"])
    assert not torch.allclose(cell_of(out["area"], NINE, 0), cell_of(out["free"], NINE, 0), atol=1e-2)


def test_start_and_end_percent(host: Host) -> None:
    g = Graph()
    image = picture(g)
    encoded(g, image)
    spans = {"all": (0.0, 1.0), "late": (0.5, 1.0), "early": (0.0, 0.5), "never": (1.0, 1.0), "none": (1.0, 0.0)}
    for name, span in spans.items():
        node = recraft(g, FOUR, image=image, start_percent=span[0], end_percent=span[1])
        g.probe(name, g.sample(node[0], node[1], steps=8))
    g.probe("free", g.sample(g.flux()[0], empty(g, FOUR), steps=8))
    out = host.run(g)
    tail = {name: cell_of(out[name], FOUR, 3) for name in (*spans, "free")}
    assert torch.equal(tail["all"], out["cell"])
    assert torch.equal(tail["late"], out["cell"])
    assert not torch.allclose(tail["early"], out["cell"], atol=1e-2)
    assert not torch.allclose(tail["early"], tail["free"], atol=1e-2)
    assert not torch.equal(cell_of(out["late"], FOUR, 0), cell_of(out["all"], FOUR, 0))
    assert torch.equal(out["never"], out["free"])
    assert torch.equal(out["none"], out["free"])


def test_a_picture_of_any_shape_is_padded_to_the_cell(host: Host) -> None:
    g = Graph()
    wide = g.add("TestImage", seed=1, height=20, width=80, batch=1)[0]
    node = recraft(g, NINE, image=wide, latent=empty(g, NINE))
    g.probe("latent", node[1])
    out = host.run(g)
    assert out["latent"].shape == (1, 16, 12, 12)
    assert torch.count_nonzero(cell_of(out["latent"], NINE, 0)) == 0
    assert torch.count_nonzero(cell_of(out["latent"], NINE, 8)) > 0


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda g: recraft(g, FOUR, frame=5), "frame 5, but a 2x2 grid has 4 frames"),
        (lambda g: recraft(g, NINE, latent=empty(g, FOUR)), "does not divide into 3 columns"),
        (lambda g: recraft(g, NINE, recraft(g, FOUR)[0]), "the same layout"),
        (lambda g: recraft(g, FOUR, image=picture(g, batch=3)), "3 pictures can't be shared out"),
        (
            lambda g: recraft(g, FOUR, g.add("TestOtherModel", kind="SDXL", latents="SDXL")[0]),
            "needs a FLUX.1 model",
        ),
    ],
)
def test_mistakes_get_a_sentence(host: Host, build: Any, sentence: str) -> None:
    g = Graph()
    node = build(g)
    g.probe("z", g.sample(node[0], node[1]))
    assert sentence in host.fails(g)


def test_a_grid_of_another_size_than_the_pin_is_refused(host: Host) -> None:
    g = Graph()
    node = recraft(g, FOUR)
    larger = g.add("EmptySD3LatentImage", width=4 * CELL, height=4 * CELL, batch_size=1)
    g.probe("z", g.sample(node[0], larger[0]))
    assert "same layout and size" in host.fails(g)


def test_without_a_latent_an_empty_grid_of_the_trained_size_is_made(host: Host) -> None:
    g = Graph()
    image = g.add("TestImage", seed=1, height=352, width=352, batch=1)[0]
    node = g.add(
        "MakeAnythingReCraft", model=g.flux()[0], vae=g.vae()[0], image=image, frame=0, start_percent=0.0,
        end_percent=1.0, **chosen(NINE),
    )  # fmt: skip
    g.probe("latent", node[1])
    encoded(g, image)
    out = host.run(g)
    assert torch.equal(cell_of(out["latent"], NINE, 8), out["cell"])
    assert out["latent"].shape == (1, 16, 132, 132)
