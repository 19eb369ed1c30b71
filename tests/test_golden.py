"""Runs every golden file (see `golden_harness`), and the harness against readers that are broken on purpose."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

import golden_harness as harness
from polymux.errors import Failure, Truncated
from polymux.providers.anthropic import Anthropic
from polymux.providers.azure import Azure
from polymux.providers.base import Asked
from polymux.providers.dify import Dify
from polymux.providers.gemini import Gemini
from polymux.providers.ollama import Ollama
from polymux.providers.openai import OpenAI
from polymux.schema.chat import ChatRequest, Chunk, TokenUsage
from polymux.types import Deployment, Quirks, WireRequest

DIALECTS = {
    "anthropic": harness.Dialect(
        Anthropic(),
        Deployment(
            id="claude/claude-sonnet-4-5",
            provider="claude",
            model="claude-sonnet-4-5",
            dialect="anthropic",
            base_url="https://api.anthropic.com/v1",
            headers=(("x-api-key", "sk-ant-test"), ("anthropic-version", "2023-06-01")),
        ),
        end=r'"type": ?"message_stop"',
        noise=(
            ("ping", b'{"type": "ping"}'),
            ("future_event", b'{"type":"future_event","index":0,"delta":"text","message":[1]}'),
            ("future_event", b"not JSON"),
            ("", b"[DONE]"),
            (
                "content_block_delta",
                b'{"type":"content_block_delta","index":0,"delta":{"type":"future_delta","x":[1]}}',
            ),
        ),
    ),
    "dify": harness.Dialect(
        Dify(),
        Deployment(
            id="helpdesk/chat",
            provider="helpdesk",
            model="chat",
            dialect="dify",
            base_url="https://dify.corp.example/v1",
            headers=(("authorization", "Bearer app-test"),),
        ),
        end=r'"event": ?"(message_end|workflow_paused)"|"event": ?"workflow_finished"(?!.*"message_id")',
        noise=(
            ("ping", b""),
            ("", b"not JSON"),
            ("", b"[1]"),
            ("", b"{}"),
            ("", b'{"event": "future_event", "answer": "text", "data": {"text": "text"}, "message_id": "m"}'),
            ("", b'{"event": "node_finished", "data": {"status": "failed", "outputs": {"text": "text"}}}'),
            ("", b'{"event": "agent_log", "data": {"label": "x", "data": [1]}}'),
            ("", b'{"event": "tts_message", "audio": "SUQz"}'),
            ("", b'{"event": "message", "answer": 5}'),
        ),
        gathers=True,
    ),
    "gemini": harness.Dialect(
        Gemini(),
        Deployment(
            id="gemini/gemini-3.5-flash",
            provider="gemini",
            model="gemini-3.5-flash",
            dialect="gemini",
            base_url="https://generativelanguage.googleapis.com/v1beta",
            headers=(("x-goog-api-key", "AIza-test"),),
        ),
        end=r'"(finish|block)Reason": ?"',
        noise=(
            ("ping", b'{"type": "ping"}'),
            ("", b"not JSON"),
            ("", b"[DONE]"),
            ("", b"[1]"),
            ("", b"{}"),
            ("", b'{"candidates":[],"usageMetadata":{"trafficType":"ON_DEMAND"},"novelty":[1]}'),
            ("", b'{"candidates":[{"index":0,"content":{"parts":[{"text":7}]}}]}'),
        ),
    ),
    "openai": harness.Dialect(
        OpenAI(),
        Deployment(
            id="openai/gpt-5.4-mini",
            provider="openai",
            model="gpt-5.4-mini",
            dialect="openai",
            base_url="https://api.openai.com/v1",
            headers=(("authorization", "Bearer sk-test"),),
        ),
        end=r'"finish_reason": ?"|^\[DONE\]',
        noise=(
            ("ping", b'{"type": "ping"}'),
            ("", b"not JSON"),
            ("", b"[1]"),
            ("", b"{}"),
            ("", b'{"id":"","object":"","created":0,"model":"","choices":[],"prompt_filter_results":[{"a":1}]}'),
            ("future_event", b'{"choices":null,"usage":null,"error":null}'),
            ("", b'{"choices":[{"index":0,"delta":{}}]}'),
            ("", b'{"choices":[{"index":0,"delta":null,"finish_reason":null}, 7]}'),
        ),
    ),
    "azure": harness.Dialect(
        Azure(),
        Deployment(
            id="azure/my-gpt",
            provider="azure",
            model="my-gpt",
            dialect="azure",
            base_url="https://my-resource.openai.azure.com/openai",
            headers=(("api-key", "test"),),
        ),
        end=r'"finish_reason": ?"|^\[DONE\]',
        noise=(
            ("", b"not JSON"),
            (
                "",
                b'{"choices":[],"created":0,"id":"","model":"","object":"","prompt_annotations":[{"prompt_index":0}]}',
            ),
            (
                "",
                b'{"id":"","object":"","created":0,"model":"","choices":[{"index":0,"finish_reason":null,'
                b'"content_filter_results":{},"content_filter_offsets":{"check_offset":44}}]}',
            ),
        ),
    ),
    "ollama": harness.Dialect(
        Ollama(),
        Deployment(
            id="ollama/qwen3:8b",
            provider="ollama",
            model="qwen3:8b",
            dialect="ollama",
            base_url="http://127.0.0.1:11434",
            quirks=Quirks(set={"truncate": False, "shift": False}),
        ),
        end=r'"done": ?true',
        noise=(
            ("", b"not JSON"),
            ("", b"[1]"),
            ("", b"{}"),
            ("", b'{"status":"pulling manifest"}'),
            ("", b'{"model":"qwen3:8b","created_at":"2026-11-02T09:00:00Z","done":false,"progress":[1]}'),
            ("", b'{"message":"text","done":false}'),
        ),
        framing="ndjson",
    ),
}

UPDATE = os.environ.get("POLYMUX_UPDATE_GOLDEN") == "1"
FILES = sorted(harness.ROOT.glob("*/*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_case(path: Path) -> None:
    case = harness.read_case(path)
    row = DIALECTS[case.dialect]
    if UPDATE:
        case.sections = {name: text for name, text in case.sections.items() if name in harness.INPUTS}
        case.sections |= harness.outputs(case, row)
        harness.write_case(case, path)
    harness.check(case, row)


def test_every_dialect_has_cases_and_every_case_a_dialect() -> None:
    assert {path.parent.name for path in FILES} == set(DIALECTS)


def test_every_stream_of_a_success_has_its_buffered_twin() -> None:
    for path in FILES:
        sections = harness.read_case(path).sections
        if "wire stream" in sections and "failure" not in sections:
            assert "wire reply" in sections or DIALECTS[path.parent.name].gathers, path.name


# ---- the harness itself ------------------------------------------------------------------------------------------

SOUND = """A sound case, with everything the breakages below touch.

