"""A scripted provider on a real socket: records every request whole, answers by script, misbehaves on demand.

Nothing here is timed. A test waits for events (`wait`, `Seen.gone`, `Seen.done`) and releases what is held back
(`Seen.release`). The deadline on every wait only turns a hang into a failure.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections import deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

from support.scripts import JSON, Ask, Catalog, Script, choose, error

PATIENCE: Final = 20.0
KEY: Final = "upstream-key"
_REASONS: Final = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}


class Gone(Exception):
    """The peer closed the connection."""


@dataclass(eq=False)
class Seen:
    """One request as it arrived, and what became of its answer.

    connection: the number of the connection it came on (1, 2 ...). sent: body bytes written so far. gone: the peer
    left before the answer was whole. done: the script was played to its end. blocked: the peer stopped reading.
    """

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    connection: int
    json: Any = None
    sent: int = 0
    gone: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    blocked: threading.Event = field(default_factory=threading.Event)
    _loop: asyncio.AbstractEventLoop | None = None
    _permits: asyncio.Semaphore | None = None

    @property
    def model(self) -> str:
        return str(self.json.get("model", "")) if isinstance(self.json, dict) else ""

    def header(self, name: str) -> str | None:
        """The value of a header, None when it is absent; several are joined as HTTP does."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        return ", ".join(values) if values else None

    def release(self, count: int = 1) -> None:
        """Let `count` held frames out (or end a stall)."""
        assert self._loop is not None
        assert self._permits is not None
        for _ in range(count):
            self._loop.call_soon_threadsafe(self._permits.release)

    def wait_gone(self) -> None:
        assert self.gone.wait(PATIENCE), f"the upstream connection of {self.model!r} is still open"

    def wait_done(self) -> None:
        assert self.done.wait(PATIENCE), f"the answer to {self.model!r} was not taken"


