"""The pack in the host: it loads, and the harness itself works."""

from __future__ import annotations

import torch

from . import tiny
from .server import PACK, Graph, Host


def test_pack_loads(host: Host) -> None:
    log = host.log()
    assert PACK in log
    assert "IMPORT FAILED" not in log


def test_harness_samples(host: Host) -> None:
    g = Graph()
    latent = g.add("EmptySD3LatentImage", width=64, height=32, batch_size=2)
    z = g.sample(g.flux()[0], latent[0])
    g.probe("harness_z", z)
    g.probe("harness_image", g.add("VAEDecode", samples=z, vae=g.vae()[0])[0])
    g.probe("harness_weight", g.add("TestWeight", model=g.flux()[0], key="diffusion_model.img_in.weight")[0])
    out = host.run(g)
    assert out["harness_z"].shape == (2, 16, 4, 8)
    assert out["harness_z"].std() > 0.1
    assert out["harness_z"].isfinite().all()
    assert out["harness_image"].shape == (2, 32, 64, 3)
    assert out["harness_image"].std() > 0.01
    assert torch.equal(out["harness_weight"], tiny.flux(tiny.PARAMS)["img_in.weight"])