--- client request
{"model": "m", "stream": true, "seed": 1, "messages": [{"role": "user", "content": "hi"}]}

--- wire stream
event: message_start
data: {"type":"message_start","message":{"id":"msg_1","usage":{"input_tokens":3,"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Grüezi"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t1","name":"f","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\\"a\\":1}"}}

event: content_block_stop
data: {"type":"content_block_stop","index":1}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":5}}

event: message_stop
data: {"type":"message_stop"}

--- wire reply
{"id": "msg_1", "type": "message", "stop_reason": "tool_use", "usage": {"input_tokens": 3, "output_tokens": 5},
 "content": [{"type": "text", "text": "Grüezi"}, {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}]}
"""


class Broken(Anthropic):
    """The real adapter, its reader spoilt by `spoil(chunks fed so far, chunks of this event)`."""

    def __init__(self, spoil: Callable[[int, list[Chunk]], Sequence[Chunk]]) -> None:
        self.spoil = spoil

    def reader(self, asked: Asked) -> SpoiltReader:
        return SpoiltReader(super().reader(asked), self.spoil)


class SpoiltReader:
    def __init__(self, sound, spoil) -> None:
        self.sound, self.spoil, self.seen = sound, spoil, 0

    def feed(self, event: str, data: bytes) -> Sequence[Chunk]:
        chunks = list(self.spoil(self.seen, list(self.sound.feed(event, data))))
        self.seen += len(chunks)
        return chunks

    def close(self) -> Sequence[Chunk]:
        return self.sound.close()


class AcceptsTruncation(Anthropic):
    def reader(self, asked: Asked):
        sound = super().reader(asked)
        sound_close = sound.close

        class Lenient:
            feed = sound.feed

            def close(self):
                try:
                    return sound_close()
                except Truncated:
                    return []

        return Lenient()


class ChokesOnUnknownEvents(Anthropic):
    def reader(self, asked: Asked):
        sound = super().reader(asked)

        class Strict:
            close = sound.close

            def feed(self, event: str, data: bytes):
                if event == "future_event":
                    raise Failure("upstream_unavailable", "unknown event")
                return sound.feed(event, data)

        return Strict()


class ChangesTheRequest(Anthropic):
    def flow(self, request: ChatRequest, asked: Asked):
        request.messages.pop()
        return super().flow(request, asked)


class LosesAHeader(Anthropic):
    def flow(self, request: ChatRequest, asked: Asked):
        wire: WireRequest = yield from super().flow(request, asked)
        return msgspec.structs.replace(wire, headers=wire.headers[1:])


class DropsInSilence(Anthropic):
    def flow(self, request: ChatRequest, asked: Asked):
        wire: WireRequest = yield from super().flow(request, asked)
        return msgspec.structs.replace(wire, dropped=())


class OtherWholeText(Anthropic):
    def read(self, body: bytes, asked: Asked):
        response = super().read(body, asked)
        response.choices[0].message.content = "else"
        return response


def edit(change: Callable[[int, Chunk], None]) -> Callable[[int, list[Chunk]], Sequence[Chunk]]:
    """A breakage that changes chunks in place; it is told how many came before."""

    def spoil(seen: int, chunks: list[Chunk]) -> Sequence[Chunk]:
        for n, chunk in enumerate(chunks, seen):
            change(n, chunk)
        return chunks

    return spoil


def set_id(n: int, chunk: Chunk) -> None:
    chunk.id = f"msg_{n}"


def repeat_role(_: int, chunk: Chunk) -> None:
    for choice in chunk.choices:
        choice.delta.role = "assistant"


def finish_always(_: int, chunk: Chunk) -> None:
    for choice in chunk.choices:
        choice.finish_reason = "stop"


def never_finish(_: int, chunk: Chunk) -> None:
    for choice in chunk.choices:
        choice.finish_reason = None


def number_from_one(_: int, chunk: Chunk) -> None:
    for choice in chunk.choices:
        for call in choice.delta.tool_calls or ():
            call.index += 1


def usage_on_all(_: int, chunk: Chunk) -> None:
    if chunk.choices:
        chunk.usage = TokenUsage(0, 0, 0)


STREAM_BREAKAGES = {
    "another id in every chunk": edit(set_id),
    "the role in every chunk": edit(repeat_role),
    "a finish in every chunk": edit(finish_always),
    "no finish": edit(never_finish),
    "calls numbered from one": edit(number_from_one),
    "usage on every chunk": edit(usage_on_all),
    "every chunk twice": lambda _, chunks: [c for chunk in chunks for c in (chunk, chunk)],
    "no chunk at all": lambda _, chunks: [],
}

BREAKAGES = {
    **{name: Broken(spoil) for name, spoil in STREAM_BREAKAGES.items()},
    "a truncated answer is a success": AcceptsTruncation(),
    "an unknown event is fatal": ChokesOnUnknownEvents(),
    "the client's request is changed": ChangesTheRequest(),
    "a header is lost": LosesAHeader(),
    "a parameter is dropped in silence": DropsInSilence(),
    "the whole answer differs from the streamed one": OtherWholeText(),
}


@pytest.fixture
def sound(tmp_path: Path) -> harness.Case:
    """`SOUND` as a file whose expected parts the real adapter has written."""
    path = tmp_path / "anthropic" / "sound.txt"
    path.parent.mkdir()
    path.write_text(SOUND, "utf-8")
    case = harness.read_case(path)
    case.sections |= harness.outputs(case, DIALECTS["anthropic"])
    harness.write_case(case, path)
    again = harness.read_case(path)
    assert again.sections.keys() == case.sections.keys()
    return again


def test_a_sound_case_passes(sound: harness.Case) -> None:
    harness.check(sound, DIALECTS["anthropic"])


@pytest.mark.parametrize("name", BREAKAGES)
def test_the_harness_finds(name: str, sound: harness.Case) -> None:
    with pytest.raises(AssertionError):
        harness.check(sound, replace(DIALECTS["anthropic"], adapter=BREAKAGES[name]))


@pytest.mark.parametrize("name", STREAM_BREAKAGES)
def test_the_invariants_find_it_even_where_the_expected_chunks_are_as_broken(name: str, sound: harness.Case) -> None:
    """An update writes what the code does. What no stream may do must fail all the same."""
    broken = replace(DIALECTS["anthropic"], adapter=BREAKAGES[name])
    sound.sections |= harness.outputs(sound, broken)
    with pytest.raises(AssertionError):
        harness.check(sound, broken)


class AcceptsHalf(OpenAI):
    """Takes a stream for complete whatever it lacks."""

    def reader(self, asked: Asked):
        sound = super().reader(asked)

        class Lenient:
            feed = sound.feed

            def close(self):
                try:
                    return sound.close()
                except Truncated:
                    return []

        return Lenient()


class LosesLogprobs(OpenAI):
    def read(self, body: bytes, asked: Asked):
        response = super().read(body, asked)
        for choice in response.choices:
            choice.logprobs = None
        return response


class LosesTheSecondChoice(OpenAI):
    def read(self, body: bytes, asked: Asked):
        response = super().read(body, asked)
        del response.choices[1:]
        return response


@pytest.mark.parametrize(
    ("name", "adapter"),
    [
        ("two-choices", AcceptsHalf()),
        ("two-choices-cut", AcceptsHalf()),
        ("two-choices", LosesTheSecondChoice()),
        ("logprobs", LosesLogprobs()),
    ],
)
def test_the_harness_looks_at_every_choice(name: str, adapter: OpenAI) -> None:
    case = harness.read_case(harness.ROOT / "openai" / f"{name}.txt")
    broken = replace(DIALECTS["openai"], adapter=adapter)
    case.sections = {part: text for part, text in case.sections.items() if part in harness.INPUTS}
    case.sections |= harness.outputs(case, broken)
    with pytest.raises(AssertionError):
        harness.check(case, broken)
