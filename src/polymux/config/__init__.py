"""The config: what may stand in it (the Structs), and `load`, which is strict, whole, and reports all faults at once.

The annotations are the grammar that `walk` follows, so a new setting is one line here.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args

import msgspec

from polymux.config.dotenv import parse_dotenv
from polymux.config.positions import Path, key_lines
from polymux.config.values import (
    ApiVersion,
    Bytes,
    Credential,
    Flag,
    Function,
    HeaderName,
    HeaderValue,
    Port,
    Positive,
    ProviderName,
    Secret,
    Url,
    Word,
    one_of,
    text,
)
from polymux.config.walk import INVALID, ConfigError, Derived, Fault, Parsed, Walk, hints, is_secret, suggestion
from polymux.types import Timeouts
from polymux.wire.redact import RULES, expression, is_expression

__all__ = [
    "Auth",
    "Cache",
    "Config",
    "ConfigError",
    "Conversations",
    "DeploymentRef",
    "Fault",
    "Ledger",
    "Limits",
    "Model",
    "Price",
    "Provider",
    "RouteDefaults",
    "Server",
    "Timeouts",
    "load",
    "parse_dotenv",
]

BUILT_IN = ("functions",)  # providers that need no table


def _client_keys(walk: Walk, value: Any, path: Path) -> Any:
    """A list or a string; a comma-separated value counts as several. Blanks and duplicates are dropped."""
    texts = _credentials(walk, value, path)
    return texts if texts is INVALID else _distinct(key for text in texts for key in text.split(","))


def _api_keys(walk: Walk, value: Any, path: Path) -> Any:
    """A string or a list of strings. Blanks and duplicates are dropped."""
    texts = _credentials(walk, value, path)
    return texts if texts is INVALID else _distinct(texts)


def _credentials(walk: Walk, value: Any, path: Path) -> Any:
    if isinstance(value, str):
        text = walk.value(Credential, value, path)
        return text if text is INVALID else (text,)
    if isinstance(value, list):
        return walk.value(tuple[Credential, ...], value, path)
    return walk.wrong("a string or a list of strings", value, path, secret=True)


def _distinct(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text.strip() for text in texts if text.strip()))


def _model_names(walk: Walk, value: Any, path: Path) -> Any:
    """A list of names, or a table of public name to upstream name."""
    if isinstance(value, list):
        return {name: name for name in walk.value(tuple[Word, ...], value, path)}
    if isinstance(value, dict):
        return walk.value(dict[Word, Word], value, path)
    return walk.wrong("a list of models or a table of public name to upstream name", value, path)


def _redaction(walk: Walk, value: Any, path: Path) -> Any:
    """The name of a rule, or an expression between slashes."""
    text = walk.value(Word, value, path)
    if text is INVALID or text in RULES:
        return text
    if not is_expression(text):
        return walk.wrong(f"{one_of(tuple(RULES))}, or a regular expression as '/.../'", value, path)
    try:
        expression(text)
    except ValueError as error:
        return walk.fault(path, str(error))
    return text


def _provider_name(walk: Walk, value: Any, path: Path) -> Any:
    """The name of a provider in this file, or of a built-in one."""
    name = walk.value(Word, value, path)
    if name is INVALID or name in walk.providers or name in BUILT_IN:
        return name
    return walk.fault(path, f"unknown provider {walk.show(name, path)}, {suggestion(name, walk.providers)}")


def _members(walk: Walk, value: Any, path: Path) -> Any:
    """A table of values that JSON has too."""
    if not isinstance(value, dict):
        return walk.wrong("a table", value, path)
    found = {name: _json(walk, item, (*path, name)) for name, item in value.items()}
    return INVALID if any(item is INVALID for item in found.values()) else found


def _json(walk: Walk, value: Any, path: Path) -> Any:
    if isinstance(value, dict):
        return _members(walk, value, path)
    if isinstance(value, list):
        items = [_json(walk, item, (*path, n)) for n, item in enumerate(value)]
        return INVALID if any(item is INVALID for item in items) else items
    if isinstance(value, Decimal):
        return float(value) if value.is_finite() else walk.wrong("a finite number", value, path)
    if value is INVALID or isinstance(value, str | int):
        return value
    return walk.wrong("a string, number, boolean, list or table", value, path)


_Name = Annotated[str, Derived(lambda _, path: path[-1])]
_Line = Annotated[int, Derived(lambda walk, path: walk.line(path))]


class _Section(msgspec.Struct, frozen=True):
    def __repr__(self) -> str:
        """Without the secrets, for a repr ends up in logs and tracebacks."""
        fields = {
            name: "..." if is_secret(hint) else repr(getattr(self, name)) for name, hint in hints(type(self)).items()
        }
        return f"{type(self).__name__}({', '.join(f'{name}={text}' for name, text in fields.items())})"


class Server(_Section, frozen=True):
    """Where the gateway listens and keeps its things. Paths are as written; `max_body` is in bytes; empty = off.

    `max_connections`: of clients, to one worker. `log`: a line for each request on stdout; auto = text on a terminal,
    json elsewhere. `debug`: what passes between us and the upstreams on stderr, secrets masked.
    """

    host: Word = "127.0.0.1"
    port: Port = 8000
    workers: Positive = 1
    cors_origins: tuple[Word, ...] = ("*",)
    data_dir: Word = "~/.polymux"
    database_url: Secret = "sqlite"
    redis_url: Secret = ""
    max_body: Bytes = 32 * 1024 * 1024
    models_dir: str = "./models"
    functions_dir: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    unix_socket: str = ""
    max_connections: Positive = 10_000
    log: Literal["auto", "text", "json", "off"] = "auto"
    debug: Flag = False


class Auth(_Section, frozen=True):
    """Who may call. An empty admin key matches nothing."""

    admin_key: Credential = ""
    keys: Annotated[tuple[str, ...], Parsed(_client_keys, secret=True)] = ()


class Limits(_Section, frozen=True):
    """Per key: requests and tokens a minute, and requests at once. 0 = no limit."""

    rpm: int = 100
    tpm: int = 0
    concurrency: int = 0


class Price(_Section, frozen=True):
    """US dollars per million tokens, exact. None = not given."""

    input: Decimal | None = None
    output: Decimal | None = None
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None


class RouteDefaults(_Section, frozen=True):
    """What a route has where it does not say otherwise."""

    timeouts: Timeouts = Timeouts()
    retries: int = 2
    max_attempts: Positive = 6
    strict: bool = False


class OAuth(_Section, frozen=True):
    """How a provider's access tokens are asked for. What is empty comes from the preset."""

    client_id: Word
    client_secret: Credential
    tenant_id: Annotated[str, text("letters, digits, '.' and '-'", re.compile(r"[A-Za-z0-9.-]*"))] = ""
    token_url: Url = ""
    scope: str = ""


