"""Which public names exist, and what serves them: a frozen value; a change makes a new one.

A name is looked up as a route of the configuration; then as a name that a provider lists; then as `provider/model`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import partial
from typing import Final

import msgspec

from polymux.errors import Failure
from polymux.providers.table import Source
from polymux.routing.names import Names
from polymux.types import OVER, Key, Route, offered

LONGEST: Final = 512  # characters of a name that only a provider may know; it goes into headers
_MOST: Final = 3  # names that it may be called by that are told


class Registry:
    """The names and their routes."""

    def __init__(self, routes: Iterable[Route], sources: Iterable[Source], base: Route, created: int) -> None:
        """`base`: the defaults of routes that no configuration wrote. `created`: Unix seconds, the models' age."""
        self.created = created
        self.sources = {source.name: source for source in sources}
        self._configured = {route.name: route for route in routes}
        self._base = base
        self._routes = dict(self._configured)
        self._owners = dict.fromkeys(self._configured, "polymux")
        listed: dict[str, list[Source]] = {}
        for source in self.sources.values():
            for public in source.models:
                listed.setdefault(public, []).append(source)
        for public, owners in listed.items():
            for source in owners:
                route = self._serve(source, public, source.models[public])
                self._routes.setdefault(f"{source.name}/{public}", route)
                if public in self._configured:
                    continue
                name = public if len(owners) == 1 else f"{source.name}/{public}"
                self._routes.setdefault(name, route)
                self._owners[name] = source.name
        self._index = Names(self._owners)

    def with_models(self, name: str, upstream: Iterable[str]) -> Registry:
        """The same with a provider's discovered list."""
        changed = dict(self.sources)
        changed[name] = msgspec.structs.replace(changed[name], models={model: model for model in upstream})
        return Registry(self._configured.values(), changed.values(), self._base, self.created)

    def names(self, key: Key) -> list[tuple[str, str]]:
        """(public name, owner) of what the key may use, as `/v1/models` shows it."""
        return [(name, owner) for name, owner in self._owners.items() if allowed(key, name)]

    def owner(self, name: str) -> str | None:
        """Who a name that is shown belongs to: a provider, or "polymux" for a route of the configuration."""
        return self._owners.get(name)

    def unknown_fallbacks(self) -> list[tuple[str, str]]:
        """(route, fallback) pairs that lead nowhere. A provider without a list of the user's may know any name."""
        if any(source.open for source in self.sources.values()):
            return []
        return [(r.name, name) for r in self._configured.values() for name in r.fallbacks if self._find(name) is None]

    def find(self, name: str, key: Key) -> Sequence[Route]:
        """The route of a public name, then its fallbacks. Raises `Failure` for an unknown or a forbidden name."""
        route = self._find(name)
        if route is None:
            raise self._unknown(name, key)
        if key.models and not allowed(key, name):
            raise Failure("model_not_allowed", f"this key may not use the model {name!r}", param="model")
        if not route.fallbacks:
            return (route,)
        others = (self._find(fallback) for fallback in route.fallbacks)
        return (route, *(other for other in others if other is not None))

    def _find(self, name: str) -> Route | None:
        route = self._routes.get(name)
        if route is not None:
            return route
        owner, slash, upstream = name.partition("/")
        source = self.sources.get(owner)
        if not slash or not upstream or source is None or not source.open or len(name) > LONGEST:
            return None  # a provider with a fixed list serves that list and nothing else
        return self._serve(source, name, upstream)

    def _serve(self, source: Source, public: str, upstream: str) -> Route:
        deployments = source.deployments(upstream)
        timeouts = deployments[0].timeouts if source.timed else self._base.timeouts
        return msgspec.structs.replace(self._base, name=public, deployments=deployments, timeouts=timeouts)

    def _unknown(self, name: str, key: Key) -> Failure:
        name = name if len(name) <= LONGEST else name[:LONGEST] + "..."
        meant = self._index.spelled(name, partial(allowed, key)) or self._elsewhere(name, key)
        if meant:
            hint = f"here it is called {' or '.join(map(repr, meant))}"
        elif like := self._index.like(name, partial(allowed, key)):
            hint = f"the closest names are {', '.join(map(repr, like))}"
        elif maybe := self._unlisted(name, key):
            hint = f"no list has it; it may be called {' or '.join(map(repr, maybe))}"
        else:
            hint = "GET /v1/models lists what there is"
        return Failure("model_not_found", f"the model {name!r} does not exist here; {hint}", param="model")

    def _elsewhere(self, name: str, key: Key) -> list[str]:
        """What it may be with a provider that may know any name."""
        owner, _, upstream = name.partition("/")
        found = [f"{one.name}/{upstream}" for one in self.sources.values() if one.open and _alike(one.name, owner)]
        return [public for public in found if upstream and allowed(key, public)]

    def _unlisted(self, name: str, key: Key) -> list[str]:
        """What it may be with a provider whose list has not come, or has none, and with one that is written so."""
        owner, slash, upstream = name.partition("/")
        if slash:
            owners = get_close_matches(owner, [one.name for one in self.sources.values() if one.open])
        else:
            owners = [one.name for one in self.sources.values() if one.open and not one.models]
        public = [f"{one}/{upstream if slash else name}" for one in owners if upstream or not slash]
        return [one for one in public if allowed(key, one)][:_MOST]


def _alike(one: str, other: str) -> bool:
    return one.casefold() == other.casefold()


def serving(routes: Sequence[Route], surface: str) -> Sequence[Route]:
    """The routes with those deployments only that can answer the surface. Raises `Failure` when there is none."""
    for route in routes:
        for one in route.deployments:
            if surface not in one.serves:
                return _able(routes, surface)
    return routes


def _able(routes: Sequence[Route], surface: str) -> Sequence[Route]:
    able, over = [], set(OVER[surface])
    for route in routes:
        deployments = tuple(one for one in route.deployments if not over.isdisjoint(one.serves))
        if deployments:
            able.append(msgspec.structs.replace(route, deployments=deployments))
    if not able:
        served = [name for name in OVER if any(name in offered([one.serves]) for one in routes[0].deployments)]
        text = f"the model {routes[0].name!r} does not serve {surface}; it serves {' and '.join(served)}"
        raise Failure("unsupported_operation", text, param="model")
    return able


def allowed(key: Key, name: str) -> bool:
    """Whether the key's globs take the name; a key without globs takes all."""
    return not key.models or any(fnmatchcase(name, glob) for glob in key.models)
