"""The dialect of Azure OpenAI, upstream side: OpenAI's, at other addresses and with the notes of a content filter.

Two addresses: `.../openai/v1/chat/completions`, where the body names the deployment, and, for a provider with an
`api_version`, `.../openai/deployments/NAME/chat/completions?api-version=DATE`. Streams hold events that are no chunks:
what the filter says of the prompt (no choice), and of text that passed before (no delta, no id). On the relay lane
these get the shape that OpenAI's clients expect; what the filter says stays.
Source: Microsoft's Azure OpenAI reference (v1 and dated APIs, content filtering, asynchronous filter, errors).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import msgspec

from polymux.errors import Failure
from polymux.providers.base import Asked, Flow, Lane
from polymux.providers.openai import OpenAI, Relay
from polymux.providers.replies import UNREADABLE, error_of
from polymux.schema.chat import ChatRequest
from polymux.schema.embeddings import EmbeddingRequest
from polymux.types import Call, Deployment, WireRequest

_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode

_LISTING: Final = "2023-03-15-preview"  # the last version that lists a resource's deployments, and not base models
_ODD: Final = re.compile(rb'"id": ?""')  # what all events have that are no chunks
_SHARED: Final = ("id", "object", "created", "model")  # what all chunks have
_NO_DEPLOYMENT: Final = "DeploymentNotFound"

Json = dict[str, Any]


class Azure(OpenAI):
    """Implements `providers.base.Adapter`, `Embedding` and the relay lane."""

    def flow(self, request: ChatRequest, asked: Asked) -> Flow:
        return _moved((yield from super().flow(request, asked)), asked.to)

    def embed(self, request: EmbeddingRequest, asked: Asked) -> Flow:
        return _moved((yield from super().embed(request, asked)), asked.to)

    def _relay(self, call: Call, fields: Json, to: Deployment) -> WireRequest:
        return _moved(super()._relay(call, fields, to), to)

    def relay_reader(self, call: Call, to: Deployment) -> Lane:
        lane = super().relay_reader(call, to)
        return Filtered(call.wants_usage) if type(lane) is Relay and call.surface == "chat" else lane

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        failure = super().failure(status, headers, body)
        if status == 404 and error_of(body).get("code") == _NO_DEPLOYMENT:
            failure.code = "model_not_found"
        return failure

    def models(self, to: Deployment) -> WireRequest:
        url = f"{_root(to)}/deployments?api-version={_LISTING}"
        return WireRequest("GET", url, to.headers, framing="whole")


def _root(to: Deployment) -> str:
    """What the paths of both APIs have in common; a base URL may be given with that of the v1 API."""
    return to.base_url.removesuffix("/v1")


def _moved(request: WireRequest, to: Deployment) -> WireRequest:
    """A request of OpenAI's dialect at Azure's address for it."""
    path = request.url[len(to.base_url) :]
    if to.api_version:
        if to.model in (".", ".."):  # a name is the client's to invent, and no way to another path
            raise Failure("model_not_found", f"there is no deployment {to.model!r}", param="model")
        url = f"{_root(to)}/deployments/{quote(to.model, safe='')}{path}?api-version={to.api_version}"
    else:
        url = f"{_root(to)}/v1{path}"
    return msgspec.structs.replace(request, url=url)


class Filtered(Relay):
    """A stream that passes unchanged but for the events of the content filter."""

    __slots__ = ("_base", "_held")

    def __init__(self, wants_usage: bool) -> None:
        super().__init__(wants_usage)
        self._base: Json = {}  # of the first chunk
        self._held: Json = {}  # said of the prompt, for the next chunk

    def _block(self, data: bytes) -> bytes | None:
        return None if self._held or not self._base or _ODD.search(data) else super()._block(data)

    def _events(self, events: list[tuple[str, bytes]]) -> bytes:
        mended = ((name, self._mended(data)) for name, data in events)
        return super()._events([(name, data) for name, data in mended if data])

    def _mended(self, data: bytes) -> bytes:
        """The event as a chunk; nothing for one that waits for the next."""
        odd = _ODD.search(data) is not None
        if not odd and self._base and not self._held:
            return data
        try:
            chunk = _any(data)
        except UNREADABLE:
            chunk = None
        if not isinstance(chunk, dict):
            return data  # which is told apart further on
        if not odd:
            self._base = {name: chunk[name] for name in _SHARED if name in chunk}
            held, self._held = self._held, {}
            return _encode(chunk | held) if held else data
        choices = chunk.get("choices")
        if not choices and not chunk.get("usage") and not chunk.get("error"):
            self._held |= {name: value for name, value in chunk.items() if name not in (*_SHARED, "choices", "usage")}
            return b""
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                choice.setdefault("delta", {})
        return _encode(chunk | self._base)
