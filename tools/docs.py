"""`./dev docs`: writes the generated parts of the documentation, in both languages, between their markers.

A page says `<!-- generated: NAME -->` ... `<!-- end -->`; NAME is a row of `PARTS`. What the code knows (settings,
types, defaults, error kinds, routes, presets) comes from the code; what only people know (what a thing is for) stands
in tools/docs.toml, and a thing without its words there is a fault. `--check` writes nothing and fails on stale pages.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

import msgspec

from polymux import config
from polymux.app import table
from polymux.config.values import SCALARS, Bytes, Scalar
from polymux.config.walk import Derived, hints
from polymux.errors import KINDS
from polymux.http.routes import TABLE
from polymux.providers.base import Embedding
from polymux.providers.dialects import DIALECTS
from polymux.providers.fates import COMPLETIONS, EMBEDDINGS, MESSAGES, PARAMETERS, Column, Fate
from polymux.providers.table import Row
from polymux.surfaces import completions
from polymux.types import Quirks

ROOT: Final = Path(__file__).resolve().parents[1]
LANGUAGES: Final = ("en", "zh")
_MARKER: Final = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

Place = tuple[str, ...]


class Missing(Exception):
    """Something of the code has no words in tools/docs.toml, or a page asks for a part that does not exist."""


@cache
def texts() -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))


def words(group: str, name: str, language: str) -> str:
    """What people say about a thing; what this version does not do with it yet is said as well."""
    entry = texts().get(group, {}).get(name)
    if not entry or not entry.get(language):
        raise Missing(f'tools/docs.toml: [{group}] lacks "{name}" in {language}')
    later = f" *{phrase('later', language)}*" if entry.get("later") else ""
    return str(entry[language]) + later


def phrase(name: str, language: str) -> str:
    return words("phrases", name, language)


def grid(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def code(text: object) -> str:
    return f"`{text}`"


def listing(values: Sequence[object]) -> str:
    return ", ".join(map(code, values)) or "—"


# ---- settings ----------------------------------------------------------------------------------------------------


def tables(cls: type, path: Place = ()) -> Iterator[tuple[type, Place]]:
    """Every table of the file: its Struct type and where it stands, `NAME` for a name of the user's."""
    yield cls, path
    for name, hint in settings(cls):
        for inner, more in _structs(hint):
            yield from tables(inner, (*path, name, *more))


def settings(cls: type) -> list[tuple[str, Any]]:
    """The keys of a table and their annotations; fields that no file gives are left out."""
    return [(name, hint) for name, hint in hints(cls).items() if not _marked(hint, Derived)]


def _structs(hint: Any) -> list[tuple[type, Place]]:
    origin, args = get_origin(hint), get_args(hint)
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return [(hint, ())]
    more = {dict: ("NAME",), tuple: ("[]",)}.get(origin, ())
    return [(inner, (*more, *rest)) for arg in args if arg is not Ellipsis for inner, rest in _structs(arg)]


def _marked(hint: Any, mark: type) -> bool:
    return any(isinstance(one, mark) for one in getattr(hint, "__metadata__", ()))


def dotted(path: Place) -> str:
    return ".".join(path).replace(".[]", "[]")


def key_of(cls: type, name: str) -> str:
    """How tools/docs.toml calls a setting."""
    return f"{cls.__name__}.{name}"


def settings_part(language: str) -> str:
    places: dict[type, list[str]] = {}
    for cls, path in tables(config.Config):
        places.setdefault(cls, []).append(dotted(path))
    out = []
    for cls, paths in places.items():
        title = ", ".join(map(code, paths)) if paths != [""] else phrase("top", language)
        head = [phrase(name, language) for name in ("key", "type", "default", "meaning")]
        rows = (_setting(cls, name, hint, language) for name, hint in settings(cls) if _own(hint))
        out.append(f"### {title}\n\n{words('tables', cls.__name__, language)}\n\n{grid(head, rows)}")
    return "\n".join(out)


