"""Which head each picture of sd-scripts' datasets trains: said by its subset, or by a flag in its caption."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from types import NoneType
from typing import Any

from makeanything.domains import Domain, find

from ..data.captions import read_flags

DOMAIN = "domain"
"""The custom attribute of a subset that names its domain, and of the samples in a batch."""


def assign(dataset: Any, heads: Sequence[Domain]) -> Counter[int]:
    """Settle the head of every picture, and take the flags out of the captions; how many pictures each head has.

    A picture's head then travels with it as a custom attribute, whatever is cached.  ValueError names the picture whose
    head is missing, unknown, or not the same in subset and caption.
    """
    count: Counter[int] = Counter()
    variants: dict[tuple[int, int], Any] = {}
    for key, info in dataset.image_data.items():
        subset = dataset.image_to_subset[key]
        try:
            info.caption, flag = read_flags(info.caption)
            head = _choose(heads, subset.custom_attributes.get(DOMAIN), flag)
        except ValueError as error:
            raise ValueError(f"{info.absolute_path}: {error}") from None
        if (id(subset), head) not in variants:
            variant = variants[id(subset), head] = copy.copy(subset)
            variant.custom_attributes = {**subset.custom_attributes, DOMAIN: heads[head].name}
        dataset.image_to_subset[key] = variants[id(subset), head]
        count[head] += 1
    return count


def _choose(heads: Sequence[Domain], named: object, flag: int | None) -> int:
    if not isinstance(named, (str, int, NoneType)):
        raise ValueError(f"a domain is a name or a number, got {named}")
    wanted = [domain for domain in (named, flag) if domain is not None] or [1] * (len(heads) == 1)
    found = {find(heads, domain) for domain in wanted}
    if not found:
        names = ", ".join(head.name for head in heads)
        raise ValueError(
            "no domain is named: give its subset custom_attributes = { domain = NAME }, or its caption a flag "
            f"--lora_up N; there are {names}"
        )
    if len(found) > 1:
        raise ValueError(f"its subset is of domain {named}, the flag in its caption names head {flag}, another")
    return found.pop()
