"""The column of Gemini's dialect in the table of parameters; `gemini_request` and `gemini_turns` keep it.

Source: the Gemini API reference (generateContent, function calling, structured output, thinking). `url` is the address
of the request, where Google has the model's name and whether the answer is streamed.
"""

from __future__ import annotations

from typing import Final

from polymux.providers.fates import DROPPED, EMBEDDINGS, EMULATED, REFUSED, Column, Fate, column

_PARTS: Final = "contents[].parts[]"
_CALL: Final = _PARTS + ".functionCall"
_RESULT: Final = _PARTS + ".functionResponse"
_FUNCTIONS: Final = "tools[].functionDeclarations[]"
_CONFIG: Final = "generationConfig"
_SCHEMA: Final = _CONFIG + ".responseJsonSchema"
_CHOICE: Final = "toolConfig.functionCallingConfig"


def _mapped(to: str) -> Fate:
    return Fate("mapped", to)


def _forwarded(to: str) -> Fate:
    return Fate("forwarded", to)


FATES: Final[Column] = column(
    {
        "model": _mapped("url"),
        "messages": _mapped("contents"),
        "messages[].role": _mapped("contents[].role"),
        "messages[].role=developer": _mapped("systemInstruction.parts[].text"),
        "messages[].role=function": _mapped(_RESULT),
        "messages[].content": _mapped("contents[].parts"),
        "messages[].content[].text": _forwarded(_PARTS + ".text"),
        "messages[].content[].refusal": _mapped(_PARTS + ".text"),
        "messages[].content[].image_url": _mapped(_PARTS + ".fileData"),
        "messages[].content[].image_url.url": _mapped(_PARTS + ".fileData.fileUri"),
        "messages[].content[].image_url.detail": DROPPED,
        "messages[].content[].input_audio": _mapped(_PARTS + ".inlineData"),
        "messages[].content[].file": _mapped(_PARTS + ".inlineData"),
        "messages[].content[].file.file_id": REFUSED,
        "messages[].content[].file.file_data": _mapped(_PARTS + ".inlineData.data"),
        "messages[].content[].file.filename": DROPPED,
        "messages[].content[].cache_control": DROPPED,
        "messages[].content[].prompt_cache_breakpoint": DROPPED,
        "messages[].name": DROPPED,
        "messages[].refusal": _mapped(_PARTS + ".text"),
        "messages[].tool_calls": _mapped(_CALL),
        "messages[].tool_calls[].id": _forwarded(_CALL + ".id"),
        "messages[].tool_calls[].function": _mapped(_CALL + ".args"),
        "messages[].tool_calls[].custom": _mapped(_CALL + ".args"),
        "messages[].tool_calls[].extra_content": _mapped(_PARTS + ".thoughtSignature"),
        "messages[].tool_call_id": _forwarded(_RESULT + ".id"),
        "messages[].function_call": _mapped(_CALL),
        "messages[].audio": REFUSED,
        "messages[].reasoning_content": DROPPED,
        "messages[].reasoning": DROPPED,
        "messages[].reasoning_details": _mapped(_PARTS + ".thoughtSignature"),
        "messages[].cache_control": DROPPED,
        "audio": DROPPED,
        "cache_control": DROPPED,
        "frequency_penalty": _forwarded(_CONFIG + ".frequencyPenalty"),
        "function_call": _mapped(_CHOICE),
        "functions": _mapped(_FUNCTIONS),
        "logit_bias": DROPPED,
        "logprobs": _mapped(_CONFIG + ".responseLogprobs"),
        "max_completion_tokens": _forwarded(_CONFIG + ".maxOutputTokens"),
        "max_tokens": _forwarded(_CONFIG + ".maxOutputTokens"),
        "metadata": DROPPED,
        "modalities": _mapped(_CONFIG + ".responseModalities"),
        "moderation": DROPPED,
        "n": _forwarded(_CONFIG + ".candidateCount"),
        "parallel_tool_calls": DROPPED,
        "prediction": DROPPED,
        "presence_penalty": _forwarded(_CONFIG + ".presencePenalty"),
        "prompt_cache_key": DROPPED,
        "prompt_cache_options": DROPPED,
        "prompt_cache_retention": DROPPED,
        "reasoning_effort": _mapped(_CONFIG + ".thinkingConfig"),
        "response_format": _mapped(_SCHEMA),
        "response_format=json_object": _mapped(_CONFIG + ".responseMimeType"),
        "response_format.json_schema": _mapped(_SCHEMA),
        "response_format.json_schema.name": _mapped(_SCHEMA + ".title"),
        "response_format.json_schema.description": _forwarded(_SCHEMA + ".description"),
        "response_format.json_schema.schema": _mapped(_SCHEMA),
        "response_format.json_schema.strict": EMULATED,
        "safety_identifier": DROPPED,
        "seed": _forwarded(_CONFIG + ".seed"),
        "service_tier": _mapped("serviceTier"),
        "stop": _forwarded(_CONFIG + ".stopSequences"),
        "store": DROPPED,
        "stream": _mapped("url"),
        "stream_options": EMULATED,
        "stream_options.include_usage": EMULATED,
        "stream_options.include_obfuscation": DROPPED,
        "temperature": _forwarded(_CONFIG + ".temperature"),
        "thinking": _mapped(_CONFIG + ".thinkingConfig"),
        "tool_choice": _mapped(_CHOICE + ".mode"),
        "tool_choice=function": _mapped(_CHOICE + ".allowedFunctionNames"),
        "tool_choice=custom": _mapped(_CHOICE + ".allowedFunctionNames"),
        "tool_choice=allowed_tools": _mapped(_FUNCTIONS),
        "tools": _mapped(_FUNCTIONS),
        "tools[].function": _mapped(_FUNCTIONS),
        "tools[].function.name": _forwarded(_FUNCTIONS + ".name"),
        "tools[].function.description": _forwarded(_FUNCTIONS + ".description"),
        "tools[].function.parameters": _mapped(_FUNCTIONS + ".parametersJsonSchema"),
        "tools[].function.strict": _mapped(_CHOICE + ".mode"),
        "tools[].custom": _mapped(_FUNCTIONS),
        "tools[].custom.name": _forwarded(_FUNCTIONS + ".name"),
        "tools[].custom.description": _forwarded(_FUNCTIONS + ".description"),
        "tools[].custom.format": DROPPED,
        "tools[].cache_control": DROPPED,
        "top_k": _forwarded(_CONFIG + ".topK"),
        "top_logprobs": _forwarded(_CONFIG + ".logprobs"),
        "top_p": _forwarded(_CONFIG + ".topP"),
        "user": DROPPED,
        "verbosity": DROPPED,
        "web_search_options": _mapped("tools[].googleSearch"),
    }
)

EMBEDDING_FATES: Final[Column] = column(
    {
        "model": _mapped("requests[].model"),
        "input": _mapped("requests[].content.parts[].text"),
        "input=tokens": REFUSED,
        "dimensions": _forwarded("requests[].outputDimensionality"),
        "encoding_format": EMULATED,
        "user": DROPPED,
    },
    rows=EMBEDDINGS,
)
