"""Reasoning in tags: told apart from the text, the same however it is cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymux.providers.openai_tags import Tags, untagged

CASES = [
    ("<think>Why?</think>Because.", "Why?", "Because."),
    ("\n <think>\nWhy?\n</think>\n\nBecause.", "Why?\n", "Because."),
    ("<think></think>Because.", "", "Because."),
    ("<think>Never ended", "Never ended", ""),
    ("<think>cut </thi", "cut </thi", ""),
    ("<thi", "", "<thi"),
    ("<thinking>is text", "", "<thinking>is text"),
    ("  plain", "", "  plain"),
    ("a <think>later</think> is text", "", "a <think>later</think> is text"),
    ("<think>a</think>b<think>c</think>", "a", "b<think>c</think>"),
    ("<think>a < b </ c</think>d", "a < b </ c", "d"),
    ("<think>思考</think>答案", "思考", "答案"),
    ("", "", ""),
]


def told(pieces: list[str]) -> tuple[str, str]:
    tags, thought, text = Tags(), "", ""
    for delta in (*map(tags.feed, pieces), tags.close()):
        assert set(delta) <= {"content", "reasoning_content"}
        assert delta.get("reasoning_content") != ""
        thought += delta.get("reasoning_content", "")
        text += delta.get("content", "")
    return thought, text


@pytest.mark.parametrize(("text", "thought", "rest"), CASES)
def test_wherever_it_is_cut_the_parts_are_the_same(text: str, thought: str, rest: str) -> None:
    assert told([text]) == (thought, rest)
    assert told(list(text)) == (thought, rest)
    for cut in range(len(text)):
        assert told([text[:cut], text[cut:]]) == (thought, rest)
    whole = untagged(text)
    assert (whole.get("reasoning_content", ""), whole["content"]) == (thought, rest)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["<think>", "</think>", "<", "</t", "think>", " ", "\n", "x", "é"])), st.data())
def test_any_text_in_any_pieces(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    edges = [0, *cuts, len(text)]
    pieces = [text[start:end] for start, end in pairwise(edges)]
    assert told(pieces) == told([text])
