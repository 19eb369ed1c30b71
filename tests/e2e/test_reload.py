"""Reload by signal and by the admin API: all at once or not at all, and no request is dropped."""

from __future__ import annotations

import re
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme

from support.gateway import KEY, Gateway
from support.raw import Answer, ask, build, post
from support.settings import FUNCTIONS, providers
from support.upstream import Upstream

ADMIN = "admin-0123456789abcdef"
LIMITS = "[limits]\nrpm = 1000000\n"


def settings(*models: str, server: str = "", limits: str = LIMITS, admin: str = ADMIN) -> str:
    """A configuration whose routes all lead to `echo`."""
    routes = [f'[models.{name}]\ndeployments = [{{ provider = "functions", model = "echo" }}]\n' for name in models]
    return f'[server]\n{server}\n[auth]\nkeys = ["{KEY}"]\nadmin_key = "{admin}"\n{limits}\n' + "".join(routes)


def start(text: str, **more: Any) -> Gateway:
    return Gateway(text, arguments=("--functions", "models.py"), files={"models.py": FUNCTIONS}, **more)


def write(gateway: Gateway, text: str) -> None:
    (gateway.home / "polymux.toml").write_text(text)


def reload(gateway: Gateway, key: str = ADMIN, **headers: str) -> Answer:
    given = {"authorization": f"Bearer {key}", **headers}
    return ask(gateway.url, build("POST", "/admin/api/reload", given, b""))


def hang_up(gateway: Gateway, words: str) -> None:
    """SIGHUP, and wait for what the log then says."""
    assert gateway.process is not None
    before = gateway.log().count(words)
    gateway.process.send_signal(signal.SIGHUP)
    while gateway.log().count(words) == before:
        gateway.process.poll()
        assert gateway.process.returncode is None, gateway.log()


def models(gateway: Gateway) -> set[str]:
    return {model["id"] for model in gateway.get("/v1/models").json()["data"]}


@pytest.fixture
def fresh() -> Iterator[Gateway]:
    with start(settings("one")) as running:
        yield running


def test_a_reload_swaps_what_is_served(fresh: Gateway) -> None:
    assert models(fresh) == {"one", "echo", "meow"}
    write(fresh, settings("two", "three"))
    answer = reload(fresh)
    assert answer.status == 200
    assert answer.json() == {"data": {"reloaded": True, "models": 4, "workers": 1, "needs_restart": []}}
    assert models(fresh) == {"two", "three", "echo", "meow"}
    assert fresh.chat("two").status == 200
    assert fresh.chat("one").status == 404
    assert fresh.said("polymux: reloaded: 4 models, 1 worker\n")


def test_a_reload_by_signal(fresh: Gateway) -> None:
    write(fresh, settings("two"))
    hang_up(fresh, "polymux: reloaded: 3 models, 1 worker")
    assert models(fresh) == {"two", "echo", "meow"}


def test_the_environments_file_is_read_again(fresh: Gateway) -> None:
    write(fresh, settings("one").replace(KEY, "${THE_KEY}"))
    (fresh.home / ".env").write_text("THE_KEY=sk-another\n")
    assert reload(fresh).status == 200
    assert fresh.get("/v1/models").status == 401
    fresh.key = "sk-another"
    assert fresh.get("/v1/models").status == 200


def test_what_needs_a_restart_is_named(fresh: Gateway) -> None:
    write(fresh, settings("one", server="port = 9\nworkers = 2\nmax_body = 7\n") + '[ledger]\nfsync = "always"\n')
    data = reload(fresh).json()["data"]
    # the command line gives the port of the tests, so that of the file has no say
    assert data["needs_restart"] == ["server.workers", "ledger.fsync"]
    assert fresh.chat("one").status == 413, "the rest holds at once"
    assert fresh.said("a change of server.workers, ledger.fsync needs a restart")
    write(fresh, settings("one"))
    assert reload(fresh).json()["data"]["needs_restart"] == [], "it is compared with what runs"


FAULTY = settings("two").replace("deployments", "deploymints") + "[nonsense]\n"


