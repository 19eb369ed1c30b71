"""What is secret in how a provider is reached, and how it is kept out of what others wrote and somebody reads."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote, urlsplit

from polymux.errors import Failure
from polymux.types import Deployment
from polymux.wire.mask import Known

# headers whose values may be seen
HARMLESS: Final = frozenset(
    {
        *("accept", "content-encoding", "content-length", "content-type", "date", "retry-after", "server"),
        *("transfer-encoding", "user-agent", "x-request-id", "request-id", "x-should-retry"),
    }
)
HARMLESS_PARTS: Final = ("ratelimit-", "-version")
_WORD: Final = re.compile(r"[^\s\"',;=]+")


def harmless(name: str) -> bool:
    """Whether a header's value may be seen."""
    name = name.lower()
    return name in HARMLESS or any(part in name for part in HARMLESS_PARTS)


def secrets_to(to: Deployment, url: str = "") -> Iterator[str]:
    """All that may be secret in what a deployment is reached with (and in the `url` of a request to it)."""
    for name, value in to.headers:
        if not harmless(name):
            yield value
            yield from _WORD.findall(value)
    if to.grant is not None:
        yield to.grant.client_secret
    for one in (to.base_url, url, to.link.proxy):
        yield from secrets_in(one)


def secrets_in(url: str) -> Iterator[str]:
    """The userinfo of a URL, as it stands, decoded and as basic authentication sends it; the values of its query."""
    parts = urlsplit(url)
    userinfo, at, _ = parts.netloc.rpartition("@")
    for text in {userinfo, unquote(userinfo)} if at else ():
        user, _, password = text.partition(":")
        yield from (text, user, password, b64encode(f"{user}:{password}".encode()).decode("ascii"))
    for pair in parts.query.split("&"):
        value = pair.partition("=")[2]
        yield from (value, unquote(value))


def hide(failure: Failure, to: Deployment) -> Failure:
    """The same failure, and nothing in it that is secret in `to`: providers repeat what they were sent."""
    hidden = Known(secrets_to(to)).hide
    failure.message = hidden(failure.message)
    failure.args = (failure.message,)
    failure.type = hidden(failure.type)
    failure.code = failure.code and hidden(failure.code)
    failure.param = failure.param and hidden(failure.param)
    return failure
