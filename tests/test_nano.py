"""FLUX-nano's parts, its shipped files, and drawing with them."""

import re

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny

from demo.nano import GRID, MODELS, STYLE, Nano, drawn, heads, read
from demo.scenes import domains, icons, style
from demo.trials import judge
from makeanything import serpentine
from makeanything.domains import find
from makeanything.lora_info import trigger_words
from makeanything.reference.autoencoder import COLOUR, PAPER, SCALE, SHIFT, Autoencoder
from makeanything.reference.merge import merge
from makeanything.serpentine import Layout
from makeanything.text_encoder import PAD, TOKENS, WORDS, TextEncoder, tokenize
from makeanything.weights_file import load, open_weights

LORAS = sorted(path.name for path in (MODELS / "loras").glob("*.safetensors"))
MOST = 40 * 10**6
"""Bytes that all shipped weights may have together."""


@pytest.fixture(scope="module")
def nano() -> Nano:
    return Nano()


def split(grid: torch.Tensor, frames: int) -> np.ndarray:
    """Frames of a drawn grid, uint8 (F, s, s, 3)."""
    return (serpentine.split(grid, Layout.of(frames))[0] * 255).round().byte().numpy()


def test_the_shipped_files_are_small_and_whole():
    files = sorted(MODELS.rglob("*.safetensors"))
    assert sum(path.stat().st_size for path in files) <= MOST
    for path in files:
        assert all(tensor.isfinite().all() for tensor in load(path).values()), path
    shipped = [domain.name for domain in heads(9).domains]
    assert shipped == [d.name for d in heads(4).domains] == [p.name for p in domains.PROCESSES][: len(shipped)]
    assert len(shipped) >= 10


@pytest.mark.parametrize("name", [name for name in LORAS if "heads" not in name])
def test_the_shipped_loras_change_every_layer_of_the_blocks(nano, name):
    lora = read(f"loras/{name}")
    merged = merge(nano.weights, lora)
    changed = {key for key, weight in merged.items() if not torch.equal(weight, nano.weights[key])}
    assert changed == {
        key for key in nano.weights if "blocks." in key and key.endswith(".weight") and "norm" not in key
    }


def test_text_to_process(nano):
    """Every process, in its order and in the colour of the prompt, on the whole."""
    order, monotone, colours = [], [], []
    for domain in heads(9).domains:
        scene = domains.random_scene(np.random.default_rng(1), domain.name)
        frames = split(nano.draw(domain, domain.name, domain.write_prompt(scene.caption), seed=1), 9)
        order.append(judge.in_order(frames))
        monotone.append(judge.monotone(frames))
        colours.append(judge.colour(frames[-1], scene) == scene.colour)
    # Frames in random order get 0.5 and 0.5.
    assert np.mean(order) > 0.8
    assert np.mean(monotone) > 0.75
    assert np.mean(colours) >= 0.7


