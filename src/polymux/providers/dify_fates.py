"""The column of Dify's dialect in the table of parameters; `dify_request` keeps it.

An app is a model with its parameters, tools and prompts: clients ask it, and set nothing. Cells speak of an app that
has conversations. Source: Dify's service API documentation.
"""

from __future__ import annotations

from typing import Final

from polymux.providers.fates import DROPPED, EMULATED, FORWARDED, REFUSED, Column, Fate, column

_QUERY: Final = Fate("mapped", "query")
_FILE: Final = Fate("mapped", "files[].upload_file_id")
_FORM: Final = Fate("emulated", "query")


FATES: Final[Column] = column(
    {
        "model": Fate("mapped", "url"),
        "messages": _QUERY,
        "messages[].role": _QUERY,
        "messages[].role=developer": _QUERY,
        "messages[].role=function": _QUERY,
        "messages[].content": _QUERY,
        "messages[].content[].text": _QUERY,
        "messages[].content[].refusal": _QUERY,
        "messages[].content[].image_url": Fate("mapped", "files"),
        "messages[].content[].image_url.url": Fate("forwarded", "files[].url"),
        "messages[].content[].input_audio": _FILE,
        "messages[].content[].file": _FILE,
        "messages[].content[].file.file_id": REFUSED,
        "messages[].content[].file.file_data": _FILE,
        "messages[].content[].file.filename": _FILE,
        "messages[].refusal": _QUERY,
        "messages[].tool_calls": _QUERY,
        "messages[].tool_calls[].id": _QUERY,
        "messages[].tool_calls[].function": _QUERY,
        "messages[].tool_calls[].custom": _QUERY,
        "messages[].tool_call_id": _QUERY,
        "messages[].function_call": _QUERY,
        "function_call": REFUSED,
        "functions": REFUSED,
        "logprobs": REFUSED,
        "metadata": Fate("forwarded", "inputs"),
        "n": REFUSED,
        "parallel_tool_calls": REFUSED,
        "response_format": _FORM,
        "response_format=json_object": _FORM,
        "response_format.json_schema": _FORM,
        "response_format.json_schema.name": _FORM,
        "response_format.json_schema.description": _FORM,
        "response_format.json_schema.schema": _FORM,
        "response_format.json_schema.strict": _FORM,
        "safety_identifier": Fate("mapped", "user"),
        "stream": EMULATED,
        "stream_options": EMULATED,
        "stream_options.include_usage": EMULATED,
        "tool_choice": REFUSED,
        "tool_choice=function": REFUSED,
        "tool_choice=custom": REFUSED,
        "tool_choice=allowed_tools": REFUSED,
        "tools": REFUSED,
        "tools[].function": REFUSED,
        "tools[].function.name": REFUSED,
        "tools[].function.description": REFUSED,
        "tools[].function.parameters": REFUSED,
        "tools[].function.strict": REFUSED,
        "tools[].custom": REFUSED,
        "tools[].custom.name": REFUSED,
        "tools[].custom.description": REFUSED,
        "tools[].custom.format": REFUSED,
        "tools[].cache_control": REFUSED,
        "user": FORWARDED,
    },
    rest=DROPPED,
)
