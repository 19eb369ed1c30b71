"""The only file that opens upstream connections: HTTP/1.1 on httptools, kept alive, pooled by address and trust.

A `Reply` is awaited for its head, then read whole or block by block as the network delivers. Nothing is buffered
beyond `HIGH_WATER`; closing a reply that is not finished aborts its connection, which is how a cancelled request
reaches the upstream. Sources: RFC 9110, RFC 9112.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from socket import gaierror
from typing import NamedTuple
from urllib.parse import urlsplit

import httptools

from polymux.errors import Failure, Truncated
from polymux.types import Deployment, Link, WireRequest

HIGH_WATER = 256 * 1024  # bytes a reply holds before its upstream is told to wait
MAX_HEAD = 64 * 1024
MAX_BODY = 64 * 1024 * 1024  # of a reply that is read whole
FIRST_TOKEN = 60.0  # seconds to the first content of a stream, where nothing is configured
IDLE = 55.0  # seconds a connection is kept unused: below the common 60 s of load balancers
MOST_PREPARED = 4096
LINGER = 1.0  # seconds for the end of a finished answer
TICK = 0.05  # seconds between looks at the deadlines

Target = tuple[str, str, int, Link]  # scheme, host, port, trust


class Reply:
    """One answer. Deadlines are absolute times of the loop's clock; `idle` seconds extend the deadline at each read."""

    __slots__ = (
        "_buffered",
        "_conn",
        "_error",
        "_parts",
        "_waiter",
        "complete",
        "deadline",
        "final",
        "finished",
        "headers",
        "idle",
        "status",
    )

    def __init__(self, conn: Connection, deadline: float, final: float) -> None:
        self._conn = conn
        self._parts: list[bytes] = []
        self._buffered = 0
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False
        self.finished = False  # nothing of it is wanted any more; its end may still be on the way
        self.deadline = deadline
        self.final = final
        self.idle = 0.0

    def header(self, name: bytes) -> str:
        """The first value of a header (lower-case name), or ""."""
        for key, value in self.headers:
            if key.lower() == name:
                return value.decode("latin-1")
        return ""

    def header_map(self) -> dict[str, str]:
        return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in self.headers}

    async def block(self) -> bytes:
        """What has arrived since the last call, at once; b"" at the end. Raises `Failure` or `Truncated`."""
        while not self._parts:
            if self.complete:
                return b""
            await self.wait()
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        held, self._buffered = self._buffered, 0
        if held > HIGH_WATER:
            self._conn.resume()
        return data

    async def whole(self, limit: int = MAX_BODY) -> bytes:
        """All of the body. Raises `Failure` when it is larger than `limit`, or as `block` does."""
        while not self.complete:
            if self._buffered > HIGH_WATER:
                self._conn.resume()
            if self._buffered > limit:
                break
            await self.wait()
        if self._buffered > limit:
            raise Failure("upstream_unavailable", "the upstream's answer is too large")
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        return body

    def close(self) -> None:
        """Done with it. An unfinished answer takes its connection along."""
        if not self.complete:
            self._conn.abort()

    def expect(self, idle: float) -> None:
        """From now on at most `idle` seconds may pass between two reads."""
        self.idle = idle
        self.deadline = min(self._conn.loop.time() + idle, self.final)

    def hold(self) -> None:
        """Nothing is expected of the upstream while we do not read; only `final` counts."""
        self.idle = 0.0
        self.deadline = self.final

    def __aiter__(self) -> Reply:
        return self

    async def __anext__(self) -> bytes:
        if data := await self.block():
            return data
        raise StopAsyncIteration

    def feed(self, data: bytes) -> None:
        """The body bytes of one read."""
        self._parts.append(data)
        self._buffered += len(data)
        if self._buffered > HIGH_WATER:
            self._conn.pause()
        self.wake()

    def fail(self, error: Exception) -> None:
        if self._error is None and not self.complete:
            self._error = error
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_exception(error)

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def wait(self) -> asyncio.Future[None]:
        """Done when something has arrived; fails with what ended the answer."""
        self._waiter = waiter = self._conn.loop.create_future()
        if self._error is not None:
            waiter.set_exception(self._error)
        return waiter


