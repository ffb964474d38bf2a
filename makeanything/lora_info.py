"""What an ordinary LoRA file says about itself: the words that trigger it, and the layers its keys belong to."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping

from .foreign import parse_json

MOST_WORDS = 100
WORD_CHARACTERS = 500
"""Of one trigger word; longer ones are none."""
JSON_DEPTH, JSON_VALUES = 32, 1_000_000
"""Of kohya's entries, which describe whole training sets."""

MOST_TAGS = 5
"""Tags of a training set that are offered when a file names no trigger words."""

_PART = re.compile(
    r"\.(lora_|lora\.|alpha$|dora_scale$|diff(_b)?$|set_weight$|hada_|lokr_|oft_|reshape_weight$|[ab]\d?\.).*"
)


def trigger_words(metadata: Mapping[str, str]) -> list[str]:
    """Trigger words from a safetensors header, best source first; empty when it holds none.

    `modelspec.trigger_phrase` (ModelSpec), `ss_trained_words`, the class tokens of kohya's `ss_datasets`, else the most
    frequent tags of its `ss_tag_frequency`.
    """
    for words in (
        _split(metadata.get("modelspec.trigger_phrase", "")),
        _trained(metadata.get("ss_trained_words", "")),
        _class_tokens(_json(metadata, "ss_datasets")),
        _tags(_json(metadata, "ss_tag_frequency")),
    ):
        if known := [word for word in dict.fromkeys(words) if len(word) <= WORD_CHARACTERS]:
            return known[:MOST_WORDS]
    return []


def _split(text: str) -> list[str]:
    """Of the start of the text, which holds as many words as are kept; a word that the cut goes through is none."""
    most = MOST_WORDS * (WORD_CHARACTERS + 2)
    if len(text) > most:
        text = text[:most].rpartition(",")[0]
    return [word.strip() for word in text.split(",") if word.strip()]


def _json(metadata: Mapping[str, str], key: str) -> object:
    """The header holds text only; anyone's file may hold anything in it, and kohya's trainers write NaN."""
    try:
        return parse_json(metadata.get(key, ""), JSON_DEPTH, JSON_VALUES, lenient=True)
    except ValueError:
        return None


def _trained(text: str) -> list[str]:
    words = _json({"words": text}, "words")
    return [word for word in words if isinstance(word, str)] if isinstance(words, list) else _split(text)


def _class_tokens(datasets: object) -> list[str]:
    subsets = [subset for entry in _objects(datasets) for subset in _objects(entry.get("subsets"))]
    return [tokens for subset in subsets if isinstance(tokens := subset.get("class_tokens"), str) and tokens.strip()]


def _objects(entries: object) -> list[dict[str, object]]:
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _tags(frequencies: object) -> list[str]:
    """The tags that at least half as many captions have as the most frequent one."""
    counts: Counter[str] = Counter()
    for folder in frequencies.values() if isinstance(frequencies, dict) else ():
        if isinstance(folder, dict):
            counts.update({tag.strip(): n for tag, n in folder.items() if isinstance(n, int) and tag.strip()})
    most = max(counts.values(), default=0)
    return [tag for tag, count in counts.most_common(MOST_TAGS) if count * 2 >= most]


def layer_of(key: str, known: Collection[str] = ()) -> str:
    """The layer that a key of a LoRA file belongs to: the longest `known` name that it starts with, else a guess."""
    name = key
    while "." in name:
        name = name.rpartition(".")[0]
        if name in known:
            return name
    return _PART.sub("", key)
