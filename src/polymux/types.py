"""The values of a request's life. Plain data; no behaviour beyond what follows from the fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds. `first_token` runs until the first content, `idle` between two reads, `total` over all attempts.

    `first_token` None: 60 for streams; whole answers, which come all at once, may take `total`.
    """

    connect: float = 5.0
    first_token: float | None = None
    idle: float = 60.0
    total: float = 600.0


class Link(msgspec.Struct, frozen=True):
    """How to reach an upstream, trust it and be trusted by it. Paths of PEM files; empty = the system's.

    `proxy`: the URL of an HTTP proxy, with credentials if it wants some; empty = none. `max_connections`: to one
    address, by one worker; as many requests again may wait for one to come free.
    """

    ca_file: str = ""
    client_cert: str = ""
    client_key: str = ""
    verify: bool = True
    proxy: str = ""
    max_connections: int = 1000


class Grant(msgspec.Struct, frozen=True):
    """What an access token is asked for with, where a provider wants one instead of a key (OAuth 2.0 client
    credentials, RFC 6749 §4.4)."""

    token_url: str
    client_id: str
    client_secret: str
    scope: str = ""


OVER: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"chat": ("chat",), "completions": ("completions", "chat"), "embeddings": ("embeddings",)}
)  # surfaces -> what a deployment may serve of which one is enough: others are translated


def offered(serves: Sequence[Sequence[str]]) -> list[str]:
    """The surfaces that every one of some deployments can answer, by what they serve."""
    return [surface for surface, over in OVER.items() if all(not set(over).isdisjoint(one) for one in serves)]


class Quirks(msgspec.Struct, frozen=True):
    """What a provider's row drops, renames, clamps or adds; data, so that no code names a vendor."""

    rename: Mapping[str, str] = {}
    drop: tuple[str, ...] = ()
    clamp: Mapping[str, tuple[float, float]] = {}
    set: Mapping[str, Any] = {}
    only: Mapping[str, tuple[Any, ...]] = {}  # the values that a member may have; any other is dropped
    nonempty: tuple[str, ...] = ()  # lists and objects that are refused when there is nothing in them
    roles: Mapping[str, str] = {}  # of messages -> what they are called there
    repair: bool = False  # streams are decoded and normalised chunk by chunk instead of relayed untouched
    tags: bool = False  # reasoning comes within <think> tags where the text begins
    fault: str = ""  # path of the status that is told inside a 200, where 0 is a success; its words stand beside it
    faults: Mapping[str, int] = {}  # such a status -> the status of HTTP that it stands for, where it is none
    stream_usage: bool = True  # takes stream_options.include_usage
    thinking: bool = False  # takes `thinking` as Anthropic writes it, and is switched off by it
    reasoning: Mapping[str, str] = {}  # pattern of models -> how they are told an effort (`providers.reasoning`)
    replay: str = ""  # in what form it wants its reasoning of earlier turns back (`providers.openai_replay`)
    takes: tuple[str, ...] = ()  # members of messages with signed reasoning that it takes (`providers.replay`)
    max_tokens: int = 4096  # where the dialect wants a limit and the client gave none


class App(msgspec.Struct, frozen=True):
    """Of an upstream that is an application: its variables -> their texts, in which {query}, {system}, {history} and
    {user} stand for what a request says; the name of its output that is the answer, "" = by rule."""

    inputs: Mapping[str, str] = {}
    output: str = ""


class Deployment(msgspec.Struct, frozen=True):
    """One way to serve a model: a provider, its address and credential, and the model's name over there."""

    id: str  # "provider/model", unique; with several keys "provider/model#2"
    provider: str
    model: str  # upstream name
    dialect: str
    base_url: str = ""
    headers: tuple[tuple[str, str], ...] = ()  # complete, credential included
    weight: int = 1
    quirks: Quirks = Quirks()
    timeouts: Timeouts = Timeouts()
    link: Link = Link()
    app: App = App()
    serves: tuple[str, ...] = ("chat",)  # names of surfaces (`surfaces.base`)
    api_version: str = ""  # a date, for dialects that have dated versions besides the plain one
    grant: Grant | None = None  # `headers` lack the access token, which it is asked for with


