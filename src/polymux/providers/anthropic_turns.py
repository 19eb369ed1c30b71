"""Chat messages -> an Anthropic conversation: system apart, roles in turn, tool results first and in call order.

Source: Anthropic's API reference (Messages, Vision, PDF support, Tool use, Extended thinking).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Literal

import msgspec

from polymux.errors import Failure
from polymux.providers.fates import asks
from polymux.schema.anthropic import (
    Base64Source,
    Block,
    ContentBlock,
    DocumentBlock,
    ImageBlock,
    Json,
    TextBlock,
    TextSource,
    ToolResultBlock,
    ToolUseBlock,
    Turn,
    UrlSource,
)
from polymux.schema.chat import FileRef, ImageURL, Message, Part, ToolCall

_IMAGES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "image/jpeg": "image/jpeg",
        "image/jpg": "image/jpeg",
        "image/png": "image/png",
        "image/gif": "image/gif",
        "image/webp": "image/webp",
    }
)
_DATA_URI: Final = re.compile(r"data:([^;,]*)[^,]*;base64,", re.IGNORECASE)
_PDF_BASE64: Final = "JVBERi"  # "%PDF" and what must follow, for files that come without a data URI
_FOREIGN: Final = re.compile(r"[^A-Za-z0-9_-]")  # what a tool call's id must not hold
_EPHEMERAL: Final[Mapping[str, str]] = MappingProxyType({"type": "ephemeral"})
_DETAIL: Final = "messages[].content[].image_url.detail"
_OPENING: Final = "."  # a conversation must open with something from the user

Recalled = Mapping[int, Sequence[Json]]  # number of a message -> its reasoning, which the client has not brought back

NOTHING: Final[Recalled] = MappingProxyType({})

_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def conversation(
    messages: Sequence[Message], lost: set[str], recalled: Recalled = NOTHING
) -> tuple[list[TextBlock], list[Turn]]:
    """The system prompt and the turns. What they lack is added to `lost`, by its name in the table of parameters.
    Raises `Failure` for content that has no form here."""
    talk = _Conversation(lost)
    for n, message in enumerate(messages):
        talk.add(message, f"messages[{n}]", recalled.get(n, ()))
    return talk.system, talk.finished()


class _Conversation:
    def __init__(self, lost: set[str]) -> None:
        self.lost = lost
        self.system: list[TextBlock] = []
        self.turns: list[Turn] = []
        self._ids: dict[str, str] = {}  # the client's id of a call -> ours
        self._taken: set[str] = set()  # ours
        self._clashes = 0
        self._legacy = ""  # id of the last call that came as `function_call`, which has none

    def add(self, message: Message, where: str, recalled: Sequence[Json]) -> None:
        if message.name and message.role not in ("tool", "function"):  # there it only repeats the call's
            self.lost.add("messages[].name")
        match message.role:
            case "system" | "developer":
                self._add_system(message, where)
            case "user":
                self._extend("user", self._content(message, where), message.cache_control)
            case "assistant":
                self._add_assistant(message, where, recalled)
            case "tool":
                self._add_result(self._id(message.tool_call_id or ""), message, where)
            case "function":
                if not self._legacy:
                    raise Failure("invalid_value", "a function's result without a call before it", param=where)
                self._add_result(self._legacy, message, where)

    def finished(self) -> list[Turn]:
        """The turns in the order the protocol wants."""
        turns = self.turns
        if not turns or turns[0].role != "user":
            turns.insert(0, Turn("user", [TextBlock(_OPENING)]))
        for before, turn in zip([None, *turns], turns, strict=False):
            if turn.role == "user":
                turn.content.sort(key=_call_order(before))  # stable: what is no result stays as it was
        last = turns[-1].content[-1]
        if turns[-1].role == "assistant" and isinstance(last, TextBlock):
            last.text = last.text.rstrip()  # the API refuses trailing blanks in the text an answer continues
        return turns

    def _extend(self, role: Literal["user", "assistant"], blocks: Sequence[Block], cache: Json | None = None) -> None:
        if not blocks:
            return
        if cache and not isinstance(blocks[-1], dict):
            blocks[-1].cache_control = cache
        if self.turns and self.turns[-1].role == role:
            self.turns[-1].content.extend(blocks)
        else:
            self.turns.append(Turn(role, list(blocks)))

    def _add_system(self, message: Message, where: str) -> None:
        blocks = self._content(message, where)
        texts = [block for block in blocks if isinstance(block, TextBlock)]
        if len(texts) < len(blocks):
            raise Failure("unsupported_content", "a system message can hold text only", param=where)
        if self.turns:
            self._extend("user", texts, message.cache_control)  # not hoisted: it shall not apply to what came before
            return
        if texts and message.cache_control:
            texts[-1].cache_control = message.cache_control
        self.system += texts

    def _add_assistant(self, message: Message, where: str, recalled: Sequence[Json]) -> None:
        if message.audio:
            what = "this model does not know what was said in audio before"
            raise Failure("unsupported_content", what, param=f"{where}.audio")
        blocks = self._reasoning(message, recalled)
        blocks += self._content(message, where)
        if message.refusal and message.refusal.strip():
            blocks.append(TextBlock(message.refusal))
        for n, call in enumerate(message.tool_calls or ()):
            blocks.append(self._call(call, f"{where}.tool_calls[{n}]"))
        if message.function_call:
            self._legacy = self._id(f"call_legacy_{len(self._ids)}")
            legacy = message.function_call
            blocks.append(ToolUseBlock(self._legacy, legacy.name, _input(legacy.arguments)))
        self._extend("assistant", blocks, message.cache_control)

    def _reasoning(self, message: Message, recalled: Sequence[Json]) -> list[Block]:
        """The reasoning that Anthropic takes back. Without its signature it is of no use there. What the client brings
        goes before what is remembered."""
        given = message.reasoning_details or []
        blocks: list[Block] = [block for block in given if is_reasoning(block)]
        if len(blocks) < len(given):
            self.lost.add("messages[].reasoning_details")
        blocks = blocks or list(recalled)
        if not blocks:
            told = {"reasoning_content": message.reasoning_content, "reasoning": message.reasoning}
            self.lost.update(f"messages[].{name}" for name, text in told.items() if text)
        return blocks

    def _call(self, call: ToolCall, where: str) -> ToolUseBlock:
        if call.extra_content:
            self.lost.add("messages[].tool_calls[].extra_content")
        if call.function:
            return ToolUseBlock(self._id(call.id), call.function.name, _input(call.function.arguments))
        if call.custom:
            raw = msgspec.Raw(msgspec.json.encode({"input": call.custom.input}))
            return ToolUseBlock(self._id(call.id), call.custom.name, raw)
        raise Failure("invalid_value", f"a call of type '{call.type}' is not known", param=where)

    def _add_result(self, call: str, message: Message, where: str) -> None:
        content = message.content if isinstance(message.content, str) else self._content(message, where)
        self._extend("user", [ToolResultBlock(call, content or "")], message.cache_control)

    def _content(self, message: Message, where: str) -> list[ContentBlock]:
        """A message's content without blank texts, which the API refuses."""
        if isinstance(message.content, str):
            return [TextBlock(message.content)] if message.content.strip() else []
        blocks = []
        for n, part in enumerate(message.content or ()):
            if block := _block(part, f"{where}.content[{n}]"):
                block.cache_control = part.cache_control or (dict(_EPHEMERAL) if part.prompt_cache_breakpoint else None)
                blocks.append(block)
            if isinstance(part.image_url, ImageURL) and asks(_DETAIL, part.image_url.detail):
                self.lost.add(_DETAIL)
        return blocks

    def _id(self, given: str) -> str:
        """`given` in the letters the API takes, the same for a call and its result and for no other call."""
        if given not in self._ids:
            new = base = _FOREIGN.sub("_", given) or "call"
            while new in self._taken:
                self._clashes += 1
                new = f"{base}_{self._clashes}"
            self._taken.add(new)
            self._ids[given] = new
        return self._ids[given]


