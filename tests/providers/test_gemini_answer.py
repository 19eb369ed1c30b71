"""Candidates, piece by piece."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from polymux.providers.gemini_answer import Answer, logprobs
from polymux.schema.gemini import Candidate, LogprobsResult


def take(*pieces: dict[str, Any]) -> tuple[Answer, list[Any]]:
    answer = Answer(0)
    deltas = [answer.take(msgspec.convert(piece, Candidate), "r1") for piece in pieces]
    return answer, [delta and msgspec.to_builtins(delta) for delta in (*deltas, answer.last("r1"))]


def piece(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    given = [
        {**part, "functionCall": {**call, "args": msgspec.Raw(msgspec.json.encode(call["args"]))}}
        if "args" in (call := part.get("functionCall", {}))
        else part
        for part in parts
    ]
    return {"content": {"parts": given}, **more}


def call(name: str | None = None, **more: Any) -> dict[str, Any]:
    return {"functionCall": {**({"name": name} if name else {}), **more}}


def test_what_says_nothing_gives_nothing() -> None:
    assert take(piece({"text": ""}), {}, piece({"executableCode": {}}), {"content": {}})[1] == [None] * 5


def test_the_parts_of_a_piece_are_one_delta() -> None:
    _, deltas = take(piece({"text": "hm", "thought": True}, {"text": "a"}, {"text": "b"}, call("f", args={})))
    assert deltas[0] == {
        "role": "assistant",
        "content": "ab",
        "reasoning_content": "hm",
        "tool_calls": [
            {"index": 0, "id": "call_r1_0_0", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        ],
    }


def test_ids_that_come_twice_are_made_different() -> None:
    _, deltas = take(piece(call("f", id="x"), call("g", id="x"), call("h", id="x")))
    assert [one["id"] for one in deltas[0]["tool_calls"]] == ["x", "x_1", "x_2"]


@pytest.mark.parametrize(
    "pieces",
    [
        [piece(call("f", willContinue=True)), piece(call(partialArgs=[{"jsonPath": "$.a", "numberValue": 1}]))],
        [piece(call("f", partialArgs=[{"jsonPath": "$.a", "numberValue": 1}]))],
        [
            piece(call("f", willContinue=True, partialArgs=[{"jsonPath": "$.a", "numberValue": 1}])),
            piece(call(willContinue=True)),
            piece({"functionCall": {}}),
        ],
        [piece(call("f", willContinue=True, partialArgs=[{"jsonPath": "$.a", "numberValue": 1}]))],
        [piece(call("f", args={"a": 1}))],
    ],
)
def test_a_call_in_pieces_is_told_whole_and_once(pieces: list[dict[str, Any]]) -> None:
    _, deltas = take(*pieces)
    told = [one["function"] for delta in deltas if delta for one in delta.get("tool_calls", ())]
    assert told == [{"name": "f", "arguments": '{"a":1}'}]


def test_a_piece_of_no_call_is_left_out() -> None:
    assert (
        take(piece({"functionCall": {}}), piece(call(partialArgs=[{"jsonPath": "$.a", "numberValue": 1}])))[1]
        == [None] * 3
    )


@pytest.mark.parametrize(
    ("reason", "blocked", "finish"),
    [("STOP", False, "stop"), (None, True, "content_filter"), ("FINISH_REASON_UNSPECIFIED", False, "stop")],
)
def test_reasons(reason: str | None, blocked: bool, finish: str) -> None:
    answer, _ = take({"finishReason": reason})
    assert answer.finish_reason(blocked=blocked) == finish
    assert (answer.finish is None) == (reason != "STOP")


def test_places_outside_the_text_are_its_ends() -> None:
    grounding = {
        "groundingChunks": [{"web": {"uri": "u"}}],
        "groundingSupports": [
            {"segment": {"startIndex": -5, "endIndex": 99}, "groundingChunkIndices": [0, -1]},
            {"groundingChunkIndices": [0]},
        ],
    }
    _, deltas = take(piece({"text": "öä"}, groundingMetadata=grounding))
    assert deltas[1]["annotations"] == [
        {"type": "url_citation", "url_citation": {"url": "u", "title": "", "start_index": 0, "end_index": 2}}
    ]


def test_tokens_without_others() -> None:
    result = msgspec.convert({"chosenCandidates": [{"token": "ö", "logProbability": -1}]}, LogprobsResult)
    assert logprobs(result) == {
        "content": [{"token": "ö", "logprob": -1.0, "bytes": [195, 182], "top_logprobs": []}],
        "refusal": None,
    }
    assert logprobs(LogprobsResult()) == {"content": [], "refusal": None}