class Route(msgspec.Struct, frozen=True):
    """A public name and the deployments behind it."""

    name: str
    deployments: tuple[Deployment, ...]
    strategy: str = "weighted"
    fallbacks: tuple[str, ...] = ()
    retries: int = 2
    max_attempts: int = 6
    timeouts: Timeouts = Timeouts()
    strict: bool = False


class Key(msgspec.Struct, frozen=True):
    """Who calls. `id` and `name` may be logged, the secret exists only as the digest it was found by."""

    id: str
    name: str
    tenant: str = "default"
    models: tuple[str, ...] = ()  # globs; empty = all
    rpm: int = 0  # requests per minute, 0 = no limit
    origin: str = "static"  # static | first-run | database
    tpm: int = 0  # tokens per minute, 0 = no limit
    concurrency: int = 0  # requests at once, 0 = no limit
    budget_usd: str = ""  # decimal; empty = none
    budget_period: str = "total"  # day | month | total
    expires_at: float | None = None  # Unix seconds
    enabled: bool = True
    log: bool = False  # conversations are kept


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens. `input` includes `cached` and `cache_write`, `output` includes `reasoning` (OpenAI's way of counting)."""

    input: int = 0
    output: int = 0
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0
    source: str = "upstream"  # upstream | estimated | none
    cache_write_1h: int = 0  # of cache_write, what is kept for an hour instead of minutes
    audio_input: int = 0  # of input
    audio_output: int = 0  # of output


NO_USAGE = Usage(source="none")


class WireRequest(msgspec.Struct, frozen=True, gc=False):
    """A complete upstream request: the transport adds only what HTTP framing needs (host, content-length)."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    framing: str = "sse"  # how a streamed answer is framed: sse | ndjson | aws | whole
    dropped: tuple[str, ...] = ()  # request parameters this upstream cannot take
    streams: bool = False  # the answer comes as a stream, whether the client streams or not


class WireReply(msgspec.Struct, frozen=True):
    """A whole upstream answer. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Call(msgspec.Struct, gc=False):
    """One client request, decoded once. `fields` are the body's top-level members, still raw JSON."""

    id: str  # ours, always; also x-request-id
    surface: str
    key: Key
    model: str  # public name
    stream: bool
    fields: dict[str, msgspec.Raw]
    body: bytes
    wants_usage: bool = False  # the client asked for a usage chunk
    client_request_id: str = ""
    depth: int = 0  # how many function models stand between the client and this call
    deadline: float | None = None  # the loop's clock: when it must end, for a call that a function model makes
    parent_id: str = ""  # the call of that function model
    notes: list[str] | None = None  # what a function model logs, if the conversation is kept


class Try(msgspec.Struct, gc=False):
    """One attempt of a request. `outcome`: how it ended, a code of the error table, or "ok".

    why it was chosen: first | retry (of the same deployment) | next deployment | fallback.
    """

    deployment: str
    provider: str
    model: str  # upstream name
    why: str
    outcome: str
    status: int
    at_ms: float  # since the request's arrival
    ms: float
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: str | None = None  # decimal string; None = price unknown


class Record(msgspec.Struct, gc=False):
    """A usage record (INTERFACE.md §5): one line of the ledger for one request, all attempts in it."""

    id: str
    at: float  # Unix seconds at arrival
    key_id: str
    key_name: str
    tenant: str
    surface: str
    model: str
    provider: str
    upstream_model: str
    status: int
    error_code: str | None
    stream: bool
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    usage_source: str
    cost_usd: str | None  # decimal string; None = price unknown
    attempts: int
    cache: str
    duration_ms: float
    first_token_ms: float | None
    overhead_ms: float  # of the duration up to the first content, what was not spent waiting for upstreams
    client_request_id: str = ""
    parent_id: str = ""  # the call of the function model that made this one
    tries: list[Try] = []
    price: str = ""  # the prices behind `cost_usd`, as `routing.price` writes them
