"""The reference FLUX against diffusers' FluxTransformer2DModel with the same random weights."""

import pytest
import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor

from makeanything.reference.flux import Flux, FluxParams

HIDDEN = 256
PARAMS = FluxParams(hidden_size=HIDDEN, depth=1, depth_single_blocks=2, context_in_dim=32, vec_in_dim=16)

EMBEDDERS = {"time_in": "timestep_embedder", "vector_in": "text_embedder", "guidance_in": "guidance_embedder"}
DOUBLE = {
    "norm1.linear": "img_mod.lin",
    "norm1_context.linear": "txt_mod.lin",
    "attn.to_out.0": "img_attn.proj",
    "attn.to_add_out": "txt_attn.proj",
    "ff.net.0.proj": "img_mlp.0",
    "ff.net.2": "img_mlp.2",
    "ff_context.net.0.proj": "txt_mlp.0",
    "ff_context.net.2": "txt_mlp.2",
}
"""diffusers' layer -> BFL's."""
DOUBLE_NORMS = {
    "attn.norm_q": "img_attn.norm.query_norm",
    "attn.norm_k": "img_attn.norm.key_norm",
    "attn.norm_added_q": "txt_attn.norm.query_norm",
    "attn.norm_added_k": "txt_attn.norm.key_norm",
}
SINGLE = {"norm.linear": "modulation.lin", "proj_out": "linear2"}
SINGLE_NORMS = {"attn.norm_q": "norm.query_norm", "attn.norm_k": "norm.key_norm"}


def to_diffusers(bfl: dict[str, Tensor]) -> dict[str, Tensor]:
    """BFL's names and fused layers -> diffusers' names and separate layers."""
    state = {}
    for kind in ("weight", "bias"):
        state[f"x_embedder.{kind}"] = bfl[f"img_in.{kind}"]
        state[f"context_embedder.{kind}"] = bfl[f"txt_in.{kind}"]
        state[f"proj_out.{kind}"] = bfl[f"final_layer.linear.{kind}"]
        shift, scale = bfl[f"final_layer.adaLN_modulation.1.{kind}"].chunk(2)
        state[f"norm_out.linear.{kind}"] = torch.cat((scale, shift))
        for ours, theirs in EMBEDDERS.items():
            if f"{ours}.in_layer.{kind}" in bfl:
                state[f"time_text_embed.{theirs}.linear_1.{kind}"] = bfl[f"{ours}.in_layer.{kind}"]
                state[f"time_text_embed.{theirs}.linear_2.{kind}"] = bfl[f"{ours}.out_layer.{kind}"]
        for i in range(count(bfl, "double_blocks")):
            theirs, ours = f"transformer_blocks.{i}", f"double_blocks.{i}"
            for their_layer, our_layer in DOUBLE.items():
                state[f"{theirs}.{their_layer}.{kind}"] = bfl[f"{ours}.{our_layer}.{kind}"]
            for stream, names in (
                ("img", ("to_q", "to_k", "to_v")),
                ("txt", ("add_q_proj", "add_k_proj", "add_v_proj")),
            ):
                for name, part in zip(names, bfl[f"{ours}.{stream}_attn.qkv.{kind}"].chunk(3), strict=True):
                    state[f"{theirs}.attn.{name}.{kind}"] = part
        for i in range(count(bfl, "single_blocks")):
            theirs, ours = f"single_transformer_blocks.{i}", f"single_blocks.{i}"
            for their_layer, our_layer in SINGLE.items():
                state[f"{theirs}.{their_layer}.{kind}"] = bfl[f"{ours}.{our_layer}.{kind}"]
            fused = bfl[f"{ours}.linear1.{kind}"]
            hidden = fused.shape[0] // 7
            parts = fused.split([hidden, hidden, hidden, 4 * hidden])
            for name, part in zip(("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"), parts, strict=True):
                state[f"{theirs}.{name}.{kind}"] = part
    for blocks, ours, norms in (
        ("transformer_blocks", "double_blocks", DOUBLE_NORMS),
        ("single_transformer_blocks", "single_blocks", SINGLE_NORMS),
    ):
        for i in range(count(bfl, ours)):
            for their_norm, our_norm in norms.items():
                state[f"{blocks}.{i}.{their_norm}.weight"] = bfl[f"{ours}.{i}.{our_norm}.scale"]
    return state


def count(bfl: dict[str, Tensor], blocks: str) -> int:
    return len({key.split(".")[1] for key in bfl if key.startswith(f"{blocks}.")})


def random_flux(params: FluxParams = PARAMS, seed: int = 0) -> Flux:
    """Every weight random, the norms' scales too: a weight left at 1 or 0 would hide a missing one."""
    model = Flux(params)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            spread = weight.shape[-1] ** -0.5 if weight.ndim == 2 else 0.3
            weight.copy_(torch.randn(weight.shape, generator=generator) * spread + name.endswith("scale"))
    return model.eval()


