"""The pivot: OpenAI's chat completions, the one form every dialect is translated to and from.

Source: OpenAI's API description (chat completions). Unknown members of a request are ignored here; what a
dialect cannot take is found by name (`wire.splice`) and signalled. Extensions that some dialect understands
(`cache_control`, `reasoning_content`, signatures ...) are declared as fields, so they survive translation.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

Json = dict[str, Any]

DONE: Final = b"data: [DONE]\n\n"  # the end of a streamed answer


class _Wire(msgspec.Struct, omit_defaults=True):
    """Members at their default are left out on the wire."""


# ---- request ---------------------------------------------------------------------------------------------------


class ImageURL(_Wire):
    url: str
    detail: str | None = None


class InputAudio(_Wire):
    data: str
    format: str


class FileRef(_Wire):
    file_id: str | None = None
    file_data: str | None = None  # data URI or bare base64
    filename: str | None = None


class Part(_Wire):
    """A content part; `type` says which of the members is meant."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: ImageURL | str | None = None  # a bare string is sent by some clients
    input_audio: InputAudio | None = None
    file: FileRef | None = None
    cache_control: Json | None = None
    prompt_cache_breakpoint: Json | None = None


class FunctionCall(_Wire):
    name: str = ""
    arguments: str = msgspec.field(default_factory=str)  # JSON text, possibly empty, never left out


class CustomCall(_Wire):
    name: str = ""
    input: str = ""


class ToolCall(_Wire):
    id: str = ""
    type: str = msgspec.field(default_factory=lambda: "function")  # a factory's value is never left out
    function: FunctionCall | None = None
    custom: CustomCall | None = None
    extra_content: Json | None = None


class Message(_Wire):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    function_call: FunctionCall | None = None
    audio: Json | None = None  # of the assistant: the id of audio it said before
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[Json] | None = None  # opaque reasoning (signatures, redacted blocks), returned as given
    cache_control: Json | None = None


class FunctionDef(_Wire):
    name: str
    description: str | None = None
    parameters: Json | None = None
    strict: bool | None = None


class CustomDef(_Wire):
    name: str
    description: str | None = None
    format: Json | None = None


class Tool(_Wire):
    type: str = msgspec.field(default_factory=lambda: "function")
    function: FunctionDef | None = None
    custom: CustomDef | None = None
    cache_control: Json | None = None


class StreamOptions(_Wire):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class JsonSchema(_Wire):
    name: str = ""
    description: str | None = None
    schema: Json | None = None
    strict: bool | None = None


class ResponseFormat(_Wire):
    type: str
    json_schema: JsonSchema | None = None


class ChatRequest(_Wire):
    """A chat completions request. Bounds (`temperature` 0..2 ...) are the provider's to judge; types are ours."""

    model: str
    messages: list[Message]
    audio: Json | None = None
    frequency_penalty: float | None = None
    function_call: str | Json | None = None
    functions: list[FunctionDef] | None = None
    logit_bias: Json | None = None
    logprobs: bool | None = None
    max_completion_tokens: int | None = None
    max_tokens: int | None = None
    metadata: Json | None = None
    modalities: list[str] | None = None
    moderation: Json | None = None
    n: int | None = None
    parallel_tool_calls: bool | None = None
    prediction: Json | None = None
    presence_penalty: float | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: Json | None = None
    prompt_cache_retention: str | None = None
    reasoning_effort: str | None = None
    response_format: ResponseFormat | None = None
    safety_identifier: str | None = None
    seed: int | None = None
    service_tier: str | None = None
    stop: str | list[str] | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    tool_choice: str | Json | None = None
    tools: list[Tool] | None = None
    top_k: int | None = None  # an extension many servers take
    top_logprobs: int | None = None
    top_p: float | None = None
    user: str | None = None
    verbosity: str | None = None
    web_search_options: Json | None = None
    thinking: Json | None = None  # an extension: thinking given in the Anthropic form
    cache_control: Json | None = None  # likewise
    keep_alive: str | int | float | None = None  # extensions of servers at home: how long a model stays loaded,
    num_ctx: int | None = None  # its context in tokens,
    options: Json | None = None  # and what else a server takes


