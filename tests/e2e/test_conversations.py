"""The conversation log of a real gateway: off by default, and what is kept, cleaned, read, deleted and forgotten."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from support import terminal
from support.gateway import KEY, Gateway
from support.ledger import ADMIN
from support.raw import Answer, ask, build, post
from support.settings import FUNCTIONS, providers
from support.upstream import KEY as UPSTREAM_KEY
from support.upstream import Upstream

TEXT = "Hello, 世界!"
SAYING = """
@model("say")
def say(messages, call):
    call.log("heard alice@example.com", {"order": "ACME-4711"})
    return call.chat("smart", messages)


@model("fail")
def fail(messages):
    raise KeyError("the secret detail")


@model("parrot")
def parrot(messages):
    yield from messages[-1]["content"].split("|")
"""


def start(upstream: Upstream, data: Path, *arguments: str, log: str = "") -> Gateway:
    return Gateway(
        config(upstream, log),
        arguments=("--functions", "models.py", *arguments),
        files={"models.py": FUNCTIONS + SAYING},
        data=data,
    )


def config(upstream: Upstream, log: str) -> str:
    return f"""
[auth]
keys = ["{KEY}"]
admin_key = "{ADMIN}"
[limits]
rpm = 0
[conversations]
{log}
[defaults]
retries = 0
[models.smart]
deployments = [{{ provider = "corp", model = "text" }}]
[models.clever]
deployments = [{{ provider = "claude", model = "text" }}]
{providers(upstream)}
"""


def admin(gateway: Gateway, path: str = "", method: str = "GET", body: object = None) -> Answer:
    data = b"" if body is None else json.dumps(body).encode()
    return ask(gateway.url, build(method, f"/admin/api/{path}", {"authorization": f"Bearer {ADMIN}"}, data))


def talks(gateway: Gateway, query: str = "") -> list[dict[str, Any]]:
    """What is kept, the newest first."""
    answer = admin(gateway, f"conversations{query}")
    assert answer.status == 200, answer
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def last(gateway: Gateway) -> dict[str, Any]:
    """The newest in full."""
    found: dict[str, Any] = admin(gateway, f"conversations/{talks(gateway)[0]['id']}").json()
    return found


def said(conversation: dict[str, Any]) -> Any:
    return conversation["response"]["choices"][0]["message"]["content"]


def until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(1000):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError


@pytest.fixture(scope="module")
def keeping(scripted: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Keeps what is said to some models."""
    log = """
models = ["smart", "clever", "c*/*", "say", "fail", "parrot"]
redact = ["email", "card", '/ACME-[0-9]+/']
"""
    with start(scripted, tmp_path_factory.mktemp("keeping") / "data", log=log) as running:
        yield running
        assert running.stop() == 0
        assert "kept" not in running.log(), running.log()


# ---- what is kept ------------------------------------------------------------------------------------------------


def test_nothing_is_kept_unless_it_is_asked_for(upstream: Upstream, tmp_path: Path) -> None:
    with start(upstream, tmp_path / "data") as gateway:
        for model in ("smart", "clever", "echo", "say"):
            for stream in (False, True):
                assert gateway.chat(model, stream=stream).status == 200
        assert talks(gateway) == []
        assert gateway.stop() == 0
    with closing(sqlite3.connect(tmp_path / "data" / "polymux.db")) as database:
        assert database.execute("SELECT count(*) FROM conversations").fetchone() == (0,)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("model", "provider"), [("smart", "corp"), ("clever", "claude")])
def test_whole_and_streamed_in_both_dialects(
    keeping: Gateway, upstream: Upstream, model: str, provider: str, stream: bool
) -> None:
    answer = keeping.chat(model, "Hi", stream=stream, temperature=0.5)
    assert answer.status == 200
    kept = last(keeping)
    assert kept["id"] == answer.headers["x-request-id"]
    assert (kept["model"], kept["provider"], kept["upstream_model"]) == (model, provider, "text")
    assert (kept["key_id"], kept["key_name"], kept["tenant"]) == ("static-1", "key 1", "default")
    assert (kept["status"], kept["error_code"], kept["stream"], kept["cut"]) == (200, None, stream, False)
    assert (kept["output_tokens"], kept["parent_id"], kept["notes"]) == (7, "", [])
    messages = [{"role": "user", "content": "Hi"}]
    assert kept["request"] == {"model": model, "messages": messages, "stream": stream, "temperature": 0.5}
    assert kept["response"]["object"] == "chat.completion"
    assert said(kept) == TEXT
    assert kept["response"]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("stream", [False, True])