class _Connection:
    """Reads ahead without end, so that a peer's leaving is noticed at any moment."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.buffer = bytearray()
        self.more = asyncio.Event()
        self.closed = asyncio.Event()
        self.pump = asyncio.create_task(self._pump())

    async def _pump(self) -> None:
        try:
            while data := await self.reader.read(65536):
                self.buffer += data
                self.more.set()
        except ConnectionError:
            pass
        self.closed.set()
        self.more.set()

    async def _until(self, end: int | bytes) -> bytes:
        """Take bytes up to a count, or up to and with a separator."""
        while True:
            at = end if isinstance(end, int) else self.buffer.find(end) + len(end)
            if len(self.buffer) >= at and not (isinstance(end, bytes) and end not in self.buffer):
                taken = bytes(self.buffer[:at])
                del self.buffer[:at]
                return taken
            if self.closed.is_set():
                raise Gone
            self.more.clear()
            await self.more.wait()

    async def request(self, number: int) -> Seen:
        head = (await self._until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ", 2)
        pairs = [line.split(":", 1) for line in head[1:] if line]
        headers = tuple((name, value.strip()) for name, value in pairs)
        lower = {name.lower(): value for name, value in headers}
        if "chunked" in lower.get("transfer-encoding", ""):
            body = b""
            while size := int(await self._until(b"\r\n"), 16):
                body += (await self._until(size + 2))[:-2]
            await self._until(b"\r\n")
        else:
            body = await self._until(int(lower.get("content-length", "0")))
        return Seen(method, path, headers, body, number)

    async def unless_gone(self, seen: Seen, waiting: Any) -> None:
        """Await something; raises Gone as soon as the peer leaves."""
        task = asyncio.ensure_future(waiting)
        closed = asyncio.create_task(self.closed.wait())
        try:
            await asyncio.wait({task, closed}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise Gone
            await task
        finally:
            task.cancel()
            closed.cancel()

    def reset(self) -> None:
        """Close with a TCP reset in place of an orderly end."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Upstream:
    """The provider. `with Upstream() as upstream:` serves both dialects on `upstream.url`."""

    def __init__(self) -> None:
        self.catalog = Catalog()
        self.requests: list[Seen] = []
        self._arrived = threading.Condition()
        self._overrides: dict[str, deque[Script]] = {}
        self._connections = 0
        self._open: dict[_Connection, asyncio.Task[None]] = {}
        self._end = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="upstream", daemon=True)
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    # ---- the test's side ----

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(PATIENCE)

    def clear(self) -> None:
        """Forget what was recorded and scripted (connections stay)."""
        with self._arrived:
            self.requests.clear()
            self._overrides.clear()

    def script(self, model: str, *scripts: Script) -> None:
        """Answer the next requests for `model` with these, in order; the last one stays."""
        with self._arrived:
            self._overrides[model] = deque(scripts)

    def seen(self, model: str) -> list[Seen]:
        with self._arrived:
            return [request for request in self.requests if request.model == model]

    def wait(self, model: str, count: int = 1) -> Seen:
        """The `count`-th request for a model, as soon as it has arrived."""
        with self._arrived:
            arrived = self._arrived.wait_for(lambda: len(self._for(model)) >= count, PATIENCE)
            assert arrived, f"no request {count} for {model!r}; arrived: {[r.model for r in self.requests]}"
            return self._for(model)[count - 1]

    def _for(self, model: str) -> list[Seen]:
        return [request for request in self.requests if request.model == model]

    # ---- the wire's side ----

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._main())
        self._loop.close()

    async def _main(self) -> None:
        server = await asyncio.start_server(self._serve, sock=self._socket)
        await self._end.wait()
        server.close()
        tasks = [*self._open.values(), *(connection.pump for connection in self._open)]
        for connection in self._open:
            connection.writer.transport.abort()
        await asyncio.gather(*tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        number = self._connections
        writer.transport.set_write_buffer_limits(high=0)
        connection = _Connection(reader, writer)
        task = asyncio.current_task()
        assert task is not None
        self._open[connection] = task
        try:
            keep = True
            while keep:
                seen = await connection.request(number)
                keep = await self._answer(connection, seen)
        except (Gone, ConnectionError):
            pass
        finally:
            writer.close()
            del self._open[connection]

    async def _answer(self, connection: _Connection, seen: Seen) -> bool:
        seen._loop = self._loop
        seen._permits = asyncio.Semaphore(0)
        try:
            seen.json = json.loads(seen.body) if seen.body else None
        except ValueError:
            seen.json = None
        script = self._choose(seen)
        with self._arrived:
            self.requests.append(seen)
            self._arrived.notify_all()
        try:
            keep = await self._play(connection, seen, script)
        except (Gone, ConnectionError):
            seen.gone.set()
            raise Gone from None
        seen.done.set()
        return keep

    def _choose(self, seen: Seen) -> Script:
        path = seen.path.partition("?")[0]
        dialect = "anthropic" if seen.header("anthropic-version") else "openai"
        bearer = (seen.header("authorization") or "").removeprefix("Bearer ")
        if KEY not in (bearer, seen.header("x-api-key")):
            body = error("Incorrect API key.", "authentication_error", dialect, "invalid_api_key")
            return Script(401, JSON, (body,))
        with self._arrived:
            scripted = self._overrides.get(seen.model)
            if scripted:
                return scripted.popleft() if len(scripted) > 1 else scripted[0]
        if (seen.method, path) == ("GET", "/v1/models"):
            return Script(frames=(self.catalog.body(dialect),))
        if (seen.method, path) == ("POST", "/v1/chat/completions"):
            return choose(Ask("openai", seen.model, seen.json))
        if (seen.method, path) == ("POST", "/v1/messages") and dialect == "anthropic":
            return choose(Ask("anthropic", seen.model, seen.json))
        message = f"Invalid URL ({seen.method} {seen.path})"
        return Script(404, JSON, (error(message, "invalid_request_error", dialect, "unknown_url"),))

    async def _play(self, connection: _Connection, seen: Seen, script: Script) -> bool:
        """Send the answer; True when the connection may be used again."""
        if not await self._fault(connection, seen, script.start):
            return False
        head = f"HTTP/1.1 {script.status} {_REASONS.get(script.status, 'Status')}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in script.headers)
        head += {
            "chunked": "transfer-encoding: chunked\r\n",
            "length": f"content-length: {sum(map(len, script.frames)) + bool(script.end)}\r\n",
            "close": "connection: close\r\n",
        }[script.framing]
        await self._write(connection, seen, head.encode("latin-1") + b"\r\n")
        for number, frame in enumerate(script.frames):
            if script.gate and number >= script.free:
                await self._permit(connection, seen)
            framed = b"%x\r\n%s\r\n" % (len(frame), frame) if script.framing == "chunked" else frame
            await self._write(connection, seen, framed)
            seen.sent += len(frame)
        if not await self._fault(connection, seen, script.end):
            return False
        if script.framing == "chunked" and not script.end:
            await self._write(connection, seen, b"0\r\n\r\n")
        return script.framing != "close" and not script.stale and not script.end

    async def _fault(self, connection: _Connection, seen: Seen, name: str) -> bool:
        """Play a fault; False when the connection is over."""
        if name == "stall":
            await self._permit(connection, seen)
        elif name == "reset":
            connection.reset()
        return name in ("", "stall")

    async def _permit(self, connection: _Connection, seen: Seen) -> None:
        assert seen._permits is not None
        await connection.unless_gone(seen, seen._permits.acquire())

    async def _write(self, connection: _Connection, seen: Seen, data: bytes) -> None:
        connection.writer.write(data)
        if connection.writer.transport.get_write_buffer_size():
            seen.blocked.set()
        await connection.unless_gone(seen, connection.writer.drain())
