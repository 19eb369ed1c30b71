"""Conversations on their way into a real database: what becomes of the bytes, of time, and when the database fails."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import select

from polymux.store import keeper as module
from polymux.store.base import Conversations, Keeping, Spoken, Unusable
from polymux.store.database import NAME, Database
from polymux.store.keeper import SWEEP, Keeper
from polymux.store.tables import CONVERSATIONS
from polymux.types import Record
from polymux.wire.redact import Redactor
from store.test_journal import record

DAY = 86400.0
NOW = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database("sqlite", tmp_path)
    yield made
    made.close()


@pytest.fixture
def keeper(database: Database, clock: Clock) -> Iterator[Keeper]:
    made = Keeper(database, 30 * DAY, clock)
    yield made
    made.close()


def spoken(keeper: Keeper, id_: str = "req_1", said: str = "Hi", answer: bytes = b'{"a": "b"}', **of: Any) -> Spoken:
    """A conversation that has passed, with its room taken. of: members of `Spoken`, `Keeping` and the record."""
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": said}]}).encode()
    one: Record = record(
        id_, **{"at": NOW, "surface": "chat"} | {n: of[n] for n in of if n in Record.__struct_fields__}
    )
    rest = {"streamed": False, "cut": False, "notes": ()} | {n: of[n] for n in of if n in Spoken.__struct_fields__}
    kept = Keeping(keeper, **{n: of[n] for n in of if n in Keeping.__struct_fields__})
    assert keeper.take(len(body))
    return Spoken(one, body, [answer], size=len(body), keeping=kept, **rest)


def rows(database: Database) -> dict[str, dict[str, Any]]:
    with database.connect() as connection:
        found = connection.execute(select(CONVERSATIONS)).mappings().all()
    return {row["id"]: {**row, **json.loads(row["body"])} for row in found}


def until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(2000):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError


# ---- what is kept --------------------------------------------------------------------------------------------------


def test_a_whole_answer(keeper: Keeper, database: Database) -> None:
    log: Conversations = keeper
    log.put(spoken(keeper, tenant="acme", status=200, notes=["looked up"]))
    keeper.flush()
    (row,) = rows(database).values()
    assert row["request"] == {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    assert (row["response"], row["notes"], row["cut"]) == ({"a": "b"}, ["looked up"], False)
    like = record("req_1", at=NOW, tenant="acme")
    for name in set(CONVERSATIONS.c.keys()) & set(Record.__struct_fields__) - {"surface"}:
        assert row[name] == getattr(like, name), name


def test_a_streamed_answer(keeper: Keeper, database: Database) -> None:
    choice = {"index": 0, "delta": {"content": "Hello"}, "finish_reason": "stop"}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    data = b"data: %b\n\ndata: [DONE]\n\n" % json.dumps(chunk).encode()
    keeper.put(spoken(keeper, answer=data, streamed=True, model="public"))
    keeper.flush()
    response = rows(database)["req_1"]["response"]
    assert (response["model"], response["choices"][0]["message"]["content"]) == ("public", "Hello")


@pytest.mark.parametrize(("answer", "response"), [(b"", None), (b"no JSON", None), (b'{"error": {}}', {"error": {}})])
def test_other_answers(keeper: Keeper, database: Database, answer: bytes, response: object) -> None:
    keeper.put(spoken(keeper, answer=answer, status=499, error_code="client_disconnected"))
    keeper.flush()
    row = rows(database)["req_1"]
    assert (row["response"], row["status"], row["error_code"]) == (response, 499, "client_disconnected")


def test_nothing_is_stored_that_is_to_be_taken_out(keeper: Keeper, database: Database, tmp_path: Path) -> None:
    secret, image = "cnry/secret+Q7x9", "data:image/png;base64," + "QUJD" * 300
    clean = Redactor(["email", "/ACME-[0-9]+/"], [secret])
    said = f"alice@example.com has {secret} for ACME-4711 {image}"
    answer = json.dumps({"tool": json.dumps({"to": said})}).encode()
    keeper.put(spoken(keeper, said=said, answer=answer, notes=[said], redactor=clean, model=f"x {secret}"))
    keeper.flush()
    row = rows(database)["req_1"]
    expected = "[email] has … for [redacted] [image/png, 900 bytes]"
    assert row["request"]["messages"][0]["content"] == row["notes"][0] == expected
    assert json.loads(row["response"]["tool"]) == {"to": expected}
    assert row["model"] == "x …"
    database.close()
    everything = b"".join(path.read_bytes() for path in tmp_path.glob(f"{NAME}*"))
    for leak in (b"alice", b"cnry", b"4711", b"QUJD"):
        assert leak not in everything
    assert b"[email]" in everything


def test_names_of_keys_and_tenants_stay_apart(keeper: Keeper, database: Database) -> None:
    for who in ("ada@x.example", "bob@x.example"):
        keeper.put(spoken(keeper, who, redactor=Redactor(["email"]), tenant=who, key_name=who, model=who))
    keeper.flush()
    found = [(row["tenant"], row["key_name"], row["model"]) for row in rows(database).values()]
    assert found == [("ada@x.example", "ada@x.example", "[email]"), ("bob@x.example", "bob@x.example", "[email]")]


def test_what_is_too_long_is_cut_and_said_to_be(keeper: Keeper, database: Database) -> None:
    keeper.put(spoken(keeper, "req_1", "long " * 10_000, max_size=2000))
    keeper.put(spoken(keeper, "req_2", "short", max_size=2000))
    keeper.put(spoken(keeper, "req_3", "cut before", cut=True))
    keeper.put(spoken(keeper, "req_4", max_size=1))
    keeper.put(spoken(keeper, "req_5", "a" * 300, max_size=500, redactor=Redactor(["/a/"])))
    keeper.flush()
    found = rows(database)
    assert {id_: row["cut"] for id_, row in found.items()} == {
        **dict.fromkeys(("req_1", "req_3", "req_4", "req_5"), True),
        "req_2": False,
    }
    assert len(found["req_1"]["body"]) <= 2000
    assert len(found["req_5"]["body"]) <= 500
    assert "characters cut]" in found["req_1"]["request"]["messages"][0]["content"]
    assert found["req_4"]["request"] is found["req_4"]["response"] is None


def test_what_cannot_be_cleaned_is_not_kept(
    keeper: Keeper, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Redactor):
        def json(self, value: Any) -> Any:
            raise ZeroDivisionError

    keeper.put(spoken(keeper, "req_1", redactor=Broken()))
    keeper.put(spoken(keeper, "req_2"))
    keeper.flush()
    assert list(rows(database)) == ["req_2"]
    assert keeper.lost == 1
    assert "could not be read, and is not kept: req_1" in caplog.text


def test_what_cannot_be_written_is_not_in_the_way(
    keeper: Keeper, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    keeper.put(spoken(keeper, "req_1", status=2**64))
    keeper.flush()
    keeper.put(spoken(keeper, "req_2"))
    keeper.flush()
    assert list(rows(database)) == ["req_2"]
    assert keeper.lost == 1
    assert "1 conversations cannot be written, and are not kept: OverflowError" in caplog.text
    assert "messages" not in caplog.text


def test_a_request_that_cannot_be_read_is_told_to_be_cut(keeper: Keeper, database: Database) -> None:
    keeper.put(msgspec.structs.replace(spoken(keeper), request=b'{"temperature": 1e400}'))
    keeper.flush()
    assert (rows(database)["req_1"]["request"], rows(database)["req_1"]["cut"]) == (None, True)


def test_the_same_call_is_kept_once(keeper: Keeper, database: Database) -> None:
    for said in ("first", "second"):
        keeper.put(spoken(keeper, said=said))
        keeper.flush()
    assert rows(database)["req_1"]["request"]["messages"][0]["content"] == "first"


# ---- time ----------------------------------------------------------------------------------------------------------


def test_what_is_too_old_is_removed(keeper: Keeper, database: Database, clock: Clock, tmp_path: Path) -> None:
    for age in range(5):
        keeper.put(spoken(keeper, f"req_{age}", f"canary-{age}", at=NOW - age * 10 * DAY))
    keeper.flush()
    assert set(rows(database)) == {"req_0", "req_1", "req_2", "req_3"}  # 30 days old is not older
    clock.now += SWEEP - 1
    keeper.flush()
    assert len(rows(database)) == 4
    clock.now += 1
    keeper.flush()
    assert set(rows(database)) == {"req_0", "req_1", "req_2"}
    keeper.retention = DAY
    clock.now += SWEEP
    keeper.flush()
    assert set(rows(database)) == {"req_0"}
    database.close()
    assert b"canary-2" not in (tmp_path / NAME).read_bytes(), "what is deleted is not left in the file"


def test_many_that_are_too_old(database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SWEPT", 2)
    keeper = Keeper(database, DAY, clock)
    keeper._swept = NOW
    for number in range(7):
        keeper.put(spoken(keeper, f"req_{number}", at=NOW - 2 * DAY))
    keeper.flush()
    assert len(rows(database)) == 7
    clock.now += SWEEP
    keeper.flush()
    assert rows(database) == {}


# ---- the thread and its bounds -------------------------------------------------------------------------------------


def test_a_thread_writes_within_a_moment(keeper: Keeper, database: Database) -> None:
    keeper.start()
    for number in range(200):
        keeper.put(spoken(keeper, f"req_{number}"))
    until(lambda: len(rows(database)) == 200)
    assert keeper.lost == 0


def test_what_is_left_is_written_at_the_end(database: Database, clock: Clock) -> None:
    keeper = Keeper(database, DAY, clock)
    keeper.start()
    for number in range(100):
        keeper.put(spoken(keeper, f"req_{number}"))
    keeper.close()
    assert len(rows(database)) == 100


def test_the_room_is_bounded_and_given_back(database: Database, clock: Clock) -> None:
    keeper = Keeper(database, DAY, clock, room=1000)
    assert keeper.take(5000), "one may be as large as it is"
    assert not keeper.take(1)
    assert keeper.short == 1
    keeper._taken -= 5000
    one = spoken(keeper, "req_1")
    assert not keeper.take(1000)
    keeper.put(one)
    assert not keeper.take(1000)
    keeper.flush()
    assert keeper.take(1000)


def test_when_too_many_wait_the_rest_is_not_kept_and_it_is_told(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    keeper = Keeper(database, DAY, clock, room=100_000)
    for number in range(5):
        keeper.put(spoken(keeper, f"req_{number}"))
    assert keeper.lost == 2
    keeper.close()
    assert len(rows(database)) == 3
    assert "2 conversations could not be kept" in caplog.text
    assert keeper._taken == keeper._given


def test_while_the_database_fails_they_wait(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    keeper = Keeper(database, DAY, clock)
    good = database.begin

    def bad(*, durable: bool = False) -> Any:
        raise Unusable("the disk is full")

    monkeypatch.setattr(database, "begin", bad)
    keeper.put(spoken(keeper, "req_1"))
    keeper.start()
    until(lambda: "conversations wait to be kept" in caplog.text)
    with pytest.raises(Unusable):
        keeper.flush()
    keeper.put(spoken(keeper, "req_2"))
    monkeypatch.setattr(database, "begin", good)
    until(lambda: "conversations are kept again" in caplog.text)
    assert set(rows(database)) == {"req_1", "req_2"}
    assert keeper.lost == 0
    keeper.close()


def test_what_cannot_be_written_at_the_end_is_told(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = Keeper(database, DAY, clock)

    def bad(*, durable: bool = False) -> Any:
        raise Unusable("the disk is full")

    monkeypatch.setattr(database, "begin", bad)
    for number in range(3):
        keeper.put(spoken(keeper, f"req_{number}"))
    keeper.close()
    assert keeper.lost == 3
    assert "the last conversations are not kept: the disk is full" in caplog.text
    assert "3 conversations could not be kept" in caplog.text
