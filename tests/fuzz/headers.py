"""Safetensors files: the headers of the pack's own LoRAs with small tensors, changed in what they say and as bytes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from safetensors import safe_open

from makeanything.asymmetric_lora import AsymmetricLora
from makeanything.lora_header import DOMAINS_KEY
from makeanything.lora_info import layer_of, trigger_words
from makeanything.weights_file import names_heads, open_weights

from .fuzzer import MARK, Fuzzer
from .json_cases import KOHYA, LORAS, damage, dump, mutate

SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I8": 1, "U8": 1}
NUMBERS = ["00", "01", "٣", "-1", "+0", "1e3", "7", "999", "1000", "9" * 30, "", "0x1", " 0", "0_0"]
OTHER_SIZES = {"U16": 2, "U32": 4, "U64": 8, "C64": 8, "BOOL": 1, "F8_E8M0": 1, "F4": 1, "": 1, "f32": 4}

Header = dict[str, Any]
"""Names with {"dtype", "shape"}, and "__metadata__"."""


class HeaderFuzzer(Fuzzer):
    name = "headers"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.headers = [_read(path) for path in sorted(LORAS.glob("*.safetensors"))]

    def case(self, random: Random) -> bytes:
        header = _small(random.choice(self.headers), random)
        for _ in range(random.choice([0, 1, 1, 2, 3])):
            random.choice(CHANGES)(header, random)
        data = _place(header)
        if random.random() < 0.15:
            random.choice(MISPLACEMENTS)(header, random)
        text = dump(header, random).encode("utf-8", "surrogatepass")
        text += b" " * (-len(text) % 8)
        if random.random() < 0.05:
            text = damage(text, random)
        values = random.randbytes(data) if random.random() < 0.1 else bytes(data)
        case = len(text).to_bytes(8, "little") + text + values
        return damage(case, random) if random.random() < 0.05 else case

    def run(self, case: bytes) -> bool:
        path = self.folder / "case.safetensors"
        path.write_bytes(case)
        past = False
        with self.refusals():
            with open_weights(path) as file:
                past = True
                metadata, shapes = file.metadata, file.shapes
        names_heads(path)
        if past:
            _compare(path, metadata, shapes)
            trigger_words(metadata)
            for key in shapes:
                layer_of(key)
            with self.refusals():
                lora = AsymmetricLora.open(path)
                for number in {1, len(lora.domains)}:
                    lora.select(number)
                assert set(lora.read()) == set(shapes)
        return past


def _compare(path: Path, metadata: dict[str, str], shapes: dict[str, tuple[int, ...]]) -> None:
    """What we read, the library must read as well, and as the same."""
    with safe_open(path, "pt") as file:
        assert shapes == {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        assert metadata == (file.metadata() or {})


def _read(path: Path) -> Header:
    with path.open("rb") as file:
        return json.loads(file.read(int.from_bytes(file.read(8), "little")))


def _small(header: Header, random: Random) -> Header:
    """Up to three layers and heads of a header, with few numbers in each tensor."""
    names = [name for name in header if name.endswith(".alpha")]
    layers = {name.removesuffix(".alpha") for name in random.sample(names, random.choice([1, 1, 2, 3]))}
    heads, rank, outputs = random.choice([1, 2, 3]), random.choice([1, 2, 4]), random.choice([1, 4])
    dtype = random.choice(["F32", "F32", "BF16", "F16"])
    shapes = {"lora_down.weight": [rank, random.choice([1, 3, 8])], "alpha": [], "lora_up.weight": [outputs, rank]}
    shapes |= {f"lora_ups.{head}.weight": [outputs, rank] for head in range(heads)}
    small: Header = {}
    for name in header:
        layer, _, part = name.partition(".")
        if layer in layers and part in shapes:
            small[name] = {"dtype": dtype, "shape": shapes[part]}
    small["__metadata__"] = dict(header.get("__metadata__", {}))
    if DOMAINS_KEY in small["__metadata__"]:
        domains = json.loads(small["__metadata__"][DOMAINS_KEY])[:heads]
        small["__metadata__"][DOMAINS_KEY] = json.dumps(domains)
    return small


def _place(header: Header) -> int:
    """Give every tensor its bytes, one after another; how many there are."""
    end = 0
    for name, entry in header.items():
        if name != "__metadata__" and isinstance(entry, dict):
            start = end
            size = (SIZES | OTHER_SIZES).get(str(entry.get("dtype")), 1)
            shape = entry.get("shape")
            whole = isinstance(shape, list) and all(isinstance(edge, int) and 0 <= edge < 100 for edge in shape)
            elements = math.prod(shape) if whole else 0
            # More bytes than a case has room for are as wrong as none.
            end += size * elements if elements < 2**20 else 0
            entry["data_offsets"] = [start, end]
    return end


def _tensor(header: Header, random: Random) -> str:
    return random.choice([name for name in header if name != "__metadata__"] or [""])


def _rename(header: Header, random: Random) -> None:
    name = _tensor(header, random)
    number = random.choice(NUMBERS)
    new = random.choice(
        [
            f"{name.split('.')[0]}.lora_ups.{number}.weight",
            f"{name.split('.')[0]}.lora_ups.{number}.lora_down.weight",
            name.upper(), f"{name}\n", f".{name}", name.split(".")[-1], MARK * random.choice([9, 400, 600]),
            f"{MARK * 300}.lora_ups.0.weight", f"{name}.lora_ups.", "", "lora_ups", "\ud800", f"{name}\x00",
        ]
    )  # fmt: skip
    if name in header:
        header[new] = header.pop(name)


def _renumber(header: Header, random: Random) -> None:
    """A head under another number, in every layer."""
    old, new = f".lora_ups.{random.choice([0, 0, 1])}.", f".lora_ups.{random.choice(NUMBERS)}."
    for name in list(header):
        header[name.replace(old, new)] = header.pop(name)


def _drop(header: Header, random: Random) -> None:
    header.pop(_tensor(header, random), None)


def _double(header: Header, random: Random) -> None:
    name = _tensor(header, random)
    if name in header:
        header[name.replace("lora_ups.0", f"lora_ups.{random.choice([1, 2, 3, 50])}")] = dict(header[name])


def _reshape(header: Header, random: Random) -> None:
    entry = header.get(_tensor(header, random), {})
    shape = list(entry.get("shape", []))
    entry["shape"] = random.choice(
        [
            shape[::-1],
            [*shape, 1],
            [1] * random.choice([4, 9, 70]),
            [0],
            [0, 3],
            [edge + 1 for edge in shape],
            shape[:1],
        ]
    )


def _retype(header: Header, random: Random) -> None:
    kinds = [*SIZES, *SIZES, *SIZES, *OTHER_SIZES]
    header.get(_tensor(header, random), {})["dtype"] = random.choice(kinds)


def _describe(header: Header, random: Random) -> None:
    """Other domains, unless they were changed to something that can't be changed any more."""
    metadata = header["__metadata__"]
    try:
        domains = json.loads(metadata[DOMAINS_KEY])
    except (KeyError, RecursionError, ValueError):
        return
    metadata[DOMAINS_KEY] = dump(mutate(domains, random), random)