class Provider(_Section, frozen=True):
    """An upstream. What is empty comes from its preset, which is its own name unless given."""

    name: _Name
    preset: str = ""
    base_url: Url = ""
    api_key: Annotated[tuple[str, ...], Parsed(_api_keys, secret=True)] = ()
    headers: dict[HeaderName, HeaderValue] = {}
    extra_body: Annotated[dict[str, Any], Parsed(_members)] = {}  # members of every request's body
    oauth: OAuth | None = None
    api_version: ApiVersion = ""
    models: Annotated[dict[str, str] | None, Parsed(_model_names)] = (
        None  # public name -> upstream name; None = discover
    )
    ca_file: str = ""
    client_cert: str = ""
    client_key: str = ""
    proxy: Secret = ""
    max_connections: Positive = 1000
    verify: bool = True
    timeouts: Timeouts | None = None
    adapter: Function = ""
    serves: tuple[Literal["chat", "completions", "embeddings"], ...] = ()  # empty = what its preset says
    inputs: dict[Word, str] = {}  # an app's variables -> their texts (`types.App`)
    output: str = ""  # of a workflow: which of its outputs is the answer
    price: dict[Word, Price] = {}  # by public model name
    line: _Line = 0


class DeploymentRef(_Section, frozen=True):
    """One way to serve a route."""

    provider: Annotated[str, Parsed(_provider_name)]
    model: Word  # upstream name
    weight: int = 1
    line: _Line = 0


class Model(_Section, frozen=True):
    """A route: one public name, several deployments. What it does not give is already that of `[defaults]`."""

    name: _Name
    deployments: tuple[DeploymentRef, ...]
    strategy: Literal["weighted", "round-robin", "least-busy", "latency", "cost", "ordered"] = "weighted"
    fallbacks: tuple[Word, ...] = ()
    retries: int = 2
    max_attempts: Positive = 6
    on_midstream_failure: Literal["error", "restart", "continue"] = "error"
    timeouts: Timeouts = Timeouts()
    price: Price | None = None
    strict: bool = False
    line: _Line = 0


