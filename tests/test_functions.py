"""Function models: every form a function may take, what it is told, how it fails, and how files of them are loaded."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from polymux import model
from polymux.errors import Failure
from polymux.functions import FunctionCall, Functions, LoadError, load
from polymux.schema.chat import ChatRequest, Chunk
from polymux.surfaces.chat import Chat
from polymux.types import Call, Key

BODY = '{"model":"f","messages":[{"role":"user","content":"Hi 嗯"}],"temperature":0.5,"user":"u1","custom":7}'.encode()
KEY = Key("static-1", "ada")


def request_of(body: bytes = BODY) -> tuple[Call, ChatRequest]:
    call = Chat().decode(body, "req_1", KEY)
    return call, Chat().request(call)


async def collect(functions: Functions, name: str = "f") -> list[Chunk]:
    call, request = request_of()
    return [chunk async for chunk in functions.run(name, call, request, 1000)]


def run(function: Callable[..., Any]) -> list[Chunk]:
    functions = Functions({"f": function})
    try:
        return asyncio.run(collect(functions))
    finally:
        functions.close()


def texts(chunks: list[Chunk]) -> list[str | None]:
    return [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.finish_reason is None]


# ---- forms -----------------------------------------------------------------------------------------------------


def plain(messages: Any) -> str:
    return "one"


async def coroutine(messages: Any) -> str:
    await asyncio.sleep(0)
    return "one"


def generator(messages: Any) -> Iterator[str]:
    yield "one"
    yield "two"


async def async_generator(messages: Any) -> AsyncIterator[str]:
    yield "one"
    await asyncio.sleep(0)
    yield "two"


def returns_a_generator(messages: Any) -> Iterator[str]:
    return generator(messages)


def empty(messages: Any) -> Iterator[str]:
    yield from ()


class Instance:
    def __call__(self, messages: Any) -> str:
        return "one"


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (plain, ["one"]),
        (coroutine, ["one"]),
        (generator, ["one", "two"]),
        (async_generator, ["one", "two"]),
        (returns_a_generator, ["one", "two"]),
        (lambda messages: "", [""]),
        (lambda messages: "嗯\x00", ["嗯\x00"]),
        (empty, []),
        (Instance(), ["one"]),
    ],
)
def test_every_form_of_function_answers(function: Callable[..., Any], said: list[str]) -> None:
    chunks = run(function)
    assert texts(chunks) == said
    roles = [choice.delta.role for chunk in chunks for choice in chunk.choices]
    assert [role for role in roles if role] == ["assistant"]
    assert roles[0] == "assistant"
    assert [choice.finish_reason for choice in chunks[-2].choices] == ["stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert {(chunk.id, chunk.created, chunk.model) for chunk in chunks} == {("chatcmpl-req_1", 1000, "f")}


def test_usage_is_estimated_at_four_bytes_a_token() -> None:
    usage = run(lambda messages: "嗯" * 3)[-1].usage  # nine bytes
    assert usage is not None
    assert usage.completion_tokens == 3
    assert usage.prompt_tokens > 0
    assert usage.total_tokens == usage.prompt_tokens + 3


# ---- what it is told -------------------------------------------------------------------------------------------


def test_messages_are_dicts_in_openais_form() -> None:
    told: list[Any] = []

    def remember(messages: Any) -> str:
        told.extend(messages)
        return "x"

    run(remember)
    assert told == [{"role": "user", "content": "Hi 嗯"}]


def test_a_second_parameter_gets_the_call() -> None:
    told: list[FunctionCall] = []

    def remember(messages: Any, call: FunctionCall) -> str:
        told.append(call)
        return "x"

    run(remember)
    call = told[0]
    assert call.key == "ada"
    assert call.params["temperature"] == 0.5
    assert "messages" not in call.params


def test_the_user_of_the_request_is_told() -> None:
    told: list[FunctionCall] = []

    def remember(messages: Any, call: FunctionCall) -> str:
        told.append(call)
        return "x"

    run(remember)
    assert told[0].user == "u1"


def test_a_keyword_only_parameter_is_not_the_call() -> None:
    def shout(messages: Any, *, loud: bool = True) -> str:
        return "ONE" if loud else "one"

    assert texts(run(shout)) == ["ONE"]


# ---- failures --------------------------------------------------------------------------------------------------


def raises(messages: Any) -> str:
    raise ValueError("the secret detail")


async def async_raises(messages: Any) -> str:
    raise ValueError("the secret detail")


def stops(messages: Any) -> str:
    raise StopIteration("the secret detail")


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (raises, "ValueError"),
        (async_raises, "ValueError"),
        (lambda messages: 7, "TypeError"),
        (lambda messages: None, "TypeError"),
        (lambda messages: b"bytes", "TypeError"),
        (lambda messages: ["a", "list"], "TypeError"),
        (lambda: "takes nothing", "TypeError"),
    ],
)
def test_a_failing_function_is_told_by_kind_and_its_author_by_traceback(
    function: Callable[..., Any], kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Failure) as caught:
        run(function)
    assert (caught.value.kind, caught.value.status) == ("internal_error", 500)
    assert str(caught.value) == f"the function model 'f' failed: {kind}"
    assert "Traceback" in capsys.readouterr().err


def test_a_stray_stop_iteration_is_a_failure_and_no_hang(capsys: pytest.CaptureFixture[str]) -> None:
    """No future can carry it: asyncio would wait without end."""

    async def bounded() -> None:
        functions = Functions({"f": stops})
        try:
            async with asyncio.timeout(20):
                await collect(functions)
        finally:
            functions.close()

    with pytest.raises(Failure) as caught:
        asyncio.run(bounded())
    assert str(caught.value) == "the function model 'f' failed: RuntimeError"


def test_what_came_before_a_failure_has_been_given_out(capsys: pytest.CaptureFixture[str]) -> None:
    def halfway(messages: Any) -> Iterator[str]:
        yield "one"
        raise ValueError

    async def gather() -> list[Chunk]:
        call, request = request_of()
        functions = Functions({"f": halfway})
        chunks: list[Chunk] = []
        stream = functions.run("f", call, request, 1)
        chunks.append(await anext(stream))
        with pytest.raises(Failure):
            await anext(stream)
        functions.close()
        return chunks

    assert texts(asyncio.run(gather())) == ["one"]


def test_a_failure_keeps_its_status(capsys: pytest.CaptureFixture[str]) -> None:
    def refuses(messages: Any) -> str:
        raise Failure("content_filter", "not about cats", sent=(451, None, None))

    with pytest.raises(Failure, match="not about cats") as caught:
        run(refuses)
    assert (caught.value.status, caught.value.kind) == (451, "content_filter")
    assert capsys.readouterr().err == ""


# ---- the loop --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True])
def test_a_blocking_function_does_not_stall_the_loop(streamed: bool) -> None:
    """It waits for an event that only the loop, still running, can set."""
    started, proceed = threading.Event(), threading.Event()

    def blocks(messages: Any) -> str:
        started.set()
        assert proceed.wait(20)
        return "done"

    def blocks_midway(messages: Any) -> Iterator[str]:
        yield blocks(messages)

    async def main() -> list[Chunk]:
        functions = Functions({"f": blocks_midway if streamed else blocks})
        answer = asyncio.create_task(collect(functions))
        assert await asyncio.to_thread(started.wait, 20)
        assert not answer.done()
        proceed.set()
        chunks = await answer
        functions.close()
        return chunks

    assert texts(asyncio.run(main())) == ["done"]


def test_pieces_come_as_they_are_made() -> None:
    proceed = threading.Event()

    def two(messages: Any) -> Iterator[str]:
        yield "one"
        assert proceed.wait(20)
        yield "two"

    async def main() -> list[str | None]:
        call, request = request_of()
        functions = Functions({"f": two})
        stream = functions.run("f", call, request, 1)
        first = await anext(stream)
        proceed.set()
        rest = [chunk async for chunk in stream]
        functions.close()
        return texts([first, *rest])

    assert asyncio.run(main()) == ["one", "two"]


def test_an_async_generator_that_is_left_is_closed() -> None:
    closed: list[bool] = []

    async def endless(messages: Any) -> AsyncIterator[str]:
        try:
            while True:
                yield "more"
        finally:
            closed.append(True)

    async def main() -> None:
        call, request = request_of()
        functions = Functions({"f": endless})
        stream = functions.run("f", call, request, 1)
        await anext(stream)
        await stream.aclose()
        assert closed == [True]  # at once, not when the garbage collector comes by
        functions.close()

    asyncio.run(main())


def test_a_generator_that_is_left_is_closed() -> None:
    closed = threading.Event()

    def endless(messages: Any) -> Iterator[str]:
        try:
            while True:
                yield "more"
        finally:
            closed.set()

    held: list[Any] = []

    def keeps(messages: Any) -> Iterator[str]:
        held.append(endless(messages))  # a reference elsewhere: its end must not be left to the collector
        return held[0]

    async def main() -> None:
        call, request = request_of()
        functions = Functions({"f": keeps})
        stream = functions.run("f", call, request, 1)
        await anext(stream)
        await stream.aclose()
        await asyncio.to_thread(closed.wait, 20)
        assert closed.is_set()
        functions.close()

    asyncio.run(main())


# ---- loading ---------------------------------------------------------------------------------------------------

MEOW = "from polymux import model\n\n@model('meow')\ndef meow(messages):\n    return 'meow'\n"
ECHO = MEOW.replace("meow", "echo")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path


def write(path: Path, text: str, mode: int = 0o644) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_a_file(folder: Path) -> None:
    found = load([write(folder / "cats.py", MEOW)])
    assert list(found) == ["meow"]
    assert found["meow"]([]) == "meow"


def test_a_file_in_the_home_directory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    write(folder / "cats.py", MEOW)
    assert list(load(["~/cats.py"])) == ["meow"]


def test_a_folder_in_the_order_of_names(folder: Path) -> None:
    write(folder / "b.py", MEOW)
    write(folder / "a.py", ECHO)
    write(folder / "notes.txt", "not Python")
    assert list(load([str(folder)])) == ["echo", "meow"]


def test_a_file_may_use_what_looks_its_module_up(folder: Path) -> None:
    """A dataclass with postponed annotations asks `sys.modules` for the module it stands in."""
    text = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Cat:\n    name: str = 'Tom'\n"
    )
    assert list(load([write(folder / "cats.py", text + MEOW)])) == ["meow"]


def test_modules_and_objects(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / "pmx_cats.py", MEOW + "\n" + ECHO)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "pmx_cats", raising=False)
    assert list(load(["pmx_cats"])) == ["meow", "echo"]
    assert list(load(["pmx_cats:echo"])) == ["echo"]
    assert list(load(["pmx_cats", "pmx_cats:echo"])) == ["meow", "echo"]  # the same function twice is no clash
    monkeypatch.delitem(sys.modules, "pmx_cats")


def test_nothing_is_nothing() -> None:
    assert load([]) == {}


FAULTS: Mapping[str, tuple[str, str]] = {
    "syntax.py": ("def (", "SyntaxError"),
    "raises.py": ("x = 1\n1 / 0\n", "ZeroDivisionError: division by zero (line 2 of raises.py)"),
    "imports.py": ("import no_such_module_here\n", "No module named 'no_such_module_here'"),
    "unmarked.py": ("def meow(messages):\n    return 'x'\n", 'put @polymux.model("NAME") above one'),
    "empty.py": ("", "no function is marked"),
    "exits.py": ("raise SystemExit(3)\n", "SystemExit"),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("whole", [True, False])
def test_a_file_that_cannot_be_served_is_named_with_its_fault(folder: Path, name: str, whole: bool) -> None:
    text, fault = FAULTS[name]
    path = write(folder / name, text)
    with pytest.raises(LoadError) as caught:
        load([str(folder) if whole else path])
    assert str(caught.value).startswith(f"{path}: ")
    assert fault in str(caught.value)


def test_a_file_that_is_not_there(folder: Path) -> None:
    with pytest.raises(LoadError, match=r"nothing\.py: no such file"):
        load([str(folder / "nothing.py")])


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ("no_such_module_here", "no_such_module_here: ModuleNotFoundError"),
        ("polymux.demo:nothing", "polymux.demo has no function 'nothing'"),
        ("polymux.demo:annotations", "polymux.demo has no function 'annotations'"),
        ("polymux.functions:load", "load is not marked as a model"),
        ("polymux.errors", "no function is marked as a model"),
        ("", "empty name"),
        (" ", "empty name"),
        (":x", "x"),
        ("..a", "a"),
    ],
)
def test_a_module_that_cannot_be_served(spec: str, fault: str) -> None:
    with pytest.raises(LoadError, match=fault):
        load([spec])


def test_a_name_that_is_taken(folder: Path) -> None:
    specs = [write(folder / "a.py", MEOW), write(folder / "b.py", MEOW)]
    with pytest.raises(LoadError, match=r"b\.py: the model name 'meow' is taken"):
        load(specs)


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_may_write_is_not_run(folder: Path, mode: int) -> None:
    path = write(folder / "cats.py", "raise AssertionError('it was run')\n", mode)
    with pytest.raises(LoadError, match=f"others may write to it.*chmod go-w {path}"):
        load([path])


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_a_folder_that_others_may_write_is_not_run(folder: Path, mode: int) -> None:
    inner = folder / "models"
    inner.mkdir()
    write(inner / "cats.py", "raise AssertionError('it was run')\n")
    inner.chmod(mode)
    with pytest.raises(LoadError, match="others may write to it"):
        load([str(inner)])


def test_a_file_in_a_safe_folder_that_others_may_write_is_not_run(folder: Path) -> None:
    write(folder / "cats.py", "raise AssertionError('it was run')\n", 0o666)
    with pytest.raises(LoadError, match=r"cats\.py: others may write"):
        load([str(folder)])


def test_the_mark_is_all_the_decorator_leaves() -> None:
    @model("name")
    def function(messages: Any) -> str:
        return "as it was"

    assert function([]) == "as it was"
    assert Functions({"name": function}).names == ("name",)
