"""Dialects of the user's own: what is loaded, what is refused and in which words, what becomes of their failures."""

from __future__ import annotations

import logging
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from msgspec.structs import replace

from polymux.adapters import METHODS, Own, Unfit, faults, load
from polymux.errors import Failure, Truncated
from polymux.providers.base import Adapter, Asked, Reader, Stopping
from polymux.providers.dialects import DIALECTS
from polymux.providers.fates import FORWARDED, PARAMETERS
from polymux.providers.openai import OpenAI
from polymux.schema.chat import AnswerMessage, ChatRequest, ChatResponse, Choice
from polymux.types import Deployment, WireRequest

TO = Deployment("p/m", "p", "m", "corp:Corp", "https://corp.example")


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """Writes a module that can be imported by the name that is returned; another for each test."""
    monkeypatch.syspath_prepend(tmp_path)
    name = "own_" + "".join(c if c.isalnum() else "_" for c in request.node.name)

    def write(text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text, "utf-8")
        return name

    return write


def test_a_class_is_loaded_and_made(module: Any) -> None:
    name = module("from polymux.providers.openai import OpenAI\nclass Corp(OpenAI):\n    pass\n")
    adapter = load(f"{name}:Corp")
    assert isinstance(adapter, Own)
    request = next_of(adapter)
    assert request.url == "https://corp.example/chat/completions"
    assert load(f"{name}:Corp") is not adapter


