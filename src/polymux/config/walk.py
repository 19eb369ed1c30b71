"""Walks a TOML document along Struct types: the annotations are the grammar, and every fault is kept with its line."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec

from polymux.config.positions import Path
from polymux.config.values import SCALARS, Scalar, choice, one_of, quoted, shown

INVALID: Any = object()  # stands for a value whose fault is already noted
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_VARIABLE = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_REFERENCE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


class Fault(msgspec.Struct, frozen=True):
    """What is wrong, and where. `line` is 0 where there is none, as in the environment; `field` is dotted."""

    file: str
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.field}: {self.message}" if self.field else f"{place}: {self.message}"


class ConfigError(Exception):
    """The config is not usable: all its faults, in line order. `config`: what could be read all the same, so that
    upper floors can look for more; None when nothing could."""

    def __init__(self, faults: Iterable[Fault], config: Any = None) -> None:
        self.faults = tuple(faults)
        self.config = config
        super().__init__(self.faults)

    def __str__(self) -> str:
        return "\n".join(map(str, self.faults))


class Derived(NamedTuple):
    """Marks a field that the walker fills from where the table stands; it is no key of the file."""

    value: Callable[["Walk", Path], Any]


class Parsed(NamedTuple):
    """Marks a field with a parser of its own: it answers the value, or notes a fault and answers INVALID."""

    parse: Callable[["Walk", Any, Path], Any]
    secret: bool = False


class Walk:
    """One pass over one source. Faults gather; what is faulty falls back on its default, so that the walk goes on.

    `base` has, per Struct type, the values that stand where the document is silent; `available` the values of a
    (Struct type, field) that this version has; `providers` the names a deployment may refer to.
    """

    def __init__(self, file: str, available: Mapping[tuple[type, str], tuple[object, ...]]) -> None:
        self.file = file
        self.available = available
        self.lines: Mapping[Path, int] = {}
        self.base: dict[type, dict[str, Any]] = {}
        self.providers: tuple[str, ...] = ()
        self.faults: list[Fault] = []
        self._expanded: set[Path] = set()
        self._hints: dict[
            type, dict[str, Any]
        ] = {}  # resolving annotations is slow, and there may be hundreds of routes

    def line(self, path: Path) -> int:
        """The line of the path, or of the nearest known one around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 0)

    def fault(self, path: Path, message: str, line: int = 0) -> Any:
        self.faults.append(Fault(self.file, line or self.line(path), dotted(path), message))
        return INVALID

    def show(self, value: object, path: Path, secret: bool = False) -> str:
        """What came out of a variable may be a secret wherever it stands."""
        return shown(value, secret or path in self._expanded)

    def wrong(self, expected: str, value: object, path: Path, secret: bool = False) -> Any:
        return self.fault(path, f"expected {expected}, got {self.show(value, path, secret)}")

    def expand(self, value: Any, env: Mapping[str, str], path: Path = ()) -> Any:
        """The value with `${VAR}` and `${VAR:-default}` replaced in all its strings; `$${` stands for `${`."""
        if isinstance(value, dict):
            return {key: self.expand(item, env, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.expand(item, env, (*path, index)) for index, item in enumerate(value)]
        if not isinstance(value, str) or "${" not in value:
            return value
        before = len(self.faults)
        self._expanded.add(path)
        result = _VARIABLE.sub(lambda found: self._variable(found, env, path), value)
        return result if len(self.faults) == before else INVALID

    def _variable(self, found: re.Match[str], env: Mapping[str, str], path: Path) -> str:
        if found[0] == "$${":
            return "${"
        reference = _REFERENCE.fullmatch(found[1]) if found[2] else None
        if reference is None:
            self.fault(path, "expected ${VARIABLE} or ${VARIABLE:-default}; $${ stands for ${ itself")
            return ""
        name, default = reference.groups()
        if name not in env and default is None:
            self.fault(path, f"the environment variable {name} is not set; ${{{name}:-}} would allow that")
        return (env.get(name) or default) or ""

    def field(self, cls: type, name: str, value: Any, path: Path) -> Any:
        """The value of one field of a Struct type."""
        result = self.value(self._of(cls)[name], value, path)
        available = self.available.get((cls, name))
        if result is INVALID or available is None or result in available:
            return result
        return self.fault(path, f"not available in this version yet, expected {one_of(available)}")

    def value(self, hint: Any, value: Any, path: Path) -> Any:
        """The value that `hint`, an annotation, asks for, or INVALID after noting the fault."""
        origin, args = get_origin(hint), get_args(hint)
        if value is INVALID:
            return INVALID
        if origin is Annotated:
            mark = args[1]
            return mark.parse(self, value, path) if isinstance(mark, Parsed) else self._scalar(mark, value, path)
        if origin in (Union, UnionType):  # X | None: TOML has no null, so None is only ever the default
            return self.value(args[0], value, path)
        if origin is Literal:
            return self._scalar(choice(args), value, path)
        if origin is tuple:
            return self._items(args[0], value, path)
        if origin is dict:
            return self._table(args[0], args[1], value, path)
        if hint in SCALARS:
            return self._scalar(SCALARS[hint], value, path)
        return self.struct(hint, value, path)

    def struct(self, cls: Any, table: Any, path: Path) -> Any:
        if not isinstance(table, dict):
            secret = isinstance(table, str) and any(map(is_secret, self._of(cls).values()))
            return self.wrong("a table", table, path, secret)
        known = tuple(name for name, hint in self._of(cls).items() if _derived(hint) is None)
        values = dict(self.base.get(cls, {}))
        for key, item in table.items():
            if key not in known:
                self.fault((*path, key), f"unknown key, {suggestion(key, known)}")
            elif (result := self.field(cls, key, item, (*path, key))) is not INVALID:
                values[key] = result
        for field in msgspec.structs.fields(cls):
            derived = _derived(self._of(cls)[field.name])
            if derived is not None:
                values[field.name] = derived.value(self, path)
            elif field.required and field.name not in table:
                self.fault((*path, field.name), "missing, a value is required")
            elif field.required and table[field.name] == []:
                self.fault((*path, field.name), "expected at least one entry")
        complete = all(field.name in values for field in msgspec.structs.fields(cls) if field.required)
        return cls(**values) if complete else INVALID

    def _of(self, cls: type) -> dict[str, Any]:
        return self._hints.get(cls) or self._hints.setdefault(cls, hints(cls))

    def _scalar(self, kind: Scalar, value: Any, path: Path) -> Any:
        try:
            return kind.convert(value)
        except ValueError:
            return self.wrong(kind.expected, value, path, kind.secret)

    def _items(self, hint: Any, value: Any, path: Path) -> Any:
        if not isinstance(value, list):
            return self.wrong("a list", value, path, is_secret(hint))
        found: list[Any] = []
        for index, item in enumerate(value):
            place = (*path, index)
            result = self.value(hint, item, place)
            if isinstance(result, str) and result in found and not is_secret(hint):
                self.fault(place, f"duplicate entry {self.show(result, place)}")
            elif result is not INVALID:
                found.append(result)
        return tuple(found)

    def _table(self, key_hint: Any, hint: Any, value: Any, path: Path) -> Any:
        if not isinstance(value, dict):
            return self.wrong("a table", value, path, is_secret(hint))
        found = {key: self.value(hint, item, (*path, key)) for key, item in value.items()}
        names = {key: self.value(key_hint, key, (*path, key)) for key in value}
        return {key: item for key, item in found.items() if item is not INVALID and names[key] is not INVALID}


def hints(cls: type) -> dict[str, Any]:
    """The annotations of the fields of a Struct type, with their marks."""
    return get_type_hints(cls, include_extras=True)


def _derived(hint: Any) -> Derived | None:
    return next((mark for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, Derived)), None)


def is_secret(hint: Any) -> bool:
    """Whether the annotation, or one inside it, says that the value is secret."""
    marked = any(getattr(mark, "secret", False) for mark in getattr(hint, "__metadata__", ()))
    return marked or any(is_secret(inner) for inner in get_args(hint) if get_origin(hint) is not Literal)


def suggestion(name: str, known: Iterable[str]) -> str:
    """`did you mean "x"?`, or the list of what there is."""
    names = sorted(known)
    close = difflib.get_close_matches(name.lower().replace("-", "_"), names, n=1) or difflib.get_close_matches(
        name, names, n=1
    )
    if close:
        return f"did you mean {quoted(close[0])}?"
    return f"expected one of: {', '.join(names)}" if names else "none is defined"


def dotted(path: Path) -> str:
    """`models."gpt-4.1".deployments[0].weight`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE_KEY.fullmatch(part) else quoted(part))
    return text