def _own(hint: Any) -> bool:
    """Not a table: tables have sections of their own."""
    return not _structs(hint)


def _setting(cls: type, name: str, hint: Any, language: str) -> list[str]:
    field = next(one for one in msgspec.structs.fields(cls) if one.name == name)
    default = phrase("required", language) if field.required else _default(field.default, hint)
    meaning = words("settings", key_of(cls, name), language)
    available = config._AVAILABLE.get((cls, name))
    if available and not _literal(hint):
        only = listing([_toml(value) for value in available])
        meaning += f" *{phrase('only', language)} {only}{phrase('stop', language)}*"
    return [code(name), _type(cls, name, hint, language), default, meaning]


def _type(cls: type, name: str, hint: Any, language: str) -> str:
    own = texts()["settings"].get(key_of(cls, name), {}).get("type", {}).get(language)
    if own:
        return str(own)
    available = config._AVAILABLE.get((cls, name))
    return listing([_toml(value) for value in available]) if available and _literal(hint) else _kind(hint, language)


def _literal(hint: Any) -> bool:
    return get_origin(hint) is Literal


def _kind(hint: Any, language: str) -> str:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return listing([_toml(value) for value in args])
    if origin in (Union, UnionType):
        return _kind(args[0], language)
    if origin in (tuple, dict):
        inner = _kind(args[-1] if origin is dict else args[0], language)
        return phrase("list" if origin is tuple else "table", language).format(inner)
    kind = SCALARS[hint] if hint in SCALARS else next(one for one in args[1:] if isinstance(one, Scalar))
    return words("types", kind.expected, language)


def _default(value: Any, hint: Any) -> str:
    if value is msgspec.NODEFAULT or value is None or value in ("", (), {}):
        return "—"
    if hint is Bytes:
        return code(_toml(f"{value // 2**20}MiB" if value >= 2**20 else f"{value // 2**10}KiB"))
    return code(_toml(_duration(value) if isinstance(value, float) else value))


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def environment_part(language: str) -> str:
    head = [phrase(name, language) for name in ("variable", "setting", "meaning")]
    return grid(head, (_variable(name, place, language) for name, place in environment().items()))


def environment() -> dict[str, str]:
    """Every variable but those of the presets, and the setting it gives, "" where it is none."""
    sections = {cls: dotted(path) for cls, path in tables(config.Config)}
    rows = {name: f"{sections[cls]}.{field}" for name, cls, field in (*config._OURS, *config._GENERAL)}
    return {"POLYMUX_CONFIG": "", **rows, "API_KEYS": "auth.keys", "RATE_LIMIT_ENABLED": "limits.rpm"}


def _variable(name: str, place: str, language: str) -> list[str]:
    return [code(name), code(place) if place else "—", words("environment", name, language)]


# ---- errors, routes, presets -------------------------------------------------------------------------------------


def errors_part(language: str) -> str:
    head = [phrase(name, language) for name in ("status", "error_type", "error_code", "retried", "situation")]
    rows = (
        [
            str(kind.status),
            code(kind.type),
            code(kind.code) if kind.code else phrase("as_sent", language),
            phrase(f"retry_{kind.retry}", language),
            words("errors", name, language),
        ]
        for name, kind in KINDS.items()
    )
    return grid(head, rows)


def routes_part(language: str) -> str:
    head = [phrase(name, language) for name in ("route", "needs_key", "answer")]
    rows = (
        [
            code(shown_route(row.method, row.path, row.client)),
            phrase("yes" if row.client else "admin_key" if row.path.startswith("/admin/") else "no", language),
            words("routes", f"{row.method} {row.path}", language),
        ]
        for row in TABLE
    )
    return grid(head, rows)


def shown_route(method: str, path: str, client: bool) -> str:
    return f"{method} {'/v1' if client else ''}{path.replace('/*', '/{id}')}"


# What most compatible vendors need, told in two words.
_USUAL: Final = Quirks(repair=True, rename={"max_completion_tokens": "max_tokens"}, roles={"developer": "system"})


