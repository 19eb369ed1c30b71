"""Which proxy an upstream is reached through: the provider's own setting, else the environment's variables.

Variables as curl, Python and Go read them, where these agree: the lower-case form first, `NO_PROXY` a list of hosts
(with everything below them), addresses and networks, each with or without a port, or `*`.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

DIRECT: Final = "direct"  # the setting that means: no proxy, whatever the environment says
_SOCKS: Final = ("socks", "socks4", "socks4a", "socks5", "socks5h")
_EXPECTED: Final = (
    'expected a URL such as http://proxy.example:3128 (in a provider\'s settings also "direct": no proxy)'
)


class Unusable(ValueError):
    """A proxy that cannot be used. `variable`: which one names it; "" = the provider's own setting."""

    def __init__(self, variable: str, message: str) -> None:
        super().__init__(message)
        self.variable = variable


def proxy(base_url: str, own: str, env: Mapping[str, str]) -> str:
    """The URL of the proxy to `base_url`; "" = none. Raises `Unusable`, which never tells the URL: it may hold a
    password."""
    if own.strip():
        return "" if own.strip() == DIRECT else _checked("", own.strip())
    parts = urlsplit(base_url)
    host = (parts.hostname or "").rstrip(".")
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:  # no URL; whoever connects to it says so
        return ""
    if _loopback(host):
        return ""
    for name in (f"{parts.scheme}_proxy", "all_proxy"):
        variable, value = _variable(name, env)
        if value:
            return "" if _excepted(host, port, _variable("no_proxy", env)[1]) else _checked(variable, value)
    return ""


def _variable(name: str, env: Mapping[str, str]) -> tuple[str, str]:
    for form in (name, name.upper()):
        if value := env.get(form, "").strip():
            return form, value
    return name, ""


def _checked(variable: str, text: str) -> str:
    url = text if "://" in text else f"http://{text}"
    scheme = url.partition("://")[0].lower()
    if scheme in _SOCKS:
        raise Unusable(variable, f"{scheme} proxies are not supported, {_EXPECTED}")
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and parts.path in ("", "/")
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment or not url.isprintable() or " " in url:
        raise Unusable(variable, _EXPECTED)
    return url


def _loopback(host: str) -> bool:
    address = _address(host)
    if address is None:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback


def _excepted(host: str, port: int, rules: str) -> bool:
    """Whether NO_PROXY names the host."""
    return any(_matches(host, port, rule) for rule in rules.replace(",", " ").lower().split())


def _matches(host: str, port: int, rule: str) -> bool:
    if rule == "*":
        return True
    address = _address(host)
    if "/" in rule:
        try:
            return address is not None and address in ip_network(rule, strict=False)
        except ValueError:
            return False
    name, only = _split(rule)
    if only and only != str(port):
        return False
    if (given := _address(name)) is not None:
        return address == given
    name = name.removeprefix("*").strip(".")
    return address is None and bool(name) and (host == name or host.endswith(f".{name}"))


def _split(rule: str) -> tuple[str, str]:
    """A rule's host and port; "" = any port."""
    if _address(rule) is not None:  # an IPv6 address is full of colons
        return rule, ""
    name, colon, port = rule.rpartition(":")
    name, port = (name, port) if colon and port.isdigit() else (rule, "")
    return name.removeprefix("[").removesuffix("]"), port


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
