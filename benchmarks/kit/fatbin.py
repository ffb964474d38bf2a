"""CUDA programs in a compiled library, of one kind of GPU kept and the others blanked, so that it packs small."""

from __future__ import annotations

import struct

SECTION = b".nv_fatbin"
_MAGIC = 0xBA55ED50


def keep_only(library: bytes, arch: int) -> bytes:
    """The library with the programs of other architectures than `arch` (90 is Hopper) zeroed; nothing moves.

    ValueError when it has none for that architecture, or no programs at all.
    """
    data = bytearray(library)
    start, size = _section(library)
    place, found = start, set()
    while place < start + size:
        magic, _, header, length = struct.unpack_from("<IHHQ", data, place)
        if magic != _MAGIC:
            # Padding between the blobs of several source files.
            place += 8
            continue
        end, place = place + header + length, place + header
        while place < end:
            _, _, header, length = struct.unpack_from("<HHIQ", data, place)
            (made_for,) = struct.unpack_from("<I", data, place + 28)
            found.add(made_for)
            if made_for != arch:
                data[place + header : place + header + length] = bytes(length)
            place += header + length
    if arch not in found:
        raise ValueError(f"the library has programs for the architectures {sorted(found)}, none for {arch}")
    return bytes(data)


def _section(library: bytes) -> tuple[int, int]:
    """Where SECTION begins in a 64-bit ELF file, and its bytes."""
    (table,) = struct.unpack_from("<Q", library, 40)
    entry, count, names = struct.unpack_from("<HHH", library, 58)
    heads = [struct.unpack_from("<IIQQQQ", library, table + entry * number) for number in range(count)]
    texts = heads[names][4]
    for name, _, _, _, offset, size in heads:
        if library[texts + name : texts + name + len(SECTION) + 1] == SECTION + b"\0":
            return offset, size
    raise ValueError(f"the library has no section {SECTION.decode()}, so no CUDA programs")
