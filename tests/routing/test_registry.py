"""Public names: which there are, what serves them, who may use them."""

from __future__ import annotations

import pytest

from polymux.errors import Failure
from polymux.providers.table import Source
from polymux.routing.registry import Registry, allowed, serving
from polymux.types import Deployment, Key, Route

ALL = Key("k", "k")
BASE = Route("", (), strategy="ordered", retries=7)


def source(name: str, *models: str, discover: bool = False, **renamed: str) -> Source:
    template = Deployment(f"{name}/", name, "", "openai")
    return Source(name, (template,), {model: model for model in models} | renamed, discover, discover)


def deployment(id_: str) -> Deployment:
    provider, _, model = id_.partition("/")
    return Deployment(id_, provider, model, "openai")


REGISTRY = Registry(
    [
        Route("smart", (deployment("a/gpt-4o"),), fallbacks=("solo", "nowhere", "b/both")),
        Route("taken", (deployment("b/x"),)),
    ],
    [
        source("a", "both", "taken", solo="upstream-solo"),
        source("b", "both", "org/Llama-3"),
        source("open", discover=True),
    ],
    BASE,
    created=7,
)


def served(name: str, key: Key = ALL) -> list[list[str]]:
    return [[d.id for d in route.deployments] for route in REGISTRY.find(name, key)]


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("solo", ["a/upstream-solo"]),
        ("a/solo", ["a/upstream-solo"]),
        ("taken", ["b/x"]),
        ("a/taken", ["a/taken"]),
        ("a/both", ["a/both"]),
        ("b/both", ["b/both"]),
        ("org/Llama-3", ["b/org/Llama-3"]),
        ("b/org/Llama-3", ["b/org/Llama-3"]),
        ("open/anything", ["open/anything"]),
        ("open/org/model", ["open/org/model"]),
    ],
)
def test_a_name_is_a_route_then_what_a_provider_lists_then_provider_and_model(name: str, ids: list[str]) -> None:
    assert served(name) == [ids]


def test_routes_that_nobody_wrote_have_the_defaults() -> None:
    (route,) = REGISTRY.find("open/anything", ALL)
    assert (route.name, route.strategy, route.retries) == ("open/anything", "ordered", 7)


def test_fallbacks_follow_and_those_that_lead_nowhere_are_left_out() -> None:
    assert served("smart") == [["a/gpt-4o"], ["a/upstream-solo"], ["b/both"]]


@pytest.mark.parametrize("name", ["both", "Solo", "a/other", "nobody/x", "open/", "open", "", "/", "a/upstream-solo"])
def test_other_names_do_not_exist(name: str) -> None:
    with pytest.raises(Failure) as found:
        REGISTRY.find(name, ALL)
    assert (found.value.kind, found.value.param, found.value.status) == ("model_not_found", "model", 404)


def test_the_names_that_are_shown() -> None:
    assert REGISTRY.names(ALL) == [
        ("smart", "polymux"),
        ("taken", "polymux"),
        ("a/both", "a"),
        ("b/both", "b"),
        ("solo", "a"),
        ("org/Llama-3", "b"),
    ]


def test_what_is_shown_can_be_asked_for() -> None:
    for name, _ in REGISTRY.names(ALL):
        assert REGISTRY.find(name, ALL)


@pytest.mark.parametrize(
    ("globs", "name", "fits"),
    [
        ((), "anything", True),
        (("a/*",), "a/x/y", True),
        (("a/*",), "b/x", False),
        (("gpt-4?",), "gpt-4o", True),
        (("x", "smart"), "smart", True),
        (("SMART",), "smart", False),
        (("smart",), "smarter", False),
    ],
)
def test_a_keys_globs(globs: tuple[str, ...], name: str, fits: bool) -> None:
    assert allowed(Key("k", "k", models=globs), name) is fits


