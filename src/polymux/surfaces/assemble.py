"""A whole answer as a stream and a stream as a whole answer, both in the pivot."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from polymux.schema.chat import (
    AnswerMessage,
    ChatResponse,
    Choice,
    Chunk,
    ChunkChoice,
    Delta,
    FunctionCall,
    FunctionCallDelta,
    Json,
    ToolCall,
    ToolCallDelta,
)


def chunks_of(response: ChatResponse) -> list[Chunk]:
    """For upstreams that answer a streamed request with one JSON body."""

    def chunk(choices: list[ChunkChoice]) -> Chunk:
        return Chunk(response.id, response.created, response.model, choices)

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
    first = chunks[0]
    return ChatResponse(
        first.id, first.created, first.model, [choices[i] for i in sorted(choices)], usage or msgspec.UNSET
    )


def _delta(choice: Choice) -> ChunkChoice:
    message = choice.message
    calls = [
        ToolCallDelta(
            n,
            call.id,
            call.type,
            FunctionCallDelta(function.name, function.arguments),
            call.extra_content,
        )
        for n, (call, function) in enumerate((c, c.function) for c in message.tool_calls or () if c.function)
    ]
    delta = Delta(
        role="assistant",
        content=message.content,
        refusal=message.refusal,
        reasoning_content=message.reasoning_content or None,
        reasoning_details=message.reasoning_details or None,
        tool_calls=calls or None,
        annotations=message.annotations or None,
    )
    return ChunkChoice(choice.index, delta, logprobs=choice.logprobs or msgspec.UNSET)


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
    for fragment in delta.tool_calls or ():
        message.tool_calls = _add_call(message.tool_calls or [], fragment)


def _add_call(calls: list[ToolCall], fragment: ToolCallDelta) -> list[ToolCall]:
    while len(calls) <= (fragment.index or 0):
        calls.append(ToolCall(function=FunctionCall()))
    call, part = calls[fragment.index or 0], fragment.function
    call.id = call.id or fragment.id or ""
    call.extra_content = call.extra_content or fragment.extra_content
    if call.function and part:
        call.function.name = call.function.name or part.name or ""
        call.function.arguments += part.arguments or ""
    return calls
