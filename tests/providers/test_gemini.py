"""What golden files cannot show: odd answers, odd errors, embeddings, the list of models, the SDK's own types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

import golden_harness as harness
from polymux.errors import Failure, Truncated
from polymux.providers.base import Asked, Embedding, Recall
from polymux.providers.gemini import Gemini
from polymux.schema.chat import ChatRequest, Chunk, FunctionCall, Message, ToolCall
from polymux.schema.embeddings import EmbeddingRequest
from polymux.surfaces.assemble import chunks_of, gather
from polymux.types import Deployment

ADAPTER = Gemini()
TO = Deployment("g/m", "g", "gemini-3.5-flash", "gemini", "https://p.example/v1beta", (("x-goog-api-key", "k"),))
TEXT = {"candidates": [{"content": {"parts": [{"text": "hi"}]}, "finishReason": "STOP"}]}
CASES = sorted((harness.ROOT / "gemini").glob("*.txt"))


def read(*events: Any) -> list[Chunk]:
    reader = ADAPTER.reader(Asked("m", 7, TO))
    chunks: list[Chunk] = []
    for event in events:
        chunks += reader.feed("", json.dumps(event).encode())
    return [*chunks, *reader.close()]


def text_of(chunks: list[Chunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


# ---- answers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_the_official_types_take_every_answer(path: Path) -> None:
    sections = harness.read_case(path).sections
    if "response" in sections:
        ChatCompletion.model_validate(json.loads(sections["response"]), strict=True)
    for line in sections.get("chunks", "").splitlines():
        ChatCompletionChunk.model_validate(json.loads(line), strict=True)


def test_what_is_drawn_survives_where_a_stream_is_answered_whole() -> None:
    """And the other way round: hooks see chunks of whole answers too."""
    part = {"inlineData": {"mimeType": "image/png", "data": "AA=="}}
    body = {"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}]}
    answer = ADAPTER.read(json.dumps(body).encode(), Asked("m", 7, TO))
    assert answer.choices[0].message.images
    chunks = chunks_of(answer)
    assert chunks[0].choices[0].delta.has_content()
    assert gather(chunks).choices[0].message.images == answer.choices[0].message.images


def test_a_reason_on_every_piece_is_no_end() -> None:
    assert text_of(read(TEXT, TEXT, TEXT)) == "hihihi"


def test_usage_without_a_total_does_not_count() -> None:
    told = {**TEXT, "usageMetadata": {"promptTokenCount": 3, "totalTokenCount": 5, "candidatesTokenCount": 2}}
    chunks = read(told, {"usageMetadata": {"trafficType": "ON_DEMAND"}})
    assert chunks[-1].usage
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.total_tokens) == (3, 5)


def test_usage_without_any_total_is_the_last_that_came() -> None:
    pieces = [{"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": n}} for n in (1, 2)]
    usage = read({**TEXT, **pieces[0]}, pieces[1])[-1].usage
    assert usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (3, 2, 5)


@pytest.mark.parametrize("usage", ["none", [1], {"totalTokenCount": "many"}, {"totalTokenCount": 2.5}])
def test_usage_that_cannot_be_read_costs_no_text(usage: Any) -> None:
    chunks = read({**TEXT, "usageMetadata": usage})
    assert text_of(chunks) == "hi"
    assert not any(chunk.usage for chunk in chunks)


def test_choices_of_a_whole_answer_are_in_order() -> None:
    body = {"candidates": [{**TEXT["candidates"][0], "index": n} for n in (2, 0, 1)]}
    answer = ADAPTER.read(json.dumps(body).encode(), Asked("m", 7, TO))
    assert [choice.index for choice in answer.choices] == [0, 1, 2]


def test_counts_are_never_negative() -> None:
    usage = read({**TEXT, "usageMetadata": {"promptTokenCount": -3, "totalTokenCount": -5}})[-1].usage
    assert usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (0, 0, 0)


def test_a_prompt_that_is_refused_late_ends_what_has_begun() -> None:
    begun = {"candidates": [{"content": {"parts": [{"text": "hi"}]}}]}
    chunks = read(begun, {"promptFeedback": {"blockReason": "SAFETY"}})
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices] == [None, "content_filter"]


@pytest.mark.parametrize(
    "data",
    [
        b'{"candidates":[{"content":{"parts":[{"te',
        b'{"candidates":[{"content":{"parts":[{"text":5}]}}]}',
        b'{"candidates":[{"content":{"parts":[{"text":"\xff"}]}}]}',
        b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"a":"\xff"}}}]}}]}',
        b"[" * 100_000,
    ],
    ids=["cut", "wrong type", "not UTF-8", "arguments not UTF-8", "deep"],
)
def test_an_event_that_cannot_be_read_is_left_out_and_counted(data: bytes) -> None:
    reader = ADAPTER.reader(Asked("m", 7, TO))
    assert list(reader.feed("", data)) == []
    assert reader.malformed == 1
    with pytest.raises(Truncated):
        reader.close()
    with pytest.raises(Failure, match="cannot be read"):
        ADAPTER.read(data, Asked("m", 7, TO))


@pytest.mark.parametrize(
    "error", ["x", ["x"], {"code": "429"}, {"message": "x"}, {"code": True}, {"code": 429, "details": "x"}]
)
def test_an_error_of_any_shape_is_one(error: Any) -> None:
    with pytest.raises(Failure) as caught:
        read({"error": error})
    limited = isinstance(error, dict) and error.get("code") == 429
    assert caught.value.kind == ("upstream_rate_limited" if limited else "upstream_unavailable")
    assert caught.value.message


def test_an_error_in_a_few_words_is_told() -> None:
    with pytest.raises(Failure, match="overloaded"):
        read({"error": "overloaded"})


@pytest.mark.parametrize(
    "error",
    [
        {"details": 7},
        {"details": ["x", None, {"reason": ["q"], "retryDelay": 5, "@type": 5}]},
        {"status": {"a": 1}, "code": []},
        {"status": ["x"]},
    ],
)
@pytest.mark.parametrize("status", [400, 429, 500])
def test_an_error_of_odd_members_is_one_too(status: int, error: Any) -> None:
    kinds = {400: "upstream_rejected", 429: "upstream_rate_limited", 500: "upstream_unavailable"}
    assert ADAPTER.failure(status, {}, json.dumps({"error": error}).encode()).kind == kinds[status]


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [
        ("27s", 27),
        ("34.4s", 35),
        ("0.2s", 1),
        ("99999999s", 86_400),
        ("soon", None),
        ("", None),
        (5, None),
        ("1e9s", None),
    ],
)
def test_the_delay_of_an_error(delay: Any, seconds: int | None) -> None:
    details = [{"reason": 5}, "x", {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}]
    body = json.dumps({"error": {"code": 429, "message": "m", "details": details}}).encode()
    assert ADAPTER.failure(429, {}, body).retry_after == seconds


# ---- signatures --------------------------------------------------------------------------------------------------


def test_what_is_asked_for_is_asked_for_at_once_and_by_short_names() -> None:
    calls = [ToolCall(id_, function=FunctionCall("f")) for id_ in ("a", "b", "c" * 500)]
    request = ChatRequest("m", [Message("user", "hi"), Message("assistant", tool_calls=calls)])
    asked = Asked("m", 7, TO)
    flow = ADAPTER.flow(request, asked)
    recall = next(flow)
    assert isinstance(recall, Recall)
    assert recall.names[:2] == ("gemini:g:sig:a", "gemini:g:sig:b")
    assert len(recall.names) == 3
    assert len(recall.names[2]) < 100
    with pytest.raises(StopIteration) as stop:
        flow.send({recall.names[0]: b"AA==", recall.names[2]: b"CC=="})
    parts = json.loads(stop.value.value.body)["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in parts] == ["AA==", None, "CC=="]


def test_a_signature_is_remembered_when_it_comes() -> None:
    """Not at the end: the client may leave with the call."""
    asked = Asked("m", 7, TO)
    part = {"functionCall": {"name": "f", "id": "x"}, "thoughtSignature": "AA=="}
    event = {"candidates": [{"content": {"parts": [part]}}]}
    ADAPTER.reader(asked).feed("", json.dumps(event).encode())
    assert asked.remembered == {"gemini:g:sig:x": b"AA=="}


def test_calls_of_answers_without_ids_are_not_taken_for_each_other() -> None:
    """Those of one second, to one tenant: each has its own signature."""
    found: set[str] = set()
    for signature in ("AA==", "BB=="):
        part = {"functionCall": {"name": "f"}, "thoughtSignature": signature}
        asked = Asked("m", 7, TO)
        ADAPTER.reader(asked).feed("", json.dumps({"candidates": [{"content": {"parts": [part]}}]}).encode())
        found |= set(asked.remembered)
    assert len(found) == 2


# ---- embeddings, models ------------------------------------------------------------------------------------------


def test_embeddings() -> None:
    assert isinstance(ADAPTER, Embedding)
    to = Deployment("g/e", "g", "gemini-embedding-001", "gemini", "https://p.example/v1beta", TO.headers)
    with pytest.raises(StopIteration) as stop:
        next(ADAPTER.embed(EmbeddingRequest("m", ["a", "b"], dimensions=3), Asked("e", 7, to)))
    wire = stop.value.value
    assert (wire.method, wire.headers, wire.framing, wire.dropped) == ("POST", TO.headers, "whole", ())
    assert wire.url == "https://p.example/v1beta/models/gemini-embedding-001:batchEmbedContents"
    assert json.loads(wire.body) == {
        "requests": [
            {
                "model": "models/gemini-embedding-001",
                "content": {"parts": [{"text": text}]},
                "outputDimensionality": 3,
            }
            for text in ("a", "b")
        ]
    }
    body = b'{"embeddings": [{"values": [0.1, 0.2, 0.3]}, {"values": [0.4, 0.5, 0.6]}]}'
    found = ADAPTER.read_embeddings(body, Asked("e", 7, to))
    assert [(one.index, one.embedding) for one in found.data] == [(0, [0.1, 0.2, 0.3]), (1, [0.4, 0.5, 0.6])]
    assert (found.model, found.usage) == ("e", None)
    counted = ADAPTER.read_embeddings(b'{"embeddings": [], "usageMetadata": {"promptTokenCount": 4}}', Asked("e", 7))
    assert counted.usage
    assert (counted.usage.prompt_tokens, counted.usage.total_tokens) == (4, 4)


@pytest.mark.parametrize("given", [[1, 2], [[1], [2]]])
def test_tokens_are_no_text(given: Any) -> None:
    with pytest.raises(Failure) as caught:
        next(ADAPTER.embed(EmbeddingRequest("m", given), Asked("e", 7, TO)))
    assert caught.value.kind == "unsupported_content"


@pytest.mark.parametrize("body", [b"{}", b"[]", b"not JSON", b'{"error": {"code": 503, "message": "m"}}'])
def test_an_answer_without_embeddings_is_a_failure(body: bytes) -> None:
    with pytest.raises(Failure):
        ADAPTER.read_embeddings(body, Asked("e", 7))


def test_models() -> None:
    assert ADAPTER.models(TO).url == "https://p.example/v1beta/models?pageSize=1000"
    body = b'{"models": [{"name": "models/gemini-3.5-flash"}, {"name": "tunedModels/mine"}], "nextPageToken": "x"}'
    assert list(ADAPTER.read_models(body)) == ["gemini-3.5-flash", "tunedModels/mine"]
