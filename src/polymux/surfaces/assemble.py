"""A whole answer as a stream and a stream as a whole answer, both in the pivot, and what the whole of it has used."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from polymux.schema.chat import (
    AnswerMessage,
    ChatResponse,
    Choice,
    Chunk,
    ChunkChoice,
    CustomCall,
    CustomCallDelta,
    Delta,
    FunctionCall,
    FunctionCallDelta,
    Json,
    TokenUsage,
    ToolCall,
    ToolCallDelta,
)
from polymux.surfaces.base import Alter
from polymux.types import NO_USAGE, Usage


def chunks_of(response: ChatResponse) -> list[Chunk]:
    """For upstreams that answer a streamed request with one JSON body."""

    def chunk(choices: list[ChunkChoice]) -> Chunk:
        made = Chunk(response.id, response.created, response.model, choices)
        made.service_tier, made.system_fingerprint = response.service_tier, response.system_fingerprint
        return made

    out = [chunk([_delta(choice)]) for choice in response.choices]
    out += [chunk([ChunkChoice(choice.index, Delta(), choice.finish_reason)]) for choice in response.choices]
    if response.usage:
        out.append(chunk([]))
        out[-1].usage = response.usage
    return out


def gather(chunks: Sequence[Chunk]) -> ChatResponse:
    """For models that only stream. `chunks` must not be empty."""
    choices: dict[int, Choice] = {}
    usage = None
    for chunk in chunks:
        usage = chunk.usage or usage
        for part in chunk.choices:
            choice = choices.setdefault(part.index, Choice(part.index, AnswerMessage()))
            _add(choice.message, part.delta)
            choice.finish_reason = part.finish_reason or choice.finish_reason
            if part.logprobs:
                choice.logprobs = _joined(choice.logprobs, part.logprobs)
    first, last = chunks[0], chunks[-1]
    response = ChatResponse(first.id, first.created, first.model, [choices[i] for i in sorted(choices)])
    response.usage = usage or msgspec.UNSET
    response.service_tier, response.system_fingerprint = last.service_tier, last.system_fingerprint
    return response


def settled(response: ChatResponse, alter: Alter | None, source: str) -> tuple[ChatResponse, Usage]:
    """A whole answer as hooks leave it, and what it has used. source: of the usage, upstream | estimated."""
    if alter is not None:
        chunks = chunks_of(response)
        kept = [altered for chunk in chunks if (altered := alter(chunk)) is not None]
        response = gather(kept or chunks[len(response.choices) :])  # at least the finish
    return response, usage_of(response.usage, source) if response.usage else NO_USAGE


def usage_of(usage: TokenUsage, source: str = "upstream") -> Usage:
    """The pivot's usage as counts."""
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    return Usage(
        input=usage.prompt_tokens,
        output=usage.completion_tokens,
        cached=(prompt.cached_tokens or 0) if prompt else 0,
        cache_write=(prompt.cache_write_tokens or 0) if prompt else 0,
        reasoning=(completion.reasoning_tokens or 0) if completion else 0,
        source=source,
        cache_write_1h=(prompt.cache_write_1h_tokens or 0) if prompt else 0,
        audio_input=(prompt.audio_tokens or 0) if prompt else 0,
        audio_output=(completion.audio_tokens or 0) if completion else 0,
    )


def _delta(choice: Choice) -> ChunkChoice:
    message = choice.message
    legacy = message.function_call
    delta = Delta(
        role="assistant",
        content=message.content,
        refusal=message.refusal,
        reasoning_content=message.reasoning_content or None,
        reasoning_details=message.reasoning_details or None,
        tool_calls=[_fragment(n, call) for n, call in enumerate(message.tool_calls or ())] or None,
        annotations=message.annotations or None,
        images=message.images or None,
        function_call=FunctionCallDelta(legacy.name, legacy.arguments) if legacy else None,
        audio=message.audio or None,
    )
    return ChunkChoice(choice.index, delta, logprobs=choice.logprobs or msgspec.UNSET)


def _fragment(number: int, call: ToolCall) -> ToolCallDelta:
    """A whole call as the only fragment of its own."""
    out = ToolCallDelta(number, call.id, call.type, extra_content=call.extra_content)
    if call.function:
        out.function = FunctionCallDelta(call.function.name, call.function.arguments)
    if call.custom:
        out.custom = CustomCallDelta(call.custom.name, call.custom.input)
    return out


def _joined(held: Json | None, more: Json) -> Json:
    """Log probabilities so far and those of the next chunk: lists of tokens by what they are of."""
    held = held or {}
    return held | {
        name: [*(held.get(name) or ()), *tokens] if tokens else held.get(name) for name, tokens in more.items()
    }


def _add(message: AnswerMessage, delta: Delta) -> None:
    if delta.content:
        message.content = (message.content or "") + delta.content
    if delta.refusal:
        message.refusal = (message.refusal or "") + delta.refusal
    if delta.reasoning_content:
        message.reasoning_content = (message.reasoning_content or "") + delta.reasoning_content
    if delta.reasoning_details:
        message.reasoning_details = [*(message.reasoning_details or ()), *delta.reasoning_details]
    if delta.annotations:
        message.annotations = [*(message.annotations or ()), *delta.annotations]
    if delta.images:
        message.images = [*(message.images or ()), *delta.images]
    if delta.function_call:
        message.function_call = _joined_call(message.function_call or FunctionCall(), delta.function_call)
    if delta.audio:
        message.audio = _joined_audio(message.audio or {}, delta.audio)
    for fragment in delta.tool_calls or ():
        message.tool_calls = _add_call(message.tool_calls or [], fragment)


def _joined_audio(held: Json, more: Json) -> Json:
    """Audio so far and the next piece of it: `data` and `transcript` go on, the rest is replaced."""
    going_on = {name: held.get(name, "") + more[name] for name in ("data", "transcript") if more.get(name)}
    return held | {name: value for name, value in more.items() if value is not None} | going_on


def _joined_call(held: FunctionCall, more: FunctionCallDelta) -> FunctionCall:
    return FunctionCall(held.name or more.name or "", held.arguments + (more.arguments or ""))


def _add_call(calls: list[ToolCall], fragment: ToolCallDelta) -> list[ToolCall]:
    while len(calls) <= (fragment.index or 0):
        calls.append(ToolCall())
    call = calls[fragment.index or 0]
    call.id = call.id or fragment.id or ""
    call.extra_content = call.extra_content or fragment.extra_content
    if more := fragment.custom:
        custom = call.custom or CustomCall()
        call.type, call.custom = "custom", CustomCall(custom.name or more.name or "", custom.input + (more.input or ""))
    else:
        call.function = _joined_call(call.function or FunctionCall(), fragment.function or FunctionCallDelta())
    return calls
