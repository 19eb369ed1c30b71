"""Secrets never leave: one in each place where one can stand, requests of all kinds, and a look into every sink."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from support.gateway import Gateway
from support.raw import ask, build, post
from support.scripts import JSON, SSE, Ask, Script, choose
from support.upstream import Seen, Upstream

# Shapes that no pattern knows: only who knows them can hide them. `/` and `+` are escaped in JSON and in URLs.
CANARIES: Final = {
    name: f"cnry/{name}+Q7x9{name[::-1]}Zz" for name in ("key1", "key2", "team", "client", "client2", "admin", "solo")
} | {name: f"cnry-{name}-Q7x9{name[::-1]}Zz" for name in ("user", "pass", "proxyuser", "proxypass", "query")}
STRANGER: Final = "cnry-stranger-Q7x9regnartsZz"  # a client's own key, which nobody knows
PIECES: Final = 7


def echoes(secret: str) -> Iterator[str]:
    """What an upstream may write instead of the secret itself."""
    yield json.dumps(secret)[1:-1].replace("/", "\\/")
    yield secret.replace("/", "%2F").replace("+", "%2B")


def forms(secret: str) -> Iterator[str]:
    yield from (secret, *echoes(secret))
    yield secret[: len(secret) // 2 + 1]  # half of it is too much


def basic(user: str, password: str) -> str:
    return base64.b64encode(f"{CANARIES[user]}:{CANARIES[password]}".encode()).decode()


SECRETS: Final = tuple(
    dict.fromkeys(
        [
            *(form for secret in (*CANARIES.values(), STRANGER) for form in forms(secret)),
            *(basic("user", "pass"), basic("proxyuser", "proxypass")),
        ]
    )
)


class Parrot(Upstream):
    """Says what it was sent: each credential, in several forms."""

    def _script(self, seen: Seen) -> Script:
        self.requests.append(seen)
        dialect = "anthropic" if seen.header("anthropic-version") else "openai"
        sent = [value for name, value in seen.headers if name.lower() in ("authorization", "x-api-key", "x-team")]
        sent += [value.removeprefix("Bearer ") for value in sent]
        said = " | ".join(dict.fromkeys(one for value in sent for one in (value, *echoes(value))))
        name, _, argument = seen.model.partition("-")
        error = {"type": "api_error", "code": said, "message": f"refused: {said}", "param": said}
        if name == "echo":  # in an error, with a status
            body = json.dumps({"type": "error", "error": error}).replace("/", "\\/").encode()
            return Script(int(argument), (*JSON, ("x-request-id", said)), (body,))
        if name == "plain":
            return Script(int(argument), (("content-type", "text/plain"),), (said.encode(),))
        if name == "inside":  # in a stream, in pieces
            data = b"event: error\ndata: %b\n\n" % json.dumps({"type": "error", "error": error}).encode()
            good = choose(Ask(dialect, "text", seen.json)).frames[: int(argument)]
            pieces = tuple(data[at : at + PIECES] for at in range(0, len(data), PIECES))
            return Script(headers=SSE, framing="chunked", frames=(*good, *pieces))
        return choose(Ask(dialect, seen.model, seen.json or {}))


def config(upstream: Upstream, form: str) -> str:
    c, port = CANARIES, upstream.port
    login = f"{c['user']}:{c['pass']}"
    return f"""
[server]
debug = true
log = "{form}"

[auth]
keys = ["{c["client"]}", "{c["client2"]}"]
admin_key = "{c["admin"]}"

[defaults]
retries = 0

[providers.corp]
preset = "openai-compatible"
base_url = "http://{login}@127.0.0.1:{port}/v1"
api_key = ["{c["key1"]}", "{c["key2"]}"]
headers = {{ "x-team" = "{c["team"]}" }}

[providers.claude]
preset = "anthropic-compatible"
base_url = "{upstream.url}"
api_key = "{c["solo"]}"

[providers.gone]
preset = "openai-compatible"
base_url = "http://{login}@127.0.0.1:1/v1"
api_key = "{c["key1"]}"
models = ["text"]

