"""The tokens that requests share: asked for once, renewed in time, let go when they are refused."""

from __future__ import annotations

import asyncio
import json
from typing import Final

import pytest

from polymux import tokens
from polymux.errors import Failure
from polymux.tokens import Tokens
from polymux.transport import Transport
from polymux.types import Deployment, Grant
from support.peer import Listener, looped, until

BARE: Final = (("user-agent", "polymux"),)


def to(server: Listener, model: str = "m", secret: str = "s") -> Deployment:
    grant = Grant(f"{server.url}/token", "app", secret, "scope")
    return Deployment(f"p/{model}", "p", model, "openai", "http://llm.example", BARE, grant=grant)


def given(token: str, seconds: float) -> bytes:
    body = json.dumps({"access_token": token, "expires_in": seconds}).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


@looped
async def test_all_requests_share_one_token() -> None:
    transport = Transport()
    kept = Tokens(transport)
    async with Listener() as server:
        asking = [asyncio.create_task(kept.signed(to(server, name))) for name in ("a", "b", "a")]
        peer = await server.accept()
        request = await peer.request()
        assert request.startswith(b"POST /token ")
        assert b"content-type: application/x-www-form-urlencoded\r\n" in request
        assert b"content-type: application/json" not in request
        await peer.send(given("t1", 3600))
        signed = await asyncio.gather(*asking)
        assert [one.id for one in signed] == ["p/a", "p/b", "p/a"]
        assert {one.headers for one in signed} == {(*BARE, ("authorization", "Bearer t1"))}
        later = await kept.signed(to(server, "c"))
        assert later.headers is signed[0].headers, "the transport knows a request's head by it"
        await transport.close()


@looped
async def test_another_secret_is_another_token() -> None:
    transport = Transport()
    kept = Tokens(transport)
    async with Listener() as server:
        first = asyncio.create_task(kept.signed(to(server)))
        peer = await server.accept()
        await peer.answer(given("t1", 3600))
        await first
        second = asyncio.create_task(kept.signed(to(server, secret="rotated")))
        assert b"client_secret=rotated" in await peer.request()
        await peer.send(given("t2", 3600))
        assert ("authorization", "Bearer t2") in (await second).headers
        await transport.close()


@looped
async def test_a_provider_without_a_grant_is_left_alone() -> None:
    plain = Deployment("p/m", "p", "m", "openai")
    kept = Tokens(Transport())
    assert await kept.signed(plain) is plain
    kept.refused(plain)


@looped
async def test_a_token_is_renewed_in_the_background_before_its_end() -> None:
    transport = Transport()
    kept = Tokens(transport)
    async with Listener() as server:
        first = asyncio.create_task(kept.signed(to(server)))
        peer = await server.accept()
        await peer.answer(given("t1", 3600))
        await first
        (held,) = kept._kept.values()
        assert held.end - held.renew == pytest.approx(tokens.EARLY)
        held.renew = 0.0  # as if the time had come
        assert ("authorization", "Bearer t1") in (await kept.signed(to(server))).headers, "nobody waits"
        await peer.answer(given("t2", 3600))
        await until(lambda: held not in kept._kept.values())
        assert ("authorization", "Bearer t2") in (await kept.signed(to(server))).headers
        await transport.close()


@looped
async def test_who_leaves_does_not_take_the_others_token_along() -> None:
    transport = Transport()
    kept = Tokens(transport)
    async with Listener() as server:
        leaving = asyncio.create_task(kept.signed(to(server)))
        staying = asyncio.create_task(kept.signed(to(server)))
        peer = await server.accept()
        leaving.cancel()
        await peer.answer(given("t1", 3600))
        assert ("authorization", "Bearer t1") in (await staying).headers
        await transport.close()


@looped
async def test_a_refusal_is_told_and_the_next_request_asks_again() -> None:
    transport = Transport()
    kept = Tokens(transport)
    async with Listener() as server:
        first = asyncio.create_task(kept.signed(to(server)))
        peer = await server.accept()
        await peer.answer(b'HTTP/1.1 401 X\r\ncontent-length: 26\r\n\r\n{"error":"invalid_client"}')
        with pytest.raises(Failure, match="no access token was given: invalid_client") as caught:
            await first
        assert caught.value.kind == "upstream_auth_failed"
        second = asyncio.create_task(kept.signed(to(server)))
        await peer.answer(given("t1", 3600))
        assert ("authorization", "Bearer t1") in (await second).headers
        await transport.close()


@looped
async def test_an_answer_cut_short_is_no_token() -> None:
    transport = Transport()
    kept = Tokens(transport)
    async with Listener() as server:
        first = asyncio.create_task(kept.signed(to(server)))
        peer = await server.accept()
        await peer.answer(given("t1", 3600)[:-5])
        peer.close()
        with pytest.raises(Failure, match="ended before it was complete"):
            await first
        await transport.close()


@looped
async def test_a_token_that_is_refused_is_let_go_unless_it_is_new() -> None:
    transport = Transport()
    kept = Tokens(transport)
    async with Listener() as server:
        first = asyncio.create_task(kept.signed(to(server)))
        peer = await server.accept()
        await peer.answer(given("t1", 3600))
        await first
        kept.refused(to(server))
        assert ("authorization", "Bearer t1") in (await kept.signed(to(server))).headers, "it is not the token's fault"
        (held,) = kept._kept.values()
        held.since -= tokens.FRESH + 1
        kept.refused(to(server))
        second = asyncio.create_task(kept.signed(to(server)))
        await peer.answer(given("t2", 3600))
        assert ("authorization", "Bearer t2") in (await second).headers
        await transport.close()


@looped
async def test_nobody_is_asked_after_the_end() -> None:
    transport = Transport()
    kept = Tokens(transport)
    async with Listener() as server:
        first = asyncio.create_task(kept.signed(to(server)))
        peer = await server.accept()
        await peer.request()
        kept.close()
        with pytest.raises(asyncio.CancelledError):
            await first
        await transport.close()
