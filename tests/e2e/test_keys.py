"""Keys of the database at a real gateway with two workers: changed beside it, by the command line and the admin API."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support import terminal
from support.gateway import KEY, Gateway
from support.raw import Answer, ask, build, post
from support.settings import FUNCTIONS

ADMIN = "admin-0123456789abcdef"
CONFIG = f'[auth]\nkeys = ["{KEY}"]\nadmin_key = "{ADMIN}"\n[limits]\nrpm = 0\n'
CALL = {"model": "echo", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    arguments = ("--workers", "2", "--functions", "models.py")
    with Gateway(CONFIG, arguments=arguments, files={"models.py": FUNCTIONS}) as running:
        yield running
        assert running.stop() == 0
        assert "Traceback" not in running.log(), running.log()
        assert ADMIN not in running.log()


def keys(gateway: Gateway, *arguments: str) -> str:
    """`polymux keys` on the same data directory."""
    limit = ("--rpm", "0") if arguments[0] == "create" else ()  # as often as it takes
    done = terminal.run(gateway.home, "keys", *arguments, *limit, "--data-dir", str(gateway.data))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def admin(gateway: Gateway, method: str, path: str, body: object = None) -> Answer:
    headers = {"authorization": f"Bearer {ADMIN}"}
    return ask(
        gateway.url, build(method, f"/admin/api{path}", headers, b"" if body is None else json.dumps(body).encode())
    )


def call(gateway: Gateway, key: str) -> Answer:
    """On a connection of its own, so that it comes to any of the workers."""
    return ask(gateway.url, post(key, CALL))


def settled(gateway: Gateway, condition: Callable[[], bool]) -> None:
    """Until every worker goes by it: twenty requests in a row must agree, for the kernel picks the worker."""
    pause = threading.Event()
    for _ in range(600):
        if all(condition() for _ in range(20)):
            return
        pause.wait(0.01)
    raise AssertionError(gateway.log())


def answers(gateway: Gateway, key: str, status: int, words: str = "") -> Callable[[], bool]:
    def condition() -> bool:
        answer = call(gateway, key)
        return answer.status == status and words in answer.body.decode()

    return condition


def test_what_the_command_line_changes_holds_on_every_worker(gateway: Gateway) -> None:
    secret = keys(gateway, "create", "--name", "ada", "--models", "ec*")
    settled(gateway, answers(gateway, secret, 200))
    keys(gateway, "update", "ada", "--models", "other")
    settled(gateway, answers(gateway, secret, 403, "model_not_allowed"))
    keys(gateway, "update", "ada", "--models", "", "--disable")
    settled(gateway, answers(gateway, secret, 401, "is disabled"))
    keys(gateway, "update", "ada", "--enable")
    settled(gateway, answers(gateway, secret, 200))
    keys(gateway, "revoke", "ada", "--yes")
    settled(gateway, answers(gateway, secret, 401, "not one of this gateway's keys"))
    assert call(gateway, KEY).status == 200


def test_an_expired_key_is_told_so(gateway: Gateway) -> None:
    secret = keys(gateway, "create", "--name", "short", "--expires", "1500ms")
    settled(gateway, answers(gateway, secret, 401, "the Authorization header expired on 20"))
    assert secret not in gateway.log()


def test_both_keys_are_good_after_a_rotation(gateway: Gateway) -> None:
    old = keys(gateway, "create", "--name", "turning")
    new = keys(gateway, "rotate", "turning")
    settled(gateway, answers(gateway, new, 200))
    assert call(gateway, old).status == 200
    last = keys(gateway, "rotate", "turning", "--overlap", "0")
    settled(gateway, answers(gateway, last, 200))
    for gone in (old, new):
        assert call(gateway, gone).status == 401


def test_the_whole_life_of_a_key_by_the_admin_api(gateway: Gateway) -> None:
    made = admin(gateway, "POST", "/keys", {"name": "by api", "rpm": 0, "expires_at": "30d"})
    assert made.status == 201
    key: dict[str, Any] = made.json()
    path = f"/keys/{key['id']}"
    settled(gateway, answers(gateway, key["key"], 200))
    assert admin(gateway, "GET", "/keys/by%20api").json()["id"] == key["id"]
    assert admin(gateway, "PATCH", path, {"rpm": 1}).json()["rpm"] == 1
    settled(gateway, answers(gateway, key["key"], 429, "rate_limit_exceeded"))
    assert admin(gateway, "PATCH", path, {"rpm": 0}).status == 200
    new = admin(gateway, "POST", f"{path}/rotate", {"overlap": 0}).json()["key"]
    settled(gateway, answers(gateway, new, 200))
    settled(gateway, answers(gateway, key["key"], 401))
    gone = admin(gateway, "DELETE", path)
    assert (gone.status, gone.body) == (204, b"")
    settled(gateway, answers(gateway, new, 401))
    assert admin(gateway, "GET", path).status == 404
    actions = [
        note["action"] for note in admin(gateway, "GET", "/audit").json()["data"] if note["subject"] == key["id"]
    ]
    assert actions == ["revoke", "rotate", "update", "update", "create"]


def test_a_reload_leaves_the_keys_of_the_database(gateway: Gateway) -> None:
    secret = keys(gateway, "create", "--name", "staying")
    settled(gateway, answers(gateway, secret, 200))
    (gateway.home / "polymux.toml").write_text(CONFIG.replace(KEY, "sk-other-0123456789"), "utf-8")
    assert admin(gateway, "POST", "/reload").status == 200
    settled(gateway, answers(gateway, KEY, 401))
    settled(gateway, answers(gateway, "sk-other-0123456789", 200))
    assert call(gateway, secret).status == 200
    (gateway.home / "polymux.toml").write_text(CONFIG, "utf-8")
    assert admin(gateway, "POST", "/reload").status == 200
    settled(gateway, answers(gateway, KEY, 200))


def test_client_keys_do_not_open_the_admin_api(gateway: Gateway) -> None:
    secret = keys(gateway, "create", "--name", "curious")
    settled(gateway, answers(gateway, secret, 200))
    for method, path in (("GET", "/keys"), ("POST", "/keys"), ("DELETE", "/keys/curious"), ("GET", "/audit")):
        answer = ask(gateway.url, build(method, f"/admin/api{path}", {"authorization": f"Bearer {secret}"}, b"{}"))
        assert (answer.status, answer.json()["error"]["code"]) == (401, "invalid_api_key")


def test_models_and_deployments_are_told(gateway: Gateway) -> None:
    served = {model["id"]: model["deployments"] for model in admin(gateway, "GET", "/models").json()["data"]}
    assert served["echo"] == ["functions/echo"]
    found = {one["id"]: one["routes"] for one in admin(gateway, "GET", "/deployments").json()["data"]}
    assert found["functions/echo"] == [{"name": "echo", "weight": 1}]


def test_no_secret_is_kept_or_logged(gateway: Gateway) -> None:
    secret = keys(gateway, "create", "--name", "hidden")
    settled(gateway, answers(gateway, secret, 200))
    for path in gateway.data.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path
            assert path.stat().st_mode & 0o077 == 0, path
    assert secret not in gateway.log()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_gateway_without_a_good_database_does_not_start(tmp_path: Path, workers: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "polymux.db").write_bytes(b"nonsense " * 1000)
    done = terminal.run(tmp_path, "serve", "--port", "0", "--workers", workers, "--data-dir", "data")
    assert done.returncode == 1
    assert re.search(r"^Error: data/polymux\.db is damaged, or is no database", done.stderr, re.MULTILINE)
    assert "is running at" not in done.stdout


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_gateway_that_cannot_write_does_not_start(tmp_path: Path, workers: str) -> None:
    """Linux lets nobody write there, root neither."""
    done = terminal.run(tmp_path, "serve", "--port", "0", "--workers", workers, "--data-dir", "/proc/polymux")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Error: cannot write to the data directory /proc/polymux: No such file or directory\n" in done.stderr
