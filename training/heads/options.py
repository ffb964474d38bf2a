"""The options of the network module, read from sd-scripts' --network_args, where every value is text."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields

from makeanything.asymmetric_lora import AsymmetricLora
from makeanything.domains import Domain
from makeanything.foreign import brief

from ..data import domain_list
from .layer import BLOCKS, Dropout


@dataclass(frozen=True)
class Options:
    """What --network_args can say.  Empty text, and None, leave an option at its default.

    domains: the heads, in order: a list such as NAME:FRAMES:PROCESS;NAME:FRAMES:PROCESS (see data/domain_list.py).
    add_to: an asymmetric LoRA file; `domains` are new heads beside its own.
    train_a: whether A trains; by default it does, but not with add_to.  With add_to and A at rest the file's own heads
        rest too.
    layers: a regular expression searched in BFL layer names, e.g. img_attn|linear1.
    train_double_block_indices, train_single_block_indices: as kohya's: "all", "none" or e.g. "0-5,9".
    dropout, rank_dropout, module_dropout: probabilities, as kohya's.
    idle_heads: "cpu" keeps heads that the batch does not use, and their optimizer state, out of the card's memory.
    """

    domains: str = ""
    add_to: str = ""
    train_a: str = ""
    layers: str = ""
    train_double_block_indices: str = "all"
    train_single_block_indices: str = "all"
    dropout: str = ""
    rank_dropout: str = ""
    module_dropout: str = ""
    idle_heads: str = ""

    def __post_init__(self) -> None:
        if self.idle_heads not in ("", "cpu"):
            raise ValueError(f"idle_heads is cpu, or not given; got {self.idle_heads!r}")

    @classmethod
    def read(cls, arguments: Mapping[str, object]) -> Options:
        """The options among keyword arguments.  ValueError names an option that does not exist, and the nearest."""
        known = [field.name for field in fields(cls)]
        for name in arguments:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
                raise ValueError(f"the network has no option '{brief(name)}': {hint}")
        return cls(**{name: str(value).strip() for name, value in arguments.items() if value not in (None, "")})

    def read_domains(self) -> tuple[Domain, ...]:
        """The domains asked for.  ValueError shows how they are written."""
        if not self.domains:
            example = f'domains="{domain_list.EXAMPLE}"'
            raise ValueError(f"the network needs to know its domains, one per head: --network_args {example}")
        return domain_list.read_domains(self.domains)

    @property
    def trains_a(self) -> bool:
        return _flag("train_a", self.train_a) if self.train_a else not self.add_to

    @property
    def drop(self) -> Dropout:
        return Dropout(
            _number("dropout", self.dropout),
            _number("rank_dropout", self.rank_dropout),
            _number("module_dropout", self.module_dropout),
        )

    def selects_layers(self) -> bool:
        """Whether any option chooses layers."""
        return (self.layers, self.train_double_block_indices, self.train_single_block_indices) != ("", "all", "all")

    def select(self, names: Collection[str]) -> list[str]:
        """Those of a model's layers (BFL names) that the options choose.  ValueError when there are none."""
        try:
            pattern = re.compile(self.layers)
        except re.error as error:
            raise ValueError(f"layers={self.layers!r} is not a regular expression: {error}") from None
        matches = [match for match in map(BLOCKS.fullmatch, names) if match]
        blocks = {
            kind: _indices(text, {int(match["index"]) for match in matches if match[1] == kind})
            for kind, text in (
                ("double_blocks", self.train_double_block_indices),
                ("single_blocks", self.train_single_block_indices),
            )
        }
        chosen = [match[0] for match in matches if pattern.search(match[0]) and int(match["index"]) in blocks[match[1]]]
        if not chosen:
            raise ValueError(f"the options choose none of the model's {len(names)} layers, such as {min(names)}")
        return chosen


def plan(
    arguments: Mapping[str, object], weights: str | os.PathLike[str] | None = None
) -> tuple[tuple[Domain, ...], frozenset[int]]:
    """The heads that create_network makes of these options, and which of them (from 0) do not train.

    With `weights` those of that file, which create_network_from_weights makes.
    """
    options = Options.read(arguments)
    if weights is not None:
        return AsymmetricLora.open(weights).domains, frozenset()
    old = AsymmetricLora.open(options.add_to).domains if options.add_to else ()
    return (*old, *options.read_domains()), frozenset(() if options.trains_a else range(len(old)))


def _flag(name: str, text: str) -> bool:
    if text.casefold() not in ("true", "false"):
        raise ValueError(f"{name} is true or false, got '{brief(text)}'")
    return text.casefold() == "true"


def _number(name: str, text: str) -> float:
    try:
        return float(text or 0)
    except ValueError:
        raise ValueError(f"{name} is a number, got '{brief(text)}'") from None


def _indices(text: str, blocks: set[int]) -> set[int]:
    """The blocks of a list such as "0-5,9"; ValueError for one that the model lacks."""
    if text in ("all", "none"):
        return blocks if text == "all" else set()
    chosen: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,15})\s*(?:-\s*([0-9]{1,15})\s*)?", part)
        if not match or int(match[1]) > int(match[2] or match[1]):
            raise ValueError(f'blocks are "all", "none" or a list such as 0-5,9; got \'{brief(text)}\'')
        first, last = int(match[1]), int(match[2] or match[1])
        # Before the range is made: a number may be of any size.
        if last not in blocks or not blocks.issuperset(range(first, last)):
            missing = next(block for block in range(first, last + 1) if block not in blocks)
            raise ValueError(f"'{brief(text)}' names block {missing}, the model has {len(blocks)} of them, from 0")
        chosen.update(range(first, last + 1))
    return chosen
