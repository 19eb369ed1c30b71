"""A Gemini API on a real socket that keeps Google's rules, thought signatures among them. Stateless, as Google is: what
it signs follows from the question and from how often it has called since.

Sources: those of `tests.providers.gemini_rules`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any, Final

from tests.providers.gemini_rules import complaint

from polymux.mock.scripts import JSON, SSE, Script
from support.upstream import Seen, Upstream

Json = dict[str, Any]

KEY: Final = "AIza-test"
MODELS: Final = ("gemini-3.5-flash", "gemini-2.5-flash", "gemini-embedding-001")
TURNS: Final = 3  # steps of calls before the answer
FINAL: Final = "It is warm."
DUMMY: Final = "skip_thought_signature_validator"
_METHOD: Final = re.compile(r"/v1beta/models/([^/:]+):(\w+)(\?alt=sse)?")


def signature(question: str, step: int) -> str:
    return base64.b64encode(hashlib.sha256(f"{question} {step}".encode()).digest()).decode()


class Google(Upstream):
    """Calls `look` twice, then once without an id, then once more; then it answers."""

    def _script(self, seen: Seen) -> Script:
        with self._arrived:
            self.requests.append(seen)
            self._arrived.notify_all()
        return answer(seen)


def answer(seen: Seen) -> Script:
    if seen.header("x-goog-api-key") != KEY or "key=" in seen.path:
        return refused(400, "INVALID_ARGUMENT", "API key not valid.", reason="API_KEY_INVALID")
    if (seen.method, seen.path) == ("GET", "/v1beta/models?pageSize=1000"):
        return whole({"models": [{"name": f"models/{name}"} for name in MODELS]})
    found = _METHOD.fullmatch(seen.path)
    if seen.method != "POST" or not found or found[1] not in MODELS:
        return refused(404, "NOT_FOUND", f"{seen.path} is not found for API version v1beta.")
    if found[2] == "batchEmbedContents":
        texts = [one["content"]["parts"][0]["text"] for one in seen.json["requests"]]
        return whole({"embeddings": [{"values": [float(len(text)), -0.5]} for text in texts]})
    if wrong := complaint(seen.json, found[1]) or unsigned(seen.json["contents"]):
        return refused(400, "INVALID_ARGUMENT", wrong)
    pieces = reply(seen.json)
    if found[3]:
        frames = [f"data: {json.dumps(piece)}\r\n\r\n".encode() for piece in pieces]
        return Script(headers=SSE, frames=tuple(frames), framing="chunked")
    parts = [part for piece in pieces for part in piece["candidates"][0]["content"]["parts"]]
    return whole({**pieces[-1], "candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP"}]})


# ---- rules -----------------------------------------------------------------------------------------------------


def steps_of(contents: list[Json]) -> tuple[str, list[list[Json]]]:
    """The question of the current turn, and the calls of each step since."""
    asked = [n for n, one in enumerate(contents) if one["role"] == "user" and "text" in one["parts"][0]]
    steps = [one["parts"] for one in contents[asked[-1] :] if one["role"] == "model"]
    calls = [[part for part in parts if "functionCall" in part] for parts in steps]
    return contents[asked[-1]]["parts"][0]["text"], [step for step in calls if step]


def unsigned(contents: list[Json]) -> str:
    """Each step must come back with what was signed at its first call, and at no other."""
    question, steps = steps_of(contents)
    for number, step in enumerate(steps):
        given = [part.get("thoughtSignature") for part in step]
        if given[0] not in (signature(question, number), DUMMY) or any(given[1:]):
            return f"Corrupted thought signature at step {number}: {given}"
    return ""


# ---- answers ---------------------------------------------------------------------------------------------------


def reply(body: Json) -> list[Json]:
    question, steps = steps_of(body["contents"])
    number = len(steps)
    if not body.get("tools") or number == TURNS:
        return [piece({"text": FINAL[:5]}), piece({"text": FINAL[5:]}, finishReason="STOP")]
    signed = {"thoughtSignature": signature(question, number)}
    calls: list[list[Json]] = [
        [
            {"functionCall": {"name": "look", "args": {"at": "Rome"}, "id": f"fc-{question}-0a"}, **signed},
            {"functionCall": {"name": "look", "args": {"at": "Turin"}, "id": f"fc-{question}-0b"}},
        ],
        [{"functionCall": {"name": "look", "args": {"at": "Pisa"}}, **signed}],
        [{"functionCall": {"name": "look", "args": {"at": "Siena"}, "id": f"fc-{question}-2"}, **signed}],
    ]
    pieces = [piece({"text": "hm", "thought": True}), *(piece(call) for call in calls[number])]
    return [*pieces, piece({"text": ""}, finishReason="STOP")]


def piece(part: Json, **more: Any) -> Json:
    """A piece of an answer; without its id, as older models and some front ends send it."""
    usage = {"promptTokenCount": 9, "candidatesTokenCount": 4, "thoughtsTokenCount": 5, "totalTokenCount": 18}
    candidate = {"content": {"role": "model", "parts": [part]}, "index": 0, **more}
    return {"candidates": [candidate], "usageMetadata": usage}


def whole(body: Json) -> Script:
    return Script(headers=JSON, frames=(json.dumps(body).encode(),))


def refused(status: int, name: str, message: str, reason: str = "") -> Script:
    error: Json = {"code": status, "message": message, "status": name}
    if reason:
        error["details"] = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}]
    return Script(status, JSON, (json.dumps({"error": error}).encode(),))