def _call_order(before: Turn | None) -> Callable[[Block], int]:
    """A sort key for a user's turn: results as `before` called for them, then everything else."""
    calls = [block.id for block in (before.content if before else ()) if isinstance(block, ToolUseBlock)]
    places = {call: n for n, call in enumerate(calls)}

    def place(block: Block) -> int:
        return places.get(block.tool_use_id, len(calls)) if isinstance(block, ToolResultBlock) else len(calls) + 1

    return place


def is_reasoning(block: Json) -> bool:
    """A block that Anthropic made and takes back: signed, or encrypted. Other vendors' details have other shapes."""
    kind = block.get("type")
    return kind == "redacted_thinking" or (kind == "thinking" and bool(block.get("signature")))


def _input(arguments: str) -> msgspec.Raw:
    """A call's arguments as an object. Text that is none is wrapped, so that the model sees its own mistake."""
    if arguments.strip() in ("", "null"):
        return msgspec.Raw(b"{}")
    try:
        _object(arguments)
    except (msgspec.DecodeError, RecursionError):
        return msgspec.Raw(msgspec.json.encode({"_raw": arguments}))
    return msgspec.Raw(arguments.encode())


def _block(part: Part, where: str) -> ContentBlock | None:
    match part.type:
        case "text" | "refusal":
            text = part.text or part.refusal or ""
            return TextBlock(text) if text.strip() else None
        case "image_url" if part.image_url is not None:
            return _image(part.image_url, where)
        case "file" if part.file is not None:
            return _document(part.file, where)
    raise Failure("unsupported_content", f"this model does not take content of type '{part.type}'", param=where)


def _image(image: ImageURL | str, where: str) -> ImageBlock:
    url = image if isinstance(image, str) else image.url
    if url.startswith(("https://", "http://")):
        return ImageBlock(UrlSource(url))
    found = _DATA_URI.match(url)
    media_type = _IMAGES.get(found[1].lower()) if found else None
    if not found or not media_type:
        what = "an image must be an http(s) URL or a base64 data URI of type image/jpeg, png, gif or webp"
        raise Failure("unsupported_content", what, param=where)
    return ImageBlock(Base64Source(media_type, url[found.end() :]))


def _document(file: FileRef, where: str) -> DocumentBlock:
    data = file.file_data
    if not data:
        what = "files uploaded elsewhere are not known to this model; send the content as file_data"
        raise Failure("unsupported_content", what, param=where)
    if found := _DATA_URI.match(data):
        media_type, data = found[1].lower(), data[found.end() :]
    else:
        media_type = "application/pdf" if data.startswith(_PDF_BASE64) else ""
    if media_type == "application/pdf":
        return DocumentBlock(Base64Source(media_type, data), file.filename)
    if media_type.startswith("text/"):
        try:
            text = base64.b64decode(data, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise Failure("unsupported_content", "the file is not UTF-8 text in base64", param=where) from None
        return DocumentBlock(TextSource("text/plain", text), file.filename)
    raise Failure("unsupported_content", "a file must be a PDF or a text, as a base64 data URI", param=where)
