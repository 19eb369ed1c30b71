"""Chat completions request -> the same for one provider: its model's name, what its row says, and its own dialect of
reasoning. Works on a request's top level, raw or plain; what is below passes as it came.

Source: OpenAI's API description (chat completions).
"""

from __future__ import annotations

from typing import Any, Final

from polymux.providers.fates import EMULATED, FORWARDED, Column, Fate, asks, column
from polymux.providers.quirks import bend, plain
from polymux.providers.reasoning import effort_of
from polymux.types import Deployment, Quirks, WireRequest
from polymux.wire import splice

_USAGE: Final = "stream_options.include_usage"

FATES: Final[Column] = column(
    {
        "model": Fate("mapped"),
        "stream_options": Fate("mapped"),
        _USAGE: EMULATED,
        "thinking": Fate("mapped", "reasoning_effort"),
    },
    rest=FORWARDED,
)

_NONE: Final = Quirks()


def wire_request(fields: dict[str, Any], to: Deployment, *, usage: bool) -> WireRequest:
    """Apply the deployment's name and its row's quirks to a request's top level. `usage`: ask for the usage chunk."""
    quirks = to.quirks
    fields["model"] = to.model
    dropped: tuple[str, ...] = ()
    if "thinking" in fields and not quirks.thinking:
        dropped = _think(fields)
    if usage and quirks.stream_usage:
        fields["stream_options"] = _with_usage(fields.get("stream_options"))
    if quirks != _NONE:
        dropped += _bend(fields, quirks)
    url = f"{to.base_url}/chat/completions"
    return WireRequest("POST", url, to.headers, splice.build(fields), "sse", dropped)


def _bend(fields: dict[str, Any], quirks: Quirks) -> tuple[str, ...]:
    lost = () if quirks.stream_usage else _without_options(fields)
    if quirks.thinking and plain(fields.get("reasoning_effort")) == "none":
        del fields["reasoning_effort"]
        thinking = fields["thinking"] = plain(fields.get("thinking")) or {"type": "disabled"}
        lost += () if thinking == {"type": "disabled"} else ("reasoning_effort",)
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


def _with_usage(options: Any) -> Any:
    options = plain(options)
    return {**options, "include_usage": True} if isinstance(options, dict) else {"include_usage": True}
