"""The column of Anthropic's dialect in the table of parameters; `anthropic_request` and `anthropic_turns` keep it.

Source: Anthropic's API reference (Messages, Vision, Tool use, Structured outputs, Extended thinking).
"""

from __future__ import annotations

from typing import Final

from polymux.providers.fates import DROPPED, EMULATED, FORWARDED, REFUSED, Column, Fate, column

_TEXT: Final = "messages[].content[].text"
_SOURCE: Final = "messages[].content[].source"
_INPUT: Final = "messages[].content[].input"
_CACHE: Final = "messages[].content[].cache_control"
_FORMAT: Final = "output_config.format"


def _mapped(to: str = "") -> Fate:
    return Fate("mapped", to)


FATES: Final[Column] = column(
    {
        "model": _mapped(),
        "messages": _mapped(),
        "messages[].role": _mapped(),
        "messages[].role=developer": _mapped("system[].text"),
        "messages[].role=function": _mapped("messages[].content[].tool_use_id"),
        "messages[].content": _mapped(),
        "messages[].content[].text": FORWARDED,
        "messages[].content[].refusal": _mapped(_TEXT),
        "messages[].content[].image_url": _mapped(_SOURCE),
        "messages[].content[].image_url.url": _mapped(_SOURCE + ".url"),
        "messages[].content[].image_url.detail": DROPPED,
        "messages[].content[].input_audio": REFUSED,
        "messages[].content[].file": _mapped(_SOURCE),
        "messages[].content[].file.file_id": REFUSED,
        "messages[].content[].file.file_data": _mapped(_SOURCE + ".data"),
        "messages[].content[].file.filename": Fate("forwarded", "messages[].content[].title"),
        "messages[].content[].cache_control": FORWARDED,
        "messages[].content[].prompt_cache_breakpoint": _mapped(_CACHE),
        "messages[].name": DROPPED,
        "messages[].refusal": _mapped(_TEXT),
        "messages[].tool_calls": _mapped("messages[].content[].name"),
        "messages[].tool_calls[].id": _mapped("messages[].content[].id"),
        "messages[].tool_calls[].function": _mapped(_INPUT),
        "messages[].tool_calls[].custom": _mapped(_INPUT),
        "messages[].tool_calls[].extra_content": DROPPED,
        "messages[].tool_call_id": _mapped("messages[].content[].tool_use_id"),
        "messages[].function_call": _mapped(_INPUT),
        "messages[].audio": REFUSED,
        "messages[].reasoning_content": DROPPED,
        "messages[].reasoning": DROPPED,
        "messages[].reasoning_details": _mapped("messages[].content[].thinking"),
        "messages[].cache_control": _mapped(_CACHE),
        "audio": DROPPED,
        "cache_control": FORWARDED,
        "frequency_penalty": DROPPED,
        "function_call": _mapped("tool_choice"),
        "functions": _mapped("tools"),
        "logit_bias": DROPPED,
        "logprobs": REFUSED,
        "max_completion_tokens": Fate("forwarded", "max_tokens"),
        "max_tokens": FORWARDED,
        "metadata": DROPPED,
        "modalities": DROPPED,
        "moderation": DROPPED,
        "n": REFUSED,
        "parallel_tool_calls": _mapped("tool_choice.disable_parallel_tool_use"),
        "prediction": DROPPED,
        "presence_penalty": DROPPED,
        "prompt_cache_key": DROPPED,
        "prompt_cache_options": DROPPED,
        "prompt_cache_retention": DROPPED,
        "reasoning_effort": _mapped("thinking"),
        "response_format": _mapped(_FORMAT),
        "response_format=json_object": Fate("emulated", "system"),
        "response_format.json_schema": _mapped(_FORMAT),
        "response_format.json_schema.name": _mapped(_FORMAT + ".schema.title"),
        "response_format.json_schema.description": _mapped(_FORMAT + ".schema.description"),
        "response_format.json_schema.schema": _mapped(_FORMAT + ".schema"),
        "response_format.json_schema.strict": EMULATED,
        "safety_identifier": _mapped("metadata.user_id"),
        "seed": DROPPED,
        "service_tier": _mapped(),
        "stop": _mapped("stop_sequences"),
        "store": DROPPED,
        "stream": FORWARDED,
        "stream_options": EMULATED,
        "stream_options.include_usage": EMULATED,
        "stream_options.include_obfuscation": DROPPED,
        "temperature": _mapped(),
        "thinking": _mapped(),
        "tool_choice": _mapped(),
        "tool_choice=function": _mapped("tool_choice.name"),
        "tool_choice=custom": _mapped("tool_choice.name"),
        "tool_choice=allowed_tools": _mapped("tools"),
        "tools": _mapped(),
        "tools[].function": _mapped("tools"),
        "tools[].function.name": Fate("forwarded", "tools[].name"),
        "tools[].function.description": Fate("forwarded", "tools[].description"),
        "tools[].function.parameters": _mapped("tools[].input_schema"),
        "tools[].function.strict": Fate("forwarded", "tools[].strict"),
        "tools[].custom": _mapped("tools"),
        "tools[].custom.name": Fate("forwarded", "tools[].name"),
        "tools[].custom.description": Fate("forwarded", "tools[].description"),
        "tools[].custom.format": DROPPED,
        "tools[].cache_control": FORWARDED,
        "top_k": FORWARDED,
        "top_logprobs": DROPPED,
        "top_p": FORWARDED,
        "user": _mapped("metadata.user_id"),
        "verbosity": DROPPED,
        "web_search_options": _mapped("tools"),
    }
)
