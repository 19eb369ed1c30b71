"""What may have been meant by a name that does not exist."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polymux.routing.names import Names

LISTED = [
    "gpt-4o",
    "openai/gpt-4o-mini",
    "together/meta-llama/Llama-3.3-70B",
    "groq/llama-3.3-70b",
    "claude-sonnet-4-5-20250929",
    "llama3:latest",
    "qwen3:8b",
    "text_model.v2",
]
NAMES = Names(LISTED)


def every(name: str) -> bool:
    return True


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("GPT-4O", ["gpt-4o"]),
        ("openai/gpt-4o", ["gpt-4o"]),
        ("azure/OpenAI/gpt-4o", ["gpt-4o"]),
        ("gpt-4o-mini", ["openai/gpt-4o-mini"]),
        ("openai/GPT-4o-mini", ["openai/gpt-4o-mini"]),
        ("llama-3.3-70b", ["together/meta-llama/Llama-3.3-70B", "groq/llama-3.3-70b"]),
        ("meta-llama/llama-3.3-70b", ["together/meta-llama/Llama-3.3-70B", "groq/llama-3.3-70b"]),
        ("Groq/Llama-3.3-70B", ["groq/llama-3.3-70b", "together/meta-llama/Llama-3.3-70B"]),
        ("llama3", ["llama3:latest"]),
        ("ollama/llama3:latest", ["llama3:latest"]),
        ("gpt-4o:latest", ["gpt-4o"]),
        ("text-model-v2", ["text_model.v2"]),
        ("qwen3", []),
        ("gpt-4", []),
        ("", []),
        ("/", []),
    ],
)
def test_other_spellings(name: str, meant: list[str]) -> None:
    assert NAMES.spelled(name, every) == meant


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("gtp-4o", "gpt-4o"),
        ("gpt-4o-min", "openai/gpt-4o-mini"),
        ("cluade-sonnet-4-5-20250929", "claude-sonnet-4-5-20250929"),
        ("claude-sonnet-4-5", "claude-sonnet-4-5-20250929"),
        ("anthropic/claude-sonnet-4.5", "claude-sonnet-4-5-20250929"),
        ("qwen3:14b", "qwen3:8b"),
        ("zzzz", None),
        ("", None),
        ("x" * 600, None),
    ],
)
def test_names_that_look_like_it(name: str, first: str | None) -> None:
    found = NAMES.like(name, every)
    assert (found[0] if found else None) == first
    assert len(found) <= 3


def test_only_what_fits_is_told() -> None:
    assert NAMES.spelled("llama-3.3-70b", lambda name: name.startswith("groq/")) == ["groq/llama-3.3-70b"]
    assert NAMES.spelled("gpt-4o", lambda name: False) == []
    assert NAMES.like("gpt-4o-mni", lambda name: "mini" not in name) == ["gpt-4o"]
    assert NAMES.like("gtp-4o", lambda name: False) == []


def test_of_many_names_few_are_looked_at() -> None:
    names = Names(f"p{n}/model-{n % 1000}" for n in range(20_000))
    looked = []

    def fits(name: str) -> bool:
        looked.append(name)
        return False

    assert names.spelled("model-7", fits) == []
    assert names.like("modle-77", fits) == []
    assert 0 < len(looked) < 300


@given(st.text(max_size=40))
def test_any_name_can_be_asked_for(name: str) -> None:
    assert len(NAMES.spelled(name, every)) <= 3
    assert len(NAMES.like(name, every)) <= 3


def test_nothing_is_listed() -> None:
    assert Names([]).spelled("x", every) == Names([]).like("x", every) == []
