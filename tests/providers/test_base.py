"""The contract of a dialect: who keeps it, as far as a running program can tell."""

from __future__ import annotations

import inspect

import pytest

from polymux.providers.base import Adapter, Asked, Embedding, Lane, Reader, Relaying
from polymux.providers.dialects import DIALECTS
from polymux.providers.openai import Mender, OpenAI, Relay
from polymux.surfaces.chat import Chat
from polymux.types import Deployment, Quirks


def members(contract: type) -> set[str]:
    return {name for name in vars(contract) if not name.startswith("_")}


def methods(contract: type) -> set[str]:
    return {name for name in members(contract) if callable(getattr(contract, name))}


@pytest.mark.parametrize("adapter", DIALECTS.values(), ids=DIALECTS)
def test_adapters_take_what_the_contract_says(adapter: Adapter) -> None:
    assert all(hasattr(adapter, name) for name in members(Adapter))
    for name in methods(Adapter):
        wanted = inspect.signature(getattr(Adapter, name)).parameters
        taken = inspect.signature(getattr(type(adapter), name)).parameters
        assert list(taken) == list(wanted), name


@pytest.mark.parametrize("adapter", DIALECTS.values(), ids=DIALECTS)
def test_readers_are_new_for_each_answer_and_have_all_members(adapter: Adapter) -> None:
    first, second = adapter.reader(Asked("m", 1)), adapter.reader(Asked("m", 1))
    assert first is not second
    assert all(hasattr(first, name) for name in members(Reader))


@pytest.mark.parametrize("lane", [Relay(True), Mender(True, Quirks())], ids=lambda lane: type(lane).__name__)
def test_lanes_have_all_members(lane: Lane) -> None:
    assert all(hasattr(lane, name) for name in members(Lane))


def test_relaying_is_told_by_its_members() -> None:
    assert isinstance(OpenAI(), Relaying)
    assert not isinstance(Chat(), Relaying)
    assert not isinstance(Deployment("p/m", "p", "m", "x"), Relaying)


@pytest.mark.parametrize("adapter", DIALECTS.values(), ids=DIALECTS)
def test_those_that_make_embeddings_take_what_the_contract_says(adapter: Adapter) -> None:
    if not isinstance(adapter, Embedding):
        assert not hasattr(adapter, "embed")
        return
    for name in methods(Embedding):
        wanted = inspect.signature(getattr(Embedding, name)).parameters
        assert list(inspect.signature(getattr(type(adapter), name)).parameters) == list(wanted), name