def presets_part(language: str) -> str:
    """A table for each group of rows."""
    head = [phrase(name, language) for name in ("preset", "dialect", "base_url", "key_variable", "quirks", "verified")]
    parts = []
    for group in get_args(hints(Row)["group"]):
        found = (_preset(name, row, language) for name, row in table().items() if row.group == group)
        parts.append(f"### {phrase(f'group_{group}', language)}\n\n{grid(head, found)}")
    return "\n".join(parts)


def _preset(name: str, row: Row, language: str) -> list[str]:
    variables = listing(row.env) + (f" ({phrase('optional', language)})" if row.auth == "optional" else "")
    variables += "" if row.switch else f" ({phrase('no_switch', language)})"
    base = code(row.base_url) if row.base_url else phrase("give", language)
    base += f" (`{row.base_env}`)" if row.base_env else ""
    others = [code(surface) for surface in row.serves if surface != "chat"]
    serves = phrase("serves", language).format(phrase("and", language).join(others)) if others else ""
    told = [serves, _quirks(row.quirks, language), row.note.get(language, "")]
    adapted = phrase("semicolon", language).join(filter(None, told)) or "—"
    return [code(name), row.dialect, base, variables, adapted, _verified(row.verified, language)]


_REASONING: Final = ("reasoning", "replay", "takes")


def _quirks(quirks: Quirks, language: str) -> str:
    found = []
    if quirks.repair and _USUAL.rename.items() <= quirks.rename.items() and quirks.roles == _USUAL.roles:
        found.append(phrase("usual", language))
        other = {old: new for old, new in quirks.rename.items() if old not in _USUAL.rename}
        quirks = msgspec.structs.replace(quirks, repair=False, rename=other, roles={})
    rename = [f"{old} → {new}" for old, new in quirks.rename.items()]
    clamp = [f"{name} {low:g}–{high:g}" for name, (low, high) in quirks.clamp.items()]
    only = [f"{name} = {' | '.join(map(str, values))}" for name, values in quirks.only.items()]
    roles = [f"{role} → {there}" for role, there in quirks.roles.items()]
    found += [
        f"{phrase(word, language)} {listing(values)}"
        for word, values in (
            ("rename", rename),
            ("drop", quirks.drop),
            ("only_values", only),
            ("nonempty", quirks.nonempty),
            ("clamp", clamp),
            ("set", [*quirks.set]),
            ("roles", roles),
        )
        if values
    ]
    found += [
        phrase(name, language) for name in ("repair", "tags", "fault", "thinking", *_REASONING) if getattr(quirks, name)
    ]
    found += [] if quirks.stream_usage else [phrase("no_stream_usage", language)]
    return phrase("semicolon", language).join(found)


def reasoning_part(language: str) -> str:
    """A line for each preset that says how it is told an effort, or wants reasoning back."""
    head = [phrase(name, language) for name in ("preset", "told", "wanted_back")]
    rows = (
        [
            code(name),
            "<br>".join(f"{code(models)}: {how}" for models, how in row.quirks.reasoning.items()) or "—",
            code(row.quirks.replay) if row.quirks.replay else "—",
        ]
        for name, row in table().items()
        if row.quirks.reasoning or row.quirks.replay
    )
    return grid(head, rows)


def _verified(verified: str, language: str) -> str:
    kind, _, what = verified.partition(":")
    if kind == "transcript":
        return f"[{what.rpartition('/')[2]}](../../tests/transcripts/data/{what}/case.json)"
    url, _, date = what.rpartition(",")
    return f"[{phrase('document', language)}]({url}) ({date})" if url else phrase("not_yet", language)


# ---- parameters --------------------------------------------------------------------------------------------------


def parameters_part(names: Sequence[str], language: str) -> str:
    """The table of fates: a row for each parameter, a column for each dialect."""
    return _fates("parameters", names, {dialect: adapter.fates for dialect, adapter in DIALECTS.items()}, language)


def embeddings_part(language: str) -> str:
    """The same of embeddings, for the dialects that make them."""
    return _fates("embeddings", EMBEDDINGS, making(), language)