def test_text_completions(keeping: Gateway, upstream: Upstream, stream: bool) -> None:
    """Of models that chat, and so in the same way of any other surface."""
    assert keeping.post({"model": "clever", "prompt": "Hi", "stream": stream}, "/v1/completions").status == 200
    kept = last(keeping)
    assert (kept["surface"], kept["stream"], kept["request"]["prompt"]) == ("completions", stream, "Hi")
    assert [choice["text"] for choice in kept["response"]["choices"]] == [TEXT]


def test_models_that_are_not_named_are_not_kept(keeping: Gateway, upstream: Upstream) -> None:
    assert keeping.chat("smart").status == 200
    before = talks(keeping)
    assert keeping.chat("echo").status == 200
    assert talks(keeping) == before


def test_a_key_with_log(upstream: Upstream, tmp_path: Path) -> None:
    with start(upstream, tmp_path / "data") as gateway:
        secret = admin(gateway, "keys", "POST", {"name": "ada", "log": True, "tenant": "acme"}).json()["key"]
        gateway.chat("echo", "by another")
        gateway.key = secret
        gateway.chat("echo", "kept")
        (kept,) = talks(gateway)
        assert (kept["key_name"], kept["tenant"], kept["model"]) == ("ada", "acme", "echo")
        assert said(last(gateway)) == "kept"
        admin(gateway, "keys/ada", "PATCH", {"log": False})
        gateway.chat("echo", "not any more")
        assert len(talks(gateway)) == 1


def test_what_a_function_logs_and_whom_it_asks(keeping: Gateway, upstream: Upstream) -> None:
    answer = keeping.chat("say", "order ACME-4711 of alice@example.com")
    assert answer.status == 200
    outer, inner = sorted(talks(keeping, "?limit=2"), key=lambda one: str(one["parent_id"]))
    assert (inner["model"], inner["parent_id"], outer["id"]) == ("smart", outer["id"], answer.headers["x-request-id"])
    kept = admin(keeping, f"conversations/{outer['id']}").json()
    assert kept["notes"] == ['heard [email] {"order":"[redacted]"}']
    assert kept["request"]["messages"][0]["content"] == "order [redacted] of [email]"
    assert keeping.said('heard alice@example.com {"order":"ACME-4711"}')


# ---- what ends badly ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("corp/status-500", 502, "upstream_unavailable"),
        ("fail", 500, "internal_error"),
        ("c/none", 404, "model_not_found"),
    ],
)
def test_errors_are_kept(
    keeping: Gateway, upstream: Upstream, model: str, status: int, code: str, stream: bool
) -> None:
    assert keeping.chat(model, stream=stream).status == status
    kept = last(keeping)
    assert (kept["model"], kept["status"], kept["error_code"]) == (model, status, code)
    assert kept["response"]["error"]["code"] == code
    assert "secret detail" not in json.dumps(kept)


def test_a_stream_that_breaks_is_kept_as_far_as_it_came(keeping: Gateway, upstream: Upstream) -> None:
    assert keeping.chat("corp/cut-3", stream=True).status == 200
    kept = last(keeping)
    assert (kept["status"], kept["error_code"]) == (502, "upstream_truncated")
    assert said(kept)
    assert TEXT.startswith(said(kept))
    assert kept["response"]["choices"][0]["finish_reason"] is None
    assert kept["response"]["error"]["code"] == "upstream_truncated"


