"""The translated lane of a stream."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from polymux.errors import Failure, Truncated
from polymux.schema.chat import (
    Chunk,
    ChunkChoice,
    CompletionDetails,
    Delta,
    PromptDetails,
    TokenUsage,
)
from polymux.surfaces.chat import Chat
from polymux.surfaces.stream import Translated, Writer, usage_of
from polymux.types import NO_USAGE, Call, Key, Usage
from polymux.wire.sse import Decoder, encode


def say(text: str) -> Chunk:
    return Chunk("i", 1, "m", [ChunkChoice(delta=Delta(content=text))])


USAGE = Chunk("i", 1, "m", [], usage=TokenUsage(1, 2, 3))


class Echo:
    """A dialect in which an event's data is the text; "no" is an error, "end" the end mark."""

    def __init__(self) -> None:
        self.malformed = 0
        self.done = False

    def feed(self, event: str, data: bytes) -> Sequence[Chunk]:
        if data == b"no":
            raise Failure("upstream_overloaded", "no")
        self.done = self.done or data == b"end"
        return [] if data == b"end" else [say(data.decode())]

    def close(self) -> Sequence[Chunk]:
        if not self.done:
            raise Truncated
        return [USAGE]


def writer(wants_usage: bool = True, **members: object) -> Writer:
    return Writer(Chat(), Call("1", "chat", Key("k", "k"), "m", True, {}, b"", wants_usage), **members)


def texts(out: bytes) -> list[str]:
    """Texts, "usage" and "[DONE]" of a client's bytes."""
    found = []
    for _, data in Decoder().feed(out):
        chunk = json.loads(data) if data != b"[DONE]" else None
        found.append(
            "[DONE]" if chunk is None else "usage" if chunk.get("usage") else chunk["choices"][0]["delta"]["content"]
        )
    return found


def body(*events: str) -> bytes:
    return b"".join(encode(event.encode()) for event in events)


@pytest.mark.parametrize("wants_usage", [True, False])
def test_events_become_the_clients(wants_usage: bool) -> None:
    data = body("a", "b", "end")
    for pieces in ([data], [data[n : n + 1] for n in range(len(data))], [data[:-1]]):
        lane = Translated(Echo(), writer(wants_usage))
        out = b"".join(map(lane.feed, pieces)) + lane.close()
        assert texts(out) == ["a", "b", *(["usage"] if wants_usage else []), "[DONE]"]
        assert lane.usage == Usage(1, 2)


def test_what_comes_before_an_error_is_given_out() -> None:
    lane = Translated(Echo(), writer())
    assert texts(lane.feed(body("a", "no", "b"))) == ["a"]
    assert lane.failed.kind == "upstream_overloaded"
    with pytest.raises(Failure, match="no"):
        lane.close()


def test_an_error_as_the_last_unended_event() -> None:
    lane = Translated(Echo(), writer())
    lane.feed(body("a") + b"data: no")
    with pytest.raises(Failure, match="no"):
        lane.close()


def test_a_truncated_stream_has_no_end() -> None:
    lane = Translated(Echo(), writer())
    lane.feed(body("a"))
    with pytest.raises(Truncated):
        lane.close()


def test_content_is_noticed_when_it_comes() -> None:
    lane = Translated(Echo(), writer())
    lane.feed(b": comment\n\n")
    assert not lane.content
    lane.feed(body("a"))
    assert lane.content
    lane.feed(b": comment\n\n")
    assert lane.content


def test_an_empty_text_is_no_content() -> None:
    out = writer()
    out.feed([say("")])
    assert not out.content
    out.feed([say(""), say("a"), say("")])
    assert out.content


def test_chunks_may_be_altered_and_left_out() -> None:
    def alter(chunk: Chunk) -> Chunk | None:
        text = chunk.choices[0].delta.content
        return None if text == "secret" else say(text.upper())

    out = writer(alter=alter)
    assert texts(out.feed([say("a"), say("secret"), say("b")])) == ["A", "B"]
    only = writer(alter=lambda chunk: None)
    assert only.feed([say("a")]) == b""
    assert not only.content, "what the client does not get does not commit"


def test_usage_says_where_it_comes_from() -> None:
    out = writer()
    assert out.usage == NO_USAGE
    out.source = "estimated"
    out.feed([USAGE])
    assert out.usage == Usage(1, 2, source="estimated")


@pytest.mark.parametrize(
    ("given", "counts"),
    [
        (TokenUsage(1, 2, 3), Usage(1, 2)),
        (TokenUsage(1, 2, 3, PromptDetails(), CompletionDetails()), Usage(1, 2)),
        (TokenUsage(9, 8, 17, PromptDetails(4, 3), CompletionDetails(2)), Usage(9, 8, 4, 3, 2)),
    ],
)
def test_the_pivots_usage_as_counts(given: TokenUsage, counts: Usage) -> None:
    assert usage_of(given) == counts
