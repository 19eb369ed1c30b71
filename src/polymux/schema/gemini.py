"""Google's generateContent on the wire, version v1beta.

Source: the types of Google's Gen AI SDK and the Gemini API reference (generateContent, embeddings, models). What a
provider sends is decoded leniently: every member has a default and unknown ones are skipped. Request members at their
default are left out.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Json = dict[str, Any]


class _Wire(msgspec.Struct, omit_defaults=True, rename="camel"):
    pass


# ---- request ---------------------------------------------------------------------------------------------------


class Blob(_Wire):
    mime_type: str
    data: str  # base64


class FileData(_Wire):
    """A file that the upstream fetches: of its Files API, of Cloud Storage, or a public URL."""

    file_uri: str
    mime_type: str | None = None


class FunctionCall(_Wire):
    name: str
    args: msgspec.Raw  # a JSON object
    id: str | None = None


class FunctionResponse(_Wire):
    name: str
    response: msgspec.Raw  # a JSON object
    id: str | None = None


class Part(_Wire):
    """Exactly one of the members but the last is set."""

    text: str | None = None
    inline_data: Blob | None = None
    file_data: FileData | None = None
    function_call: FunctionCall | None = None
    function_response: FunctionResponse | None = None
    thought_signature: str | None = None


class Content(_Wire):
    parts: list[Part]
    role: Literal["user", "model"] | None = None


class FunctionDeclaration(_Wire):
    """`parameters` is a subset of OpenAPI's schemas, `parameters_json_schema` JSON Schema; one of them."""

    name: str
    description: str | None = None
    parameters: Json | None = None
    parameters_json_schema: Json | None = None


class Tool(_Wire):
    function_declarations: list[FunctionDeclaration] = []
    google_search: Json | None = None


class FunctionCallingConfig(_Wire):
    mode: Literal["AUTO", "ANY", "NONE", "VALIDATED"]
    allowed_function_names: list[str] = []


class ToolConfig(_Wire):
    function_calling_config: FunctionCallingConfig


class ThinkingConfig(_Wire):
    """At most one of budget (tokens; 0 = off, -1 = as needed) and level."""

    include_thoughts: bool = False
    thinking_budget: int | None = None
    thinking_level: str | None = None


class GenerationConfig(_Wire):
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    candidate_count: int | None = None
    max_output_tokens: int | None = None
    stop_sequences: list[str] = []
    response_logprobs: bool = False
    logprobs: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    response_mime_type: str | None = None
    response_schema: Json | None = None
    response_json_schema: Json | None = None
    response_modalities: list[str] = []
    thinking_config: ThinkingConfig | None = None


class GenerateRequest(_Wire):
    contents: list[Content]
    system_instruction: Content | None = None
    tools: list[Tool] = []
    tool_config: ToolConfig | None = None
    generation_config: GenerationConfig | None = None
    service_tier: str | None = None


# ---- answer ----------------------------------------------------------------------------------------------------


class PartialArg(_Wire):
    """A piece of a call's arguments, at a path such as `$.a[0].b`. One of the values is set; strings go on."""

    json_path: str = ""
    string_value: str | None = None
    number_value: int | float | None = None
    bool_value: bool | None = None


class ReplyCall(_Wire):
    """A call, or a piece of one."""

    name: str | None = None
    args: msgspec.Raw = msgspec.Raw()
    id: str | None = None
    partial_args: list[PartialArg] | None = None
    will_continue: bool | None = None


class ReplyBlob(_Wire):
    mime_type: str = ""
    data: str = ""


class ReplyPart(_Wire, gc=False):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: ReplyCall | None = None
    inline_data: ReplyBlob | None = None


class ReplyContent(_Wire, gc=False):
    parts: list[ReplyPart] | None = None


class Web(_Wire):
    uri: str | None = None
    title: str | None = None


class GroundingChunk(_Wire):
    web: Web | None = None


class Segment(_Wire):
    """Where in the text, in bytes of UTF-8."""

    start_index: int | None = None
    end_index: int | None = None


class GroundingSupport(_Wire):
    segment: Segment | None = None
    grounding_chunk_indices: list[int] | None = None


class GroundingMetadata(_Wire):
    grounding_chunks: list[GroundingChunk] | None = None
    grounding_supports: list[GroundingSupport] | None = None


class Citation(_Wire):
    start_index: int | None = None
    end_index: int | None = None
    uri: str | None = None
    title: str | None = None


class CitationMetadata(_Wire):
    citations: list[Citation] | None = None


class Token(_Wire):
    token: str = ""
    log_probability: float = 0.0


class TopCandidates(_Wire):
    candidates: list[Token] | None = None


class LogprobsResult(_Wire):
    chosen_candidates: list[Token] | None = None
    top_candidates: list[TopCandidates] | None = None


class Candidate(_Wire, gc=False):
    content: ReplyContent | None = None
    finish_reason: str | None = None
    index: int | None = None
    grounding_metadata: GroundingMetadata | None = None
    citation_metadata: CitationMetadata | None = None
    logprobs_result: LogprobsResult | None = None


class PromptFeedback(_Wire):
    block_reason: str | None = None


class ModalityCount(_Wire):
    modality: str = ""
    token_count: int | None = None


class UsageMetadata(_Wire):
    """Running totals. The prompt includes what was cached; candidates exclude thoughts."""

    prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    total_token_count: int | None = None
    prompt_tokens_details: list[ModalityCount] | None = None
    candidates_tokens_details: list[ModalityCount] | None = None


class Reply(_Wire, gc=False):
    """A whole answer, a piece of one, or an error in the place of one; without its `Totals`."""

    candidates: list[Candidate] | None = None
    prompt_feedback: PromptFeedback | None = None
    response_id: str | None = None
    error: Any = None


class Totals(_Wire):
    """The same, of which only the usage is looked at."""

    usage_metadata: UsageMetadata | None = None


# ---- embeddings, models ----------------------------------------------------------------------------------------


class EmbedRequest(_Wire):
    model: str
    content: Content
    task_type: str | None = None
    output_dimensionality: int | None = None


class BatchEmbedRequest(_Wire):
    requests: list[EmbedRequest]


class Vector(_Wire):
    values: list[float] = []


class BatchEmbedReply(_Wire):
    embeddings: list[Vector] | None = None
    usage_metadata: UsageMetadata | None = None
    error: Any = None


class Model(_Wire):
    name: str


class ModelList(_Wire):
    models: list[Model] = []
