"""The engine and surfaces other than chat: what hooks change is read first, and rows say who serves what."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest

from polymux.hooks.base import Hook
from polymux.routing.registry import Registry
from polymux.schema.chat import Chunk
from polymux.surfaces.base import Surface
from polymux.surfaces.completions import Completions
from polymux.surfaces.embeddings import Embeddings
from polymux.types import Call, Deployment
from support.house import Client, House, route
from support.peer import looped
from support.upstream import Upstream

ALL = ("chat", "completions", "embeddings")


class Louder(Hook):
    """Changes what is said."""

    def chunk(self, call: Call, chunk: Chunk) -> Chunk | None:
        for choice in chunk.choices:
            if isinstance(choice.delta.content, str):
                choice.delta.content = choice.delta.content.upper()
        return chunk


async def ask(house: House, surface: Surface, *serves: tuple[str, ...], **body: Any) -> Client:
    """A call of a surface, served by deployments of the scripted provider that serve these."""
    to: list[Deployment] = [msgspec.structs.replace(house.openai("text"), id=f"c/{n}", serves=one)
                            for n, one in enumerate(serves)]  # fmt: skip
    client = Client(house.log)
    call = surface.decode(json.dumps({"model": "public", **body}).encode(), "req_1", house.key)
    found = route(*to)
    snapshot = msgspec.structs.replace(house.snapshot, registry=Registry((found,), (), found, 0))
    await asyncio.create_task(house.engine.run(call, surface, snapshot, client))
    return client


@pytest.mark.parametrize("stream", [False, True])
@looped
async def test_a_completion_that_hooks_change_goes_over_chat(upstream: Upstream, stream: bool) -> None:
    house = House(upstream, (Louder(),))
    client = await ask(house, Completions(), ALL, prompt="Once", stream=stream)
    assert upstream.wait("text").path == "/v1/chat/completions"
    assert client.status == 200
    chunks = [json.loads(event) for event in client.events()[:-1]] if stream else [client.json()]
    assert "".join(choice["text"] for chunk in chunks for choice in chunk["choices"]) == "HELLO, 世界!"
    assert house.record.surface == "completions"


@looped
async def test_embeddings_have_nothing_that_hooks_could_change(upstream: Upstream) -> None:
    house = House(upstream, (Louder(),))
    client = await ask(house, Embeddings(), ALL, input=["a", "b"], encoding_format="base64", novelty=1)
    assert upstream.wait("text").path == "/v1/embeddings"
    assert [type(one["embedding"]) for one in client.json()["data"]] == [str, str]
    assert client.json()["model"] == "public"
    assert client.head["x-polymux-dropped"] == "novelty"
    assert (house.record.surface, house.record.input_tokens, house.record.usage_source) == ("embeddings", 2, "upstream")


@pytest.mark.parametrize(
    ("surface", "serves", "path"),
    [
        (Completions(), ALL, "/v1/completions"),
        (Completions(), ("completions",), "/v1/completions"),
        (Completions(), ("chat",), "/v1/chat/completions"),
        (Embeddings(), ("embeddings",), "/v1/embeddings"),
    ],
)
@looped
async def test_rows_say_which_way_it_goes(
    upstream: Upstream, surface: Surface, serves: tuple[str, ...], path: str
) -> None:
    client = await ask(House(upstream), surface, serves, prompt="Once", input="Hi")
    assert client.status == 200
    assert [seen.path for seen in upstream.seen("text")] == [path]


@pytest.mark.parametrize(
    ("surface", "serves"),
    [(Embeddings(), ("chat", "completions")), (Completions(), ("embeddings",)), (Embeddings(), ("chat",))],
)
@looped
async def test_who_does_not_serve_it_is_not_asked(
    upstream: Upstream, surface: Surface, serves: tuple[str, ...]
) -> None:
    house = House(upstream)
    client = await ask(house, surface, serves, prompt="Once", input="Hi")
    assert (client.status, client.json()["error"]["code"]) == (400, "unsupported_operation")
    assert upstream.seen("text") == []
    assert (house.record.status, house.record.attempts) == (400, 0)
