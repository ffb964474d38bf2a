"""Names that people give to files: inside their folder, and possible on every system."""

from __future__ import annotations

import re
from pathlib import PureWindowsPath

from .foreign import brief

PART_BYTES = 200
"""Of one name in a path; systems take 255, and numbers, endings and temporary names need room."""
PATH_CHARACTERS = 1000
MARK = ".makeanything-"
"""How the names of unfinished files begin."""

_KEPT_BY_WINDOWS = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])", re.IGNORECASE)
_BY_HOST = re.compile("%(width|height|year|month|day|hour|minute|second)%")
_NOT_ON_WINDOWS = re.compile(r'[\x00-\x1f\x7f<>:"|?*]')


def problem_of(text: str) -> str:
    """Why a text can't be the name of a file in some folder, with subfolders of it; empty when it can."""
    if len(text) > PATH_CHARACTERS:
        return f"it is longer than {PATH_CHARACTERS} characters"
    # A Windows path takes both kinds of slash, so one rule holds on every system.
    path = PureWindowsPath(text)
    if path.anchor:
        return "it starts with a drive or a slash"
    if not path.name or text[-1] in "/\\":
        return "it ends without a name"
    return next((problem for part in path.parts if (problem := _problem_of_part(part))), "")


def check_prefix(prefix: str) -> None:
    """ValueError for a start of file names in the output folder that leaves it, or that some systems don't have."""
    # The host replaces its own words by at most five digits and no others, and puts a name at the end.
    plain = _BY_HOST.sub("00000", prefix).rstrip("/\\")
    if plain and (problem := problem_of(plain)):
        raise ValueError(f"'{brief(prefix)}' is not a name inside the output folder: {problem}.")


def _problem_of_part(part: str) -> str:
    if part == "..":
        return "it goes up with '..'"
    if part.startswith(MARK):
        return f"names that begin with {MARK} are those of unfinished files"
    if part[-1] in ". ":
        return f"'{brief(part)}' ends in a dot or a space, which Windows leaves out"
    if _NOT_ON_WINDOWS.search(part):
        return f"'{brief(part)}' holds a character that Windows has in no name"
    if _KEPT_BY_WINDOWS.fullmatch(part.split(".")[0].rstrip()):
        return f"Windows keeps the name '{brief(part)}' for itself"
    try:
        size = len(part.encode())
    except UnicodeEncodeError:
        return f"'{brief(part)}' holds half of a character"
    return f"'{brief(part)}' is longer than {PART_BYTES} bytes" if size > PART_BYTES else ""
