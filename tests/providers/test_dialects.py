"""Every dialect keeps the contract, and every row of the table speaks one."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import polymux.providers
from polymux.providers.base import Relaying
from polymux.providers.dialects import DIALECTS
from polymux.types import Deployment

LISTS = {
    "ollama": "https://llm.example/api/tags",
    "azure": "https://llm.example/deployments",
    "dify": "https://llm.example/v1/info",
}
TO = Deployment("p/", "p", "", "x", "https://llm.example/v1", (("authorization", "Bearer k"),))


@pytest.mark.parametrize("name", DIALECTS)
def test_every_dialect_has_what_an_adapter_has(name: str) -> None:
    adapter = DIALECTS[name]
    for member in ("flow", "read", "reader", "failure", "models", "read_models"):
        assert callable(getattr(adapter, member))
    assert adapter.models(TO).url.partition("?")[0] == LISTS.get(name, "https://llm.example/v1/models")
    assert set(TO.headers) <= set(adapter.models(TO).headers)
    assert adapter.failure(500, {}, b"").kind == "upstream_unavailable"


def test_the_dialect_that_a_surface_speaks_relays() -> None:
    assert isinstance(DIALECTS["openai"], Relaying)


def test_the_table_speaks_all_of_them_and_no_other() -> None:
    text = (Path(polymux.providers.__file__).parent / "providers.toml").read_text("utf-8")
    assert {row["dialect"] for row in tomllib.loads(text).values()} == set(DIALECTS)
