"""What the gateway says when it is up."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trustme

from polymux.app import first_run_key, prepare
from polymux.cli.banner import banner

DISCOVERED = '[providers.openai]\napi_key = "sk-provider"\n'


def show(config: str | None = None, *, host: str = "127.0.0.1", data: Path | None = None, fresh: bool = False) -> str:
    if config is not None:
        Path("polymux.toml").write_text(config)
    return banner(prepare(), (host, 8000), data or Path.home() / "data", fresh=fresh)


def test_the_key_is_shown_in_full_once(home: Path) -> None:
    key, _ = first_run_key(home / "data")
    text = show(fresh=True)
    assert text.count(key) == 2  # in its line, and in the command
    assert "~/data/first-run.key" in text


def test_later_the_key_is_read_from_its_file(home: Path) -> None:
    key, _ = first_run_key(home / "data")
    text = show()
    assert key not in text
    assert text.count("$(cat ~/data/first-run.key)") == 2


def test_a_data_directory_elsewhere_is_named_whole(home: Path) -> None:
    assert "$(cat /srv/data/first-run.key)" in show(data=Path("/srv/data"))


def test_a_data_directory_with_a_blank_makes_a_command_that_works(home: Path) -> None:
    assert re.search(r"\$\(cat (['\"]).*my data.*\1\)|my\\ data", show(data=Path("/srv/my data")))


@pytest.mark.parametrize(("keys", "said"), [('["sk-a"]', "from the configuration"), ('["a1", "b1"]', "2 from the")])
def test_configured_keys_are_never_shown(home: Path, keys: str, said: str) -> None:
    text = show(f"[auth]\nkeys = {keys}\n" + DISCOVERED)
    assert said in text
    for secret in ("sk-a", "a1", "b1", "sk-provider"):
        assert secret not in text


@pytest.mark.parametrize(
    ("host", "url", "warned"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000/v1", False),
        ("localhost", "http://localhost:8000/v1", False),
        ("::1", "http://[::1]:8000/v1", False),
        ("0.0.0.0", "http://127.0.0.1:8000/v1", True),
        ("::", "http://127.0.0.1:8000/v1", True),
        ("192.168.1.5", "http://192.168.1.5:8000/v1", True),
    ],
)
def test_the_address_can_be_used_and_the_open_one_is_warned_about(
    home: Path, host: str, url: str, warned: bool
) -> None:
    text = show(host=host)
    assert f"running at {url} " in text
    assert f"curl {url}/chat/completions" in text
    assert ("without TLS" in text) is warned


def test_tls_changes_the_scheme_and_ends_the_warning(home: Path) -> None:
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path("cert.pem")
    text = show('[server]\ntls_cert = "cert.pem"\ntls_key = "cert.pem"\n', host="0.0.0.0")
    assert "https://127.0.0.1:8000/v1" in text
    assert "without TLS" not in text


def test_a_unix_socket_is_named_with_the_way_to_it(home: Path) -> None:
    Path("polymux.toml").write_text('[server]\nunix_socket = "/run/my gateway.sock"\n')
    setup = prepare(None, ("polymux.demo",))
    text = banner(setup, setup.config.server.unix_socket, home / "data", fresh=False)
    assert "running at http://localhost/v1 on the Unix socket /run/my gateway.sock " in text
    assert "curl --unix-socket '/run/my gateway.sock' http://localhost/v1/chat/completions" in text
    assert "without TLS" not in text


def test_several_workers_are_told(home: Path) -> None:
    assert "  workers 3\n" in show("[server]\nworkers = 3\n")
    assert "workers" not in show("")


def test_unverified_certificates_are_warned_about(home: Path) -> None:
    text = show(DISCOVERED + "verify = false\n")
    assert "TLS certificates of openai are NOT verified" in text


def test_the_demo_is_tried_by_its_name(home: Path) -> None:
    text = show()
    assert "models  echo, meow" in text
    assert '"model": "meow"' in text
    assert "none; the environment alone" in text


def test_many_models_are_cut_short(home: Path) -> None:
    listed = ", ".join(f'"m{n}"' for n in range(20))
    text = show(DISCOVERED + f"models = [{listed}]\n")
    assert "m7 and 12 more" in text
    assert "m8" not in text


def test_providers_that_list_their_models_are_named(home: Path) -> None:
    text = show(DISCOVERED)
    assert "what openai lists (GET /v1/models)" in text
    assert "curl" not in text  # no name is known yet


def test_nothing_to_serve_says_what_to_do(home: Path) -> None:
    assert "none: name a provider" in show("")


def test_the_files_that_were_read_are_named(home: Path) -> None:
    Path(".env").write_text("X=1\n")
    text = show(DISCOVERED)
    assert f"polymux.toml, environment from {home / '.env'}" in text
