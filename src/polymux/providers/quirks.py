"""What a provider's row says of its requests, applied to the body that is about to be sent: the same for all dialects.

Rows speak of the wire: their names are the members of the upstream's own request.
"""

from __future__ import annotations

from typing import Any

import msgspec

from polymux.providers.fates import asks
from polymux.types import Quirks

_any = msgspec.json.Decoder().decode


def bend(fields: dict[str, Any], quirks: Quirks) -> tuple[str, ...]:
    """Drop, rename, clamp and set members of `fields`, raw or plain, in this order.

    Gives the names, as they were before, of the members that the upstream does not get as they were asked for: the
    dropped ones, those with a value out of range, and those that stand where the row sets a value of its own.
    """
    dropped = [name for name in quirks.drop if name in fields and asks(name, plain(fields.pop(name)))]
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
