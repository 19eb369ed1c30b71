"""How little CPU can one Python process spend? uvloop protocols, hand-parsed HTTP, orjson, pooled upstream connections.

Does the least a gateway must do: key check, JSON parse of the request, route by model, pass the answer through
(streams byte for byte), count usage tokens, failover left out. Not robust HTTP: a yardstick, not a gateway.
"""

import asyncio
import os
import re
from collections import deque
from contextlib import suppress
from urllib.parse import urlparse

import orjson
import uvloop

UP, KEY, PORT = urlparse(os.environ["UPSTREAM"]), os.environ["GW_KEY"].encode(), int(os.environ["PORT"])
ROUTES = dict.fromkeys(("mock-fast", "mock-d50", "mock-paced"), (UP.hostname, UP.port))
AUTH = re.compile(rb"\r\nauthorization: *bearer +([^\r\n]+)", re.IGNORECASE)
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
pool: dict[tuple, deque] = {a: deque() for a in ROUTES.values()}
tokens = 0


def reply(code: int, msg: str) -> bytes:
    b = orjson.dumps({"error": {"message": msg, "type": "invalid_request_error"}})
    return b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (code, len(b), b)


class Up(asyncio.Protocol):
    def __init__(self, addr):
        self.addr, self.down = addr, None

    def connection_made(self, t):
        self.t = t

    def start(self, down, data):
        self.down, self.left, self.parts = down, None, []
        self.t.write(data)

    def data_received(self, data):
        down = self.down
        down.t.write(data)
        if self.left is None:
            i = data.find(b"\r\n\r\n")
            m = LENGTH.search(data, 0, i + 2)
            self.left = int(m[1]) + i + 4 if m else -1
            self.head = i + 4
        if self.left >= 0:
            self.left -= len(data)
            self.parts.append(data)
            if self.left > 0:
                return
            self.count(orjson.loads(b"".join(self.parts)[self.head :]).get("usage"))
        else:
            i = data.find(b'"usage":{')
            if i >= 0:
                self.count(orjson.loads(data[i + 8 : data.index(b"}", i) + 1]))
            if not data.endswith(b"0\r\n\r\n"):
                return
        self.down = None
        pool[self.addr].append(self)
        down.next()

    def count(self, usage):
        global tokens
        if usage:
            tokens += usage["total_tokens"]

    def connection_lost(self, exc):
        with suppress(ValueError):
            pool[self.addr].remove(self)
        if self.down:
            self.down.t.close()


class Down(asyncio.Protocol):
    def connection_made(self, t):
        self.t, self.buf, self.need, self.dialing = t, b"", 0, None

    def data_received(self, data):
        self.buf = buf = self.buf + data if self.buf else data
        if not self.need:
            i = buf.find(b"\r\n\r\n")
            if i < 0:
                return
            m = LENGTH.search(buf, 0, i + 2)
            self.body, self.need = i + 4, i + 4 + (int(m[1]) if m else 0)
        if len(buf) < self.need:
            return
        a = AUTH.search(buf, 0, self.body)
        if not a or a[1] != KEY:
            self.fail(401, "invalid api key")
            return
        body = buf[self.body : self.need]
        try:
            addr = ROUTES.get(orjson.loads(body)["model"])
        except (ValueError, KeyError, TypeError):
            self.fail(400, "bad request body")
            return
        if not addr:
            self.fail(404, "unknown model")
            return
        out = (
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: %b\r\nAuthorization: Bearer sk-upstream\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (addr[0].encode(), len(body))
        ) + body
        if pool[addr]:
            pool[addr].pop().start(self, out)
        else:
            self.dialing = asyncio.ensure_future(self.dial(addr, out))

    async def dial(self, addr, out):
        try:
            _, up = await asyncio.get_running_loop().create_connection(lambda: Up(addr), *addr)
        except OSError:
            self.fail(502, "upstream unreachable")
            return
        up.start(self, out)

    def fail(self, code, msg):
        self.t.write(reply(code, msg))
        self.next()

    def next(self):
        self.buf, self.need = self.buf[self.need :], 0


async def main():
    server = await asyncio.get_running_loop().create_server(Down, "127.0.0.1", PORT, backlog=4096)
    await server.serve_forever()


uvloop.install()
asyncio.run(main())
