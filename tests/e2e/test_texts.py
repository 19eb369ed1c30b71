"""`/v1/completions` and `/v1/embeddings` through a real gateway: relayed, emulated, refused, limited, recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from polymux.mock.scripts import JSON, SSE, Script, refused
from polymux.mock.scripts import Ask as Asked
from polymux.mock.texts import vector
from polymux.wire.vectors import pack, unpack
from support.gateway import KEY, Gateway
from support.ledger import journalled
from support.raw import Answer, post
from support.settings import FUNCTIONS, providers
from support.upstream import Upstream

BOTH = ["completions", "embeddings"]
Json = Any


def complete(gateway: Gateway, model: str, **members: Any) -> Answer:
    return gateway.post({"model": model, "prompt": "Once", **members}, path="/v1/completions")


def embed(gateway: Gateway, model: str, **members: Any) -> Answer:
    return gateway.post({"model": model, "input": "Hi", **members}, path="/v1/embeddings")


def do(gateway: Gateway, surface: str, model: str, **members: Any) -> Answer:
    return (complete if surface == "completions" else embed)(gateway, model, **members)


def text(answer: Answer) -> str:
    """What was said, streamed or not, of the first choice."""
    assert answer.status == 200, answer.body
    if answer.headers["content-type"] == "application/json":
        return str(answer.json()["choices"][0]["text"])
    events = answer.events()
    assert events[-1] == b"[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}
    return "".join(choice["text"] for chunk in chunks for choice in chunk["choices"] if choice["index"] == 0)


# ---- completions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_a_completion_is_relayed_to_who_has_them(gateway: Gateway, upstream: Upstream, stream: bool) -> None:
    members: dict[str, Any] = {"max_tokens": 5, "novelty": [1], "suffix": "end"}
    answer = complete(gateway, "corp/text", stream=stream, **members)
    assert text(answer).startswith(" This")
    assert answer.headers.get("x-polymux-dropped") is None
    seen = upstream.wait("text")
    assert seen.path == "/v1/completions"
    usage = {"stream_options": {"include_usage": True}} if stream else {}
    assert seen.json == {"model": "text", "prompt": "Once", "stream": stream, **members, **usage}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("prompt", ["Once", ["Once", "Twice"], [1, 2], [[1, 2], [3]]])
def test_prompts_of_every_form_are_relayed(gateway: Gateway, upstream: Upstream, prompt: Json, stream: bool) -> None:
    answer = complete(gateway, "corp/text", prompt=prompt, n=2, echo=True, logprobs=1, stream=stream)
    assert text(answer)
    assert upstream.wait("text").json["prompt"] == prompt
    chunks = [json.loads(event) for event in answer.events()[:-1]] if stream else [answer.json()]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    count = 2 * (2 if prompt in (["Once", "Twice"], [[1, 2], [3]]) else 1)
    assert {choice["index"] for choice in choices} == set(range(count))
    assert all(choice["logprobs"]["tokens"] for choice in choices)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("model", "said"), [("claude/text", "Hello, 世界!"), ("echo", "Once"), ("meow", "喵!")])
def test_a_completion_is_a_chat_for_who_only_chats(gateway: Gateway, model: str, said: str, stream: bool) -> None:
    answer = complete(gateway, model, stream=stream, echo=False)
    assert text(answer) == said
    assert text(complete(gateway, model, stream=stream, echo=True)) == f"Once{said}"


def test_what_a_chat_is_asked(gateway: Gateway, upstream: Upstream) -> None:
    answer = complete(gateway, "claude/text", best_of=3, seed=7, novelty=1)
    assert text(answer) == "Hello, 世界!"
    assert answer.headers["x-polymux-dropped"] == "seed,novelty,best_of"
    asked = upstream.wait("text").json
    assert asked["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Once"}]}]
    assert asked["max_tokens"] == 16


@pytest.mark.parametrize(
    ("members", "code", "param"),
    [
        ({"prompt": ["a", "b"]}, "unsupported_content", "prompt"),
        ({"prompt": [1, 2]}, "unsupported_content", "prompt"),
        ({"suffix": "end"}, "unsupported_parameter", "suffix"),
        ({"logprobs": 1}, "unsupported_parameter", "logprobs"),
        ({"temperature": "hot"}, "invalid_type", "temperature"),
    ],
)
def test_what_a_chat_cannot_do(gateway: Gateway, members: dict[str, Any], code: str, param: str) -> None:
    answer = complete(gateway, "claude/text", **members)
    assert (answer.status, answer.error()["code"], answer.error()["param"]) == (400, code, param)


def test_usage_comes_to_those_who_asked(gateway: Gateway) -> None:
    for model in ("corp/text", "claude/text"):
        asked = complete(gateway, model, stream=True, stream_options={"include_usage": True}).events()
        assert json.loads(asked[-2])["usage"]["prompt_tokens"] > 0
        assert json.loads(asked[-2])["choices"] == []
        unasked = complete(gateway, model, stream=True).events()
        assert all(json.loads(event)["choices"] for event in unasked[:-1])


def event(said: str, finish: str | None = None) -> bytes:
    choice = {"text": said, "index": 0, "logprobs": None, "finish_reason": finish}
    chunk = {"id": "c", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def test_a_truncated_completion_is_no_success(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script("text", Script(headers=SSE, framing="chunked", frames=(event("a"), event("b"))))
    events = complete(gateway, "corp/text", stream=True).events()
    assert b"[DONE]" not in events
    assert json.loads(events[-1])["error"]["code"] == "upstream_truncated"
    upstream.script("text", Script(headers=SSE, framing="chunked", frames=(event(""),)))
    before = complete(gateway, "corp/text", stream=True)
    assert (before.status, before.error()["code"]) == (502, "upstream_truncated")


def test_the_first_text_commits_it(gateway: Gateway, upstream: Upstream) -> None:
    """Streams that fail before it are failed over, or answered with a status; afterwards it is told inside."""
    failing = b'data: {"error": {"message": "boom", "type": "server_error"}}\n\n'
    upstream.script("text", Script(headers=SSE, framing="chunked", frames=(event(""), failing)))
    assert complete(gateway, "corp/text", stream=True).status == 502
    frames = (event("a"), failing)
    upstream.script("held", Script(headers=SSE, framing="chunked", frames=frames, gate=True, free=1))
    with gateway.wire() as wire:
        wire.send(post(gateway.key, {"model": "corp/held", "prompt": "Once", "stream": True}, "/v1/completions"))
        assert wire.head().status == 200
        events = wire.events()
        assert b'"a"' in next(events)
        upstream.wait("held").release()
        assert json.loads(next(events).removeprefix(b"data: "))["error"]["message"] == "boom"
        assert list(events) == []


def test_a_stream_that_was_asked_for_and_ignored(gateway: Gateway, upstream: Upstream) -> None:
    choice = {"text": "All at once", "index": 0, "logprobs": {"tokens": ["All"]}, "finish_reason": "length"}
    used = {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}
    whole = {"id": "c", "object": "text_completion", "created": 1, "model": "m", "choices": [choice], "usage": used}
    upstream.script("text", Script(headers=JSON, frames=(json.dumps(whole).encode(),)))
    answer = complete(gateway, "corp/text", stream=True, stream_options={"include_usage": True})
    assert text(answer) == "All at once"
    assert json.loads(answer.events()[-2])["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize("provider", ["corp", "claude"])
def test_a_client_that_leaves_ends_the_call(gateway: Gateway, upstream: Upstream, provider: str) -> None:
    upstream.script("held", Script(headers=SSE, framing="chunked", frames=(event("a"), event("b", "stop")), gate=True))
    with gateway.wire() as wire:
        body = {"model": f"{provider}/held", "prompt": "Once", "stream": True}
        wire.send(post(gateway.key, body, "/v1/completions"))
        seen = upstream.wait("held")
        wire.leave()
    seen.wait_gone()


# ---- embeddings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [None, "float", "base64"])
def test_the_client_gets_the_form_it_asked_for(gateway: Gateway, upstream: Upstream, form: str | None) -> None:
    """The provider gives it as asked, as numbers whatever is asked, and as base64 whatever is asked."""
    members = {} if form is None else {"encoding_format": form}
    numbers = vector("Hi", 8)
    for sent in (None, numbers, pack(numbers)):
        upstream.clear()
        body = b""
        if sent is not None:
            data = [{"object": "embedding", "index": 0, "embedding": sent, "novelty": 1}]
            used = {"prompt_tokens": 1, "total_tokens": 1}
            body = json.dumps({"object": "list", "data": data, "model": "m", "usage": used}, indent=1).encode()
            upstream.script("text", Script(frames=(body,)))
        answer = embed(gateway, "corp/text", **members)
        (found,) = answer.json()["data"]
        assert isinstance(found["embedding"], str) is (form == "base64")
        assert (unpack(found["embedding"]) if form == "base64" else found["embedding"]) == numbers
        assert answer.json()["usage"] == {"prompt_tokens": 1, "total_tokens": 1}
        seen = upstream.wait("text")
        assert (seen.path, seen.json) == ("/v1/embeddings", {"model": "text", "input": "Hi", **members})
        if body:
            assert found["novelty"] == 1
            assert (answer.body == body) is (isinstance(sent, str) is (form == "base64")), "untouched when it can be"


@pytest.mark.parametrize("given", ["a", ["a", "b"], [1, 2], [[1, 2], [3]]])
def test_inputs_of_every_form(gateway: Gateway, upstream: Upstream, given: Json) -> None:
    answer = embed(gateway, "corp/text", input=given, dimensions=3, user="u", novelty=1)
    count = 2 if given in (["a", "b"], [[1, 2], [3]]) else 1
    assert [(one["index"], len(one["embedding"])) for one in answer.json()["data"]] == [(n, 3) for n in range(count)]
    assert upstream.wait("text").json == {"model": "text", "input": given, "dimensions": 3, "user": "u", "novelty": 1}


@pytest.mark.parametrize("model", ["claude/text", "echo"])
def test_who_makes_no_embeddings_says_so(gateway: Gateway, model: str) -> None:
    answer = embed(gateway, model)
    error = answer.error()
    assert (answer.status, error["type"], error["code"]) == (400, "invalid_request_error", "unsupported_operation")
    assert "it serves chat" in error["message"]


def test_an_answer_without_embeddings_is_a_failure(gateway: Gateway, upstream: Upstream) -> None:
    for body in (b'{"object":"list","data":[]}', b'{"choices":[]}', b"<html>", b'{"error":{"message":"no"}}'):
        upstream.script("text", Script(frames=(body,)))
        answer = embed(gateway, "corp/text")
        assert (answer.status, answer.error()["code"]) == (502, "upstream_unavailable"), body


def test_a_client_that_leaves_ends_the_call_for_embeddings_too(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script("held", Script(start="stall"))
    with gateway.wire() as wire:
        wire.send(post(gateway.key, {"model": "corp/held", "input": "Hi"}, "/v1/embeddings"))
        seen = upstream.wait("held")
        wire.leave()
    seen.wait_gone()


# ---- both --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("surface", BOTH)
@pytest.mark.parametrize("prefix", ["/v1", "", "/v1/v1", "//v1/"])
def test_every_prefix(gateway: Gateway, surface: str, prefix: str) -> None:
    wanted = {"prompt": "Once"} if surface == "completions" else {"input": "Hi"}
    assert gateway.post({"model": "corp/text", **wanted}, path=f"{prefix}/{surface}/").status == 200
    answer = gateway.get(f"{prefix}/{surface}")
    assert (answer.status, answer.error()["code"], answer.headers["allow"]) == (405, "method_not_allowed", "POST")


@pytest.mark.parametrize("surface", BOTH)
def test_errors_of_the_client(gateway: Gateway, surface: str) -> None:
    path = f"/v1/{surface}"
    wanted = "prompt" if surface == "completions" else "input"
    told = {}
    for body in ({"model": "corp/text"}, {wanted: "x"}, {"model": "nowhere", wanted: "x"}, {"model": 5, wanted: "x"}):
        answer = gateway.post(body, path=path)
        told[json.dumps(body)] = (answer.status, answer.error()["code"], answer.error()["param"])
    assert list(told.values()) == [
        (400, "missing_required_parameter", wanted),
        (400, "missing_required_parameter", "model"),
        (404, "model_not_found", "model"),
        (400, "invalid_type", "model"),
    ]
    assert gateway.post({}, path=path, authorization="Bearer nope").status == 401


@pytest.mark.parametrize("surface", BOTH)
@pytest.mark.parametrize(("status", "told"), [(429, 429), (503, 503), (400, 400), (404, 404), (401, 502)])
def test_errors_of_the_provider(gateway: Gateway, upstream: Upstream, surface: str, status: int, told: int) -> None:
    upstream.script("text", refused(Asked("openai", "text", {}), status))
    assert do(gateway, surface, "corp/text").status == told


@pytest.fixture(scope="module")
def house(scripted: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Routes over several providers, and a key with few tokens."""
    config = f"""
[auth]
keys = ["{KEY}"]
[limits]
tpm = 1000
[defaults]
retries = 1
[models.mixed]
strategy = "ordered"
deployments = [{{ provider = "claude", model = "text" }}, {{ provider = "corp", model = "text" }}]
[models.tight]
deployments = [{{ provider = "claude", model = "text" }}]
strict = true
[models.away]
deployments = [{{ provider = "claude", model = "text" }}]
fallbacks = ["priced"]
[models.priced]
deployments = [{{ provider = "corp", model = "text" }}]
price = {{ input = "2", output = "10" }}
{providers(scripted)}
"""
    data = tmp_path_factory.mktemp("data")
    with Gateway(config, arguments=("--functions", "models.py"), files={"models.py": FUNCTIONS}, data=data) as running:
        yield running


