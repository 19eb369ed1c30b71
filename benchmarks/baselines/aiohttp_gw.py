"""Baseline: aiohttp server and client in one process. Key check, JSON parsed, usage read, streams passed through."""

import os

import aiohttp
import orjson
import uvloop
from aiohttp import web

UPSTREAM, KEY = os.environ["UPSTREAM"], f"Bearer {os.environ['GW_KEY']}"
tokens = 0


async def session(app):
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False) as app["s"]:
        yield


async def chat(req: web.Request) -> web.StreamResponse:
    global tokens
    if req.headers.get("Authorization") != KEY:
        return web.json_response({"error": {"message": "invalid api key"}}, status=401)
    raw = await req.read()
    body = orjson.loads(raw)
    async with req.app["s"].post(
        f"{UPSTREAM}/v1/chat/completions",
        data=raw,
        headers={"Authorization": "Bearer sk-upstream", "Content-Type": "application/json"},
    ) as up:
        if not body.get("stream"):
            data = await up.read()
            tokens += orjson.loads(data).get("usage", {}).get("total_tokens", 0)
            return web.Response(body=data, status=up.status, content_type="application/json")
        out = web.StreamResponse(status=up.status, headers={"Content-Type": "text/event-stream"})
        await out.prepare(req)
        async for part in up.content.iter_any():
            await out.write(part)
        await out.write_eof()
        return out


uvloop.install()
app = web.Application(client_max_size=16 << 20)
app.cleanup_ctx.append(session)
app.router.add_post("/v1/chat/completions", chat)
web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), access_log=None, print=None)
