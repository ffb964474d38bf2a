"""Flags in captions, and the one rule of which head a picture trains (see test_dataset for the rest of it)."""

import pytest

from makeanything.domains import Domain
from training.data.captions import head_of, read_flags, refuse_other

HEADS = (Domain.of("Portrait", 9, "portrait painting"), Domain.of("Sketch", 9, "sketch drawing"))


@pytest.mark.parametrize(
    ("caption", "text", "head"),
    [
        ("a cat", "a cat", None),
        ("a cat --lora_up 3", "a cat", 3),
        ("a cat --lora_up_cur 12", "a cat", 12),
        ("a cat --lora_up=2", "a cat", 2),
        ("--lora_up 2 a cat", "a cat", 2),
        ("a cat --lora_up_cur 2, on a mat --lora_up 2", None, None),
        ("a cat --lora_up 2 on a mat --lora_up_cur 2", "a cat on a mat", 2),
        ("a cat --lora_upper 3", "a cat --lora_upper 3", None),
    ],
)
def test_flags_are_read_and_taken_out(caption, text, head):
    if text is None:
        with pytest.raises(ValueError, match="2,"):
            read_flags(caption)
    else:
        assert read_flags(caption) == (text, head)


@pytest.mark.parametrize(
    "flag", ["--lora_up", "--lora_up 0", "--lora_up_cur -1", "--lora_up x", "--lora_up 1 --lora_up 2"]
)
def test_wrong_flags_are_refused(flag):
    with pytest.raises(ValueError, match="head"):
        read_flags(f"a cat {flag}")


def test_a_domain_is_a_name_or_a_number():
    with pytest.raises(ValueError, match=r"^x\.png: a domain is a name or a number, got \[1\]"):
        head_of("x.png", HEADS, [1], None)


@pytest.mark.parametrize(
    ("heads", "named", "flag", "said"),
    [
        (HEADS, None, None, None),
        (HEADS, "sketch", 2, None),
        (HEADS, "2", None, None),
        (HEADS, 1, None, "Portrait"),
        (HEADS, "Sketch", 1, "Portrait"),
        (HEADS, None, 3, None),
        (HEADS, "Skecth", None, "Skecth"),
        ((), 1, 7, None),
        ((), "Portrait", None, "Portrait"),
    ],
)
def test_pictures_of_another_domain_than_the_merged_head(heads, named, flag, said):
    if said is None:
        refuse_other("x.png", HEADS[1], heads, named, flag)
    else:
        with pytest.raises(ValueError, match=f"^x.png is of {said}, but the head in FLUX is that of Sketch$"):
            refuse_other("x.png", HEADS[1], heads, named, flag)
