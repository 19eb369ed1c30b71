"""`/admin/api/models` and `/admin/api/deployments`: what this worker would serve now, and by what."""

from __future__ import annotations

from typing import Final

import msgspec

from polymux.admin.api import JSON, Exchange, Front, administrator, asked
from polymux.routing.registry import Registry
from polymux.types import Key

_ALL: Final = Key("all", "all")


class ServedModel(msgspec.Struct, frozen=True):
    """A public name. owner: the provider that lists it, or "polymux" for a route of the configuration."""

    id: str
    owner: str
    strategy: str
    deployments: list[str]
    fallbacks: tuple[str, ...]


class Share(msgspec.Struct, frozen=True):
    """A deployment's part in a route."""

    name: str
    weight: int


class ServedBy(msgspec.Struct, frozen=True):
    """A deployment. model: the upstream's name. routes: the public names that it serves."""

    id: str
    provider: str
    model: str
    dialect: str
    routes: list[Share]


class ServedModelList(msgspec.Struct, frozen=True):
    data: list[ServedModel]
    next: str | None = None


class DeploymentList(msgspec.Struct, frozen=True):
    data: list[ServedBy]
    next: str | None = None


def list_models(front: Front, exchange: Exchange, rest: str) -> None:
    administrator(front, exchange)
    asked(exchange, ())
    exchange.respond(200, JSON, msgspec.json.encode(ServedModelList(served(front.snapshot.registry))))


def list_deployments(front: Front, exchange: Exchange, rest: str) -> None:
    administrator(front, exchange)
    asked(exchange, ())
    exchange.respond(200, JSON, msgspec.json.encode(DeploymentList(deployments(front.snapshot.registry))))


def served(registry: Registry) -> list[ServedModel]:
    """All public names."""
    found = []
    for name, owner in registry.names(_ALL):
        route = registry.find(name, _ALL)[0]
        ids = [deployment.id for deployment in route.deployments]
        found.append(ServedModel(name, owner, route.strategy, ids, route.fallbacks))
    return found


def deployments(registry: Registry) -> list[ServedBy]:
    """All deployments behind them."""
    found: dict[str, ServedBy] = {}
    for name, _ in registry.names(_ALL):
        for one in registry.find(name, _ALL)[0].deployments:
            row = found.setdefault(one.id, ServedBy(one.id, one.provider, one.model, one.dialect, []))
            row.routes.append(Share(name, one.weight))
    return list(found.values())