def record(house: Gateway, answer: Answer) -> Any:
    data: Path = house.data
    return journalled(data)[answer.headers["x-request-id"]]


def test_deployments_that_do_not_serve_it_are_not_considered(house: Gateway, upstream: Upstream) -> None:
    for model in ("mixed", "away"):
        answer = embed(house, model)
        assert (answer.status, answer.headers["x-polymux-provider"]) == (200, "corp"), answer.body
        assert answer.headers["x-polymux-attempts"] == "1"
    assert complete(house, "mixed").headers["x-polymux-provider"] == "claude", "over chat is as good"
    assert complete(house, "mixed", suffix="x").headers["x-polymux-provider"] == "corp", "what one cannot, another can"


def test_a_strict_route_refuses_what_would_be_lost(house: Gateway) -> None:
    answer = complete(house, "tight", best_of=2)
    assert (answer.status, answer.error()["code"], answer.error()["param"]) == (400, "unsupported_parameter", "best_of")
    assert complete(house, "tight").status == 200


def test_usage_records(house: Gateway, upstream: Upstream) -> None:
    answer = embed(house, "priced", input="four words of text")
    one = record(house, answer)
    used = answer.json()["usage"]["prompt_tokens"]
    assert (one.surface, one.model, one.stream, one.status) == ("embeddings", "priced", False, 200)
    assert (one.input_tokens, one.output_tokens, one.usage_source) == (used, 0, "upstream")
    assert float(one.cost_usd) == used * 2 / 1e6
    for stream in (False, True):
        two = record(house, complete(house, "priced", stream=stream, max_tokens=3))
        assert (two.surface, two.stream, two.output_tokens, two.usage_source) == ("completions", stream, 3, "upstream")
        assert float(two.cost_usd) == (two.input_tokens * 2 + 30) / 1e6


