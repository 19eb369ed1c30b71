"""The documentation holds what the code holds, in both languages, and its examples run."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import click
import msgspec
import pytest

from polymux.app import table
from polymux.cli import COMMANDS, main
from polymux.config import ConfigError, load
from polymux.http.routes import TABLE
from polymux.providers.dialects import DIALECTS
from polymux.providers.fates import PARAMETERS
from polymux.providers.table import rows, sources
from support.gateway import Gateway

ROOT: Final = Path(__file__).resolve().parents[1]
READMES: Final = ("README.md", "README.zh-CN.md")
PAGES: Final = tuple(sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")))
ALL: Final = (*READMES, "CONTRIBUTING.md", "CHANGELOG.md", *PAGES)
LANGUAGES: Final = ("en", "zh")
EXAMPLE_KEY: Final = "sk-pmx-ExampleKeyExampleKeyExampleKey00"
FENCE: Final = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING: Final = re.compile(r"^(#+) (.+)$", re.MULTILINE)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    """The fenced blocks of a page in one language of code."""
    return [textwrap.dedent(text) for _, kind, text in FENCE.findall(read(name)) if kind == language]


def prose(name: str) -> str:
    return FENCE.sub("", read(name))


def anchors(name: str) -> set[str]:
    """The headings of a page as GitHub makes them addresses."""
    titles = [title.lower() for _, title in HEADING.findall(prose(name))]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


def tool() -> ModuleType:
    """tools/docs.py, which is a script."""
    spec = importlib.util.spec_from_file_location("polymux_docs_tool", ROOT / "tools" / "docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---- nothing is left out -----------------------------------------------------------------------------------------


def test_the_generated_parts_are_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    assert tool().main(["--check"]) == 0, capsys.readouterr().err


def test_a_stale_part_is_seen_and_written_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    page = tmp_path / "docs" / "zh" / "http.md"
    fresh = page.read_text("utf-8")
    page.write_text(fresh.replace("invalid_api_key", "invalid_key"), "utf-8")
    docs = tool()
    assert docs.main(["--check"], tmp_path) == 1
    assert capsys.readouterr().err == "docs/zh/http.md is stale: run ./dev docs\n"
    assert docs.main([], tmp_path) == 0
    assert page.read_text("utf-8") == fresh


def test_a_thing_without_words_is_a_fault() -> None:
    docs = tool()
    with pytest.raises(docs.Missing, match="novelty"):
        docs.words("settings", "Server.novelty", "en")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_setting_has_its_row(language: str) -> None:
    text = read(f"docs/{language}/configuration.md")
    docs = tool()
    found = [(path, name) for cls, path in docs.tables(docs.config.Config) for name, hint in docs.settings(cls)]
    assert ("server",) in {path for path, _ in found}
    for path, name in found:
        row, title = f"| `{name}` |", docs.dotted((*path, name))
        assert row in text or f"`{title}`" in text or f"`{title}.NAME`" in text or f"`{title}[]`" in text, title


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_environment_variable_has_its_row(language: str) -> None:
    """Looked for in the sources, so that one that bypasses the tables is seen as well."""
    trees = [ast.parse(read(f"src/polymux/{name}")) for name in ("config/__init__.py", "app.py", "cli/serve.py")]
    strings = [node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    names = {text for text in strings if isinstance(text, str) and re.fullmatch(r"HOST|PORT|[A-Z]+(_[A-Z]+)+", text)}
    assert {"API_KEYS", "POLYMUX_CONFIG", "PORT"} <= names
    text = read(f"docs/{language}/configuration.md")
    assert [name for name in sorted(names) if f"| `{name}` |" not in text] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_command_and_option_is_there(language: str) -> None:
    text = read(f"docs/{language}/cli.md")
    sections = dict(re.findall(r"^## `polymux (\w+)`\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert list(sections) == list(COMMANDS)
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        shown = re.findall(r"^\| `(--[a-z-]+)", sections[name], re.MULTILINE)
        parts = command.commands.values() if isinstance(command, click.Group) else [command]
        options = [option for part in parts for parameter in part.params for option in parameter.opts]
        assert shown == list(dict.fromkeys(option for option in options if option.startswith("--")))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_route_and_preset_has_its_row(language: str) -> None:
    http, providers = read(f"docs/{language}/http.md"), read(f"docs/{language}/providers.md")
    for row in TABLE:
        path = row.path.replace("/*", "/{id}")
        assert f"`{row.method} {'/v1' if row.client else ''}{path}`" in http
    for name, preset in table().items():
        line = next(line for line in providers.splitlines() if line.startswith(f"| `{name}` |"))
        assert all(f"`{variable}`" in line for variable in preset.env)


# ---- both languages ----------------------------------------------------------------------------------------------

PAIRS: Final = (READMES, *((name, name.replace("/en/", "/zh/")) for name in PAGES if "/en/" in name))


def test_every_page_is_in_both_languages() -> None:
    pages = [{Path(name).name for name in PAGES if f"/{language}/" in name} for language in LANGUAGES]
    assert pages[0] == pages[1] != set()


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[0])
def test_both_languages_have_the_same_structure_and_examples(pair: tuple[str, str]) -> None:
    def shape(name: str) -> list[str]:
        return [level for level, _ in HEADING.findall(prose(name))]

    def examples(name: str) -> list[str]:
        found = [(kind, text) for _, kind, text in FENCE.findall(read(name)) if kind != "mermaid"]
        return [kind + re.sub(r" +# .*", "", text) for kind, text in found]

    assert shape(pair[0]) == shape(pair[1])
    assert examples(pair[0]) == examples(pair[1])


# ---- links -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_links_within_the_project_resolve(name: str) -> None:
    broken = []
    for link in LINK.findall(prose(name)):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        place = target.resolve()
        found = place.exists() and place.is_relative_to(ROOT)
        if not found or (anchor and anchor not in anchors(place.relative_to(ROOT).as_posix())):
            broken.append(link)
    assert broken == []


# ---- examples ----------------------------------------------------------------------------------------------------

TOML: Final = [(name, number, text) for name in ALL for number, text in enumerate(blocks(name, "toml"))]


@pytest.mark.parametrize(("name", "text"), [pytest.param(n, t, id=f"{n}-{number}") for n, number, t in TOML])
def test_toml_examples_load(name: str, text: str) -> None:
    if "dialect = " in text:  # a row of the table of providers, and a real one
        assert rows(text, DIALECTS).items() <= table().items()
        return
    presets = table()
    variables = re.findall(r"\$\{(\w+)\}", text) + [variable for row in presets.values() for variable in row.env]
    env = dict.fromkeys(variables, "sk-example")
    config = load(text, env)
    assert len(sources(config, presets, env)) == len(config.providers)
    named = {reference.provider for model in config.models.values() for reference in model.deployments}
    assert named <= {*config.providers, "functions"}


def test_the_readmes_have_a_configuration_with_failover() -> None:
    for name in READMES:
        config = load(blocks(name, "toml")[0], {"OPENAI_API_KEY": "a", "ANTHROPIC_API_KEY": "b"})
        assert [len(route.deployments) for route in config.models.values()] == [2]


FAULTY: Final = """[server]
prot = 8000
workers = 4
[providers.openai]
# the key of the team
api_key = "${NOPE}"

