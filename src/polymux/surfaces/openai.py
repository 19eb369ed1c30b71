"""What OpenAI's surfaces have in common: how requests are taken apart, and how errors look.

Source: OpenAI's API description.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from polymux.errors import Failure
from polymux.schema.chat import StreamOptions
from polymux.types import Call, Key
from polymux.wire import splice, sse

T = TypeVar("T")

encode = msgspec.json.Encoder().encode
_str = msgspec.json.Decoder(str).decode
_options = msgspec.json.Decoder(StreamOptions | None).decode
_tokens = msgspec.json.Decoder(int).decode
_WHERE: Final = re.compile(r" - at `(?:key in )?\$\.?(.*?)`$")
_MISSING: Final = re.compile(r"^Object missing required field `(.+)`$")


class Common:
    """What is the same for all of them."""

    name = ""
    wanted = ""  # the member that a request must have beside the model
    streams = True
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
        if self.wanted not in fields:
            raise Failure("missing_required_parameter", f"{self.wanted!r} is missing", param=self.wanted)
        stream = False
        if self.streams and "stream" in fields:
            text = bytes(fields["stream"])
            if text not in (b"true", b"false", b"null"):
                raise Failure("invalid_type", "'stream' must be true or false", param="stream")
            stream = text == b"true"
        call = Call(id_, self.name, key, model, stream, fields, body)
        if stream and "stream_options" in fields:
            options = _member(fields, "stream_options", _options, "an object")
            call.wants_usage = bool(options and options.include_usage)
        return call

    def comment(self) -> bytes:
        """What keeps a silent stream alive; clients skip it."""
        return b": keep-alive\n\n"

    def error(self, failure: Failure) -> bytes:
        """The error envelope."""
        error = {"message": failure.message, "type": failure.type, "param": failure.param, "code": failure.code}
        return encode({"error": error})

    def error_event(self, failure: Failure) -> bytes:
        """The same inside a stream; nothing follows it."""
        return sse.encode(self.error(failure))


def typed(decode: Callable[[bytes], T], body: bytes) -> T:
    """A whole request. Raises `Failure` naming the member at fault."""
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        raise invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Failure("invalid_json", f"the request body could not be read as JSON: {error}") from None


def tokens_of(call: Call, *names: str) -> int | None:
    """The largest number of tokens that one of these members gives; None = none is given, or not as a number: the
    provider judges that."""
    try:
        return max((_tokens(call.fields[name]) for name in names if name in call.fields), default=None)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


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
