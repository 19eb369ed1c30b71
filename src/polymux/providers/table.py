"""The table of providers as values, and the configuration's providers and routes built from its rows."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from polymux import __version__
from polymux import config as given
from polymux.config import Config, ConfigError, Fault
from polymux.config.values import Credential, Url
from polymux.config.walk import INVALID, Walk
from polymux.providers import proxies
from polymux.providers.auth import SCHEMES
from polymux.types import Deployment, Link, Quirks

FUNCTIONS: Final = "functions"  # the built-in provider of function models
FRAMING: Final = ("host", "content-length", "content-type", "transfer-encoding")  # headers that are ours to write


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row of providers.toml; the members are explained there."""

    dialect: str
    verified: str
    base_url: str = ""
    path: str = "/v1"
    auth: str = "bearer"
    env: tuple[str, ...] = ()
    base_env: str = ""
    prefix: tuple[str, ...] = ()
    discover: bool = True
    headers: Mapping[str, str] = {}
    quirks: Quirks = Quirks()


def rows(text: str, dialects: Iterable[str]) -> Mapping[str, Row]:
    """The table. Raises ValueError naming the row and the field that is wrong."""
    found = {}
    for name, fields in tomllib.loads(text).items():
        try:
            row = msgspec.convert(fields, Row)
        except msgspec.ValidationError as error:
            raise ValueError(f"providers.toml: {name}: {error}") from None
        if row.dialect not in dialects:
            raise ValueError(f"providers.toml: {name}.dialect: {row.dialect!r} is not one of {', '.join(dialects)}")
        if row.auth not in SCHEMES:
            raise ValueError(f"providers.toml: {name}.auth: {row.auth!r} is not one of {', '.join(SCHEMES)}")
        if not row.verified.startswith(("transcript:", "doc:")) and row.verified != "none":
            raise ValueError(f"providers.toml: {name}.verified: expected transcript:ID, doc:URL,date or none")
        found[name] = row
    return found


def prefixes(table: Mapping[str, Row]) -> dict[str, str]:
    """How providers' keys begin -> the provider."""
    return {prefix: name for name, row in table.items() for prefix in row.prefix}


class Source(msgspec.Struct, frozen=True):
    """A provider ready to be called: a template deployment (without a model) for each credential, and its models."""

    name: str
    templates: tuple[Deployment, ...]
    models: Mapping[str, str] = {}  # public name -> upstream name
    discover: bool = False  # the provider itself lists them
    timed: bool = False  # the configuration gives it timeouts of its own

    def deployments(self, upstream: str, weight: int = 1) -> tuple[Deployment, ...]:
        """The ways to reach one model; several when several keys are given."""
        many = len(self.templates) > 1
        return tuple(
            msgspec.structs.replace(
                template,
                id=f"{self.name}/{upstream}" + (f"#{number}" if many else ""),
                model=upstream,
                weight=weight,
            )
            for number, template in enumerate(self.templates, 1)
        )


def sources(config: Config, table: Mapping[str, Row], env: Mapping[str, str]) -> list[Source]:
    """The providers of the file or, without a file, those whose variable is set. Raises `ConfigError`, all faults."""
    faults: list[Fault] = []
    providers = list(config.providers.values()) if config.file else _from_env(table, env)
    found = [source for one in providers if (source := _source(one, config, table, env, faults))]
    if faults:
        raise ConfigError(faults)
    return found


def _from_env(table: Mapping[str, Row], env: Mapping[str, str]) -> list[given.Provider]:
    return [
        given.Provider(name=name, preset=name)
        for name, row in table.items()
        if any(env.get(variable, "").strip() for variable in row.env)
    ]


def _source(
    one: given.Provider, config: Config, table: Mapping[str, Row], env: Mapping[str, str], faults: list[Fault]
) -> Source | None:
    def fault(field: str, message: str) -> None:
        faults.append(Fault(config.file, one.line, f"providers.{one.name}.{field}", message))

    row = table.get(one.preset)
    if row is None:
        near = get_close_matches(one.preset, table, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(table)}"
        fault("preset", f"unknown preset {one.preset!r}, {hint}")
        return None
    base = one.base_url or _variable(row.base_env, Url, env, faults) or row.base_url
    if not base:
        fault("base_url", "is missing, this preset has none of its own; expected a URL such as https://llm.example/v1")
    elif urlsplit(base).query:  # paths are put behind it
        fault("base_url", "expected a URL without a query")
    for name in one.headers:
        if name.lower() in FRAMING:
            fault(f"headers.{name}", "is a header that the gateway writes itself")
    variable = next((name for name in row.env if env.get(name, "").strip()), "")
    keys = one.api_key or ((_variable(variable, Credential, env, faults),) if variable else ())
    if not keys and row.auth != "optional":
        hint = f"give one, or set {row.env[0]}" if row.env else "give one"
        fault("api_key", f"is missing; {hint}")
    link = _link(one, base, config.file, env, faults)
    if not base or (not keys and row.auth != "optional"):
        return None
    headers = {
        "user-agent": f"polymux/{__version__}",
        **row.headers,
        **{name.lower(): value for name, value in one.headers.items()},
    }
    templates = tuple(
        Deployment(
            id=f"{one.name}/",
            provider=one.name,
            model="",
            dialect=row.dialect,
            base_url=with_path(base, row.path),
            headers=tuple({**dict(SCHEMES[row.auth](key)), **headers}.items()),
            quirks=row.quirks,
            timeouts=one.timeouts or config.defaults.timeouts,
            link=link,
        )
        for key in keys or ("",)
    )
    return Source(
        one.name,
        templates,
        one.models or {},
        discover=one.models is None and row.discover,
        timed=one.timeouts is not None,
    )


def _variable(name: str, kind: Any, env: Mapping[str, str], faults: list[Fault]) -> str:
    """What a variable says, "" for nothing of use; judged as a value of the file is."""
    walk = Walk("environment", {})
    value = walk.value(kind, env.get(name, "").strip(), (name,))
    faults += [fault for fault in walk.faults if fault not in faults]  # a variable is the same for all
    return "" if value is INVALID else value


def _link(one: given.Provider, base: str, file: str, env: Mapping[str, str], faults: list[Fault]) -> Link:
    try:
        proxy = proxies.proxy(base, one.proxy, env)
    except proxies.Unusable as error:
        proxy = ""
        fault = Fault(file, one.line, f"providers.{one.name}.proxy", str(error))
        if error.variable:
            fault = Fault("environment", 0, error.variable, str(error))
        if fault not in faults:  # a variable is the same for all
            faults.append(fault)
    return Link(one.ca_file, one.client_cert, one.client_key, one.verify, proxy, one.max_connections)


def with_path(base: str, path: str) -> str:
    """A base URL without a path gets the dialect's usual one; a final slash is dropped."""
    return base.rstrip("/") if urlsplit(base).path.strip("/") else base.rstrip("/") + path
