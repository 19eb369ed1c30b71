"""The dialect of Dify's app APIs: the adapter, and the conversation that goes on there although clients are stateless.

An app is always asked for a stream: agents know nothing else, long blocking calls are cut, and only who reads along can
say what to stop. Answers are read in `dify_answers`, requests are translated in `dify_request`. Source: Dify's service
API documentation and its server.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote

import msgspec

from polymux.errors import Failure
from polymux.providers.base import Asked, Flow, Recall
from polymux.providers.dify_answers import Held, Reader, failure_of, read
from polymux.providers.dify_fates import FATES
from polymux.providers.dify_request import CHATS, Turn, Upload, turn_of
from polymux.providers.fates import Column, ordered
from polymux.providers.replies import UNREADABLE
from polymux.schema.chat import ChatRequest as PivotRequest
from polymux.schema.chat import ChatResponse
from polymux.schema.dify import ChatRequest, File, Past, RunRequest, StopRequest
from polymux.schema.dify import Upload as Uploaded
from polymux.types import Deployment, WireReply, WireRequest
from polymux.wire import multipart

_ASKING: Final[Mapping[str, str]] = MappingProxyType(
    {"completion": "/completion-messages", "workflow": "/workflows/run"}
)
_STOPPING: Final[Mapping[str, str]] = MappingProxyType(
    {"completion": "/completion-messages/{}/stop", "workflow": "/workflows/tasks/{}/stop"}
)
_CHAT: Final = "/chat-messages"  # every other kind of app

_encode = msgspec.json.Encoder().encode
_held = msgspec.json.Decoder(Held).decode
_past = msgspec.json.Decoder(Past).decode
_uploaded = msgspec.json.Decoder(Uploaded).decode


class Dify:
    """Implements `providers.base.Adapter` and `Stopping`. A deployment's `model` is the kind of its app."""

    @property
    def fates(self) -> Column:
        return FATES

    def flow(self, request: PivotRequest, asked: Asked) -> Flow:
        turn = turn_of(request, asked)
        to = asked.to
        files: list[File] = []
        for file in turn.files:
            if isinstance(file, Upload):
                files.append((yield from _upload(file, turn.user, to)))
            else:
                files.append(file)
        conversation = (yield from _conversation(turn, asked)) if turn.kind in CHATS and turn.before.long else ""
        asked.carried = turn
        wire: ChatRequest | RunRequest = RunRequest(turn.inputs, turn.user, "streaming", files)
        dropped = turn.dropped if conversation else turn.dropped | turn.dropped_fresh
        if turn.kind in CHATS:
            text = turn.going_on if conversation else turn.fresh
            wire = ChatRequest(turn.inputs, turn.user, "streaming", text, conversation, files)
        url = to.base_url + _ASKING.get(turn.kind, _CHAT)
        return WireRequest("POST", url, to.headers, _encode(wire), streams=True, dropped=ordered(dropped))

    def read(self, body: bytes, asked: Asked) -> ChatResponse:
        return read(body, asked)

    def reader(self, asked: Asked) -> Reader:
        return Reader(asked)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        return failure_of(status, headers, body)

    def stop(self, asked: Asked) -> WireRequest | None:
        turn: Turn | None = asked.carried
        if not asked.task or turn is None:
            return None
        path = _STOPPING.get(turn.kind, _CHAT + "/{}/stop").format(quote(asked.task, safe=""))
        return WireRequest("POST", asked.to.base_url + path, asked.to.headers, _encode(StopRequest(turn.user)))

    def models(self, to: Deployment) -> WireRequest:
        """What the app is; there is no list, for a key is one app's."""
        return WireRequest("GET", f"{to.base_url}/info", to.headers, framing="whole")

    def read_models(self, body: bytes) -> Sequence[str]:
        return ()


def _upload(file: Upload, user: str, to: Deployment) -> Generator[WireRequest, WireReply, File]:
    boundary = f"polymux-{sha256(file.data).hexdigest()[:32]}"
    fields = (
        multipart.Field("user", user.encode("utf-8", "replace")),
        multipart.Field("file", file.data, file.name, file.media_type),
    )
    headers = (*to.headers, ("content-type", multipart.content_type(boundary)))
    reply = yield WireRequest("POST", f"{to.base_url}/files/upload", headers, multipart.encode(fields, boundary))
    if reply.status >= 400:
        raise failure_of(reply.status, reply.headers, reply.body)
    return File(file.type, "local_file", upload_file_id=_decoded(_uploaded, reply.body).id)


def _conversation(turn: Turn, asked: Asked) -> Generator[WireRequest | Recall, Any, str]:
    """The id of the conversation that the client goes on with; "" = it is not known.

    An id is recalled once: whoever comes with the same history afterwards, having asked anew or being somebody else,
    begins a conversation of their own. It is put back as doubtful, and stays so unless the app takes the question:
    then it is looked whether the conversation is still there, and as it was.
    """
    name = turn.before.name()
    known = yield Recall((name,), once=True)
    held: Held | None = _decoded(_held, known[name]) if name in known else None
    if held is None:
        return ""
    if held.doubtful:
        query = f"conversation_id={quote(held.conversation)}&user={quote(turn.user, safe='')}&limit=1"
        reply = yield WireRequest("GET", f"{asked.to.base_url}/messages?{query}", asked.to.headers)
        if reply.status >= 400 or [one.id for one in _decoded(_past, reply.body).data] != [held.message]:
            return ""
    else:
        asked.remembered[name] = _encode(Held(held.conversation, held.message, doubtful=True))
    return held.conversation


def _decoded(decode: Any, data: bytes) -> Any:
    try:
        return decode(data)
    except UNREADABLE:
        raise Failure("upstream_unavailable", "the upstream's answer cannot be read; is its base_url right?") from None