def making() -> dict[str, Column]:
    return {name: one.embedding_fates for name, one in DIALECTS.items() if isinstance(one, Embedding)}


def completions_part(language: str) -> str:
    """The same of completions that become a chat."""
    return _fates("completions", COMPLETIONS, {"chat": completions.FATES}, language)


def _fates(group: str, names: Sequence[str], columns: Mapping[str, Column], language: str) -> str:
    head = [phrase("parameter", language), *columns]
    rows = (
        [code(name), *(_fate(group, f"{of}.{name}", fates[name], language) for of, fates in columns.items())]
        for name in names
    )
    return grid(head, rows)


def _fate(group: str, key: str, fate: Fate, language: str) -> str:
    to = phrase("fate_to", language).format(code(fate.to)) if fate.to and fate.to != key.partition(".")[2] else ""
    unclear = fate.what in ("mapped", "emulated") and not to
    how = words(group, key, language) if unclear or key in texts()[group] else ""
    return phrase(f"fate_{fate.what}", language) + to + (phrase("colon", language) + how if how else "")


# ---- pages -------------------------------------------------------------------------------------------------------

PARTS: Final[Mapping[str, Callable[[str], str]]] = MappingProxyType(
    {
        "settings": settings_part,
        "environment": environment_part,
        "errors": errors_part,
        "routes": routes_part,
        "presets": presets_part,
        "messages": partial(parameters_part, MESSAGES),
        "parameters": partial(parameters_part, [name for name in PARAMETERS if name not in MESSAGES]),
        "completions": completions_part,
        "embeddings": embeddings_part,
        "reasoning": reasoning_part,
    }
)


def pages(root: Path = ROOT) -> dict[Path, str]:
    """Every page that has generated parts, as it should be. Raises `Missing`."""
    found = {}
    for language in LANGUAGES:
        for page in sorted((root / "docs" / language).glob("*.md")):
            text = page.read_text("utf-8")
            if _MARKER.search(text):
                found[page] = _MARKER.sub(partial(_part, language), text)
    return found


def _part(language: str, found: re.Match[str]) -> str:
    if found[2] not in PARTS:
        raise Missing(f"there is no generated part {found[2]!r}, only {', '.join(PARTS)}")
    return f"{found[1]}\n{PARTS[found[2]](language)}\n{found[3]}"


def unused() -> list[str]:
    """Words about settings, errors, routes, variables and parameters that are no more."""
    found = [cls for cls, _ in tables(config.Config)]
    known = {
        "settings": {key_of(cls, name) for cls in found for name, hint in settings(cls) if _own(hint)},
        "tables": {cls.__name__ for cls in found},
        "errors": set(KINDS),
        "routes": {f"{row.method} {row.path}" for row in TABLE},
        "environment": set(environment()),
        "parameters": {f"{dialect}.{name}" for dialect in DIALECTS for name in PARAMETERS},
        "completions": {f"chat.{name}" for name in COMPLETIONS},
        "embeddings": {f"{dialect}.{name}" for dialect in making() for name in EMBEDDINGS},
    }
    return [
        f'tools/docs.toml: [{group}] has "{name}", which is no more'
        for group, names in known.items()
        for name in texts()[group]
        if name not in names
    ]


def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """The exit status: 1 when words are missing or, with `--check`, a page is stale."""
    if set(arguments) - {"--check"}:
        sys.stderr.write("usage: ./dev docs [--check]\n")
        return 2
    try:
        faults, made = unused(), pages(root)
    except Missing as missing:
        faults, made = [str(missing)], {}
    for page, text in made.items():
        if page.read_text("utf-8") == text:
            continue
        name = page.relative_to(root)
        if "--check" in arguments:
            faults.append(f"{name} is stale: run ./dev docs")
        else:
            page.write_text(text, "utf-8")
            sys.stdout.write(f"wrote {name}\n")
    sys.stderr.write("".join(f"{fault}\n" for fault in faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
