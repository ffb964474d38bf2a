"""Grids to train on, from videos, folders of pictures and finished grids: `python -m training.make_dataset --help`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from makeanything.domains import DOMAINS, Domain
from makeanything.file_names import problem_of
from makeanything.foreign import brief

from .data.domain_list import read_domains
from .data.folder import DatasetFolder
from .data.grid import Drawing
from .data.picking import Picking, Skip
from .data.sequences import CAPTIONS, Item, Skipped, in_frames, look, slug, why
from .values import printable

EXAMPLES = """examples:
  python -m training.make_dataset timelapses --domain Portrait -o dataset
  python -m training.make_dataset videos --domain "Origami:9:origami folding" --pick change --skip-end 3s -o dataset
  python -m training.make_dataset folders --domains "Origami:9:origami folding;Pottery:4:pottery making" -o dataset
  python -m training.make_dataset authors_dataset -o dataset

The input holds videos, animations, folders of pictures and finished grids, each a sequence of its own.  A caption lies
beside it in X.caption or X.txt, or in a folder of pictures in caption.txt; else its name says what is made.
"""
NOTHING, WRONG, INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a dataset; 0, 1 when there is nothing to make it of, 2 with a line on stderr when the command is wrong."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        domains = _domains(options)
        picking = Picking(options.pick == "change", options.reverse, options.skip_start, options.skip_end)
        drawing = Drawing(picking, options.size, options.order == "rows", options.keep_gutters)
        _check_folders(options.input, options.output)
        folder = DatasetFolder(options.output, options.captions, domains if options.lora_up else ())
        return _make(options, domains, drawing, folder)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return WRONG


def _make(options: argparse.Namespace, domains: Sequence[Domain], drawing: Drawing, folder: DatasetFolder) -> int:
    found = list(look(options.input, domains, flat=bool(options.domain)))
    skipped = [each for each in found if isinstance(each, Skipped)]
    items = [each for each in found if isinstance(each, Item)]
    for item in items:
        drawing.cell(item.domain.layout)
    _say_without_clock(drawing.picking, items)
    made = 0
    for item in tqdm(items, "making grids", unit="grid", dynamic_ncols=True):
        try:
            made_from = drawing.made_from(item)
            picture = None if folder.has(item, made_from) else drawing.draw(item)
        except (ValueError, OSError) as error:
            skipped.append(Skipped(item.path, why(error)))
            folder.drop(item)
            continue
        # Outside of the try: a full disk ends the run.
        if picture is not None:
            folder.save(item, picture, made_from)
            made += 1
    return _report(options, folder, made, skipped)


def _say_without_clock(picking: Picking, items: Sequence[Item]) -> None:
    folders = sum(item.path.is_dir() for item in items)
    if folders and (picking.skip_start.in_seconds or picking.skip_end.in_seconds):
        print(
            f"{folders} of the sequences are folders, whose pictures have no seconds: an intro or outro in seconds "
            "stays in there; give a number of frames, such as 90",
            file=sys.stderr,
        )


def _report(options: argparse.Namespace, folder: DatasetFolder, made: int, skipped: Sequence[Skipped]) -> int:
    for each in skipped:
        print(f"skipped {each}", file=sys.stderr)
    if not folder.grids:
        print(f"there is nothing to make a dataset of in {options.input}", file=sys.stderr)
        folder.list_skipped(skipped)
        return NOTHING
    for domain, grids in folder.grids.items():
        print(f"{printable(grids[0].parent)}: {len(grids)} grids of {domain.name}, {domain.layout}")
    for path in folder.strangers():
        where = printable(path)
        print(f"{where} does not come from {options.input}, but will be trained on; delete it if it should not be")
    look_at = [*folder.finish(options.batch_size, options.repeats), *folder.list_skipped(skipped)]
    print(f"{made} of them made now, {len(skipped)} sequences skipped.  Look at", ", ".join(map(printable, look_at)))
    return 0


def _domains(options: argparse.Namespace) -> Sequence[Domain]:
    text = options.domains if options.domain is None else options.domain
    if text == "":
        raise ValueError("'' names no domain; leave the option out for the released ones")
    domains: Sequence[Domain] = DOMAINS if text is None else read_domains(text)
    if options.domain and len(domains) != 1:
        raise ValueError(f"--domain is one domain, got {len(domains)}; name several with --domains")
    folders = [slug(domain.name) for domain in domains]
    for domain, name in zip(domains, folders, strict=True):
        if problem := problem_of(name):
            raise ValueError(f"there can't be a folder {brief(name)} for the domain {brief(domain.name)}: {problem}")
    if double := {domain.name for domain in domains if folders.count(slug(domain.name)) > 1}:
        raise ValueError(f"these domains would share a folder: {', '.join(sorted(double))}")
    return [in_frames(domain, options.frames) for domain in domains] if options.frames is not None else domains


def _check_folders(source: Path, output: Path) -> None:
    if not source.is_dir():
        raise ValueError(f"there is no folder {source}")
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output} is a file; the dataset is a folder")
    inner, outer = sorted((source.resolve(), output.resolve()), key=lambda path: len(path.parts), reverse=True)
    if inner.is_relative_to(outer):
        raise ValueError(f"{source} and {output} lie in each other; write the dataset to a folder of its own")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.make_dataset",
        description="Grids to train on, from videos, folders of pictures and finished grids.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("input", type=Path, metavar="FOLDER", help="where the sequences lie")
    add("-o", "--output", type=Path, required=True, metavar="FOLDER", help="the dataset; run again to go on or update")
    domain = parser.add_mutually_exclusive_group()
    domain.add_argument("--domain", metavar="NAME", help="the domain of all: a released name, or NAME:FRAMES:PROCESS")
    domain.add_argument(
        "--domains",
        metavar="LIST",
        help="several, separated by ;, or a JSON file: sequences lie in a subfolder with their domain's name, or have "
        "--lora_up NUMBER in their caption (default: the released domains, numbered as the authors do)",
    )
    add("--frames", type=int, metavar="N", help="frames of a grid, 9 or 4 (default: as the domain says)")
    add("--size", type=int, default=0, metavar="PX", help="width of a grid (default: 1056 for 9 frames, 1024 for 4)")
    add("--pick", choices=("even", "change"), default="even", help="frames spread evenly, or by how much changes")
    add("--reverse", action="store_true", help="sequences begin with the finished picture")
    add("--skip-start", type=_skip, default=Skip(), metavar="N|Ns", help="leave out an intro: 90 (frames) or 2.5s")
    add("--skip-end", type=_skip, default=Skip(), metavar="N|Ns", help="leave out an outro")
    add("--order", choices=("serpentine", "rows"), default="serpentine", help="how finished grids are laid out")
    add("--keep-gutters", action="store_true", help="leave the dark lines of finished grids in")
    add("--captions", choices=CAPTIONS, default=CAPTIONS[0], help="what caption files end in (default .caption)")
    add("--lora-up", action="store_true", help="write --lora_up_cur NUMBER into captions, for the authors' trainer")
    add("--repeats", type=_count, default=1, metavar="N", help="num_repeats in dataset.toml (default 1)")
    add("--batch-size", type=_count, default=2, metavar="N", help="batch_size in dataset.toml (default 2)")
    return parser


def _skip(text: str) -> Skip:
    try:
        return Skip.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _count(text: str) -> int:
    if not re.fullmatch(r"0*[1-9][0-9]{0,5}", text):
        raise argparse.ArgumentTypeError(f"a number from 1 is needed, got '{brief(text)}'")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
