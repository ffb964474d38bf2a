"""What others wrote: parsed within bounds, quoted within bounds, and names that every system can have."""

import json
import math

import numpy as np
import pytest
import torch

from makeanything.file_names import check_prefix, problem_of
from makeanything.foreign import brief, finite, kind, name_list, need, parse_json, text_of, within


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 5 + "]" * 5, "it is nested more than 4 deep"),
        ('{"a":' * 20, "it is nested more than 4 deep"),
        ("[" + "0," * 50 + "0]", "it holds more than 40 values"),
        ("[" + "[]," * 30 + "[]]", "it holds more than 40 values"),
        ('{"a": 1, "a": 2}', "two entries of one name"),
        ('["\\ud800"]', "surrogates not allowed"),
        ("[NaN]", "NaN is not a number"),
        ("[-Infinity]", "-Infinity is not a number"),
        (b"\xff\xfe[\x00]\x00", "'utf-8' codec"),
        ("[1", "Expecting"),
        ("\ufeff[]", "BOM"),
        ("9" * 5000, "^a number has 5,000 digits$"),
    ],
)
def test_json_out_of_bounds_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_json(text, 4, 40)


@pytest.mark.parametrize(
    "value",
    [None, 1, [], [[[[]]]], {"a": [{"b": 'text with [[[[[[ {{{{ ,,,, " and \\ in it'}]}, "\\\\", ["\\\\", [['\\"[']]]],
)
def test_json_within_bounds_is_json(value):
    assert parse_json(json.dumps(value), 4, 6) == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode(), 4, 6) == value


def test_what_trainers_write_is_read_leniently():
    value = parse_json('{"a": NaN, "b": 1, "b": 2}', 4, 6, lenient=True)
    assert math.isnan(value.pop("a"))
    assert value == {"b": 2}
    with pytest.raises(ValueError, match="nested"):
        parse_json("[" * 5 + "]" * 5, 4, 6, lenient=True)


def test_minus_zero_is_no_whole_number():
    assert isinstance(parse_json("[-0, 0]", 4, 6)[0], float)


def test_texts_are_quoted_on_one_line_and_cut():
    assert brief("Portrait") == "Portrait"
    assert brief("a\nb\x00\ud800") == "a\\nb\\x00\\ud800"
    assert len(brief("\x00" * 10**6)) == len(brief("x" * 10**6)) == 60
    assert brief("x" * 60) == "x" * 60
    assert brief({"a": "x" * 10**6}) == "an object"
    assert [kind(value) for value in (None, "a", True, 1, 0.5, [], {}, b"")] == [
        "nothing", "text", "true or false", "a number", "a number", "a list", "an object", "a bytes",
    ]  # fmt: skip


def test_lists_of_names_are_cut():
    assert name_list(["a", "b"]) == "a, b"
    assert name_list([]) == ""
    assert name_list("x" * 50 for _ in range(9)) == f"{'x' * 50}, {'x' * 50} and 7 more"


def test_numbers_and_texts_are_checked():
    assert finite(-2, "strength") == -2
    for value in (math.nan, math.inf, -math.inf, 10**400):
        with pytest.raises(ValueError, match=r"^strength must be a finite number"):
            finite(value, "strength")
    for value, what in ((True, "true or false"), ("1", "text"), (None, "nothing")):
        with pytest.raises(ValueError, match=f"^strength must be a number, got {what}"):
            finite(value, "strength")
    assert text_of("3", "domain") == "3"
    with pytest.raises(ValueError, match=r'^domain must be text, got a number; write a number as text, such as "3"$'):
        text_of(99, "domain")
    with pytest.raises(ValueError, match=r"^domain must be text, got an object$"):
        text_of({}, "domain")
    need(5, int, "x")
    with pytest.raises(ValueError, match=r"^Nothing that fits came in at frames, but nothing;"):
        need(None, int, "frames")


@pytest.mark.parametrize("number", [np.float32(0.5), np.float64(0.5), torch.tensor(0.5), np.array([0.5]), 0.5])
def test_numbers_of_other_packs_are_numbers(number):
    assert type(finite(number, "strength")) is float
    assert finite(number, "strength") == 0.5