def _annotate(header: Header, random: Random) -> None:
    """Kohya's entries, or long ones."""
    key = random.choice(["ss_datasets", "ss_tag_frequency", "ss_trained_words", "modelspec.trigger_phrase", MARK * 700])
    header["__metadata__"][key] = random.choice([dump(mutate(random.choice(KOHYA), random), random), MARK * 5000, ""])


def _misname(header: Header, random: Random) -> None:
    header["__metadata__"] = mutate(header["__metadata__"], random)


def _misplace(header: Header, random: Random) -> None:
    entry = header.get(_tensor(header, random), {})
    start, end = entry.get("data_offsets", [0, 0])
    odd = [[start + 1, end], [start, end + 1], [end, start], [-1, end], [start], [0, 0], [0, 2**63], [0, 87 * 10**16]]
    entry["data_offsets"] = random.choice([*odd, [float(start), end], [str(start), end], None, {}, "ab", [True, end]])


def _misshape(header: Header, random: Random) -> None:
    odd = [[2**40], [-4], [2**64, 0], [1.0], ["4"], None, {}, "44", [[4]], [True], [10**400], 4]
    header.get(_tensor(header, random), {})["shape"] = random.choice(odd)


def _misform(header: Header, random: Random) -> None:
    header[_tensor(header, random)] = mutate(header.get(_tensor(header, random)), random)


CHANGES: list[Callable[[Header, Random], None]] = [
    _rename, _renumber, _drop, _double, _reshape, _retype, _describe, _describe, _annotate,
]  # fmt: skip
"""What leaves a header whole."""
MISPLACEMENTS: list[Callable[[Header, Random], None]] = [_misname, _misplace, _misplace, _misshape, _misform]
"""What makes no header any more."""
