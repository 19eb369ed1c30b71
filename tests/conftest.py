"""Fixtures: one scripted provider and one gateway in front of it for the whole session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.gateway import KEY, Gateway
from tests.support.upstream import KEY as UPSTREAM_KEY
from tests.support.upstream import Upstream

FUNCTIONS = """
from polymux import model


@model("echo")
def echo(messages):
    return messages[-1]["content"]


@model("meow")
def meow(messages):
    yield "喵"
    yield "!"
"""


def providers(upstream: Upstream) -> str:
    """Config of the two providers, `corp` (OpenAI) and `claude` (Anthropic), both on the scripted one."""
    return f"""
[providers.corp]
preset = "openai-compatible"
base_url = "{upstream.url}/v1"
api_key = "{UPSTREAM_KEY}"
headers = {{ "x-team" = "search" }}

[providers.claude]
preset = "anthropic-compatible"
base_url = "{upstream.url}"
api_key = "{UPSTREAM_KEY}"
"""


@pytest.fixture(scope="session")
def scripted() -> Iterator[Upstream]:
    """The scripted provider itself; tests use `upstream`."""
    with Upstream() as running:
        yield running


@pytest.fixture
def upstream(scripted: Upstream) -> Upstream:
    """The scripted provider with nothing recorded and nothing scripted."""
    scripted.clear()
    return scripted


@pytest.fixture(scope="session")
def shared_gateway(scripted: Upstream) -> Iterator[Gateway]:
    config = f"""
[auth]
keys = ["{KEY}"]

[limits]
rpm = 1000000

[defaults]
retries = 0

{providers(scripted)}
"""
    with Gateway(config, arguments=("--functions", "models.py"), files={"models.py": FUNCTIONS}) as running:
        yield running


@pytest.fixture
def gateway(shared_gateway: Gateway, upstream: Upstream) -> Gateway:
    """The gateway that all tests share: no retries, no limits that matter."""
    return shared_gateway