@pytest.mark.parametrize("by", ["http", "signal"])
def test_faults_keep_what_is_served_and_are_all_told(fresh: Gateway, by: str) -> None:
    write(fresh, FAULTY)
    if by == "signal":
        hang_up(fresh, "polymux: not reloaded, the gateway goes on as it was; ")
    else:
        answer = reload(fresh)
        assert answer.status == 400
        error = answer.json()["error"]
        assert (error["type"], error["code"], error["param"]) == (
            "invalid_request_error",
            "invalid_configuration",
            None,
        )
        assert len(error["faults"]) >= 2
        assert all("polymux.toml:" in fault for fault in error["faults"])
        for fault in error["faults"]:
            assert fault in error["message"]
            assert fresh.said(fault)
    assert fresh.said('did you mean "deployments"')
    assert models(fresh) == {"one", "echo", "meow"}
    write(fresh, settings("two"))
    assert reload(fresh).status == 200


def test_a_broken_function_file_is_a_fault(fresh: Gateway) -> None:
    (fresh.home / "models.py").write_text("syntax error\n")
    answer = reload(fresh)
    assert answer.status == 400
    (fault,) = answer.json()["error"]["faults"]
    assert "models.py" in fault
    assert fresh.chat("meow").status == 200


def test_a_call_under_way_ends_as_it_began(scripted: Upstream, upstream: Upstream) -> None:
    with start(settings("one") + providers(scripted)) as gateway, gateway.wire() as wire:
        body = {"model": "corp/gate", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
        wire.send(post(KEY, body))
        seen = upstream.wait("gate")
        write(gateway, settings("two"))  # the provider is gone altogether
        assert reload(gateway).status == 200
        assert gateway.chat("corp/text").status == 404
        seen.release(1000)
        assert wire.answer().events()[-1] == b"[DONE]"


def test_a_discovered_list_is_not_lost_nor_asked_for_again(scripted: Upstream, upstream: Upstream) -> None:
    text = settings("one") + providers(scripted)
    with start(text) as gateway:
        while not {"corp/text", "claude/text"} <= (known := models(gateway)):
            assert "cannot be listed" not in gateway.log()
        for _ in range(3):
            assert reload(gateway).status == 200
            assert models(gateway) == known
    assert len([request for request in upstream.requests if request.path.startswith("/v1/models")]) == 2


def test_limits_and_the_first_key_outlive_a_reload(scripted: Upstream) -> None:
    text = settings("one", limits="[limits]\nrpm = 3\n").replace(f'keys = ["{KEY}"]', "")
    with start(text) as gateway:
        key = (gateway.data / "first-run.key").read_text().strip()
        gateway.key = key
        assert [gateway.chat("one").status for _ in range(2)] == [200, 200]
        assert reload(gateway).status == 200
        assert [gateway.chat("one").status for _ in range(2)] == [200, 429]
        assert (gateway.data / "first-run.key").read_text().strip() == key


# ---- who may ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": f"Bearer {ADMIN}"}, 200),
        ({"authorization": f"bearer  {ADMIN} "}, 200),
        ({"authorization": f"Bearer {KEY}"}, 401),
        ({"authorization": f"Bearer {ADMIN}x"}, 401),
        ({"authorization": "Bearer "}, 401),
        ({"authorization": ADMIN}, 401),
        ({}, 401),
    ],
)
def test_only_the_administrator_may(fresh: Gateway, headers: dict[str, str], status: int) -> None:
    answer = ask(fresh.url, build("POST", "/admin/api/reload", {**headers, "origin": "https://a.example"}, b""))
    assert answer.status == status
    assert "access-control-allow-origin" not in answer.headers
    assert ADMIN.encode() not in answer.body
    if status == 401:
        assert answer.error()["code"] == "invalid_api_key"
        assert answer.headers["www-authenticate"] == "Bearer"


def test_without_an_admin_key_it_is_off_and_says_how_to_switch_it_on(fresh: Gateway) -> None:
    write(fresh, settings("one", admin=""))
    assert reload(fresh).status == 200
    answer = reload(fresh, "")
    assert answer.status == 403
    assert answer.error()["code"] == "admin_key_not_set"
    assert "POLYMUX_ADMIN_KEY" in answer.error()["message"]


def test_an_admin_key_is_no_client_key(fresh: Gateway) -> None:
    fresh.key = ADMIN
    assert fresh.chat("one").status == 401


# ---- under load ------------------------------------------------------------------------------------------------


