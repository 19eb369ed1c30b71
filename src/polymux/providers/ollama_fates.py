"""The column of Ollama's dialect in the table of parameters; `ollama_request` keeps it.

Source: Ollama's API documentation and its Go types (api/types.go).
"""

from __future__ import annotations

from typing import Final

from polymux.providers.fates import DROPPED, EMBEDDINGS, EMULATED, FORWARDED, REFUSED, Column, Fate, column

_ARGUMENTS: Final = "messages[].tool_calls[].function.arguments"
_CONTENT: Final = "messages[].content"


def _mapped(to: str = "") -> Fate:
    return Fate("mapped", to)


def _option(name: str) -> Fate:
    return Fate("forwarded", f"options.{name}")


FATES: Final[Column] = column(
    {
        "model": _mapped(),
        "messages": _mapped(),
        "messages[].role": FORWARDED,
        "messages[].role=developer": _mapped("messages[].role"),
        "messages[].role=function": _mapped("messages[].tool_name"),
        "messages[].content": _mapped(),
        "messages[].content[].text": _mapped(_CONTENT),
        "messages[].content[].refusal": _mapped(_CONTENT),
        "messages[].content[].image_url": _mapped("messages[].images"),
        "messages[].content[].image_url.url": REFUSED,
        "messages[].content[].image_url.detail": DROPPED,
        "messages[].content[].input_audio": REFUSED,
        "messages[].content[].file": REFUSED,
        "messages[].content[].file.file_id": REFUSED,
        "messages[].content[].file.file_data": REFUSED,
        "messages[].content[].file.filename": REFUSED,
        "messages[].content[].cache_control": DROPPED,
        "messages[].content[].prompt_cache_breakpoint": DROPPED,
        "messages[].name": DROPPED,
        "messages[].refusal": _mapped(_CONTENT),
        "messages[].tool_calls": _mapped(),
        "messages[].tool_calls[].id": FORWARDED,
        "messages[].tool_calls[].function": _mapped(_ARGUMENTS),
        "messages[].tool_calls[].custom": _mapped(_ARGUMENTS),
        "messages[].tool_calls[].extra_content": DROPPED,
        "messages[].tool_call_id": FORWARDED,
        "messages[].function_call": _mapped(_ARGUMENTS),
        "messages[].audio": REFUSED,
        "messages[].reasoning_content": Fate("forwarded", "messages[].thinking"),
        "messages[].reasoning": Fate("forwarded", "messages[].thinking"),
        "messages[].reasoning_details": DROPPED,
        "messages[].cache_control": DROPPED,
        "audio": DROPPED,
        "cache_control": DROPPED,
        "frequency_penalty": _option("frequency_penalty"),
        "function_call": DROPPED,
        "functions": _mapped("tools"),
        "keep_alive": FORWARDED,
        "logit_bias": DROPPED,
        "logprobs": FORWARDED,
        "max_completion_tokens": _option("num_predict"),
        "max_tokens": _option("num_predict"),
        "metadata": DROPPED,
        "modalities": DROPPED,
        "moderation": DROPPED,
        "n": REFUSED,
        "num_ctx": _option("num_ctx"),
        "options": FORWARDED,
        "parallel_tool_calls": DROPPED,
        "prediction": DROPPED,
        "presence_penalty": _option("presence_penalty"),
        "prompt_cache_key": DROPPED,
        "prompt_cache_options": DROPPED,
        "prompt_cache_retention": DROPPED,
        "reasoning_effort": _mapped("think"),
        "response_format": _mapped("format"),
        "response_format=json_object": _mapped("format"),
        "response_format.json_schema": _mapped("format"),
        "response_format.json_schema.name": _mapped("format.title"),
        "response_format.json_schema.description": _mapped("format.description"),
        "response_format.json_schema.schema": _mapped("format"),
        "response_format.json_schema.strict": EMULATED,
        "safety_identifier": DROPPED,
        "seed": _option("seed"),
        "service_tier": DROPPED,
        "stop": _mapped("options.stop"),
        "store": DROPPED,
        "stream": FORWARDED,
        "stream_options": EMULATED,
        "stream_options.include_usage": EMULATED,
        "stream_options.include_obfuscation": DROPPED,
        "temperature": _option("temperature"),
        "thinking": _mapped("think"),
        "tool_choice": DROPPED,
        "tool_choice=function": DROPPED,
        "tool_choice=custom": DROPPED,
        "tool_choice=allowed_tools": _mapped("tools"),
        "tools": _mapped(),
        "tools[].function": _mapped("tools"),
        "tools[].function.name": FORWARDED,
        "tools[].function.description": FORWARDED,
        "tools[].function.parameters": FORWARDED,
        "tools[].function.strict": DROPPED,
        "tools[].custom": _mapped("tools"),
        "tools[].custom.name": Fate("forwarded", "tools[].function.name"),
        "tools[].custom.description": Fate("forwarded", "tools[].function.description"),
        "tools[].custom.format": DROPPED,
        "tools[].cache_control": DROPPED,
        "top_k": _option("top_k"),
        "top_logprobs": FORWARDED,
        "top_p": _option("top_p"),
        "user": DROPPED,
        "verbosity": DROPPED,
        "web_search_options": DROPPED,
    }
)

EMBEDDING_FATES: Final[Column] = column(
    {
        "model": _mapped(),
        "input": _mapped(),
        "input=tokens": REFUSED,
        "dimensions": FORWARDED,
        "encoding_format": EMULATED,
        "user": DROPPED,
    },
    rows=EMBEDDINGS,
)
