"""Chat completions request -> the same for one provider: its model's name, what its row says, and its own dialect of
reasoning. Works on a request's top level, raw or plain; what is below passes as it came.

Source: OpenAI's API description (chat completions).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from msgspec import structs

from polymux.providers.fates import DROPPED, EMBEDDINGS, EMULATED, FORWARDED, Column, Fate, asks, column
from polymux.providers.quirks import bend, plain
from polymux.providers.reasoning import EFFORTS, SWITCHES, effort_of, switch
from polymux.providers.replay import SIGNED
from polymux.types import Deployment, Quirks, WireRequest
from polymux.wire import splice

_USAGE: Final = "stream_options.include_usage"

FATES: Final[Column] = column(
    {
        "model": Fate("mapped"),
        "stream_options": Fate("mapped"),
        _USAGE: EMULATED,
        "thinking": Fate("mapped", "reasoning_effort"),
        **dict.fromkeys(SIGNED, DROPPED),  # what one vendor has signed; rows that take it get it
    },
    rest=FORWARDED,
)

EMBEDDING_FATES: Final[Column] = column({"model": Fate("mapped")}, FORWARDED, EMBEDDINGS)

PATHS: Final[Mapping[str, str]] = MappingProxyType(
    {"chat": "/chat/completions", "completions": "/completions", "embeddings": "/embeddings"}
)  # by surface
_OFF: Final = SWITCHES["thinking, or effort"]


def wire_request(fields: dict[str, Any], to: Deployment, *, usage: bool, surface: str = "chat") -> WireRequest:
    """Apply the deployment's name and its row's quirks to a request's top level. `usage`: ask for the usage chunk."""
    quirks = to.quirks if surface == "chat" else _of_all(to.quirks)
    fields["model"] = to.model
    dropped: tuple[str, ...] = ()
    asked = "reasoning_effort"
    if "thinking" in fields and not quirks.thinking:
        asked = asked if plain(fields.get(asked)) else "thinking"
        dropped = _think(fields)
    if "reasoning_effort" in fields and (quirks.reasoning or quirks.thinking):
        dropped += (asked,) if _reason(fields, to) else ()
    if usage and quirks.stream_usage:
        fields["stream_options"] = _with_usage(fields.get("stream_options"))
    if quirks.drop or quirks.rename or quirks.roles or quirks.set or quirks.clamp or quirks.only or quirks.nonempty:
        dropped += _bend(fields, quirks)
    elif not quirks.stream_usage:
        dropped += _without_options(fields)
    if dropped and surface == "embeddings":
        dropped = tuple(name for name in dropped if name != "encoding_format")  # which is brought about afterwards
    return WireRequest("POST", to.base_url + PATHS[surface], to.headers, splice.build(fields), "sse", dropped)


def _of_all(quirks: Quirks) -> Quirks:
    """What rows say is said of chats: what of it holds for any request."""
    return Quirks(drop=quirks.drop, clamp=quirks.clamp, stream_usage=quirks.stream_usage)


def _bend(fields: dict[str, Any], quirks: Quirks) -> tuple[str, ...]:
    lost = () if quirks.stream_usage else _without_options(fields)
    return lost + bend(fields, quirks)


def _without_options(fields: dict[str, Any]) -> tuple[str, ...]:
    """For providers that tell the usage unasked and take no `stream_options`. Gives the names of the others in it."""
    options = plain(fields.pop("stream_options", None))
    named = [(f"stream_options.{name}", value) for name, value in options.items()] if isinstance(options, dict) else ()
    return tuple(name for name, value in named if name != _USAGE and asks(name, value))


def _think(fields: dict[str, Any]) -> tuple[str, ...]:
    """`thinking` as an effort, for providers that know no other form. An effort beside it goes before; then it is
    told as dropped unless it only says that there be one."""
    thinking = plain(fields.pop("thinking"))
    if thinking is None:
        return ()
    effort = effort_of(thinking) if isinstance(thinking, dict) else None
    given = plain(fields.get("reasoning_effort"))
    if effort is not None and given is None:
        fields["reasoning_effort"] = effort
    elif effort is None or (given != effort and thinking != {"type": "adaptive"}):
        return ("thinking",)
    return ()


def _reason(fields: dict[str, Any], to: Deployment) -> bool:
    """`reasoning_effort` as the provider is told of it. True = it cannot be told, or the client says something else by
    the provider's own members, which go before."""
    effort = plain(fields["reasoning_effort"])
    words = switch(to.quirks.reasoning, to.model)
    if words is None and to.quirks.thinking:
        words = _OFF
    if words is None or effort not in EFFORTS:  # the provider judges it
        return False
    del fields["reasoning_effort"]
    if effort not in words:
        return True
    told = {name: _merged(value, plain(fields.get(name))) for name, value in words[effort].items()}
    if any(_merged(told[name], value) != told[name] for name, value in words[effort].items()):
        return True
    fields.update(told)
    return False


def _merged(value: Any, given: Any) -> Any:
    """A member with what is given of it, which goes before."""
    if isinstance(value, dict) and isinstance(given, dict):
        return {**value, **given}
    return value if given is None else given


def unsigned(to: Deployment) -> Deployment:
    """The deployment, told to drop what it does not take of what others have signed."""
    quirks = to.quirks
    foreign = [path for path in SIGNED if path not in quirks.takes and path != f"messages[].{quirks.replay}"]
    return structs.replace(to, quirks=structs.replace(quirks, drop=(*quirks.drop, *foreign))) if foreign else to


def _with_usage(options: Any) -> Any:
    options = plain(options)
    return {**options, "include_usage": True} if isinstance(options, dict) else {"include_usage": True}
