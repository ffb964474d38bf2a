"""Pictures: small ones of every kind that is read, with damaged and exchanged bytes."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from makeanything import pictures
from training.data.stills import read_picture

from .fuzzer import Fuzzer

KINDS = [("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P"), ("PNG", "I;16"), ("JPEG", "RGB"), ("JPEG", "L"),
         ("WEBP", "RGB"), ("GIF", "P"), ("BMP", "RGB"), ("TIFF", "RGB")]  # fmt: skip
EDGES = [0, 1, 2, 255, 2**16, 2**31 - 1, 2**32 - 1]


def draw(kind: str, mode: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (12, 9, 3), np.uint8)
    image = Image.fromarray(pixels)
    image = image.convert("I").convert("I;16") if mode == "I;16" else image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


class PictureFuzzer(Fuzzer):
    name = "pictures"
    megabytes = 4000
    """The largest picture that is read takes that much."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.pictures = [draw(kind, mode) for kind, mode in KINDS]

    def case(self, random: Random) -> bytes:
        case = random.choice(self.pictures)
        for _ in range(random.choice([1, 1, 2, 4])):
            case = _damage(case, random)
        return case

    def run(self, case: bytes) -> bool:
        path = self.folder / "case.png"
        path.write_bytes(case)
        past = False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                with Image.open(path):
                    past = True
            except Exception:  # Pillow has many; what we make of them is looked at below
                past = False
            with self.refusals():
                pictures.read(path)
            with self.refusals():
                read_picture(path)
        return past


def _damage(case: bytes, random: Random) -> bytes:
    if case[:4] == b"\x89PNG" and random.random() < 0.5:
        return _change_chunk(case, random)
    # Behind the first bytes, by which the kind is told.
    place = random.randrange(min(16, len(case)), len(case) + 1)
    action = random.choice(["flip", "flip", "cut", "end", "put", "number"])
    if action == "end":
        return case[:place]
    new = {
        "flip": random.randbytes(1),
        "cut": b"",
        "put": random.randbytes(random.choice([1, 4, 40])),
        "number": struct.pack(random.choice("<>") + "I", random.choice(EDGES)),
    }[action]
    return case[:place] + new + case[place + (len(new) if action in ("flip", "number") else random.choice([0, 1, 8])) :]


def _change_chunk(case: bytes, random: Random) -> bytes:
    """A PNG with one chunk changed, left out or doubled, its checksum right."""
    chunks, place = [], 8
    while place + 12 <= len(case):
        length = int.from_bytes(case[place : place + 4], "big")
        chunks.append((case[place + 4 : place + 8], case[place + 8 : place + 8 + length]))
        place += 12 + length
    number = random.randrange(len(chunks)) if chunks else 0
    for name, data in chunks[number : number + 1]:
        at = random.randrange(len(data) + 1)
        changed = data[:at] + random.randbytes(random.choice([1, 4])) + data[at + random.choice([0, 1, 4]) :]
        text = b"tEXt", b"a\0" + bytes(random.choice([1, 2000]))
        chunks[number : number + 1] = random.choice([[(name, changed)], [], [(name, data)] * 2, [text, (name, data)]])
    return case[:8] + b"".join(
        len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big") for name, data in chunks
    )
