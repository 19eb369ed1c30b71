"""What a client has asked and what it was answered, from the bytes that passed: for the conversation log.

Both are in the form of the surface that was called. A stream becomes the answer that the same call would have had in
one piece, as far as it came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from polymux.errors import Failure, Truncated
from polymux.providers.base import Asked
from polymux.providers.dialects import DIALECTS
from polymux.schema.chat import Chunk, Json
from polymux.surfaces.assemble import gather
from polymux.wire import sse

_decode = msgspec.json.Decoder().decode
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeError, RecursionError)


def decoded(body: bytes) -> Any:
    """The JSON of a request or a whole answer; None where it is none."""
    try:
        return _decode(body)
    except _UNREADABLE:
        return None


def assembled(surface: str, data: bytes, model: str, created: int) -> Json | None:
    """The answer that is in a stream's events, whole or not; None when nothing of it came.

    The finish reason of a choice that did not finish is null. An error that ended the stream stands beside it.
    model: its public name. created: Unix seconds.
    """
    events = [payload for _, payload in _events(data) if payload != b"[DONE]"]
    if not events:
        return None
    return _FORMS.get(surface, _listed)(events, model, created)


def _events(data: bytes) -> list[tuple[str, bytes]]:
    decoder = sse.Decoder()
    try:
        return [*decoder.feed(data), *decoder.close()]
    except sse.TooLong:
        return []


def _chat(events: list[bytes], model: str, created: int) -> Json | None:
    reader = DIALECTS["openai"].reader(Asked(model, created))
    chunks: list[Chunk] = []
    error = None
    try:
        for event in events:
            chunks += reader.feed("", event)
        chunks += reader.close()
    except Truncated:
        pass  # as it came
    except Failure:
        error = next((told["error"] for told in _objects(events) if told.get("error")), None)
    if not chunks:
        return None if error is None else {"error": error}
    finished = {choice.index for chunk in chunks for choice in chunk.choices if choice.finish_reason}
    answer: Json = msgspec.to_builtins(gather(chunks))
    for choice in answer["choices"]:
        if choice["index"] not in finished:
            choice["finish_reason"] = None
    return answer if error is None else answer | {"error": error}


def _texts(events: list[bytes], model: str, created: int) -> Json:
    """Of text completions."""
    answer: Json = {}
    choices: dict[int, Json] = {}
    for event in _objects(events):
        for choice in event.get("choices") or ():
            index, text = choice.get("index", 0), choice.get("text") or ""
            held = choices.setdefault(index, {"index": index, "text": "", "finish_reason": None})
            held |= {name: value for name, value in choice.items() if value is not None and name != "text"}
            held["text"] += text
        answer |= {name: value for name, value in event.items() if value is not None}
    return answer | {"model": model, "choices": [choices[index] for index in sorted(choices)]}


def _listed(events: list[bytes], model: str, created: int) -> Json:
    """Of a surface whose events nobody here can put together."""
    return {"model": model, "created": created, "events": list(_objects(events))}


def _objects(events: list[bytes]) -> Iterator[Json]:
    return (value for value in map(decoded, events) if isinstance(value, dict))


# surface -> how its events are put together
_FORMS: Final[Mapping[str, Callable[[list[bytes], str, int], Json | None]]] = MappingProxyType(
    {"chat": _chat, "completions": _texts}
)
