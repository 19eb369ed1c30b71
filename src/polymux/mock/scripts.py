"""How one request is answered: a `Script`, and the ones that everything else is made from. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from polymux.mock import replies
from polymux.mock.replies import Reply, dump

Headers = tuple[tuple[str, str], ...]
SSE: Final[Headers] = (("content-type", "text/event-stream; charset=utf-8"),)
JSON: Final[Headers] = (("content-type", "application/json"),)
_REASONS: Final[Mapping[int, str]] = MappingProxyType(
    {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}
)


@dataclass(frozen=True)
class Ask:
    """What an answer depends on. dialect: openai or anthropic. body: the request's JSON object, empty for GET."""

    dialect: str
    model: str
    body: Mapping[str, Any]

    @property
    def streamed(self) -> bool:
        return bool(self.body.get("stream"))

    @property
    def wants_usage(self) -> bool:
        return bool((self.body.get("stream_options") or {}).get("include_usage"))


@dataclass(frozen=True)
class Script:
    """How one request is answered.

    frames: the body, each frame written by itself. framing: `chunked`, `length`, `close` (ended by the connection) or
    `raw` (no head at all: the frames are everything). gate: after the first `free` frames, one goes out only when the
    exchange permits it. start: what happens before the status line, end: what happens after the last frame; both are
    one of "" (nothing special), `reset`, `close`, `stall`. With an `end` the body is left unfinished. stale: after a
    whole answer the idle connection is closed without a notice. before: seconds of silence before the status line,
    pause: (number of a frame, seconds of silence before it), between: seconds before each other frame. bite: bytes
    that are written at once, 0 = a frame.
    """

    status: int = 200
    headers: Headers = JSON
    frames: tuple[bytes, ...] = ()
    framing: str = "length"
    gate: bool = False
    free: int = 0
    start: str = ""
    end: str = ""
    stale: bool = False
    before: float = 0.0
    pause: tuple[int, float] = (0, 0.0)
    between: float = 0.0
    bite: int = 0

    def head(self) -> bytes:
        """Status line and headers."""
        if self.framing == "raw":
            return b""
        lines = [f"HTTP/1.1 {self.status} {_REASONS.get(self.status, 'Status')}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        lines += {
            "chunked": ["transfer-encoding: chunked"],
            "length": [f"content-length: {sum(map(len, self.frames)) + bool(self.end)}"],
            "close": ["connection: close"],
        }[self.framing]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def framed(self, frame: bytes) -> bytes:
        """A frame as it goes over the wire."""
        return b"%x\r\n%b\r\n" % (len(frame), frame) if self.framing == "chunked" else frame

    def wait(self, number: int) -> float:
        """Seconds of silence before a frame."""
        at, seconds = self.pause
        return seconds if seconds and number == at else self.between


def render(reply: Reply, ask: Ask) -> Script:
    """The reply in the dialect and form that was asked for; a streamed one has a frame per event."""
    if ask.streamed:
        if ask.dialect == "anthropic":
            events = replies.anthropic_events(reply, ask.model)
        else:
            events = replies.openai_events(reply, ask.model, ask.wants_usage)
        return Script(headers=SSE, framing="chunked", frames=events)
    whole = replies.anthropic_whole if ask.dialect == "anthropic" else replies.openai_whole
    return Script(frames=(whole(reply, ask.model),))


def broken_off(whole: Script, frames: int, end: str) -> Script:
    """A good answer up to a number of frames, then its end: "" (an orderly one of a body that lacks the rest) or a
    fault. Of a body that is no stream half is sent, and an orderly end is the connection's."""
    if whole.framing == "chunked":
        return replace(whole, frames=whole.frames[:frames], end=end)
    half = whole.frames[0][: len(whole.frames[0]) // 2]
    return replace(whole, frames=(half,), end=end or "close")


# ---- refusals --------------------------------------------------------------------------------------------------

_KINDS: Final[Mapping[int, tuple[str, str, str | None, str]]] = MappingProxyType(
    {
        400: ("invalid_request_error", "invalid_request_error", "invalid_value", "The value is not right."),
        401: ("invalid_request_error", "authentication_error", "invalid_api_key", "Incorrect API key provided."),
        403: (
            "invalid_request_error",
            "permission_error",
            "unsupported_country_region_territory",
            "Not in your region.",
        ),
        404: ("invalid_request_error", "not_found_error", "model_not_found", "The model does not exist."),
        408: ("server_error", "timeout_error", None, "The request took too long."),
        413: ("invalid_request_error", "request_too_large", None, "Request exceeds the maximum size."),
        422: ("invalid_request_error", "invalid_request_error", None, "Unprocessable."),
        429: ("requests", "rate_limit_error", "rate_limit_exceeded", "Rate limit reached."),
        500: ("server_error", "api_error", None, "The server had an error."),
        502: ("server_error", "api_error", None, "Bad gateway."),
        503: ("server_error", "overloaded_error", "server_is_overloaded", "Overloaded."),
        504: ("server_error", "timeout_error", None, "Gateway timeout."),
        529: ("server_error", "overloaded_error", None, "Overloaded."),
    }
)


def error(message: str, kind: str, dialect: str, code: str | None = None, param: str | None = None) -> bytes:
    """The provider's own error envelope."""
    if dialect == "anthropic":
        return dump({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_up1"})
    return dump({"error": {"message": message, "type": kind, "param": param, "code": code}})


def refused(ask: Ask, status: int, retry_after: int = 0) -> Script:
    """An error status as the dialect has it. retry_after: seconds, 0 = the header is absent."""
    openai, anthropic, code, message = _KINDS[status]
    headers = (*JSON, ("retry-after", str(retry_after))) if retry_after else JSON
    body = error(message, anthropic if ask.dialect == "anthropic" else openai, ask.dialect, code)
    return Script(status, headers, (body,))


def invalid(ask: Ask, message: str, code: str | None = None, param: str | None = None) -> Script:
    """A 400 about the request itself."""
    return Script(400, JSON, (error(message, "invalid_request_error", ask.dialect, code, param),))


def error_inside(ask: Ask) -> Script:
    """An error where a success was announced."""
    kind = "overloaded_error" if ask.dialect == "anthropic" else "server_error"
    body = error("The server had an error.", kind, ask.dialect)
    if not ask.streamed:
        return Script(frames=(body,))
    event = b"event: error\ndata: " if ask.dialect == "anthropic" else b"data: "
    return Script(headers=SSE, framing="chunked", frames=(event + body + b"\n\n",))
