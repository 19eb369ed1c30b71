"""The route table: what is served where. Paths stand here without `/v1`; clients' base URLs come both ways."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote

from polymux.http import admin, handlers, watch

if TYPE_CHECKING:
    from polymux.http.protocol import Exchange
    from polymux.http.serve import Front

Handler = Callable[["Front", "Exchange", str], Coroutine[Any, Any, None] | None]


class Row(NamedTuple):
    """`path` may end in `/*`: the handler gets the rest. `client`: a surface for browsers too (CORS)."""

    method: str
    path: str
    handler: Handler
    client: bool = True


TABLE: Final = (
    Row("POST", "/chat/completions", handlers.chat),
    Row("GET", "/models", handlers.models),
    Row("GET", "/models/*", handlers.model),
    Row("GET", "/health", handlers.health, client=False),
    Row("GET", "/ready", handlers.ready, client=False),
    Row("GET", "/openapi.json", handlers.description, client=False),
    Row("GET", "/metrics", watch.metrics, client=False),
    Row("GET", "/", handlers.page, client=False),
    Row("POST", "/admin/api/reload", admin.reload, client=False),
)

# what nearly every request asks for, found without looking at the path
HOT: Final = MappingProxyType(
    {
        (row.method, f"{prefix}{row.path}".encode()): row
        for row in TABLE
        for prefix in ("/v1", "")
        if not row.path.endswith("*") and row.path != "/"
    }
)


class Match(NamedTuple):
    """The rows of a path, one a method, and the rest of a path that ends in `/*`."""

    rows: tuple[Row, ...]
    rest: str


def match(target: bytes) -> Match:
    """Rows for a request target. Doubled and trailing slashes and repeated `/v1` are forgiven."""
    path = target.partition(b"?")[0].decode("latin-1")
    pieces = [piece for piece in path.split("/") if piece]
    while pieces and pieces[0] == "v1":
        del pieces[0]
    whole = "/" + "/".join(pieces)
    rest = unquote("/".join(pieces[1:]))
    found = tuple(row for row in TABLE if row.path == whole)
    if not found and rest:
        found = tuple(row for row in TABLE if row.path == f"/{pieces[0]}/*")
    return Match(found, rest)
