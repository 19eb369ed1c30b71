"""Chat messages -> messages of Ollama's `/api/chat`: text and images apart, results named after their tool.

Source: Ollama's API documentation (chat, tool calling, vision, thinking).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import MappingProxyType
from typing import Final

import msgspec

from polymux.errors import Failure
from polymux.providers.fates import asks
from polymux.schema import ollama as wire
from polymux.schema.chat import ImageURL, Message, ToolCall

_ROLES: Final = MappingProxyType({"developer": "system", "function": "tool"})
_IMAGE: Final = re.compile(r"data:image/[^;,]*[^,]*;base64,", re.IGNORECASE)
_DETAIL: Final = "messages[].content[].image_url.detail"

_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def conversation(messages: Sequence[Message], lost: set[str]) -> list[wire.Message]:
    """What they lack is added to `lost`, by its name in the table of parameters. Raises `Failure` for content that has
    no form here."""
    talk = _Conversation(lost)
    return [talk.turn(message, f"messages[{n}]") for n, message in enumerate(messages)]


class _Conversation:
    def __init__(self, lost: set[str]) -> None:
        self._lost = lost
        self._names: dict[str, list[str]] = {}  # id of a call -> the tool's name; of those that share it, one by one

    def turn(self, message: Message, where: str) -> wire.Message:
        if message.audio:
            what = "this model does not know what was said in audio before"
            raise Failure("unsupported_content", what, param=f"{where}.audio")
        turn = wire.Message(_ROLES.get(message.role, message.role), "")
        self._content(message, turn, where)
        if turn.role == "tool":
            turn.tool_call_id = message.tool_call_id or ""
            names = self._names.get(turn.tool_call_id) or [""]
            turn.tool_name = message.name or (names.pop(0) if len(names) > 1 else names[0])
        elif message.name:
            self._lost.add("messages[].name")
        turn.thinking = message.reasoning_content or message.reasoning or ""
        self._names |= {call.id: [] for call in message.tool_calls or ()}
        for n, call in enumerate(message.tool_calls or ()):
            turn.tool_calls.append(self._call(call, f"{where}.tool_calls[{n}]"))
        if legacy := message.function_call:
            turn.tool_calls.append(wire.ToolCall(wire.FunctionCall(legacy.name, _arguments(legacy.arguments))))
        for name in ("reasoning_details", "cache_control"):
            if getattr(message, name):
                self._lost.add(f"messages[].{name}")
        return turn

    def _content(self, message: Message, turn: wire.Message, where: str) -> None:
        """Texts become one, in their order, each on a line of its own; a refusal is what the assistant said."""
        texts = [message.content] if isinstance(message.content, str) else []
        for n, part in enumerate(message.content if isinstance(message.content, list) else ()):
            if part.type in ("text", "refusal"):
                texts.append(part.text or part.refusal or "")
            elif part.type == "image_url" and part.image_url is not None:
                turn.images.append(self._image(part.image_url, f"{where}.content[{n}]"))
            else:
                what = f"this model does not take content of type '{part.type}'"
                raise Failure("unsupported_content", what, param=f"{where}.content[{n}]")
            for name in ("cache_control", "prompt_cache_breakpoint"):
                if getattr(part, name):
                    self._lost.add(f"messages[].content[].{name}")
        if message.refusal:
            texts.append(message.refusal)
        turn.content = "\n".join(texts)

    def _image(self, image: ImageURL | str, where: str) -> str:
        url = image if isinstance(image, str) else image.url
        found = _IMAGE.match(url)
        if not found:
            what = "this model takes images as base64 data URIs only, and fetches none by their address"
            raise Failure("unsupported_content", what, param=where)
        if isinstance(image, ImageURL) and asks(_DETAIL, image.detail):
            self._lost.add(_DETAIL)
        return url[found.end() :]

    def _call(self, call: ToolCall, where: str) -> wire.ToolCall:
        if call.extra_content:
            self._lost.add("messages[].tool_calls[].extra_content")
        if call.function:
            name, arguments = call.function.name, _arguments(call.function.arguments)
        elif call.custom:
            name, arguments = call.custom.name, msgspec.Raw(msgspec.json.encode({"input": call.custom.input}))
        else:
            raise Failure("invalid_value", f"a call of type '{call.type}' is not known", param=where)
        self._names[call.id].append(name)
        return wire.ToolCall(wire.FunctionCall(name, arguments), call.id)


def _arguments(text: str) -> msgspec.Raw:
    """A call's arguments as an object. Text that is none is wrapped, so that the model sees its own mistake."""
    if text.strip() in ("", "null"):
        return msgspec.Raw(b"{}")
    try:
        _object(text)
    except (msgspec.DecodeError, RecursionError):
        return msgspec.Raw(msgspec.json.encode({"_raw": text}))
    return msgspec.Raw(text.encode())
