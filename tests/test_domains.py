"""Domains against the table of the released weights."""

import json
import re

import pytest

from makeanything.domains import DOMAINS, RELEASED_BY_HEADS, Domain, find, prompt_form
from makeanything.serpentine import Layout

TABLE = """
    1 LEGO 9                    2 Cook 9             3 Painting 9          4 Icon 9
    5 Landscape illustration 9  6 Portrait 9         7 Transformer 9       8 Sand art 9
    9 Illustration 9           10 Sketch 9          11 Clay toys 4        12 Clay sculpture 4
   13 Zbrush modeling 4        14 Wood sculpture 4  15 Ink painting 4     16 Pencil sketch 4
   17 Fabric toys 4            18 Oil painting 4    19 Jade carving 4     20 Line draw 4
   21 Emoji 4
"""
"""Number, name and frames of the 21 domains, as published with the weights."""

ROWS = [(int(number), name, int(frames)) for number, name, frames in re.findall(r"(\d+) (\D+?) (\d)\b", TABLE)]


def test_the_table_is_whole():
    assert [row[0] for row in ROWS] == list(range(1, 22))


@pytest.mark.parametrize(("number", "name", "frames"), ROWS)
def test_released_domains(number, name, frames):
    domain = DOMAINS[number - 1]
    assert (domain.name, domain.layout) == (name, Layout.of(frames))
    for wanted in (name, name.upper(), f"  {name.lower()} ", number, str(number)):
        assert find(DOMAINS, wanted) == number - 1


def test_prompt_of_the_published_sentence():
    portrait = DOMAINS[find(DOMAINS, "Portrait")]
    assert portrait.write_prompt("1 girl") == "3*3 of 9 sub-images, step-by-step portrait painting process, 1 girl"
    four = RELEASED_BY_HEADS[21][find(RELEASED_BY_HEADS[21], "Portrait")]
    assert four.write_prompt("1 girl") == "2*2 of 4 sub-images, step-by-step portrait painting process, 1 girl"


def test_every_prompt_follows_its_pattern():
    for domain in DOMAINS:
        edge = {9: 3, 4: 2}[domain.layout.frames]
        frames = domain.layout.frames
        assert re.fullmatch(
            rf"{edge}\*{edge} of {frames} sub-images, step-by-step [\w -]+ process, a cat", domain.write_prompt("a cat")
        )
    assert len({domain.prompt for domain in DOMAINS}) == len(DOMAINS)
    assert prompt_form(Layout(2, 3), "weaving") == "2*3 of 6 sub-images, step-by-step weaving process, {subject}"


def test_released_files_by_number_of_heads():
    assert sorted(RELEASED_BY_HEADS) == [10, 21]
    assert [domain.name for domain in RELEASED_BY_HEADS[10]] == [name for _, name, _ in ROWS[:10]]
    assert [domain.name for domain in RELEASED_BY_HEADS[21]] == [name for _, name, _ in ROWS]
    assert {domain.layout for domain in RELEASED_BY_HEADS[10]} == {Layout(3, 3)}
    assert {domain.layout for domain in RELEASED_BY_HEADS[21]} == {Layout(2, 2)}


def test_steps_are_numbered_by_frame_and_empty_lines_skip():
    domain = Domain.of("Tea", 4, "tea making")
    assert domain.write_prompt(" green tea ", ["boil water", "", "  pour  "]) == (
        "2*2 of 4 sub-images, step-by-step tea making process, green tea, step 1: boil water, step 3: pour"
    )
    assert domain.write_prompt("tea", [" ", ""]) == domain.write_prompt("tea")
    with pytest.raises(ValueError, match="5 lines describe the frames of Tea, but its grid has 4 frames"):
        domain.write_prompt("tea", ["x"] * 5)


@pytest.mark.parametrize("subject", ["{a|b}", "{subject}", "{0}", "}{", "100% \\n"])
def test_a_subject_may_hold_braces(subject):
    assert Domain.of("Tea", 4, "tea making").write_prompt(subject).endswith(f" process, {subject}")


