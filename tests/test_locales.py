"""The translations: complete, alike, and in the form that ComfyUI's frontend reads.

The English ones are the nodes' own: tests/host/locales.py writes them, and tests/host/test_every_node.py checks them.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
LOCALES = ROOT / "locales"
LANGUAGES = ("en", "es", "fr", "ja", "ko", "zh")
OTHERS = [language for language in LANGUAGES if language != "en"]

Texts = dict[tuple[str, ...], str]
"""Place of a text, as the keys that lead to it -> the text."""


def leaves(tree: dict[str, Any], place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, (*place, key))
        else:
            yield (*place, key), value


def read(language: str) -> Texts:
    return dict(leaves(json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))))


@pytest.fixture(scope="module")
def english() -> Texts:
    return read("en")


def test_languages():
    assert sorted(path.name for path in LOCALES.iterdir()) == list(LANGUAGES)


@pytest.mark.parametrize("language", OTHERS)
def test_no_text_is_missing_or_left_over(language, english):
    assert list(read(language)) == list(english)


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_are_plain(language):
    """vue-i18n compiles them: braces, @ and | are its syntax."""
    for place, text in read(language).items():
        assert isinstance(text, str) and text.strip() == text != "", place
        assert not set("{}@|\n") & set(text), place
        assert "  " not in text, place


@pytest.mark.parametrize("language", OTHERS)
def test_sentences_are_translated(language, english):
    for place, text in read(language).items():
        assert text != english[place] or place[-1] not in ("tooltip", "description"), place


@pytest.mark.parametrize("language", OTHERS)
def test_one_english_text_has_one_translation(language, english):
    known: dict[str, str] = {}
    for place, text in read(language).items():
        assert known.setdefault(english[place], text) == text, place


@pytest.mark.parametrize("language", OTHERS)
def test_values_are_kept(language, english):
    """Numbers, formats and files of the English text, which mean the same in every language."""
    for place, text in read(language).items():
        values = re.findall(r"\d+(?:x\d)?|[A-Z]{3,}|\w+/\w+|\w+_\w+|\.safetensors", english[place])
        assert place[-1] == "name" or [value for value in values if value not in text] == [], place


@pytest.mark.parametrize("language", OTHERS)
def test_nodes_are_called_by_their_names(language, english):
    texts = read(language)
    names = {english[place]: texts[place] for place in english if place[-1] == "display_name"}
    mentions = [(place, name) for place, text in english.items() for name in names if name in text]
    assert len(mentions) > len(names)
    for place, name in mentions:
        assert names[name] in texts[place], (place, name)


def panels(language: str) -> dict[str, str]:
    """English text -> its translation, of what web/ shows."""
    return json.loads((LOCALES / language / "main.json").read_text(encoding="utf-8"))["makeanything"]


def said() -> set[str]:
    """Every text that a script gives to say().  Some choose between texts, which stand in quotes of their own."""
    scripts = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "web").glob("*.js"))
    calls = re.findall(r"\bsay\(((?:[^()]|\([^()]*\))*)\)", scripts)
    chosen = re.findall(r"const rest = (.*);", scripts)
    return {text for call in (*calls, *chosen) for text in re.findall(r'"([^"]+)"', call)}


@pytest.mark.parametrize("language", OTHERS)
def test_panels_are_translated(language):
    texts = panels(language)
    assert set(texts) == said()
    assert len(texts) > 25
    for english, text in texts.items():
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", english)), english
        assert text.strip() == text != "", english
    assert sum(text != english for english, text in texts.items()) > len(texts) - 5


def test_the_panels_say_nothing_untranslated():
    """Texts of buttons and labels that stand in the scripts without say()."""
    for path in (ROOT / "web").glob("*.js"):
        plain = re.findall(r'(?:textContent|title|ariaLabel|alt): "(\w[^"]*)"', path.read_text(encoding="utf-8"))
        assert plain == [], path.name
