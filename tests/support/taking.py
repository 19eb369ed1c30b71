"""A provider that takes anything: it never looks into a body, so what reaches it is for the gateway to answer for."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType, TracebackType
from typing import Final, Self

OPENAI: Final = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"any","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"ok"},"finish_reason":"stop"}]}'
)
OPENAI_EVENTS: Final = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"any","choices":[{"index":0,'
    b'"delta":{"role":"assistant","content":"ok"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)
ANTHROPIC: Final = (
    b'{"id":"msg_1","type":"message","role":"assistant","model":"any","content":[{"type":"text","text":"ok"}],'
    b'"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":1}}'
)
ANTHROPIC_EVENTS: Final = (
    b'data: {"type":"message_start","message":{"id":"msg_1"}}\n\n'
    b'data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":"ok"}}\n\n'
    b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}\n\ndata: {"type":"message_stop"}\n\n'
)
COMPLETION: Final = (
    b'{"id":"cmpl-1","object":"text_completion","created":1,"model":"any",'
    b'"choices":[{"index":0,"text":"ok","logprobs":null,"finish_reason":"stop"}]}'
)
VECTORS: Final = b'{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5]}],"model":"any"}'
ANSWERS: Final[Mapping[str, tuple[bytes, bytes]]] = MappingProxyType(
    {
        "/messages": (ANTHROPIC, ANTHROPIC_EVENTS),
        "/chat/completions": (OPENAI, OPENAI_EVENTS),
        "/completions": (COMPLETION, b"data: " + COMPLETION + b"\n\ndata: [DONE]\n\n"),
        "/embeddings": (VECTORS, b""),
    }
)  # by the end of a path: whole, and as events


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # head and body in one packet
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.bodies.append(body)
        streamed = b'"stream":true' in body or b'"stream": true' in body
        streamed = streamed and not self.path.endswith("/embeddings")
        whole, events = next(answers for path, answers in ANSWERS.items() if self.path.endswith(path))
        answer = events if streamed else whole
        self.send_response(200)
        self.send_header("content-type", "text/event-stream" if streamed else "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    bodies: list[bytes]


class Taking:
    """`with Taking() as provider:` serves both dialects on `url`; `bodies` are those that arrived."""

    def __init__(self) -> None:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self.bodies: list[bytes] = []
        self._server.bodies = self.bodies
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
