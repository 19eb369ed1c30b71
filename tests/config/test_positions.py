"""Every key's line is found: a table of the forms TOML has, and random documents written by a small generator."""

import random
import tomllib
from typing import Any

import pytest

from polymux.config.positions import Path, key_lines

FORMS = [
    ("", {}),
    ("# only = 1\n", {}),
    ("a = 1", {("a",): 1}),
    ("\n\na.b . c = 1.5\n", {("a",): 3, ("a", "b"): 3, ("a", "b", "c"): 3}),
    ("\"x.y\" = 1\n'z \"' = 2\n\"\\u0041\\t\" = 3\n\"\" = 4", {("x.y",): 1, ('z "',): 2, ("A\t",): 3, ("",): 4}),
    ("[ t . u ] # c\nk = 2020-01-01 10:00:00.5\n", {("t",): 1, ("t", "u"): 1, ("t", "u", "k"): 2}),
    ("[t.u]\n[t]\n", {("t",): 2, ("t", "u"): 1}),
    (
        "[[a]]\nk = 1\n[[a.b]]\n[a.b.c]\nk = 1\n[[a]]\n[[a.b]]\n[[a.b]]\n",
        {
            ("a",): 1,
            ("a", 0): 1,
            ("a", 0, "k"): 2,
            ("a", 0, "b"): 3,
            ("a", 0, "b", 0): 3,
            ("a", 0, "b", 0, "c"): 4,
            ("a", 0, "b", 0, "c", "k"): 5,
            ("a", 1): 6,
            ("a", 1, "b"): 7,
            ("a", 1, "b", 0): 7,
            ("a", 1, "b", 1): 8,
        },
    ),
    ('a = """\n[x]\nb = 1\\\n  """\nc = 1', {("a",): 1, ("c",): 5}),
    ('a = """"q""\\""""""', {("a",): 1}),
    ('b = \'\'\'\n\'\'a=1\'\'\'\'\'\nc = ""\nd = \'\'', {("b",): 1, ("c",): 3, ("d",): 4}),
    ('a = "#]" # "\nb = \'{\'', {("a",): 1, ("b",): 2}),
    (
        "a = [ # [\n1, [\n2.5], {k = {}, l.m = [\n3]},\n]\nb = []",
        {
            ("a",): 1,
            ("a", 0): 2,
            ("a", 1): 2,
            ("a", 1, 0): 3,
            ("a", 2): 3,
            ("a", 2, "k"): 3,
            ("a", 2, "l"): 3,
            ("a", 2, "l", "m"): 3,
            ("a", 2, "l", "m", 0): 4,
            ("b",): 6,
        },
    ),
    ("a = 1\r\nb = 2\r\n", {("a",): 1, ("b",): 2}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "lines"), FORMS)
def test_forms(text: str, lines: dict[Path, int]) -> None:
    tomllib.loads(text)
    assert key_lines(text) == lines


class Writer:
    """Writes a random document, and notes where it puts each key."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.text = ""
        self.lines: dict[Path, int] = {}
        self.count = 0

    def note(self, path: Path) -> None:
        self.lines.setdefault(path, self.text.count("\n") + 1)

    def key(self, path: Path) -> Path:
        """A fresh key, written in one of its forms."""
        self.count += 1
        plain = f"k{self.count}"
        name, text = self.random.choice(
            [
                (plain, plain),
                (f"{plain}.x", f'"{plain}.x"'),
                (f"{plain}=[", f"'{plain}=['"),
                (f"{plain}é", f'"{plain}\\u00e9"'),
            ]
        )
        self.note((*path, name))
        self.text += text
        return (*path, name)

    def gap(self) -> None:
        self.text += self.random.choice(["", " ", "\n", ' # ] } = "\n', "\n\n"])

    def value(self, path: Path, depth: int) -> None:
        kind = self.random.randrange(8 if depth else 6)
        if kind == 6:
            self.array(path, depth)
        elif kind == 7:
            self.inline(path, depth)
        else:
            self.text += ["1.5", "true", '"a\\"] = {"', "'[b'", '"""\nx = 1\n[y]\n""" ', "'''\n# '' ''' "][kind]

    def array(self, path: Path, depth: int) -> None:
        self.text += "["
        for index in range(self.random.randrange(4)):
            self.gap()
            self.note((*path, index))
            self.value((*path, index), depth - 1)
            self.gap()
            self.text += ","
        self.gap()
        self.text += "]"

    def inline(self, path: Path, depth: int) -> None:
        self.text += "{ "
        for number in range(self.random.randrange(4)):
            self.text += ", " if number else ""
            self.pair(path, depth)
        self.text += " }"

    def pair(self, path: Path, depth: int) -> None:
        path = self.key(path)
        while self.random.random() < 0.3:
            self.text += " . "
            path = self.key(path)
        self.text += " = "
        self.value(path, depth - 1)

    def pairs(self, path: Path) -> None:
        for _ in range(self.random.randrange(4)):
            self.pair(path, 3)
            self.text += self.random.choice(["\n", " # end\n", "\n\n"])

    def document(self) -> str:
        self.pairs(())
        for _ in range(self.random.randrange(4)):
            self.text += "["
            table = self.key(())
            self.text += "]\n"
            self.pairs(table)
        for _ in range(self.random.randrange(3)):
            self.arrays()
        return self.text

    def arrays(self) -> None:
        """[[array]] several times, each time with a table below it."""
        self.count += 1
        name = f"a{self.count}"
        for index in range(self.random.randrange(1, 4)):
            self.note((name,))
            self.note((name, index))
            self.text += f"[[{name}]]\n"
            self.pairs((name, index))
            self.note((name, index, "sub"))
            self.text += f"[{name}.sub]\n"
            self.pairs((name, index, "sub"))


def paths(value: Any, path: Path = ()) -> set[Path]:
    """The paths of all keys and items that tomllib sees."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = {path} if path else set()
    for key, item in items:
        found |= paths(item, (*path, key))
    return found


@pytest.mark.parametrize("seed", range(200))
def test_every_key_of_a_random_document_is_found(seed: int) -> None:
    writer = Writer(seed)
    text = writer.document()
    assert paths(tomllib.loads(text)) == writer.lines.keys()
    assert key_lines(text) == writer.lines


def test_what_tomllib_accepts_is_never_too_much() -> None:
    """Pieces in random order: most are no TOML; of what is, every key is found."""
    pieces = [
        "a",
        "b.c",
        '"d"',
        " = ",
        "=1",
        "='x'",
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        ",",
        "\n",
        "\r\n",
        "#",
        '"""',
        "'''",
        "\\",
        " ",
    ]
    accepted = 0
    for seed in range(20_000):
        source = random.Random(seed)
        text = "".join(source.choices(pieces, k=source.randrange(1, 9)))
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError:
            continue
        accepted += 1
        assert key_lines(text).keys() == paths(document), text
    assert accepted > 500


def test_deep_nesting_needs_no_recursion() -> None:
    assert len(key_lines("a = " + "[" * 5000 + "]" * 5000)) == 5000
