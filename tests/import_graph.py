"""Who imports whom: `python -m tests.import_graph [ROOT]` prints the arrows between folders, and any circle.

A room is a folder of Python files.  In the search for circles a file that lies beside rooms, such as an entry point, is
a room of its own.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("makeanything", "nodes", "training", "demo", "benchmarks")

Arrow = tuple[str, str]


def files(root: Path = ROOT) -> list[Path]:
    return [path for folder in FOLDERS for path in sorted((root / folder).rglob("*.py"))]


def imported(path: Path, root: Path = ROOT) -> Iterator[Path]:
    """The project's files that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = path.parents[node.level - 1] if node.level else root
            module = base / (node.module or "").replace(".", "/")
            ways = [module / alias.name for alias in node.names]
            found = [way.with_suffix(".py") for way in ways if way.with_suffix(".py").is_file()]
            yield from found
            if len(found) < len(ways) and module.with_suffix(".py").is_file():
                yield module.with_suffix(".py")
        elif isinstance(node, ast.Import):
            ways = [root / alias.name.replace(".", "/") for alias in node.names]
            yield from (way.with_suffix(".py") for way in ways if way.with_suffix(".py").is_file())


def rooms(root: Path = ROOT) -> Mapping[str, str]:
    """File -> its room."""
    names = [path.relative_to(root).as_posix() for path in files(root)]
    folders = set(map(folder, names))
    return {n: n if any(other.startswith(f"{folder(n)}/") for other in folders) else folder(n) for n in names}


def between_files(root: Path = ROOT) -> set[Arrow]:
    """Arrows from importing to imported file."""
    known = set(files(root))
    name = {path: path.relative_to(root).as_posix() for path in known}
    return {(name[path], name[other]) for path in known for other in imported(path, root) if other in known - {path}}


def between(arrows: Iterable[Arrow], place: Callable[[str], str]) -> Mapping[Arrow, int]:
    """Arrows between the places of files, with the number of pairs of files behind each."""
    return Counter((place(a), place(b)) for a, b in arrows if place(a) != place(b))


def folder(name: str) -> str:
    """The folder of a file."""
    return name.rpartition("/")[0]


def circle(arrows: Iterable[Arrow]) -> list[str]:
    """The stations of one circle; empty where there is none."""
    graph: dict[str, set[str]] = {}
    for a, b in arrows:
        graph.setdefault(a, set()).add(b)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def main() -> None:
    root = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT
    arrows = between_files(root)
    for (a, b), count in sorted(between(arrows, folder).items()):
        print(f"{a} -> {b}: {count}")
    counts = Counter(folder(path.relative_to(root).as_posix()) for path in files(root) if path.name != "__init__.py")
    print("files:", ", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    print("circle between files:", " -> ".join(circle(arrows)) or "none")
    print("circle between rooms:", " -> ".join(circle(between(arrows, rooms(root).__getitem__))) or "none")


if __name__ == "__main__":
    main()
