"""Azure's dialect beside its golden cases: addresses, the list of deployments, and the relay lane."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from polymux.errors import Failure, Truncated
from polymux.providers.azure import Azure, Filtered
from polymux.providers.base import Adapter, Asked, Embedding, Relaying
from polymux.providers.openai import Mender, Relay
from polymux.schema.embeddings import EmbeddingRequest
from polymux.surfaces.chat import Chat
from polymux.types import Call, Deployment, Key, Quirks, Usage

Json = Any

BASE: Final = "https://my-resource.openai.azure.com/openai"
BODY: Final = {"model": "public", "messages": [{"role": "user", "content": "hi"}]}
SAFE: Final = {"hate": {"filtered": False, "severity": "safe"}}
PROMPT: Final = {"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": [SAFE]}
LATE: Final = {
    "choices": [
        {
            "index": 0,
            "finish_reason": None,
            "content_filter_results": SAFE,
            "content_filter_offsets": {"check_offset": 5},
        }
    ],
    "created": 0,
    "id": "",
    "model": "",
    "object": "",
}
SHARED: Final = {"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "gpt-5.4-mini"}


def to(**members: Any) -> Deployment:
    return Deployment(
        **{"id": "a/gpt", "provider": "a", "model": "my/gpt", "dialect": "azure", "base_url": BASE} | members
    )


def call(stream: bool = True, usage: bool = False) -> Call:
    options = {"stream_options": {"include_usage": True}} if usage else {}
    return Chat().decode(json.dumps({**BODY, "stream": stream, **options}).encode(), "1", Key("k", "k"))


def chunk(text: str = "", finish: str | None = None, **members: Json) -> Json:
    choice = {
        "index": 0,
        "delta": {"content": text} if text else {},
        "finish_reason": finish,
        "content_filter_results": {},
    }
    return {"choices": [choice], **SHARED, **members}


def sse(*events: Json) -> bytes:
    return b"".join(b"data: " + json.dumps(one, separators=(",", ":")).encode() + b"\n\n" for one in events)


def read(stream: bytes) -> list[Json]:
    return [
        json.loads(line.removeprefix("data: "))
        for line in stream.decode().split("\n\n")
        if line and "[DONE]" not in line
    ]


def relayed(data: bytes, size: int, usage: bool = False) -> tuple[list[Json], Any]:
    lane = Azure().relay_reader(call(usage=usage), to())
    out = b"".join(lane.feed(data[at : at + size]) for at in range(0, len(data), size))
    return read(out + lane.close()), lane


def test_what_it_is() -> None:
    adapter: Adapter = Azure()
    assert isinstance(adapter, Relaying)
    assert isinstance(adapter, Embedding)


# ---- addresses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "url"),
    [
        ({}, f"{BASE}/v1/chat/completions"),
        ({"base_url": f"{BASE}/v1"}, f"{BASE}/v1/chat/completions"),
        ({"api_version": "2024-10-21"}, f"{BASE}/deployments/my%2Fgpt/chat/completions?api-version=2024-10-21"),
    ],
)
def test_a_chat_is_asked_at_either_address(members: Json, url: str) -> None:
    request = Azure().relay(call(), to(**members))
    assert request.url == url
    assert json.loads(request.body)["model"] == "my/gpt"
    with pytest.raises(StopIteration) as stop:
        next(Azure().flow(Chat().request(call()), Asked("public", 1, to(**members))))
    assert stop.value.value.url == url


@pytest.mark.parametrize("model", [".", ".."])
def test_a_name_is_no_way_to_another_address(model: str) -> None:
    with pytest.raises(Failure) as found:
        Azure().relay(call(), to(model=model, api_version="2024-10-21"))
    assert found.value.kind == "model_not_found"


def test_embeddings_are_asked_there_too() -> None:
    with pytest.raises(StopIteration) as stop:
        next(Azure().embed(EmbeddingRequest("public", "a"), Asked("public", 1, to(api_version="2024-10-21"))))
    assert stop.value.value.url == f"{BASE}/deployments/my%2Fgpt/embeddings?api-version=2024-10-21"


@pytest.mark.parametrize("base", [BASE, f"{BASE}/v1"])
def test_deployments_are_listed_and_not_base_models(base: str) -> None:
    request = Azure().models(to(base_url=base, headers=(("api-key", "k"),), api_version="2024-10-21"))
    assert request.url == f"{BASE}/deployments?api-version=2023-03-15-preview"
    assert request.headers == (("api-key", "k"),)
    listed = (
        b'{"data":[{"id":"my-gpt","model":"gpt-5.4-mini","status":"succeeded","object":"deployment"}],"object":"list"}'
    )
    assert Azure().read_models(listed) == ["my-gpt"]


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (404, {"error": {"code": "DeploymentNotFound", "message": "no"}}, "model_not_found"),
        (404, {"error": {"code": "404", "message": "Resource not found"}}, "404"),
        (400, {"error": {"code": "DeploymentNotFound", "message": "no"}}, "DeploymentNotFound"),
        (404, [], None),
    ],
)
def test_a_deployment_that_is_not_there_is_an_unknown_model(status: int, body: Json, code: str | None) -> None:
    assert Azure().failure(status, {}, json.dumps(body).encode()).code == code


# ---- the relay lane ----------------------------------------------------------------------------------------------

PLAIN: Final = sse(
    chunk("Hel"),
    chunk("lo"),
    chunk(finish="stop"),
    {"choices": [], **SHARED, "usage": {"prompt_tokens": 8, "completion_tokens": 3, "total_tokens": 11}},
)


@pytest.mark.parametrize("size", [1, 7, 100, 1 << 20])
def test_a_stream_without_notes_passes_as_it_came(size: int) -> None:
    events, lane = relayed(PLAIN + b"data: [DONE]\n\n", size, usage=True)
    assert events == read(PLAIN)
    assert lane.usage == Usage(8, 3)
    assert lane.content
    assert lane.done


@pytest.mark.parametrize("size", [1, 7, 100, 1 << 20])
def test_what_is_said_of_the_prompt_goes_with_the_first_chunk(size: int) -> None:
    events, lane = relayed(sse(PROMPT) + PLAIN + b"data: [DONE]\n\n", size)
    first, *rest = events
    assert first == chunk("Hel") | {"prompt_filter_results": [SAFE]}
    assert rest == read(PLAIN)[1:-1], "the usage was not asked for"
    assert lane.usage == Usage(8, 3)


@pytest.mark.parametrize("before", [(PROMPT,), ()], ids=["after the prompt's", "alone"])
@pytest.mark.parametrize("size", [1, 100, 1 << 20])
def test_what_is_said_later_has_a_chunks_shape(size: int, before: tuple[Json, ...]) -> None:
    data = sse(*before, chunk("Hel"), LATE, chunk("lo"), chunk(finish="stop"), LATE) + b"data: [DONE]\n\n"
    events, _ = relayed(data, size)
    assert all(SHARED.items() <= event.items() for event in events)
    deltas = [choice["delta"] for event in events for choice in event["choices"]]
    assert deltas == [{"content": "Hel"}, {}, {"content": "lo"}, {}, {}]
    assert events[1]["choices"][0]["content_filter_offsets"] == {"check_offset": 5}


def test_notes_alone_are_no_content_and_no_answer() -> None:
    lane = Azure().relay_reader(call(), to())
    assert lane.feed(sse(PROMPT)) == b""
    assert not lane.content
    with pytest.raises(Truncated):
        lane.close()
    early = Azure().relay_reader(call(), to())
    assert read(early.feed(sse(LATE)))[0]["choices"][0]["delta"] == {}
    assert not early.content


def test_an_error_without_an_id_is_an_error() -> None:
    lane = Azure().relay_reader(call(), to())
    lane.feed(sse(PROMPT, chunk("Hel"), {"id": "", "choices": [], "error": {"code": "429", "message": "slow down"}}))
    with pytest.raises(Failure, match="slow down") as caught:
        lane.close()
    assert caught.value.kind == "upstream_rate_limited"


@pytest.mark.parametrize(
    "odd",
    [
        b'data: {"id":"", oops\n\n',
        b'data: ["id", {"id":""}]\n\n',
        b'data: {"id":"","choices":7}\n\n',
        b'data: {"id":"","choices":[7]}\n\n',
    ],
)
def test_what_is_no_chunk_at_all_does_no_harm(odd: bytes) -> None:
    lane = Azure().relay_reader(call(), to())
    out = b"".join(lane.feed(piece) for piece in (odd, odd + PLAIN, b"data: [DONE]\n\n")) + lane.close()
    assert read(PLAIN)[0] in read(out)


def test_a_row_that_says_repair_gets_it_and_other_surfaces_their_own_lane() -> None:
    assert type(Azure().relay_reader(call(), to())) is Filtered
    assert type(Azure().relay_reader(call(), to(quirks=Quirks(repair=True)))) is Mender
    completions = Call("1", "completions", Key("k", "k"), "m", True, {}, b"")
    assert type(Azure().relay_reader(completions, to())) is Relay
