"""What one candidate of a Gemini answer says, piece by piece: its parts as deltas of the pivot.

Sources: the Gemini API reference (generateContent), recorded streams of the Gemini API and of Vertex AI.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from types import MappingProxyType
from typing import Final

import msgspec

from polymux.providers.gemini_arguments import Arguments
from polymux.providers.gemini_turns import detail_of
from polymux.schema.chat import Delta, FunctionCallDelta, ToolCallDelta
from polymux.schema.gemini import Candidate, Json, LogprobsResult, ReplyBlob, ReplyCall, ReplyPart, Token

# Every reason that is not simply "stop" (STOP, OTHER, MALFORMED_FUNCTION_CALL, and what is not known yet).
_FINISH: Final[Mapping[str, str]] = MappingProxyType(
    {"MAX_TOKENS": "length"}
    | dict.fromkeys(("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE"), "content_filter")
    | dict.fromkeys(("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "MODEL_ARMOR"), "content_filter")
)
_UNSAID: Final = "FINISH_REASON_UNSPECIFIED"
MADE: Final = "gen_"  # how the ids begin of answers that came without


class Answer:
    """State of one candidate. `signatures`: call id -> thought signature, of the calls that have one."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.finish: str | None = None  # as the upstream says it
        self.signatures: dict[str, str] = {}
        self._begun = False
        self._ids: list[str] = []  # of the calls so far
        self._open: tuple[ReplyCall, Arguments, str | None] | None = None  # a call that goes on, and its signature
        self._texts: list[str] = []
        self._sources: Candidate | None = None  # the last one that told where something comes from
        self._audio = False

    def take(self, candidate: Candidate, answer_id: str) -> Delta | None:
        """What a piece adds, if it adds anything."""
        if candidate.finish_reason and candidate.finish_reason != _UNSAID:
            self.finish = candidate.finish_reason
        if candidate.grounding_metadata or candidate.citation_metadata:
            self._sources = candidate
        delta = Delta()
        for part in (candidate.content.parts if candidate.content else None) or ():
            if part.function_call is not None:
                self._call(part.function_call, part.thought_signature, answer_id, delta)
            else:
                self._say(part, answer_id, delta)
        return self.begun(delta) if delta != _NOTHING or candidate.logprobs_result else None

    def begun(self, delta: Delta) -> Delta:
        """The delta, with the role if it is the first."""
        if not self._begun:
            delta.role, self._begun = "assistant", True
        return delta

    def last(self, answer_id: str) -> Delta | None:
        """What is left to be told when the upstream has said everything."""
        delta = Delta()
        self._close_call(answer_id, delta)
        delta.annotations = self._annotations() or None
        return self.begun(delta) if delta != _NOTHING else None

    def finish_reason(self, *, blocked: bool) -> str:
        """The reason in the pivot's words. `blocked`: nothing was generated, the prompt was refused."""
        if not self.finish and blocked:
            return "content_filter"
        reason = _FINISH.get(self.finish or "", "stop")
        return "tool_calls" if self._ids and reason == "stop" else reason

    # ---- text and media

    def _say(self, part: ReplyPart, answer_id: str, delta: Delta) -> None:
        text = part.text
        if text and part.thought:
            delta.reasoning_content = (delta.reasoning_content or "") + text
        elif text:
            delta.content = (delta.content or "") + text
            self._texts.append(text)
        if part.thought:
            return
        if part.thought_signature:
            delta.reasoning_details = [*(delta.reasoning_details or ()), detail_of(part.thought_signature)]
        if part.inline_data is not None:
            self._media(part.inline_data, answer_id, delta)

    def _media(self, blob: ReplyBlob, answer_id: str, delta: Delta) -> None:
        if blob.mime_type.startswith("audio/"):
            opening = {} if self._audio else {"id": f"audio_{answer_id}", "expires_at": 0, "transcript": ""}
            delta.audio = {**opening, "data": blob.data}
            self._audio = True
        else:
            url = f"data:{blob.mime_type};base64,{blob.data}"
            delta.images = [*(delta.images or ()), {"type": "image_url", "image_url": {"url": url}}]

    # ---- calls

    def _call(self, call: ReplyCall, signature: str | None, answer_id: str, delta: Delta) -> None:
        """A call, whole or the beginning of one, or a piece of the one that goes on."""
        if call.name:
            self._close_call(answer_id, delta)
            if not bytes(call.args) and (call.will_continue or call.partial_args):
                self._open = call, Arguments(), signature
            else:
                self._emit(call, _compact(call.args), signature, answer_id, delta)
        if self._open is None:
            return
        for piece in call.partial_args or ():
            self._open[1].add(piece)
        if not call.will_continue:
            self._close_call(answer_id, delta)

    def _close_call(self, answer_id: str, delta: Delta) -> None:
        if self._open is not None:
            (call, arguments, signature), self._open = self._open, None
            self._emit(call, arguments.json(), signature, answer_id, delta)

    def _emit(self, call: ReplyCall, arguments: str, signature: str | None, answer_id: str, delta: Delta) -> None:
        number = len(self._ids)
        id_ = call.id or f"call_{answer_id}_{self.index}_{number}"
        if signature and not call.id and answer_id.startswith(MADE):  # such ids come twice: other answers of the second
            id_ = f"{id_}_{sha256(signature.encode()).hexdigest()[:8]}"
        if id_ in self._ids:
            id_ = f"{id_}_{number}"
        self._ids.append(id_)
        function = FunctionCallDelta(call.name or "", arguments)
        made = ToolCallDelta(number, id_, "function", function)
        if signature:
            self.signatures[id_] = signature
            made.extra_content = {"google": {"thought_signature": signature}}
        delta.tool_calls = [*(delta.tool_calls or ()), made]

    # ---- sources

    def _annotations(self) -> list[Json]:
        """Where the text comes from; places in it are told in bytes, and given in characters."""
        text = "".join(self._texts).encode()
        found = _grounded(self._sources, len(text)) + _cited(self._sources) if self._sources else []
        return [
            {"type": "url_citation", "url_citation": {**source, "start_index": _at(text, a), "end_index": _at(text, b)}}
            for source, a, b in found
        ]


