"""Real servers and a real proxy: what they answer arrives whole, and connections are used as long as they allow."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from polymux.errors import Truncated
from polymux.transport import Transport
from polymux.types import Deployment, Link, WireRequest
from support.peer import looped, until
from transport.lab import NOTHING, Certificates, Server, deployment, failing

TEXT: Final = "Grüße, 世界! " * 1000
LARGE: Final = bytes(range(256)) * 128 * 1024  # 32 MiB
PATH: Final = {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}


class Asking:
    """One transport, and requests with it to one address."""

    def __init__(self, url: str, to: Deployment | None = None) -> None:
        self.url = url
        self.to = to or deployment()
        self.transport = Transport()

    async def ask(
        self, path: str, body: bytes = b"{}", *, stream: bool = False, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        request = WireRequest("POST", self.url + path, tuple((headers or {}).items()), body)
        final = asyncio.get_running_loop().time() + 1000.0
        reply = await self.transport.send(request, self.to, final, stream=stream)
        try:
            data = b"".join([block async for block in reply]) if stream else await reply.whole()
        finally:
            self.transport.release(reply)
        return reply.status, data

    @property
    def open(self) -> int:
        return self.transport.stats().open


@asynccontextmanager
async def asking(url: str, to: Deployment | None = None) -> AsyncIterator[Asking]:
    """Afterwards nothing is left."""
    one = Asking(url, to)
    yield one
    await one.transport.close()
    await until(lambda: one.transport.stats() == NOTHING)


@asynccontextmanager
async def running(command: Sequence[str], port: int, said: bytes = b"") -> AsyncIterator[None]:
    """A server's process, from when it listens, or says so."""
    output = asyncio.subprocess.PIPE if said else asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, stdout=output, env=os.environ | PATH)
    try:
        if process.stdout is not None:
            assert await process.stdout.readline() == said
        else:
            await listening(port, process)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        if process.stdout is not None:
            await process.stdout.read()
        await process.wait()


async def listening(port: int, process: asyncio.subprocess.Process) -> None:
    while True:
        assert process.returncode is None, "the server did not start"
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0)
        else:
            writer.close()
            await writer.wait_closed()
            return


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


# ---- uvicorn -----------------------------------------------------------------------------------------------------


async def application(scope: Any, receive: Any, send: Any) -> None:
    """/length, /chunked: TEXT; /echo: the body; /early: an answer to a request that is not read."""
    body, more = b"", scope["path"] != "/early"
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    pieces = {"/echo": [body], "/early": [b"too much"], "/length": [TEXT.encode()]}.get(
        scope["path"], [TEXT[at : at + 999].encode() for at in range(0, len(TEXT), 999)]
    )
    headers = [] if len(pieces) > 1 else [(b"content-length", str(len(pieces[0])).encode())]
    await send({"type": "http.response.start", "status": 413 if scope["path"] == "/early" else 200, "headers": headers})
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body"})


