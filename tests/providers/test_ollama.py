"""Ollama's dialect beside its golden cases: addresses, lists, embeddings, errors, and lines out of the ordinary."""

from __future__ import annotations

import json
from typing import Any

import pytest

from polymux.errors import Failure, Truncated
from polymux.providers.base import Adapter, Asked, Embedding, Relaying, Stopping
from polymux.providers.ollama import Ollama, root
from polymux.schema.embeddings import EmbeddingObject, EmbeddingRequest, EmbeddingUsage
from polymux.types import Deployment

ASKED = Asked("public", 1_700_000_000)


def to(base: str = "http://127.0.0.1:11434") -> Deployment:
    return Deployment("o/m", "o", "m", "ollama", base, (("authorization", "Bearer k"),))


def line(**members: Any) -> bytes:
    return json.dumps(members).encode()


def said(text: str = "", **members: Any) -> bytes:
    return line(created_at="2026-11-02T09:00:00.1Z", message={"role": "assistant", "content": text, **members})


def test_what_it_is() -> None:
    adapter: Adapter = Ollama()
    assert isinstance(adapter, Embedding)
    assert not isinstance(adapter, Relaying | Stopping)


@pytest.mark.parametrize(
    ("base", "found"),
    [
        ("http://gpu:11434", "http://gpu:11434"),
        ("http://gpu:11434/v1", "http://gpu:11434"),
        ("https://ollama.com/api", "https://ollama.com"),
        ("https://proxy.example/ollama", "https://proxy.example/ollama"),
        ("https://proxy.example/ollama/v1", "https://proxy.example/ollama"),
        ("https://api", "https://api"),
    ],
)
def test_the_address_with_and_without_a_path(base: str, found: str) -> None:
    assert root(to(base)) == found


def test_models_are_listed() -> None:
    request = Ollama().models(to("http://gpu:11434/v1"))
    assert (request.method, request.url, request.headers) == ("GET", "http://gpu:11434/api/tags", to().headers)
    assert Ollama().read_models(b'{"models":[{"name":"a:1b","model":"a:1b"},{"name":"b"}]}') == ["a:1b", "b"]


def embed(request: EmbeddingRequest) -> Any:
    with pytest.raises(StopIteration) as stop:
        next(Ollama().embed(request, Asked("public", 1, to())))
    return stop.value.value


def test_embeddings() -> None:
    request = embed(EmbeddingRequest("public", ["a", "b"]))
    assert (request.method, request.url, request.framing) == ("POST", "http://127.0.0.1:11434/api/embed", "whole")
    body = b'{"model":"m","embeddings":[[0.1,0.2],[0.3,0.4]],"total_duration":14143917,"prompt_eval_count":8}'
    answer = Ollama().read_embeddings(body, ASKED)
    assert answer.data == [EmbeddingObject(0, [0.1, 0.2]), EmbeddingObject(1, [0.3, 0.4])]
    assert (answer.model, answer.usage) == ("public", EmbeddingUsage(8, 8))
    assert Ollama().read_embeddings(b'{"embeddings":[[1]]}', ASKED).usage is None


@pytest.mark.parametrize("body", [b"", b"[]", b'{"embeddings":[]}', b"{}", b'{"error":"out of memory"}'])
def test_embeddings_that_are_none(body: bytes) -> None:
    with pytest.raises(Failure) as caught:
        Ollama().read_embeddings(body, ASKED)
    assert caught.value.kind == "upstream_unavailable"


def test_the_ids_of_two_answers_differ_and_those_of_one_do_not() -> None:
    call = {"tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    ids = set()
    for moment in ("2026-11-02T09:00:00.1Z", "2026-11-02T09:00:00.2Z"):
        for _ in range(2):
            reader = Ollama().reader(ASKED)
            (chunk,) = reader.feed("", line(created_at=moment, message=call))
            ids.add((chunk.id, chunk.choices[0].delta.tool_calls[0].id))
    assert len(ids) == 2
    reader = Ollama().reader(ASKED)
    (chunk,) = reader.feed("", line(message=call))
    assert chunk.id == "chatcmpl-1700000000"


def test_nothing_counts_after_the_last_line() -> None:
    reader = Ollama().reader(ASKED)
    assert not reader.done
    assert reader.usage is None
    assert len(reader.feed("", said("hi") + b" ")) == 1
    end = reader.feed("", line(done=True, prompt_eval_count=-3, eval_count=2))
    assert [chunk.choices == [] for chunk in end] == [False, True]
    assert reader.done
    assert reader.usage is not None
    assert (reader.usage.prompt_tokens, reader.usage.completion_tokens) == (0, 2)
    assert reader.feed("", line(error="too late")) == ()
    assert reader.close() == ()


def test_what_cannot_be_read_is_counted() -> None:
    reader = Ollama().reader(ASKED)
    for data in (b"", b"{", b"7", b'{"message":7}', b"\xff"):
        assert reader.feed("", data) == ()
    assert reader.malformed == 5
    reader.feed("", said(tool_calls=[{"function": {"name": ""}}]))
    chunks = reader.feed("", said("text beside it", tool_calls=[{"function": {"name": None}}]))
    assert chunks[0].choices[0].delta.content == "text beside it"
    assert reader.malformed == 7
    with pytest.raises(Truncated):
        reader.close()


@pytest.mark.parametrize("odd", [{"a": 1}, "x", 5, [None, "x"], None])
def test_odd_probabilities_cost_no_text(odd: Any) -> None:
    (chunk,) = Ollama().reader(ASKED).feed("", line(message={"content": "x"}, logprobs=[{"top_logprobs": odd}]))
    assert chunk.choices[0].logprobs == {"content": [{"bytes": None, "top_logprobs": []}], "refusal": None}


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        ("boom", "upstream_unavailable", "boom"),
        ({"message": "boom"}, "upstream_unavailable", "boom"),
        (7, "upstream_unavailable", "7"),
        ("{not JSON", "upstream_unavailable", "{not JSON"),
        ("the input length exceeds the context length", "context_length_exceeded", "the input length exceeds"),
        ("key sk-abcdefgh12345678 is wrong", "upstream_unavailable", "key sk-a… is wrong"),
    ],
)
def test_errors_inside_a_success(error: Any, kind: str, message: str) -> None:
    for act in (Ollama().reader(ASKED).feed, lambda _, data: Ollama().read(data, ASKED)):
        with pytest.raises(Failure) as caught:
            act("", line(error=error))
        assert caught.value.kind == kind
        assert caught.value.message.startswith(message)


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (400, "the input length exceeds the context length", "context_length_exceeded"),
        (500, "the input length exceeds the context length", "context_length_exceeded"),
        (503, "the input length exceeds the context length", "upstream_overloaded"),
        (412, "pull a newer version", "upstream_rejected"),
    ],
)
def test_a_status_and_what_is_said(status: int, text: str, kind: str) -> None:
    assert Ollama().failure(status, {}, line(error=text)).kind == kind