def test_who_leaves(keeping: Gateway, upstream: Upstream) -> None:
    """What is read to its end all the same: tests/test_recorder.py."""
    with keeping.wire() as wire:
        body = {"model": "corp/gate", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
        wire.send(post(keeping.key, body))
        seen = upstream.wait("gate")
        seen.release(2)
        wire.head()
        assert b"Hel" in next(wire.pieces())
        wire.leave()
    seen.wait_gone()
    until(lambda: talks(keeping)[0]["model"] == "corp/gate")
    kept = last(keeping)
    assert (kept["status"], kept["error_code"]) == (499, "client_disconnected")
    assert (said(kept), kept["request"]["messages"]) == ("Hel", body["messages"])


# ---- what is taken out -------------------------------------------------------------------------------------------


def test_nothing_that_is_to_be_taken_out_reaches_the_disk(upstream: Upstream, tmp_path: Path) -> None:
    canaries = (
        "canary@example.com",
        "4111 1111 1111 1111",
        "ACME-4711",
        "sk-CanaryCanaryCanary",
        UPSTREAM_KEY,
        KEY,
        ADMIN,
    )
    image = "data:image/png;base64," + "Q0FOQVJZ" * 50
    text = " and ".join((*canaries, image))
    pieces = "|".join(text[at : at + 5] for at in range(0, len(text), 5))  # in a stream, each secret in several events
    log = 'models = ["*"]\nredact = ["email", "card", "/ACME-[0-9]+/"]'
    with start(upstream, tmp_path / "data", log=log) as gateway:
        tool = {"role": "assistant", "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f"}}]}
        tool["tool_calls"][0]["function"]["arguments"] = json.dumps({"to": text})
        for stream in (False, True):
            body = {"model": "parrot", "stream": stream, "user": canaries[0], "metadata": {"note": text}}
            assert gateway.post({**body, "messages": [tool, {"role": "user", "content": pieces}]}).status == 200
        assert len(talks(gateway)) == 2
        exported = terminal.run(gateway.home, "conversations", "export", "--data-dir", str(gateway.data)).stdout
        gateway.stop()
        stored = b"".join(path.read_bytes() for path in gateway.data.glob("polymux.db*")).decode("utf-8", "replace")
        assert "[email] and [card] and [redacted]" in exported
        assert "[image/png, 300 bytes]" in stored
        for canary in (*canaries, "Q0FOQVJZ", "Bearer"):
            assert canary not in exported, canary
            assert canary not in stored, canary


def test_names_that_clients_make_up_are_cleaned_too(keeping: Gateway, upstream: Upstream) -> None:
    assert keeping.chat("c/alice@example.com").status == 404
    assert last(keeping)["model"] == last(keeping)["request"]["model"] == "c/[email]"


def test_long_ones_are_cut(upstream: Upstream, tmp_path: Path) -> None:
    with start(upstream, tmp_path / "data", log='models = ["*"]\nmax_size = "2KiB"') as gateway:
        text = "word " * 20_000
        for stream in (False, True):
            assert gateway.chat("echo", text, stream=stream).status == 200
            kept = last(gateway)
            assert kept["cut"]
            assert "characters cut]" in said(kept)
            assert len(json.dumps(kept)) < 3000


# ---- how it is read, deleted and forgotten -----------------------------------------------------------------------


