"""`polymux keys`: without a gateway, for people and for scripts. Beside one it is tested end to end."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from polymux.cli.keys import command
from polymux.store.database import Database
from polymux.store.keys import KeyStore
from polymux.store.live import LiveKeys
from polymux.store.memory import StaticKeys
from support import terminal

Run = Callable[..., Result]

SHOWN = """\
id             KEY
name           ada
prefix         sk-pmx-....
tenant         team a
models         gpt-*, meow
rpm            60
tpm            no limit
concurrency    2
budget_usd     12.50
budget_period  month
expires_at     2099-12-31 00:00 UTC
enabled        yes
log            no
origin         database
created_at     NOW
updated_at     NOW
old_until      -
"""
LISTED = """\
id	name	key	tenant	models	limits	budget	state
static-1	key 1	-	default	all	100 rpm	-	in the configuration
KEY	ada	sk-pmx-....	team a	gpt-*, meow	60 rpm, 2 at once	12.50 USD/month	on, expires 2099-12-31 00:00 UTC
KEY	bob	sk-pmx-....	default	all	-	-	disabled
"""


def plain(text: str) -> str:
    """Without what differs from run to run."""
    text = re.sub(r"key_[0-9a-f]{12}", "KEY", text)
    text = re.sub(r"sk-pmx-[A-Za-z0-9]{4}(\.\.\.)?(?![A-Za-z0-9])", "sk-pmx-....", text)
    return re.sub(r"20[2-8]\d-\d\d-\d\d \d\d:\d\d UTC", "NOW", text)


def good(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def told(result: Result) -> Any:
    return json.loads(good(result))


def find(secret: str) -> Any:
    """What a gateway would find."""
    database = Database("sqlite", Path("~/.polymux").expanduser())
    try:
        return LiveKeys(KeyStore(database), StaticKeys([])).find(secret)
    finally:
        database.close()


def create(run: Run, name: str = "ada", *more: str) -> str:
    return good(run("keys", "create", "--name", name, *more)).strip()


FULL = (
    *("--models", "gpt-*, meow", "--rpm", "60", "--concurrency", "2", "--budget", "12.50", "--budget-period", "month"),
    *("--tenant", "team a", "--expires", "2099-12-31"),
)


def test_the_secret_alone_is_on_stdout(run: Run) -> None:
    result = run("keys", "create", "--name", "ada")
    assert re.fullmatch(r"sk-pmx-[A-Za-z0-9]{32}\n", result.stdout)
    assert result.stdout.strip() not in result.stderr
    hint = 'Try it: curl http://127.0.0.1:8000/v1/models -H "Authorization: Bearer sk-pmx-...."'
    assert plain(result.stderr) == f"KEY 'ada' is made. This is its key; it is not shown again.\n{hint}\n"
    key = find(result.stdout.strip())
    assert (key.name, key.rpm, key.models) == ("ada", 100, ())


def test_show(run: Run) -> None:
    create(run, "ada", *FULL)
    shown = good(run("keys", "show", "ada"))
    assert plain(shown) == SHOWN
    assert good(run("keys", "show", re.search("key_[0-9a-f]+", shown)[0])) == shown  # type: ignore[index]  # it is there


def test_list(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEYS", "sk-static")
    create(run, "ada", *FULL)
    create(run, "bob", "--rpm", "0")
    run("keys", "update", "bob", "--disable")
    assert plain(good(run("keys", "list"))) == LISTED
    listed = told(run("keys", "list", "--json"))
    assert [key["name"] for key in listed] == ["key 1", "ada", "bob"]
    assert "sk-static" not in str(listed)


def test_the_key_of_the_first_run_is_listed_and_not_made_by_listing(run: Run, home: Path) -> None:
    assert told(run("keys", "list", "--json")) == []
    assert not (home / ".polymux" / "first-run.key").exists()
    (home / ".polymux" / "first-run.key").write_text("sk-pmx-first")
    (key,) = told(run("keys", "list", "--json"))
    assert (key["name"], key["origin"]) == ("first-run key", "first-run")


def test_json_has_the_secret_when_it_is_made_and_never_again(run: Run) -> None:
    made = told(run("keys", "create", "--name", "ada", "--json"))
    new = told(run("keys", "rotate", "ada", "--json"))
    assert find(made["key"]).id == find(new["key"]).id == made["id"]
    for arguments in (("show", "ada"), ("update", "ada", "--rpm", "3"), ("revoke", "ada", "--yes")):
        key = told(run("keys", *arguments, "--json"))
        assert key["id"] == made["id"]
        assert "key" not in key


def test_update_changes_what_is_given(run: Run) -> None:
    create(run, "ada", *FULL)
    before = told(run("keys", "show", "ada", "--json"))
    key = told(run("keys", "update", "ada", "--models", "", "--expires", "never", "--budget", "", "--log", "--json"))
    changed = {"models": [], "expires_at": None, "budget_usd": None, "log": True, "updated_at": key["updated_at"]}
    assert key == before | changed
    assert "name           eda" in good(run("keys", "update", "ada", "--name", "eda"))


def test_revoke_asks(run: Run) -> None:
    secret = create(run)
    refused = run("keys", "revoke", "ada")  # nobody answers
    assert refused.exit_code == 1
    assert plain(refused.stderr).startswith("Revoke KEY 'ada' (sk-pmx-....)? [y/N]:")
    assert find(secret) is not None
    done = run("keys", "revoke", "ada", "--yes")
    assert (done.exit_code, done.stdout, plain(done.stderr)) == (0, "", "KEY 'ada' is revoked\n")
    assert find(secret) is None


def test_rotate_tells_how_long_the_old_key_is_good(run: Run) -> None:
    old = create(run)
    result = run("keys", "rotate", "ada")
    new = good(result).strip()
    assert "KEY 'ada' has a new key; it is not shown again. The old one is good until NOW." in plain(result.stderr)
    assert find(old) == find(new) is not None
    result = run("keys", "rotate", "ada", "--overlap", "0")
    assert "The old one is good no longer." in result.stderr
    assert find(new) is None
    assert find(good(result).strip()) is not None


MISTAKES = [
    (("create",), 2, "Missing option '--name'"),
    (("create", "--name", "x", "--rpm", "many"), 2, "'--rpm': 'many' is not a valid integer"),
    (("create", "--name", "x", "--rpm", "-1"), 2, "--rpm: expected requests per minute"),
    (("create", "--name", "x", "--expires", "soon"), 2, '--expires: expected a moment to come: "30d"'),
    (("create", "--name", "x", "--budget", "5 EUR"), 2, '--budget: expected US dollars in a string such as "12.50"'),
    (("create", "--name", "x", "--budget-period", "week"), 2, '--budget-period: expected "day", "month" or "total"'),
    (("create", "--name", ""), 2, "--name: expected a name of 1 to 100 characters"),
    (("create", "--name", "ada"), 1, "there is a key with the name 'ada' already"),
    (("show", "nobody"), 1, "there is no key with the id or name 'nobody'"),
    (("update", "ada"), 2, "nothing to change was given"),
    (("update", "key 1", "--rpm", "5"), 1, "the key 'key 1' stands in the configuration"),
    (("revoke", "static-1", "--yes"), 1, "the key 'key 1' stands in the configuration"),
    (("rotate", "ada", "--overlap", "long"), 2, '--overlap: expected a duration such as "24h"'),
]


@pytest.mark.parametrize(("arguments", "status", "words"), MISTAKES)
def test_mistakes_are_told(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], status: int, words: str
) -> None:
    monkeypatch.setenv("API_KEYS", "sk-static")
    create(run)
    result = run("keys", *arguments)
    assert (result.exit_code, result.stdout) == (status, "")
    assert words in result.stderr


def test_the_place_is_that_of_the_gateway(run: Run, home: Path) -> None:
    (home / "my.toml").write_text(
        '[server]\ndata_dir = "~/there"\nport = 9000\ntls_cert = "c"\ntls_key = "k"\n[limits]\nrpm = 7\n'
    )
    result = run("keys", "create", "--name", "ada", "--config", "my.toml")
    assert "https://127.0.0.1:9000/v1/models" in result.stderr
    assert told(run("keys", "show", "ada", "--data-dir", str(home / "there"), "--json"))["rpm"] == 7
    assert run("keys", "show", "ada").exit_code == 1
    assert "polymux.db" in {path.name for path in (home / "there").iterdir()}


def test_a_configuration_that_lacks_a_providers_key_does_no_harm(run: Run, home: Path) -> None:
    (home / "polymux.toml").write_text('[providers.openai]\napi_key = "${NOT_SET_HERE}"\n')
    create(run)
    (home / "polymux.toml").write_text("[server]\nprot = 5\n")
    result = run("keys", "list")
    assert result.exit_code == 1
    assert "polymux.toml:2: server.prot: unknown key" in result.stderr


def test_a_bad_database_is_told(run: Run, home: Path) -> None:
    (home / ".polymux").mkdir()
    (home / ".polymux" / "polymux.db").write_bytes(b"nonsense " * 100)
    result = run("keys", "list")
    assert result.exit_code == 1
    assert "polymux.db is damaged, or is no database" in result.stderr


def test_a_terminal_gets_a_table(home: Path) -> None:
    assert terminal.run(home, "keys", "create", "--name", "[red]ada", "--models", "gpt-*").returncode == 0
    with terminal.Terminal(home, "keys", "list", COLUMNS="200") as screen:
        assert screen.status() == 0
        text = terminal.plain(screen.shown)
    lines = [re.sub(" +", " ", line).strip() for line in text.splitlines()]
    assert "id name key tenant models limits budget state" in lines
    assert "KEY [red]ada sk-pmx-.... default gpt-* 100 rpm - on" in map(plain, lines)
    assert "\t" not in text


def test_help_is_quick() -> None:
    """What only some commands need is not imported to tell of them."""
    code = """
import sys
from polymux.cli import main
main(["keys", "--help"], standalone_mode=False)
main(["--help"], standalone_mode=False)
print(sorted({"sqlalchemy", "alembic", "rich"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_command_has_an_example(run: Run) -> None:
    for name in command.commands:  # type: ignore[attr-defined]  # a group
        assert "Example" in good(run("keys", name, "--help"))
