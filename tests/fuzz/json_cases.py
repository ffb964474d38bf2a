"""JSON as people's files carry it: the domains of a heads file, and what kohya writes of a training set."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from makeanything.asymmetric_lora import AsymmetricLora
from makeanything.domains import DOMAINS
from makeanything.foreign import parse_json
from makeanything.lora_header import DOMAINS_KEY, HEADER_DEPTH, HEADS, read_domains
from makeanything.lora_info import trigger_words
from training.heads.options import Options

from .fuzzer import MARK, Fuzzer

LORAS = Path(__file__).resolve().parents[2] / "models/loras"
KOHYA: list[Any] = [
    [{"subsets": [{"class_tokens": "ohwx man", "num_repeats": 10}, {"class_tokens": None}]}],
    {"10_x": {"1girl": 12, "solo": 7, "hat": 1}, "5_y": {"1girl": 3}},
    ["sks dog", "a dog"],
]
ODD: list[Callable[[Random], Any]] = [
    lambda random: random.choice([None, True, False, 0, -1, 1.5, "", " ", "x", [], {}]),
    lambda random: random.choice([10**18, -(10**18), 2**63, 1e308, "1e400", "٣", "\x00", "\n", "\u202e", "\ud800"]),
    lambda random: MARK * random.choice([1, 99, 101, 501, 20_000]),
    lambda random: nested(random.choice([2, 5, 40, 1200]), random.choice([list, dict])),
    lambda random: [0] * random.choice([1, 3, 1001, 20_000]),
    lambda random: {MARK * 300: 1, "name": "Tea", "rows": 2, "cols": 2, "prompt": "{subject}"},
]


def nested(depth: int, kind: type) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if kind is list else {"a": value}
    return value


def mutate(value: Any, random: Random) -> Any:
    """The value with one thing in it exchanged, left out, doubled or renamed."""
    if not value or not isinstance(value, (list, dict)) or random.random() < 0.1:
        return random.choice(ODD)(random)
    if isinstance(value, list):
        place = random.randrange(len(value))
        action = random.choice(["change", "change", "drop", "double"])
        new = {"change": [mutate(value[place], random)], "drop": [], "double": [value[place]] * 2}[action]
        return [*value[:place], *new, *value[place + 1 :]]
    key = random.choice(list(value))
    action = random.choice(["change", "change", "change", "drop", "rename"])
    rest = {name: entry for name, entry in value.items() if name != key}
    if action == "change":
        return {**rest, key: mutate(value[key], random)}
    return rest if action == "drop" else {**rest, random.choice([key.upper(), "", MARK * 999]): value[key]}


def dump(value: Any, random: Random) -> str:
    """As JSON of one form or another."""
    try:
        return json.dumps(value, ensure_ascii=random.random() < 0.5, indent=random.choice([None, None, 1]))
    except RecursionError:  # json.dumps recurses too
        return "[" * 3000 + "]" * 3000


def damage(text: bytes, random: Random) -> bytes:
    """Bytes exchanged, cut out, put in or doubled."""
    place, length = random.randrange(len(text) + 1), random.choice([0, 1, 1, 2, 9])
    new = random.choice([b"", b"\xff", b'"', b"\\", b"[", b"{", b"NaN", b"-", b"9" * 5000, b"\\ud800", text[place:]])
    return text[:place] + new + text[place + length :]


class JsonFuzzer(Fuzzer):
    name = "json"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        released = [[domain.to_json() for domain in DOMAINS[:2]], [{"name": "A", "frames": 9, "process": "a"}] * 2]
        heads = [AsymmetricLora.open(path).metadata[DOMAINS_KEY] for path in sorted(LORAS.glob("*heads*"))]
        self.values = [*released, *map(json.loads, heads), *KOHYA]

    def case(self, random: Random) -> bytes:
        value = random.choice(self.values)
        for _ in range(random.choice([1, 1, 2, 3])):
            value = mutate(value, random)
        text = dump(value, random).encode("utf-8", "surrogatepass")
        return damage(text, random) if random.random() < 0.25 else text

    def run(self, case: bytes) -> bool:
        past = False
        with self.refusals():
            parse_json(case, 3 * HEADER_DEPTH, 16 * HEADS)
            past = True
        text = case.decode("utf-8", "surrogateescape")
        for heads in (2, 10):
            with self.refusals():
                read_domains({DOMAINS_KEY: text}, heads)
        for key in ("ss_datasets", "ss_tag_frequency", "ss_trained_words", "modelspec.trigger_phrase"):
            words = trigger_words({key: text})
            assert sum(map(len, words)) < 100_000
        path = self.folder / "domains.json"
        path.write_bytes(case)
        with self.refusals(named=True):
            Options(domains=str(path)).read_domains()
        return past
