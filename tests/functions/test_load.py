"""Function models found in files and modules, and what is wrong with those that are not served."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from polymux.functions.load import LoadError, check_owner, from_file, from_module

MEOW = "from polymux import model\n\n@model('meow')\ndef meow(messages):\n    return 'meow'\n"
ECHO = MEOW.replace("meow", "echo")


def write(path: Path, text: str, mode: int = 0o644) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_file(tmp_path: Path) -> None:
    found = from_file(write(tmp_path / "cats.py", MEOW))
    assert list(found) == ["meow"]
    assert found["meow"]([]) == "meow"


def test_a_file_may_use_what_looks_its_module_up(tmp_path: Path) -> None:
    """A dataclass with postponed annotations asks `sys.modules` for the module it stands in."""
    text = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Cat:\n    name: str = __file__\n"
    )
    path = write(tmp_path / "cats.py", text + MEOW.replace("'meow'\n", "Cat().name\n"))
    assert from_file(path)["meow"]([]) == str(path)


def test_a_file_is_read_as_it_is_now(tmp_path: Path) -> None:
    """Python's own cache goes by whole seconds and the size."""
    path = write(tmp_path / "cats.py", MEOW)
    old = from_file(path)["meow"]
    write(path, MEOW.replace("return 'meow'", "return 'purr'"))
    assert (from_file(path)["meow"]([]), old([])) == ("purr", "meow")
    assert list(tmp_path.iterdir()) == [path]


def test_files_of_one_name_are_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    one, two = (from_file(write(tmp_path / name / "cats.py", f"{MEOW}    # {name}")) for name in ("a", "b"))
    assert one["meow"].__module__ != two["meow"].__module__
    assert sys.modules[one["meow"].__module__].meow is one["meow"]


def test_a_broken_file_leaves_the_old_module_in_its_place(tmp_path: Path) -> None:
    path = write(tmp_path / "cats.py", MEOW)
    old = from_file(path)["meow"]
    write(path, "1 / 0")
    with pytest.raises(LoadError):
        from_file(path)
    assert sys.modules[old.__module__].meow is old


def test_modules_and_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "pmx_cats.py", MEOW + "\n" + ECHO)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "pmx_cats", raising=False)
    assert list(from_module("pmx_cats")) == ["meow", "echo"]
    assert list(from_module("pmx_cats:echo")) == ["echo"]
    monkeypatch.delitem(sys.modules, "pmx_cats")


FAULTS: Mapping[str, tuple[str, str]] = {
    "syntax.py": ("def (", "SyntaxError: invalid syntax (syntax.py, line 1)"),
    "raises.py": ("x = 1\n1 / 0\n", "ZeroDivisionError: division by zero (line 2 of raises.py)"),
    "imports.py": ("import no_such_module_here\n", "No module named 'no_such_module_here'"),
    "unmarked.py": ("def meow(messages):\n    return 'x'\n", 'put @polymux.model("NAME") above one'),
    "empty.py": ("", "no function is marked"),
    "exits.py": ("raise SystemExit(3)\n", "SystemExit"),
    "twice.py": (MEOW + MEOW.replace("def meow", "def purr"), "the model name 'meow' is taken by another function"),
    "bare.py": (MEOW.replace("('meow')", ""), 'the name of a model is a text: @model("NAME") (line 3 of bare.py)'),
    "nul.py": ("x = '\0'", "null bytes"),
    "bytes.py": ("x = '\xe9'", "SyntaxError"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_file_that_cannot_be_served_is_named_with_its_fault(tmp_path: Path, name: str) -> None:
    text, fault = FAULTS[name]
    path = tmp_path / name
    path.write_bytes(text.encode("latin-1"))
    path.chmod(0o644)
    with pytest.raises(LoadError) as caught:
        from_file(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert fault in str(caught.value)
    assert "importlib" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"nothing\.py: no such file"):
        from_file(tmp_path / "nothing.py")


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ("no_such_module_here", "ModuleNotFoundError: No module named 'no_such_module_here'$"),
        ("polymux.demo:nothing", "polymux.demo has no function 'nothing'"),
        ("polymux.demo:annotations", "polymux.demo has no function 'annotations'"),
        ("polymux.functions:load", "load is not marked as a model"),
        ("polymux.errors", "no function is marked as a model"),
        (":x", "x"),
        ("..a", "a"),
    ],
)
def test_a_module_that_cannot_be_served(spec: str, fault: str) -> None:
    with pytest.raises(LoadError, match=fault) as caught:
        from_module(spec)
    assert "importlib" not in caught.value.trace


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_may_write_is_not_run(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "cats.py", "raise AssertionError('it was run')\n", mode)
    with pytest.raises(LoadError, match=f"others may write to it.*chmod go-w {path}"):
        from_file(path)


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_a_folder_that_others_may_write(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(LoadError, match="others may write to it"):
        check_owner(tmp_path)
