"""The table of providers as values, and the configuration's providers and routes built from its rows."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Final, Literal
from urllib.parse import quote, urlsplit

import msgspec

from polymux import __version__
from polymux import config as given
from polymux.config import Config, ConfigError, Fault
from polymux.config.values import Credential, Url
from polymux.config.walk import INVALID, Walk
from polymux.providers import proxies
from polymux.providers.auth import SCHEMES, Headers
from polymux.types import App, Deployment, Grant, Link, Quirks

_VERIFIED: Final = re.compile(r"transcript:[\w./-]+|doc:https://[^\s,]+,20\d\d-\d\d-\d\d|none")
FUNCTIONS: Final = "functions"  # the built-in provider of function models
_TENANT: Final = "{tenant_id}"  # in a row's token_url
FRAMING: Final = ("host", "content-length", "content-type", "transfer-encoding")  # headers that are ours to write


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row of providers.toml; the members are explained there."""

    dialect: str
    verified: str
    group: Literal["international", "china", "local", "generic"] = "international"
    base_url: str = ""
    path: str = "/v1"
    auth: str = "bearer"
    token_url: str = ""
    scope: str = ""
    dated: bool = False
    env: tuple[str, ...] = ()
    switch: bool = True
    base_env: str = ""
    prefix: tuple[str, ...] = ()
    discover: bool = True
    headers: Mapping[str, str] = {}
    catalog: str = ""
    note: Mapping[Literal["en", "zh"], str] = {}
    quirks: Quirks = Quirks()
    serves: tuple[Literal["chat", "completions", "embeddings"], ...] = ("chat",)
    kinds: tuple[str, ...] = ()


_OWN: Final = Row("", "none", "generic", path="", auth="optional")  # of a user's own dialect


def rows(text: str, dialects: Iterable[str]) -> Mapping[str, Row]:
    """The table. Raises ValueError naming the row and the field that is wrong."""
    found = {}
    for name, fields in tomllib.loads(text).items():
        try:
            row = found[name] = msgspec.convert(fields, Row)
        except msgspec.ValidationError as error:
            raise ValueError(f"providers.toml: {name}: {error}") from None
        for field, value, known in (("dialect", row.dialect, dialects), ("auth", row.auth, SCHEMES)):
            if value not in known:
                raise ValueError(f"providers.toml: {name}.{field}: {value!r} is not one of {', '.join(known)}")
        if not _VERIFIED.fullmatch(row.verified):
            raise ValueError(f"providers.toml: {name}.verified: expected transcript:ID, doc:URL,date or none")
        if (row.quirks.fault or row.quirks.tags) and not row.quirks.repair:
            raise ValueError(f"providers.toml: {name}.quirks: fault and tags are of no use without repair")
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
    open: bool = False  # it may have others
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
    return [given.Provider(name=name, preset=name) for name, row in table.items() if row.switch and _on(row, env)]


def _on(row: Row, env: Mapping[str, str]) -> bool:
    """Whether its variables switch a provider on. Without an address a key is of no use; a server on one's own machine
    may need no key."""
    key = any(env.get(variable, "").strip() for variable in row.env)
    address = bool(env.get(row.base_env, "").strip())
    return (key and bool(row.base_url or address)) or (address and row.auth == "optional")


