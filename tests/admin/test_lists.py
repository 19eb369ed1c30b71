"""`/admin/api/models` and `/admin/api/deployments`: what would be served now."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.admin.office import STATIC, Exchange, Office

from polymux.admin.lists import list_deployments, list_models


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path)
    yield made
    made.database.close()


def test_models_and_what_is_behind_them(office: Office) -> None:
    assert office.ask(list_models).told == {
        "data": [
            {
                "id": "smart",
                "owner": "polymux",
                "strategy": "ordered",
                "deployments": ["corp/large", "other/big"],
                "fallbacks": ["quick"],
            },
            {
                "id": "quick",
                "owner": "polymux",
                "strategy": "weighted",
                "deployments": ["corp/large"],
                "fallbacks": [],
            },
        ],
        "next": None,
    }


def test_deployments_and_what_they_serve(office: Office) -> None:
    told = office.ask(list_deployments).told
    routes = [{"name": "smart", "weight": 3}, {"name": "quick", "weight": 1}]
    assert told == {
        "data": [
            {"id": "corp/large", "provider": "corp", "model": "large", "dialect": "openai", "routes": routes},
            {
                "id": "other/big",
                "provider": "other",
                "model": "big",
                "dialect": "openai",
                "routes": [{"name": "smart", "weight": 1}],
            },
        ],
        "next": None,
    }
    assert "secret" not in str(told)


@pytest.mark.parametrize("handler", [list_models, list_deployments])
def test_they_are_for_the_administrator_and_take_no_query(office: Office, handler: Callable[..., Any]) -> None:
    exchange = Exchange(key=STATIC)
    office.give(handler, exchange)
    assert exchange.status == 401
    assert office.ask(handler, query="?limit=5").status == 400