def test_lists_export_and_deletion(upstream: Upstream, tmp_path: Path) -> None:
    with start(upstream, tmp_path / "data", log='models = ["echo", "smart"]') as gateway:
        ids = [
            gateway.chat(model, f"say {n}").headers["x-request-id"] for n, model in enumerate(("echo", "smart", "echo"))
        ]
        assert [one["id"] for one in talks(gateway)] == ids[::-1]
        assert [one["id"] for one in talks(gateway, "?model=echo&since=1h&key=key+1")] == [ids[2], ids[0]]
        assert talks(gateway, "?tenant=acme") == talks(gateway, "?until=1h") == []
        page = admin(gateway, "conversations?limit=2").json()
        assert [one["id"] for one in admin(gateway, f"conversations?after={page['next']}").json()["data"]] == ids[:1]

        def exported(*arguments: str) -> list[dict[str, Any]]:
            done = terminal.run(gateway.home, "conversations", "export", "--data-dir", str(gateway.data), *arguments)
            return [json.loads(line) for line in done.stdout.splitlines()]

        lines = exported()
        assert [line["id"] for line in lines] == ids
        assert [line["request"]["messages"][0]["content"] for line in lines] == ["say 0", "say 1", "say 2"]
        assert [said(line) for line in lines] == ["say 0", TEXT, "say 2"]
        assert [line["id"] for line in exported("--model", "smart")] == [ids[1]]
        assert admin(gateway, f"conversations/{ids[1]}", "DELETE").status == 204
        assert admin(gateway, f"conversations/{ids[1]}").error()["code"] == "not_found"
        assert admin(gateway, f"conversations/{ids[1]}", "DELETE").status == 404
        assert [line["id"] for line in exported()] == [ids[0], ids[2]]
        note = admin(gateway, "audit").json()["data"][0]
        assert (note["actor"], note["action"], note["subject"]) == ("admin", "delete conversation", ids[1])
        assert admin(gateway, f"calls/{ids[1]}").status == 200, "its usage record stays"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_example_of_the_documentation(language: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / language / "conversations.md").read_text("utf-8")
    (text,), (asked, shown) = (re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL) for kind in ("toml", "json"))
    with Gateway(f'{text}[auth]\nkeys = ["{KEY}"]\n') as gateway:
        assert gateway.post(json.loads(asked)).status == 200
        gateway.stop()
        done = terminal.run(gateway.home, "conversations", "export", "--data-dir", str(gateway.data))
    line, expected = json.loads(done.stdout), json.loads(shown)
    for one in (line, expected):
        assert one["response"].pop("id") == f"chatcmpl-{one.pop('id')}"
        assert one["response"].pop("created") == int(one.pop("at"))
    assert line == expected


@pytest.mark.parametrize("path", ["conversations", "conversations/req_1"])
def test_it_is_for_the_administrator(keeping: Gateway, path: str) -> None:
    assert keeping.get(f"/admin/api/{path}").error()["code"] == "invalid_api_key"


def test_a_reload_changes_what_is_kept(upstream: Upstream, tmp_path: Path) -> None:
    with start(upstream, tmp_path / "data", log='models = ["smart"]') as gateway:
        gateway.chat("echo", "a@b.cc")
        assert talks(gateway) == []
        text = config(upstream, 'models = ["echo"]\nredact = ["email"]\nretention = "1d"')
        (gateway.home / "polymux.toml").write_text(text)
        told = admin(gateway, "reload", "POST").json()["data"]
        assert told["needs_restart"] == []
        gateway.chat("echo", "a@b.cc")
        assert said(last(gateway)) == "[email]"


def test_what_is_too_old_is_forgotten_at_the_next_start(upstream: Upstream, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with start(upstream, data, log='models = ["echo"]') as gateway:
        for text in ("old", "new"):
            gateway.chat("echo", text)
        assert len(talks(gateway)) == 2
    with closing(sqlite3.connect(data / "polymux.db")) as database, database:
        database.execute("UPDATE conversations SET at = ? WHERE body LIKE '%old%'", (time.time() - 25 * 3600,))
    with start(upstream, data, log='retention = "1d"') as gateway:
        until(lambda: len(talks(gateway)) == 1)
        assert said(last(gateway)) == "new"


def test_two_workers_keep_in_one_place(upstream: Upstream, tmp_path: Path) -> None:
    with start(upstream, tmp_path / "data", "--workers", "2", log='models = ["echo", "smart"]') as gateway:
        ids = {gateway.chat("echo", f"say {n}", stream=n % 2 == 0).headers["x-request-id"] for n in range(40)}
        until(lambda: {one["id"] for one in talks(gateway)} == ids)
        gateway.chat("smart", "the last")
        assert gateway.stop() == 0
        done = terminal.run(gateway.home, "conversations", "export", "--data-dir", str(gateway.data))
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(lines) == 41, "what had ended is kept when the gateway ends"
        assert {line["request"]["messages"][0]["content"] for line in lines} == {
            "the last",
            *(f"say {n}" for n in range(40)),
        }
