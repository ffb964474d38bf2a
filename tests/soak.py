"""A ComfyUI under load: hundreds of prompts over all nodes, each unlike the last, and what they leave behind.

    python -m tests.soak --prompts 500 --fresh 10 [--comfyui ~/ComfyUI]

Prints a table: after every 50 prompts, with the models unloaded, the server's memory, the hooks on its modules, and its
open files.  Some prompts are cancelled and some fail, as people's do.  In the end a few run again, each alone in a
fresh server, whose tensors and files must be the same to the bit.  It is no part of the normal tests.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image, ImageSequence

from benchmarks.comfyuis import interpreter
from tests.host import tiny
from tests.host.server import FLUX, Graph, Host, HostError, Node, prepare

EVERY, WARM_UP = 50, 50
MOST_MEGABYTES = 20
NANO = {
    9: ("flux_nano_heads_9f.safetensors", "flux_nano_recraft_9f.safetensors", 64),
    4: ("flux_nano_heads_4f.safetensors", "flux_nano_recraft_4f.safetensors", 96),
}
"""Frames -> heads, ReCraft, and pixels of a cell."""
PROCESSES = (
    "Bricks", "Line drawing", "Colouring", "Mosaic", "Tree", "Rings", "Painting", "Lettering", "Clay", "Carving",
)  # fmt: skip
TINY_HEADS = "tiny_heads.safetensors"
STYLE = "flux_nano_parchment_style.safetensors"
WAYS = ("auto", "patch", "branch")


def graph(number: int) -> Graph:
    """Prompt `number`: the same each time, and another one for each number."""
    rng, g = random.Random(number), Graph()
    if rng.random() < 0.2:
        tiny_prompt(g, rng)
    else:
        nano_prompt(g, rng, number)
    return g


def tiny_prompt(g: Graph, rng: random.Random) -> None:
    """The tests' FLUX with random weights, and its heads."""
    model = g.flux(FLUX)[0]
    domain = rng.choice(("Portrait", "Sketch"))
    options = {"strength": rng.uniform(0.2, 1.2), "apply": rng.choice(WAYS)}
    if rng.random() < 0.5:
        head = g.add("MakeAnythingApplyDomainHead", model=model, heads=TINY_HEADS, domain=domain, **options)
    else:
        head = mix(g, model, TINY_HEADS, ("Portrait", "Sketch"), rng, options)
    latent = g.add("EmptySD3LatentImage", width=96, height=96, batch_size=rng.choice((1, 2)))
    z = g.sample(head[0], latent[0], seed=rng.randrange(10**6), steps=2)
    g.probe("z", z)
    image = g.add("VAEDecode", samples=z, vae=g.vae()[0])[0]
    show(g, rng, image, {"layout": rng.choice(("9 frames (3x3)", "4 frames (2x2)"))}, "tiny")


def mix(
    g: Graph, model: list[Any], heads: str, domains: tuple[str, str], rng: random.Random, options: dict[str, Any]
) -> Node:
    rows: dict[str, Any] = {f"domain_{row}": domains[row % 2] for row in range(1, 5)}
    rows |= {f"weight_{row}": rng.uniform(0.1, 0.9) if row < 3 else 0.0 for row in range(1, 5)}
    return g.add("MakeAnythingMixDomainHeads", model=model, heads=heads, **rows, **options)


