"""The flags in the authors' captions that say which head a sample trains."""

from __future__ import annotations

import re

from makeanything.foreign import brief, name_list

FLAG = re.compile(r"(?<!\s)\s*--lora_up(?:_cur)?(?:[ =]+(?P<number>\S+))?(?=\s|$)")
"""The authors' texts write --lora_up, their code reads --lora_up_cur."""


def read_flags(caption: str) -> tuple[str, int | None]:
    """A caption without its head flags, and the head they name: a number from 1, or None.

    ValueError for a flag without a number, for a number below 1, and for flags that name different heads.
    """
    named = [match["number"] or "" for match in FLAG.finditer(caption)]
    for text in named:
        if not re.fullmatch(r"0*[1-9][0-9]{0,8}", text):
            got = brief(text) or "none"
            raise ValueError(f"--lora_up needs the number of a head, from 1; got {got} in '{brief(caption)}'")
    heads = {int(text) for text in named}
    if len(heads) > 1:
        numbers = name_list(map(str, sorted(heads)))
        raise ValueError(f"the caption names several heads, {numbers}: '{brief(caption)}'")
    return FLAG.sub("", caption).strip(), heads.pop() if heads else None
