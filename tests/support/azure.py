"""An Azure OpenAI resource on a real socket, with its token endpoint: addresses, credentials, deployments and the notes
of the content filter as Microsoft's reference has them."""

from __future__ import annotations

import json
import re
from typing import Any, Final
from urllib.parse import parse_qs, unquote

from polymux.mock import rules
from polymux.mock.replies import Reply
from polymux.mock.scripts import JSON, SSE, Ask, Script, render
from support.upstream import Seen, Upstream

Json = Any

KEY: Final = "azure-key-0123456789"
SECRET: Final = "entra~secret.0123456789"
SCOPE: Final = "https://cognitiveservices.azure.com/.default"
DEPLOYMENTS: Final = ("my-gpt", "filtered", "busy")
VERSIONS: Final = ("2024-10-21", "2025-04-01-preview")
SAFE: Final = {name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "sexual", "violence")}
NOTE: Final = {"choices": [], "created": 0, "id": "", "model": "", "object": ""}
_PATH: Final = re.compile(r"/openai/(?:v1|deployments/([^/]+))/(chat/completions|embeddings)")


def failed(status: int, code: str, message: str, **more: Json) -> Script:
    return Script(status, JSON, (json.dumps({"error": {"code": code, "message": message, **more}}).encode(),))


class Azure(Upstream):
    """`tokens`: the access tokens that were given, all of them good until `revoked`."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens: list[str] = []

    @property
    def token_url(self) -> str:
        return f"{self.url}/my-tenant/oauth2/v2.0/token"

    def _script(self, seen: Seen) -> Script:
        with self._arrived:
            self.requests.append(seen)
            self._arrived.notify_all()
        path, _, query = seen.path.partition("?")
        if path == "/my-tenant/oauth2/v2.0/token":
            return self._token(seen)
        bearer = (seen.header("authorization") or "").removeprefix("Bearer ")
        if seen.header("api-key") != KEY and bearer not in self.tokens:
            return failed(401, "401", "Access denied due to invalid subscription key or wrong API endpoint.")
        if (seen.method, seen.path) == ("GET", "/openai/deployments?api-version=2023-03-15-preview"):
            listed = [{"id": name, "model": "gpt-5.4-mini", "object": "deployment"} for name in DEPLOYMENTS]
            return Script(frames=(json.dumps({"data": listed, "object": "list"}).encode(),))
        found = _PATH.fullmatch(path)
        version = parse_qs(query).get("api-version", [""])[0]
        if not found or bool(found[1]) != (version in VERSIONS) or (version and version not in VERSIONS):
            return failed(404, "404", "Resource not found")
        name = unquote(found[1]) if found[1] else seen.model
        if name not in DEPLOYMENTS:
            return failed(404, "DeploymentNotFound", "The API deployment for this resource does not exist.")
        return self._answer(seen, name) if found[2] == "chat/completions" else embedded(seen)

    def _token(self, seen: Seen) -> Script:
        form = {name: values[0] for name, values in parse_qs(seen.body.decode()).items()}
        wanted = {"grant_type": "client_credentials", "client_id": "app", "client_secret": SECRET, "scope": SCOPE}
        if seen.header("content-type") != "application/x-www-form-urlencoded" or form != wanted:
            error = {"error": "invalid_client", "error_description": f"AADSTS7000215: not {form}"}
            return Script(401, JSON, (json.dumps(error).encode(),))
        self.tokens.append(f"eyJ0eXAiOiJKV1Qi.eyJuIjoxfQ.{len(self.tokens)}")
        given = {"token_type": "Bearer", "expires_in": 3599, "access_token": self.tokens[-1]}
        return Script(frames=(json.dumps(given).encode(),))

    def _answer(self, seen: Seen, name: str) -> Script:
        if fault := rules.openai(seen.json):
            return failed(400, fault[2], fault[0], param=fault[1])
        if name == "busy":
            busy = failed(429, "429", "Requests have exceeded token rate limit of your current pricing tier.")
            headers = (*JSON, ("retry-after", "6"), ("retry-after-ms", "5125"))
            return Script(429, headers, busy.frames)
        if name == "filtered":
            inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"hate": {"filtered": True}}}
            return failed(400, "content_filter", "The response was filtered.", param="prompt", innererror=inner)
        ask = Ask("openai", seen.model, seen.json)
        return noted(render(Reply(text=("Hello", ".")), ask), ask)


def noted(script: Script, ask: Ask) -> Script:
    """The answer with what the filter says of it: of the prompt first, of text that has passed later."""
    prompt = [{"prompt_index": 0, "content_filter_results": SAFE}]
    if not ask.streamed:
        whole = json.loads(script.frames[0]) | {"prompt_filter_results": prompt}
        return Script(frames=(json.dumps(whole).encode(),))
    late = {
        "index": 0,
        "finish_reason": None,
        "content_filter_results": SAFE,
        "content_filter_offsets": {"check_offset": 5},
    }
    first, *rest = script.frames
    frames = (sse({**NOTE, "prompt_filter_results": prompt}), first, sse({**NOTE, "choices": [late]}), *rest)
    return Script(headers=SSE, framing="chunked", frames=frames)


def sse(event: Json) -> bytes:
    return b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"


def embedded(seen: Seen) -> Script:
    texts = seen.json["input"] if isinstance(seen.json["input"], list) else [seen.json["input"]]
    data = [{"object": "embedding", "index": n, "embedding": [1.0, 0.5]} for n, _ in enumerate(texts)]
    usage = {"prompt_tokens": 4, "total_tokens": 4}
    return Script(frames=(json.dumps({"object": "list", "data": data, "model": "e", "usage": usage}).encode(),))