def next_of(adapter: Adapter) -> WireRequest:
    flow = adapter.flow(ChatRequest("m", []), Asked("m", 7, TO))
    with pytest.raises(StopIteration) as stop:
        next(flow)
    request: WireRequest = stop.value.value
    return request


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"own_\w+ has no class 'Corp'"),
        ("Corp = 5", r"own_\w+ has no class 'Corp'"),
        ("import nothing_of_the_kind", r"ModuleNotFoundError: .* \(line 1 of own_\w+\.py\)"),
        (
            "class Corp:\n    def __init__(self, url): pass",
            r"TypeError: .*missing 1 required positional argument: 'url'",
        ),
        (
            "class Corp:\n    def __init__(self):\n        self.x = 1 / 0",
            r"ZeroDivisionError: .* \(line 3 of own_\w+\.py\)",
        ),
        ("class Corp(:", r"SyntaxError: .*own_\w+\.py, line 1"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_what_cannot_be_made_is_refused_with_its_line(module: Any, text: str, words: str) -> None:
    name = module(text)
    with pytest.raises(Unfit, match=words):
        load(f"{name}:Corp")


def test_a_module_that_is_not_there() -> None:
    with pytest.raises(Unfit, match="No module named 'no_such_module'"):
        load("no_such_module:Corp")


def test_all_that_is_missing_is_told_at_once() -> None:
    class Half:
        fates = MappingProxyType({"model": FORWARDED})

        def flow(self, request: Any) -> None: ...
        def read(self, *arguments: Any) -> None: ...

    told = faults(Half())
    assert told[0] == "flow takes (request), expected flow(request, asked)"
    assert told[1:5] == [
        "there is no method reader(asked)",
        "there is no method failure(status, headers, body)",
        "there is no method models(to)",
        "there is no method read_models(body)",
    ]
    assert told[5].startswith("fates says nothing of messages, messages[].role, messages[].role=developer and ")
    assert len(told) == 6
    assert "there is no table fates" in faults(object())[-1]


@pytest.mark.parametrize("name", DIALECTS)
def test_our_own_dialects_would_be_taken(name: str) -> None:
    assert faults(DIALECTS[name]) == []


class Breaking(OpenAI):
    """Each of its methods fails in its own way."""

    def flow(self, request: ChatRequest, asked: Asked) -> Any:
        yield WireRequest("GET", "https://corp.example/token", ())
        raise KeyError("token")

    def read(self, body: bytes, asked: Asked) -> Any:
        raise Failure("content_filter", "no")

    def reader(self, asked: Asked) -> Any:
        return BreakingReader()

    def failure(self, status: int, headers: Any, body: bytes) -> Any:
        return 1 / 0

    def models(self, to: Deployment) -> Any:
        raise RecursionError

    def read_models(self, body: bytes) -> Any:
        return body.no_such_thing  # type: ignore[attr-defined]  # what a user may well write


class BreakingReader:
    done = False
    usage = None

    def feed(self, event: str, data: bytes) -> Any:
        raise IndexError("sk-secret")

    def close(self) -> Any:
        raise Truncated


def test_it_is_named_when_it_fails(caplog: pytest.LogCaptureFixture) -> None:
    own = Own("corp:Corp", Breaking())
    flow = own.flow(ChatRequest("m", []), Asked("m", 7, TO))
    assert next(flow).url == "https://corp.example/token"  # type: ignore[union-attr]  # a request, see above
    reader = own.reader(Asked("m", 7, TO))
    for broken in (
        lambda: flow.send(None),
        lambda: own.failure(500, {}, b""),
        lambda: own.read_models(b""),
        lambda: reader.feed("", b""),
    ):
        with pytest.raises(Failure, match=r"^the adapter corp:Corp failed with \w+Error; the gateway's log") as found:
            broken()
        assert found.value.kind == "upstream_unavailable"
        assert "secret" not in found.value.message
    assert "IndexError: sk-secret" in caplog.text
    assert all(record.levelno == logging.ERROR for record in caplog.records)
    assert len(caplog.records) == 4


class Giving(OpenAI):
    """Each of its methods gives something else than the contract says."""

    def __init__(self, given: Any) -> None:
        self.given = given

    def flow(self, request: ChatRequest, asked: Asked) -> Any:
        yield from ()
        return self.given

    def read(self, body: bytes, asked: Asked) -> Any:
        return self.given

    def reader(self, asked: Asked) -> Any:
        return GivingReader(self.given)

    def failure(self, status: int, headers: Any, body: bytes) -> Any:
        return self.given

    def models(self, to: Deployment) -> Any:
        return self.given

    def read_models(self, body: bytes) -> Any:
        return self.given

    def stop(self, asked: Asked) -> Any:
        return self.given


class GivingReader:
    done = False
    usage = None

    def __init__(self, given: Any) -> None:
        self.given = given

    def feed(self, event: str, data: bytes) -> Any:
        return self.given

    def close(self) -> Any:
        self.usage = self.given
        return []


ASKED = Asked("m", 7, TO)
REQUEST = WireRequest("POST", "https://corp.example", ())


@pytest.mark.parametrize(
    ("given", "use"),
    [
        (None, lambda own: next(own.flow(ChatRequest("m", []), ASKED))),
        (replace(REQUEST, headers=("a", "b")), lambda own: next(own.flow(ChatRequest("m", []), ASKED))),
        (replace(REQUEST, body="text"), lambda own: next(own.flow(ChatRequest("m", []), ASKED))),
        (replace(REQUEST, dropped=(1,)), lambda own: next(own.flow(ChatRequest("m", []), ASKED))),
        (replace(REQUEST, framing="whole"), lambda own: next(own.flow(ChatRequest("m", [], stream=True), ASKED))),
        ({"choices": []}, lambda own: own.read(b"", ASKED)),
        (ChatResponse("r", 7, "m", [Choice(0, AnswerMessage(content=5))]), lambda own: own.read(b"", ASKED)),  # type: ignore[arg-type]  # what a user may well write
        (None, lambda own: own.reader(ASKED).feed("", b"")),
        (iter([]), lambda own: own.reader(ASKED).feed("", b"")),
        (["text"], lambda own: own.reader(ASKED).feed("", b"")),
        ([3, 2], lambda own: own.reader(ASKED).close()),
        (None, lambda own: own.failure(500, {}, b"")),
        (None, lambda own: own.models(TO)),
        (None, lambda own: own.read_models(b"")),
        ("names", lambda own: own.read_models(b"")),
        ([1], lambda own: own.read_models(b"")),
    ],
)
def test_what_is_not_of_the_contract_is_its_failure(given: Any, use: Any) -> None:
    with pytest.raises(Failure, match=r"^the adapter corp:Corp is wrong: \w+ gave "):
        use(Own("corp:Corp", Giving(given)))


@pytest.mark.parametrize("flow", [REQUEST, None])
def test_a_flow_that_is_none_is_its_failure(flow: Any) -> None:
    class Answering(OpenAI):
        def flow(self, request: ChatRequest, asked: Asked) -> Any:
            return flow

    with pytest.raises(Failure, match="the adapter corp:Corp is wrong: flow is no generator"):
        next(Own("corp:Corp", Answering()).flow(ChatRequest("m", []), ASKED))


def test_a_flow_that_yields_anything_else_is_its_failure() -> None:
    class Asking(OpenAI):
        def flow(self, request: ChatRequest, asked: Asked) -> Any:
            yield "what?"

    with pytest.raises(Failure, match="is wrong: flow gave str, expected WireRequest"):
        next(Own("corp:Corp", Asking()).flow(ChatRequest("m", []), ASKED))


def test_who_stops_is_not_in_the_way_of_who_leaves(caplog: pytest.LogCaptureFixture) -> None:
    assert Own("corp:Corp", Giving("https://corp.example/stop")).stop(ASKED) is None
    assert "is wrong: stop gave str, expected WireRequest" in caplog.text


def test_what_the_contract_lets_it_raise_passes() -> None:
    own = Own("corp:Corp", Breaking())
    with pytest.raises(Failure) as found:
        own.read(b"", Asked("m", 7, TO))
    assert (found.value.kind, found.value.message) == ("content_filter", "no")
    with pytest.raises(Truncated):
        own.reader(Asked("m", 7, TO)).close()
    with pytest.raises(RecursionError):
        own.models(TO)


def test_a_flow_that_is_left_is_closed_and_not_told_as_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    flow = Own("corp:Corp", Breaking()).flow(ChatRequest("m", []), Asked("m", 7, TO))
    next(flow)
    flow.close()
    assert caplog.records == []


def test_it_stops_upstreams_if_it_can() -> None:
    class Telling(OpenAI):
        def stop(self, asked: Asked) -> WireRequest:
            return WireRequest("POST", "https://corp.example/stop", ())

    assert isinstance(Own("corp:Corp", OpenAI()), Stopping)
    assert Own("corp:Corp", OpenAI()).stop(Asked("m", 7, TO)) is None
    stop = Own("corp:Corp", Telling()).stop(Asked("m", 7, TO))
    assert stop is not None
    assert stop.url == "https://corp.example/stop"


def test_the_wrapping_has_all_of_the_contract() -> None:
    own: Adapter = Own("corp:Corp", OpenAI())
    reader: Reader = own.reader(Asked("m", 7, TO))
    assert faults(own) == []
    assert set(METHODS) < {name for name in dir(Adapter) if not name.startswith("_")}
    assert (reader.done, reader.usage) == (False, None)
    assert list(own.fates) == list(PARAMETERS)
    assert own.read_models(b'{"data":[{"id":"a"}]}') == ["a"]
    assert own.failure(404, {}, b"").status == 404
