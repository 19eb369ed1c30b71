"""`polymux catalog update`: the diff, the question, the file; and what is fetched, and what is not."""

from __future__ import annotations

import copy
import json
import os
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest
import trustme
from click.testing import CliRunner, Result

from polymux.cli import catalog, main
from polymux.providers.catalog import read
from polymux.providers.modelsdev import convert
from polymux.store.catalog import bundled, current, keep

Run = Callable[..., Result]

EXCERPT: Final = json.loads((Path(__file__).parents[1] / "routing" / "prices.json").read_bytes())
BEFORE, AFTER = "2998-01-01", "2999-01-01"


def renewed() -> dict[str, Any]:
    """The excerpt with a change of every kind."""
    found = copy.deepcopy(EXCERPT)
    openai, xai = found["openai"]["models"], found["xai"]["models"]
    openai["gpt-4o"]["cost"] = {"input": 2, "output": 10.0, "cache_write": 2.5}
    openai["gpt-6"] = {"cost": {"input": 3, "output": 12.5, "tiers": [{"tier": {"size": 9}, "input": 6}]}}
    openai["gpt-7"] = {"limit": {"context": 5}}
    openai["gpt-4.1"]["limit"]["context"] += 1
    openai["gpt-5.4"]["cost"]["tiers"][0]["input"] = 4
    del openai["o1"], xai["grok-4.3"]["cost"]
    found["nobody-serves-it"] = {"models": {"m": {"cost": {"input": 1, "output": 1}}}}
    return found


DIFF: Final = """\
openai
  ~ gpt-4o    input 2.5 → 2, cache_read 1.25 → none, cache_write none → 2.5
  ~ gpt-5.4   input above 272000 5 → 4
  + gpt-6     input 3, output 12.5, input above 9 6
  + gpt-7     price unknown
  - o1        input 15, output 60, cache_read 7.5
xai
  ~ grok-4.3  input 1.25, output 2.5, cache_read 0.2, input above 200000 2.5, output above 200000 5, \
cache_read above 200000 0.4 → price unknown
prices: 3 changed, 2 added, 1 removed; 1 more with other limits or abilities
"""


@pytest.fixture
def source(home: Path) -> Path:
    """A new file, and a gateway's data directory that has the excerpt in use."""
    keep(home / ".polymux", convert(json.dumps(EXCERPT).encode(), BEFORE).text)
    (home / "api.json").write_text(json.dumps(renewed()))
    return home / "api.json"


def in_use(home: Path) -> str:
    return current(home / ".polymux").date


def update(*arguments: str, answer: str = "") -> Result:
    result = CliRunner().invoke(main, ["catalog", "update", *arguments], prog_name="polymux", input=answer)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


# ---- the diff and the question -----------------------------------------------------------------------------------


def test_the_diff_is_shown_and_applied_after_a_yes(home: Path, source: Path) -> None:
    result = update("--from", "api.json", "--date", AFTER, answer="y\n")
    path = home / ".polymux" / "catalog.json"
    assert result.exit_code == 0
    question = f"Use the prices of {AFTER} from now on? [y/N]: y"
    told = f"{DIFF}{question}\nwrote {path}; a running gateway takes it on its next start or reload\n"
    assert result.stdout == told
    assert path.stat().st_mode & 0o777 == 0o600
    found = current(home / ".polymux")
    assert found.date == AFTER
    assert "nobody-serves-it" not in found.providers
    model = found.find("openai", "gpt-6")
    assert model is not None
    assert model.price is not None


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_nothing_is_changed_without_a_yes(home: Path, source: Path, answer: str) -> None:
    result = update("--from", "api.json", "--date", AFTER, answer=answer)
    assert result.exit_code == 1
    assert in_use(home) == BEFORE


def test_yes_asks_nothing(home: Path, source: Path) -> None:
    result = update("--from", "~/api.json", "--date", AFTER, "--yes")
    assert (result.exit_code, in_use(home)) == (0, AFTER)
    assert "?" not in result.stdout
    again = update("--from", "api.json", "--date", AFTER)
    assert (again.exit_code, again.stdout) == (0, "prices: 0 changed, 0 added, 0 removed\n")


def test_json_shows_and_does_not_apply(home: Path, source: Path) -> None:
    result = update("--from", "api.json", "--date", AFTER, "--json")
    told = json.loads(result.stdout)
    assert (result.exit_code, in_use(home)) == (0, BEFORE)
    assert (told["before"], told["after"], told["applied"]) == (BEFORE, AFTER, False)
    changes = told["changes"]
    assert [one["model"] for one in changes["added"]] == ["gpt-6", "gpt-7"]
    assert [one["model"] for one in changes["removed"]] == ["o1"]
    assert [one["model"] for one in changes["changed"]] == ["gpt-4o", "gpt-5.4", "grok-4.3"]
    assert changes["changed"][0] == {
        "provider": "openai",
        "model": "gpt-4o",
        "before": {"input": "2.5", "output": "10", "cache_read": "1.25"},
        "after": {"input": "2", "output": "10", "cache_write": "2.5"},
    }
    assert changes["changed"][2]["after"] is None
    assert changes["others"] == 1


def test_json_with_yes_applies(home: Path, source: Path) -> None:
    result = update("--from", "api.json", "--date", AFTER, "--json", "--yes")
    assert json.loads(result.stdout)["applied"] is True
    assert in_use(home) == AFTER


def test_the_date_is_the_files(home: Path, source: Path) -> None:
    os.utime(source, (4_070_908_800, 4_070_908_800))
    assert json.loads(update("--from", "api.json", "--json").stdout)["after"] == "2099-01-01"


