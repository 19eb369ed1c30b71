"""Every transcript through the pure readers: whole, byte by byte, and cut where the case says.

`expect` is asserted member by member. The value of `native_finish_reason` is only where answers are relayed untouched;
`official_sdk` is about another reader.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from polymux.errors import Failure, Truncated
from polymux.providers.anthropic import Anthropic
from polymux.providers.base import Adapter, Asked
from polymux.providers.gemini import Gemini
from polymux.providers.ollama import Ollama
from polymux.providers.openai import OpenAI
from polymux.schema.chat import ChatRequest
from polymux.surfaces.chat import Chat
from polymux.surfaces.stream import DECODERS
from polymux.types import Call, Deployment, Key, Quirks
from polymux.wire.mask import mask
from polymux.wire.sse import Decoder

DATA = Path(__file__).parent / "data"
CASES = {
    f"{path.parent.parent.name}/{path.parent.name}": path.parent
    for path in sorted(DATA.glob("*/*/case.json"))
    if path.parent.parent.name != "dify"  # test_dify.py has those: they say other things
}
MODEL = "public-name"
ASSERTED = {  # members of `expect` that some test below looks at
    *(
        "text",
        "reasoning",
        "refusal",
        "tool_calls",
        "tool_call_extra",
        "finish_reason",
        "native_finish_reason",
        "usage",
    ),
    *("usage_normalized", "error", "terminated", "signatures", "redacted", "choices", "model_ids", "official_sdk"),
}
# Protocol -> who reads it, and how its streams are framed.
ADAPTERS: dict[str, tuple[Adapter, str]] = {
    "openai": (OpenAI(), "sse"),
    "openai-compat": (OpenAI(), "sse"),
    "anthropic": (Anthropic(), "sse"),
    "gemini": (Gemini(), "sse"),
    "ollama": (Ollama(), "ndjson"),
}

Json = dict[str, Any]
# one way of reading a stream: given the body's pieces, the chunks and how it ended
Lane = Callable[[Iterable[bytes]], tuple[list[Json], Exception | None]]


def load(name: str) -> tuple[Json, bytes]:
    case = json.loads((CASES[name] / "case.json").read_text(encoding="utf-8"))
    body = (CASES[name] / case["body"]).read_bytes()
    assert len(body) == case["bytes"]
    return case, body


def of_kind(kind: str) -> list[str]:
    """Case names: `stream`, `whole`, `status` (an error status) or `models`."""
    found = []
    for name in CASES:
        case, _ = load(name)
        is_models = "model_ids" in case["expect"]
        this = "models" if is_models else "status" if case["status"] >= 400 else "whole"
        if case["body"].endswith((".sse", ".ndjson")):
            this = "stream"
        if this == kind:
            found.append(name)
    return found


def adapter(name: str) -> Adapter:
    return ADAPTERS[name.split("/")[0]][0]


def framing(name: str) -> str:
    return ADAPTERS[name.split("/")[0]][1]


def relayed_too(name: str) -> bool:
    """Whether such answers may reach the client untranslated."""
    return isinstance(adapter(name), OpenAI)


# ---- lanes -----------------------------------------------------------------------------------------------------


def translated(name: str) -> Lane:
    """The reader that gives chunks of the pivot."""

    def lane(pieces: Iterable[bytes]) -> tuple[list[Json], Exception | None]:
        decoder, reader, chunks = DECODERS[framing(name)](), adapter(name).reader(Asked(MODEL, 1_700_000_000)), []
        try:
            for piece in pieces:
                for event, data in decoder.feed(piece):
                    chunks += reader.feed(event, data)
            for event, data in decoder.close():
                chunks += reader.feed(event, data)
            chunks += reader.close()
        except (Failure, Truncated) as exc:
            return [json.loads(msgspec.json.encode(chunk)) for chunk in chunks], exc
        return [json.loads(msgspec.json.encode(chunk)) for chunk in chunks], None

    return lane


def relayed(repair: bool) -> Lane:
    """The lane in which an OpenAI-shaped stream reaches the client as bytes."""

    def lane(pieces: Iterable[bytes]) -> tuple[list[Json], Exception | None]:
        to = Deployment("p/m", "p", "m", "openai", quirks=Quirks(repair=repair))
        call = Call("1", "chat", Key("k", "k"), "m", True, {}, b"", wants_usage=True)
        reader, sent = OpenAI().relay_reader(call, to), b""
        failed: Exception | None = None
        try:
            for piece in pieces:
                sent += reader.feed(piece)
            sent += reader.close()
        except (Failure, Truncated) as exc:
            failed = exc
        events = [data for _, data in Decoder().feed(sent)]
        assert (events[-1:] == [b"[DONE]"]) == (failed is None)
        return [json.loads(data) for data in events if data != b"[DONE]"], failed

    return lane


LANES = [
    pytest.param(name, lane, id=f"{label}:{name}")
    for name in of_kind("stream")
    for label, lane in (
        ("translated", translated(name)),
        *([("mended", relayed(True))] if relayed_too(name) else []),
        *([("relayed", relayed(False))] if name.startswith("openai/") else []),
    )
]


def cuts(case: Json, body: bytes) -> dict[str, list[bytes]]:
    ways = {"whole": [body], "bytes": [body[i : i + 1] for i in range(len(body))]}
    if "splits" in case:
        edges = [0, *case["splits"], len(body)]
        ways["splits"] = [body[a:b] for a, b in pairwise(edges)]
    return ways


# ---- meaning ---------------------------------------------------------------------------------------------------


def fold(chunks: list[Json]) -> Json:
    """What a client that follows the protocol makes of the chunks."""
    choices: dict[int, Json] = {}
    usage: Json | None = None
    for chunk in chunks:
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            seen = choices.setdefault(
                choice["index"], {"text": "", "reasoning": "", "refusal": "", "calls": {}, "details": [], "finish": []}
            )
            delta = choice["delta"]
            seen["text"] += delta.get("content") or ""
            seen["reasoning"] += delta.get("reasoning_content") or ""
            seen["refusal"] += delta.get("refusal") or ""
            seen["details"] += delta.get("reasoning_details") or []
            if choice.get("finish_reason"):
                seen["finish"].append(choice["finish_reason"])
            for call in delta.get("tool_calls") or []:
                held = seen["calls"].setdefault(call["index"], {"id": "", "name": "", "arguments": "", "extra": None})
                held["id"] = held["id"] or call.get("id") or ""
                function = call.get("function") or {}
                held["name"] = held["name"] or function.get("name") or ""
                held["arguments"] += function.get("arguments") or ""
                held["extra"] = held["extra"] or call.get("extra_content")
    return {"choices": choices, "usage": usage}


def flat_usage(usage: Json) -> Json:
    details = {**(usage.get("prompt_tokens_details") or {}), **(usage.get("completion_tokens_details") or {})}
    return {**details, **usage}


def check_usage(found: Json | None, expected: Json) -> None:
    assert found is not None
    held = flat_usage(found)
    assert {name: held.get(name) or 0 for name in expected} == expected


def check_calls(calls: list[Json], expect: Json) -> None:
    wanted = expect["tool_calls"]
    assert [(c["name"], json.loads(c["arguments"] or "{}")) for c in calls] == [
        (w["name"], w["arguments"]) for w in wanted
    ]
    for call, want in zip(calls, wanted, strict=True):
        assert call["id"]
        assert want["id"] in (None, call["id"])
    assert len({call["id"] for call in calls}) == len(calls)


def check_shape(chunks: list[Json], complete: bool) -> None:
    """What holds for every stream that a client gets."""
    assert len({chunk["id"] for chunk in chunks}) <= 1
    roles: dict[int, list[int]] = {}
    for position, chunk in enumerate(chunks):
        assert chunk["object"] == "chat.completion.chunk"
        for choice in chunk["choices"]:
            if choice["delta"].get("role"):
                roles.setdefault(choice["index"], []).append(position)
    with_usage = [position for position, chunk in enumerate(chunks) if chunk.get("usage")]
    assert len(with_usage) <= 1
    if with_usage:
        assert with_usage == [len(chunks) - 1]
        assert chunks[-1]["choices"] == []
    assert all(len(positions) == 1 for positions in roles.values())
    if complete:
        for seen in fold(chunks)["choices"].values():
            assert len(seen["finish"]) == 1
            assert list(seen["calls"]) == list(range(len(seen["calls"])))


def check_failure(expect: Json, failed: Exception | None) -> None:
    """How a stream that did not end well ended: with the provider's own error where it sent one."""
    error = expect.get("error")
    if error is None:
        assert isinstance(failed, Truncated)
        return
    assert isinstance(failed, Failure)
    code, type_ = error.get("code"), error.get("type")
    told = STREAMED.get(code) or STREAMED.get(type_) or "upstream_unavailable"
    assert failed.kind == told


