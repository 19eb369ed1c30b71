"""What a provider's row says of its requests, applied to the body that is about to be sent: the same for all dialects.

Rows speak of the wire: their names are the members of the upstream's own request. A name may be a path, with `[]` for
each item of a list: `messages[].name`.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from polymux.providers.fates import Column, asks, ordered
from polymux.schema.chat import ChatRequest
from polymux.types import Quirks
from polymux.wire import splice

_any = msgspec.json.Decoder().decode


_NONE: Final = Quirks()
_encode = msgspec.json.Encoder().encode


def bent(wire: msgspec.Struct, asked: ChatRequest, quirks: Quirks, fates: Column) -> tuple[bytes, tuple[str, ...]]:
    """The body to send, with what the provider's row says, and the parameters of `asked` that it lacks for that."""
    body = _encode(wire)
    if quirks == _NONE:
        return body, ()
    fields: dict[str, Any] = dict(splice.parse(body))
    lost = {name for member in bend(fields, quirks) for name in _askers(member, asked, fates)}
    return splice.build(fields), ordered(lost)


def _askers(member: str, request: ChatRequest, fates: Column) -> list[str]:
    """The parameters of this request that became a member of the wire's top level; none where it is only our own."""
    return [
        name
        for name in ChatRequest.__struct_fields__
        if (fates[name].to or name).partition(".")[0].removesuffix("[]") == member
        and getattr(request, name) is not None
    ]


def bend(fields: dict[str, Any], quirks: Quirks) -> tuple[str, ...]:
    """Drop, rename, clamp and set members of `fields`, raw or plain, in this order.

    Gives the names, as they were before, of the members that the upstream does not get as they were asked for: the
    dropped ones, those with a value out of range, and those that stand where the row sets a value of its own.
    """
    dropped = _drop(fields, quirks)
    before = {}
    for name, new in quirks.rename.items():
        if name not in fields:
            continue
        value = fields.pop(name)
        if plain(fields.get(new)) is None:
            fields[new] = value
            before[new] = name
        elif plain(value) is not None:
            dropped.append(name)
    for name, (low, high) in quirks.clamp.items():
        value = plain(fields.get(name))
        if isinstance(value, int | float) and not low <= value <= high:
            border = min(max(value, low), high)
            fields[name] = int(border) if isinstance(value, int) else border
            dropped.append(before.get(name, name))
    for name, value in quirks.set.items():
        if name in fields and plain(fields[name]) not in (None, value):
            dropped.append(before.get(name, name))
    fields.update(quirks.set)
    return tuple(dict.fromkeys(dropped))


def plain(value: Any) -> Any:
    """A member as a value, whether it is still raw or not."""
    return _any(value) if isinstance(value, msgspec.Raw) else value


def _drop(fields: dict[str, Any], quirks: Quirks) -> list[str]:
    """Take out what the upstream refuses. Gives the names of what was asked for in vain."""
    dropped = []
    for path in quirks.drop:
        name, _, inner = path.partition("[].")
        if name not in fields:
            continue
        if not inner:
            value = plain(fields.pop(name))
            dropped += [name] if asks(name, value) else []
        elif not isinstance(fields[name], msgspec.Raw) or _last(inner) in bytes(fields[name]):
            fields[name] = plain(fields[name])
            taken = _taken(fields[name], inner)
            dropped += [path] if any(asks(path, value) for value in taken) else []
    for name, values in quirks.only.items():
        if name in fields and plain(fields[name]) not in (None, *values):
            del fields[name]
            dropped.append(name)
    for path in quirks.nonempty:
        _spare(fields, path)
    if quirks.roles and "messages" in fields:
        _call(fields, quirks)
    return dropped


def _last(path: str) -> bytes:
    """The last name of a path as it stands in JSON: what does not have it need not be decoded."""
    return f'"{path.rpartition(".")[2]}"'.encode()


def _taken(items: Any, path: str) -> list[Any]:
    """The values of a path in every object of a list, which they are taken out of."""
    name, _, inner = path.partition(".")
    found = []
    for item in items if isinstance(items, list) else ():
        if not isinstance(item, dict):
            continue
        if not inner:
            found += [item.pop(name)] if name in item else []
        elif name.endswith("[]"):
            found += _taken(item.get(name[:-2]), inner)
        else:
            found += _taken([item.get(name)], inner)
    return found


def _spare(fields: dict[str, Any], path: str) -> None:
    """Leave out what is empty. It asks for nothing, so it is not told."""
    name, _, inner = path.partition("[].")
    value = fields.get(name)
    if not inner:
        if name in fields and not plain(value):
            del fields[name]
    elif isinstance(value, list) or (isinstance(value, msgspec.Raw) and _last(inner) in bytes(value)):
        fields[name] = plain(value)
        for item in fields[name] if isinstance(fields[name], list) else ():
            if isinstance(item, dict) and not item.get(inner):
                item.pop(inner, None)


def _call(fields: dict[str, Any], quirks: Quirks) -> None:
    """Roles that the upstream knows by another name."""
    messages = fields["messages"]
    if isinstance(messages, msgspec.Raw):
        if not any(f'"{role}"'.encode() in bytes(messages) for role in quirks.roles):
            return
        messages = fields["messages"] = plain(messages)
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, dict) and message.get("role") in quirks.roles:
            message["role"] = quirks.roles[message["role"]]
