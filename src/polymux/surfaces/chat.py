"""The surface `/v1/chat/completions`: client requests in, client bytes out. Source: OpenAI's API description."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from polymux.errors import Failure
from polymux.schema.chat import DONE, ChatRequest, ChatResponse, Chunk, StreamOptions
from polymux.types import Call, Key
from polymux.wire import splice, sse

_str = msgspec.json.Decoder(str).decode
_request = msgspec.json.Decoder(ChatRequest).decode
_options = msgspec.json.Decoder(StreamOptions | None).decode
_tokens = msgspec.json.Decoder(int).decode
_encode = msgspec.json.Encoder().encode
_PROMPT: Final = ("messages", "tools", "functions", "response_format")
_NO_TEXT: Final = ("role", "id", "type")  # members of a message, and of the calls in it
_WHERE: Final = re.compile(r" - at `(?:key in )?\$\.?(.*?)`$")
_MISSING: Final = re.compile(r"^Object missing required field `(.+)`$")


class _Choice(msgspec.Struct):
    delta: Any = None
    message: Any = None


class _Said(msgspec.Struct):
    """An answer or an event, as far as it says something."""

    choices: list[_Choice] | None = None


_said = msgspec.json.Decoder(_Said).decode


class Chat:
    """Decodes requests once and writes answers; the engine calls nothing else of this surface."""

    name = "chat"
    dialect = "openai"

    def decode(self, body: bytes, id_: str, key: Key) -> Call:
        """The routing fields of a body; the rest stays raw. Raises `Failure` for what no provider could take."""
        try:
            fields = splice.parse(body)
        except splice.Repeated as error:
            raise Failure("invalid_json", f"{error}; send it once", param=error.key) from None
        except splice.NotJson as error:
            raise Failure("invalid_json", f"the request body could not be read as JSON: {error}") from None
        model = _member(fields, "model", _str, "a string")
        if not model:
            raise Failure("missing_required_parameter", "'model' is missing: name one of /v1/models", param="model")
        if "messages" not in fields:
            raise Failure("missing_required_parameter", "'messages' is missing", param="messages")
        stream = False
        if "stream" in fields:
            text = bytes(fields["stream"])
            if text not in (b"true", b"false", b"null"):
                raise Failure("invalid_type", "'stream' must be true or false", param="stream")
            stream = text == b"true"
        call = Call(id_, self.name, key, model, stream, fields, body)
        if stream and "stream_options" in fields:
            options = _member(fields, "stream_options", _options, "an object")
            call.wants_usage = bool(options and options.include_usage)
        return call

    def request(self, call: Call) -> ChatRequest:
        """The whole request, typed, for lanes that translate. Raises `Failure` naming the member at fault."""
        try:
            request = _request(call.body)
        except msgspec.ValidationError as error:
            raise invalid(str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Failure("invalid_json", f"the request body could not be read as JSON: {error}") from None
        if not request.messages:
            raise Failure("invalid_value", "'messages' must hold at least one message", param="messages")
        return request

    def unknown(self, call: Call) -> tuple[str, ...]:
        """Top-level members that the pivot has no name for: a lane that translates must signal them."""
        return tuple(name for name in call.fields if name not in ChatRequest.__struct_fields__)

    def prompt(self, call: Call) -> list[memoryview]:
        """What a request asks, as JSON: its size tells about how many tokens it is."""
        return [memoryview(call.fields[name]) for name in _PROMPT if name in call.fields]

    def longest(self, call: Call) -> int:
        """The tokens that the answer may have, as far as the client says."""
        given = [call.fields[name] for name in ("max_completion_tokens", "max_tokens") if name in call.fields]
        try:
            return max(0, *map(_tokens, given)) if given else 0
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return 0  # the provider judges it

    def said(self, data: bytes) -> int:
        """Bytes of text in an answer or in an event: reasoning and calls are counted too."""
        try:
            choices = _said(data).choices or ()
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return 0
        return sum(_size(choice.delta) + _size(choice.message) for choice in choices)

    def events(self, call: Call, chunks: Sequence[Chunk]) -> bytes:
        """Chunks as the client's events; the usage chunk only for those who asked."""
        return b"".join(
            [sse.encode(_encode(chunk)) for chunk in chunks if chunk.choices or (chunk.usage and call.wants_usage)]
        )

    def end(self) -> bytes:
        return DONE

    def comment(self) -> bytes:
        """What keeps a silent stream alive; clients skip it."""
        return b": keep-alive\n\n"

    def whole(self, response: ChatResponse) -> bytes:
        return _encode(response)

    def error(self, failure: Failure) -> bytes:
        """The error envelope."""
        return _encode({"error": _error(failure)})

    def error_event(self, failure: Failure) -> bytes:
        """The same inside a stream; nothing follows it."""
        return sse.encode(self.error(failure))


def invalid(message: str) -> Failure:
    """A failed type check as the client's error: which member, and what was expected."""
    where = _WHERE.search(message)
    param = where[1] if where else ""
    text = message[: where.start()] if where else message
    if missing := _MISSING.match(text):
        param = f"{param}.{missing[1]}" if param else missing[1]
        return Failure("missing_required_parameter", f"{param!r} is missing", param=param)
    text = text[:1].lower() + text[1:].replace("`", "")
    kind = "invalid_value" if text.startswith("invalid") else "invalid_type"
    return Failure(kind, f"{param!r}: {text}" if param else text, param=param or None)


def _member(fields: dict[str, msgspec.Raw], name: str, decode: Any, wanted: str) -> Any:
    if name not in fields:
        return None
    try:
        return decode(fields[name])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Failure("invalid_type", f"{name!r} must be {wanted}", param=name) from None


def _size(value: Any) -> int:
    """Bytes of the strings in a message or delta, as JSON writes them."""
    if isinstance(value, str):
        return len(_encode(value)) - 2
    if isinstance(value, dict):
        return sum(_size(member) for name, member in value.items() if name not in _NO_TEXT)
    return sum(map(_size, value)) if isinstance(value, list) else 0


def _error(failure: Failure) -> dict[str, str | None]:
    return {"message": failure.message, "type": failure.type, "param": failure.param, "code": failure.code}