def _source(
    one: given.Provider, config: Config, table: Mapping[str, Row], env: Mapping[str, str], faults: list[Fault]
) -> Source | None:
    def fault(field: str, message: str) -> None:
        faults.append(Fault(config.file, one.line, f"providers.{one.name}.{field}", message))

    row = table.get(one.preset) or (_OWN if one.adapter and one.preset == one.name else None)
    if row is None:
        fault("preset", f"unknown preset {one.preset!r}, {_instead(one, table)}")
        return None
    base = one.base_url or _variable(row.base_env, Url, env, faults) or row.base_url
    if not base:
        hint = row.note.get("en", "expected a URL such as https://llm.example/v1")
        fault("base_url", f"is missing, this preset has none of its own; {hint}")
    elif urlsplit(base).query:  # paths are put behind it
        fault("base_url", "expected a URL without a query")
    for name in one.headers:
        if name.lower() in FRAMING:
            fault(f"headers.{name}", "is a header that the gateway writes itself")
    if one.api_version and not row.dated:
        fault("api_version", f"is of no use to the preset {one.preset!r}")
    shown = _credentials(one, row, config.file, env, faults)
    grant = _grant(one, row, fault)
    _check_app(one, row, fault)
    link = _link(one, base, config.file, env, faults)
    if not base or not shown:
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
            dialect=one.adapter or row.dialect,
            base_url=with_path(base, row.path),
            headers=tuple({**dict(credential), **headers}.items()),
            quirks=msgspec.structs.replace(row.quirks, set={**row.quirks.set, **one.extra_body}),
            timeouts=one.timeouts or config.defaults.timeouts,
            link=link,
            app=App(one.inputs, one.output),
            serves=one.serves or row.serves,
            api_version=one.api_version,
            grant=grant,
        )
        for credential in shown
    )
    return Source(
        one.name,
        templates,
        one.models or {},
        discover=one.models is None and row.discover,
        open=one.models is None,
        timed=one.timeouts is not None,
    )


def _instead(one: given.Provider, table: Mapping[str, Row]) -> str:
    """What to write in the place of a preset that is not known."""
    near = get_close_matches(one.preset, table, n=1)
    hint = f"did you mean {near[0]!r}?" if near else ""
    if one.preset != one.name:
        return hint or f"expected one of {', '.join(table)}"
    own = 'a name of your own needs a preset beside it, such as preset = "openai-compatible"'  # most likely it has none
    return f"{hint} A{own[1:]}" if hint else own


def _check_app(one: given.Provider, row: Row, fault: Callable[[str, str], None]) -> None:
    """What only an app has is given for apps only."""
    if not row.kinds:
        for field in ("inputs", "output"):
            if getattr(one, field):
                fault(field, "is for applications, and this preset has none")
    elif not one.models:
        example = f'models = {{ "my-app" = "{row.kinds[0]}" }}'
        fault("models", f"is missing; name the app and say what kind it is: {example}")
    else:
        for name, kind in one.models.items():
            if kind not in row.kinds:
                fault(f"models.{name}", f"unknown kind of app {kind!r}, expected one of {', '.join(row.kinds)}")


def _credentials(
    one: given.Provider, row: Row, file: str, env: Mapping[str, str], faults: list[Fault]
) -> tuple[Headers, ...]:
    """The headers that show each of its keys, no header for a provider without one; nothing where one is missing."""
    if one.oauth is not None:
        return ((),)
    variable = next((name for name in row.env if env.get(name, "").strip()), "")
    keys = one.api_key or ((_variable(variable, Credential, env, faults),) if variable else ())
    if not keys and row.auth != "optional":
        hint = f"give one, or set {row.env[0]}" if row.env else "give one"
        faults.append(Fault(file, one.line, f"providers.{one.name}.api_key", f"is missing; {hint}"))
        return ()
    return tuple(SCHEMES[row.auth](key) for key in keys or ("",))


def _grant(one: given.Provider, row: Row, fault: Callable[[str, str], None]) -> Grant | None:
    """What the provider's access tokens are asked for with, if it is to have some."""
    told = one.oauth
    if told is None:
        return None
    url = told.token_url or row.token_url
    if not url:
        fault("oauth.token_url", "is missing, this preset has none of its own")
    if one.api_key:
        fault("oauth", "stands beside api_key, expected one of them")
    if _TENANT in url and not told.tenant_id:
        fault("oauth.tenant_id", "is missing")
    url = url.replace(_TENANT, quote(told.tenant_id, safe=""))
    return Grant(url, told.client_id, told.client_secret, told.scope or row.scope)


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
