"""Asking providers for their models: what becomes of the list, and of providers that do not answer."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any, Final

import pytest

from polymux import discovery
from polymux.discovery import Discovery, ask, carried
from polymux.errors import Failure
from polymux.functions import Functions
from polymux.providers.dialects import DIALECTS
from polymux.providers.table import Source
from polymux.routing.registry import Registry
from polymux.run import Snapshot
from polymux.tokens import Tokens
from polymux.transport import Transport
from polymux.types import Deployment, Key, Route
from support.peer import Listener, looped, until

KEY: Final = Key("k", "k")


class Caller:
    def __init__(self) -> None:
        self.adapters = DIALECTS
        self.transport = Transport()
        self.tokens = Tokens(self.transport)


class Holder:
    def __init__(self, *sources: Source) -> None:
        self.snapshot = Snapshot(Registry([], sources, Route("", ()), 1), Functions({}))

    def names(self) -> set[str]:
        return {name for name, _ in self.snapshot.registry.names(KEY)}


def source(server: Listener, name: str = "corp", dialect: str = "openai", **members: Any) -> Source:
    template = Deployment(f"{name}/", name, "", dialect, f"{server.url}/v1", (("authorization", "Bearer k"),))
    return Source(name, (template,), **{"discover": True, **members})


def answer(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)


def listing(*ids: str) -> bytes:
    return answer(200, json.dumps({"object": "list", "data": [{"id": id_, "object": "model"} for id_ in ids]}).encode())


@looped
@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
async def test_a_list_is_asked_for_and_read(dialect: str) -> None:
    caller = Caller()
    async with Listener() as server:
        asking = asyncio.create_task(ask(caller, source(server, dialect=dialect)))
        peer = await server.accept()
        request = await peer.request()
        assert request.startswith(b"GET /v1/models")
        assert b"authorization: Bearer k\r\n" in request
        await peer.send(listing("a", "b/c"))
        assert list(await asking) == ["a", "b/c"]
        await caller.transport.close()


@looped
@pytest.mark.parametrize(
    ("wire", "kind"),
    [
        (answer(401, b'{"error":{"message":"no","type":"x","code":"invalid_api_key"}}'), "upstream_auth_failed"),
        (answer(404, b"<html>"), None),
        (answer(503, b""), "upstream_overloaded"),
        (answer(200, b"<html>"), "upstream_unavailable"),
        (answer(200, b'{"data":7}'), "upstream_unavailable"),
        (answer(200, b"\xff"), "upstream_unavailable"),
    ],
)
async def test_what_is_no_list_is_a_failure(wire: bytes, kind: str | None) -> None:
    caller = Caller()
    async with Listener() as server:
        asking = asyncio.create_task(ask(caller, source(server)))
        await (await server.accept()).answer(wire)
        with pytest.raises(Failure) as caught:
            await asking
        assert kind in (None, caught.value.kind)
        await caller.transport.close()


@looped
async def test_the_registry_is_replaced_when_a_list_has_come() -> None:
    caller = Caller()
    async with Listener() as server:
        holder = Holder(source(server), source(server, "fixed", discover=False, models={"own": "own"}))
        before = holder.snapshot
        keeping = Discovery(holder, caller)
        keeping.follow()
        await (await server.accept()).answer(listing("a", "b"))
        await until(lambda: holder.snapshot is not before)
        assert holder.names() == {"a", "b", "own"}
        assert {name for name, _ in before.registry.names(KEY)} == {"own"}  # who holds the old one keeps it whole
        assert server.accepted == 1  # a fixed list is not asked for
        keeping.close()
        await caller.transport.close()


@looped
async def test_a_provider_that_fails_is_warned_about_once_and_asked_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pauses: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await (real(0) if len(pauses) < 12 else asyncio.Event().wait())

    caller = Caller()
    async with Listener() as server:
        holder = Holder(source(server))
        monkeypatch.setattr(discovery.asyncio, "sleep", sleep)
        keeping = Discovery(holder, caller)
        keeping.follow()
        peer = await server.accept()
        for _ in range(10):
            await peer.answer(answer(503, b""))
        await peer.answer(listing("a"))
        while not holder.names():
            await real(0)
        monkeypatch.undo()
        keeping.close()
        await caller.transport.close()
    assert pauses[:10] == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 600.0, 600.0, 600.0]
    assert pauses[10:] == [discovery.FRESH]
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].startswith("corp: its models cannot be listed yet: ")


@looped
async def test_one_dead_provider_does_not_hold_up_another() -> None:
    caller = Caller()
    async with Listener() as dead, Listener() as server:
        holder = Holder(source(dead, "dead"), source(server))
        keeping = Discovery(holder, caller)
        keeping.follow()
        await (await dead.accept()).request()  # and never answered
        await (await server.accept()).answer(listing("a"))
        await until(lambda: holder.names() == {"a"})
        keeping.close()
        await caller.transport.close()


@looped
async def test_who_is_asked_follows_the_snapshot() -> None:
    caller = Caller()
    async with Listener() as server, Listener() as other:
        holder = Holder(source(server), source(other, "other"))
        keeping = Discovery(holder, caller)
        keeping.follow()
        first, second = await server.accept(), await other.accept()
        await first.request()
        await second.request()
        # the same, another address, and one that is new
        holder.snapshot = Holder(source(server), source(server, "other"), source(server, "third")).snapshot
        keeping.follow()
        await second.gone()  # the old address is not waited for
        peers = [await server.accept() for _ in range(2)]
        for peer in peers:
            await peer.answer(listing("x"))
        await first.send(listing("a"))
        await until(lambda: {"a", "other/x", "third/x"} <= holder.names())
        assert server.accepted == 3, "who has been asked is not asked again"
        keeping.close()
        await caller.transport.close()


@looped
async def test_a_list_is_carried_over_where_the_source_is_the_same() -> None:
    async with Listener() as server, Listener() as other:
        registry = Holder(source(server), source(server, "gone"), source(server, "moved")).snapshot.registry
        for name in ("corp", "gone", "moved"):
            registry = registry.with_models(name, [f"of-{name}"])
        new = Holder(
            source(server), source(other, "moved"), source(server, "new", discover=False, models={"own": "own"})
        )
        assert {name for name, _ in carried(registry, new.snapshot.registry).names(KEY)} == {"of-corp", "own"}


@looped
async def test_nobody_to_ask() -> None:
    keeping = Discovery(Holder(), Caller())
    keeping.follow()
    keeping.close()
