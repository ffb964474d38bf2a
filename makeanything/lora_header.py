"""What the header of an asymmetric LoRA file must say, and what it turns out to be when it does not."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from . import domains
from .domains import Domain
from .drawn import Drawn
from .foreign import ECHO, brief, kind, name_list, parse_json
from .serpentine import Layout

DOMAINS_KEY = "makeanything_domains"
"""Header entry: a JSON list with one domain per head, in the order of the heads."""

MASK_KEY = "ss_apply_t5_attn_mask"
"""Header entry of sd-scripts: whether T5's padding was masked in training.  Its other entries are settings of training
alone, such as a guidance of 1, with which nobody draws."""

HEADS = 1000
HEADER_DEPTH = 4
"""Of the domains' JSON."""

_KEY = re.compile(r"(?P<layer>.+)\.(?:lora_down\.weight|lora_ups\.(?P<head>0|[1-9][0-9]{0,2})\.weight|alpha)")


@dataclass(frozen=True)
class Layer:
    """Shapes of one layer's update: A (rank, inputs), every B (outputs, rank)."""

    rank: int
    inputs: int
    outputs: int


def lora_name(layer: str) -> str:
    """A layer's name in files: double_blocks.0.img_attn.qkv -> lora_unet_double_blocks_0_img_attn_qkv."""
    return "lora_unet_" + layer.replace(".", "_")


def parse(key: str) -> tuple[str, int | None] | tuple[None, None]:
    """Layer and head of a key; head None for A and alpha, both None for a foreign key."""
    match = _KEY.fullmatch(key)
    if not match:
        return None, None
    return match["layer"], None if match["head"] is None else int(match["head"])


def read_layers(shapes: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, Layer], int]:
    """Layers and the number of heads, from every key's shape; ValueError names the first thing that is off."""
    if not any(".lora_ups." in key for key in shapes):
        raise ValueError(f"no lora_ups in it, so it is not an asymmetric LoRA. {_kind(shapes)}")
    ups: dict[str, set[int]] = defaultdict(set)
    for key in shapes:
        layer, head = parse(key)
        if layer is None:
            raise ValueError(f"{brief(key)} does not belong in an asymmetric LoRA. {_kind(shapes)}")
        ups[layer].update(() if head is None else (head,))
    heads = max(len(found) for found in ups.values())
    if not heads:
        raise ValueError(f"no head in it, so it is not an asymmetric LoRA. {_kind(shapes)}")
    return {layer: _read_layer(layer, found, heads, shapes) for layer, found in ups.items()}, heads


def _read_layer(name: str, found: set[int], heads: int, shapes: Mapping[str, tuple[int, ...]]) -> Layer:
    shown = brief(name)
    if found != set(range(heads)):
        numbers, needed = (name_list(map(str, heads)) for heads in (sorted(found), range(heads)))
        raise ValueError(f"{shown} has heads numbered [{numbers}], needed [{needed}] as in other layers")
    down = shapes.get(f"{name}.lora_down.weight")
    if down is None:
        raise ValueError(f"{shown} has no lora_down.weight, the A that its heads share")
    if len(down) != 2 or 0 in down:
        raise ValueError(f"{shown}.lora_down.weight has shape {down}, needed (rank, inputs)")
    if shapes.get(f"{name}.alpha") not in ((), (1,)):
        raise ValueError(f"{shown} has no scalar alpha")
    rank, inputs = down
    outputs = next(iter(shapes[f"{name}.lora_ups.0.weight"]), 0)
    for head in range(heads):
        shape = shapes[f"{name}.lora_ups.{head}.weight"]
        if shape != (outputs, rank) or not outputs:
            raise ValueError(
                f"{shown}.lora_ups.{head}.weight has shape {shape}, needed {(outputs, rank)} to fit A {down}"
            )
    return Layer(rank, inputs, outputs)


def _kind(keys: Iterable[str]) -> str:
    """What the keys look like, for people who picked the wrong file."""
    keys = list(keys)
    if any("lora_up.weight" in key or "lora_B" in key for key in keys):
        return "It looks like an ordinary LoRA: load it with the LoRA Stack or ComfyUI's LoRA loader."
    if any("double_blocks.0" in key for key in keys):
        return "It looks like a FLUX model: load it as the diffusion model."
    if any("decoder" in key for key in keys):
        return "It looks like a VAE."
    return f"Its first keys are {name_list(sorted(keys)[:3], 2 * ECHO)}." if keys else "It holds no tensors."


def read_domains(metadata: Mapping[str, str], heads: int) -> tuple[Domain, ...]:
    """Domains of the heads: from the header, else the released files' tables by head count, else "Head N"."""
    # Files of version 0.1 do not say it themselves.
    unsaid = Drawn(padding=metadata.get(MASK_KEY) != "True")
    if DOMAINS_KEY not in metadata:
        unnamed = tuple(Domain(f"Head {n}", Layout.of(9), domains.SUBJECT, unsaid) for n in range(1, heads + 1))
        return domains.RELEASED_BY_HEADS.get(heads, unnamed)
    try:
        entries = parse_json(metadata[DOMAINS_KEY], HEADER_DEPTH, 16 * HEADS)
    except ValueError as error:
        raise ValueError(f"the header's {DOMAINS_KEY} is no JSON list ({error})") from None
    if not isinstance(entries, list):
        raise ValueError(f"the header's {DOMAINS_KEY} is no JSON list but {kind(entries)}")
    if len(entries) != heads:
        raise ValueError(f"the header names {len(entries)} domains, the file has {heads} heads")
    known = tuple(Domain.from_json(entry, unsaid) for entry in entries)
    check_names(known)
    return known


def check_names(heads: Iterable[Domain]) -> None:
    """Refuse heads that share a name (in any case), since a head is chosen by it."""
    seen: set[str] = set()
    for head in heads:
        name = head.name.strip().casefold()
        if name in seen:
            raise ValueError(f"more than one head is of the domain {brief(head.name)}; a head is chosen by its name")
        seen.add(name)