def test_the_data_directory_can_be_named(home: Path, source: Path) -> None:
    Path("my.toml").write_text('[server]\ndata_dir = "there"\n')
    assert update("--from", "api.json", "--date", AFTER, "--yes", "--config", "my.toml").exit_code == 0
    assert update("--from", "api.json", "--date", AFTER, "--yes", "--data-dir", "here").exit_code == 0
    assert in_use(home) == BEFORE
    assert current(Path("there")).date == current(Path("here")).date == AFTER


def test_a_broken_catalogue_is_replaced(home: Path, source: Path) -> None:
    (home / ".polymux" / "catalog.json").write_text("{")
    result = update("--from", "api.json", "--date", AFTER, "--yes")
    assert result.exit_code == 0
    assert "catalog.json: catalog: " in result.stderr
    assert in_use(home) == AFTER


# ---- mistakes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ((), 2, "Missing option '--from'"),
        (("--from", "nothing.json"), 1, "nothing.json cannot be read: No such file"),
        (("--from", "."), 1, "cannot be read: Is a directory"),
        (("--from", "other.json", "--date", AFTER), 1, "other.json: this is not models.dev's JSON"),
        (("--from", "api.json", "--date", "soon"), 2, "expected YYYY-MM-DD, not 'soon'"),
        (("--from", "api.json", "--date", "2001-01-01"), 1, "what is bundled with this version is newer"),
        (("--from", "api.json", "--date", AFTER, "--yes", "--data-dir", "api.json"), 1, "cannot write to api.json"),
        (("--from", "api.json", "--config", "nothing.toml"), 1, "nothing.toml"),
        (("--from", "http://127.0.0.1/api.json"), 2, "only https:// URLs are fetched"),
        (("--from", "file:///etc/passwd"), 2, "only https:// URLs are fetched"),
    ],
)
def test_a_mistake_is_told(home: Path, source: Path, arguments: tuple[str, ...], status: int, words: str) -> None:
    Path("other.json").write_text("[]")
    result = update(*arguments)
    assert result.exit_code == status
    assert words in result.stderr
    assert in_use(home) == BEFORE


def test_help_shows_the_command(run: Run) -> None:
    assert "update" in run("catalog", "--help").output
    assert "polymux catalog update --from" in run("catalog", "update", "-h").output


# ---- fetching ----------------------------------------------------------------------------------------------------


@contextmanager
def served(answers: Mapping[str, tuple[int, Mapping[str, str], bytes]]) -> Iterator[tuple[str, trustme.CA, list[str]]]:
    """An https server: its address, its authority, and the user agents that asked."""
    agents: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            agents.append(self.headers["user-agent"])
            status, headers, body = answers[self.path]
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_address[1]}", authority, agents
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def site(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[str]]]:
    """The same with an authority that the system trusts."""
    answers = {
        "/api.json": (200, {}, json.dumps(renewed()).encode()),
        "/moved": (302, {"location": "/api.json"}, b""),
        "/down": (302, {"location": "http://127.0.0.1:9/api.json"}, b""),
        "/file": (302, {"location": "file:///etc/passwd"}, b""),
        "/missing": (404, {}, b"no"),
        "/cut": (200, {"content-length": "1000000"}, b"{"),
        "/html": (200, {}, b"<html>"),
    }
    with served(answers) as (url, authority, agents):
        authority.cert_pem.write_to_path(home / "authority.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(home / "authority.pem"))
        yield url, agents


@pytest.mark.parametrize("path", ["/api.json", "/moved"])
def test_a_url_is_fetched(home: Path, source: Path, site: tuple[str, list[str]], path: str) -> None:
    url, agents = site
    result = update("--from", url + path, "--date", AFTER, "--yes")
    assert (result.exit_code, in_use(home)) == (0, AFTER), result.output
    assert result.stdout.startswith(DIFF)
    assert agents[0].startswith("polymux/")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/down", "redirects to http://127.0.0.1:9/api.json, which is not https"),
        ("/file", "Redirection to url 'file:///etc/passwd' is not allowed"),
        ("/missing", "404"),
        ("/cut", "not models.dev's JSON"),
        ("/html", "not models.dev's JSON"),
    ],
)
def test_what_is_not_fetched(home: Path, source: Path, site: tuple[str, list[str]], path: str, words: str) -> None:
    result = update("--from", site[0] + path, "--date", AFTER, "--yes")
    assert (result.exit_code, in_use(home)) == (1, BEFORE)
    assert words in result.stderr


@pytest.mark.parametrize(("bound", "words"), [("LARGEST", "more than 0 MiB"), ("PATIENCE", "within -1 seconds")])
def test_it_is_bounded(
    source: Path, site: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch, bound: str, words: str
) -> None:
    monkeypatch.setattr(catalog, bound, {"LARGEST": 100, "PATIENCE": -1}[bound])
    result = update("--from", f"{site[0]}/api.json", "--yes")
    assert result.exit_code == 1
    assert words in result.stderr


def test_a_stranger_is_not_trusted(source: Path) -> None:
    with served({}) as (url, _, agents):
        result = update("--from", f"{url}/api.json", "--yes")
    assert result.exit_code == 1
    assert "CERTIFICATE_VERIFY_FAILED" in result.stderr
    assert agents == []


def test_the_excerpt_is_of_providers_that_are_bundled() -> None:
    assert set(read(convert(json.dumps(EXCERPT).encode(), AFTER).text).providers) <= set(bundled().providers)
