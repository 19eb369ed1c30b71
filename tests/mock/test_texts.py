"""What the scripted provider answers to completions and embeddings."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest

from polymux.mock.provider import Options, Provider
from polymux.mock.scripts import Ask
from polymux.mock.server import Exchange
from polymux.mock.texts import LENGTH, completion, embedding, inputs, vector


def ask(**body: Any) -> Ask:
    return Ask("openai", "m", {"model": "m", **body})


def whole(**body: Any) -> Any:
    return json.loads(completion(ask(**body)).frames[0])


def streamed(**body: Any) -> list[Any]:
    frames = completion(ask(stream=True, **body)).frames
    assert frames[-1] == b"data: [DONE]\n\n"
    return [json.loads(frame.removeprefix(b"data: ")) for frame in frames[:-1]]


@pytest.mark.parametrize("members", [{}, {"n": 2}, {"echo": True}, {"max_tokens": 3}, {"max_tokens": 99}])
@pytest.mark.parametrize("prompt", ["Once", ["a", "b"], [1, 2], None])
def test_a_stream_says_what_the_whole_answer_says(prompt: Any, members: dict[str, Any]) -> None:
    told = whole(prompt=prompt, **members)
    events = streamed(prompt=prompt, stream_options={"include_usage": True}, **members)
    assert events.pop()["usage"] == told["usage"]
    found: dict[int, list[str]] = {}
    for event in events:
        (choice,) = event["choices"]
        held = found.setdefault(choice["index"], ["", ""])
        held[0] += choice["text"]
        held[1] += choice["finish_reason"] or ""
    wanted = {choice["index"]: [choice["text"], choice["finish_reason"]] for choice in told["choices"]}
    assert found == wanted
    assert len(wanted) == members.get("n", 1) * len(inputs(prompt))


def test_the_request_is_obeyed() -> None:
    assert whole(prompt="Once")["usage"]["completion_tokens"] == LENGTH
    assert whole(prompt="Once", max_tokens=2)["choices"][0]["finish_reason"] == "length"
    assert whole(prompt="Once", max_tokens=99)["choices"][0]["finish_reason"] == "stop"
    assert whole(prompt="Once", echo=True)["choices"][0]["text"].startswith("Once This")
    assert whole(prompt="Once")["choices"][0]["logprobs"] is None
    assert whole(prompt="Once", logprobs=0)["choices"][0]["logprobs"]["tokens"]


def test_embeddings() -> None:
    told = json.loads(embedding(ask(input=["a", "b"], dimensions=40)).frames[0])
    assert [one["index"] for one in told["data"]] == [0, 1]
    assert told["data"][0]["embedding"] == vector("a", 40) != vector("b", 40)
    assert sum(number * number for number in vector("a", 40)) == pytest.approx(1)
    packed = json.loads(embedding(ask(input="a", dimensions=3, encoding_format="base64")).frames[0])
    numbers = struct.unpack("<3f", base64.b64decode(packed["data"][0]["embedding"]))
    assert list(numbers) == vector("a", 3)
    assert packed["usage"] == {"prompt_tokens": 1, "total_tokens": 1}


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("completions", {"prompt": "a"}, 200, None),
        ("completions", {}, 400, "prompt"),
        ("completions", {"prompt": "a", "max_tokens": "9"}, 400, "max_tokens"),
        ("completions", {"prompt": "a", "stream_options": {}}, 400, "stream_options"),
        ("embeddings", {"input": "a"}, 200, None),
        ("embeddings", {}, 400, "input"),
        ("embeddings", {"input": []}, 400, "input"),
        ("embeddings", {"input": 5}, 400, "input"),
        ("embeddings", {"input": "a", "encoding_format": "int8"}, 400, "encoding_format"),
        ("embeddings", {"input": "a", "dimensions": 10**12}, 400, "dimensions"),
    ],
)
def test_they_are_served_and_judged(path: str, body: dict[str, Any], status: int, param: str | None) -> None:
    sent = json.dumps({"model": "m", **body}).encode()
    provider = Provider(Options(latency=1.0))
    script = provider.script(Exchange("POST", f"/v1/{path}", (), sent, 1))
    assert script.status == status
    assert json.loads(script.frames[0]).get("error", {}).get("param") == param
    assert (script.before == 1.0) is (status == 200)
    only = Provider(Options(dialects=("anthropic",)))
    assert only.script(Exchange("POST", f"/v1/{path}", (), sent, 1)).status == 404
