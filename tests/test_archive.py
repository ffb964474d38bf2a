"""What registry.comfy.org gives to artists: all that ComfyUI needs of the pack, and nothing else.

`comfy node publish` packs what git tracks and .comfyignore does not match; this reads the same file in the same way.
"""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import toml
from pathspec import PathSpec

from makeanything.weights_file import open_weights
from tests.test_architecture import SHIPPED, name_of
from workflows.source.frontend import PACK

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 45_000_000
"""Bytes of all files."""

FOLDERS = {"locales", "makeanything", "models", "nodes", "web", "workflows"}
FILES = {"LICENSE", "README.md", "__init__.py", "pyproject.toml", "requirements.txt"}
REMOTE_JS = re.compile(r"\beval\(|new Function\(|new WebSocket\(|['\"`](?:https?:)?//(?!www\.w3\.org/)")


def ignored() -> PathSpec:
    lines = (ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines()
    return PathSpec.from_lines("gitwildmatch", [line for line in lines if line.strip() and not line.startswith("#")])


def archive() -> list[str]:
    """Paths of the archive's files, from the root."""
    spec = ignored()
    kept = [entry for entry in ROOT.iterdir() if not spec.match_file(entry.name)]
    paths = [path for entry in kept for path in ([entry] if entry.is_file() else entry.rglob("*")) if path.is_file()]
    names = [path.relative_to(ROOT).as_posix() for path in paths]
    return sorted(name for name in names if not spec.match_file(name))


ARCHIVE = archive()
PYTHON = [name for name in ARCHIVE if name.endswith(".py")]


def imported(name: str) -> set[str]:
    """Files that a file imports relatively, and those that make packages of the folders it lies in."""
    found = {folder / "__init__.py" for folder in (ROOT / name).parents if folder != ROOT and ROOT in folder.parents}
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = (ROOT / name).parents[node.level - 1] / (node.module or "").replace(".", "/")
            ways = [folder, *(folder / alias.name for alias in node.names)]
            found |= {way.with_suffix(".py") for way in ways} | {way / "__init__.py" for way in ways}
    return {path.relative_to(ROOT).as_posix() for path in found if path.is_file()}


def tree(name: str) -> ast.Module:
    return ast.parse((ROOT / name).read_text(encoding="utf-8"))


def test_the_archive_holds_what_comfyui_reads_and_nothing_else():
    assert {name.split("/")[0] for name in ARCHIVE} == FOLDERS | FILES
    assert [name for name in ARCHIVE if "__pycache__" in name or name.startswith("workflows/source")] == []
    assert {name.rpartition(".")[2] for name in ARCHIVE} <= {
        "css", "jpg", "js", "json", "md", "py", "safetensors", "toml", "txt", "webp", "LICENSE"
    }  # fmt: skip


@pytest.mark.parametrize("name", PYTHON)
def test_imports_are_in_the_archive(name):
    assert imported(name) - set(ARCHIVE) == set()


def test_code_is_what_comfyui_and_the_command_line_reach():
    reached, new = set(), {"__init__.py", "makeanything/__init__.py", "makeanything/__main__.py"}
    while new:
        reached |= new
        new = {name for found in new for name in imported(found)} - reached
    assert set(PYTHON) == reached


def test_the_folder_of_what_comfyui_never_needs_holds_all_of_that():
    left_out = {path.relative_to(ROOT).as_posix() for path in (ROOT / "makeanything").rglob("*.py")} - set(PYTHON)
    assert {name.rpartition("/")[0] for name in left_out} == {"makeanything/reference"}


def test_every_part_is_whole():
    nodes = set(json.loads((ROOT / "locales/en/nodeDefs.json").read_text(encoding="utf-8")))
    assert {f"web/docs/{node}.md" for node in nodes} <= set(ARCHIVE)
    graphs = {name for name in ARCHIVE if re.fullmatch(r"workflows/\w+\.json", name)}
    assert len(graphs) >= 11
    assert {name.replace(".json", ".jpg") for name in graphs} <= set(ARCHIVE)
    assert {f"locales/{language}/nodeDefs.json" for language in ("en", "es", "fr", "ja", "ko", "zh")} <= set(ARCHIVE)


def test_weights_are_files_and_not_pointers_to_them():
    weights = [ROOT / name for name in ARCHIVE if name.endswith(".safetensors")]
    assert {path.parent.name for path in weights} == {"diffusion_models", "loras", "text_encoders", "vae"}
    for path in weights:
        with open_weights(path) as file:
            assert file.entries


def test_the_archive_is_small():
    assert sum((ROOT / name).stat().st_size for name in ARCHIVE) < LARGEST


def test_code_is_held_to_the_rules_of_what_is_shipped():
    """test_architecture.py looks for other processes, the network and code from elsewhere in these files."""
    assert set(PYTHON) <= {"__init__.py", *map(name_of, SHIPPED)}


def test_scripts_run_nothing_from_elsewhere():
    scripts = [name for name in ARCHIVE if name.endswith(".js")]
    assert [name for name in scripts if REMOTE_JS.search((ROOT / name).read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    "script", ["eval('1')", "new Function('a')", "fetch('https://example.com/x')", 'import("//example.com/x.js")']
)
def test_the_check_of_scripts_finds(script):
    assert REMOTE_JS.search(script)


def test_the_registry_can_read_the_project():
    settings: dict[str, Any] = toml.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project, comfy = settings["project"], settings["tool"]["comfy"]
    assert re.fullmatch(r"[a-z](?:[a-z0-9]|[-_.](?=[a-z0-9])){0,98}", project["name"])
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"])
    assert (ROOT / project["license"]["file"]).is_file()
    assert (ROOT / project["readme"]).is_file()
    assert re.fullmatch(r">=\d+\.\d+\.\d+", comfy["requires-comfyui"])
    assert {"PublisherId", "DisplayName", "Icon"} <= comfy.keys()
    assert "Repository" in project["urls"]
    # WEB_DIRECTORY names the scripts already; with this they would load twice.
    assert "web" not in comfy
    # Workflows name the pack, so that ComfyUI can offer to install it.
    assert project["name"] == PACK
