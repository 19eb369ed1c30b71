"""Takes out of JSON what is not to be kept: secrets, what rules name (mail addresses, card numbers ...), and media.

Rules look at the texts in it, never across its syntax; a text that is JSON itself (the arguments of a tool's call) is
looked at in the same way. A rule with a check digit is checked, so that other numbers stay.
Sources: ITU-T E.164 (phone), ISO/IEC 7812-1 (card), ISO 13616-1 (IBAN), RFC 4291 (IP), GB 11643 (cn-id), RFC 2397.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from polymux.wire.mask import Known, mask

TOO_DEEP: Final = "[nested too deeply]"
OWN: Final = "[redacted]"  # in place of what an expression has found


def _always(text: str) -> int:
    return len(text)


def _luhn(text: str) -> int:
    """ISO/IEC 7812-1, annex B."""
    digits = [int(one) for one in text if one.isdigit()]
    doubled = [sum(divmod(2 * one, 10)) for one in digits[-2::-2]]
    return len(text) if (sum(digits[::-2]) + sum(doubled)) % 10 == 0 and any(digits) else 0


# how long the IBANs of a country are
_IBANS: Final[Mapping[str, int]] = MappingProxyType(
    {
        country: length
        for length, countries in (
            (15, "NO"),
            (16, "BE BI"),
            (18, "DK FK FI FO GL NL SD"),
            (19, "MK SI"),
            (20, "AT BA EE KZ LT LU MN XK"),
            (21, "CH CR HR LI LV"),
            (22, "BG BH DE GB GE IE ME RS VA"),
            (23, "AE GI IL IQ OM SO TL"),
            (24, "AD CZ ES MD PK RO SA SE SK TN VG"),
            (25, "LY PT ST"),
            (26, "IS TR"),
            (27, "BJ BF CI CM DJ FR GR IT MC MG ML MR SM SN"),
            (28, "AL AZ BY CY DO GT HN HU LB NI PL SV"),
            (29, "BR EG PS QA UA"),
            (30, "JO KW MU YE"),
            (31, "MT SC"),
            (32, "LC"),
            (33, "RU"),
        )
        for country in countries.split()
    }
)


def _iban(text: str) -> int:
    """As much of it as is an IBAN: words may follow it. The check is by ISO 7064 MOD 97-10."""
    plain = [(at, one) for at, one in enumerate(text.upper(), 1) if one != " "]
    length = _IBANS.get(plain[0][1] + plain[1][1], 0)
    if not length or len(plain) < length:
        return 0
    letters = "".join(one for _, one in plain[:length])
    good = int("".join(str(int(one, 36)) for one in letters[4:] + letters[:4])) % 97 == 1
    return plain[length - 1][0] if good else 0


def _address(text: str) -> int:
    plain = text.rstrip(".:")
    try:
        ip_address(plain)
    except ValueError:
        return 0
    return len(plain) if any(one.isdigit() for one in plain) else 0  # `a::b` is rather code


def _resident(text: str) -> int:
    """GB 11643: the last of 18 characters is a check digit, by ISO 7064 MOD 11-2."""
    weighed = sum(int(one) * pow(2, 17 - at, 11) for at, one in enumerate(text[:17]))
    return len(text) if "10X98765432"[weighed % 11] == text[17].upper() else 0


class Rule(NamedTuple):
    """accept: how many characters of a match are meant, 0 = none."""

    pattern: re.Pattern[str]
    accept: Callable[[str], int] = _always


_EMAIL: Final = r"(?<![A-Za-z0-9._%+'-])[A-Za-z0-9._%+'-]{1,128}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}"
_GAP: Final = r"[ .\u00a0\u2010-\u2015-]"
_CARD: Final = rf"""(?<!\d)(?:\d{{13,19}}
    | \d{{4}} ({_GAP}) \d{{4}} \1 \d{{4}} \1 \d{{1,7}}
    | 3[47]\d\d ({_GAP}) \d{{6}} \2 \d{{5}} )(?!\d)"""
_PHONE: Final = rf"""(?: \+ | (?<![\w.]) 00 ) [1-9] (?: [ ().\u00a0\u2010-\u2015/-]{{0,2}} \d ){{6,14}} (?!\d)
    | (?<![\w.]) 1[3-9]\d {_GAP}? \d{{4}} {_GAP}? \d{{4}} (?!\d)
    | (?<![\w.]) 0\d{{2,3}}-\d{{7,8}} (?!\d)
    | (?<![\w.]) (?: 1{_GAP} )? \(? [2-9]\d\d (?: \){_GAP}? | {_GAP} ) \d{{3}} {_GAP} \d{{4}} (?!\d)"""
_IP: Final = r"(?<![\w.:])(?:[0-9a-fA-F]{0,4}:[0-9a-fA-F:.]{1,43}|\d{1,3}(?:\.\d{1,3}){3})"
_BORN: Final = r"(?:18|19|20)\d\d (?:0[1-9]|1[0-2]) (?:0[1-9]|[12]\d|3[01])"

# the order is that in which they are applied: what has a check digit comes before what only looks alike
RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        "email": Rule(re.compile(_EMAIL)),
        "iban": Rule(re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d\d(?:[ ]?[A-Za-z0-9]){11,30}", re.ASCII), _iban),
        "cn-id": Rule(re.compile(rf"(?<!\d)[1-9]\d{{5}} {_BORN} \d{{3}}[\dXx](?![\dA-Za-z])", re.VERBOSE), _resident),
        "card": Rule(re.compile(_CARD, re.VERBOSE), _luhn),
        "us-ssn": Rule(re.compile(r"(?<![\d-])(?!000|666|9\d\d)\d{3}-(?!00)\d\d-(?!0000)\d{4}(?![\d-])")),
        "ip": Rule(re.compile(_IP), _address),
        "phone": Rule(re.compile(_PHONE, re.VERBOSE)),
    }
)

# members that hold bytes as base64, and those beside them that say of what kind
_BLOBS: Final = frozenset({"data", "file_data", "b64_json", "image", "audio", "bytes"})
_KINDS: Final = ("media_type", "mime_type", "mimeType", "format")
_VECTOR: Final = "embedding"
_SMALL: Final = 20  # bits of a number
_LARGE: Final = 100
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_\r\n-]{64,}={0,2}\s*")
_BEGINNING: Final = 1024  # characters of such a member that are looked at
_DATA_URI: Final = re.compile(
    r"data:([\w.+-]{1,64}/[\w.+-]{1,64})?(?:;[\w.-]{1,64}=[\w.%-]{1,64}){0,8}(?:(;base64),([A-Za-z0-9+/_=%-]*)"
    r"|,([^\s\"'<>()]*))",
    re.ASCII,
)


def expression(text: str) -> re.Pattern[str]:
    """What stands between the slashes of `/.../`, compiled. Raises ValueError, which says what is wrong."""
    try:
        pattern = re.compile(text[1:-1])
        empty = pattern.search("") is not None
    except (re.error, RecursionError, OverflowError, FutureWarning) as error:
        raise ValueError(f"not a regular expression: {error}") from None
    if empty:
        raise ValueError("the expression matches the empty text, and so everything")
    return pattern


def is_expression(text: str) -> bool:
    return len(text) > 2 and text.startswith("/") and text.endswith("/")


class Redactor:
    """rules: names of `RULES`, and expressions as `/.../`. secrets: known ones, hidden whatever the rules are."""

    def __init__(self, rules: Iterable[str] = (), secrets: Iterable[str] = ()) -> None:
        given = frozenset(rules)
        self._known = Known(secrets)
        self._rules = tuple((f"[{name}]", rule) for name, rule in RULES.items() if name in given)
        self._own = tuple(expression(one) for one in sorted(given) if is_expression(one))

    def hide(self, text: str) -> str:
        """Without secrets."""
        return self._known.hide(text)

    def text(self, text: str) -> str:
        """Without secrets, and what the rules and expressions find."""
        text = self.name(text)
        for pattern in self._own:
            text = pattern.sub(OWN, text)
        return text

    def json(self, value: Any) -> Any:
        """The same JSON, with all its texts so. What is nested too deeply is left out as a whole."""
        try:
            return self._value(value, "")
        except RecursionError:
            return TOO_DEEP

    def _value(self, value: Any, name: str) -> Any:
        """name: of the member that it is."""
        if isinstance(value, str):
            return self._leaf(value, name)
        if isinstance(value, dict):
            return {self.name(key): self._value(one, key) for key, one in value.items()}
        if isinstance(value, list):
            return [self._value(one, name) for one in value]
        if isinstance(value, int) and _SMALL < value.bit_length() < _LARGE:  # a card's or a phone's number may be one
            changed = self.text(str(value))
            return value if changed == str(value) else changed
        return value

    def _leaf(self, text: str, name: str) -> str:
        if text[:64].lstrip()[:1] in ("{", "["):
            try:
                inner = _decoded(text)
            except RecursionError:
                return TOO_DEEP
            if inner is not None:
                clean = self._value(inner, name)
                return text if clean == inner else msgspec.json.encode(clean).decode()
        lead = f"{name}: "
        masked = mask(lead + text)  # a name may make a secret of what it names
        return self.text(masked[len(lead) :] if masked.startswith(lead) else text)

    def name(self, text: str) -> str:
        """Without secrets, and what the rules find; expressions are for what is said."""
        text = self._known.hide(text)
        for instead, rule in self._rules:
            text = _replaced(text, rule, instead)
        return text


def without_media(value: Any) -> Any:
    """The same JSON, with a word in place of each image, sound, file and vector."""
    try:
        return _spoken(value)
    except RecursionError:
        return TOO_DEEP


def _spoken(value: Any) -> Any:
    if isinstance(value, str):
        return _text_alone(value)
    if isinstance(value, dict):
        return {name: _member(name, one, value) for name, one in value.items()}
    return [_spoken(one) for one in value] if isinstance(value, list) else value


def _member(name: str, value: Any, beside: Mapping[str, Any]) -> Any:
    if name in _BLOBS and isinstance(value, str) and _BASE64.fullmatch(value[:_BEGINNING]):
        kind = next((beside[one] for one in _KINDS if isinstance(beside.get(one), str)), "base64")
        return _blob(kind, len(value) * 3 // 4)
    if name == _VECTOR and isinstance(value, str | list):
        return f"[{len(value)} characters]" if isinstance(value, str) else f"[{len(value)} numbers]"
    return _spoken(value)


def _text_alone(text: str) -> str:
    return _DATA_URI.sub(_shortened, text) if "data:" in text else text


def _replaced(text: str, rule: Rule, instead: str) -> str:
    out: list[str] = []
    done = at = 0
    while (found := rule.pattern.search(text, at)) is not None:
        if length := rule.accept(found[0]):
            out += (text[done : found.start()], instead)
            at = done = found.start() + length
        else:
            at = found.start() + 1
    return "".join([*out, text[done:]]) if out else text


def _shortened(found: re.Match[str]) -> str:
    kind, base64, encoded, plain = found.groups()
    return _blob(kind or "text/plain", len(encoded) * 3 // 4 if base64 else len(plain))


def _blob(kind: str, size: int) -> str:
    return f"[{kind}, {size} bytes]"


def _decoded(text: str) -> Any:
    """The object or list that a text is as JSON, if it is. Raises RecursionError."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        return None
    return value if isinstance(value, dict | list) else None
