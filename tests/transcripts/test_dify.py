"""The transcripts of Dify's apps: asked as they were; read streamed, gathered, byte by byte and as the case cuts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from polymux.errors import Failure, Truncated
from polymux.providers.base import Asked, Recall
from polymux.providers.dify import Dify
from polymux.providers.dify_answers import Held
from polymux.schema.chat import ChatRequest, ChatResponse, Chunk
from polymux.surfaces.assemble import gather
from polymux.types import App, Deployment, WireRequest
from polymux.wire.sse import Decoder

Json = Any

DATA = Path(__file__).parent / "data" / "dify"
CASES = sorted(path.parent.name for path in DATA.glob("*/case.json"))
KINDS = {"/v1/completion-messages": "completion", "/v1/workflows/run": "workflow"}
ASSERTED = {  # members of `expect` that some test below looks at
    *("text", "reasoning", "streamed_text", "finish_reason", "native_finish_reason", "usage", "error", "terminated"),
    *("conversation_id", "message_id", "task_id", "workflow_run_id", "files", "outputs"),
}
# what is not an app's question: an upload, and a stop
OTHERS = ("file-upload", "stop")


def load(name: str) -> tuple[Json, bytes]:
    case = json.loads((DATA / name / "case.json").read_text(encoding="utf-8"))
    body = (DATA / name / case["body"]).read_bytes()
    assert len(body) == case["bytes"]
    return case, body


def request_of(name: str) -> Json:
    return json.loads((DATA / name / "request.json").read_text(encoding="utf-8"))


def ask(name: str, stream: bool) -> tuple[Asked, WireRequest]:
    """The question of a transcript, as a client of the gateway asks it."""
    case, wanted = load(name)[0], request_of(name)
    kind = KINDS.get(case["path"], "chat")
    query = wanted.get("query") or next(iter(wanted["inputs"].values()))
    files = [{"type": "image_url", "image_url": {"url": file["url"]}} for file in wanted.get("files", ())]
    content = [{"type": "text", "text": query}, *files]
    messages: Json = [{"role": "user", "content": content}]
    if wanted.get("conversation_id"):
        messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, *messages]
    body = {"model": "m", "messages": messages, "user": wanted["user"], "stream": stream}
    app = App(dict.fromkeys(wanted["inputs"], "{query}"))
    to = Deployment("p/x", "p", kind, "dify", "https://dify.example/v1", app=app)
    asked = Asked("m", 1_700_000_000, to, "key-1")
    flow = Dify().flow(msgspec.convert(body, ChatRequest), asked)
    sent: Any = None
    try:
        while True:
            wish = flow.send(sent)
            assert isinstance(wish, Recall)
            sent = {wish.names[0]: msgspec.json.encode(Held(wanted["conversation_id"], "m-1"))}
    except StopIteration as stop:
        return asked, stop.value


def streams() -> list[str]:
    return [name for name in CASES if load(name)[0]["body"].endswith(".sse")]


def wholes() -> list[str]:
    return [name for name in CASES if name not in OTHERS and name not in streams() and load(name)[0]["status"] < 400]


def cuts(case: Json, body: bytes) -> dict[str, list[bytes]]:
    ways = {"whole": [body], "bytes": [body[i : i + 1] for i in range(len(body))]}
    if "splits" in case:
        edges = [0, *case["splits"], len(body)]
        ways["splits"] = [body[a:b] for a, b in pairwise(edges)]
    return ways


def read(asked: Asked, pieces: Iterable[bytes]) -> tuple[list[Chunk], list[str], Exception | None]:
    """The chunks, the tasks that were told of, and how it ended."""
    decoder, reader = Decoder(), Dify().reader(asked)
    chunks: list[Chunk] = []
    tasks: list[str] = []
    try:
        for piece in pieces:
            for event, data in decoder.feed(piece):
                chunks += reader.feed(event, data)
                tasks += [asked.task] if asked.task else []
        chunks += reader.close()
    except (Failure, Truncated) as error:
        return chunks, tasks, error
    return chunks, tasks, None


def check(expect: Json, answer: ChatResponse, text: str) -> None:
    choice = answer.choices[0]
    assert (choice.message.content or "") == text
    assert (choice.message.reasoning_content or "") == expect.get("reasoning", choice.message.reasoning_content or "")
    assert choice.finish_reason == expect.get("finish_reason", "stop")
    assert answer.id == f"chatcmpl-{expect.get('message_id') or expect['workflow_run_id']}"
    usage = msgspec.to_builtins(answer.usage) if answer.usage else {}
    assert {member: usage[member] for member in expect.get("usage", {})} == expect.get("usage", {})
    cited = [one["url_citation"]["url"] for one in choice.message.annotations or ()]
    assert set(expect.get("files", ())) <= set(cited)


def text_of(expect: Json) -> str:
    """What an app says, or what is made of what it puts out."""
    outputs = expect.get("outputs")
    if outputs is None:
        return str(expect["text"])
    return str(outputs.get("text") or outputs["result"])  # one that is called as answers are


@pytest.mark.parametrize("name", CASES)
def test_nothing_that_a_transcript_expects_is_overlooked(name: str) -> None:
    assert set(load(name)[0]["expect"]) <= ASSERTED


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", streams())
def test_a_stream_means_what_the_transcript_says(name: str, stream: bool) -> None:
    case, body = load(name)
    expect = case["expect"]
    for pieces in cuts(case, body).values():
        asked, _ = ask(name, stream)
        chunks, tasks, failed = read(asked, pieces)
        assert set(tasks) <= {expect.get("task_id", tasks and tasks[0])}
        assert not asked.task, "nothing is under way any more"
        if "error" in expect:
            assert isinstance(failed, Failure)
            assert failed.kind == "upstream_unavailable"
            continue
        assert failed is None
        text = text_of(expect)
        if stream and "streamed_text" in expect:  # it cannot be taken back: what replaces it follows, and that is said
            text, expect = expect["streamed_text"] + text, {**expect, "finish_reason": "content_filter"}
        check(expect, gather(chunks), text)
        held = [msgspec.json.decode(value, type=Held) for value in asked.remembered.values()]
        wanted = [Held(expect["conversation_id"], expect["message_id"])] if "conversation_id" in expect else []
        assert held == wanted


@pytest.mark.parametrize("name", wholes())
def test_a_whole_answer_means_what_the_transcript_says(name: str) -> None:
    case, body = load(name)
    check(case["expect"], Dify().read(body, ask(name, False)[0]), text_of(case["expect"]))


@pytest.mark.parametrize("name", [name for name in CASES if name not in OTHERS])
def test_the_question_of_a_transcript_is_what_is_sent(name: str) -> None:
    case, wanted = load(name)[0], request_of(name)
    _, sent = ask(name, True)
    given = {member: value for member, value in wanted.items() if value != ""}
    assert f"https://dify.example{case['path']}" == sent.url
    assert json.loads(sent.body) == {**given, "response_mode": "streaming"}


TOLD = {
    "error-400-not-chat-app": (400, "invalid_request_error", "not_chat_app"),
    "error-400-provider": (502, "upstream_error", "upstream_unavailable"),
    "error-401": (502, "upstream_error", "upstream_auth_failed"),
    "error-404-conversation": (502, "upstream_error", "upstream_unavailable"),  # another attempt begins a new one
    "error-429": (429, "rate_limit_error", "upstream_rate_limited"),
}


@pytest.mark.parametrize("name", [name for name in CASES if load(name)[0]["status"] >= 400])
def test_an_error_is_told_as_the_table_says(name: str) -> None:
    case, body = load(name)
    failure = Dify().failure(case["status"], case["response_headers"], body)
    assert (failure.status, failure.type, failure.code) == TOLD[name]
    assert failure.message == json.loads(body)["message"]


def test_a_stop_is_that_of_the_transcript() -> None:
    case, _ = load("stop")
    asked, _ = ask("chat-stream", True)
    asked.task = "c3800678-a077-43df-a102-53f23ed20b88"
    stop = Dify().stop(asked)
    assert stop is not None
    assert (stop.method, stop.url) == (case["method"], f"https://dify.example{case['path']}")
    assert json.loads(stop.body) == request_of("stop")