def test_whole_numbers_of_other_packs_stay_whole():
    for number in (np.int64(3), torch.tensor([3]), 3):
        assert type(finite(number, "strength")) is int
    for value in (np.bool_(True), torch.zeros(2), torch.tensor(True), 1j, np.array("a")):
        with pytest.raises(ValueError, match="^strength must be a number, got "):
            finite(value, "strength")
    with pytest.raises(ValueError, match="^strength must be a finite number"):
        finite(np.float32("nan"), "strength")


def test_numbers_are_held_to_bounds():
    assert [within(value, 1, 16, "rows") for value in (1, 16, np.int64(3), 2.0)] == [1, 16, 3, 2]
    assert type(within(2.0, 1, 16, "rows")) is int
    assert type(within(2, 0.1, 60.0, "fps")) is float
    for value, got in ((0, "0"), (17, "17"), (-16, "-16"), (2**40, "1099511627776"), (10**299, "10{58}…")):
        with pytest.raises(ValueError, match=f"^rows must be from 1 to 16, got {got}$"):
            within(value, 1, 16, "rows")
    with pytest.raises(ValueError, match=r"^rows must be a whole number, got 2\.5$"):
        within(2.5, 1, 16, "rows")


GOOD = [
    "portrait",
    "heads/portrait",
    "heads\\portrait",
    "作品/一",
    "a.b",
    ".hidden",
    "console",
    "com",
    "nul_1",
    "x" * 200,
]


@pytest.mark.parametrize("name", GOOD)
def test_names_that_every_system_can_have(name):
    assert problem_of(name) == ""
    check_prefix(name)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "ends without a name"),
        (".", "ends without a name"),
        ("a/", "ends without a name"),
        ("../x", "goes up"),
        ("a/../../x", "goes up"),
        ("..\\x", "goes up"),
        (".. /x", "ends in a dot or a space"),
        ("... /x", "ends in a dot or a space"),
        ("a.", "ends in a dot or a space"),
        ("a /b", "ends in a dot or a space"),
        ("/x", "drive or a slash"),
        ("\\x", "drive or a slash"),
        ("C:x", "drive or a slash"),
        ("//server/share/x", "drive or a slash"),
        ("con", "Windows keeps the name"),
        ("NUL.txt", "Windows keeps the name"),
        ("aux .safetensors", "Windows keeps the name"),
        ("a/Com1.x/b", "Windows keeps the name"),
        ("lpt²", "Windows keeps the name"),
        ("conout$", "Windows keeps the name"),
        ("a\0b", "no name"),
        ("a\nb", "no name"),
        ("ab:c", "no name"),
        ("a?", "no name"),
        ("\ud800", "half of a character"),
        ("x" * 201, "longer than 200 bytes"),
        ("é" * 101, "longer than 200 bytes"),
        ("a/" * 600 + "a", "longer than 1000 characters"),
        ("x" * 10**6, "longer than 1000 characters"),
    ],
)
def test_names_that_some_system_can_not_have(name, problem):
    assert problem in problem_of(name)
    assert len(problem_of(name)) < 150


@pytest.mark.parametrize(
    "prefix", ["", "a/", "seq/%year%-%month%-%day%/%hour%%minute%%second%", "%width%x%height%", "%KSampler.seed%"]
)
def test_starts_of_file_names_with_what_the_host_replaces(prefix):
    check_prefix(prefix)


# Percent signs around a word that the host does not know hid these.
HIDDEN = ["a:b", "<|>", "a\nb", "a\0b", "\ud800", "x" * 300]


@pytest.mark.parametrize(
    "prefix", ["../x", "%a%/../x", "con", "x" * 10**6, "a:b", "a\0", *(f"%{odd}%" for odd in HIDDEN)]
)
def test_starts_of_file_names_are_checked(prefix):
    with pytest.raises(ValueError, match="is not a name inside the output folder: ") as refused:
        check_prefix(prefix)
    assert len(str(refused.value)) < 300