def nano_prompt(g: Graph, rng: random.Random, number: int) -> None:
    frames = rng.choice((9, 4))
    heads, recraft, cell = NANO[frames]
    domain = rng.choice(PROCESSES)
    options = {"strength": rng.choice((0.5, 1.0)), "apply": rng.choice(WAYS)}
    plain = g.flux("flux_nano.safetensors")[0]
    way = rng.randrange(3)
    if way == 0:
        names = {"unet_name": "flux_nano.safetensors", "weight_dtype": "default", "heads": heads}
        head = g.add("MakeAnythingLoadFluxWithDomain", **names, domain=domain, **options)
    elif way == 1:
        head = g.add("MakeAnythingApplyDomainHead", model=plain, heads=heads, domain=domain, **options)
    else:
        head = mix(g, plain, heads, (domain, rng.choice(PROCESSES)), rng, options)
    clip = g.add("MakeAnythingLoadNanoTextEncoder", text_encoder="flux_nano_text.safetensors")[0]
    vae = g.add("VAELoader", vae_name="flux_nano_ae.safetensors")[0]
    model, wired = head[0], {"layout": "from domain", "domain": head[1]}
    pins = rng.random() < 0.5
    if pins or rng.random() < 0.3:
        model = stack(g, model, clip, rng, recraft if pins else STYLE)
    text = g.add("MakeAnythingProcessPrompt", domain=head[1], subject=f"a big red house, {number}", steps="")
    latent = g.add("MakeAnythingEmptyGrid", **wired, cell=cell, batch_size=rng.choice((1, 1, 2)))[0]
    if pins:
        size = rng.choice((40, 64, 97))
        image = g.add("TestImage", seed=number, height=size, width=size + rng.randrange(20), batch=1)[0]
        times = {"start_percent": 0.0, "end_percent": rng.choice((0.6, 1.0))}
        held = g.add(
            "MakeAnythingReCraft", model=model, vae=vae, image=image, **wired, frame=rng.choice((0, 1)), **times,
            latent=latent,
        )  # fmt: skip
        model, latent = held[0], held[1]
    words = {
        "positive": g.add("CLIPTextEncode", text=text[0], clip=clip)[0],
        "negative": g.add("CLIPTextEncode", text="", clip=clip)[0],
    }
    sampler = rng.choice(("euler", "heun", "dpmpp_2m"))
    z = g.sample(model, latent, seed=number, steps=2, cfg=rng.choice((1.0, 2.0)), sampler_name=sampler, **words)
    g.probe("z", z)
    show(g, rng, g.add("VAEDecode", samples=z, vae=vae)[0], wired, "nano")
    if rng.random() < 0.2:
        names = {"heads": heads, "domain": domain, "file_name": f"soak/{rng.randrange(3)}", "overwrite": True}
        g.add("MakeAnythingExtractHead", **names)


def stack(g: Graph, model: list[Any], clip: list[Any], rng: random.Random, file: str) -> list[Any]:
    rows: dict[str, Any] = {}
    for row in range(1, 6):
        name = file if row == 1 else (STYLE if row == 2 and rng.random() < 0.5 else "none")
        rows |= {f"on_{row}": True, f"lora_{row}": name, f"model_{row}": rng.uniform(0.5, 1.0), f"clip_{row}": 1.0}
    return g.add("MakeAnythingLoraStack", model=model, clip=clip, **rows, apply=rng.choice(WAYS))[0]


def show(g: Graph, rng: random.Random, grids: list[Any], layout: dict[str, Any], name: str) -> None:
    """What is done with a drawn grid."""
    frames = g.add("MakeAnythingSplitFrames", grids=grids, trim_gutters=rng.random() < 0.5, **layout)[0]
    g.probe("frames", frames)
    g.probe("again", g.add("MakeAnythingComposeGrid", frames=frames, **layout)[0])
    options = {"captions": "one\ntwo " + "long" * rng.randrange(300), "numbered": True, "columns": rng.randrange(4)}
    g.probe("sheet", g.add("MakeAnythingContactSheet", frames=frames, **options)[0])
    times = {"fps": rng.choice((2.0, 6.0)), "hold_last": rng.choice((0.0, 1.0)), "crossfade": rng.choice((0.0, 0.3))}
    g.probe("timeline", g.add("MakeAnythingAnimateSequence", frames=frames, **times, ping_pong=rng.random() < 0.3)[0])
    kinds = {"png": True, "gif": rng.random() < 0.5, "webp": rng.random() < 0.5}
    times = {"fps": 2.0, "hold_last": 1.0, "loop": True}
    g.add("MakeAnythingSaveSequence", frames=frames, filename_prefix=f"soak/{name}", **kinds, **times)


def digest(host: Host, g: Graph) -> str:
    """Of every tensor that a prompt gives, and of the pixels of every file that it saves."""
    out = host.run(g, seconds=300)
    found = hashlib.sha256()
    for name in sorted(out):
        found.update(name.encode() + out[name].contiguous().numpy().tobytes())
    for output in out.outputs.values():
        for item in output.get("images", ()):
            # Their names count on, and their metadata has the dates of the models' files.
            if item["type"] == "output":
                with Image.open(Path(host.base, "output", item["subfolder"], item["filename"])) as image:
                    for frame in ImageSequence.Iterator(image):
                        found.update(frame.convert("RGB").tobytes())
    return found.hexdigest()


