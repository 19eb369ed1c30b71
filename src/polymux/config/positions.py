"""Where the keys of a TOML text stand: `tomllib` gives values without positions, but a fault needs its line.

The scanner trusts that `tomllib` has accepted the text (TOML 1.0, https://toml.io/en/v1.0.0) and only follows its
structure. It keeps its own stack, so deep nesting costs no recursion, and it raises nothing.
"""

import re
import tomllib
from collections.abc import Iterator

Path = tuple[str | int, ...]  # ("models", "smart", "deployments", 0, "provider")

_LEXEME = re.compile(
    r"""
      (?P<text>   \"{3} (?:\\.|[^\\])*? \"{3} "{0,2}      # one or two quotes may stand before the closing three
              |   '{3} .*? '{3} '{0,2}
              |   " (?:\\.|[^"\\\n])* "
              |   ' [^'\n]* ' )
    | (?P<skip>   \#[^\n]* | [ \t\r]+ )
    | (?P<mark>   [][{}=,.\n] )
    | (?P<bare>   [^][{}=,.\n"'\# \t\r]+ )
    """,
    re.VERBOSE | re.DOTALL,
)


def key_lines(text: str) -> dict[Path, int]:
    """The line (from 1) of every key, table header and array item of a valid TOML text, by its path."""
    scan = _Scan()
    for lexeme, kind, line in _lexemes(text):
        if scan.in_key:
            scan.key(lexeme, kind, line)
        else:
            scan.value(lexeme, line)
    return scan.lines


def _lexemes(text: str) -> Iterator[tuple[str, str, int]]:
    line = 1
    for match in _LEXEME.finditer(text):
        kind = match.lastgroup or ""
        if kind != "skip":
            yield match[0], kind, line
        line += match[0].count("\n")


class _Scan:
    """Two states: reading a key or header (`parts` collects it), and reading what follows a `=`."""

    def __init__(self) -> None:
        self.lines: dict[Path, int] = {}
        self.in_key = True
        self.parts: list[str] = []
        self.at = 0  # line of the first part
        self.brackets = 0  # of the header being read: [table] or [[array]]
        self.table: Path = ()  # of the last header
        self.sizes: dict[Path, int] = {}  # elements of each [[array]] so far
        self.stack: list[tuple[str, Path]] = []  # brackets of values around us: ("[", the array) or ("{", the table)
        self.path: Path = ()  # of the value being read

    def key(self, lexeme: str, kind: str, line: int) -> None:
        if kind != "mark":
            self.at = self.at if self.parts else line
            self.parts.append(_plain(lexeme) if kind == "text" else lexeme)
        elif lexeme == "=":
            self._assign()
        elif lexeme == "[":
            self.brackets += 1
        elif lexeme == "]" and self.parts:
            self._header()
        elif lexeme == "}":  # an empty inline table
            self._close()

    def value(self, lexeme: str, line: int) -> None:
        inside = self.stack[-1][0] if self.stack else ""
        if lexeme in ("]", "}"):
            self._close()
        elif lexeme == "," and inside == "[":
            array = self.stack[-1][1]
            index = self.path[len(array)]
            self.path = (*array, int(index) + 1)
        elif lexeme == "," or (lexeme == "\n" and not inside):
            self.in_key = True
        elif lexeme != "\n":
            if inside == "[":
                self.lines.setdefault(self.path, line)
            if lexeme in ("[", "{"):
                self._open(lexeme)

    def _assign(self) -> None:
        path = self.stack[-1][1] if self.stack else self.table
        for part in self.parts:
            path = (*path, part)
            self.lines.setdefault(path, self.at)
        self.path, self.parts, self.in_key = path, [], False

    def _header(self) -> None:
        path: Path = ()
        for number, part in enumerate(self.parts, 1):
            path = (*path, part)
            self.lines.setdefault(path, self.at)
            if number == len(self.parts) and self.brackets == 2:
                self.sizes[path] = self.sizes.get(path, 0) + 1
            if path in self.sizes:  # a header below [[array]] speaks of its last element
                path = (*path, self.sizes[path] - 1)
                self.lines.setdefault(path, self.at)
        self.lines[path] = self.at  # an explicit header, though [path.below] may stand above it
        self.table, self.parts, self.brackets = path, [], 0

    def _open(self, bracket: str) -> None:
        self.stack.append((bracket, self.path))
        self.in_key = bracket == "{"
        if bracket == "[":
            self.path = (*self.path, 0)

    def _close(self) -> None:
        self.in_key = False
        if self.stack:
            _, self.path = self.stack.pop()


def _plain(quoted: str) -> str:
    """A quoted key without its quotes and escapes."""
    return str(tomllib.loads(f"key = {quoted}")["key"])
