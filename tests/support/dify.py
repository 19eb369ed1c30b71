"""A Dify on a real socket that keeps Dify's rules: what breaks one gets Dify's own error, and is noted in `broken`.

A key is one app's (`app-KIND`); users are told apart; a conversation, an upload and a task belong to the user who made
them; agents do not answer in one piece. An app says which turn of its conversation it is, and repeats the question, so
that a test sees what Dify remembers.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from email.parser import BytesParser
from typing import Any, Final

from polymux.mock.scripts import JSON, SSE, Script
from support.upstream import PATIENCE, Seen, Upstream

Json = Any

KINDS: Final = ("chat", "agent", "chatflow", "completion", "workflow")
ASKING: Final = {"completion": "/completion-messages", "workflow": "/workflows/run"}
STOPPING: Final = {"completion": "/completion-messages/{}/stop", "workflow": "/workflows/tasks/{}/stop"}
MEMBERS: Final = {"inputs", "user", "response_mode", "files"}
CHAT_MEMBERS: Final = MEMBERS | {"query", "conversation_id", "auto_generate_name"}
USAGE: Final = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "total_price": "0.01"}
RESOURCE: Final = {
    "dataset_id": "ds",
    "document_id": "doc",
    "document_name": "list.txt",
    "segment_id": "s",
    "content": "X",
}
PING: Final = b"event: ping\n\n"


class Refused(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.body: Json = {"code": code, "message": message, "status": status}


@dataclass
class Conversation:
    app: str
    user: str
    messages: list[str] = field(default_factory=list)  # queries; the id of the nth is its name and n


class Dify(Upstream):
    """`refuse`: answers to the next questions, (status, code, message), in place of the app's own."""

    def __init__(self) -> None:
        super().__init__()
        self.conversations: dict[str, Conversation] = {}
        self.uploads: dict[str, str] = {}  # id -> user
        self.tasks: dict[str, tuple[str, str]] = {}  # id -> kind, user
        self.stopped: list[str] = []
        self.refuse: list[tuple[int, str, str]] = []
        self.broken: list[str] = []

    def _script(self, seen: Seen) -> Script:
        with self._arrived:
            try:
                script = self._answer(seen)
            except Refused as refused:
                self.broken.append(f"{seen.path}: {refused}")
                script = Script(refused.body["status"], JSON, (json.dumps(refused.body).encode(),))
            self.requests.append(seen)
            self._arrived.notify_all()
        return script

    # ---- the test's side ----

    def asked(self) -> list[Json]:
        """The bodies of the questions so far."""
        with self._arrived:
            return [one.json for one in self.requests if one.json and "response_mode" in one.json]

    def paths(self) -> list[str]:
        with self._arrived:
            return [one.path for one in self.requests]

    def wait_stopped(self, count: int = 1) -> str:
        """The task that was stopped as the `count`-th."""
        with self._arrived:
            arrived = self._arrived.wait_for(lambda: len(self.stopped) >= count, PATIENCE)
            assert arrived, f"no stop {count}; arrived: {[one.path for one in self.requests]}"
            return self.stopped[count - 1]

    def wait_asked(self, count: int = 1) -> Seen:
        def questions() -> list[Seen]:
            return [one for one in self.requests if one.json and "response_mode" in one.json]

        with self._arrived:
            assert self._arrived.wait_for(lambda: len(questions()) >= count, PATIENCE), f"no question {count}"
            return questions()[count - 1]

    # ---- Dify's side ----

    def _answer(self, seen: Seen) -> Script:
        kind = (seen.header("authorization") or "").removeprefix("Bearer app-")
        if kind not in KINDS:
            raise Refused(401, "unauthorized", "Access token is invalid")
        path, _, query = seen.path.removeprefix("/v1").partition("?")
        if (seen.method, path) == ("GET", "/messages"):
            return self._messages(kind, dict(pair.split("=") for pair in query.split("&")))
        if seen.method != "POST":
            raise Refused(405, "method_not_allowed", "The method is not allowed for the requested URL.")
        if path == "/files/upload":
            return self._upload(seen)
        body = seen.json
        if not isinstance(body, dict) or not body.get("user") or not isinstance(body["user"], str):
            raise Refused(400, "invalid_param", "Arg user must be provided.")
        if path.endswith("/stop"):
            return self._stop(kind, path, body)
        if path != ASKING.get(kind, "/chat-messages"):
            raise Refused(400, "not_chat_app", "Please check if your app mode matches the right API route.")
        return self._ask(kind, body)

    def _messages(self, kind: str, asked: dict[str, str]) -> Script:
        conversation = self._own(kind, asked["user"], asked["conversation_id"])
        last = f"{asked['conversation_id']}-m{len(conversation.messages)}"
        return _json(200, {"limit": 1, "has_more": True, "data": [{"id": last}]})

    def _own(self, kind: str, user: str, name: str) -> Conversation:
        found = self.conversations.get(name)
        if found is None or (found.app, found.user) != (kind, user):
            raise Refused(404, "not_found", "Conversation Not Exists.")
        return found

    def _upload(self, seen: Seen) -> Script:
        head = f"content-type: {seen.header('content-type')}\r\n\r\n".encode()
        form = BytesParser().parsebytes(head + seen.body)
        assert form.is_multipart()
        payload: Any = form.get_payload()
        parts = {part.get_param("name", header="content-disposition"): part for part in payload}
        if set(parts) != {"file", "user"} or not parts["file"].get_filename():
            raise Refused(400, "no_file_uploaded", "Please upload your file.")
        name = f"up-{len(self.uploads) + 1}"
        self.uploads[name] = parts["user"].get_payload(decode=True).decode()
        size = len(parts["file"].get_payload(decode=True))
        return _json(201, {"id": name, "size": size, "mime_type": parts["file"].get_content_type()})

    def _stop(self, kind: str, path: str, body: Json) -> Script:
        pattern = STOPPING.get(kind, "/chat-messages/{}/stop").format("([^/]+)")
        found = re.fullmatch(pattern, path)
        if not found or self.tasks.get(found[1]) != (kind, body["user"]):
            raise Refused(404, "not_found", "there is no such task of this user")
        self.stopped.append(found[1])
        return _json(200, {"result": "success"})

    def _ask(self, kind: str, body: Json) -> Script:
        chats = kind not in ASKING
        if strange := set(body) - (CHAT_MEMBERS if chats else MEMBERS):
            raise Refused(400, "invalid_param", f"unknown members {strange}")
        inputs = body.get("inputs")
        if not isinstance(inputs, dict) or not all(isinstance(value, str) for value in inputs.values()):
            raise Refused(400, "invalid_param", "inputs must be an object of strings")
        if chats and not body.get("query"):
            raise Refused(400, "invalid_param", "query is required")
        if kind == "agent" and body.get("response_mode") != "streaming":
            raise Refused(400, "invalid_param", "Agent Chat App does not support blocking mode")
        for file in body.get("files", ()):
            self._check(file, body["user"])
        conversation = self._conversation(kind, body) if chats else ""
        if self.refuse:
            raise Refused(*self.refuse.pop(0))
        task = f"task-{len(self.tasks) + 1}"
        self.tasks[task] = kind, body["user"]
        said = str(body["query"] if chats else inputs.get("query", inputs.get("topic", "")))
        turn = 1
        if chats:
            messages = self.conversations[conversation].messages
            messages.append(said)
            turn = len(messages)
        text = f"turn {turn}: {said}"
        common = {"task_id": task, "created_at": 1}
        if chats:
            common |= {"conversation_id": conversation, "message_id": f"{conversation}-m{turn}"}
        elif kind == "completion":
            common |= {"message_id": task}
        frames = FRAMES[kind](common, text)
        held = "hold" in said
        return Script(headers=SSE, framing="chunked", frames=tuple(frames), gate=held, free=2 if held else 0)

    def _check(self, file: Json, user: str) -> None:
        if file.get("transfer_method") == "remote_url":
            good = set(file) == {"type", "transfer_method", "url"}
        else:
            good = set(file) == {"type", "transfer_method", "upload_file_id"}
            good = good and self.uploads.get(file["upload_file_id"]) == user
        if not good or file["type"] not in ("image", "document", "audio", "video", "custom"):
            raise Refused(400, "invalid_param", f"Invalid file: {file}")

    def _conversation(self, kind: str, body: Json) -> str:
        if name := body.get("conversation_id"):
            self._own(kind, body["user"], name)
            return str(name)
        name = f"conv-{len(self.conversations) + 1}"
        self.conversations[name] = Conversation(kind, body["user"])
        return name


