"""The function models of some specs, and what becomes of them when their files change."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from polymux.functions.load import Function, LoadError, check_owner, from_file, from_module
from polymux.functions.run import Functions

Stamp = tuple[int, int, int, int]  # of a file: time of its last change, size, inode, mode

log = logging.getLogger("polymux.functions")


class _File(msgspec.Struct, frozen=True):
    """What is known of a file: when it was read, the models served from it, and why its present text is not."""

    stamp: Stamp
    functions: dict[str, Function]
    broken: str = ""


class Watcher:
    """Loads `FILE.py`, folders of such files, `module` and `module:object`; looks for changes when it is asked to.

    A file that is named, a module, and a folder as such must be in order at the start: `LoadError`. A file of a folder
    that is broken is told in the log and in `functions.broken`, and the rest is served; so is, later on, any file,
    and then what it held before goes on being served. Files whose name begins with `_` or `.` are no models' files.
    """

    def __init__(self, specs: Iterable[str], *, strict: bool = False) -> None:
        """`strict`: raise `LoadError` for a broken file of a folder, too."""
        self._modules: dict[str, dict[str, Function]] = {}
        self._named: list[Path] = []
        self._folders: list[Path] = []
        self._files: dict[Path, _File] = {}
        self._unread: dict[Path, Stamp] = {}  # have changed, so that the names in them may be others by now
        self._order = [self._place(spec) for spec in dict.fromkeys(specs)]
        self._seen = self._scan()
        for place in self._order:
            if isinstance(place, str):
                self._modules[place] = functions = from_module(place)
                self._check_names(functions, place)
                continue
            for path in self._paths(place):
                if path not in self._files:
                    self._load(path, self._seen.get(path, (0, 0, 0, 0)), strict=strict or place in self._named)
        self.functions = self._composed(None)

    def changed(self) -> Functions | None:
        """The models after a change, or None. A change counts when two looks in a row have found the same.

        It reads files and runs what they hold: for a thread, one at a time.
        """
        before, self._seen = self._seen, self._scan()
        now = self._seen
        if now != before or now == {path: file.stamp for path, file in self._files.items()}:
            return None
        for path in self._files.keys() - now.keys():
            log.info("%s is gone, and so are its models: %s", path, ", ".join(self._files[path].functions))
            del self._files[path]
        self._unread = {path: stamp for path, stamp in now.items() if not self._current(path, stamp)}
        while self._unread:
            path = next(iter(self._unread))
            self._load(path, self._unread.pop(path))
        self.functions = self._composed(self.functions)
        return self.functions

    def _current(self, path: Path, stamp: Stamp) -> bool:
        file = self._files.get(path)
        return file is not None and not file.broken and file.stamp == stamp

    def _place(self, spec: str) -> Path | str:
        """A path, or the spec of a module."""
        path = Path(spec).expanduser()
        if not spec.strip():  # as a path it would be the working directory
            raise LoadError("an empty name where FILE.py, a folder or module:object is expected")
        if path.is_dir():
            check_owner(path)
            self._folders.append(path)
        elif spec.endswith(".py"):
            self._named.append(path)
        elif "/" in spec:
            raise LoadError(f"{spec}: no such folder")
        else:
            return spec
        return path

    def _paths(self, place: Path) -> list[Path]:
        if place in self._named:
            return [place]
        return sorted(path for path in place.glob("*.py") if not path.name.startswith(("_", ".")))

    def _scan(self) -> dict[Path, Stamp]:
        """The files there are. A named one that is gone counts as it was: it is not given up."""
        found: dict[Path, Stamp] = {}
        for place in self._order:
            for path in () if isinstance(place, str) else self._paths(place):
                try:
                    told = path.stat()
                except OSError:
                    if path in self._named and path in self._files:
                        found[path] = self._files[path].stamp
                    continue
                found[path] = (told.st_mtime_ns, told.st_size, told.st_ino, told.st_mode)
        return found

    def _load(self, path: Path, stamp: Stamp, *, strict: bool = False) -> None:
        old = self._files.get(path)
        try:
            if path not in self._named:
                check_owner(path.parent)
            functions = from_file(path)
            self._check_names(functions, path)
        except (LoadError, OSError) as error:
            if strict:
                raise LoadError(str(error)) from error
            taken = {name for place, others in self._loaded() if place != path for name in others}
            kept = {name: one for name, one in old.functions.items() if name not in taken} if old else {}
            words = f"{error}; its models of before are still served: {', '.join(kept)}" if kept else str(error)
            if old is None or (old.stamp, old.broken) != (stamp, words):  # else it has been told
                log.error("%s", words if kept else f"not served: {words}")
                if trace := getattr(error, "trace", ""):
                    log.info("%s broke here:\n%s", path, trace)
            self._files[path] = _File(stamp, kept, words)
            return
        if old:
            log.info("%s is read anew: %s", path, ", ".join(functions))
        self._files[path] = _File(stamp, functions)

    def _check_names(self, functions: Mapping[str, Function], of: Path | str) -> None:
        for place, others in self._loaded():
            if place != of:
                for name in functions.keys() & others.keys():
                    if functions[name] is not others[name]:
                        raise LoadError(f"{of}: the model name {name!r} is taken by another function, of {place}")

    def _loaded(self) -> Iterator[tuple[Path | str, Mapping[str, Function]]]:
        yield from self._modules.items()
        for path, file in self._files.items():
            if path not in self._unread:
                yield path, file.functions

    def _composed(self, before: Functions | None) -> Functions:
        functions: dict[str, Function] = {}
        for place in self._order:
            if isinstance(place, str):
                functions |= self._modules[place]
            else:
                for path in self._files:
                    if path == place or (place in self._folders and path.parent == place):
                        functions |= self._files[path].functions
        broken = {str(path): file.broken for path, file in self._files.items() if file.broken}
        return Functions(functions, broken, before)


def load(specs: Iterable[str]) -> dict[str, Function]:
    """The functions by model name, all or nothing. Raises `LoadError` for what cannot be imported, holds no model, is
    writable by others, or names a model twice."""
    functions = Watcher(specs, strict=True).functions
    return {name: functions[name].function for name in functions.names}
