"""Function models at work: every form a function may take, what it is told, how it fails, and how it is left."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from functools import partial
from math import inf
from typing import Any

import pytest

from polymux import ModelError, model
from polymux.errors import Failure
from polymux.functions import FunctionCall, Functions, Results
from polymux.functions.call import Messages, Parameters
from polymux.schema.chat import ChatRequest, ChatResponse, Chunk
from polymux.surfaces.chat import Chat
from polymux.types import Call, Key

BODY = '{"model":"f","messages":[{"role":"user","content":"Hi 嗯"}],"temperature":0.5,"user":"u1","custom":7}'.encode()
KEY = Key("static-1", "ada")


def request_of(body: bytes = BODY) -> tuple[Call, ChatRequest]:
    call = Chat().decode(body, "req_1", KEY)
    return call, Chat().request(call)


class Alone:
    """Implements `Chats`: there are no other models."""

    closed = False

    async def whole(self, model: str, messages: Messages, params: Parameters) -> ChatResponse:
        raise AssertionError

    async def stream(self, model: str, messages: Messages, params: Parameters) -> AsyncGenerator[Chunk]:
        raise AssertionError
        yield

    async def close(self) -> None:
        self.closed = True


async def chunks_of(function: Callable[..., Any], chats: Alone | None = None) -> AsyncGenerator[Chunk]:
    """As the engine does it."""
    call, request = request_of()
    functions = Functions({"f": function})
    with await functions["f"].gate.enter(inf) as place:
        given = functions["f"].run(call, request, Results(call, 1000), chats or Alone(), place)
        async with aclosing(given) as several:
            async for chunks in several:
                for chunk in chunks:
                    yield chunk


async def collect(function: Callable[..., Any]) -> list[Chunk]:
    async with asyncio.timeout(20):
        return [chunk async for chunk in chunks_of(function)]


def run(function: Callable[..., Any]) -> list[Chunk]:
    return asyncio.run(collect(function))


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


async def returns_an_async_generator(messages: Any) -> Any:
    return async_generator(messages)


def returns_an_iterator(messages: Any) -> Any:
    return map(str, ("one", "two"))


def yields_and_returns(messages: Any) -> Any:
    yield "one"
    return "two"


class Instance:
    def __call__(self, messages: Any) -> str:
        return "one"


class AsyncInstance:
    __hash__ = None  # type: ignore[assignment]  # as dataclasses have it

    async def __call__(self, messages: Any) -> str:
        asyncio.get_running_loop()
        return "one"


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (plain, ["one"]),
        (coroutine, ["one"]),
        (generator, ["one", "two"]),
        (async_generator, ["one", "two"]),
        (returns_a_generator, ["one", "two"]),
        (returns_an_async_generator, ["one", "two"]),
        (returns_an_iterator, ["one", "two"]),
        (yields_and_returns, ["one", "two"]),
        (lambda messages: "", [""]),
        (lambda messages: "嗯\x00", ["嗯\x00"]),
        (empty, []),
        (Instance(), ["one"]),
        (AsyncInstance(), ["one"]),
        (partial(coroutine), ["one"]),
        (lambda messages: {"reasoning_content": "hm", "content": "one"}, ["one"]),
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
    raise StopIteration("no future can carry it")


def exits(messages: Any) -> str:
    raise SystemExit(3)


async def async_exits(messages: Any) -> str:
    raise SystemExit(3)


async def cancels_itself(messages: Any) -> str:
    raise asyncio.CancelledError


def odd(messages: Any) -> str:
    raise BaseException


def interrupts(messages: Any) -> str:
    raise KeyboardInterrupt


async def async_interrupts(messages: Any) -> str:
    raise KeyboardInterrupt


async def groups(messages: Any) -> str:
    raise BaseExceptionGroup("several", [SystemExit(3)])


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (raises, "ValueError"),
        (async_raises, "ValueError"),
        (stops, "RuntimeError"),
        (exits, "SystemExit"),
        (async_exits, "SystemExit"),
        (cancels_itself, "CancelledError"),
        (odd, "BaseException"),
        (interrupts, "KeyboardInterrupt"),
        (async_interrupts, "KeyboardInterrupt"),
        (groups, "BaseExceptionGroup"),
        (lambda: "takes nothing", "TypeError"),
    ],
)
def test_a_failing_function_is_told_by_kind_and_its_author_by_traceback(
    function: Callable[..., Any], kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it raises, the gateway goes on, and the client gets an answer."""
    with pytest.raises(Failure) as caught:
        run(function)
    assert (caught.value.kind, caught.value.status) == ("internal_error", 500)
    assert str(caught.value) == f"the function model 'f' failed: {kind}"
    assert "the function model 'f' failed in call req_1\n" in caplog.text
    assert "Traceback" in caplog.text or kind == "TypeError"  # of the call as such: there is no code of theirs