def test_no_request_is_dropped_by_twenty_reloads(scripted: Upstream, upstream: Upstream) -> None:
    """Kept connections and new ones, whole answers and streams, by functions and by a provider, while the routes
    change to and fro."""
    ended = threading.Event()
    counts = [0, 0, 0, 0]

    def kept(number: int) -> None:
        body = {"model": "corp/text", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
        with gateway.wire() as wire:
            while not ended.is_set():
                wire.send(post(KEY, body))
                answer = wire.answer()
                assert answer.status == 200
                assert answer.events()[-1] == b"[DONE]"
                counts[number] += 1

    def new(number: int) -> None:
        while not ended.is_set():
            assert gateway.chat("meow" if counts[number] % 2 else "corp/text").status == 200
            counts[number] += 1

    def reloads() -> None:
        done = 0
        while not ended.is_set() and (done < 20 or min(counts) < 20):
            write(gateway, settings("one" if done % 2 else "two") + providers(scripted))
            assert reload(gateway).status == 200
            done += 1

    with start(settings("one") + providers(scripted)) as gateway:
        load = [partial(kept, 0), partial(kept, 1), partial(new, 2), partial(new, 3)]
        assert under(load, reloads, ended) == []


def under(load: list[Callable[[], None]], work: Callable[[], None], ended: threading.Event) -> list[BaseException]:
    """Do some work while threads keep the gateway busy; what went wrong in them."""
    faults: list[BaseException] = []

    def guarded(run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException as error:
            faults.append(error)
            ended.set()

    threads = [threading.Thread(target=guarded, args=(run,)) for run in load]
    for thread in threads:
        thread.start()
    try:
        work()
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    return faults


def test_the_threads_of_old_functions_end(fresh: Gateway) -> None:
    assert fresh.process is not None

    def threads() -> int:
        return len(list(Path(f"/proc/{fresh.process.pid}/task").iterdir())) if fresh.process else 0

    assert fresh.chat("meow").status == 200
    assert reload(fresh).status == 200
    before = threads()
    for _ in range(15):
        assert fresh.chat("meow").status == 200
        assert reload(fresh).status == 200
    assert threads() <= before + 3


# ---- files that change -----------------------------------------------------------------------------------------


def test_function_files_are_served_anew_when_they_change(fresh: Gateway) -> None:
    (fresh.home / "models.py").write_text(FUNCTIONS.replace('"meow"', '"purr"'))
    while "purr" not in models(fresh):
        assert fresh.process is not None
        assert fresh.process.poll() is None
    assert fresh.chat("purr").status == 200
    assert models(fresh) == {"one", "echo", "purr"}


def test_a_function_that_a_route_needs_is_not_taken_away(fresh: Gateway) -> None:
    (fresh.home / "models.py").write_text(FUNCTIONS.replace('"echo"', '"gone"'))
    while "the function models stay as they were: " not in fresh.log():
        assert fresh.process is not None
        assert fresh.process.poll() is None
    assert fresh.chat("one").status == 200


# ---- TLS -------------------------------------------------------------------------------------------------------


def test_certificates_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("support.gateway._BANNER", re.compile(r"https://127\.0\.0\.1:(\d+)"))
    authority = trustme.CA()
    cert, key, ca = (tmp_path / name for name in ("cert.pem", "key.pem", "ca.pem"))
    authority.cert_pem.write_to_path(ca)

    def issue() -> int:
        issued = authority.issue_cert("localhost")
        issued.private_key_pem.write_to_path(key)
        issued.cert_chain_pems[0].write_to_path(cert)
        return int(ssl._ssl._test_decode_cert(str(cert))["serialNumber"], 16)

    first = issue()
    with start(settings("one", server=f'tls_cert = "{cert}"\ntls_key = "{key}"')) as gateway:
        assert serial(gateway, ca) == first
        second = issue()
        assert first != second
        hang_up(gateway, "polymux: reloaded: ")
        assert serial(gateway, ca) == second
        key.write_text("no key")
        hang_up(gateway, "cannot serve TLS: ")
        assert serial(gateway, ca) == second


def serial(gateway: Gateway, ca: Path) -> int:
    """The serial number of the certificate that a new connection is shown."""
    port = int(gateway.url.rpartition(":")[2])
    context = ssl.create_default_context(cafile=str(ca))
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as wrapped,
    ):
        return int(str(wrapped.getpeercert()["serialNumber"]), 16)
