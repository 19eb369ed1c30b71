"""What the rows of the route table do."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from html import escape
from typing import TYPE_CHECKING, Any, Final

import msgspec

from polymux import __version__
from polymux.errors import Failure
from polymux.http import openapi
from polymux.surfaces.base import Surface
from polymux.surfaces.chat import Chat
from polymux.surfaces.completions import Completions
from polymux.surfaces.embeddings import Embeddings
from polymux.surfaces.models import abilities, model_list, model_object

if TYPE_CHECKING:
    from polymux.http.protocol import Exchange
    from polymux.http.serve import Front

JSON: Final = b"content-type: application/json\r\n"
# what headers say of a body, when all is well (a part of the value), and what to do when it is not
_DECLARED: Final = (
    (b"content-encoding", "identity", "send the body uncompressed"),
    (b"content-type", "json", "send application/json"),
)
HTML: Final = (
    b"content-type: text/html; charset=utf-8\r\n"
    b"content-security-policy: default-src 'none'; style-src 'unsafe-inline'\r\n"
)


def calls(surface: Surface) -> Callable[[Front, Exchange, str], Coroutine[Any, Any, None]]:
    """The handler of a client surface."""

    def handle(front: Front, exchange: Exchange, rest: str) -> Coroutine[Any, Any, None]:
        """A call, up to the engine."""
        key = front.key(exchange)
        try:
            call = surface.decode(exchange.body, exchange.id, key)
        except Failure as failure:
            raise _explained(failure, exchange.headers) from None
        call.client_request_id = exchange.headers.get(b"x-request-id", b"")[:200].decode("latin-1")
        return front.engine.run(call, surface, front.snapshot, exchange)

    return handle


chat = calls(Chat())
completions = calls(Completions())
embeddings = calls(Embeddings())


def _explained(failure: Failure, headers: Mapping[bytes, bytes]) -> Failure:
    """What is no JSON is told by its headers as well. They are not asked when it is JSON: clients that send JSON as
    text/plain, or nothing of the kind, are served."""
    if failure.kind != "invalid_json" or failure.param:
        return failure
    for header, usual, hint in _DECLARED:
        value = headers.get(header, b"").decode("latin-1").strip().lower()
        if value and usual not in value:
            return Failure(failure.kind, f"{failure.message} ({header.decode()} is {value[:100]!r}; {hint})")
    return failure


def models(front: Front, exchange: Exchange, rest: str) -> None:
    """The models that the key may use."""
    registry = front.snapshot.registry
    names = registry.names(front.key(exchange))
    exchange.respond(200, JSON, model_list(names, registry.created))


def model(front: Front, exchange: Exchange, rest: str) -> None:
    """One model and what it can do; its id may hold slashes, escaped or not."""
    key, snapshot = front.key(exchange), front.snapshot
    route = snapshot.registry.find(rest, key)[0]
    to = route.deployments
    owner = snapshot.registry.owner(rest) or to[0].provider
    entries = [snapshot.prices.entry(one.provider, one.model) for one in to]
    adapters = front.engine.adapters
    columns = [adapters[one.dialect].fates for one in to if one.dialect in adapters]
    found = model_object(rest, owner, snapshot.registry.created) | abilities(to, entries, columns)
    exchange.respond(200, JSON, msgspec.json.encode(found))


def health(front: Front, exchange: Exchange, rest: str) -> None:
    exchange.respond(200, JSON, b'{"status":"healthy"}')


def ready(front: Front, exchange: Exchange, rest: str) -> None:
    if front.draining:
        raise Failure("overloaded", "the gateway is shutting down")
    exchange.respond(200, JSON, b'{"status":"ready"}')


def description(front: Front, exchange: Exchange, rest: str) -> None:
    """The OpenAPI document: the same for everybody, so pages of any origin may read it."""
    exchange.respond(200, JSON + b"access-control-allow-origin: *\r\n", openapi.document())


def page(front: Front, exchange: Exchange, rest: str) -> None:
    """The status page: for people, without secrets."""
    host = escape(exchange.headers.get(b"host", b"127.0.0.1").decode("latin-1"))
    body = _PAGE.replace("{version}", __version__).replace("{host}", host).replace("{scheme}", front.settings.scheme)
    exchange.respond(200, HTML, body.encode())


_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Polymux</title>
<style>
:root { color-scheme: light dark }
body { font: 16px/1.6 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; padding: 0 1rem }
h1 { margin-bottom: 0 } .ok { color: #2a8a3e }
pre { background: #8881; padding: .8rem 1rem; border-radius: .5rem; overflow-x: auto }
section { margin-top: 2rem }
</style>
<h1>Polymux</h1>
<p class="ok">&#9679; running · 运行中 · {version}</p>
<section lang="en">
<p>One OpenAI-compatible endpoint in front of every model. Point any OpenAI client at</p>
<pre>{scheme}://{host}/v1</pre>
<p>with a key of this gateway. <code>GET /v1/models</code> lists the models; <code>GET /health</code> is for probes.</p>
</section>
<section lang="zh">
<p>一个兼容 OpenAI 的入口，背后是所有模型。把任意 OpenAI 客户端的 base URL 设为</p>
<pre>{scheme}://{host}/v1</pre>
<p>并使用本网关的密钥。<code>GET /v1/models</code> 列出模型；<code>GET /health</code> 供健康检查使用。</p>
</section>
</html>
"""
