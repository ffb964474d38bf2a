import pytest

from training.data.captions import read_flags


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
