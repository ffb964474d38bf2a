"""What LoRA files say about themselves."""

import json

import pytest

from makeanything import lora_info
from makeanything.lora_info import MOST_WORDS, WORD_CHARACTERS, layer_of, trigger_words


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({}, []),
        ({"modelspec.trigger_phrase": "inkstyle, wet paper,"}, ["inkstyle", "wet paper"]),
        ({"ss_trained_words": '["sks dog", "sks dog", "a dog"]'}, ["sks dog", "a dog"]),
        ({"ss_trained_words": "sks dog, a dog"}, ["sks dog", "a dog"]),
        (
            {"ss_datasets": json.dumps([{"subsets": [{"class_tokens": "ohwx man"}, {"class_tokens": None}]}])},
            ["ohwx man"],
        ),
        ({"ss_tag_frequency": json.dumps({"a": {"x": 9, "y": 4}, "b": {"y": 2, "z": 4}})}, ["x", "y"]),
        ({"ss_tag_frequency": json.dumps({"a": {str(n): 1 for n in range(9)}})}, ["0", "1", "2", "3", "4"]),
    ],
)
def test_trigger_words(metadata: dict[str, str], words: list[str]) -> None:
    assert trigger_words(metadata) == words


@pytest.mark.parametrize(
    "text",
    [
        '[{"bucket_info":{"mean_img_ar_error":NaN},"subsets":[{"class_tokens":"sks dog"}]}]',
        '[{"subsets":[],"subsets":[{"class_tokens":"sks dog"}]}]',
    ],
)
def test_what_kohya_writes_and_json_has_not(text: str) -> None:
    assert trigger_words({"ss_datasets": text}) == ["sks dog"]


@pytest.mark.parametrize("words_of", [lora_info._split, lora_info._trained])
def test_no_more_words_are_made_than_are_needed(words_of) -> None:
    assert MOST_WORDS <= len(words_of("a," * 10**6)) < MOST_WORDS * (WORD_CHARACTERS + 2)


def test_a_word_that_is_cut_is_none() -> None:
    text = "ink," + ", " * 10**5 + "x" * 10**6
    assert trigger_words({"modelspec.trigger_phrase": text}) == ["ink"]
    words = ["x" * (WORD_CHARACTERS - 3) + f"{n:03}" for n in range(MOST_WORDS + 50)]
    assert trigger_words({"modelspec.trigger_phrase": ", ".join(words)}) == words[:MOST_WORDS]


def test_the_best_source_wins() -> None:
    tags = json.dumps({"a": {"window": 3}})
    assert trigger_words({"ss_tag_frequency": tags, "modelspec.trigger_phrase": "ink"}) == ["ink"]
    assert trigger_words({"ss_tag_frequency": tags, "modelspec.trigger_phrase": " "}) == ["window"]


@pytest.mark.parametrize(
    "text", ["", "{", "3", "null", "[3]", '{"a": 3}', '{"a": {"b": "c"}}', '[{"subsets": [3]}]', '[{"subsets": 3}]']
)
def test_odd_headers_hold_no_words(text: str) -> None:
    assert trigger_words({"ss_tag_frequency": text, "ss_datasets": text}) == []


@pytest.mark.parametrize(
    ("key", "layer"),
    [
        ("lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight", "lora_unet_double_blocks_0_img_attn_qkv"),
        ("lora_unet_double_blocks_0_img_attn_qkv.alpha", "lora_unet_double_blocks_0_img_attn_qkv"),
        (
            "transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight",
            "transformer.single_transformer_blocks.0.attn.to_q",
        ),
        ("diffusion_model.img_in.lora_up.weight", "diffusion_model.img_in"),
        ("unet.x.lora.down.weight", "unet.x"),
        ("lora_unet_x.hada_w1_a", "lora_unet_x"),
        ("lora_unet_x.diff_b", "lora_unet_x"),
        ("something.else", "something.else"),
    ],
)
def test_layer_of(key: str, layer: str) -> None:
    assert layer_of(key) == layer


def test_known_layers_come_first() -> None:
    assert layer_of("a.b.c.lora_A.weight", {"a", "a.b"}) == "a.b"
