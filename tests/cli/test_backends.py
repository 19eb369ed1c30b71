"""The gateway and the engine as backends: the same requests, the same answers, and leaving early cancels."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from polymux.app import build, prepare
from polymux.cli.backends import Backend, Gateway, Inside, chunks
from polymux.errors import Failure
from polymux.schema.chat import ChatResponse
from polymux.surfaces.assemble import gather
from polymux.types import Link
from support.gateway import KEY
from support.gateway import Gateway as Process
from support.peer import Listener, looped
from support.settings import providers
from support.upstream import Upstream

BACKENDS = ["gateway", "inside"]


@asynccontextmanager
async def backend(kind: str, home: Path, process: Process, upstream: Upstream) -> AsyncIterator[Backend]:
    made: Backend = Gateway(process.url, KEY, Link()) if kind == "gateway" else inside(home, upstream)
    try:
        yield made
    finally:
        await made.close()


def inside(home: Path, upstream: Upstream) -> Inside:
    (home / "polymux.toml").write_text("[defaults]\nretries = 0\n" + providers(upstream))
    return Inside(build(prepare(), home / "data"))


async def say(to: Backend, model: str, **members: Any) -> ChatResponse:
    request = {"model": model, "messages": [{"role": "user", "content": "Hi"}], **members}
    return gather([chunk async for chunk in chunks(to, request)])


@looped
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("kind", BACKENDS)
async def test_an_answer(kind: str, stream: bool, home: Path, gateway: Process, upstream: Upstream) -> None:
    async with backend(kind, home, gateway, upstream) as to:
        for model in ("corp/text", "claude/text"):
            answer = await say(to, model, stream=stream)
            assert (answer.choices[0].message.content, answer.model) == ("Hello, 世界!", model)
            assert answer.created > 1_700_000_000


@looped
@pytest.mark.parametrize(("model", "kind_of_failure"), [("corp/status-400", 400), ("corp/cut-1", 502), ("nope", 404)])
@pytest.mark.parametrize("kind", BACKENDS)
async def test_a_failure(
    kind: str, model: str, kind_of_failure: int, home: Path, gateway: Process, upstream: Upstream
) -> None:
    async with backend(kind, home, gateway, upstream) as to:
        with pytest.raises(Failure) as caught:
            await say(to, model, stream=True)
    assert caught.value.status == kind_of_failure


@looped
@pytest.mark.parametrize("kind", BACKENDS)
async def test_an_error_within_the_answer(kind: str, home: Path, gateway: Process, upstream: Upstream) -> None:
    async with backend(kind, home, gateway, upstream) as to:
        with pytest.raises(Failure, match="before it was complete"):
            await say(to, "corp/cut-4", stream=True)


@looped
@pytest.mark.parametrize("kind", BACKENDS)
async def test_leaving_early_cancels(kind: str, home: Path, gateway: Process, upstream: Upstream) -> None:
    async with backend(kind, home, gateway, upstream) as to:
        request = {"model": "corp/gate", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
        async with aclosing(chunks(to, request)) as answer:
            first = asyncio.ensure_future(anext(answer))
            seen = await asyncio.to_thread(upstream.wait, "gate")
            seen.release(3)
            assert (await first).choices
        await asyncio.to_thread(seen.wait_gone)


@looped
@pytest.mark.parametrize("kind", BACKENDS)
async def test_the_models(kind: str, home: Path, gateway: Process, upstream: Upstream) -> None:
    async with backend(kind, home, gateway, upstream) as to:
        assert any(name.endswith("meta/llama 3:8b") for name in await to.models())


@looped
async def test_a_name_that_only_a_provider_knows(home: Path, upstream: Upstream) -> None:
    """The providers are asked for their lists when a name is not known, and once."""
    (home / "polymux.toml").write_text(providers(upstream).partition("[providers.claude]")[0])
    to = Inside(build(prepare(), home / "data"))
    for _ in range(2):
        assert (await say(to, "tools", stream=True)).choices[0].message.content == "I have no tools."
    with pytest.raises(Failure, match="does not exist"):
        await say(to, "nope", stream=True)
    assert [seen.path for seen in upstream.requests].count("/v1/models") == 1
    await to.close()


@looped
async def test_a_provider_that_does_not_list_its_models(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = '[providers.corp]\npreset = "openai-compatible"\nbase_url = "http://127.0.0.1:1/v1"\napi_key = "k"\n'
    (home / "polymux.toml").write_text(table)
    to = Inside(build(prepare(), home / "data"))
    assert await to.models() == []
    assert "corp: its models cannot be listed" in caplog.text
    await to.close()


@looped
async def test_who_is_a_gateway(gateway: Process, upstream: Upstream) -> None:
    async with Listener() as other:
        for url, healthy in [
            (gateway.url, True),
            (upstream.url, False),
            ("http://127.0.0.1:1", False),
            (other.url, False),
        ]:
            remote = Gateway(url, "", Link())
            asked = asyncio.ensure_future(remote.healthy())
            if url == other.url:
                (await other.accept()).close()
            assert await asked is healthy
            await remote.close()
