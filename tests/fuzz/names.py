"""Names: of files to write, of domains, of tensors."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath
from random import Random

from makeanything import file_names
from makeanything.domains import DOMAINS, Domain, find
from makeanything.foreign import ECHO, brief
from makeanything.lora_header import parse
from makeanything.lora_info import layer_of
from makeanything.serpentine import Layout
from training.data.captions import read_flags

from .fuzzer import MARK, Fuzzer

REAL = [
    "portrait", "heads/portrait", "MakeAnything/sequence", "%year%-%month%/seq", "作品/一", "a.b.c", "x" * 190,
    "lora_unet_double_blocks_0_img_attn_qkv.lora_ups.3.weight", "Landscape illustration", "3", "Räksmörgås",
    "3*3 of 9 sub-images, step-by-step portrait painting process, 1 girl --lora_up 6",
]  # fmt: skip
PARTS = [
    "..", ".. ", ".", " ", "/", "\\", "//", "C:", "con", "NUL.txt", "com1", "COM¹", "aux .png", "a.", "a ", "\x00",
    "\n", "\x7f", ":", "*", "?", '"', "|", "\ud800", "\udc80", "‮", "é", MARK * 60, MARK * 300, "9" * 40, "9" * 5000,
    "%", "%%", "~", "~nouser", "$HOME", "-", "٣", "--lora_up", "--lora_up 0", "--lora_up_cur=9", "=", " " * 3000,
]  # fmt: skip


class NameFuzzer(Fuzzer):
    name = "names"

    def case(self, random: Random) -> bytes:
        text = random.choice(REAL)
        for _ in range(random.choice([0, 1, 1, 2])):
            place = random.choice([0, len(text), random.randrange(len(text) + 1)])
            part = random.choice([*PARTS, random.choice(REAL), random.choice("abc/. 0_-")])
            text = text[:place] + part + text[place + random.choice([0, 0, 1]) :]
        return text.encode("utf-8", "surrogatepass")

    def run(self, case: bytes) -> bool:
        text = case.decode("utf-8", "surrogatepass")
        past = not file_names.problem_of(text)
        if past:
            self._write(text)
        for check in (
            file_names.check_prefix,
            lambda text: find(DOMAINS, text),
            lambda text: Domain(text, Layout(2, 2), "{subject}"),
            read_flags,
        ):
            with self.refusals():
                check(text)
        parse(text)
        layer_of(text, {"a"})
        shown = brief(text)
        assert len(shown) <= ECHO
        assert shown.isprintable()
        return past

    def _write(self, text: str) -> None:
        """A name without a problem names a file inside the folder, which can be written."""
        root = self.folder / "inside"
        path = Path(root, *PureWindowsPath(text).parts)
        assert path.resolve().is_relative_to(root.resolve())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        path.unlink()
        while path.parent != self.folder:
            path = path.parent
            path.rmdir()