# ---- answer ----------------------------------------------------------------------------------------------------


class PromptDetails(_Wire):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None  # of those; an extension
    audio_tokens: int | None = None


class CompletionDetails(_Wire):
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None
    accepted_prediction_tokens: int | None = None
    rejected_prediction_tokens: int | None = None


class TokenUsage(_Wire):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None


class AnswerMessage(_Wire, omit_defaults=False):
    """`content` and `refusal` are always present (OpenAI's schema requires them); extensions only when set."""

    role: str = "assistant"
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | msgspec.UnsetType = msgspec.UNSET
    reasoning_details: list[Json] | msgspec.UnsetType = msgspec.UNSET
    tool_calls: list[ToolCall] | msgspec.UnsetType = msgspec.UNSET
    annotations: list[Json] | msgspec.UnsetType = msgspec.UNSET
    images: list[Json] | msgspec.UnsetType | None = msgspec.UNSET  # an extension: parts of type image_url
    function_call: FunctionCall | msgspec.UnsetType | None = msgspec.UNSET  # the form before `tool_calls`
    audio: Json | msgspec.UnsetType | None = msgspec.UNSET


class Choice(_Wire, omit_defaults=False):
    index: int = 0
    message: AnswerMessage = msgspec.field(default_factory=AnswerMessage)
    finish_reason: str = "stop"
    logprobs: Json | None = None


class ChatResponse(_Wire, omit_defaults=False, tag_field="object", tag="chat.completion"):
    id: str
    created: int
    model: str
    choices: list[Choice]
    usage: TokenUsage | msgspec.UnsetType | None = msgspec.UNSET
    service_tier: Any = msgspec.UNSET  # like the next: as sent, whatever it is
    system_fingerprint: Any = msgspec.UNSET


class ToolCallDelta(_Wire):
    """A fragment of a call. The first of an index has id, type and name; `index` is always sent."""

    index: int | msgspec.UnsetType = msgspec.UNSET
    id: str | None = None
    type: str | None = None
    function: FunctionCallDelta | None = None
    custom: CustomCallDelta | None = None
    extra_content: Json | None = None


class FunctionCallDelta(_Wire):
    name: str | None = None
    arguments: str | msgspec.UnsetType = msgspec.UNSET


class CustomCallDelta(_Wire):
    name: str | None = None
    input: str | msgspec.UnsetType = msgspec.UNSET


class Delta(_Wire):
    role: str | None = None
    content: str | msgspec.UnsetType | None = msgspec.UNSET
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning_details: list[Json] | None = None
    tool_calls: list[ToolCallDelta] | None = None
    annotations: list[Json] | None = None
    images: list[Json] | None = None
    function_call: FunctionCallDelta | None = None
    audio: Json | None = None

    def has_content(self) -> bool:
        """True for what commits an answer: text, reasoning, refusal, a call, audio; a role alone does not."""
        return bool(
            (self.content is not msgspec.UNSET and self.content)
            or self.tool_calls
            or self.reasoning_content
            or self.refusal
            or self.reasoning_details
            or self.function_call
            or self.audio
            or self.images
        )


class ChunkChoice(_Wire, omit_defaults=False):
    index: int = 0
    delta: Delta = msgspec.field(default_factory=Delta)
    finish_reason: str | None = None
    logprobs: Json | msgspec.UnsetType | None = msgspec.UNSET


class Chunk(_Wire, omit_defaults=False, tag_field="object", tag="chat.completion.chunk"):
    """One event of a streamed answer. `id`, `created`, `model` are the same in all chunks of an answer."""

    id: str
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: TokenUsage | msgspec.UnsetType | None = msgspec.UNSET
    service_tier: Any = msgspec.UNSET  # like the next: as sent, whatever it is
    system_fingerprint: Any = msgspec.UNSET
