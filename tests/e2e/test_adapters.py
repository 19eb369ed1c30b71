"""The dialect of the documentation, through the real gateway: whole, streamed, cut short, failing, reloaded."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

from support.gateway import KEY, Gateway
from support.raw import Answer, ask, build

ADMIN: Final = "admin-0123456789abcdef"
PAGE: Final = Path(__file__).parents[2] / "docs" / "en" / "dialects.md"
EXAMPLE: Final = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)[0]


class Corp(BaseHTTPRequestHandler):
    """The server of the example."""

    asked: list[dict[str, Any]]

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(200, {"engines": ["sage-2", "sage-3"]})

    def do_POST(self) -> None:
        assert self.path == "/v3/ask"
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append(request | {"key": self.headers["authorization"]})
        said = request["turns"][-1]["content"]
        if said == "odd":
            self._answer(200, {"answer": "no tokens"})
        elif said.isdecimal():
            self._answer(int(said), {})
        elif request["stream"]:
            pieces = [{"piece": word} for word in ("Yes, ", "it is.")] + [{"tokens": [3, 2]}]
            events = b"".join(b"data: %b\n\n" % json.dumps(one).encode() for one in pieces[: 1 if said == "cut" else 3])
            self._send(200, "text/event-stream", events)
        else:
            self._answer(200, {"answer": "Yes, it is.", "tokens": [3, 2]})

    def _answer(self, status: int, body: object) -> None:
        self._send(status, "application/json", json.dumps(body).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def corp() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The server's address, and what it was asked."""
    asked: list[dict[str, Any]] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Asked", (Corp,), {"asked": asked})) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v3", asked
        finally:
            server.shutdown()
            thread.join()


def settings(url: str, more: str = "") -> str:
    auth = f'[auth]\nkeys = ["{KEY}"]\nadmin_key = "{ADMIN}"\n'
    return f'{auth}[providers.corp]\nadapter = "corp:Corp"\nbase_url = "{url}"\napi_key = "k"\n{more}'


def reload(gateway: Gateway) -> Answer:
    return ask(gateway.url, build("POST", "/admin/api/reload", {"authorization": f"Bearer {ADMIN}"}, b""))


def test_the_dialect_of_the_documentation(corp: tuple[str, list[dict[str, Any]]]) -> None:
    url, asked = corp
    with Gateway(settings(url), files={"corp.py": EXAMPLE}) as gateway:
        whole = gateway.chat("corp/sage-2", "Is it?", max_tokens=9, seed=7, top_p=None)
        assert whole.status == 200
        assert whole.headers["x-polymux-dropped"] == "seed"
        assert whole.json()["choices"][0]["message"]["content"] == "Yes, it is."
        assert whole.json()["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        turn = {"role": "user", "content": "Is it?"}
        assert asked == [{"engine": "sage-2", "turns": [turn], "limit": 9, "stream": False, "key": "Bearer k"}]
        stream = gateway.chat("corp/sage-2", "Is it?", stream=True, stream_options={"include_usage": True})
        events = [line.removeprefix("data: ") for line in stream.body.decode().split("\n\n") if line]
        assert events.pop() == "[DONE]"
        chunks = [json.loads(event) for event in events]
        said = [choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"]]
        assert "".join(said) == "Yes, it is."
        assert chunks[-1]["usage"]["total_tokens"] == 5
        cut = gateway.chat("corp/sage-2", "cut", stream=True)
        assert "upstream_truncated" in cut.body.decode()
        assert "[DONE]" not in cut.body.decode()
        assert gateway.chat("corp/sage-2", "429").json()["error"]["code"] == "upstream_rate_limited"
        assert gateway.chat("corp/sage-2", "401").json()["error"]["code"] == "upstream_auth_failed"


def test_its_own_failure_is_told_by_its_name(corp: tuple[str, list[dict[str, Any]]]) -> None:
    url, _ = corp
    with Gateway(settings(url), files={"corp.py": EXAMPLE}) as gateway:
        answer = gateway.chat("corp/sage-2", "odd")
        assert answer.status == 502
        assert "the adapter corp:Corp failed with KeyError" in answer.json()["error"]["message"]
        assert gateway.chat("corp/sage-2").status == 200
        gateway.stop()
        assert gateway.said("KeyError: 'tokens'")


def test_its_models_are_listed(corp: tuple[str, list[dict[str, Any]]]) -> None:
    url, _ = corp
    with Gateway(settings(url), files={"corp.py": EXAMPLE}) as gateway:
        names: set[str] = set()
        while names != {"sage-2", "sage-3"}:  # they come in the background
            names = {model["id"] for model in gateway.get("/v1/models").json()["data"]}
        assert gateway.chat("sage-3").status == 200


def test_a_reload_takes_up_a_dialect_and_a_bad_one_changes_nothing(corp: tuple[str, list[dict[str, Any]]]) -> None:
    url, _ = corp
    with Gateway(f'[auth]\nkeys = ["{KEY}"]\nadmin_key = "{ADMIN}"\n', files={"corp.py": EXAMPLE}) as gateway:
        assert gateway.chat("corp/sage-2").status == 404
        file = gateway.home / "polymux.toml"
        file.write_text(settings(url))
        assert reload(gateway).status == 200
        assert gateway.chat("corp/sage-2").status == 200
        file.write_text(settings(url, '[providers.more]\nadapter = "corp:Nobody"\nbase_url = "http://x.example"\n'))
        refused = reload(gateway)
        assert refused.status == 400
        assert "providers.more.adapter: corp:Nobody: corp has no class 'Nobody'" in refused.body.decode()
        assert gateway.chat("corp/sage-2").status == 200
        file.write_text(settings(url, '[providers.more]\nadapter = "corp:Reader"\nbase_url = "http://x.example"\n'))
        assert "missing 1 required positional argument: 'asked'" in reload(gateway).body.decode()
        file.write_text(settings(url, f'[providers.more]\nadapter = "corp:Corp"\nbase_url = "{url}"\n'))
        assert reload(gateway).status == 200
        assert gateway.chat("more/sage-2").status == gateway.chat("corp/sage-2").status == 200