[models.smart]
deployments = [{ provider = "opnai", model = "gpt-4o" }]
strategy = "cost"
"""


@pytest.mark.parametrize("language", LANGUAGES)
def test_faults_are_shown_as_they_are_printed(language: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(FAULTY, {})
    (shown,) = blocks(f"docs/{language}/cli.md", "text")
    assert shown == f"{caught.value}\n{len(caught.value.faults)} faults\n"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_parameter_has_its_row_and_every_dialect_its_column(language: str) -> None:
    lines = [line.strip("| ").split(" | ") for line in read(f"docs/{language}/parameters.md").splitlines()]
    assert [cells[1:] for cells in lines].count(list(DIALECTS)) == 2  # of the request, of messages
    found = {cells[0].strip("`"): cells[1:] for cells in lines if len(cells) > 1 and cells[0].startswith("`")}
    assert set(found) == set(PARAMETERS)
    for name, cells in found.items():
        assert len(cells) == len(DIALECTS), name
        for cell, adapter in zip(cells, DIALECTS.values(), strict=True):
            assert cell.startswith("**") == (adapter.fates[name].what in ("dropped", "refused")), name


def functions_in(name: str) -> list[str]:
    return [text for text in blocks(name, "python") if "@model" in text]


def test_the_function_of_the_readmes_is_served_and_called_by_the_sdk() -> None:
    (meow,) = functions_in("README.md")
    assert functions_in("README.zh-CN.md") == functions_in("docs/en/functions.md")[:1] == [meow]
    (sdk,) = [text for text in blocks("README.md", "python") if "openai" in text]
    with Gateway(None, arguments=("--functions", "meow.py"), files={"meow.py": meow}) as gateway:
        gateway.key = (gateway.data / "first-run.key").read_text("ascii").strip()
        answer = gateway.chat("meow", "hello")
        assert answer.status == 200
        assert answer.json()["choices"][0]["message"]["content"] == "喵"
        script = sdk.replace("http://127.0.0.1:8000", gateway.url).replace("YOUR_KEY", gateway.key)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, check=False)
    assert (done.stdout.decode(), done.returncode) == ("喵", 0), done.stderr.decode()


def test_the_other_functions_load_and_answer() -> None:
    found = functions_in("docs/en/functions.md")
    files = {f"example_{number}.py": text for number, text in enumerate(found)}
    arguments = [word for name in files for word in ("--functions", name)]
    said = {
        "count": "0 1 2 ",
        "who": "first-run key asks with temperature 0.5",
        "weather": None,
        "loud": "0 1 2 ",
        "relay": "0 1 2 ",
        "plain-relay": "0 1 2 ",
        "careful": "done",
    }
    with Gateway(None, arguments=arguments, files=files) as gateway:
        gateway.key = (gateway.data / "first-run.key").read_text("ascii").strip()
        models = {entry["id"] for entry in gateway.get("/v1/models").json()["data"]}
        assert models == {"meow", "picky", "slow", "ticks", *said}
        answers = {name: gateway.chat(name, temperature=0.5).json()["choices"][0] for name in said}
        assert {name: answer["message"]["content"] for name, answer in answers.items()} == said
        assert answers["weather"]["finish_reason"] == "tool_calls"
        assert (gateway.chat("picky").status, gateway.chat("picky", "please").status) == (422, 200)


@pytest.mark.parametrize("name", READMES)
def test_the_first_screen_is_as_printed(name: str) -> None:
    with Gateway(None) as gateway:
        key = (gateway.data / "first-run.key").read_text("ascii").strip()
        gateway.key = key
        assert gateway.chat("meow").status == 200
        gateway.stop()
        printed = gateway.log().partition('{"id"')[0]  # the request's own line follows
    for real, shown in ((gateway.url, "http://127.0.0.1:8000"), (key, EXAMPLE_KEY), ("~/data/", "~/.polymux/")):
        printed = printed.replace(real, shown)
    assert len(EXAMPLE_KEY) == len(key)
    (screen,) = [text for text in blocks(name, "text") if "is running at" in text]
    assert printed.strip() == screen.strip()


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_journal_is_described_field_by_field(language: str, tmp_path: Path) -> None:
    with Gateway(None, data=tmp_path / "data") as gateway:
        gateway.key = (gateway.data / "first-run.key").read_text("ascii").strip()
        gateway.chat("echo")
        gateway.stop()
        (journal,) = (gateway.data / "journal").glob("journal-*.jsonl")
        record: dict[str, Any] = msgspec.json.decode(journal.read_bytes().splitlines()[0])
    cells = [line.split("|")[1] for line in read(f"docs/{language}/http.md").splitlines() if line.startswith("| `")]
    described = {field for cell in cells for field in re.findall(r"`(\w+)`", cell)}
    assert set(record) - described == set()