# What an error inside a stream is, by its code or its type; any other is "unavailable".
STREAMED = {
    "overloaded_error": "upstream_overloaded",
    "UNAVAILABLE": "upstream_overloaded",
    "502": "upstream_unavailable",
    "429": "upstream_rate_limited",
}


def check_stream(expect: Json, chunks: list[Json], failed: Exception | None, normalized: bool) -> None:
    folded = fold(chunks)
    first = folded["choices"].get(0, {"text": "", "reasoning": "", "refusal": "", "calls": {}, "details": []})
    for member in ("text", "reasoning", "refusal"):
        if member in expect:
            assert first[member] == expect[member], member
    if expect.get("terminated", True):
        assert failed is None
    else:
        check_failure(expect, failed)
    if "finish_reason" in expect:
        assert first["finish"] == [expect["finish_reason"]]
    if "tool_calls" in expect:
        check_calls(list(first["calls"].values()), expect)
    for extra in expect.get("tool_call_extra", []):
        held = {call["id"]: call["extra"] for call in first["calls"].values()}
        assert held[extra["id"]] == extra["extra_content"]
    if "usage" in expect:
        check_usage(folded["usage"], expect.get("usage_normalized", expect["usage"]) if normalized else expect["usage"])
    kept = json.dumps([first["details"], [call["extra"] for call in first["calls"].values()]])
    for opaque in (*expect.get("signatures", []), *expect.get("redacted", [])):
        assert opaque in kept
    for choice in expect.get("choices", []):
        seen = folded["choices"][choice["index"]]
        assert (seen["text"], seen["finish"]) == (choice["text"], [choice["finish_reason"]])


