"""Which catalogue is in use, and keeping a new one."""

from __future__ import annotations

from pathlib import Path

import pytest

from polymux.providers.catalog import Model, write
from polymux.store.catalog import bundled, current, keep


def text(date: str) -> bytes:
    return write("test", date, "0", {"p": {"m": Model(context=9)}})


def test_the_package_has_one() -> None:
    assert bundled().find("openai", "gpt-4o") is not None


def test_without_a_file_the_bundled_one_is_used(tmp_path: Path) -> None:
    assert current(tmp_path / "nothing").sha256 == bundled().sha256


@pytest.mark.parametrize(("date", "own"), [("1999-01-01", False), ("2999-01-01", True)])
def test_the_file_is_used_unless_it_is_older(tmp_path: Path, date: str, own: bool) -> None:
    keep(tmp_path, text(date))
    assert (current(tmp_path).find("p", "m") is not None) == own


@pytest.mark.parametrize("broken", [b"", b"{", b"[1]", text("2999-01-01")[:-20]])
def test_a_broken_file_is_named(tmp_path: Path, broken: bytes) -> None:
    path = keep(tmp_path, broken)
    with pytest.raises(ValueError, match=r"catalog\.json: catalog: ") as caught:
        current(tmp_path)
    assert str(caught.value).startswith(f"{path}: ")


def test_it_is_kept_whole_and_for_its_owner_only(tmp_path: Path) -> None:
    path = keep(tmp_path / "new", text("2999-01-01"))
    assert keep(tmp_path / "new", text("2999-01-02")) == path
    assert path.read_bytes() == text("2999-01-02")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [one.name for one in path.parent.iterdir()] == ["catalog.json"]


def test_what_cannot_be_kept_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "catalog.json").mkdir()
    (tmp_path / "catalog.json" / "in the way").touch()
    with pytest.raises(OSError, match="directory"):
        keep(tmp_path, b"new")
    assert [one.name for one in tmp_path.iterdir()] == ["catalog.json"]