def test_usage_that_is_not_told_is_estimated(house: Gateway, upstream: Upstream) -> None:
    data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
    upstream.script("text", Script(frames=(json.dumps({"object": "list", "data": data, "model": "m"}).encode(),)))
    one = record(house, embed(house, "priced", input="x" * 38))
    assert (one.input_tokens, one.output_tokens, one.usage_source) == (10, 0, "estimated")
    frames = (event("x" * 40), event("y" * 40), event("", "stop"), b"data: [DONE]\n\n")
    upstream.script("text", Script(headers=SSE, framing="chunked", frames=frames))
    two = record(house, complete(house, "priced", stream=True, prompt="x" * 38))
    assert (two.input_tokens, two.usage_source) == (10, "estimated")
    assert two.output_tokens in (20, 21), "the event of the finish is longer by its finish"


def test_a_request_that_never_became_a_call_has_a_record_of_its_surface(house: Gateway) -> None:
    for surface in BOTH:
        one = record(house, house.post({"model": "priced"}, path=f"/v1/{surface}"))
        assert (one.surface, one.status, one.key_id) == (surface, 400, "static-1")


def test_tokens_of_a_key_are_counted(house: Gateway) -> None:
    before = int(embed(house, "priced").headers["x-ratelimit-remaining-tokens"])
    answer = complete(house, "priced", prompt="x", max_tokens=before + 1000)
    assert answer.status == 429 or int(answer.headers["x-ratelimit-remaining-tokens"]) == 0
    assert embed(house, "priced", input="x" * 100_000).status == 429