def _json(status: int, body: Json) -> Script:
    return Script(status, JSON, (json.dumps(body).encode(),))


# ---- what apps say ----------------------------------------------------------------------------------------------


def event(common: Json, name: str, **members: Json) -> bytes:
    return b"data: %b\n\n" % json.dumps({"event": name, **common, **members}, ensure_ascii=False).encode()


def halves(text: str) -> tuple[str, str]:
    return text[: len(text) // 2], text[len(text) // 2 :]


def chat(common: Json, text: str) -> list[bytes]:
    metadata = {"usage": USAGE, "retriever_resources": [RESOURCE]}
    first, rest = halves(text)
    return [
        PING,
        event(common, "message", answer=first),
        event(common, "message", answer=rest),
        event(common, "message_end", metadata=metadata),
    ]


def agent(common: Json, text: str) -> list[bytes]:
    step = {"id": "t1", "thought": "", "tool": "search", "tool_input": '{"q":1}'}
    first, rest = halves(text)
    return [
        event(common, "agent_thought", **step),
        event(common, "agent_thought", **step, observation="found"),
        event(common, "agent_message", answer=first),
        event(common, "agent_message", answer=rest),
        event(common, "agent_thought", id="t2", thought=text),
        event(common, "message_end", metadata={"usage": USAGE}),
    ]


def chatflow(common: Json, text: str) -> list[bytes]:
    run = {**common, "workflow_run_id": "run"}
    done = {"status": "succeeded", "outputs": {"answer": text}, "total_tokens": 15}
    first, rest = halves(text)
    return [
        event(run, "workflow_started", data={"id": "run", "inputs": {}}),
        event(run, "node_started", data={"node_id": "1", "node_type": "llm"}) + event(common, "message", answer=first),
        event(common, "message", answer=rest),
        event(run, "workflow_finished", data=done),
        event(common, "message_end", metadata={"usage": USAGE}),
    ]


def completion(common: Json, text: str) -> list[bytes]:
    return [
        PING,
        *(event(common, "message", answer=half) for half in halves(text)),
        event(common, "message_end", metadata={"usage": USAGE}),
    ]


def workflow(common: Json, text: str) -> list[bytes]:
    run = {**common, "workflow_run_id": "run"}
    done = {"status": "succeeded", "outputs": {"text": text}, "total_tokens": 15}
    return [
        event(run, "workflow_started", data={"id": "run"}),
        *(event(run, "text_chunk", data={"text": half}) for half in halves(text)),
        event(run, "workflow_finished", data=done),
    ]


FRAMES: Final = {"chat": chat, "agent": agent, "chatflow": chatflow, "completion": completion, "workflow": workflow}
