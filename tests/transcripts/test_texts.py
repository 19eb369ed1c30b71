"""The transcripts of embeddings and completions: relayed as they came, and in the common form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from polymux.providers.base import Asked
from polymux.providers.openai import OpenAI
from polymux.surfaces.completions import Completions
from polymux.surfaces.embeddings import Embeddings
from polymux.types import Call, Deployment, Key
from polymux.wire.sse import Decoder
from polymux.wire.vectors import unpack

DATA = Path(__file__).parent / "texts"
TO = Deployment("p/m", "p", "m-1", "openai", "https://llm.example/v1")
VECTORS = ["embeddings-base64", "embeddings-float"]


def load(name: str) -> tuple[Any, bytes, bytes]:
    """What is expected, the request and the answer."""
    case = json.loads((DATA / name / "case.json").read_text("utf-8"))
    return case["expect"], (DATA / name / case["request"]).read_bytes(), (DATA / name / case["body"]).read_bytes()


def call(name: str, **members: Any) -> Call:
    asked = json.loads(load(name)[1]) | members
    surface = Embeddings() if name in VECTORS else Completions()
    return surface.decode(json.dumps(asked).encode(), "1", Key("k", "k"))


def numbers(answer: Any) -> list[list[float]]:
    found = [one["embedding"] for one in answer["data"]]
    return [unpack(one) if isinstance(one, str) else one for one in found]


@pytest.mark.parametrize("name", VECTORS)
def test_requests_are_relayed_as_they_are(name: str) -> None:
    wire = OpenAI().relay(call(name), TO)
    assert json.loads(wire.body) == json.loads(load(name)[1]) | {"model": "m-1"}
    assert wire.url == "https://llm.example/v1/embeddings"


@pytest.mark.parametrize("form", ["float", "base64"])
@pytest.mark.parametrize("name", VECTORS)
def test_vectors_come_in_the_form_that_was_asked_for(name: str, form: str) -> None:
    expect, _, body = load(name)
    asked = call(name, encoding_format=form)
    out, usage = OpenAI().relay_whole(body, asked, TO)
    assert (out == body) is name.endswith(form)
    assert usage.input == expect["usage"]["prompt_tokens"]
    common, counted = Embeddings().read(asked, OpenAI(), body, Asked("public", 7, TO), None)
    for answer in (json.loads(out), json.loads(common)):
        assert numbers(answer) == expect["embeddings"]
        assert isinstance(answer["data"][0]["embedding"], str) is (form == "base64")
        assert answer["usage"] == expect["usage"]
    assert counted == usage


@pytest.mark.parametrize("size", [1, 7, 100, 1 << 20])
@pytest.mark.parametrize("wants_usage", [True, False])
def test_a_stream_is_relayed_however_it_is_cut(wants_usage: bool, size: int) -> None:
    expect, _, body = load("completions-stream")
    asked = call("completions-stream", stream_options={"include_usage": wants_usage})
    lane = OpenAI().relay_reader(asked, TO)
    out, first = b"", -1
    for start in range(0, len(body), size):
        out += lane.feed(body[start : start + size])
        first = start + size if lane.content and first < 0 else first
    out += lane.close()
    events = [data for _, data in Decoder().feed(out)]
    assert events.pop() == b"[DONE]"
    chunks = [json.loads(event) for event in events]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert "".join(choice["text"] for choice in choices) == expect["text"]
    assert [choice["finish_reason"] for choice in choices] == [None, None, expect["finish_reason"]]
    assert [chunk["usage"] for chunk in chunks if chunk["usage"]] == ([expect["usage"]] if wants_usage else [])
    assert (lane.usage.input, lane.usage.output) == (1, 3)
    assert body.index(b"\n\n") <= first <= body.index(b"\n\n") + 1 + size, "the first event has text, and commits"
