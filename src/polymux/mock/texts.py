"""What a provider that works answers to completions and to embeddings, in OpenAI's dialect. Pure."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from polymux.mock.answers import CHUNKS, grouped, tokens
from polymux.mock.replies import CREATED, data, dump
from polymux.mock.scripts import SSE, Ask, Script

LENGTH: Final = 16  # tokens of a completion, unless the request says otherwise
DIMENSIONS: Final = 8  # of an embedding, likewise


@dataclass(frozen=True)
class _Said:
    """One choice of a completion."""

    index: int
    pieces: tuple[str, ...]
    finish: str
    output: int  # tokens


def completion(ask: Ask, chunks: int = CHUNKS) -> Script:
    """An echo as the continuation of every prompt."""
    body = ask.body
    prompts, n = inputs(body.get("prompt")), body.get("n") or 1
    said = [_said(ask, text, number, chunks) for number, text in enumerate(t for t in prompts for _ in range(n))]
    prompt, output = sum(len(tokens(text)) for text in prompts), sum(one.output for one in said)
    usage = {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}
    logprobs = body.get("logprobs") is not None
    if not ask.streamed:
        choices = [_choice(one.index, "".join(one.pieces), one.finish, logprobs) for one in said]
        return Script(frames=(dump({**_head(ask), "choices": choices, "usage": usage}),))
    events = []
    for one in said:
        last = len(one.pieces) - 1
        for number, piece in enumerate(one.pieces):
            finish = one.finish if number == last else None
            events.append({**_head(ask), "choices": [_choice(one.index, piece, finish, logprobs)]})
    if ask.wants_usage:
        events.append({**_head(ask), "choices": [], "usage": usage})
    return Script(headers=SSE, framing="chunked", frames=(*map(data, events), b"data: [DONE]\n\n"))


def embedding(ask: Ask) -> Script:
    """A vector for every input, the same for the same text, of length 1."""
    texts = inputs(ask.body["input"])
    size = ask.body.get("dimensions") or DIMENSIONS
    packed = ask.body.get("encoding_format") == "base64"
    found = []
    for index, text in enumerate(texts):
        numbers = vector(text, size)
        value = base64.b64encode(struct.pack(f"<{size}f", *numbers)).decode() if packed else numbers
        found.append({"object": "embedding", "index": index, "embedding": value})
    used = sum(len(tokens(text)) for text in texts)
    usage = {"prompt_tokens": used, "total_tokens": used}
    return Script(frames=(dump({"object": "list", "data": found, "model": f"{ask.model}-2026", "usage": usage}),))


def inputs(given: Any) -> list[str]:
    """A text, texts, the tokens of a text, or those of several, as texts."""
    if given is None or isinstance(given, str):
        return [given or ""]
    if given and isinstance(given[0], int):
        return [_detokenized(given)]
    return [one if isinstance(one, str) else _detokenized(one) for one in given]


def vector(text: str, size: int) -> list[float]:
    """Numbers that are the same again when they have been float32."""
    seed = b"".join(hashlib.sha256(f"{number} {text}".encode()).digest() for number in range(size // 32 + 1))
    numbers = [byte - 127.5 for byte in seed[:size]]
    length = sum(number * number for number in numbers) ** 0.5
    return [float(struct.unpack("<f", struct.pack("<f", number / length))[0]) for number in numbers]


def _detokenized(numbers: Sequence[int]) -> str:
    return " ".join(f"t{number}" for number in numbers)


def _said(ask: Ask, prompt: str, index: int, chunks: int) -> _Said:
    pieces = tokens(f" This is {ask.model}, a mock, which goes on where you stopped: {prompt}")
    limit = ask.body.get("max_tokens")
    most = LENGTH if limit is None else limit
    finish = "length" if len(pieces) > most else "stop"
    written = pieces[:most]
    before = (prompt,) if ask.body.get("echo") else ()
    return _Said(index, (*before, *grouped(written, chunks)) or ("",), finish, len(written))


def _head(ask: Ask) -> dict[str, Any]:
    return {"id": "cmpl-up1", "object": "text_completion", "created": CREATED, "model": f"{ask.model}-2026"}


def _choice(index: int, text: str, finish: str | None, logprobs: bool) -> dict[str, Any]:
    told = {"tokens": [text], "token_logprobs": [-0.25], "top_logprobs": [{text: -0.25}], "text_offset": [0]}
    return {"text": text, "index": index, "logprobs": told if logprobs else None, "finish_reason": finish}
