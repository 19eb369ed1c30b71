"""Fixtures: one scripted provider and one gateway in front of it for the whole session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.gateway import KEY, Gateway
from support.settings import FUNCTIONS, providers
from support.upstream import Upstream


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
        running.stop()
        assert "Traceback" not in running.log(), running.log()


@pytest.fixture
def gateway(shared_gateway: Gateway, upstream: Upstream) -> Gateway:
    """The gateway that all tests share: no retries, no limits that matter."""
    return shared_gateway
