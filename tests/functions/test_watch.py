"""Files of function models that come, change, break and go, while others are served. No time passes here."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from polymux import demo
from polymux.functions import Functions, LoadError, Watcher, load

MEOW = "from polymux import model\n\n@model('meow')\ndef meow(messages):\n    return 'meow'\n"
ECHO = MEOW.replace("meow", "echo")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path


@pytest.fixture(autouse=True)
def lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "polymux.functions")


def write(path: Path, text: str, mode: int = 0o644) -> str:
    """A change of a file has another time, however fast the test is."""
    at = path.stat().st_mtime_ns + 10**9 if path.exists() else 10**18
    path.write_text(text)
    path.chmod(mode)
    os.utime(path, ns=(at, at))
    return str(path)


def look(watcher: Watcher) -> Functions | None:
    """What a change has led to, once it has settled."""
    assert watcher.changed() is None
    return watcher.changed()


def says(functions: Functions | None, name: str = "meow") -> Any:
    assert functions is not None
    return functions[name].function([])


# ---- the start ---------------------------------------------------------------------------------------------------


def test_specs_of_all_kinds_in_their_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "many").mkdir(mode=0o755)
    write(folder / "many" / "b.py", MEOW.replace("meow", "b"))
    write(folder / "many" / "a.py", MEOW.replace("meow", "a"))
    write(folder / "many" / "notes.txt", "not Python")
    write(folder / "many" / "_helper.py", "no models here")
    monkeypatch.setenv("HOME", str(folder))
    write(folder / "cats.py", MEOW)
    watcher = Watcher(["~/cats.py", str(folder / "many"), "polymux.demo:echo"])
    assert watcher.functions.names == ("meow", "a", "b", "echo")
    assert watcher.functions.broken == {}
    assert load(["~/cats.py", str(folder / "many"), "polymux.demo:echo"])["echo"] is demo.echo


def test_what_is_named_twice_is_served_once(folder: Path) -> None:
    path = write(folder / "cats.py", MEOW.replace("meow", "purr"))
    specs = [path, "polymux.demo:echo", str(folder), path, "polymux.demo"]
    assert Watcher(specs).functions.names == ("purr", "echo", "meow")
    assert load(["polymux.demo", "polymux.demo:echo", "polymux.demo"]) == {"echo": demo.echo, "meow": demo.meow}


def test_nothing_is_nothing() -> None:
    assert load([]) == {}
    assert Watcher([]).changed() is None


@pytest.mark.parametrize("spec", ["", " ", "nothing.py", "no_such_module_here", "./nothing", "polymux.errors"])
def test_what_is_named_must_be_there(spec: str) -> None:
    with pytest.raises(LoadError):
        Watcher([spec])


def test_a_named_file_must_be_in_order(folder: Path) -> None:
    with pytest.raises(LoadError, match="ZeroDivisionError"):
        Watcher([write(folder / "cats.py", "1 / 0")])


def test_a_broken_file_of_a_folder_is_named_and_the_rest_served(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(folder / "a.py", "def f():\n    1 / 0\n\nf()\n")
    write(folder / "b.py", MEOW)
    functions = Watcher([str(folder)]).functions
    assert functions.names == ("meow",)
    assert functions.broken == {path: f"{path}: ZeroDivisionError: division by zero (line 2 of a.py)"}
    assert f"not served: {path}: ZeroDivisionError" in caplog.text
    assert f'File "{path}", line 2, in f' in caplog.text


def test_all_or_nothing(folder: Path) -> None:
    write(folder / "a.py", "1 / 0")
    with pytest.raises(LoadError, match=r"a\.py: ZeroDivisionError"):
        load([str(folder)])


def test_a_folder_that_others_may_write_is_not_run(folder: Path) -> None:
    write(folder / "cats.py", "raise AssertionError('it was run')\n")
    folder.chmod(0o775)
    with pytest.raises(LoadError, match="others may write to it"):
        Watcher([str(folder)])


def test_a_name_that_is_taken_is_the_later_ones_fault(folder: Path) -> None:
    first, second = write(folder / "a.py", MEOW), write(folder / "b.py", MEOW + ECHO)
    functions = Watcher([str(folder)]).functions
    assert functions.names == ("meow",)
    assert functions.broken == {second: f"{second}: the model name 'meow' is taken by another function, of {first}"}
    with pytest.raises(LoadError, match=r"b\.py: the model name 'meow' is taken"):
        load([first, second])
    with pytest.raises(LoadError, match=r"polymux\.demo: the model name 'meow' is taken"):
        load([first, "polymux.demo"])


# ---- changes -----------------------------------------------------------------------------------------------------


def test_nothing_changed(folder: Path) -> None:
    watcher = Watcher([write(folder / "cats.py", MEOW), "polymux.demo:echo"])
    assert [watcher.changed() for _ in range(3)] == [None] * 3


@pytest.mark.parametrize("whole", [True, False])
def test_a_changed_file_is_run_anew_and_the_others_are_kept(folder: Path, whole: bool) -> None:
    path, other = folder / "a.py", folder / "b.py"
    write(path, MEOW)
    write(other, ECHO)
    watcher = Watcher([str(folder)] if whole else [str(path), str(other)])
    old = watcher.functions
    write(path, MEOW.replace("return 'meow'", "return 'purr'"))
    new = look(watcher)
    assert (says(new), says(old)) == ("purr", "meow")
    assert new is watcher.functions
    assert new["echo"] is old["echo"]  # with its places, and who waits for one
    assert watcher.changed() is None


def test_a_change_has_to_settle(folder: Path) -> None:
    path = folder / "cats.py"
    write(path, MEOW)
    watcher = Watcher([str(path)])
    for _ in range(3):
        write(path, "half a fi")
        assert watcher.changed() is None
    write(path, MEOW.replace("return 'meow'", "return 'purr'"))
    assert says(look(watcher)) == "purr"


def test_files_come_and_go(folder: Path) -> None:
    watcher = Watcher([str(folder)])
    assert watcher.functions.names == ()
    path = write(folder / "cats.py", MEOW)
    new = look(watcher)
    assert new is not None
    assert new.names == ("meow",)
    os.unlink(path)
    last = look(watcher)
    assert last is not None
    assert last.names == ()


def test_a_file_that_breaks_leaves_what_it_was(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = folder / "cats.py"
    write(path, MEOW)
    watcher = Watcher([str(path)])
    write(path, "1 / 0")
    new = look(watcher)
    assert says(new) == "meow"
    assert new is not None
    assert new.broken == {
        str(path): f"{path}: ZeroDivisionError: division by zero (line 1 of cats.py); "
        "its models of before are still served: meow"
    }
    assert "still served: meow" in caplog.text
    assert f'File "{path}", line 1' in caplog.text
    write(path, MEOW)
    mended = look(watcher)
    assert mended is not None
    assert mended.broken == {}


def test_a_fault_is_told_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(folder / "a.py", "1 / 0")
    watcher = Watcher([str(folder)])
    write(folder / "b.py", MEOW)
    assert says(look(watcher)) == "meow"
    assert caplog.text.count("not served") == 1


def test_a_named_file_that_goes_is_not_given_up(folder: Path) -> None:
    path = folder / "cats.py"
    write(path, MEOW)
    watcher = Watcher([str(path)])
    path.unlink()
    assert [watcher.changed() for _ in range(3)] == [None] * 3
    path.write_text(MEOW.replace("return 'meow'", "return 'purr'"))
    path.chmod(0o644)
    assert says(look(watcher)) == "purr"


def test_a_name_that_comes_free_is_taken_up(folder: Path) -> None:
    first = write(folder / "a.py", MEOW)
    write(folder / "b.py", MEOW.replace("return 'meow'", "return 'purr'"))
    watcher = Watcher([str(folder)])
    assert says(watcher.functions) == "meow"
    os.unlink(first)
    new = look(watcher)
    assert says(new) == "purr"
    assert new is not None
    assert new.broken == {}


def test_a_change_that_takes_anothers_name_is_refused(folder: Path) -> None:
    path = folder / "a.py"
    write(path, MEOW)
    write(folder / "b.py", ECHO)
    watcher = Watcher([str(folder)])
    write(path, ECHO)
    new = look(watcher)
    assert new is not None
    assert set(new.names) == {"meow", "echo"}
    assert "the model name 'echo' is taken" in new.broken[str(path)]


def test_a_file_that_others_may_write_by_now_is_not_run(folder: Path) -> None:
    path = folder / "cats.py"
    write(path, MEOW)
    watcher = Watcher([str(folder)])
    write(path, "raise AssertionError('it was run')\n", 0o666)
    new = look(watcher)
    assert says(new) == "meow"
    assert new is not None
    assert "others may write to it" in new.broken[str(path)]


def test_nothing_new_is_run_from_a_folder_that_others_may_write_by_now(folder: Path) -> None:
    watcher = Watcher([str(folder)])
    folder.chmod(0o777)
    path = write(folder / "cats.py", "raise AssertionError('it was run')\n")
    new = look(watcher)
    assert new is not None
    assert "others may write to it" in new.broken[path]


def test_modules_are_not_watched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / "pmx_watched.py", MEOW)
    monkeypatch.syspath_prepend(str(folder))
    watcher = Watcher(["pmx_watched:meow"])
    write(folder / "pmx_watched.py", MEOW.replace("meow", "purr"))
    assert [watcher.changed() for _ in range(3)] == [None] * 3
    monkeypatch.delitem(sys.modules, "pmx_watched")


def test_a_model_that_moves_to_another_file_in_one_change(folder: Path) -> None:
    """As a checkout or an editor that saves all does it; whichever file is read first."""
    write(folder / "a.py", ECHO)
    write(folder / "b.py", MEOW)
    watcher = Watcher([str(folder)])
    write(folder / "a.py", MEOW)
    write(folder / "b.py", ECHO)
    functions = look(watcher)
    assert functions is not None
    assert (functions.names, functions.broken) == (("meow", "echo"), {})


@pytest.mark.parametrize("error", ["BaseException", "__import__('asyncio').CancelledError", "GeneratorExit"])
def test_whatever_a_file_raises_the_rest_is_served(folder: Path, error: str) -> None:
    write(folder / "a.py", f"raise {error}")
    write(folder / "b.py", MEOW)
    functions = Watcher([str(folder)]).functions
    assert (functions.names, list(functions.broken)) == (("meow",), [str(folder / "a.py")])
