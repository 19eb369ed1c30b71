"""Models as clients see them: lists in the background, names that are nearly right, what a model can do."""

from __future__ import annotations

import socket

import pytest

from support.gateway import KEY, Gateway
from support.settings import providers
from support.upstream import Upstream

AUTH = f'[auth]\nkeys = ["{KEY}"]\n'
OPENAI = '[providers.openai]\napi_key = "k"\nmodels = ["gpt-4o", "gpt-4o-mini"]\n'


def nobody() -> str:
    """An address where nothing listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{held.getsockname()[1]}/v1"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("GPT-4O", "here it is called 'gpt-4o'"),
        ("openai/GPT-4o", "here it is called 'gpt-4o'"),
        ("azure/gpt-4o-mini", "here it is called 'gpt-4o-mini'"),
        ("gpt-4o:latest", "here it is called 'gpt-4o'"),
        ("gpt-4o-mni", "the closest names are 'gpt-4o-mini'"),
        ("Dead/llama3", "here it is called 'dead/llama3'"),
        ("nothing-like-it", "no list has it; it may be called 'dead/nothing-like-it'"),
        ("daed/llama3", "no list has it; it may be called 'dead/llama3'"),
        ("other/llama3", "GET /v1/models lists what there is"),
    ],
)
def test_a_provider_that_is_down_stops_nothing_and_a_wrong_name_hears_of_the_right_one(name: str, words: str) -> None:
    dead = f'[providers.dead]\npreset = "openai-compatible"\nbase_url = "{nobody()}"\n'
    with Gateway(AUTH + OPENAI + dead) as gateway:
        answer = gateway.chat(name)
        assert (answer.status, answer.json()["error"]["code"]) == (404, "model_not_found")
        assert words in answer.json()["error"]["message"]
        known = [model["id"] for model in gateway.get("/v1/models").json()["data"]]
        assert known == ["gpt-4o", "gpt-4o-mini"]
        assert gateway.chat("dead/llama3").json()["error"]["code"] == "upstream_unavailable"


def test_what_a_model_can_do_is_told_with_it_and_not_in_the_list() -> None:
    with Gateway(AUTH + OPENAI) as gateway:
        found = gateway.get("/v1/models/gpt-4o").json()
        assert (found["id"], found["owned_by"], found["context_length"]) == ("gpt-4o", "openai", 128_000)
        assert "image" in found["input_modalities"]
        assert "tools" in found["capabilities"]
        assert {"temperature", "tools", "response_format"} <= set(found["supported_parameters"])
        for model in gateway.get("/v1/models").json()["data"]:
            assert set(model) == {"id", "object", "created", "owned_by"}


def test_a_model_that_one_provider_has_retired_is_asked_of_the_next() -> None:
    with Upstream() as upstream:
        route = """
[models.both]
deployments = [{ provider = "claude", model = "status-404" }, { provider = "corp", model = "text" }]
strategy = "ordered"
"""
        with Gateway(AUTH + providers(upstream) + route) as gateway:
            answer = gateway.chat("both")
            assert (answer.status, answer.headers["x-polymux-provider"]) == (200, "corp")
            alone = gateway.chat("claude/status-404")
            assert (alone.status, alone.json()["error"]["code"]) == (404, "model_not_found")
