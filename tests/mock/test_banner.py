"""What the mock says when it is up: a configuration that loads and reaches it."""

from __future__ import annotations

import pytest

from polymux.app import table
from polymux.config import load
from polymux.mock.banner import banner, config, faults
from polymux.mock.faults import FAULTS
from polymux.mock.provider import Options
from polymux.providers.table import sources

URL = "http://127.0.0.1:8100"


def test_the_configuration_loads_and_reaches_both_dialects() -> None:
    found = sources(load(config(URL, Options(key="k1")), {}), table(), {})
    deployments = [source.deployments("m")[0] for source in found]
    assert [(to.id, to.dialect, to.base_url) for to in deployments] == [
        ("mock-openai/m", "openai", f"{URL}/v1"),
        ("mock-anthropic/m", "anthropic", f"{URL}/v1"),
    ]
    assert all("k1" in str(to.headers) for to in deployments)


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_one_dialect_alone(dialect: str) -> None:
    assert list(load(config(URL, Options((dialect,))), {}).providers) == [f"mock-{dialect}"]


def test_the_banner_has_the_address_the_configuration_and_the_fault() -> None:
    text = banner(URL, Options())
    assert f"running at {URL} and behaves " in text
    assert "\n    [providers.mock-openai]\n" in text
    assert f"has the fault 'stall': {FAULTS['stall'].sentence}" in banner(URL, Options(fault="stall"))


def test_all_faults_are_listed() -> None:
    lines = faults().splitlines()
    assert [line.split()[0] for line in lines] == list(FAULTS)
    assert all(line.endswith(fault.sentence) for line, fault in zip(lines, FAULTS.values(), strict=True))
