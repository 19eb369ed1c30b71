"""Tutorial baseline: FastAPI + httpx on uvicorn. One key check, JSON parsed, usage read."""

import os

import httpx
from fastapi import FastAPI, Header, HTTPException, Request
from fastapi.responses import JSONResponse, StreamingResponse

UPSTREAM, KEY = os.environ["UPSTREAM"], os.environ["GW_KEY"]
app = FastAPI()
client = httpx.AsyncClient(timeout=600, limits=httpx.Limits(max_connections=1000, max_keepalive_connections=1000))
tokens = 0


@app.get("/v1/models")
async def models():
    return (await client.get(f"{UPSTREAM}/v1/models")).json()


@app.post("/v1/chat/completions")
async def chat(request: Request, authorization: str = Header(default="")):
    global tokens
    if authorization != f"Bearer {KEY}":
        raise HTTPException(401, "invalid api key")
    body = await request.json()
    url, headers = f"{UPSTREAM}/v1/chat/completions", {"Authorization": "Bearer sk-upstream"}
    if body.get("stream"):

        async def events():
            async with client.stream("POST", url, json=body, headers=headers) as r:
                async for line in r.aiter_lines():
                    if line:
                        yield line + "\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")
    r = await client.post(url, json=body, headers=headers)
    data = r.json()
    tokens += data.get("usage", {}).get("total_tokens", 0)
    return JSONResponse(data, status_code=r.status_code)