[providers.behind]
preset = "openai-compatible"
base_url = "https://llm.example/v1"
api_key = "{c["key1"]}"
models = ["text"]
proxy = "http://{c["proxyuser"]}:{c["proxypass"]}@127.0.0.1:{port}"
"""


MODELS: Final = (
    *("corp/text", "claude/text", "corp/echo-400", "corp/echo-401", "claude/echo-401", "corp/echo-403"),
    *("corp/echo-404", "corp/echo-429", "corp/echo-500", "claude/echo-500", "corp/plain-400", "claude/plain-502"),
    *("corp/inside-0", "corp/inside-3", "claude/inside-0", "claude/inside-4", "gone/text", "behind/text", "nowhere"),
    *("corp/html", "corp/malformed", "corp/reset", "corp/cut-3"),
)


def talk(gateway: Gateway) -> list[str]:
    """Everything a client gets to see: heads and bodies."""
    found: list[str] = []

    def tell(answer: Any) -> None:
        found.extend((repr(dict(answer.headers)), answer.body.decode("utf-8", "replace")))

    message = [{"role": "user", "content": "Hi"}]
    for model in MODELS:
        for stream in (False, True):
            tell(gateway.post({"model": model, "messages": message, "stream": stream}))
    for headers in (
        {"authorization": f"Bearer {STRANGER}"},
        {"authorization": STRANGER},
        {"authorization": f"Basic {base64.b64encode(STRANGER.encode()).decode()}"},
        {"x-api-key": STRANGER},
        {"api-key": f'"{STRANGER}"'},
    ):
        tell(ask(gateway.url, build("GET", "/v1/models", headers)))
    for path in ("/", "/v1/models", "/health", "/openapi.json", "/metrics", "/nowhere", f"/v1/chat?key={STRANGER}"):
        tell(gateway.get(path))
    tell(gateway.get("/metrics", **{"x-forwarded-for": "192.0.2.1"}))
    tell(gateway.post({"model": "corp/text"}))
    tell(ask(gateway.url, build("POST", "/v1/chat/completions", {"authorization": f"Bearer {gateway.key}"}, b"{")))
    tell(ask(gateway.url, post("", {})))
    return found


def leaks(texts: dict[str, str]) -> list[str]:
    return [
        f"{where}: {secret!r} in ...{text[max(0, text.index(secret) - 80) : text.index(secret) + 40]}..."
        for where, text in texts.items()
        for secret in SECRETS
        if secret in text
    ]


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_secret_leaves(form: str) -> None:
    with Parrot() as upstream, Gateway(config(upstream, form), key=CANARIES["client"]) as gateway:
        answers = talk(gateway)
        home = gateway.home
        assert gateway.stop() == 0
        journal = "".join(path.read_text() for path in (gateway.data / "journal").iterdir())
        file = str(home / "polymux.toml")
        printed = {
            " ".join(command): _polymux(home, *command, "--config", file)
            for command in (("check",), ("models",), ("models", "--json"))
        }
        sinks = {"answers": "\n".join(answers), "stdout and stderr": gateway.log(), "journal": journal, **printed}
        # the harness looks where something is
        assert all(sinks.values())
        assert "refused: " in sinks["answers"]
        assert "corp/echo-401" in journal
        assert re.search(r"> corp/echo-401#[12] POST", gateway.log())  # either of two keys
        assert any(seen.header("authorization") == f"Bearer {CANARIES['key1']}" for seen in upstream.requests)
        assert leaks(sinks) == []


def _polymux(home: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "polymux", *arguments]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


FAULTY: Final = f"""
[server]
database_url = 5
redis_url = "redis://:{CANARIES["pass"]}@127.0.0.1"
host = "http://{CANARIES["user"]}:{CANARIES["pass"]}@127.0.0.1"

[auth]
keys = "{CANARIES["client"]}\\n"
admin_key = ["{CANARIES["admin"]}"]

[providers.corp]
preset = "openai-compatible"
base_url = "ftp://{CANARIES["user"]}:{CANARIES["pass"]}@127.0.0.1/v1?key={CANARIES["query"]}"
api_key = {{ a = "{CANARIES["key1"]}" }}
proxy = "socks9://{CANARIES["proxyuser"]}:{CANARIES["proxypass"]}@127.0.0.1"
headers = {{ "x-team" = "{CANARIES["team"]}\\u0007" }}
"""


@pytest.mark.parametrize("command", ["check", "models", "serve"])
def test_faults_are_told_without_secrets(command: str, tmp_path: Path) -> None:
    (tmp_path / "polymux.toml").write_text(FAULTY)
    printed = _polymux(tmp_path, command)
    assert "polymux.toml:3: server.database_url" in printed
    assert leaks({command: printed}) == []


def test_a_leak_is_seen() -> None:
    (leak,) = leaks({"log": f"the key is {CANARIES['team'][:-2]}"})
    assert leak.startswith("log: ")