_NOTHING: Final = Delta()


def logprobs(result: LogprobsResult) -> Json:
    """Log probabilities of the tokens, each with those that might have stood there."""
    tops = result.top_candidates or []
    content = []
    for n, chosen in enumerate(result.chosen_candidates or ()):
        others = (tops[n].candidates if n < len(tops) else None) or ()
        content.append({**_token(chosen), "top_logprobs": [_token(other) for other in others]})
    return {"content": content, "refusal": None}


def _token(token: Token) -> Json:
    return {"token": token.token, "logprob": token.log_probability, "bytes": list(token.token.encode())}


def _grounded(candidate: Candidate, end: int) -> list[tuple[Json, int, int]]:
    """Pages that a search found, with the parts of the text they support; of the whole text where that is not told."""
    grounding = candidate.grounding_metadata
    if grounding is None:
        return []
    pages = [
        _source(chunk.web.uri, chunk.web.title) if chunk.web else None for chunk in grounding.grounding_chunks or ()
    ]
    found = []
    for support in grounding.grounding_supports or ():
        segment = support.segment
        if segment is not None:
            place = segment.start_index or 0, segment.end_index or 0
            chosen = [pages[n] for n in support.grounding_chunk_indices or () if 0 <= n < len(pages)]
            found += [(page, *place) for page in chosen if page]
    return found or [(page, 0, end) for page in pages if page]


def _cited(candidate: Candidate) -> list[tuple[Json, int, int]]:
    cited = (candidate.citation_metadata.citations if candidate.citation_metadata else None) or ()
    found = [(_source(one.uri, one.title), one.start_index or 0, one.end_index or 0) for one in cited]
    return [(page, start, end) for page, start, end in found if page]


def _source(uri: str | None, title: str | None) -> Json | None:
    return {"url": uri, "title": title or ""} if uri else None


def _at(text: bytes, place: int) -> int:
    """A place in bytes as one in characters."""
    return len(text[: max(place, 0)].decode("utf-8", "ignore"))


def _compact(args: msgspec.Raw) -> str:
    """Arguments as they came, without blanks; numbers keep their digits. Raises `UNREADABLE` for what is no text."""
    if bytes(args) in (b"", b"null"):
        return "{}"
    return msgspec.json.format(bytes(args), indent=-1).decode()
