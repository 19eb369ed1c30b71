"""Mending chunk by chunk: the assembly of calls, reasoning, usage, whole answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymux.errors import Failure, Truncated
from polymux.providers.openai_repair import NO_ID, Calls, Repair, mend_reasoning, mend_usage, repair_whole, usage_of
from polymux.types import NO_USAGE, Quirks, Usage

Json = Any


def part(index: int | None = None, id_: str | None = None, name: str | None = None, arguments: Json = None) -> Json:
    """A fragment of a call as some server sends it; None = the member is missing."""
    function = {k: v for k, v in (("name", name), ("arguments", arguments)) if v is not None}
    given = {"index": index, "id": id_, "function": function or None}
    return {k: v for k, v in given.items() if v is not None}


def assembled(fragments: list[Json]) -> list[tuple[str, str, str]]:
    """(id, name, arguments) of each call, as a client that follows the protocol puts them together."""
    calls, out = Calls(), {}
    for sent in fragments:
        fragment = calls.fragment(sent)
        held = out.setdefault(fragment["index"], {"id": "", "name": "", "arguments": ""})
        held["id"] += fragment.get("id") or ""
        held["name"] += fragment["function"].get("name", "")
        held["arguments"] += fragment["function"]["arguments"]
    assert list(out) == list(range(len(out)))
    assert calls.count == len(out)
    return [tuple(held.values()) for held in out.values()]


# Each row of the table "Tool-call identity" in the protocol's notes, then what is seen beside it.
ASSEMBLY = {
    "as the protocol says": (
        [part(0, "a", "f", ""), part(0, arguments="{"), part(0, arguments="}"), part(1, "b", "g"),
         part(1, arguments="1")],
        [("a", "f", "{}"), ("b", "g", "1")],
    ),
    "index never seen: a new call": ([part(0, "a", "f"), part(1, "b", "g")], [("a", "f", ""), ("b", "g", "")]),
    "index seen, no id: the call last opened on it": (
        [part(0, "a", "f", "1"), part(1, "b", "g", "2"), part(0, arguments="3")],
        [("a", "f", "13"), ("b", "g", "2")],
    ),
    "index seen, empty id": ([part(0, "a", "f", "1"), part(0, "", None, "2")], [("a", "f", "12")]),
    "index seen, the same id and name again": (
        [part(0, "a", "f", "1"), part(0, "a", "f", "2")],
        [("a", "f", "12")],
    ),
    "index seen, another id and a name: a new call on it": (
        [part(0, "a", "f", "1"), part(0, "b", "g", "2"), part(0, arguments="3"), part(0, "b", None, "4")],
        [("a", "f", "1"), ("b", "g", "234")],
    ),
    "index seen, another id without a name: a fresh id for each fragment": (
        [part(0, "a", "f", "1"), part(0, "x", None, "2"), part(0, "y", "", "3")],
        [("a", "f", "123")],
    ),
    "no index, a known id": (
        [part(None, "a", "f", "1"), part(None, "b", "g", "2"), part(None, "a", None, "3")],
        [("a", "f", "13"), ("b", "g", "2")],
    ),
    "no index, an unknown id": ([part(None, "a", "f"), part(None, "b", "f")], [("a", "f", ""), ("b", "f", "")]),
    "no index, no id: the last call": (
        [part(None, "a", "f", "1"), part(None, "b", "g", "2"), part(arguments="3")],
        [("a", "f", "1"), ("b", "g", "23")],
    ),
    "no index, no id, none open: a new call": ([part(arguments="1"), part(arguments="2")], [("", "", "12")]),
    "no index, no id, a name: whole calls of a server without ids": (
        [part(name="f", arguments="1"), part(name="f", arguments="2"), part(arguments="3")],
        [("", "f", "1"), ("", "f", "23")],
    ),
    "numbered from one, with a gap": (
        [part(1, "a", "f"), part(3, "b", "g"), part(1, arguments="1"), part(3, arguments="2")],
        [("a", "f", "1"), ("b", "g", "2")],
    ),
    "the index only at first": ([part(2, "a", "f", "1"), part(None, "a", None, "2")], [("a", "f", "12")]),
    "the name comes late": ([part(0, "a", "", "1"), part(0, None, "f", "2")], [("a", "f", "12")]),
    "the name is repeated": (
        [part(0, "a", "f", "1"), part(0, None, "f", "2"), part(0, "", "f", "3")],
        [("a", "f", "123")],
    ),
    "arguments as an object": ([part(0, "a", "f", {"x": [1]})], [("a", "f", '{"x":[1]}')]),
    "no arguments": ([part(0, "a", "f")], [("a", "f", "")]),
    "an id that is a number": ([{"index": 0, "id": 7, "function": {"name": "f"}}], [("7", "f", "")]),
    "interleaved": (
        [part(0, "a", "f"), part(1, "b", "g"), part(0, arguments="1"), part(1, arguments="2"), part(0, arguments="3")],
        [("a", "f", "13"), ("b", "g", "2")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ASSEMBLY)
def test_calls_are_assembled(name: str) -> None:
    fragments, calls = ASSEMBLY[name]
    assert assembled(fragments) == calls


TEXTS = st.lists(st.text(max_size=4), max_size=4)
CALLS = st.lists(st.tuples(st.sampled_from(["f", "g"]), TEXTS), min_size=1, max_size=4)


@settings(derandomize=True, deadline=None)
@given(
    CALLS, st.sampled_from(["protocol", "all zero", "no index", "id on each", "fresh ids", "from one"]), st.booleans()
)
def test_however_calls_are_numbered_they_come_out_the_same(calls: list[Any], way: str, whole: bool) -> None:
    fragments = []
    for n, (name, texts) in enumerate(calls):
        index = {"all zero": 0, "fresh ids": 0, "no index": None, "from one": n + 1}.get(way, n)
        pieces = ["".join(texts)] if whole else ["", *texts]
        fragments.append(part(index, f"c{n}", name, pieces[0]))
        for m, text in enumerate(pieces[1:]):
            again = {"id on each": f"c{n}", "fresh ids": f"x{n}.{m}"}.get(way)
            fragments.append(part(index, again, None, text))
    assert assembled(fragments) == [(f"c{n}", name, "".join(texts)) for n, (name, texts) in enumerate(calls)]


def test_only_the_first_fragment_names_its_call() -> None:
    calls = Calls()
    first = calls.fragment({"index": 4, "id": "a", "function": {"name": "f", "arguments": "1"}, "extra_content": {}})
    assert first == {
        "extra_content": {},
        "index": 0,
        "id": "a",
        "type": "function",
        "function": {"name": "f", "arguments": "1"},
    }
    again = calls.fragment({"index": 4, "id": "a", "type": "function", "function": {"name": "f", "arguments": "2"}})
    assert again == {"index": 0, "function": {"arguments": "2"}}


def test_custom_calls_stay_custom() -> None:
    calls = Calls()
    first = calls.fragment({"index": 0, "id": "a", "type": "custom", "custom": {"name": "f", "input": ""}})
    assert first == {"index": 0, "id": "a", "type": "custom", "custom": {"name": "f", "input": ""}}
    assert calls.fragment({"index": 0, "custom": {"input": "x"}}) == {"index": 0, "custom": {"input": "x"}}


# ---- streams -----------------------------------------------------------------------------------------------------


def chunk(*choices: Json, **members: Json) -> Json:
    return {"id": "a", "choices": list(choices), **members}


def say(index: int = 0, finish: str | None = None, **delta: Json) -> Json:
    return {"index": index, "delta": delta, "finish_reason": finish}


def mended(*chunks: Json, done: bool = False) -> list[Json]:
    repair = Repair(Quirks())
    out = [one for given in chunks for one in repair.chunk(json.loads(json.dumps(given)))]
    return out + repair.close(done=done)


def deltas(chunks: list[Json]) -> list[Json]:
    return [choice["delta"] for one in chunks for choice in one["choices"]]


def test_the_first_delta_has_the_role_and_no_other() -> None:
    said = mended(*(chunk(say(role="assistant", content=text)) for text in ("a", "b")), chunk(say(finish="stop")))
    assert deltas(said) == [{"role": "assistant", "content": "a"}, {"content": "b"}, {}]


def test_a_missing_role_is_added_and_another_one_replaced() -> None:
    assert deltas(mended(chunk(say(content="a", finish="stop"))))[0]["role"] == "assistant"
    assert deltas(mended(chunk(say(role="model", content="a", finish="stop"))))[0]["role"] == "assistant"


def test_empty_deltas_give_nothing() -> None:
    said = mended(
        chunk(say()), chunk(say(content="a")), chunk(say(content="")), chunk(say()), chunk(say(finish="stop"))
    )
    assert deltas(said) == [{"role": "assistant", "content": "a"}, {}]


def test_nulls_are_left_out() -> None:
    said = mended(chunk(say(content="a", refusal=None, tool_calls=None, reasoning_content=None, finish="stop")))
    assert deltas(said)[0] == {"role": "assistant", "content": "a"}


@pytest.mark.parametrize(
    ("finishes", "calls", "expected"),
    [
        (["stop"], False, "stop"),
        (["stop"], True, "tool_calls"),
        (["length"], True, "length"),
        (["tool_calls", "stop"], True, "tool_calls"),
        (["length", "stop"], False, "length"),
        (["eos"], False, "eos"),
    ],
)
def test_one_finish_the_first_and_last_of_all(finishes: list[str], calls: bool, expected: str) -> None:
    call = {"tool_calls": [part(0, "c", "f", "{}")]} if calls else {"content": "a"}
    said = mended(chunk(say(**call)), *(chunk(say(finish=finish)) for finish in finishes))
    assert [c["finish_reason"] for one in said for c in one["choices"]] == [None, expected]


@pytest.mark.parametrize(
    ("chunks", "done", "complete"),
    [
        ([], False, False),
        ([], True, False),
        ([chunk()], True, False),
        ([chunk(say())], True, False),
        ([chunk(say(content="a"))], False, False),
        ([chunk(say(content="a"))], True, True),
        ([chunk(say(finish="stop"))], False, True),
        ([chunk(say(content="a")), chunk(say(1, "stop"))], False, False),
        ([chunk(say(content="a")), chunk(say(1, "stop")), chunk(say(0, "stop"))], False, True),
        ([chunk(say(content="a")), chunk(say(1)), chunk(say(0, "stop"))], False, True),
    ],
)
def test_complete_is_what_has_finished_or_has_its_end_mark(chunks: list[Json], done: bool, complete: bool) -> None:
    if not complete:
        with pytest.raises(Truncated):
            mended(*chunks, done=done)
        return
    said = mended(*chunks, done=done)
    for index in {c["index"] for one in said for c in one["choices"]}:
        own = [c for one in said for c in one["choices"] if c["index"] == index]
        assert ["role" in c["delta"] for c in own] == [True] + [False] * (len(own) - 1)
        assert [bool(c["finish_reason"]) for c in own] == [False] * (len(own) - 1) + [True]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [(["a", "b", "c"], "a"), (["", "b", "c"], "b"), ([None, None, None], NO_ID), ([7, 7, 7], "7")],
)
def test_one_id(ids: list[Json], expected: str) -> None:
    first = {"id": ids[0], "choices": []}
    said = mended(first, chunk(say(content="a"), id=ids[1]), chunk(say(finish="stop"), id=ids[2]))
    assert {one["id"] for one in said} == {expected}


def test_an_id_that_comes_after_the_first_word_is_too_late() -> None:
    said = mended({"choices": [say(content="a")]}, chunk(say(content="b")), chunk(say(finish="stop")))
    assert {one["id"] for one in said} == {NO_ID}


def test_created_and_model_are_the_first_told() -> None:
    said = mended(chunk(say(content="a"), created=1, model="m"), chunk(say(finish="stop"), created=2, model="n"))
    assert {(one["created"], one["model"], one["object"]) for one in said} == {(1, "m", "chat.completion.chunk")}


def test_calls_without_ids_get_them_from_the_answer() -> None:
    said = mended(
        chunk(say(tool_calls=[part(0, None, "f"), part(1, "", "g")]), say(1, tool_calls=[part(0, None, "f")])),
        done=True,
    )
    ids = [call["id"] for delta in deltas(said) for call in delta.get("tool_calls", ())]
    assert ids == ["call_a_0_0", "call_a_0_1", "call_a_1_0"]


def test_usage_comes_once_and_last() -> None:
    counts = [{"prompt_tokens": 1, "completion_tokens": n, "total_tokens": 1 + n} for n in range(3)]
    said = mended(*(chunk(say(content="a"), usage=count) for count in counts), chunk(say(finish="stop"), usage=None))
    assert [one.get("usage") for one in said] == [None] * 4 + [counts[-1]]
    assert said[-1]["choices"] == []


# ---- parts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        ({"content": "a"}, {"content": "a"}),
        ({"reasoning": "r"}, {"reasoning_content": "r"}),
        ({"reasoning_content": "r", "reasoning": "r"}, {"reasoning_content": "r"}),
        ({"reasoning_content": "", "content": "a"}, {"content": "a"}),
        ({"reasoning_content": None, "reasoning": None}, {}),
        ({"reasoning": {"effort": 1}}, {}),
        ({"content": []}, {"content": None}),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, {"content": "ab"}),
        (
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "r"}, {"text": "s"}, 5]}]},
            {"content": None, "reasoning_content": "rs"},
        ),
        ({"content": [{"type": "thinking", "thinking": "r"}, "x", None]}, {"content": None, "reasoning_content": "r"}),
        ({"content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": "a"}]}, {"content": "a"}),
    ],
)
def test_reasoning_has_one_name_and_content_is_text(delta: Json, expected: Json) -> None:
    mend_reasoning(delta)
    assert delta == expected


def counts(prompt: Json, completion: Json, total: Json, **more: Json) -> Json:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total, **more}


@pytest.mark.parametrize(
    ("usage", "expected", "counted"),
    [
        (counts(1, 2, 3), counts(1, 2, 3), Usage(1, 2)),
        (counts(1, 2, None), counts(1, 2, 3), Usage(1, 2)),
        ({"prompt_tokens": 1}, counts(1, 0, 1), Usage(1, 0)),
        (
            counts(1, 5, 6, completion_tokens_details={"reasoning_tokens": 3}),
            counts(1, 5, 6, completion_tokens_details={"reasoning_tokens": 3}),
            Usage(1, 5, reasoning=3),
        ),
        (
            counts(1, 2, 6, completion_tokens_details={"reasoning_tokens": 3}),
            counts(1, 5, 6, completion_tokens_details={"reasoning_tokens": 3}),
            Usage(1, 5, reasoning=3),
        ),
        (
            counts(9, 2, 11, cached_tokens=4),
            counts(9, 2, 11, cached_tokens=4, prompt_tokens_details={"cached_tokens": 4}),
            Usage(9, 2, 4),
        ),
        (
            counts(9, 2, 11, prompt_cache_hit_tokens=4),
            counts(9, 2, 11, prompt_cache_hit_tokens=4, prompt_tokens_details={"cached_tokens": 4}),
            Usage(9, 2, 4),
        ),
        (
            counts(9, 2, 11, cached_tokens=4, prompt_tokens_details={"cached_tokens": 5, "cache_write_tokens": 1}),
            counts(9, 2, 11, cached_tokens=4, prompt_tokens_details={"cached_tokens": 5, "cache_write_tokens": 1}),
            Usage(9, 2, 5, 1),
        ),
        (counts(-1, "x", 2.5), counts(0, 0, 0), NO_USAGE),
    ],
)
def test_usage_is_mended(usage: Json, expected: Json, counted: Usage) -> None:
    assert mend_usage(usage) == expected
    assert usage_of(usage) == counted
    assert mend_usage(expected) == expected, "mending twice changes nothing"


@pytest.mark.parametrize("usage", [None, [], 5, "12"])
def test_what_is_no_usage_counts_as_none(usage: Json) -> None:
    assert usage_of(usage) is NO_USAGE


def test_a_whole_answer_is_mended() -> None:
    body = {
        "new": 1,
        "choices": [
            {
                "native": "n",
                "message": {
                    "role": None,
                    "reasoning": "r",
                    "tool_calls": [
                        {"index": 3, "function": {"name": "f", "arguments": {"x": 1}}},
                        {"id": "c", "type": "custom", "custom": {"name": "g", "input": ""}},
                        "rubbish",
                    ],
                },
                "usage": {"prompt_tokens": 1, "completion_tokens": 2},
            }
        ],
    }
    whole = repair_whole(body, Quirks())
    assert (whole["id"], whole["object"], whole["new"]) == (NO_ID, "chat.completion", 1)
    assert whole["usage"] == counts(1, 2, 3)
    (choice,) = whole["choices"]
    assert (choice["index"], choice["native"], choice["finish_reason"]) == (0, "n", "tool_calls")
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "reasoning_content": "r",
        "tool_calls": [
            {
                "id": f"call_{NO_ID}_0_0",
                "type": "function",
                "function": {"name": "f", "arguments": '{"x":1}'},
            },
            {"id": "c", "type": "custom", "custom": {"name": "g", "input": ""}},
        ],
    }


@pytest.mark.parametrize("body", [{}, {"choices": []}, {"choices": None}, {"choices": ["x"]}, {"choices": {"a": 1}}])
def test_an_answer_without_choices_is_a_failure(body: Json) -> None:
    with pytest.raises(Failure, match="no choices") as found:
        repair_whole(body, Quirks())
    assert found.value.kind == "upstream_unavailable"


def test_an_error_in_a_whole_answer_is_a_failure() -> None:
    with pytest.raises(Failure, match="busy") as found:
        repair_whole({"error": {"message": "busy", "code": 503}, "choices": [{"message": {}}]}, Quirks())
    assert found.value.kind == "upstream_overloaded"
    assert repair_whole({"error": None, "choices": [{"message": {"content": "a"}}]}, Quirks())["choices"]
