"""The route table: what is served where. Paths stand here without `/v1`; clients' base URLs come both ways."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote

from polymux.admin import api, conversations, keys, lists, usage
from polymux.http import handlers, watch

if TYPE_CHECKING:
    from polymux.http.protocol import Exchange
    from polymux.http.serve import Front

Handler = Callable[["Front", "Exchange", str], Coroutine[Any, Any, None] | None]


class Row(NamedTuple):
    """`path` may hold one `/*`: the handler gets what stands there. `client`: a surface for browsers too (CORS).
    `surface`: what the calls that come here are of."""

    method: str
    path: str
    handler: Handler
    client: bool = True
    surface: str = ""


TABLE: Final = (
    Row("POST", "/chat/completions", handlers.chat, surface="chat"),
    Row("POST", "/completions", handlers.completions, surface="completions"),
    Row("POST", "/embeddings", handlers.embeddings, surface="embeddings"),
    Row("GET", "/models", handlers.models),
    Row("GET", "/models/*", handlers.model),
    Row("GET", "/health", handlers.health, client=False),
    Row("GET", "/ready", handlers.ready, client=False),
    Row("GET", "/openapi.json", handlers.description, client=False),
    Row("GET", "/metrics", watch.metrics, client=False),
    Row("GET", "/", handlers.page, client=False),
    Row("POST", "/admin/api/reload", api.reload, client=False),
    Row("GET", "/admin/api/keys", keys.list_keys, client=False),
    Row("POST", "/admin/api/keys", keys.create_key, client=False),
    Row("GET", "/admin/api/keys/*", keys.get_key, client=False),
    Row("PATCH", "/admin/api/keys/*", keys.update_key, client=False),
    Row("DELETE", "/admin/api/keys/*", keys.revoke_key, client=False),
    Row("POST", "/admin/api/keys/*/rotate", keys.rotate_key, client=False),
    Row("GET", "/admin/api/usage", usage.usage, client=False),
    Row("GET", "/admin/api/usage/records", usage.records, client=False),
    Row("GET", "/admin/api/calls/*", usage.call, client=False),
    Row("GET", "/admin/api/conversations", conversations.list_conversations, client=False),
    Row("GET", "/admin/api/conversations/*", conversations.get_conversation, client=False),
    Row("DELETE", "/admin/api/conversations/*", conversations.delete_conversation, client=False),
    Row("GET", "/admin/api/audit", keys.audit, client=False),
    Row("GET", "/admin/api/models", lists.list_models, client=False),
    Row("GET", "/admin/api/deployments", lists.list_deployments, client=False),
)

# what nearly every request asks for, found without looking at the path
HOT: Final = MappingProxyType(
    {
        (row.method, f"{prefix}{row.path}".encode()): row
        for row in TABLE
        for prefix in ("/v1", "")
        if "*" not in row.path and row.path != "/"
    }
)


# paths that leave something open; the longest first, which leave least
_OPEN: Final = tuple(sorted({row.path for row in TABLE if "*" in row.path}, key=len, reverse=True))


class Match(NamedTuple):
    """The rows of a path, one a method, and what stands in the place of a `*`."""

    rows: tuple[Row, ...]
    rest: str


def match(target: bytes) -> Match:
    """Rows for a request target. Doubled and trailing slashes and repeated `/v1` are forgiven."""
    path = target.partition(b"?")[0].decode("latin-1")
    pieces = [piece for piece in path.split("/") if piece]
    while pieces and pieces[0] == "v1":
        del pieces[0]
    whole = "/" + "/".join(pieces)
    if found := tuple(row for row in TABLE if row.path == whole):
        return Match(found, "")
    for pattern in _OPEN:
        before, after = pattern.split("*")
        if whole.startswith(before) and whole.endswith(after) and len(whole) > len(before) + len(after):
            rest = unquote(whole[len(before) : len(whole) - len(after)])
            return Match(tuple(row for row in TABLE if row.path == pattern), rest)
    return Match((), "")