@pytest.mark.parametrize("frames", [4, 9])
def test_picture_to_process_ends_on_the_picture(nano, frames):
    order = []
    for process, caption in (("Colouring", "a big green duck"), ("Bricks", "a big red house")):
        domain = heads(frames).domains[find(heads(frames).domains, process)]
        scene = domains.read_scene(process, caption, seed=5)
        picture = torch.from_numpy(domains.finished(scene, GRID // domain.layout.cols)).float() / 255
        prompt = domain.write_prompt(scene.caption)
        drawn = split(nano.draw(domain, process, prompt, 1, {domain.layout.tail: picture}), frames)
        alone = (nano.autoencoder.decode(nano.encode(picture, domain))[0] * 255).round().byte().numpy()
        # The neighbours' pixels reach a few pixels over the cell's edge through the decoder.
        assert judge.psnr(drawn[-1][8:-8, 8:-8], alone[8:-8, 8:-8]) > 35
        order.append(judge.in_order(drawn))
    assert np.mean(order) >= 0.75


def test_a_style_lora_stacks_on_a_head(nano):
    domain = heads(9).domains[find(heads(9).domains, "Bricks")]
    prompt = domain.write_prompt("a big red house")
    plain = split(nano.draw(domain, domain.name, prompt, 1), 9)
    styled = split(nano.draw(domain, domain.name, f"{prompt}, {style.PHRASE}", 1, style=1.0), 9)
    assert (judge.yellow_corners(plain), judge.yellow_corners(styled)) == (0, 1)
    assert judge.in_order(styled) >= 7 / 8


def test_the_style_lora_says_its_trigger_words():
    with open_weights(MODELS / STYLE) as file:
        assert trigger_words(file.metadata) == [style.PHRASE]


def test_autoencoder_is_a_taesd():
    """diffusers' TAESD with our weights encodes and decodes the same."""
    ours = Autoencoder()
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in ours.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
    theirs = AutoencoderTiny(latent_channels=16)
    state = {}
    for key, tensor in ours.state_dict().items():
        half, number, rest = key.split(".", 2)
        # Where the file's decoder has a layer for the clamp, theirs has a function.
        layer = int(number) - (half == "taesd_decoder")
        state[f"{half.removeprefix('taesd_')}.layers.{layer}.{rest}"] = tensor
    theirs.load_state_dict(state)
    pictures = torch.rand(2, 64, 48, 3)
    with torch.no_grad():
        latents = ours.encode(pictures)
        torch.testing.assert_close(
            latents, theirs.encode(pictures.movedim(-1, 1) * 2 - 1).latents, atol=1e-4, rtol=1e-4
        )
        drawn = theirs.decode(latents).sample.movedim(1, -1) / 2 + 0.5
        torch.testing.assert_close(ours.decode(latents), drawn.clamp(0, 1), atol=1e-4, rtol=1e-4)


def test_autoencoder_starts_as_a_blur_that_keeps_colours():
    model = Autoencoder()
    colours = torch.tensor([[0.8, 0.2, 0.3], [0.1, 0.6, 0.9]])
    flat = colours[:, None, None].expand(2, 64, 64, 3)
    with torch.no_grad():
        drawn = model.decode(model.encode(flat))
    # The clamp bends what is far from paper.
    wanted = PAPER + torch.tanh((flat - PAPER) * COLOUR / 3) * 3 / COLOUR
    assert (drawn[:, 28:36, 28:36] - wanted[:, 28:36, 28:36]).abs().max() < 0.02


def test_autoencoder_file_tells_the_latent_space():
    state = Autoencoder().to_file()
    assert (state["vae_scale"].item(), state["vae_shift"].item()) == pytest.approx((SCALE, SHIFT))
    assert set(Autoencoder.from_file(state).state_dict()) == set(state) - {"vae_scale", "vae_shift"}


def test_merge_is_the_closed_form():
    generator = torch.Generator().manual_seed(0)
    weight, down, up = (torch.randn(*shape, generator=generator) for shape in ((6, 5), (2, 5), (6, 2)))
    weights = {"single_blocks.0.linear1.weight": weight, "img_in.weight": torch.ones(3, 3)}
    name = "lora_unet_single_blocks_0_linear1"
    lora = {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": torch.tensor(3.0)}
    merged = merge(weights, lora, 0.5)
    torch.testing.assert_close(merged["single_blocks.0.linear1.weight"], weight + 0.5 * 3 / 2 * up @ down)
    assert merged["img_in.weight"] is weights["img_in.weight"]
    assert torch.equal(weights["single_blocks.0.linear1.weight"], weight)
    with pytest.raises(ValueError, match="img_attn_qkv, which this model does not have"):
        merge(
            weights, {k.replace("single_blocks_0_linear1", "double_blocks_0_img_attn_qkv"): v for k, v in lora.items()}
        )
    with pytest.raises(ValueError, match=r"\(6, 4\).*\(6, 5\)"):
        merge(weights, {**lora, f"{name}.lora_down.weight": down[:, :4]})


def test_tokens():
    assert tokenize("A cat, a CAT!")[:4] == [tokenize("a")[0], tokenize("cat")[0]] * 2
    assert tokenize("") == [PAD] * TOKENS
    assert len(tokenize("word " * 99)) == TOKENS and PAD not in tokenize("word " * 99)
    assert tokenize("3*3 of 9")[:4] == [tokenize(word)[0] for word in ("3", "3", "of", "9")]
    texts = [*domains.all_subjects(), *map(icons.word, icons.NAMES), *domains.COLOURS, *domains.SIZES, style.PHRASE]
    texts += [domain.prompt for p in domains.PROCESSES for domain in (domains.domain(p, Layout.of(n)) for n in (4, 9))]
    words = {word.lower() for text in texts for word in re.findall(r"\w+", text)}
    assert len({tokenize(word)[0] for word in words}) == len(words)  # no two words of the demo share a row


def test_text_encoder_ignores_what_is_not_written():
    torch.manual_seed(0)
    encoder = TextEncoder().eval()
    with torch.no_grad():
        one, _ = encoder.encode(["a cat"]), encoder.encode(["a dog"])
        both = encoder.encode(["a cat", "a dog"])
    torch.testing.assert_close(both[0][:1], one[0])
    assert not torch.allclose(both[1][0], both[1][1])


def test_other_files_are_no_text_encoder(nano):
    with pytest.raises(ValueError, match="not the weights of FLUX-nano's text encoder"):
        TextEncoder.from_state_dict(nano.weights)


@pytest.mark.parametrize("rows", [2048, WORDS])
def test_text_encoders_have_as_many_words_as_their_files(rows):
    torch.manual_seed(rows)
    encoder = TextEncoder(rows).eval()
    again = TextEncoder.from_state_dict(encoder.state_dict())
    with torch.no_grad():
        assert torch.equal(again.encode(["a big red house"])[0], encoder.encode(["a big red house"])[0])
        assert torch.equal(encoder(torch.tensor([tokenize("a cat", rows)]))[1], encoder.encode(["a cat"])[1])
    state = {**encoder.state_dict(), "words.weight": encoder.words.weight[:, :-1]}
    with pytest.raises(ValueError, match=r"words\.weight has shape \(\d+, 127\), needed \(\d+, 128\)"):
        TextEncoder.from_state_dict(state)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint16, torch.complex64])
def test_types_that_weights_never_have_are_no_text_encoder(dtype):
    state = TextEncoder(2).state_dict()
    state["places"] = state["places"].to(dtype)
    with pytest.raises(ValueError, match=r"^these are not the weights of FLUX-nano's text encoder: places is of type "):
        TextEncoder.from_state_dict(state)


@pytest.mark.parametrize("frames", [4, 9])
def test_the_shipped_heads_say_how_they_are_drawn(frames):
    for domain in heads(frames).domains:
        assert domain.drawn == drawn(domain.layout)
        assert domain.cell * domain.layout.cols == GRID
