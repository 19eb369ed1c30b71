"""What is fuzzed: decoders and readers of bytes that others wrote. One table, for hypothesis and for tools/fuzz.py.

A target takes any bytes and raises what it must not raise. The first byte of a stream's input says how it is cut.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from polymux.errors import Failure, Truncated
from polymux.providers.base import Adapter, Asked, Flow, Recall, Relaying
from polymux.providers.dialects import DIALECTS
from polymux.providers.openai_replay import FORMS
from polymux.providers.replies import UNREADABLE
from polymux.surfaces.chat import Chat
from polymux.surfaces.stream import Translated, Writer
from polymux.types import Call, Deployment, Key, Quirks, WireReply
from polymux.wire import mask, splice, sse

TESTS: Final = Path(__file__).resolve().parents[1]
MODEL: Final = "public-name"
CALL: Final = Call("req_1", "chat", Key("k", "k"), MODEL, True, {}, b"", wants_usage=True)
RELAYS: Final = (Quirks(), Quirks(repair=True))
REPLAYS: Final = tuple(Quirks(repair=True, tags=form == "tags", replay=form) for form in FORMS)
FRAMINGS: Final = MappingProxyType({"ollama": "ndjson"})  # of streams, where it is not SSE
KINDS: Final = MappingProxyType({"dify": "chat"})  # upstream names, where they are no names
SPOKEN: Final = MappingProxyType({"azure": "openai"})  # whose answers a dialect without recorded ones has
SECRET: Final = "sk-proj-0123456789abcdefABCDEF"

Target = Callable[[bytes], None]


def deployment(dialect: str, quirks: Quirks = RELAYS[0]) -> Deployment:
    model = KINDS.get(dialect, "upstream-name")
    return Deployment(f"p/{dialect}", "p", model, dialect, "https://p.example/v1", quirks=quirks)


def pieces(data: bytes) -> Iterator[bytes]:
    """The input behind its first byte, in pieces of that many bytes; 0 = whole."""
    size, body = (data[0], data[1:]) if data else (0, b"")
    step = size or max(len(body), 1)
    return (body[start : start + step] for start in range(0, len(body), step))


def read(data: bytes | str) -> Any:
    """JSON; numbers are left alone, of which Python does not read those with many digits."""
    return json.loads(data, parse_int=str, parse_float=str)


# ---- wire --------------------------------------------------------------------------------------------------------


def events(data: bytes) -> None:
    """The events are the same however the stream is cut."""
    cut, whole = sse.Decoder(), sse.Decoder()
    found = [event for piece in pieces(data) for event in cut.feed(piece)] + cut.close()
    assert found == whole.feed(data[1:]) + whole.close()


def members(data: bytes) -> None:
    """What is parsed is JSON, and is the same when it is built."""
    try:
        fields = splice.parse(data)
    except (splice.NotJson, splice.Repeated):
        return
    built = splice.build(fields)
    assert splice.parse(built) == fields
    assert list(read(data)) == list(fields)


def secrets(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    hidden = mask.mask(text)
    assert len(hidden) <= len(text)
    planted = mask.mask(f"{text} Bearer {SECRET} {text}")
    assert SECRET not in planted


# ---- requests ----------------------------------------------------------------------------------------------------


def driven(flow: Flow) -> None:
    try:
        sent: Any = None
        while True:  # nothing is remembered, and what is uploaded is taken
            wanted = flow.send(sent)
            sent = {} if isinstance(wanted, Recall) else WireReply(201, {}, b'{"id":"up-1"}')
    except StopIteration as stop:
        read(stop.value.body)


def request(adapter: Adapter, dialect: str, data: bytes) -> None:
    """Any body becomes a request that is JSON, or a `Failure`."""
    surface = Chat()
    try:
        call = surface.decode(data, "req_1", Key("k", "k"))
        if isinstance(adapter, Relaying):
            for quirks in RELAYS:
                read(adapter.relay(call, deployment(dialect, quirks)).body)
            for quirks in REPLAYS:
                driven(adapter.replay(call, Asked(MODEL, 1, deployment(dialect, quirks))))
        driven(adapter.flow(surface.request(call), Asked(MODEL, 1, deployment(dialect))))
    except Failure as failure:
        assert read(surface.error(failure))["error"]["message"]  # noqa: PT017 - any failure will do, if it can be told
    except RecursionError:  # the engine knows that one
        return


# ---- answers -----------------------------------------------------------------------------------------------------


def answered(stream: bytes) -> None:
    """What goes to a client is a stream that clients read: events of one JSON object each, nothing half done. (The
    relay lane does not look for UTF-8 inside the texts it passes.)"""
    decoder = sse.Decoder()
    for _, data in decoder.feed(stream):
        assert data == b"[DONE]" or isinstance(read(data.decode("utf-8", "replace")), dict), data
    assert not decoder.pending


def lanes(adapter: Adapter, dialect: str) -> Iterator[Any]:
    yield Translated(adapter.reader(Asked(MODEL, 1)), Writer(Chat(), CALL), FRAMINGS.get(dialect, "sse"))
    if isinstance(adapter, Relaying):
        for quirks in RELAYS:
            yield adapter.relay_reader(CALL, deployment(dialect, quirks))
        for quirks in REPLAYS:
            to = deployment(dialect, quirks)
            yield adapter.noting(adapter.relay_reader(CALL, to), Asked(MODEL, 1, to))


def stream(adapter: Adapter, dialect: str, data: bytes) -> None:
    """Any stream becomes events, a `Failure` or `Truncated`."""
    for lane in lanes(adapter, dialect):
        out = b""
        try:
            for piece in pieces(data):
                out += lane.feed(piece)
                if lane.failed or lane.done:
                    break
            out += lane.close()
        except (Failure, Truncated):
            pass
        answered(out)
        assert min(lane.usage.input, lane.usage.output) >= 0


def whole(adapter: Adapter, dialect: str, data: bytes) -> None:
    """Any buffered answer becomes a response, a `Failure` or `Truncated`."""
    readers: list[Callable[[], object]] = [lambda: Chat().read(CALL, adapter, data, Asked(MODEL, 1), None)]
    if isinstance(adapter, Relaying):
        readers += [partial(adapter.relay_whole, data, CALL, deployment(dialect, quirks)) for quirks in RELAYS]
    for read in readers:
        with suppress(Failure, Truncated):
            read()


def error(adapter: Adapter, dialect: str, data: bytes) -> None:
    """Any error answer is a `Failure` that can be told, without the secret that the upstream quoted."""
    quoting = re.sub(rb"(?<![A-Za-z0-9])KEY", SECRET.encode(), data)  # a secret is quoted as a word of its own
    for status in (400, 401, 404, 429, 500, 503):
        failure = adapter.failure(status, {"content-type": "text/html", "retry-after": "soon"}, quoting)
        told = Chat().error(failure)
        assert SECRET.encode() not in told
        read(told)


def models(adapter: Adapter, dialect: str, data: bytes) -> None:
    with suppress(Failure, *UNREADABLE):
        assert all(isinstance(name, str) for name in adapter.read_models(data))


OF_A_DIALECT: Final[Mapping[str, Callable[[Adapter, str, bytes], None]]] = MappingProxyType(
    {"request": request, "stream": stream, "whole": whole, "error": error, "models": models}
)
TARGETS: Final[Mapping[str, Target]] = MappingProxyType(
    {"events": events, "members": members, "secrets": secrets}
    | {
        f"{kind}-{dialect}": partial(target, adapter, dialect)
        for kind, target in OF_A_DIALECT.items()
        for dialect, adapter in DIALECTS.items()
    }
)


def seeds(name: str) -> list[bytes]:
    """Where a fuzzer may begin: recorded answers, and the requests of the golden cases."""
    kind, _, dialect = name.partition("-")
    dialect = SPOKEN.get(dialect, dialect)
    if kind in ("members", "request"):
        return [found for path in sorted((TESTS / "golden").rglob("*.txt")) if (found := _section(path))]
    if kind == "secrets":
        return [b"Incorrect API key provided: sk-proj-abcdefgh12345678.", b"token=0123456789abcdef0123456789abcdef"]
    found = [body for of, shape, body in _recorded() if kind in ("events", shape) and dialect in ("", of)]
    return found or ([b'{"data":[{"id":"m"}]}'] if kind == "models" else [])  # not every provider has a list


def _section(path: Path) -> bytes:
    """The client's request of a golden case."""
    return path.read_bytes().partition(b"--- client request\n")[2].partition(b"\n---")[0].strip()


def _recorded() -> Iterator[tuple[str, str, bytes]]:
    """(dialect, shape, body) of every recorded answer; streams with a byte before them that says: whole."""
    for path in sorted((TESTS / "transcripts" / "data").glob("*/*/case.json")):
        case = json.loads(path.read_text("utf-8"))
        body = (path.parent / case["body"]).read_bytes()
        dialect = path.parent.parent.name.partition("-")[0]
        if case["body"].endswith((".sse", ".ndjson")):
            yield dialect, "stream", b"\0" + body
        else:
            shape = "models" if "model_ids" in case["expect"] else "error" if case["status"] >= 400 else "whole"
            yield dialect, shape, body
