"""`.env` text -> variables, or the exact faults."""

import pytest

from polymux.config import ConfigError, parse_dotenv

GOOD = [
    ("", {}),
    ("# A=1\n\n  \n", {}),
    ("A=1\nB=2", {"A": "1", "B": "2"}),
    ("\ufeffA=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
    ("A=1\nA=2\n", {"A": "2"}),
    ("export A=1\n  export\tB = 2 \n", {"A": "1", "B": "2"}),
    ("A=\nB= # nothing\n", {"A": "", "B": ""}),
    ("A=a b # why\nB=#b\nC=c#d\n", {"A": "a b", "B": "#b", "C": "c#d"}),
    ("A=x=y==\n", {"A": "x=y=="}),
    ('A="a # b" # why\n', {"A": "a # b"}),
    ('A="a\\nb\\t\\"\\\\\\$\\x"\n', {"A": 'a\nb\t"\\$\\x'}),
    ("A='a\\n\"#$' \n", {"A": 'a\\n"#$'}),
    ("A=it's\n", {"A": "it's"}),
    ("A=${B}\n", {"A": "${B}"}),
    ("_a1=喵\n", {"_a1": "喵"}),
]


@pytest.mark.parametrize(("text", "variables"), GOOD)
def test_good(text: str, variables: dict[str, str]) -> None:
    assert parse_dotenv(text) == variables


QUOTE = "expected a closing quote and nothing but a comment after it"
BAD = [
    ("A\n", [".env:1: expected KEY=value"]),
    ("=x\n", [".env:1: expected KEY=value"]),
    (
        "\n1A=x\nA-B=x\nexport\n",
        [".env:2: expected KEY=value", ".env:3: expected KEY=value", ".env:4: expected KEY=value"],
    ),
    ('A="hunter2\n', [f".env:1: A: {QUOTE}"]),
    ("B=1\r\nA='hunter2' hunter3\r\n", [f".env:2: A: {QUOTE}"]),
    ('A="x\\"\n', [f".env:1: A: {QUOTE}"]),
]


@pytest.mark.parametrize(("text", "lines"), BAD)
def test_bad(text: str, lines: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_dotenv(text)
    assert str(caught.value).split("\n") == lines
