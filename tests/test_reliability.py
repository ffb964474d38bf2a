"""docs/reliability.md gives the limits that the code has."""

from pathlib import Path

import pytest

from makeanything import domains, file_names, foreign, lora_header, lora_info, pictures, weights_header
from training import values
from training.data import dataset, domain_list
from training.heads import network

TEXT = (Path(__file__).resolve().parents[1] / "docs/reliability.md").read_text(encoding="utf-8")
LIMITS = dict(line.strip("| ").split(" | ", 1) for line in TEXT.split("## Limits")[1].split("##")[0].split("\n|")[3:])


@pytest.mark.parametrize(
    ("what", "numbers"),
    [
        (
            "header of a safetensors file",
            (
                f"{weights_header.HEADER_BYTES // 2**20} MiB",
                f"nested {weights_header.HEADER_DEPTH} deep",
                f"{weights_header.TENSORS:,} tensors",
                f"{weights_header.HEADER_VALUES:,} values",
            ),
        ),
        ("name of a tensor", (f"1 to {weights_header.NAME_CHARACTERS} characters",)),
        ("a tensor", (f"{weights_header.AXES} axes", ", ".join(weights_header.DTYPES))),
        ("a tensor of a heads file", (", ".join(weights_header.WEIGHTS),)),
        ("heads of a file", (f"{lora_header.HEADS:,},",)),
        ("domains in a header", (f"{lora_header.HEADER_DEPTH} deep", f"{16 * lora_header.HEADS:,} values")),
        (
            "name of a domain, its prompt form, its grid",
            (
                f"{domains.NAME_CHARACTERS} characters, {domains.PROMPT_CHARACTERS:,} characters",
                f"{domains.MOST_CELLS} x {domains.MOST_CELLS} cells",
            ),
        ),
        (
            "what kohya's trainers write in a header",
            (f"nested {lora_info.JSON_DEPTH} deep", f"{lora_info.JSON_VALUES:,} values"),
        ),
        ("trigger words of a LoRA", (f"{lora_info.MOST_WORDS}, of {lora_info.WORD_CHARACTERS} characters",)),
        ("a picture file", (f"{pictures.MOST_PIXELS:,} pixels",)),
        (
            "name of a file to write",
            (f"{file_names.PATH_CHARACTERS:,} characters", f"{file_names.PART_BYTES} bytes"),
        ),
        ("foreign text in a message", (f"{foreign.ECHO} of any one", f"{foreign.NAMED} of any list")),
        (
            "settings file of the trainers (TOML)",
            (f"{values.TOML_BYTES // 2**10} KiB", f"{values.TOML_MARKS:,} brackets"),
        ),
        (
            "a number in settings",
            (
                f"10^{len(str(values.LARGEST)) - 1}",
                f"{dataset.LARGEST_EDGE:,} px",
                f"batch {dataset.LARGEST_BATCH:,}",
                f"num_repeats {dataset.MOST_REPEATS:,}",
                f"rank {network.MOST_RANK:,}",
            ),
        ),
        (
            "JSON file of domains for the trainers",
            (f"nested {domain_list.JSON_DEPTH} deep", f"{domain_list.JSON_VALUES:,} values"),
        ),
    ],
)
def test_the_limits_are_those_of_the_code(what, numbers):
    assert [number for number in numbers if number not in LIMITS[what]] == []


def test_a_message_repeats_at_most_200_characters():
    """One text and a list of names, or three texts."""
    assert foreign.ECHO + foreign.NAMED <= 200
    assert 3 * foreign.ECHO <= 200