def theirs(model: Flux) -> FluxTransformer2DModel:
    params = model.params
    other = FluxTransformer2DModel(
        in_channels=64,
        num_layers=params.depth,
        num_single_layers=params.depth_single_blocks,
        attention_head_dim=128,
        num_attention_heads=params.num_heads,
        joint_attention_dim=params.context_in_dim,
        pooled_projection_dim=params.vec_in_dim,
        guidance_embeds=params.guidance_embed,
        axes_dims_rope=(16, 56, 56),
    )
    other.load_state_dict(to_diffusers(model.state_dict()), strict=True)
    return other.eval()


def inputs(batch: int = 2, height: int = 6, width: int = 10, seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "latents": torch.randn(batch, 16, height, width, generator=generator),
        "t": torch.linspace(0.9, 0.2, batch),
        "txt": torch.randn(batch, 7, PARAMS.context_in_dim, generator=generator),
        "vec": torch.randn(batch, PARAMS.vec_in_dim, generator=generator),
        "guidance": torch.linspace(1.0, 3.5, batch),
    }


def run_theirs(
    other: FluxTransformer2DModel, latents: Tensor, t: Tensor, txt: Tensor, vec: Tensor, guidance: Tensor | None
) -> Tensor:
    """Packs tokens with plain loops: 2 x 2 latents a token, channel slowest."""
    batch, channels, height, width = latents.shape
    places = [(row, col) for row in range(height // 2) for col in range(width // 2)]
    tokens = torch.stack(
        [latents[:, :, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2].reshape(batch, channels * 4) for r, c in places], dim=1
    )
    out = other(
        hidden_states=tokens,
        encoder_hidden_states=txt,
        pooled_projections=vec,
        timestep=t,
        guidance=guidance,
        txt_ids=torch.zeros(txt.shape[1], 3),
        img_ids=torch.tensor([[0, row, col] for row, col in places], dtype=torch.float32),
        return_dict=False,
    )[0]
    velocity = torch.zeros_like(latents)
    for token, (row, col) in enumerate(places):
        velocity[:, :, 2 * row : 2 * row + 2, 2 * col : 2 * col + 2] = out[:, token].reshape(batch, channels, 2, 2)
    return velocity


@pytest.mark.parametrize(
    "params",
    [
        PARAMS,
        FluxParams(hidden_size=128, depth=2, depth_single_blocks=1, context_in_dim=32, vec_in_dim=16),
        FluxParams(384, depth=1, depth_single_blocks=1, context_in_dim=32, vec_in_dim=16, guidance_embed=False),
    ],
    ids=["2 heads", "1 head", "3 heads, no guidance"],
)
@torch.no_grad()
def test_it_is_diffusers_flux(params):
    model, given = random_flux(params), inputs()
    if not params.guidance_embed:
        given["guidance"] = None
    ours, reference = model(**given), run_theirs(theirs(model), **given)
    assert ours.shape == given["latents"].shape
    assert reference.abs().mean() > 0.1, "a model that answers with nothing compares well to everything"
    assert (ours - reference).abs().max() <= 1e-4


@torch.no_grad()
def test_the_norms_guard_small_values_as_diffusers_does():
    """Weights so small that the epsilons of the norms decide."""
    model, given = random_flux(), inputs()
    for name, weight in model.named_parameters():
        if name.startswith(("img_in", "txt_in")) or ".qkv." in name or ".linear1." in name:
            weight.mul_(1e-3)
    assert (model(**given) - run_theirs(theirs(model), **given)).abs().max() <= 1e-4


@torch.no_grad()
def test_every_weight_matters_to_the_comparison():
    """Changing any one weight moves the answer past the tolerance, so the comparison covers each."""
    small = FluxParams(hidden_size=128, depth=1, depth_single_blocks=1, context_in_dim=32, vec_in_dim=16)
    model, given = random_flux(small), inputs(batch=1, height=4, width=4)
    before = model(**given)
    for name, weight in model.named_parameters():
        weight.mul_(1.5)
        assert (model(**given) - before).abs().max() > 1e-4, name
        weight.div_(1.5)


@torch.no_grad()
def test_every_input_matters():
    model, given = random_flux(), inputs()
    before = model(**given)
    for name, value in given.items():
        moved = model(**{**given, name: value * 0.9 + 0.01})
        assert (moved - before).abs().amax(dim=(1, 2, 3)).min() > 1e-3, name


@torch.no_grad()
def test_a_batch_is_its_items():
    model, given = random_flux(), inputs(batch=3)
    together = model(**given)
    for item in range(3):
        alone = model(**{name: value[item : item + 1] for name, value in given.items()})
        torch.testing.assert_close(together[item : item + 1], alone, rtol=1e-4, atol=1e-5)


def test_guidance_is_needed_only_where_it_is_embedded():
    given = inputs()
    given.pop("guidance")
    with pytest.raises(ValueError, match="has a guidance embedding and needs a guidance"):
        random_flux()(**given)
    blind = random_flux(FluxParams(128, 1, 1, context_in_dim=32, vec_in_dim=16, guidance_embed=False))
    with torch.no_grad():
        assert torch.equal(blind(**given), blind(**given, guidance=torch.ones(2)))


# Parameters


@pytest.mark.parametrize(
    "params",
    [
        PARAMS,
        FluxParams(128, 3, 1, context_in_dim=8, vec_in_dim=5, guidance_embed=False),
        FluxParams(128, 1, 12, context_in_dim=8, vec_in_dim=5, mlp_ratio=2),
    ],
)
def test_params_are_read_off_the_weights(params):
    with torch.device("meta"):
        state = Flux(params).state_dict()
    assert FluxParams.from_state_dict(state) == params


def test_the_defaults_are_flux_dev():
    """Shapes as published with FLUX.1-dev: 12 B parameters."""
    with torch.device("meta"):
        model = Flux(FluxParams())
    state = model.state_dict()
    assert FluxParams().num_heads == 24
    assert sum(weight.numel() for weight in state.values()) == 11_901_408_320
    assert len(state) == 780
    shapes = {
        "img_in.weight": (3072, 64),
        "txt_in.weight": (3072, 4096),
        "vector_in.in_layer.weight": (3072, 768),
        "guidance_in.in_layer.weight": (3072, 256),
        "double_blocks.18.img_attn.qkv.weight": (9216, 3072),
        "double_blocks.0.txt_attn.norm.key_norm.scale": (128,),
        "double_blocks.0.img_mlp.0.weight": (12288, 3072),
        "double_blocks.0.txt_mod.lin.weight": (18432, 3072),
        "single_blocks.37.linear1.weight": (21504, 3072),
        "single_blocks.0.linear2.weight": (3072, 15360),
        "single_blocks.0.modulation.lin.bias": (9216,),
        "final_layer.adaLN_modulation.1.weight": (6144, 3072),
        "final_layer.linear.weight": (64, 3072),
    }
    assert {key: tuple(state[key].shape) for key in shapes} == shapes


@pytest.mark.parametrize("hidden", [0, 64, 200, -128])
def test_a_width_that_is_no_whole_number_of_heads_is_refused(hidden):
    with pytest.raises(ValueError, match=f"hidden_size must be a multiple of 128, the width of a head: {hidden}"):
        FluxParams(hidden_size=hidden)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_comes_from_its_weights_alone(dtype):
    model = random_flux().to(dtype)
    given = {name: value.to(dtype) for name, value in inputs().items()}
    copy = Flux.from_state_dict(model.state_dict())
    assert {weight.dtype for weight in copy.parameters()} == {dtype}
    assert torch.equal(copy(**given), model(**given))


@torch.no_grad()
def test_half_precision_stays_close():
    given = inputs()
    exact = random_flux()(**given)
    # Times stay in float32: 0.9 and 0.8984 are far apart in the embedding, which counts in thousandths.
    half = {name: value if name in ("t", "guidance") else value.to(torch.bfloat16) for name, value in given.items()}
    rough = random_flux().to(torch.bfloat16)(**half)
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).abs().mean() < 0.03 * exact.abs().mean()


@pytest.mark.parametrize(
    "missing", ["img_in.weight", "txt_in.weight", "vector_in.in_layer.weight", "single_blocks.0.linear2.weight"]
)
def test_weights_of_another_model_are_refused_by_name(missing):
    state = random_flux().state_dict()
    del state[missing]
    with pytest.raises(ValueError, match=f"these are not FLUX weights with BFL names: '{missing}' is missing"):
        Flux.from_state_dict(state)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("txt_in.weight", torch.ones(4), "a layer at the entrance has no width"),
        ("img_in.weight", torch.tensor(1.0), "a layer at the entrance has no width"),
        ("img_in.weight", torch.ones(0, 64), "a layer at the entrance has no width|multiple of 128"),
        ("more", torch.ones(1), "a FLUX of this size: more does not belong there"),
        ("final_layer.linear.bias", torch.ones(3), r"has shape \(3,\), needed \(64,\)"),
        ("final_layer.linear.bias", torch.ones(64, dtype=torch.int64), "is of type int64"),
        ("final_layer.linear.bias", torch.ones(64, dtype=torch.complex64), "is of type complex64"),
        ("final_layer.linear.bias", None, "final_layer.linear.bias is missing"),
    ],
)
def test_odd_weights_are_named(name, tensor, message):
    """They raised whatever torch and Python have, or were trained on."""
    state = random_flux().state_dict() | {name: tensor}
    with pytest.raises(ValueError, match=message):
        Flux.from_state_dict({key: value for key, value in state.items() if value is not None})


def test_gradients_reach_every_weight_and_the_latents():
    model, given = random_flux(), inputs(batch=1, height=4, width=4)
    given["latents"].requires_grad_()
    model(**given).square().mean().backward()
    assert given["latents"].grad.abs().sum() > 0
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        assert weight.grad.abs().sum() > 0, name
