"""Reads the text of a `.env` file."""

import re

from polymux.config.walk import ConfigError, Fault

_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=(.*)")
_DOUBLE = re.compile(r'\s*"((?:\\.|[^"\\])*)"\s*(?:#.*)?')
_SINGLE = re.compile(r"\s*'([^']*)'\s*(?:#.*)?")
_ESCAPE = re.compile(r'\\([nrt"\\$])')
_ESCAPES = str.maketrans({"n": "\n", "r": "\r", "t": "\t"})


def parse_dotenv(text: str) -> dict[str, str]:
    """The variables of a `.env` text, the last of a name winning. Raises ConfigError with all malformed lines.

    `KEY=value`, optionally after `export`. In double quotes `\\n \\r \\t \\" \\\\ \\$` are escapes, single quotes are
    literal, and an unquoted value ends before ` #`. A value is one line and nothing in it is expanded.
    """
    variables: dict[str, str] = {}
    faults: list[Fault] = []
    for number, line in enumerate(text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            faults.append(Fault(".env", number, "", "expected KEY=value"))
        elif (value := _value(match[2])) is None:
            faults.append(
                Fault(".env", number, match[1], "expected a closing quote and nothing but a comment after it")
            )
        else:
            variables[match[1]] = value
    if faults:
        raise ConfigError(faults)
    return variables


def _value(raw: str) -> str | None:
    """The value after the `=`, or None when its quotes do not match."""
    if match := _DOUBLE.fullmatch(raw):
        return _ESCAPE.sub(lambda found: found[1].translate(_ESCAPES), match[1])
    if match := _SINGLE.fullmatch(raw):
        return match[1]
    plain = re.split(r"\s#", raw, maxsplit=1)[0].strip()
    return None if plain.startswith(('"', "'")) else plain
