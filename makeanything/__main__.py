"""Heads and grids from the command line.  See `python -m makeanything --help`."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from . import asymmetric_lora, pictures, serpentine
from .asymmetric_lora import AsymmetricLora
from .command_line import Parser, ended
from .file_names import problem_of
from .foreign import brief
from .pictures import digits
from .saving import make_folder, many
from .serpentine import Layout
from .weights_file import open_weights

EXAMPLES = """examples:
  python -m makeanything inspect asymmetric_lora_9f_general.safetensors
  python -m makeanything extract asymmetric_lora_9f_general.safetensors --domain Portrait -o portrait.safetensors
  python -m makeanything join lego.safetensors cook.safetensors -o both.safetensors
  python -m makeanything split grid.png --frames 9 -o frames
  python -m makeanything compose frames -o grid.png
"""
PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit code (see command_line)."""
    parser = _parser()
    options = parser.parse_args(arguments)
    return ended(f"{parser.prog} {options.command}", lambda: options.run(options))


def _parser() -> Parser:
    parser = Parser(
        prog="python -m makeanything",
        description="Heads of asymmetric LoRA files, and making-of grids.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = commands.add_parser("inspect", help="say what is in an asymmetric LoRA file")
    command.add_argument("file", type=Path, metavar="FILE")
    command.set_defaults(run=_inspect)

    command = commands.add_parser("extract", help="write one domain's head as an ordinary LoRA")
    command.add_argument("file", type=Path, metavar="FILE", help="an asymmetric LoRA file")
    command.add_argument("--domain", required=True, metavar="NAME", help="name of the domain, or its number from 1")
    _add_output(command, "OUT.safetensors")
    command.set_defaults(run=_extract)

    command = commands.add_parser("join", help="put the heads of several files that share A into one file")
    command.add_argument("files", type=Path, nargs="+", metavar="FILE")
    _add_output(command, "OUT.safetensors")
    command.set_defaults(run=_join)

    command = commands.add_parser("split", help="take a grid apart: 01.png, 02.png ... in time order")
    command.add_argument("grid", type=Path, metavar="GRID", help="a picture of a grid")
    _add_layout(command, required=True)
    command.add_argument("--keep-gutters", action="store_true", help="keep the dark lines: compose then undoes split")
    _add_output(command, "DIR")
    command.set_defaults(run=_split)

    command = commands.add_parser("compose", help="put the pictures of a folder together as a grid")
    command.add_argument(
        "folder", type=Path, metavar="DIR", help="its pictures in the order of their names, 2 before 10"
    )
    _add_layout(command, required=False)
    _add_output(command, "GRID.png")
    command.set_defaults(run=_compose)
    return parser


def _add_output(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument("-o", "--output", type=Path, required=True, metavar=what)
    command.add_argument("--force", action="store_true", help="replace files that exist")


def _add_layout(command: argparse.ArgumentParser, required: bool) -> None:
    layout = command.add_mutually_exclusive_group(required=required)
    layout.add_argument("--frames", type=int, metavar="N", help="frames of a square grid: 9 (3x3), 4 (2x2)")
    layout.add_argument("--layout", type=_layout, metavar="RxC", help="rows x columns of another grid, as 2x3")


def _layout(text: str) -> Layout:
    match = re.fullmatch(r"(\d+)[xX*](\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"a layout is rows x columns, such as 3x3, got '{brief(text)}'")
    try:
        return Layout(int(match[1]), int(match[2]))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _inspect(options: argparse.Namespace) -> None:
    lora = AsymmetricLora.open(options.file)
    with open_weights(options.file) as file:
        dtypes = sorted({entry.dtype for entry in file.entries.values()})
    (down, up), alpha = lora.head_elements, lora.alpha()
    print(f"{options.file.name}: {options.file.stat().st_size:,} bytes, {', '.join(dtypes)}")
    print(f"{len(lora.layers)} layers, rank {lora.rank}, alpha {'differs by layer' if alpha is None else f'{alpha:g}'}")
    print(f"{down:,} parameters shared by all heads (A), {up:,} in each head (B)")
    print(f"{len(lora.domains)} heads:")
    for number, domain in enumerate(lora.domains, 1):
        print(f"{number:4}  {domain.name:24}  {domain.layout}  {domain.prompt}")


def _extract(options: argparse.Namespace) -> None:
    lora = AsymmetricLora.open(options.file)
    _check_output(options, ".safetensors", [options.file])
    asymmetric_lora.extract(lora, options.domain, options.output)
    print(f"{options.output}: {lora.domains[lora.find(options.domain)].name} as an ordinary LoRA")


def _join(options: argparse.Namespace) -> None:
    loras = [AsymmetricLora.open(path) for path in options.files]
    _check_output(options, ".safetensors", options.files)
    asymmetric_lora.join(loras, options.output)
    print(f"{options.output}: {sum(len(lora.domains) for lora in loras)} heads")


def _split(options: argparse.Namespace) -> None:
    layout = options.layout or Layout.of(options.frames)
    split = serpentine.split if options.keep_gutters else serpentine.split_trimmed
    frames = split(pictures.read(options.grid)[None], layout)[0]
    if options.output.exists() and not options.output.is_dir():
        raise ValueError(f"{options.output} is a file; the frames need a folder")
    if not options.output.exists():
        _check_name(options.output)
    paths = [options.output / f"{number:0{digits(layout.frames)}}.png" for number in range(1, layout.frames + 1)]
    _check_free(paths, options.force)
    make_folder(options.output)
    with many(options.output):
        for path, frame in zip(paths, frames, strict=True):
            pictures.save_png(frame, path)
    print(f"{options.output}: {layout.frames} frames of {_size(frames[0])} pixels")


def _compose(options: argparse.Namespace) -> None:
    if not options.folder.is_dir():
        raise ValueError(f"there is no folder {options.folder}")
    shown = (path for path in options.folder.iterdir() if not path.name.startswith("."))
    paths = sorted((path for path in shown if path.suffix.lower() in PICTURES), key=pictures.natural)
    if not paths:
        raise ValueError(f"there are no pictures ({', '.join(PICTURES)}) in {options.folder}")
    layout = options.layout or Layout.of(len(paths) if options.frames is None else options.frames)
    if len(paths) != layout.frames:
        raise ValueError(f"a {layout} grid needs {layout.frames} frames, {options.folder} holds {len(paths)} pictures")
    frames = [pictures.read(path) for path in paths]
    for path, frame in zip(paths, frames, strict=True):
        if frame.shape != frames[0].shape:
            raise ValueError(f"{path.name} is {_size(frame)} pixels, but {paths[0].name} is {_size(frames[0])}")
    _check_output(options, ".png")
    pictures.save_png(serpentine.compose(torch.stack(frames)[None], layout)[0], options.output)
    print(f"{options.output}: {layout.frames} frames, {layout}")


def _size(frame: Tensor) -> str:
    return f"{frame.shape[1]} x {frame.shape[0]}"


def _check_output(options: argparse.Namespace, suffix: str, inputs: Sequence[Path] = ()) -> None:
    path = options.output
    if path.suffix.lower() != suffix:
        raise ValueError(f"the result is a {suffix[1:]} file; {path} does not end in {suffix}")
    _check_name(path)
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent}")
    # Not Path.resolve, which raises RuntimeError for a link that leads to itself.
    if os.path.realpath(path) in map(os.path.realpath, inputs):
        raise ValueError(f"{path} is an input, whose heads would be lost; write the result to another file")
    _check_free([path], options.force)


def _check_name(path: Path) -> None:
    if problem := problem_of(path.name):
        raise ValueError(f"{path} can't be written: {problem}")


def _check_free(paths: Sequence[Path], force: bool) -> None:
    for path in paths:
        if path.exists() and not force:
            raise ValueError(f"{path} exists; choose another output, or replace it with --force")


if __name__ == "__main__":
    sys.exit(main())
