"""What a value in the config may be: a phrase for the fault's message, and a conversion that raises ValueError."""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlsplit

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # surrogates: bytes of the environment that are not UTF-8
_MAYBE_SECRET = re.compile(r"[@?]|[A-Za-z0-9_-]{20,}")  # user:password@host, ?key=..., a key in the wrong field
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|)")
_SIZE = re.compile(r"([0-9]+)(B|KB|MB|GB|KiB|MiB|GiB|)")
_MONEY = re.compile(r"[0-9]{1,7}(\.[0-9]{1,6})?")  # a whole number of picodollars for a token
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2
_VISIBLE = re.compile(r"[ -~]*")
_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")

_SECONDS = MappingProxyType({"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400})
_BYTES = MappingProxyType(
    {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
)


class Scalar(NamedTuple):
    """A kind of value: "expected {expected}, got ..." when `convert` raises ValueError. A secret is never shown."""

    expected: str
    convert: Callable[[Any], Any]
    secret: bool = False


def shown(value: object, secret: bool = False) -> str:
    """A value for a message: short, and without what may be a secret."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        hide = secret or _MAYBE_SECRET.search(value) is not None
        return "a value that is not shown" if value and hide else quoted(value)
    if secret:
        return "a value that is no string"
    return str(value).lower() if isinstance(value, bool) else f"{value!s:.40}"


def quoted(text: str) -> str:
    """Text as TOML would write it on one line, shortened."""
    text = text if len(text) <= 60 else text[:57] + "..."
    return (
        '"'
        + _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text.replace("\\", "\\\\").replace('"', '\\"'))
        + '"'
    )


def one_of(values: tuple[object, ...]) -> str:
    """`"a", "b" or "c"`."""
    words = [shown(value) for value in values]
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def choice(values: tuple[object, ...]) -> Scalar:
    def convert(value: object) -> object:
        return _require(value, isinstance(value, str) and value in values)

    return Scalar(one_of(values), convert)


def whole(low: int, high: int, expected: str) -> Scalar:
    def convert(value: object) -> object:
        return _require(value, isinstance(value, int) and not isinstance(value, bool) and low <= value <= high)

    return Scalar(expected, convert)


def text(expected: str, pattern: re.Pattern[str] | None = None, secret: bool = False) -> Scalar:
    """Text without control characters that matches `pattern` as a whole."""

    def convert(value: object) -> object:
        good = isinstance(value, str) and not _CONTROL.search(value) and (pattern is None or pattern.fullmatch(value))
        return _require(value, bool(good))

    return Scalar(expected, convert, secret)


def _require(value: object, good: bool) -> object:
    if not good:
        raise ValueError(value)
    return value


def _boolean(value: object) -> object:
    return _require(value, isinstance(value, bool))


def _seconds(value: object) -> float:
    match = _DURATION.fullmatch(str(value)) if isinstance(value, str | int | Decimal) else None
    if match is None or isinstance(value, bool):
        raise ValueError(value)
    number, unit = match.groups()
    seconds = Decimal(number) / 1000 if unit == "ms" else Decimal(number) * _SECONDS[unit]
    _require(value, 0 < seconds <= 10**9)
    return float(seconds)


def _size(value: object) -> int:
    match = _SIZE.fullmatch(str(value)) if isinstance(value, str | int) else None
    if match is None or isinstance(value, bool):
        raise ValueError(value)
    number, unit = match.groups()
    size = int(Decimal(number) * _BYTES[unit])
    _require(value, 0 < size < 2**63)
    return size


def _money(value: object) -> Decimal:
    if not isinstance(value, str | int | Decimal) or not _MONEY.fullmatch(str(value)):
        raise ValueError(value)
    return Decimal(value)


def _url(value: object) -> object:
    if value == "":
        return value
    good = isinstance(value, str) and re.match("https?://", value) and not re.search(r"[\s\\#]", value)
    parts = urlsplit(str(value))
    return _require(
        value, bool(good and parts.hostname and parts.port != 0)
    )  # reading `port` raises when it is no number


def _flag(value: object) -> bool:
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    word = str(value).strip().lower()
    _require(value, word in words)
    return words[word]


_LARGE = 2**53  # the largest whole number that JSON clients read exactly

# What a plain annotation means. A float is always a time in seconds.
SCALARS: Mapping[type, Scalar] = MappingProxyType(
    {
        bool: Scalar("true or false", _boolean),
        int: whole(0, _LARGE, "a whole number, 0 or more"),
        str: text("a string without control characters"),
        float: Scalar('a duration such as "5s", "500ms", "10m", "1h" or a number of seconds, more than 0', _seconds),
        Decimal: Scalar('US dollars per million tokens such as "2.50"', _money),
    }
)

Positive = Annotated[int, whole(1, _LARGE, "a whole number, 1 or more")]
Port = Annotated[int, whole(0, 65535, "a port from 1 to 65535 (0 lets the system choose)")]
Bytes = Annotated[int, Scalar('a size such as "32MiB", "500KB" or a number of bytes, more than 0', _size)]
Flag = Annotated[bool, Scalar("true or false", _flag)]  # a variable has no type of its own
Url = Annotated[str, Scalar("a URL starting with http:// or https://", _url)]
Word = Annotated[str, text("a string that is not blank", re.compile(r"\S(.*\S)?"))]
Secret = Annotated[str, text("a string without control characters", secret=True)]
HeaderName = Annotated[str, text("a header name", _TOKEN)]
HeaderValue = Annotated[str, text("visible ASCII characters", _VISIBLE, secret=True)]
Credential = Annotated[str, text("a string of visible ASCII characters", _VISIBLE, secret=True)]
ProviderName = Annotated[
    str,
    text(
        'a provider name of letters, digits, ".", "_" and "-" other than "functions"',
        re.compile(r"(?!functions$)[A-Za-z0-9_.-]+"),
    ),
]
ApiVersion = Annotated[
    str, text('a date such as "2024-10-21" or "2025-04-01-preview"', re.compile(r"20\d\d-\d\d-\d\d(-[a-z]+)?"))
]
Function = Annotated[str, text('"module:object"', _FUNCTION)]