def disturb(host: Host, number: int) -> None:
    """A prompt that fails, and one that is cancelled at once."""
    g = graph(number)
    g.add("MakeAnythingExtractHead", heads=TINY_HEADS, domain="Nothing", file_name="", overwrite=False)
    assert "has no domain" in host.fails(g) or "there is no domain" in host.fails(g)
    reply = json.loads(host.post("/prompt", {"prompt": graph(number + 1).nodes}))
    host.post("/interrupt", {})
    deadline = time.monotonic() + 300
    while not host.get(f"/history/{reply['prompt_id']}") and time.monotonic() < deadline:
        host.get("/queue")


def left(host: Host) -> dict[str, float]:
    """What the server holds when its models are unloaded and no prompt's results are kept."""
    # The host keeps every prompt of its history, with what it showed.
    host.post("/history", {"clear": True})
    host.post("/free", {"unload_models": True, "free_memory": True})
    g = Graph()
    g.probe("counts", g.add("TestCounts")[0])
    # It may free only after the next prompt.
    host.run(g)
    counts: dict[str, float] = host.run(g)["counts"]
    assert host.process is not None
    folder = Path("/proc", str(host.process.pid))
    for line in (folder / "status").read_text().splitlines():
        if line.startswith("VmRSS"):
            counts["memory"] = int(line.split()[1]) / 1024
    # Not the connections that are open in this moment.
    links = [str(link.readlink()) for link in (folder / "fd").iterdir()]
    return {**counts, "files": sum(not link.startswith("socket:") for link in links)}


def servers(comfyui: Path) -> Iterator[Host]:
    """Fresh servers, each with a folder of its own."""
    python = interpreter(comfyui, "import torch, aiohttp, safetensors")
    assert python, f"{comfyui} has no Python that can run it"
    while True:
        with tempfile.TemporaryDirectory() as folder:
            base = Path(folder)
            prepare(base)
            tiny.save_heads(base / "models/loras" / TINY_HEADS)
            host = Host(comfyui, base, python)
            try:
                host.start()
                yield host
            finally:
                host.stop()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--fresh", type=int, default=10, help="prompts to run again, each in a fresh server")
    parser.add_argument("--comfyui", type=Path, default=Path("~/ComfyUI"))
    options = parser.parse_args()
    comfyui = options.comfyui.expanduser()
    fresh = servers(comfyui)
    host = next(fresh)
    digests: dict[int, str] = {}
    rows = []
    print("| prompts | seconds | memory, MB | Python objects | hooks | open files |\n|--|--|--|--|--|--|", flush=True)
    begun = time.monotonic()
    for number in range(1, options.prompts + 1):
        try:
            digests[number] = digest(host, graph(number))
        except HostError as error:
            print(f"prompt {number} failed: {error}\n{json.dumps(graph(number).nodes)}", file=sys.stderr)
            return 1
        if number % 20 == 0:
            disturb(host, number)
        if number % EVERY == 0:
            rows.append(row := left(host))
            numbers = " | ".join(f"{row[name]:,.0f}" for name in ("memory", "objects", "hooks", "files"))
            print(f"| {number} | {time.monotonic() - begun:.0f} | {numbers} |", flush=True)
    picked = random.Random(0).sample(sorted(digests), min(options.fresh, len(digests)))
    same = [digest(next(fresh), graph(number)) == digests[number] for number in picked]
    first = rows[WARM_UP // EVERY - 1]
    grown = max(row["memory"] for row in rows) - first["memory"]
    files = max(row["files"] for row in rows) - first["files"]
    hooks = max(row["hooks"] for row in rows)
    print(f"\nAfter {WARM_UP} prompts: memory grew by {grown:.1f} MB, open files by {files:.0f}; {hooks:.0f} hooks.")
    print(f"{sum(same)} of {len(same)} prompts gave the same bits in a fresh server.")
    fresh.close()
    return 0 if grown <= MOST_MEGABYTES and files <= 0 and hooks == 0 and all(same) else 1


if __name__ == "__main__":
    sys.exit(main())
