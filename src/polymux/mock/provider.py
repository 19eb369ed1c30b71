"""What is answered to each request: a key, a path, a body, and the fault that was asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from types import MappingProxyType
from typing import Final

from polymux.mock import replies, rules, texts
from polymux.mock.answers import CHUNKS, answer
from polymux.mock.faults import FAULTS, Case
from polymux.mock.replies import DIALECTS, dump
from polymux.mock.scripts import JSON, Ask, Script, error, invalid, refused, render
from polymux.mock.server import Exchange

PREFIX: Final = "fault:"  # of a model's name
HEADER: Final = "x-mock-fault"
MODELS: Final = ("mock-large", "mock-small", "meta/mock 3:8b")
_RULES: Final = MappingProxyType(
    {
        "/v1/chat/completions": rules.openai,
        "/v1/completions": rules.completions,
        "/v1/embeddings": rules.embeddings,
    }
)  # of OpenAI's paths
_PATHS: Final = (*(("openai", path) for path in _RULES), ("anthropic", "/v1/messages"))


@dataclass(frozen=True)
class Options:
    """What the command line says. key: "" = any. fault: of every answer, "" = none; every, first: of which answers,
    0 = as the fault has it. slow: seconds of the slow faults. latency: seconds before the head, pace: seconds before
    each event. chunks: events of a streamed text."""

    dialects: Sequence[str] = DIALECTS
    key: str = ""
    fault: str = ""
    every: int = 0
    first: int = 0
    slow: float = 30.0
    latency: float = 0.0
    pace: float = 0.0
    chunks: int = CHUNKS


class Provider:
    """Chooses the script of each request. `scripted`: what a good request is answered, by default an echo."""

    def __init__(
        self,
        options: Options,
        models: Sequence[str] = MODELS,
        scripted: Callable[[Ask], Script] | None = None,
    ) -> None:
        self._options, self._models = options, models
        self._scripted = scripted or self._echo
        self._asked: Counter[str] = Counter()

    def refusal(self, exchange: Exchange) -> Script | None:
        """The answer to a wrong key."""
        key = self._options.key
        bearer = (exchange.header("authorization") or "").removeprefix("Bearer ")
        if key and key not in (bearer, exchange.header("x-api-key")):
            return refused(_ask(exchange), 401)
        return None

    def script(self, exchange: Exchange) -> Script:
        """The answer to a request."""
        ask = _ask(exchange)
        good = self.refusal(exchange) or self._good(exchange, ask)
        if good.status != 200:
            return good
        name = exchange.header(HEADER) or ""
        if not name and ask.model.startswith(PREFIX):
            name = ask.model.removeprefix(PREFIX)
        if name and name not in FAULTS:
            near = get_close_matches(name, FAULTS, 1)
            return invalid(ask, f"There is no fault {name!r}" + (f", did you mean {near[0]!r}?" if near else "."))
        every, first = 0, 0
        if not name and ask.body:
            name, every, first = self._options.fault, self._options.every, self._options.first
        return self._bent(exchange, Case(ask, good, self._options.slow), name, (every, first)) if name else good

    def _bent(self, exchange: Exchange, case: Case, name: str, bounds: tuple[int, int]) -> Script:
        """The answer with a fault, if it is this request's turn."""
        fault = FAULTS[name]
        every, first = bounds[0] or fault.every, bounds[1] or fault.first
        self._asked[name] += 1
        count = self._asked[name]
        if count % every or (first and count > first):
            return case.good
        exchange.fault = name
        return fault.bend(case)

    def _good(self, exchange: Exchange, ask: Ask) -> Script:
        path = exchange.path.partition("?")[0]
        if ask.dialect in self._options.dialects:
            if (exchange.method, path) == ("GET", "/v1/models"):
                return Script(frames=(_catalog(ask.dialect, self._models),))
            if exchange.method == "POST" and (ask.dialect, path) in _PATHS:
                return self._judged(exchange, ask, path)
        text = f"Invalid URL ({exchange.method} {exchange.path})"
        return Script(404, JSON, (error(text, "invalid_request_error", ask.dialect, "unknown_url"),))

    def _judged(self, exchange: Exchange, ask: Ask, path: str) -> Script:
        """The answer to a call, or the complaint about it."""
        try:
            if ask.dialect == "anthropic":
                if complaint := rules.anthropic(exchange.json):
                    return invalid(ask, complaint)
            elif fault := _RULES[path](exchange.json):
                message, param, code = fault
                return invalid(ask, message, code or None, param)
            if path == "/v1/embeddings":
                return self._timed(texts.embedding(ask), ask)
            if path == "/v1/completions":
                return self._timed(texts.completion(ask, self._options.chunks), ask)
            return self._scripted(ask)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            return invalid(ask, f"The body is not what the API describes: {error!r}")

    def _echo(self, ask: Ask) -> Script:
        return self._timed(render(answer(ask, self._options.chunks), ask), ask)

    def _timed(self, script: Script, ask: Ask) -> Script:
        options = self._options
        return replace(script, before=options.latency, between=options.pace if ask.streamed else 0.0)


def _ask(exchange: Exchange) -> Ask:
    path = exchange.path.partition("?")[0]
    dialect = "anthropic" if exchange.header("anthropic-version") or path.endswith("/messages") else "openai"
    return Ask(dialect, exchange.model, exchange.json if isinstance(exchange.json, dict) else {})


def _catalog(dialect: str, ids: Sequence[str]) -> bytes:
    if dialect == "anthropic":
        entries = [{"type": "model", "id": i, "display_name": i, "created_at": "2026-01-01T00:00:00Z"} for i in ids]
        return dump({"data": entries, "has_more": False, "first_id": ids[0], "last_id": ids[-1]})
    listed = [{"id": i, "object": "model", "created": replies.CREATED, "owned_by": "upstream"} for i in ids]
    return dump({"object": "list", "data": listed})