# ---- tests -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_nothing_that_a_transcript_expects_is_overlooked(name: str) -> None:
    assert set(load(name)[0]["expect"]) <= ASSERTED


@pytest.mark.parametrize(("name", "lane"), LANES)
def test_a_stream_means_what_the_transcript_says(name: str, lane: Lane) -> None:
    case, body = load(name)
    results = {}
    for way, pieces in cuts(case, body).items():
        chunks, failed = lane(pieces)
        check_stream(case["expect"], chunks, failed, normalized=not name.startswith("openai/"))
        if not name.startswith("openai/"):
            check_shape(chunks, failed is None)
        results[way] = fold(chunks)["choices"], str(failed)
    ids = [call["id"] for way in results.values() for c in way[0].values() for call in c["calls"].values()]
    if all(want["id"] for want in case["expect"].get("tool_calls", [])) or not ids:
        assert all(result == results["whole"] for result in results.values())


@pytest.mark.parametrize("name", [name for name in of_kind("stream") if name.startswith("openai/")])
def test_a_relayed_stream_keeps_the_native_finish(name: str) -> None:
    case, body = load(name)
    chunks, _ = relayed(False)([body])
    native = case["expect"].get("native_finish_reason")
    finishes = {choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]} - {None}
    assert finishes == ({native} if native else finishes)


REQUESTS = [
    name
    for name in CASES
    if name.startswith("openai") and "/chat/completions" in load(name)[0]["path"] and "request" in load(name)[0]
]


@pytest.mark.parametrize("name", REQUESTS)
def test_the_request_of_a_transcript_is_what_is_sent(name: str) -> None:
    """As a client's own it is relayed whole, with the wish for usage, and translated as far as the pivot knows it."""
    body = (CASES[name] / load(name)[0]["request"]).read_bytes()
    asked = json.loads(body)
    asked.setdefault("model", "in the path")  # Azure's
    to = Deployment("p/m", "p", asked["model"], "openai", quirks=Quirks(thinking="thinking" in asked))
    call = Chat().decode(json.dumps(asked).encode(), "1", Key("k", "k"))
    if asked.get("stream"):
        asked["stream_options"] = {**asked.get("stream_options", {}), "include_usage": True}
    assert json.loads(OpenAI().relay(call, to).body) == asked
    with pytest.raises(StopIteration) as stop:
        next(OpenAI().flow(Chat().request(call), Asked(MODEL, 1_700_000_000, to)))
    known = msgspec.to_builtins(msgspec.convert(asked, ChatRequest))
    assert json.loads(stop.value.value.body) == known
    assert stop.value.value.dropped == ()
    assert set(asked) - set(known) == set(Chat().unknown(call))


