"""The arrows between the folders, read off the imports:  nodes -> makeanything <- training;  demo and benchmarks
lie outside.

Nothing is imported here, so this holds with and without ComfyUI and sd-scripts.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("makeanything", "nodes", "training", "demo", "benchmarks")

STDLIB = set(sys.stdlib_module_names)
METHOD = {"torch", "safetensors", "einops", "numpy", "PIL"}
HOST = {
    "aiohttp",
    "comfy",
    "comfy_api",
    "comfy_execution",
    "comfy_extras",
    "folder_paths",
    "latent_preview",
    "node_helpers",
    "server",
}
SD_SCRIPTS = {"flux_train_network", "library", "networks", "train_network"}
"""Top-level names that belong to sd-scripts."""
TRAINING = {"accelerate", "av", "came_pytorch", "toml", "tqdm"}

FORBIDDEN_MODULES = {
    "ctypes", "ftplib", "http", "importlib", "marshal", "multiprocessing", "pickle", "pip", "pkgutil", "requests",
    "runpy", "shelve", "smtplib", "socket", "ssl", "subprocess", "urllib", "urllib3", "webbrowser", "xmlrpc",
}  # fmt: skip
"""What a pack from the internet has no business with: code from elsewhere, other processes, the network."""
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "torch.load", "torch.hub.load", "os.system", "os.popen"}

LONGEST = 200
"""Lines; a file is one idea."""
WHOLE = {"makeanything/reference/flux.py": 284}
"""FLUX reads best in one piece."""

FILES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
SHIPPED = [path for path in FILES if path.relative_to(ROOT).parts[0] in ("makeanything", "nodes")]
"""What ComfyUI runs on an artist's machine."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(tree: ast.AST, path: Path) -> Iterator[tuple[str, bool]]:
    """(dotted module from the root of the pack or of the search path, whether the import is relative)."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module), False
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1]
            modules = [node.module] if node.module else [alias.name for alias in node.names]
            yield from ((".".join((*base, module)), True) for module in modules)


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def allowed(folder: str) -> tuple[set[str], set[str]]:
    """Top-level names that a folder may import relatively, and absolutely."""
    return {
        "makeanything": ({"makeanything"}, STDLIB | METHOD),
        # Absolutely, "nodes" is ComfyUI's.
        "nodes": ({"nodes", "makeanything"}, STDLIB | METHOD | HOST | {"nodes"}),
        "training": ({"training"}, STDLIB | METHOD | TRAINING | SD_SCRIPTS | {"makeanything", "training"}),
        "demo": ({"demo"}, STDLIB | METHOD | {"makeanything", "training", "demo", "tqdm", "matplotlib", "resvg_py"}),
        # They run the nodes too, in a ComfyUI that the tests know how to find.
        "benchmarks": (
            {"benchmarks"},
            STDLIB | METHOD | HOST | {"nodes", "comfy_aimdo", "makeanything", "training", "benchmarks"},
        ),
    }[folder]


def violations(source: str, path: Path) -> list[str]:
    """What breaks the arrows in a file that lies (or would lie) at `path`."""
    tree = ast.parse(source)
    folder = path.relative_to(ROOT).parts[0]
    relative, absolute = allowed(folder)
    found = []
    for module, is_relative in imports(tree, path):
        if module.split(".")[0] not in (relative if is_relative else absolute):
            found.append(f"{name_of(path)} imports {module}{' relatively' if is_relative else ''}")
        if folder in ("makeanything", "nodes") and module.split(".")[0] in FORBIDDEN_MODULES:
            found.append(f"{name_of(path)} imports {module}, which the pack must not need")
    if folder in ("makeanything", "nodes"):
        found += [f"{name_of(path)} {what}" for what in foul_play(tree)]
    return found


def foul_play(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and dotted(node.func) in FORBIDDEN_CALLS:
            yield f"calls {dotted(node.func)}"
        if isinstance(node, ast.Attribute) and dotted(node) in ("sys.path", "sys.modules"):
            yield f"touches {dotted(node)}"
        if (
            isinstance(node, ast.ImportFrom)
            and node.module == "sys"
            and {"path", "modules"} & {a.name for a in node.names}
        ):
            yield "takes path or modules from sys"


def test_there_is_something_to_check():
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(FOLDERS)
    assert len(SHIPPED) > 10


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_arrows(path):
    assert violations(path.read_text(encoding="utf-8"), path) == []


@pytest.mark.parametrize("path", SHIPPED, ids=name_of)
def test_files_hold_one_idea(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= WHOLE.get(name_of(path), LONGEST)


def test_the_root_gives_comfyui_its_entry_and_nothing_else():
    path = ROOT / "__init__.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert list(imports(tree, path)) == [("nodes", True)]
    exported = {
        name.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for name in node.targets
        if isinstance(name, ast.Name)
    }
    assert exported == {"WEB_DIRECTORY", "__all__"}
    assert not [node for node in ast.walk(tree) if isinstance(node, (ast.Call, ast.FunctionDef, ast.ClassDef))]


def test_torch_is_never_asked_of_an_installer():
    """It would replace the build for the user's graphics card."""
    wanted = [
        line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    ]
    assert not [line for line in wanted if line.lower().startswith("torch")]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("makeanything/x.py", "import comfy.utils"),
        ("makeanything/x.py", "from folder_paths import get_full_path"),
        ("makeanything/x.py", "from ..nodes import sockets"),
        ("makeanything/x.py", "from .. import training"),
        ("makeanything/x.py", "from makeanything import files"),
        ("makeanything/x.py", "from library import flux_utils"),
        ("makeanything/x.py", "import diffusers"),
        ("makeanything/deep/x.py", "from ...nodes.inputs import io"),
        ("makeanything/x.py", "def f():\n    import tqdm"),
        ("nodes/x.py", "from makeanything import files"),
        ("nodes/x.py", "from ..training import loop"),
        ("nodes/x.py", "from .. import training"),
        ("nodes/x.py", "import training.loop"),
        ("nodes/x.py", "import networks.lora_flux"),
        ("nodes/x.py", "import sys\nsys.path.insert(0, 'here')"),
        ("nodes/x.py", "from sys import path"),
        ("nodes/x.py", "import requests"),
        ("nodes/x.py", "from urllib.request import urlopen"),
        ("makeanything/x.py", "import subprocess as sp"),
        ("makeanything/x.py", "import torch\ntorch.load('x')"),
        ("makeanything/x.py", "eval('1')"),
        ("makeanything/x.py", "exec('1')"),
        ("training/x.py", "from nodes import heads"),
        ("training/x.py", "from ..nodes import heads"),
        ("training/x.py", "import comfy.sd"),
        ("demo/x.py", "from nodes.heads import NODES"),
        ("demo/x.py", "from library import train_util"),
    ],
)
def test_the_check_finds(path, source):
    assert violations(source, ROOT / path)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("makeanything/x.py", "import torch, json\nfrom . import files\nfrom .serpentine import Layout\nmodel.eval()"),
        (
            "nodes/x.py",
            "from ..makeanything.domains import Domain\nimport comfy.utils, folder_paths, nodes\nfrom . import pins",
        ),
        (
            "training/x.py",
            "from makeanything import flow\nfrom library import flux_train_utils\nimport networks.lora_flux",
        ),
        ("demo/x.py", "from makeanything import flow\nfrom training.builtin.loop import fit\nfrom . import canvas"),
    ],
)
def test_the_check_accepts(path, source):
    assert violations(source, ROOT / path) == []