class Cache(_Section, frozen=True):
    enabled: bool = False
    ttl: float = 3600.0  # seconds


class Ledger(_Section, frozen=True):
    """retention: seconds that records are kept; None = for ever. journal_full: what happens to requests while the disk
    takes no records."""

    on_cancel: Literal["cancel", "drain"] = "cancel"
    unknown_price: Literal["flag", "refuse"] = "flag"
    store_down: Literal["open", "closed"] = "open"
    fsync: Literal["second", "always"] = "second"
    journal_full: Literal["go-on", "stop"] = "go-on"
    retention: float | None = None


class Conversations(_Section, frozen=True):
    """The conversation log: what is asked and answered is kept, of `models` (globs of public names) and of keys that
    have it on. redact: rules (`wire.redact`). retention: seconds. max_size: bytes of one conversation."""

    models: tuple[Word, ...] = ()
    redact: tuple[Annotated[str, Parsed(_redaction)], ...] = ()
    retention: float = 30 * 86400.0
    max_size: Bytes = 256 * 1024


class Config(_Section, frozen=True):
    """A whole, valid config: one frozen snapshot. `file` is empty when there was none."""

    server: Server = Server()
    auth: Auth = Auth()
    limits: Limits = Limits()
    defaults: RouteDefaults = RouteDefaults()
    providers: dict[ProviderName, Provider] = {}
    models: dict[Word, Model] = {}
    cache: Cache = Cache()
    ledger: Ledger = Ledger()
    conversations: Conversations = Conversations()
    functions: tuple[Function, ...] = ()
    file: Annotated[str, Derived(lambda walk, _: walk.file)] = ""


# The values that this version has, where it has not all of them yet. Who builds the rest widens or deletes the row.
_AVAILABLE: Mapping[tuple[type, str], tuple[object, ...]] = MappingProxyType(
    {
        (Server, "database_url"): ("sqlite",),
        (Server, "redis_url"): ("",),
        (Model, "strategy"): ("weighted", "round-robin", "ordered"),
        (Model, "on_midstream_failure"): ("error",),
        (Cache, "enabled"): (False,),
    }
)

# Variable, section, field: these yield to the file ...
_GENERAL = (
    ("HOST", Server, "host"),
    ("PORT", Server, "port"),
    ("DEBUG", Server, "debug"),
    ("LOCAL_MODELS_DIR", Server, "models_dir"),
    ("RATE_LIMIT_REQUESTS", Limits, "rpm"),
)
# ... and these override it.
_OURS = (
    ("POLYMUX_ADMIN_KEY", Auth, "admin_key"),
    ("POLYMUX_DATA_DIR", Server, "data_dir"),
    ("POLYMUX_DATABASE_URL", Server, "database_url"),
    ("POLYMUX_REDIS_URL", Server, "redis_url"),
)


def load(text: str | None, env: Mapping[str, str], file: str = "polymux.toml") -> Config:
    """The config of a TOML text and the environment, or of the environment alone when `text` is None.

    Precedence: POLYMUX_* > text > general variables (HOST, PORT ...) > default; API_KEYS adds to the text's keys.
    An empty variable counts as absent. `file` only names the text. Raises ConfigError with every fault of both, in line
    order, the environment's last.
    """
    walk = Walk(file if text is not None else "", _AVAILABLE)
    outside = Walk("environment", _AVAILABLE)
    document = _document(walk, text or "", env)
    providers = document.get("providers")
    walk.providers = tuple(providers) if isinstance(providers, dict) else ()

    walk.base = _variables(outside, env, _GENERAL)
    if not _rate_limit_enabled(outside, env):
        walk.base[Limits] = {"rpm": 0}
    defaults = walk.field(Config, "defaults", document.pop("defaults", {}), ("defaults",))
    defaults = RouteDefaults() if defaults is INVALID else defaults
    walk.base[Timeouts] = msgspec.structs.asdict(defaults.timeouts)
    walk.base[Model] = msgspec.structs.asdict(defaults)
    walk.base[Config] = {"server": Server(**walk.base.get(Server, {})), "limits": Limits(**walk.base.get(Limits, {}))}
    config: Config = walk.struct(Config, document, ())

    ours = _variables(outside, env, _OURS)
    keys = outside.value(hints(Auth)["keys"], env.get("API_KEYS", ""), ("API_KEYS",))
    auth = msgspec.structs.replace(config.auth, **ours.get(Auth, {}))
    config = msgspec.structs.replace(
        config,
        server=msgspec.structs.replace(config.server, **ours.get(Server, {})),
        auth=msgspec.structs.replace(auth, keys=_distinct((*auth.keys, *(() if keys is INVALID else keys)))),
        defaults=defaults,
        providers={name: _preset(provider) for name, provider in config.providers.items()},
    )
    _check_keys(config.auth, outside if Auth in ours else walk)
    _check_pair(config.server, "tls_cert", "tls_key", walk, ("server",))
    _check_providers(config, walk)
    _check_routes(config, walk)
    if walk.faults or outside.faults:
        raise ConfigError([*sorted(walk.faults, key=lambda fault: fault.line), *outside.faults], config)
    return config


