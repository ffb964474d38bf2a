"""README.md, docs/training.md and their neighbours: what they name exists, and errors are quoted as they are."""

import ast
import json
import re
from pathlib import Path

import pytest

from makeanything.domains import DOMAINS
from workflows.source import kits
from workflows.source.catalogue import CATALOGUE

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/training.md")]
README = PAGES[0].read_text(encoding="utf-8")
MODELS = [model for model in vars(kits).values() if isinstance(model, dict) and "directory" in model]


@pytest.fixture(scope="module")
def literals() -> list[str]:
    """Every text in the code that users and trainers run."""
    sources = [path for folder in ("nodes", "makeanything", "training") for path in (ROOT / folder).rglob("*.py")]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sources]
    constants = [node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    # Places for names in the texts of the log.
    return [part for value in constants if isinstance(value, str) for part in value.split("%s")]


def quoted(text: str) -> list[str]:
    return re.findall(r'\*\*"(.+?)"\*\*', text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_errors_are_quoted_as_they_are(page, literals):
    parts = [part for quote in quoted(page.read_text("utf-8")) for part in re.split(r" ?… ?", quote) if part.strip()]
    assert [part for part in parts if not any(part in literal for literal in literals)] == []


def test_errors_are_quoted_at_all():
    assert len(quoted(README)) > 15
    assert len(quoted(PAGES[-1].read_text("utf-8"))) > 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_commands_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("https://")]
    assert [link for link in links if not (page.parent / link).exists()] == []
    modules = [ROOT / module.replace(".", "/") for module in re.findall(r"-m ([\w.]+)", text) if module != "pytest"]
    assert [
        path for path in modules if not (path.with_suffix(".py").is_file() or (path / "__main__.py").is_file())
    ] == []
    configs = re.findall(r"`((?:add_head|heads|recraft)\w*\.toml)`", text)
    assert [name for name in configs if not (ROOT / "training/configs" / name).is_file()] == []


def test_the_table_of_nodes_is_complete():
    nodes = json.loads((ROOT / "locales/en/nodeDefs.json").read_text(encoding="utf-8"))
    table = README.split("## The nodes")[1].split("\n\n")[1]
    listed = [row.split("|")[1].strip() for row in table.splitlines()[2:]]
    assert sorted(listed) == sorted(node["display_name"] for node in nodes.values())


def test_every_workflow_is_named():
    assert [name for name in CATALOGUE if f"`{name}`" not in README] == []


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model["name"])
def test_files_are_named_with_their_folder_and_place(model):
    # Of https://huggingface.co/OWNER/NAME/resolve/main/...
    place = "/".join(model["url"].split("/")[3:5])
    assert place in README
    paragraph = next(part for part in re.split(r"\n(?=\|)|\n\n", README) if f"`{model['name']}`" in part)
    assert f"`{model['directory']}`" in paragraph or "beside the other text encoders" in paragraph


def test_every_domain_is_named():
    sentence = " ".join(README.split("The 9-frame file has")[1].split("\n\n")[0].split())
    assert [domain.name for domain in DOMAINS if domain.name not in sentence] == []