def test_a_prompt_form_may_hold_other_braces():
    assert Domain("Tea", Layout(2, 2), "{red|green} {} {subject}, {subject}").write_prompt("pot") == (
        "{red|green} {} pot, pot"
    )


@pytest.mark.parametrize(
    ("typo", "name"), [("Portait", "Portrait"), ("oil paintng", "Oil painting"), ("EMOJIS", "Emoji")]
)
def test_a_typo_is_answered_with_the_nearest_name(typo, name):
    with pytest.raises(ValueError, match=f"^there is no domain '{typo}': did you mean '{name}'\\?$"):
        find(DOMAINS, typo)


def test_a_name_like_none_is_answered_with_the_names():
    with pytest.raises(ValueError, match=r"^there is no domain 'qqq': the domains are LEGO, Cook, .* and 10 more$"):
        find(DOMAINS, "qqq")
    with pytest.raises(ValueError, match=r"^there is no domain 'qqq': the domains are LEGO, Cook, Painting, Icon$"):
        find(DOMAINS[:4], "qqq")


@pytest.mark.parametrize("number", [0, 22, -1, "0", "22", "+99"])
def test_a_number_out_of_range_is_answered_with_the_range(number):
    with pytest.raises(ValueError, match=f"^there is no domain {int(number)}: the numbers go from 1 to 21$"):
        find(DOMAINS, number)


def test_an_empty_name_is_no_domain():
    with pytest.raises(ValueError, match="there is no domain '': the domains are LEGO"):
        find(DOMAINS, " ")


@pytest.mark.parametrize("domain", [*DOMAINS, Domain("Räksmörgås", Layout(2, 3), 'a "{subject}" {x}')])
def test_json_round_trip(domain):
    assert Domain.from_json(json.loads(json.dumps(domain.to_json()))) == domain


WHOLE = {"name": "Tea", "rows": 2, "cols": 2, "prompt": "making {subject}"}


def test_the_json_form_is_permanent():
    assert Domain("Tea", Layout(2, 2), "making {subject}").to_json() == WHOLE
    assert Domain.from_json({**WHOLE, "later": "additions are no error"}).name == "Tea"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "JSON object, got nothing"),
        ("Tea", "JSON object, got text"),
        (["Tea", 2, 2], "JSON object, got a list"),
        *(({k: v for k, v in WHOLE.items() if k != key}, f"lacks '{key}'") for key in WHOLE),
        *(({**WHOLE, key: None}, "values of the wrong kind") for key in WHOLE),
        ({**WHOLE, "name": 6}, "values of the wrong kind"),
        ({**WHOLE, "rows": "2"}, "values of the wrong kind"),
        ({**WHOLE, "rows": 2.0}, "values of the wrong kind"),
        ({**WHOLE, "cols": True}, "values of the wrong kind"),
        ({**WHOLE, "prompt": ["making {subject}"]}, "values of the wrong kind"),
        ({**WHOLE, "rows": 0}, "at least one row and one column"),
        ({**WHOLE, "name": " "}, "a domain needs a name"),
        ({**WHOLE, "prompt": "making tea"}, r"prompt form of domain 'Tea' lacks \{subject\}: 'making tea'"),
    ],
)
def test_malformed_json_says_what_is_wrong(data, message):
    with pytest.raises(ValueError, match=message):
        Domain.from_json(data)


@pytest.mark.parametrize("subject", ["", "  \n"])
def test_a_prompt_needs_a_subject(subject):
    with pytest.raises(ValueError, match="the subject is empty"):
        DOMAINS[0].write_prompt(subject)


def test_a_number_is_no_name():
    with pytest.raises(ValueError, match="a name that is not a number, got '3'"):
        Domain.of("3", 9, "counting")


def test_names_can_be_shown_in_a_list():
    for name in ("a\nb", "a\x1b[31m", "half \ud83d", "line\u2028end"):
        with pytest.raises(ValueError, match="can't be shown in a list"):
            Domain(name, Layout(3, 3), "{subject}")
    for name in ("日本画", "Émaux", "👩\u200d🎨"):
        assert Domain(name, Layout(3, 3), "{subject}").name == name
