"""What a heads file says of how its heads are drawn, whoever wrote it."""

import json

import pytest
import torch
from safetensors.torch import save_file

from makeanything import asymmetric_lora
from makeanything.asymmetric_lora import AsymmetricLora
from makeanything.domains import Domain
from makeanything.drawn import Drawn
from makeanything.lora_header import DOMAINS_KEY
from makeanything.serpentine import Layout

LAYER = "lora_unet_single_blocks_0_linear1"
OLD = {"name": "Tea", "rows": 2, "cols": 2, "prompt": "making {subject}"}
MASKED, SEEN = {"ss_apply_t5_attn_mask": "True"}, {"ss_apply_t5_attn_mask": "False"}
TRAINING = {"ss_guidance_scale": "1.0", "ss_discrete_flow_shift": "3.1582", "ss_timestep_sampling": "shift"}
NANO = {"cell": 96, "recraft_guidance": 3.5, "shift_by_grid": False}


def write(path, heads: int, metadata: dict[str, str]) -> AsymmetricLora:
    tensors = {f"{LAYER}.lora_down.weight": torch.ones(2, 5), f"{LAYER}.alpha": torch.tensor(1.0)}
    save_file(tensors | {f"{LAYER}.lora_ups.{head}.weight": torch.ones(7, 2) for head in range(heads)}, path, metadata)
    return AsymmetricLora.open(path)


@pytest.mark.parametrize(
    ("heads", "metadata", "wanted", "cell"),
    [
        # The authors' files, with 10 and 21 heads, say nothing.
        (10, {}, Drawn(padding=False), 352),
        (21, {}, Drawn(padding=False), 512),
        # Files of others.
        (1, {}, Drawn(), 352),
        (1, MASKED | TRAINING, Drawn(padding=False), 352),
        # Version 0.1, with sd-scripts and with the built-in loop.
        (1, {DOMAINS_KEY: json.dumps([OLD]), **MASKED, **TRAINING}, Drawn(padding=False), 512),
        (1, {DOMAINS_KEY: json.dumps([OLD]), **SEEN, **TRAINING}, Drawn(), 512),
        (1, {DOMAINS_KEY: json.dumps([OLD])}, Drawn(), 512),
        # This version: what a domain says itself comes first.
        (1, {DOMAINS_KEY: json.dumps([{**OLD, "drawn": NANO}]), **MASKED}, Drawn(96, True, 3.5, 3.5, False), 96),
        (1, {DOMAINS_KEY: json.dumps([{**OLD, "drawn": {"guidance": 2, "later": [1]}}])}, Drawn(guidance=2), 512),
    ],
)
def test_values_by_who_wrote_the_file(tmp_path, heads, metadata, wanted, cell):
    for domain in write(tmp_path / "a.safetensors", heads, metadata).domains:
        assert domain.drawn == wanted
        assert domain.cell == cell


@pytest.mark.parametrize("drawn", [Drawn(), Drawn(64, False, 1.5, 2.5, False), Drawn(padding=False)])
def test_json_round_trip(drawn):
    domain = Domain("Tea", Layout(2, 2), "making {subject}", drawn)
    assert Domain.from_json(json.loads(json.dumps(domain.to_json()))) == domain
    assert set(domain.to_json()) == {*OLD, *(["drawn"] if drawn != Drawn() else [])}


def test_an_extracted_head_says_what_its_file_said(tmp_path):
    lora = write(tmp_path / "a.safetensors", 10, {})
    asymmetric_lora.extract(lora, "Cook", tmp_path / "cook.safetensors")
    with (tmp_path / "cook.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    assert json.loads(header["__metadata__"][DOMAINS_KEY])[0]["drawn"] == {"padding": False}


@pytest.mark.parametrize(
    ("drawn", "message"),
    [
        (None, "JSON object, got nothing"),
        ([], "JSON object, got a list"),
        ({"cell": 100}, "multiple of 16"),
        ({"cell": 0}, "cell must be"),
        ({"cell": True}, "cell of a head is of the wrong kind"),
        ({"cell": 64.0}, "cell of a head is of the wrong kind"),
        ({"padding": 1}, "padding of a head is of the wrong kind"),
        ({"guidance": "3.5"}, "guidance of a head is of the wrong kind"),
        ({"guidance": -1}, "guidance must be"),
        ({"recraft_guidance": 10**400}, "recraft_guidance must be"),
    ],
)
def test_odd_values_are_named(drawn, message):
    with pytest.raises(ValueError, match=message):
        Domain.from_json({**OLD, "drawn": drawn})
