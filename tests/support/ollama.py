"""An Ollama on a real socket that keeps Ollama's rules: types as its Go structs have them, and what its models can do.

Sources: Ollama's API documentation and its Go types (api/types.go), with the words of its errors.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any, Final

from polymux.mock.scripts import JSON, Script
from support.upstream import Seen, Upstream

Json = Any

NDJSON: Final = (("content-type", "application/x-ndjson"),)
MODELS: Final = ("qwen3:8b", "gemma:2b", "all-minilm:latest")  # thinks and sees and calls; only chats; only embeds
CONTEXT: Final = 2048  # tokens, where no `num_ctx` is given; a token is a character here
MEMBERS: Final[dict[str, Any]] = {
    "model": str,
    "messages": list,
    "stream": bool,
    "tools": list,
    "keep_alive": (str, int, float),
    "think": (bool, str),
    "format": (str, dict),
    "options": dict,
    "logprobs": bool,
    "top_logprobs": int,
    "truncate": bool,
    "shift": bool,
}
OPTIONS: Final[dict[str, Any]] = {
    **dict.fromkeys(("num_ctx", "num_predict", "num_gpu", "num_keep", "seed", "top_k", "repeat_last_n"), int),
    **dict.fromkeys(("temperature", "top_p", "min_p", "typical_p", "repeat_penalty"), (int, float)),
    **dict.fromkeys(("presence_penalty", "frequency_penalty"), (int, float)),
    "stop": list,
}
MESSAGE: Final = {"role", "content", "images", "thinking", "tool_calls", "tool_name", "tool_call_id"}
EMBEDDING: Final = {"model", "input", "truncate", "dimensions", "options", "keep_alive"}
DURATION: Final = re.compile(r"-?(\d+(\.\d+)?(ms|s|m|h))+")


class Wrong(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Ollama(Upstream):
    """Says how many messages it got, calls every tool that it is given, thinks when it is told to."""

    def _script(self, seen: Seen) -> Script:
        with self._arrived:
            self.requests.append(seen)
            scripted = self._overrides.get(seen.model)
            self._arrived.notify_all()
        if scripted:
            return scripted.popleft() if len(scripted) > 1 else scripted[0]
        try:
            return answer(seen)
        except Wrong as wrong:
            return Script(wrong.status, JSON, (json.dumps({"error": str(wrong)}).encode(),))


def answer(seen: Seen) -> Script:
    match seen.method, seen.path:
        case "GET", "/api/tags":
            return Script(frames=(json.dumps({"models": [{"name": name, "model": name} for name in MODELS]}).encode(),))
        case "POST", "/api/chat":
            judge(seen.json)
            return chat(seen.json)
        case "POST", "/api/embed":
            judge_embedding(seen.json)
            vectors = [[float(len(text)), -0.5] for text in seen.json["input"]]
            found = {"model": seen.model, "embeddings": vectors, "prompt_eval_count": sum(map(len, seen.json["input"]))}
            return Script(frames=(json.dumps(found).encode(),))
    return Script(404, (("content-type", "text/plain"),), (b"404 page not found",))


# ---- rules -----------------------------------------------------------------------------------------------------


def require(good: bool, text: str, status: int = 400) -> None:
    if not good:
        raise Wrong(status, text)


def judge(body: Json) -> None:
    """What the server refuses, and what it would quietly ignore: both are faults of who sent it."""
    for name, value in body.items():
        require(name in MEMBERS and isinstance(value, MEMBERS[name]), f"json: cannot unmarshal field {name}")
    model = body["model"]
    require(model in MODELS, f"model '{model}' not found", 404)
    require(model != "all-minilm:latest", f'"{model}" does not support chat')
    options = body.get("options", {})
    for name, value in options.items():
        require(name in OPTIONS and isinstance(value, OPTIONS[name]), f"invalid option {name}")
    keep = body.get("keep_alive", "5m")
    require(not isinstance(keep, str) or bool(DURATION.fullmatch(keep)), f'time: invalid duration "{keep}"')
    think = body.get("think", False)
    require(think in (True, False, "low", "medium", "high", "max"), f"invalid think value: {think!r}")
    clever = model == "qwen3:8b"
    require(not think or clever, f'"{model}" does not support thinking')
    require(not body.get("tools") or clever, f"registry.ollama.ai/library/{model} does not support tools")
    require(body.get("format", "json") == "json" or isinstance(body["format"], dict), "invalid format")
    for tool in body.get("tools", ()):
        require(tool.keys() == {"type", "function"} and tool["type"] == "function", "invalid tool")
        require({"name", "parameters"} <= tool["function"].keys() <= {"name", "parameters", "description"}, "bad tool")
    judge_messages(body["messages"])
    length = sum(len(message["content"]) for message in body["messages"])
    too_long = length > options.get("num_ctx", CONTEXT)
    require(body.get("truncate", True) or not too_long, "the input length exceeds the context length")


def judge_messages(messages: Json) -> None:
    called: list[str] = []
    for message in messages:
        require(message.keys() <= MESSAGE and isinstance(message.get("content"), str), "invalid message")
        require(message["role"] in ("system", "user", "assistant", "tool"), f"invalid role: {message['role']}")
        for image in message.get("images", ()):
            try:
                base64.b64decode(image, validate=True)
            except binascii.Error as error:
                raise Wrong(400, "illegal base64 data at input byte 0") from error
        for call in message.get("tool_calls", ()):
            require(isinstance(call["function"]["arguments"], dict), "json: cannot unmarshal string into arguments")
            called.append(call["function"]["name"])
        require(message["role"] != "tool" or message.get("tool_name") in called, "a result of no tool")


def judge_embedding(body: Json) -> None:
    require(body.keys() <= EMBEDDING, "json: unknown field")
    require(body["model"] in MODELS, f"model '{body['model']}' not found", 404)
    require(body["model"] == "all-minilm:latest", "this model does not support embeddings")
    require(all(isinstance(text, str) for text in body["input"]), "invalid input type")


# ---- answers ---------------------------------------------------------------------------------------------------


def chat(body: Json) -> Script:
    said = f"{len(body['messages'])} messages: {body['messages'][-1]['content']}"
    message: Json = {"content": said[: body.get("options", {}).get("num_predict", 1000)]}
    if isinstance(body.get("format"), dict):
        message["content"] = json.dumps(dict.fromkeys(body["format"].get("properties", {}), "x"))
    if images := [image for one in body["messages"] for image in one.get("images", ())]:
        message["content"] = f"{len(base64.b64decode(images[0]))} bytes"
    if body.get("think"):
        message["thinking"] = f"thinking ({body['think']})"
    if body.get("tools") and body["messages"][-1]["role"] != "tool":
        calls = [
            {"function": {"index": 0, "name": t["function"]["name"], "arguments": {"n": n}}}
            for n, t in enumerate(body["tools"])
        ]
        message = {"content": "", "tool_calls": calls}
    limited = message["content"] != said and len(message["content"]) == body.get("options", {}).get("num_predict")
    end = {"done": True, "done_reason": "length" if limited else "stop", "prompt_eval_count": 11, "eval_count": 7}
    if not body.get("stream", True):
        return Script(frames=(line(body, message, **end),))
    parts = [line(body, {"content": "", "thinking": message["thinking"]})] if "thinking" in message else []
    parts += [line(body, {"content": piece}) for piece in re.findall(r"\S+\s*", message["content"])]
    parts += [line(body, {"content": "", "tool_calls": [call]}) for call in message.get("tool_calls", ())]
    return Script(headers=NDJSON, framing="chunked", frames=(*parts, line(body, {"content": ""}, **end)))


def line(body: Json, message: Json, **members: Json) -> bytes:
    head = {"model": body["model"], "created_at": "2026-11-02T09:00:00.017249Z"}
    value = {**head, "message": {"role": "assistant", **message}, "done": False, **members}
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"