@pytest.mark.parametrize("repair", [False, True])
@pytest.mark.parametrize("name", [name for name in of_kind("whole") if relayed_too(name)])
def test_a_whole_answer_is_relayed(name: str, repair: bool) -> None:
    case, body = load(name)
    call = Call("1", "chat", Key("k", "k"), "m", False, {}, b"")
    to = Deployment("p/m", "p", "m", "openai", quirks=Quirks(repair=repair))
    out, usage = OpenAI().relay_whole(body, call, to)
    assert repair or out == body
    choice = json.loads(out)["choices"][0]
    assert (choice["message"]["content"] or "") == case["expect"]["text"]
    assert choice["finish_reason"] == case["expect"]["finish_reason"]
    check_calls(
        [{"id": c["id"], **c["function"]} for c in choice["message"].get("tool_calls") or ()],
        {"tool_calls": case["expect"].get("tool_calls", [])},
    )
    wanted = case["expect"]["usage"]
    assert (usage.input, usage.output) == (wanted["prompt_tokens"], wanted["completion_tokens"])


@pytest.mark.parametrize("name", of_kind("whole"))
def test_a_whole_answer_means_what_the_transcript_says(name: str) -> None:
    case, body = load(name)
    expect = case["expect"]
    answer = json.loads(msgspec.json.encode(adapter(name).read(body, Asked(MODEL, 1_700_000_000))))
    assert answer["model"] == MODEL
    message, finish = answer["choices"][0]["message"], answer["choices"][0]["finish_reason"]
    assert (message["content"] or "") == expect["text"]
    assert finish == expect["finish_reason"]
    assert message.get("reasoning_content", "") == expect.get("reasoning", "")
    calls = [{"id": call["id"], **call["function"]} for call in message.get("tool_calls") or []]
    check_calls(calls, {"tool_calls": expect.get("tool_calls", [])})
    check_usage(answer["usage"], expect["usage"])


# What the client is told for a provider's error status (INTERFACE: "provider's 4xx about the request: as sent").
TOLD = {
    401: (502, "upstream_error", "upstream_auth_failed"),
    402: (502, "upstream_error", "upstream_auth_failed"),
    403: (502, "upstream_error", "upstream_auth_failed"),
    429: (429, "rate_limit_error", "upstream_rate_limited"),
    503: (503, "upstream_error", "upstream_unavailable"),
    529: (503, "upstream_error", "upstream_unavailable"),
}
CONTEXT = (400, "invalid_request_error", "context_length_exceeded")
TOLD_BY_CASE = {
    "anthropic/error-404": (404, "invalid_request_error", "model_not_found"),  # in OpenAI's terms
    "gemini/error-400-api-key": (502, "upstream_error", "upstream_auth_failed"),
    "gemini/error-404": (404, "invalid_request_error", "model_not_found"),
    "ollama/error-404": (404, "invalid_request_error", "model_not_found"),
    "anthropic/error-413": (413, "invalid_request_error", "request_too_large"),
    "openai/error-400-context-length": CONTEXT,
    "openai/error-429-insufficient-quota": (502, "upstream_error", "upstream_auth_failed"),  # our money is spent
    "openai-compat/llamacpp-error-context": CONTEXT,
    "openai-compat/vllm-error-400": CONTEXT,
    "openai-compat/gemini-layer-error-list": (502, "upstream_error", "upstream_auth_failed"),
    "openai-compat/azure-error-content-filter": (400, "invalid_request_error", "content_filter"),
    "openai-compat/tgi-error-422": (422, "validation", None),  # a flat object: the type is called error_type
}


def spoken(value: Any) -> list[str]:
    """The texts of a body that may be its message: strings, and objects in place of one as compact JSON."""
    if isinstance(value, str):
        return [value]
    members = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    compact = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return [compact, *(text for member in members for text in spoken(member))]


@pytest.mark.parametrize("name", of_kind("status"))
def test_an_error_status_is_told_as_the_table_says(name: str) -> None:
    case, body = load(name)
    error, status = case["expect"]["error"], case["status"]
    headers = case.get("response_headers", {})
    failure = adapter(name).failure(status, headers, body)
    as_sent = (status, error.get("type") or "invalid_request_error", error.get("code"))
    assert (failure.status, failure.type, failure.code) == TOLD_BY_CASE.get(name, TOLD.get(status, as_sent))
    assert failure.message in [mask(text) for text in spoken(json.loads(body))]
    if error.get("param"):
        assert failure.param == error["param"]
    if "retry-after-ms" in headers:
        assert failure.retry_after == float(headers["retry-after-ms"]) / 1000
    elif "retry-after" in headers:
        assert failure.retry_after == float(headers["retry-after"])


@pytest.mark.parametrize("name", of_kind("models"))
def test_a_model_list_is_read(name: str) -> None:
    case, body = load(name)
    assert list(adapter(name).read_models(body)) == case["expect"]["model_ids"]