def test_the_traceback_begins_in_the_function(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Failure):
        run(raises)
    files = [line for line in caplog.text.splitlines() if line.startswith("      File")]
    assert len(files) == 1
    assert files[0].startswith(f'      File "{__file__}", line ')
    assert files[0].endswith("in raises")


@pytest.mark.parametrize(
    ("result", "words"),
    [(7, "gave a result of type int; it is to give text or a dict"), ({"text": 1}, "gave a dict with 'text'")],
)
def test_a_wrong_result_is_told_with_the_functions_place(
    result: Any, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    def wrong(messages: Any) -> Any:
        return result

    with pytest.raises(Failure, match=f"^the function model 'f' {words}") as caught:
        run(wrong)
    assert (caught.value.kind, caught.value.status) == ("internal_error", 500)
    assert f"{__file__}:{wrong.__code__.co_firstlineno}: the function model 'f' {words}" in caplog.text


def test_what_came_before_a_failure_has_been_given_out() -> None:
    def halfway(messages: Any) -> Iterator[str]:
        yield "one"
        raise ValueError

    async def main() -> list[Chunk]:
        stream = chunks_of(halfway)
        first = await anext(stream)
        with pytest.raises(Failure):
            await anext(stream)
        return [first]

    assert texts(asyncio.run(main())) == ["one"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ModelError(429, "slowly", retry_after=7), (429, "rate_limit_error", "model_error", 7, "next")),
        (ModelError(404, "no such cat", code="no_cat"), (404, "invalid_request_error", "no_cat", None, "no")),
        (ModelError(402, "pay"), (402, "insufficient_quota", "model_error", None, "no")),
        (ModelError(503, "asleep"), (503, "server_error", "model_error", None, "next")),
        (ModelError(502, "m", type="upstream_error"), (502, "upstream_error", "model_error", None, "next")),
    ],
)
def test_an_error_with_a_status_is_the_clients(
    error: ModelError, told: tuple[Any, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """Where the request is not to blame, another deployment may take over."""

    async def refuses(messages: Any) -> str:
        raise error

    with pytest.raises(Failure, match=error.message) as caught:
        run(refuses)
    failure = caught.value
    assert (failure.status, failure.type, failure.code, failure.retry_after, failure.row.retry) == told
    assert caplog.text == ""


def test_a_failure_keeps_its_status(caplog: pytest.LogCaptureFixture) -> None:
    def refuses(messages: Any) -> str:
        raise Failure("content_filter", "not about cats", sent=(451, None, None))

    with pytest.raises(Failure, match="not about cats") as caught:
        run(refuses)
    assert (caught.value.status, caught.value.kind) == (451, "content_filter")
    assert caplog.text == ""


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
        answer = asyncio.create_task(collect(blocks_midway if streamed else blocks))
        assert await asyncio.to_thread(started.wait, 20)
        assert not answer.done()
        proceed.set()
        return await answer

    assert texts(asyncio.run(main())) == ["done"]


def test_pieces_come_as_they_are_made() -> None:
    proceed = threading.Event()

    def two(messages: Any) -> Iterator[str]:
        yield "one"
        assert proceed.wait(20)
        yield "two"

    async def main() -> list[str | None]:
        stream = chunks_of(two)
        first = await anext(stream)
        proceed.set()
        return texts([first] + [chunk async for chunk in stream])

    assert asyncio.run(main()) == ["one", "two"]


def test_one_thread_has_the_whole_call() -> None:
    """What is bound to the thread that opened it, a database's connection for one, can be used throughout."""
    seen: list[threading.Thread] = []

    def watched(messages: Any) -> Iterator[str]:
        try:
            for _ in range(3):
                seen.append(threading.current_thread())
                yield "x"
        finally:
            seen.append(threading.current_thread())

    run(watched)
    assert len(seen) == 4
    assert set(seen) != {threading.main_thread()}
    assert len(set(seen)) == 1
    assert (seen[0].name, seen[0].daemon) == ("polymux-f", True)


def test_a_generator_does_not_run_away_from_its_client() -> None:
    made: list[int] = []
    enough = threading.Event()

    def eager(messages: Any) -> Iterator[str]:
        for number in range(1000):
            made.append(number)
            if number == 16:
                enough.set()
            yield "x"

    async def main() -> None:
        async with aclosing(chunks_of(eager)) as stream:
            await anext(stream)
            assert await asyncio.to_thread(enough.wait, 20)

    asyncio.run(main())
    assert len(made) < 50


def test_the_places_of_a_slow_model_are_its_own() -> None:
    """One model blocks in all its places; another of the same gateway answers, and the queue is in order."""
    release, started = threading.Event(), threading.Semaphore(0)

    @model("slow", concurrency=2, queue=1)
    def slow(messages: Any) -> str:
        started.release()
        assert release.wait(20)
        return "slow"

    functions = Functions({"slow": slow, "quick": plain})

    async def ask(name: str) -> list[str | None]:
        call, request = request_of()
        with await functions[name].gate.enter(inf) as place:
            given = functions[name].run(call, request, Results(call, 1), Alone(), place)
            return texts([chunk async for several in given for chunk in several])

    async def main() -> None:
        asked = [asyncio.create_task(ask("slow")) for _ in range(3)]
        for _ in range(2):
            assert await asyncio.to_thread(started.acquire, timeout=20)
        with pytest.raises(Failure, match="'slow' is busy: 2 calls of it run, and 1 more wait"):
            await ask("slow")
        assert await ask("quick") == ["one"]
        release.set()
        assert await asyncio.gather(*asked) == [["slow"]] * 3

    asyncio.run(main())


@pytest.mark.parametrize(("function", "places"), [(plain, 32), (coroutine, 0)])
def test_the_usual_number_of_places(function: Callable[..., Any], places: int) -> None:
    gate = Functions({"f": function})["f"].gate
    assert gate.places == places


# ---- leaving ---------------------------------------------------------------------------------------------------


def test_a_coroutine_that_is_left_is_cancelled_where_it_waits() -> None:
    ended: list[str] = []

    async def ponder(messages: Any) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        finally:
            ended.append("cleaned up")
        return ""

    async def main() -> None:
        asked = asyncio.create_task(collect(ponder))
        for _ in range(9):
            await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert ended == ["cancelled", "cleaned up"]

    asyncio.run(main())


def test_an_async_generator_that_is_left_is_closed() -> None:
    closed: list[bool] = []

    async def endless(messages: Any) -> AsyncIterator[str]:
        try:
            while True:
                yield "more"
        finally:
            closed.append(True)

    async def main() -> None:
        chats = Alone()
        stream = chunks_of(endless, chats)
        await anext(stream)
        await stream.aclose()
        assert closed == [True]  # at once, not when the garbage collector comes by
        assert chats.closed

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
        stream = chunks_of(keeps)
        await anext(stream)
        await stream.aclose()
        assert await asyncio.to_thread(closed.wait, 20)

    asyncio.run(main())


def test_a_function_that_blocks_is_told_and_keeps_its_place() -> None:
    told, started, release = threading.Event(), threading.Event(), threading.Event()

    @model("f", concurrency=1, queue=0)
    def blocks(messages: Any, call: FunctionCall) -> str:
        started.set()
        assert release.wait(20)
        if call.cancelled:
            told.set()
        return ""

    functions = Functions({"f": blocks})

    async def ask() -> None:
        call, request = request_of()
        with await functions["f"].gate.enter(inf) as place:
            async for _ in functions["f"].run(call, request, Results(call, 1), Alone(), place):
                pass

    async def main() -> None:
        asked = asyncio.create_task(ask())
        assert await asyncio.to_thread(started.wait, 20)
        asked.cancel()
        await asyncio.wait({asked})
        with pytest.raises(Failure, match="busy"):
            await ask()
        release.set()
        assert await asyncio.to_thread(told.wait, 20)
        again = None
        while again is None:  # the thread gives its place back a moment later
            try:
                again = await functions["f"].gate.enter(inf)
            except Failure:
                await asyncio.sleep(0)

    asyncio.run(main())


# ---- the set of models -------------------------------------------------------------------------------------------


def test_models_are_found_by_name() -> None:
    functions = Functions({"a": plain, "b": generator}, {"c.py": "broken"})
    assert functions.names == ("a", "b")
    assert functions["b"].function is generator
    assert functions.broken == {"c.py": "broken"}


def test_models_whose_function_is_the_same_go_on() -> None:
    old = Functions({"a": plain, "b": generator, "c": AsyncInstance()})
    new = Functions({"a": coroutine, "b": generator}, before=old)
    assert new["b"] is old["b"]
    assert new["a"] is not old["a"]