class Connection(asyncio.Protocol):
    """One socket to an upstream, serving one reply at a time."""

    def __init__(self, pool: Pool, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.since = 0.0  # idle since
        self._pool = pool
        self._socket: asyncio.Transport | None = None
        self._body: list[bytes] = []  # of the read that is being taken apart
        self.on_body = self._body.append  # a callback of the parser: no Python frame for each chunk
        self._parser = httptools.HttpResponseParser(self)
        self._reply: Reply | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_size = 0
        self._framed = False
        self._paused = False

    @property
    def open(self) -> bool:
        return self._socket is not None and not self._socket.is_closing()

    def start(self, reply: Reply, data: bytes) -> None:
        self._reply = reply
        self._headers, self._head_size, self._framed = [], 0, False
        assert self._socket is not None  # noqa: S101 - only connected ones are handed out
        self._socket.write(data)

    def pause(self) -> None:
        if not self._paused and self._socket is not None:
            self._paused = True
            self._socket.pause_reading()

    def resume(self) -> None:
        if self._paused and self.open and self._socket is not None:
            self._paused = False
            self._socket.resume_reading()

    def abort(self) -> None:
        self._reply = None
        if self._socket is not None:
            self._socket.abort()

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = transport  # type: ignore[assignment]  # a Transport for TCP and TLS

    def connection_lost(self, error: Exception | None) -> None:
        self._pool.forget(self)
        reply = self._reply
        if reply is None:
            return
        self._reply = None
        if reply.status and not self._framed and error is None:  # the body runs until the close
            reply.complete = True
            reply.wake()
        elif reply.status:
            reply.fail(Truncated())
        else:
            reply.fail(Lost(self._head_size > 0))

    def data_received(self, data: bytes) -> None:
        reply = self._reply
        if reply is None:  # an answer nobody asked for
            self.abort()
            return
        if reply.idle:
            reply.deadline = min(self.loop.time() + reply.idle, reply.final)
        if not reply.status:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            reply.fail(Failure("upstream_unavailable", "the upstream's answer is not valid HTTP"))
            self.abort()
        except httptools.HttpParserUpgrade:
            reply.fail(Failure("upstream_unavailable", "the upstream wants another protocol"))
            self.abort()
        self._deliver(reply)
        if self._head_size > MAX_HEAD and not reply.status:
            reply.fail(Failure("upstream_unavailable", "the headers of the upstream's answer are too large"))
            self.abort()

    def _deliver(self, reply: Reply) -> None:
        if self._body:
            reply.feed(self._body[0] if len(self._body) == 1 else b"".join(self._body))
            self._body.clear()

    # ---- httptools callbacks

    def on_message_begin(self) -> None:
        if self._reply is None:  # a second answer behind the first: nobody asked for it
            self.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # 1xx: the real answer follows
            self._headers = []
            return
        reply = self._reply
        if reply is None:
            return
        self._framed = self._parser.should_keep_alive() or any(
            name.lower() in (b"content-length", b"transfer-encoding") for name, _ in self._headers
        )
        reply.headers = self._headers
        reply.status = status
        reply.wake()

    def on_message_complete(self) -> None:
        reply = self._reply
        if reply is None or not reply.status:
            return
        if not self._framed and not self._parser.should_keep_alive():
            return  # the close ends it; llhttp says so only for empty bodies
        self._deliver(reply)
        reply.complete = True
        self._reply = None
        self.resume()
        if self._parser.should_keep_alive():
            self._pool.park(self)
        elif self._socket is not None:
            self._socket.close()
        reply.wake()


class Lost(Failure):
    """The connection ended before an answer. `answered`: some of it had come."""

    def __init__(self, answered: bool) -> None:
        super().__init__("upstream_unavailable", "the upstream closed the connection before it answered")
        self.answered = answered


class Pool:
    """The idle connections to one address under one trust."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.all: set[Connection] = set()
        self._idle: list[Connection] = []
        self._context: ssl.SSLContext | None = None

    def take(self, now: float) -> Connection | None:
        """An open connection; the last used is the least likely to be stale."""
        while self._idle:
            conn = self._idle.pop()
            if conn.open and now - conn.since < IDLE:
                return conn
            conn.abort()
        return None

    def park(self, conn: Connection) -> None:
        conn.since = conn.loop.time()
        self._idle.append(conn)

    def forget(self, conn: Connection) -> None:
        self.all.discard(conn)
        if conn in self._idle:
            self._idle.remove(conn)

    async def connect(self, seconds: float, loop: asyncio.AbstractEventLoop) -> Connection:
        """A new connection within so many seconds. Raises `Failure`."""
        scheme, host, port, link = self.target
        try:
            async with asyncio.timeout(seconds):
                _, conn = await loop.create_connection(
                    lambda: Connection(self, loop), host, port, ssl=self._trust(link) if scheme == "https" else None
                )
        except TimeoutError:
            raise Failure(
                "upstream_timeout", f"no connection to {host}:{port} within {max(0.0, seconds):g} s"
            ) from None
        except ssl.SSLError as error:
            reason = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else error.reason
            raise Failure("upstream_unavailable", f"TLS with {host}:{port} failed: {reason or error}") from None
        except OSError as error:
            known = 0 if isinstance(error, gaierror) else error.errno
            reason = (os.strerror(known) if known else error.strerror or str(error)).lower()
            raise Failure("upstream_unavailable", f"cannot connect to {host}:{port}: {reason}") from None
        self.all.add(conn)
        return conn

    def _trust(self, link: Link) -> ssl.SSLContext:
        if self._context is None:
            context = ssl.create_default_context()
            try:
                if link.ca_file:
                    context.load_verify_locations(cafile=link.ca_file)
                if link.client_cert:
                    context.load_cert_chain(link.client_cert, link.client_key or None)
            except OSError as error:  # an SSLError is one
                text = f"the certificate files of this provider cannot be used: {error.strerror or error}"
                raise Failure("upstream_unavailable", text) from None
            if not link.verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            self._context = context
        return self._context


class _Prepared(NamedTuple):
    """What is the same in all requests of a deployment to one URL: its pool and the head up to the length."""

    method: str
    headers: tuple[tuple[str, str], ...]
    link: Link
    pool: Pool
    head: bytes

    def fits(self, request: WireRequest, to: Deployment) -> bool:
        return self.headers is request.headers and self.link is to.link and self.method == request.method


class Transport:
    """The pools, and the deadlines of what is under way. Belongs to one event loop."""

    def __init__(self) -> None:
        self._pools: dict[Target, Pool] = {}
        self._prepared: dict[tuple[str, str], _Prepared] = {}
        self._active: set[Reply] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that all of this runs on; asyncio's own answer costs a system call (CPython 3.11)."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    async def send(self, request: WireRequest, to: Deployment, final: float, *, stream: bool) -> Reply:
        """Send and wait for the answer's head, at most until `final` (the loop's clock) and as the deployment's
        timeouts say. Raises `Failure`. Release the reply when done with it.

        A pooled connection may have been closed by the other side just now; when it ends without a byte of an
        answer, the request is sent once more on a fresh connection.
        """
        loop = self.loop
        now, timeouts, body = loop.time(), to.timeouts, request.body
        limit = timeouts.first_token
        if limit is None:  # a whole answer comes all at once, however long it takes
            limit = FIRST_TOKEN if stream else timeouts.total
        prepared = self._prepared.get((to.id, request.url))
        if prepared is None or not prepared.fits(request, to):
            prepared = self._prepare(request, to)
        data = b"%b%d\r\n\r\n%b" % (prepared.head, len(body), body)
        conn = prepared.pool.take(now)
        while True:
            fresh = conn is None
            if conn is None:
                conn = await prepared.pool.connect(min(timeouts.connect, final - now), loop)
            reply = Reply(conn, min(now + limit, final), final)
            conn.start(reply, data)
            self._watch(reply, loop)
            try:
                while not reply.status:
                    await reply.wait()
                return reply
            except Lost as error:
                self._active.discard(reply)
                if fresh or error.answered:
                    raise
                conn = None
            except BaseException:
                self.release(reply)
                raise

    def release(self, reply: Reply) -> None:
        """Done with a reply. One that is not complete takes its connection along, but one that is finished gets a
        moment for its end to arrive, so that the connection can be used again."""
        if reply.finished and not reply.complete:
            reply.expect(LINGER)
        else:
            self._active.discard(reply)
            reply.close()

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for pool in self._pools.values():
            for conn in list(pool.all):
                conn.abort()

    def _prepare(self, request: WireRequest, to: Deployment) -> _Prepared:
        parts = urlsplit(request.url)
        target = (parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80), to.link)
        pool = self._pools.setdefault(target, Pool(target))
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"{request.method} {path} HTTP/1.1", f"host: {parts.netloc.rpartition('@')[2]}"]
        lines += [f"{name}: {value}" for name, value in request.headers]
        lines += ["content-type: application/json"] if request.body else []
        head = "\r\n".join([*lines, "content-length: "]).encode("latin-1", "replace")
        if len(self._prepared) > MOST_PREPARED:
            self._prepared.clear()
        prepared = _Prepared(request.method, request.headers, to.link, pool, head)
        self._prepared[(to.id, request.url)] = prepared
        return prepared

    def _watch(self, reply: Reply, loop: asyncio.AbstractEventLoop) -> None:
        self._active.add(reply)
        if self._timer is None:
            self._timer = loop.call_later(TICK, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self.expire(loop.time())
        self._timer = loop.call_later(TICK, self._tick, loop) if self._active else None

    def expire(self, now: float) -> None:
        """End what is past its deadline."""
        for reply in [reply for reply in self._active if reply.deadline <= now]:
            self._active.discard(reply)
            silent = "no content from the upstream in time" if not reply.idle else "the upstream fell silent"
            reply.fail(Failure("upstream_timeout", silent))
            reply.close()
