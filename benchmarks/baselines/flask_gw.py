"""Tutorial baseline: Flask + requests with one adapter class per provider, on gunicorn threads."""

import os

import requests
from flask import Flask, Response, jsonify, request

UPSTREAM, KEY = os.environ["UPSTREAM"], os.environ["GW_KEY"]
app = Flask(__name__)


class OpenAIAdapter:
    def __init__(self, base: str, key: str):
        self.base, self.session = base, requests.Session()
        self.session.headers["Authorization"] = f"Bearer {key}"
        self.session.mount("http://", requests.adapters.HTTPAdapter(pool_connections=10, pool_maxsize=512))

    def chat(self, body: dict):
        return self.session.post(
            f"{self.base}/v1/chat/completions", json=body, stream=bool(body.get("stream")), timeout=600
        )


ADAPTERS = {"mock": OpenAIAdapter(UPSTREAM, "sk-upstream")}
usage = {"total_tokens": 0}


@app.post("/v1/chat/completions")
def chat():
    if request.headers.get("Authorization") != f"Bearer {KEY}":
        return jsonify(error={"message": "invalid api key"}), 401
    body = request.get_json()
    r = ADAPTERS[body["model"].split("-")[0]].chat(body)
    if body.get("stream"):

        def events():
            for line in r.iter_lines():
                if line:
                    yield line + b"\n\n"

        return Response(events(), mimetype="text/event-stream")
    data = r.json()
    usage["total_tokens"] += data.get("usage", {}).get("total_tokens", 0)
    return jsonify(data), r.status_code
