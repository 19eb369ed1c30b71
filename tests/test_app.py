"""The composition root: where configuration comes from, what wins, and what is told when it cannot be used."""

from __future__ import annotations

import os
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from polymux.app import (
    Crew,
    build,
    counters,
    environment,
    find_config,
    first_run_key,
    prepare,
    refreshed,
    table,
)
from polymux.config import ConfigError
from polymux.functions import Watcher
from polymux.store.shared import shared_file
from polymux.types import Key

KEY = Key("k", "k")
CORP = (
    '[providers.corp]\npreset = "openai-compatible"\nbase_url = "http://127.0.0.1:9"\napi_key = "k"\nmodels = ["m"]\n'
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home and working directory, and an environment without any setting."""
    for name in list(os.environ):
        if name not in ("PATH", "LANG", "PYTHONPATH"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(work)
    return tmp_path / "home"


def faults(*arguments: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        prepare(*arguments)
    return [str(fault) for fault in caught.value.faults]


def names(named: str | None = None, functions: tuple[str, ...] = ()) -> set[str]:
    return {name for name, _ in prepare(named, functions).registry.names(KEY)}


# ---- where it comes from ---------------------------------------------------------------------------------------


def test_the_first_usual_place_that_exists_is_read(home: Path) -> None:
    usual = home / ".config" / "polymux" / "polymux.toml"
    assert find_config(None, {}) is None
    usual.parent.mkdir(parents=True)
    usual.write_text("")
    assert find_config(None, {}) == usual
    Path("polymux.toml").write_text("")
    assert find_config(None, {}) == Path("polymux.toml")
    assert find_config(None, {"POLYMUX_CONFIG": "~/x.toml"}) == home / "x.toml"
    assert find_config("y.toml", {"POLYMUX_CONFIG": "~/x.toml"}) == Path("y.toml")
    assert find_config("~/y.toml", {}) == home / "y.toml"


def test_a_named_file_that_is_not_there_is_a_fault(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("polymux.toml").write_text(CORP)  # not taken in its stead
    (fault,) = faults("nothing.toml")
    assert "nothing.toml" in fault
    assert "cannot be read: No such file" in fault
    monkeypatch.setenv("POLYMUX_CONFIG", "gone.toml")
    assert "gone.toml" in faults()[0]


def test_a_file_that_is_no_text_is_a_fault(home: Path) -> None:
    Path("polymux.toml").write_bytes(b"\xff\xfe\x00")
    assert "it is not UTF-8 text" in faults()[0]
    Path("folder.toml").mkdir()
    assert "cannot be read: Is a directory" in faults("folder.toml")[0]


def test_the_environment_wins_over_dotenv(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("A=file\nB=file\nC=\n")
    monkeypatch.setenv("A", "environment")
    monkeypatch.setenv("C", "environment")
    found, path = environment(Path.cwd())
    assert (found["A"], found["B"], found["C"]) == ("environment", "file", "environment")
    assert path == str(Path.cwd() / ".env")
    assert "B" not in os.environ


def test_no_dotenv(home: Path) -> None:
    assert environment(Path.cwd())[1] == ""


@pytest.mark.parametrize("content", [b"A='open\n", b"\xff\xfe\n"])
def test_a_dotenv_that_cannot_be_read_is_a_fault(home: Path, content: bytes) -> None:
    Path(".env").write_bytes(content)
    (fault,) = faults()
    assert ".env" in fault


def test_dotenv_may_name_the_file_and_hold_its_secrets(home: Path) -> None:
    Path(".env").write_text("POLYMUX_CONFIG=my.toml\nCORP_KEY=from-dotenv\n")
    Path("my.toml").write_text(CORP.replace('"k"', '"${CORP_KEY}"'))
    setup = prepare()
    assert setup.config.file == "my.toml"
    assert setup.sources[0].templates[0].headers[0] == ("authorization", "Bearer from-dotenv")


# ---- providers -------------------------------------------------------------------------------------------------


def test_without_a_file_providers_are_on_when_their_key_is_set(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert prepare().sources == ()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    monkeypatch.setenv("CLAUDE_API_KEY", "sk-y")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9")
    found = {source.name: source.templates[0] for source in prepare().sources}
    assert set(found) == {"openai", "anthropic"}
    assert found["openai"].base_url == "http://127.0.0.1:9/v1"
    assert ("x-api-key", "sk-y") in found["anthropic"].headers


def test_with_a_file_only_its_providers_exist(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-y")
    Path("polymux.toml").write_text("[providers.anthropic]\n")
    (source,) = prepare().sources
    assert source.name == "anthropic"
    assert ("x-api-key", "sk-y") in source.templates[0].headers


@pytest.mark.parametrize(("preset", "variable"), [("openai", "OPENAI_API_KEY"), ("anthropic", "ANTHROPIC_API_KEY")])
def test_a_missing_key_names_the_variable(home: Path, preset: str, variable: str) -> None:
    Path("polymux.toml").write_text(f"# a comment\n[providers.{preset}]\n")
    (fault,) = faults()
    assert fault.startswith("polymux.toml:2")
    assert f"providers.{preset}.api_key" in fault
    assert variable in fault


def test_all_faults_are_told_at_once(home: Path) -> None:
    Path("polymux.toml").write_text(
        '[providers.openai]\n[providers.x]\npreset = "opnai"\n'
        '[providers.corp]\npreset = "openai-compatible"\nbase_url = "http://x.example"\nca_file = "no.pem"\n'
        '[models.f]\ndeployments = [{ provider = "functions", model = "nothing" }]\n'
    )
    told = "\n".join(faults("polymux.toml", ("missing.py",)))
    for words in ("OPENAI_API_KEY", "did you mean 'openai'", "no.pem", "missing.py: no such file"):
        assert words in told
    assert "no function" not in told, "that only follows from the file that is missing"
    assert any("no function 'nothing'" in fault for fault in faults("polymux.toml"))


@pytest.mark.parametrize("field", ["ca_file", "client_cert"])
def test_files_of_providers_must_be_readable(home: Path, field: str) -> None:
    more = 'client_key = "key.pem"\n' if field == "client_cert" else ""
    Path("key.pem").write_text("")
    Path("polymux.toml").write_text(CORP + f'{field} = "absent.pem"\n' + more)
    assert any("absent.pem" in fault and f"providers.corp.{field}" in fault for fault in faults())
    Path("absent.pem").mkdir()
    assert any("absent.pem" in fault for fault in faults()), "a folder is no certificate"


def test_a_file_in_the_home_directory_is_found_by_whoever_opens_it(home: Path) -> None:
    (home / "ca.pem").write_text("")
    Path("polymux.toml").write_text(CORP + 'ca_file = "~/ca.pem"\n')
    assert prepare().sources[0].templates[0].link.ca_file == str(home / "ca.pem")


def test_every_row_of_the_table_is_good() -> None:
    assert {"openai", "anthropic", "openai-compatible", "anthropic-compatible"} <= set(table())


# ---- functions -------------------------------------------------------------------------------------------------

MEOW = "from polymux import model\n\n@model('purr')\ndef purr(messages):\n    return 'purr'\n"


def test_without_a_file_the_demo_is_served(home: Path) -> None:
    assert names() == {"echo", "meow"}


def test_with_a_file_the_demo_is_not(home: Path) -> None:
    Path("polymux.toml").write_text(CORP)
    assert names() == {"m"}


def test_named_functions_take_the_demos_place(home: Path) -> None:
    Path("cats.py").write_text(MEOW)
    Path("cats.py").chmod(0o644)
    assert names(None, ("cats.py",)) == {"purr"}


def test_functions_of_the_file_and_of_the_command_line_add_up(home: Path) -> None:
    folder = Path("functions")
    folder.mkdir(mode=0o755)
    for path, name in ((Path("cats.py"), "purr"), (folder / "dogs.py", "woof")):
        path.write_text(MEOW.replace("purr", name))
        path.chmod(0o644)
    folder.chmod(0o755)
    Path("polymux.toml").write_text('functions = ["polymux.demo:echo"]\n[server]\nfunctions_dir = "functions"\n')
    assert names(None, ("cats.py",)) == {"echo", "purr", "woof"}


def test_a_broken_file_of_a_folder_is_a_fault_for_the_strict(home: Path) -> None:
    folder = Path("functions")
    folder.mkdir(mode=0o755)
    for name, text in (("cats.py", MEOW), ("dogs.py", "import nothing_like_it\n")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o644)
    Path("polymux.toml").write_text('[server]\nfunctions_dir = "functions"\n')
    assert "nothing_like_it" in "".join(faults())
    setup = prepare(strict=False)
    assert setup.functions.names == ("purr",)
    assert "nothing_like_it" in "".join(setup.functions.broken.values())


def test_functions_that_have_changed_make_new_names(home: Path) -> None:
    Path("cats.py").write_text(MEOW)
    Path("cats.py").chmod(0o644)
    route = '[models.cat]\ndeployments = [{ provider = "functions", model = "purr" }]\n'
    Path("polymux.toml").write_text(CORP + route)
    setup = prepare(None, ("cats.py",))
    other = Watcher(["polymux.demo"]).functions
    with pytest.raises(ConfigError, match=r"models.cat.deployments: there is no function 'purr'"):
        refreshed(setup, other)
    Path("more.py").write_text(MEOW + MEOW.replace("purr", "hiss"))
    Path("more.py").chmod(0o644)
    fresh = refreshed(setup, Watcher(["more.py"]).functions)
    assert {name for name, _ in fresh.registry.names(KEY)} == {"m", "cat", "purr", "hiss"}
    assert fresh.functions.names == ("purr", "hiss")


# ---- building --------------------------------------------------------------------------------------------------


def test_the_first_run_key_is_made_once_and_kept(home: Path) -> None:
    data = home / "data"
    key, fresh = first_run_key(data)
    assert fresh
    assert re.fullmatch(r"sk-pmx-[A-Za-z0-9]{32}", key)
    file = data / "first-run.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert first_run_key(data) == (key, False)
    file.write_text("")
    other, fresh = first_run_key(data)
    assert fresh
    assert other != key


def test_a_key_file_that_others_could_read_is_closed_when_it_is_written(home: Path) -> None:
    file = home / "first-run.key"
    file.write_text("")
    file.chmod(0o644)
    first_run_key(home)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_of_several_workers_one_makes_the_key_and_the_others_find_it(home: Path) -> None:
    data = home / "data"
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: first_run_key(data), range(8)))
    assert len({key for key, _ in found}) == 1
    assert sum(fresh for _, fresh in found) == 1
    assert [path.name for path in data.iterdir()] == ["first-run.key"]


def test_two_keys_are_not_the_same(tmp_path: Path) -> None:
    assert first_run_key(tmp_path / "a")[0] != first_run_key(tmp_path / "b")[0]


def test_authentication_is_never_off(home: Path) -> None:
    front = build(prepare(), home / "data")
    front.engine._ledger.close()
    front.database.close()
    secret = first_run_key(home / "data")[0]
    found = front.settings.keys.find(secret)
    assert found is not None
    assert (found.id, found.origin) == ("first-run", "first-run")
    assert front.settings.keys.find("") is None


def test_configured_keys_take_the_first_runs_place(home: Path) -> None:
    Path("polymux.toml").write_text('[auth]\nkeys = ["sk-a", "sk-b"]\n[limits]\nrpm = 7\n')
    front = build(prepare(), home / "data")
    front.engine._ledger.close()
    front.database.close()
    found = [front.settings.keys.find(secret) for secret in ("sk-a", "sk-b")]
    assert [(key.id, key.rpm, key.origin) for key in found if key] == [
        ("static-1", 7, "static"),
        ("static-2", 7, "static"),
    ]
    assert not (home / "data" / "first-run.key").exists()


def test_what_the_server_section_says_reaches_the_front(home: Path) -> None:
    Path("polymux.toml").write_text('[server]\ncors_origins = ["https://a.example"]\nmax_body = "1MiB"\n')
    front = build(prepare(), home / "data")
    front.engine._ledger.close()
    front.database.close()
    assert (front.settings.origins, front.max_body, front.settings.scheme) == (("https://a.example",), 1 << 20, "http")


def test_the_command_line_has_the_last_word(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYMUX_DATA_DIR", "elsewhere")
    Path("polymux.toml").write_text("[server]\nport = 1\nworkers = 2\n")
    server = prepare(None, (), {"workers": 4, "data_dir": "~/mine", "unix_socket": "~/x.sock"}).config.server
    assert (server.port, server.workers) == (1, 4)
    assert (server.data_dir, server.unix_socket) == (str(home / "mine"), str(home / "x.sock"))


def test_certificates_that_cannot_serve_are_a_fault(home: Path) -> None:
    Path("cert.pem").write_text("not a certificate")
    Path("polymux.toml").write_text('[server]\ntls_cert = "cert.pem"\ntls_key = "cert.pem"\n')
    (fault,) = faults()
    assert fault.startswith("polymux.toml: server.tls_cert: cert.pem and cert.pem cannot serve TLS: ")


def test_workers_count_together(home: Path) -> None:
    crew = Crew(0, home, shared_file())
    assert [counters(crew).admit("rpm:a", 2).remaining for _ in range(2)] == [1, 0]
    assert [counters(None).admit("rpm:a", 2).remaining for _ in range(2)] == [1, 1]


def test_a_routes_timeouts_hold_for_its_deployments(home: Path) -> None:
    route = '[models.smart]\ndeployments = [{ provider = "corp", model = "m" }]\ntimeouts = { first_token = "7s" }\n'
    Path("polymux.toml").write_text(CORP + route)
    (found,) = prepare().registry.find("smart", KEY)
    assert found.deployments[0].timeouts.first_token == 7.0


def test_the_faults_of_all_floors_are_told_at_once(home: Path) -> None:
    """One of the grammar, one of the table of providers; what only follows from a fault is left out."""
    Path("polymux.toml").write_text(
        "[server]\nprot = 1\n"
        "[providers.a]\npreset = 'openia'\n"
        "[providers.b]\npreset = 'openai-compatible'\nbase_url = 'b'\n"
    )
    with pytest.raises(ConfigError) as caught:
        prepare()
    assert [(fault.line, fault.field) for fault in caught.value.faults] == [
        (2, "server.prot"),
        (3, "providers.a.preset"),
        (7, "providers.b.base_url"),
    ]
