"""What sd-scripts' datasets say of their pictures' domains, and how a picture's head travels with it."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any

from makeanything.domains import Domain

from ..data.captions import head_of, read_flags

DOMAIN = "domain"
"""The custom attribute of a subset that names its domain, and of the samples in a batch."""


def said_of(info: Any, subset: Any) -> tuple[object, int | None]:
    """Take the flag out of a picture's caption: the domain that its subset names, and the number in the flag."""
    try:
        info.caption, flag = read_flags(info.caption)
    except ValueError as error:
        raise ValueError(f"{info.absolute_path}: {error}") from None
    return subset.custom_attributes.get(DOMAIN), flag


def assign(dataset: Any, heads: Sequence[Domain]) -> Counter[int]:
    """Settle the head of every picture, and take the flags out of the captions; how many pictures each head has.

    A picture's head then travels with it as a custom attribute, whatever is cached.  ValueError: see head_of.
    """
    count: Counter[int] = Counter()
    variants: dict[tuple[int, int], Any] = {}
    for key, info in dataset.image_data.items():
        subset = dataset.image_to_subset[key]
        head = head_of(info.absolute_path, heads, *said_of(info, subset))
        if (id(subset), head) not in variants:
            variant = variants[id(subset), head] = copy.copy(subset)
            variant.custom_attributes = {**subset.custom_attributes, DOMAIN: heads[head].name}
        dataset.image_to_subset[key] = variants[id(subset), head]
        count[head] += 1
    return count
