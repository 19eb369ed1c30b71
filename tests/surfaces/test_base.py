"""The surfaces are what the contract says, and no two have a name."""

from __future__ import annotations

import inspect
from typing import get_args, get_type_hints

import pytest

from polymux.http.routes import TABLE
from polymux.providers.table import Row
from polymux.surfaces.base import Surface, Talking
from polymux.surfaces.chat import Chat
from polymux.surfaces.completions import Completions
from polymux.surfaces.embeddings import Embeddings
from polymux.types import OVER

CHAT: Talking = Chat()
COMPLETIONS: Talking = Completions()
EMBEDDINGS: Surface = Embeddings()
SURFACES = [CHAT, COMPLETIONS, EMBEDDINGS]


@pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: surface.name)
def test_every_member_of_the_contract_is_there(surface: Surface) -> None:
    contract = Surface if surface is EMBEDDINGS else Talking
    wanted = {name for cls in contract.__mro__ for name in vars(cls) if not name.startswith("_")}
    assert wanted
    for name in wanted:
        assert hasattr(surface, name), name
        if callable(getattr(surface, name)):
            asked = list(inspect.signature(getattr(contract, name)).parameters)[1:]
            assert list(inspect.signature(getattr(surface, name)).parameters) == asked, name


def test_rows_can_say_that_they_serve_each_of_them_and_no_other() -> None:
    names = get_args(get_args(get_type_hints(Row)["serves"])[0])
    assert sorted(names) == sorted(surface.name for surface in SURFACES)


def test_each_has_a_route() -> None:
    assert sorted(row.surface for row in TABLE if row.surface) == sorted(surface.name for surface in SURFACES)


def test_each_is_served_by_those_who_have_it() -> None:
    assert {surface.name: OVER[surface.name][0] for surface in SURFACES} == {name: name for name in OVER}
