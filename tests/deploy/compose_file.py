"""docker-compose.yml as Docker would read it: anchors merged, variables put in, services of the wanted profiles."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).parents[2]
PRODUCTION = PROJECT / "docker-compose.yml"
DATABASE = PROJECT / "deploy" / "database.yml"

# `$$`, `${NAME}` and `${NAME:-otherwise}` with its two relatives; what stands in the innermost braces is taken first.
VARIABLE = re.compile(r"\$\$|\$\{(?P<name>\w+)(?:(?P<operator>:[-?+])(?P<argument>[^${}]*))?\}")
DOLLAR = "\0"


class MissingVariableError(Exception):
    """A variable that has no default is not set; the message is the file's."""


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    """Return a value with its variables put in.

    Raises:
        MissingVariableError: one that must be set is not.
    """

    def one(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return DOLLAR
        value, argument = variables.get(match["name"], ""), match["argument"] or ""
        if match["operator"] == ":?" and not value:
            raise MissingVariableError(argument)
        if match["operator"] == ":+":
            return argument if value else ""
        return value or (argument if match["operator"] == ":-" else "")

    before = ""
    while before != text:
        before, text = text, VARIABLE.sub(one, text)
    return text.replace(DOLLAR, "$")


def read(file: Path) -> dict[str, Any]:
    """Return a compose file with its anchors merged and its variables as they are written."""
    found: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return found


def put_in(value: Any, variables: Mapping[str, str]) -> Any:
    """Return a part of a compose file with the variables of all its texts put in."""
    if isinstance(value, dict):
        return {key: put_in(part, variables) for key, part in value.items()}
    if isinstance(value, list):
        return [put_in(part, variables) for part in value]
    return interpolated(value, variables) if isinstance(value, str) else value


def texts(value: Any) -> Iterator[str]:
    """Return every text in a part of a compose file."""
    if isinstance(value, dict):
        for part in value.values():
            yield from texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from texts(part)
    elif isinstance(value, str):
        yield value


def variables_used(file: Path) -> dict[str, set[str]]:
    """Return each variable of a compose file with the operators and defaults it is used with, such as `:-4096`."""
    found: dict[str, set[str]] = {}
    for text in texts(read(file)):
        left = text.replace("$$", "")
        while match := VARIABLE.search(left):
            found.setdefault(match["name"], set()).add((match["operator"] or "") + (match["argument"] or ""))
            # What surrounds it is looked at next.
            left = left[: match.start()] + left[match.end() :]
    return found