@looped
@pytest.mark.parametrize("protocol", [H11Protocol, HttpToolsProtocol])
async def test_uvicorn(protocol: Any) -> None:
    config = uvicorn.Config(application, lifespan="off", log_config=None, access_log=False)
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(lambda: protocol(config, state, {}), "127.0.0.1", 0)
    async with server, asking(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as one:
        for path in ("/length", "/chunked"):
            for stream in (False, True):
                assert await one.ask(path, stream=stream) == (200, TEXT.encode())
        assert await one.ask("/echo", LARGE) == (200, LARGE)
        assert one.open == 1
        assert await one.ask("/early", LARGE) == (413, b"too much")
        assert await one.ask("/length") == (200, TEXT.encode())
    for connection in list(state.connections):
        connection.transport.abort()
    await until(lambda: not state.connections)


# ---- Node ----------------------------------------------------------------------------------------------------------

NODE: Final = """
const http = require('http'), zlib = require('zlib'), text = 'Grüße, 世界! '.repeat(1000)
const server = http.createServer(async (request, response) => {
  const send = (status, headers, body) => { response.writeHead(status, headers); response.end(body) }
  if (request.url === '/early') return send(413, {}, 'too much')
  const parts = []
  for await (const part of request) parts.push(part)
  const chunks = () => { for (let at = 0; at < text.length; at += 999) response.write(text.slice(at, at + 999)) }
  const ways = {
    '/length': () => response.end(text),
    '/chunked': () => { chunks(); response.end() },
    '/hints': () => { response.writeProcessing(); response.writeEarlyHints({ link: '</x>' }); response.end(text) },
    '/gzip': () => send(200, { 'content-encoding': 'gzip' }, zlib.gzipSync(text)),
    '/deflate': () => send(200, { 'content-encoding': 'deflate' }, zlib.deflateSync(text)),
    '/raw': () => send(200, { 'content-encoding': 'deflate' }, zlib.deflateRawSync(text)),
    '/trailers': () => { chunks(); response.addTrailers({ x: 'y' }); response.end() },
    '/empty': () => send(204, {}),
    '/close': () => send(200, { connection: 'close' }, text),
    '/cut': () => { response.setHeader('content-length', 99999); response.write(text, () => response.destroy()) },
    '/echo': () => response.end(Buffer.concat(parts)),
  }
  ways[request.url]()
})
server.listen(PORT, '127.0.0.1', () => console.log('ready'))
"""


@pytest.mark.system
@looped
async def test_node(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "server.js").write_text(NODE.replace("PORT", str(port)), encoding="utf-8")
    async with (
        running(["node", str(tmp_path / "server.js")], port, b"ready\n"),
        asking(f"http://127.0.0.1:{port}") as one,
    ):
        for path in ("/length", "/chunked", "/hints", "/gzip", "/deflate", "/raw", "/trailers"):
            for stream in (False, True):
                assert await one.ask(path, stream=stream) == (200, TEXT.encode()), path
        assert await one.ask("/empty") == (204, b"")
        assert await one.ask("/echo", LARGE) == (200, LARGE)
        assert one.open == 1
        assert await one.ask("/close") == (200, TEXT.encode())
        with pytest.raises(Truncated):
            await one.ask("/cut")
        assert await one.ask("/early", LARGE) == (413, b"too much")
        assert await one.ask("/length") == (200, TEXT.encode())


# ---- nginx ---------------------------------------------------------------------------------------------------------

NGINX: Final = """
daemon off; pid {home}/pid; error_log {home}/error.log; worker_processes 1;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi; default_type text/plain; client_max_body_size 1m;
  gzip on; gzip_min_length 0; gzip_types text/plain; keepalive_requests 4;
  server {{
    listen 127.0.0.1:{port};
    listen 127.0.0.1:{secure} ssl;
    server_name localhost; root {home}; error_page 405 =200 $uri;
    ssl_certificate {home}/server.pem; ssl_certificate_key {home}/server.key;
    ssl_client_certificate {ca}; ssl_verify_client on;
  }}
}}
"""


@pytest.mark.system
@looped
async def test_nginx(tmp_path: Path, certificates: Certificates) -> None:
    port, secure = free_port(), free_port()
    leaf = certificates.leaf
    leaf.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    leaf.private_key_pem.write_to_path(str(tmp_path / "server.key"))
    (tmp_path / "text").write_text(TEXT, encoding="utf-8")
    os.chmod(tmp_path, 0o755)
    config = NGINX.format(home=tmp_path, port=port, secure=secure, ca=certificates.ca)
    (tmp_path / "nginx.conf").write_text("user root;\n" + config if os.geteuid() == 0 else config, encoding="utf-8")
    link = Link(certificates.ca, certificates.client_cert, certificates.client_key)
    command = ["nginx", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-e", str(tmp_path / "error.log")]
    async with (
        running(command, port),
        asking(f"http://127.0.0.1:{port}") as plain,
        asking(f"https://localhost:{secure}", deployment(link=link)) as trusted,
        asking(f"https://localhost:{secure}", deployment(link=Link(certificates.ca))) as stranger,
    ):
        for one in (plain, trusted):
            for _ in range(2):
                assert await one.ask("/text") == (200, TEXT.encode())
                assert await one.ask("/text", stream=True, headers={"accept-encoding": "gzip"}) == (200, TEXT.encode())
            assert await one.ask("/text") == (200, TEXT.encode())  # nginx closes each connection after four
            status, page = await one.ask("/text", LARGE)
            assert (status, b"413 Request Entity Too Large" in page) == (413, True)
            assert await one.ask("/text") == (200, TEXT.encode())
        status, page = await stranger.ask("/text")
        assert (status, b"No required SSL certificate was sent" in page) == (400, True)


# ---- tinyproxy -----------------------------------------------------------------------------------------------------

TINYPROXY: Final = """
Port {port}
Listen 127.0.0.1
Timeout 60
Allow 127.0.0.1
BasicAuth user secret
ConnectPort {allowed}
LogLevel Critical
"""


@pytest.mark.system
@looped
async def test_tinyproxy(tmp_path: Path, certificates: Certificates) -> None:
    port = free_port()
    async with Server(certificates.server()) as secure, Server() as plain, Server(certificates.server()) as barred:
        config = tmp_path / "tinyproxy.conf"
        config.write_text(TINYPROXY.format(port=port, allowed=secure.port), encoding="ascii")
        to = deployment(link=Link(certificates.ca, proxy=f"http://user:secret@127.0.0.1:{port}"))
        async with running(["tinyproxy", "-d", "-c", str(config)], port):
            peer = await secure.round_trip(to=to)
            await secure.round_trip(peer, to)
            sending = plain.send(to)
            peer = await plain.accept()
            assert (await peer.request()).startswith(b"POST /v1/x HTTP/1.")
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            reply = await sending
            assert await reply.whole() == b"ok"
            plain.transport.release(reply)
            name = f"the proxy 127.0.0.1:{port}"
            failure = await failing(barred.send(to))
            assert failure.message == f"{name} refuses to connect to 127.0.0.1:{barred.port} (status 403)"
            link = Link(proxy=f"http://127.0.0.1:{port}")
            for server in (secure, plain):
                failure = await failing(server.send(deployment(link=link)))
                assert failure.message == f"{name} wants credentials (status 407)"
            link = Link(proxy=f"http://user:wrong@127.0.0.1:{port}")
            failure = await failing(secure.send(deployment(link=link)))
            assert failure.message == f"{name} wants other credentials (status 401)"