def _document(walk: Walk, text: str, env: Mapping[str, str]) -> dict[str, Any]:
    """The expanded tables of the text; none of them after a fault of syntax, which leaves the environment to check."""
    text = text.removeprefix("\ufeff")
    try:
        raw = tomllib.loads(text, parse_float=_decimal)
        walk.lines = key_lines(text)
        document: dict[str, Any] = walk.expand(raw, env)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", str(error))
        line = int(place[1]) if place and place[1] else text.rstrip().count("\n") + 1
        walk.fault((), f"not valid TOML: {str(error)[: place.start()] if place else error}", line)
    except (ValueError, RecursionError):
        walk.fault((), "not valid TOML: a number of too many digits, or brackets nested too deeply")
    else:
        return document
    return {}


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond all measure: not a number that any field takes
        return Decimal("NaN")


def _variables(walk: Walk, env: Mapping[str, str], rows: Iterable[tuple[str, type, str]]) -> dict[type, dict[str, Any]]:
    """The fields that environment variables give, by section."""
    found: dict[type, dict[str, Any]] = {}
    for variable, cls, name in rows:
        text = env.get(variable, "").strip()
        is_number = int in (hints(cls)[name], *get_args(hints(cls)[name])) and re.fullmatch(r"-?[0-9]{1,18}", text)
        if text and (value := walk.field(cls, name, int(text) if is_number else text, (variable,))) is not INVALID:
            found.setdefault(cls, {})[name] = value
    return found


def _rate_limit_enabled(walk: Walk, env: Mapping[str, str]) -> bool:
    text = env.get("RATE_LIMIT_ENABLED", "").strip() or "true"
    return walk.value(Flag, text, ("RATE_LIMIT_ENABLED",)) is not False


def _preset(provider: Provider) -> Provider:
    return msgspec.structs.replace(provider, preset=provider.preset or provider.name)


def _check_keys(auth: Auth, source: Walk) -> None:
    if auth.admin_key and auth.admin_key in auth.keys:
        path = ("auth", "admin_key") if source.lines else ("POLYMUX_ADMIN_KEY",)
        source.fault(path, "is a client key too, expected a key of its own")


def _check_providers(config: Config, walk: Walk) -> None:
    for name, provider in config.providers.items():
        path: Path = ("providers", name)
        _check_pair(provider, "client_cert", "client_key", walk, path)
        seen: set[str] = set()
        for header in provider.headers:
            if header.lower() in seen:
                walk.fault((*path, "headers", header), "duplicate header, upper and lower case are the same")
            seen.add(header.lower())


def _check_pair(table: _Section, certificate: str, key: str, walk: Walk, path: Path) -> None:
    for given, needed in ((certificate, key), (key, certificate)):
        if getattr(table, given) and not getattr(table, needed):
            walk.fault((*path, given), f"needs {needed} beside it")


def _check_routes(config: Config, walk: Walk) -> None:
    for name, model in config.models.items():
        path: Path = ("models", name)
        if name in model.fallbacks:
            walk.fault((*path, "fallbacks"), "a route cannot be its own fallback")
        if model.deployments and not any(deployment.weight for deployment in model.deployments):
            walk.fault((*path, "deployments"), "all weights are 0, expected one that is more")
        seen: set[tuple[str, str]] = set()
        for deployment in model.deployments:
            pair = (deployment.provider, deployment.model)
            if pair in seen:
                walk.fault(
                    (*path, "deployments"), "duplicate deployment, a larger weight does the same", deployment.line
                )
            seen.add(pair)
