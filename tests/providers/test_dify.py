"""The adapter's conversation with the app, and with what is remembered of it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from polymux.errors import Failure
from polymux.providers.base import Adapter, Asked, Flow, Recall, Stopping
from polymux.providers.dify import Dify
from polymux.providers.dify_answers import Held
from polymux.schema.chat import ChatRequest
from polymux.types import Deployment, WireReply, WireRequest

Json = Any

HISTORY = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
PNG = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
KEY = ("authorization", "Bearer app-1")
HELD = msgspec.json.encode(Held("c-1", "m-1"))
DOUBTFUL = msgspec.json.encode(Held("c-1", "m-1", doubtful=True))


def asked_of(kind: str = "chat") -> Asked:
    to = Deployment("i", "desk", kind, "dify", "https://d.example/v1", (KEY,))
    return Asked("m", 7, to, "key-1")


def start(asked: Asked, *messages: Json, **more: Json) -> Flow:
    messages = messages or (*HISTORY, {"role": "user", "content": "Go on"})
    return Dify().flow(msgspec.convert({"model": "m", "messages": list(messages), **more}, ChatRequest), asked)


def finish(flow: Flow, sent: Json = None) -> tuple[WireRequest, Json]:
    with pytest.raises(StopIteration) as stop:
        flow.send(sent)
    return stop.value.value, json.loads(stop.value.value.body)


def reply(status: int, body: Json) -> WireReply:
    return WireReply(status, {}, json.dumps(body).encode())


def test_it_is_an_adapter_that_stops() -> None:
    adapter: Adapter = Dify()
    assert isinstance(adapter, Stopping)


def test_a_first_message_recalls_nothing() -> None:
    request, body = finish(start(asked_of(), {"role": "user", "content": "Hi"}))
    assert request.streams
    assert request.headers == (KEY,)
    assert "conversation_id" not in body


@pytest.mark.parametrize("kind", ["completion", "workflow"])
def test_apps_without_conversations_recall_nothing(kind: str) -> None:
    request, body = finish(start(asked_of(kind)))
    assert request.dropped == ("messages",)
    assert body["inputs"] == {"query": "Go on"}


def test_files_come_before_what_is_recalled() -> None:
    """An upload that fails must not have used up the conversation."""
    flow = start(asked_of(), *HISTORY, {"role": "user", "content": [PNG, {"type": "text", "text": "Go on"}]})
    upload = next(flow)
    assert isinstance(upload, WireRequest)
    assert upload.url.endswith("/files/upload")
    assert [name for name, _ in upload.headers] == ["authorization", "content-type"]
    assert isinstance(flow.send(reply(201, {"id": "f-1"})), Recall)
    _, body = finish(flow, {})
    assert body["files"] == [{"type": "image", "transfer_method": "local_file", "upload_file_id": "f-1"}]


def test_an_upload_that_answers_nonsense_is_a_failure() -> None:
    flow = start(asked_of(), {"role": "user", "content": [PNG]})
    next(flow)
    with pytest.raises(Failure, match="is its base_url right"):
        flow.send(WireReply(200, {}, b"<html>"))


def test_a_conversation_is_recalled_once_and_put_back_as_doubtful() -> None:
    asked = asked_of()
    flow = start(asked)
    wanted = next(flow)
    assert wanted == Recall(wanted.names, once=True)
    (name,) = wanted.names
    _, body = finish(flow, {name: HELD})
    assert (body["conversation_id"], body["query"]) == ("c-1", "Go on")
    assert asked.remembered == {name: DOUBTFUL}


@pytest.mark.parametrize(
    ("found", "goes_on"),
    [
        (reply(200, {"data": [{"id": "m-1"}]}), True),
        (reply(200, {"data": [{"id": "m-2"}]}), False),
        (reply(200, {"data": []}), False),
        (reply(404, {"code": "not_found"}), False),
    ],
)
def test_a_doubtful_one_is_looked_up_and_not_put_back(found: WireReply, goes_on: bool) -> None:
    asked = asked_of()
    flow = start(asked, user="zoë & co")
    (name,) = next(flow).names
    look = flow.send({name: DOUBTFUL})
    assert look.method == "GET"
    assert look.url == "https://d.example/v1/messages?conversation_id=c-1&user=zo%C3%AB%20%26%20co&limit=1"
    _, body = finish(flow, found)
    assert ("conversation_id" in body) is goes_on
    assert asked.remembered == {}


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("chat", "/chat-messages/t%2F1/stop"),
        ("agent", "/chat-messages/t%2F1/stop"),
        ("chatflow", "/chat-messages/t%2F1/stop"),
        ("completion", "/completion-messages/t%2F1/stop"),
        ("workflow", "/workflows/tasks/t%2F1/stop"),
    ],
)
def test_what_stops_an_app(kind: str, path: str) -> None:
    asked = asked_of(kind)
    assert Dify().stop(asked) is None
    finish(start(asked, {"role": "user", "content": "Hi"}, user="alice"))
    assert Dify().stop(asked) is None
    asked.task = "t/1"
    stop = Dify().stop(asked)
    assert stop is not None
    assert (stop.method, stop.url) == ("POST", f"https://d.example/v1{path}")
    assert json.loads(stop.body) == {"user": "alice"}


def test_there_is_no_list_of_models() -> None:
    assert Dify().models(asked_of().to).url == "https://d.example/v1/info"
    assert Dify().read_models(b'{"name":"Helpdesk"}') == ()