def test_a_key_sees_and_uses_only_its_models() -> None:
    key = Key("k", "k", models=("smart", "b/*"))
    assert REGISTRY.names(key) == [("smart", "polymux"), ("b/both", "b")]
    assert served("smart", key)[0] == ["a/gpt-4o"]
    assert served("b/org/Llama-3", key) == [["b/org/Llama-3"]]
    for name in ("solo", "a/solo", "org/Llama-3", "open/x"):
        with pytest.raises(Failure) as found:
            REGISTRY.find(name, key)
        assert (found.value.kind, found.value.status) == ("model_not_allowed", 403)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Solo", "'solo'"),
        ("sollo", "'solo'"),
        ("llama-3", "'org/Llama-3'"),
        ("zzzzzz", "it may be called 'open/zzzzzz'"),
        ("oppen/zzzzzz", "it may be called 'open/zzzzzz'"),
        ("zzzzzz/zzzzzz", "GET /v1/models"),
        ("oppen/", "GET /v1/models"),
        ("x/smart", "'smart'"),
    ],
)
def test_an_unknown_name_hears_of_close_ones(name: str, hint: str) -> None:
    with pytest.raises(Failure, match=name) as found:
        REGISTRY.find(name, ALL)
    assert hint in found.value.message


def test_hints_tell_nothing_of_models_that_the_key_may_not_use() -> None:
    with pytest.raises(Failure) as found:
        REGISTRY.find("sollo", Key("k", "k", models=("smart",)))
    assert "solo'" not in found.value.message.replace("'sollo'", "")
    with pytest.raises(Failure, match="GET /v1/models"):
        REGISTRY.find("zzzzzz", Key("k", "k", models=("smart",)))


def test_discovered_models_make_a_new_registry() -> None:
    grown = REGISTRY.with_models("open", ["new", "solo"])
    assert ("new", "open") in grown.names(ALL)
    assert [d.id for d in grown.find("new", ALL)[0].deployments] == ["open/new"]
    assert {name for name, _ in grown.names(ALL)} >= {"a/solo", "open/solo"}
    assert "solo" not in {name for name, _ in grown.names(ALL)}, "two providers list it"
    assert grown.find("open/more", ALL), "the list may be behind"
    assert ("new", "open") not in REGISTRY.names(ALL)
    assert grown.created == 7


# ---- who serves what ---------------------------------------------------------------------------------------------


def route(name: str, *serves: tuple[str, ...]) -> Route:
    return Route(name, tuple(Deployment(f"{name}/{n}", name, "m", "x", serves=one) for n, one in enumerate(serves)))


CHAT, ALL_THREE, VECTORS = ("chat",), ("chat", "completions", "embeddings"), ("embeddings",)


def test_routes_whose_deployments_all_serve_it_stay_as_they_are() -> None:
    routes = (route("a", ALL_THREE, ALL_THREE), route("b", CHAT))
    assert serving(routes, "chat") is routes


@pytest.mark.parametrize(
    ("surface", "left"),
    [
        ("embeddings", ["a/1", "b/0"]),
        ("completions", ["a/0", "a/1", "c/0"]),
        ("chat", ["a/0", "a/1", "c/0"]),
    ],
)
def test_only_those_that_serve_it_are_left(surface: str, left: list[str]) -> None:
    routes = (route("a", CHAT, ALL_THREE), route("b", VECTORS), route("c", CHAT))
    able = serving(routes, surface)
    assert [one.id for found in able for one in found.deployments] == left
    assert all(found.deployments for found in able)


def test_when_none_does_the_client_hears_what_is_served() -> None:
    for routes, told in (
        ((route("a", CHAT),), "'a' does not serve embeddings; it serves chat and completions"),
        ((route("a", CHAT, ("chat", "completions")), route("b", CHAT)), "it serves chat and completions"),
    ):
        with pytest.raises(Failure, match=told) as found:
            serving(routes, "embeddings")
        assert (found.value.kind, found.value.status, found.value.param) == ("unsupported_operation", 400, "model")
