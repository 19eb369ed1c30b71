"""A gateway that dies under load, and what its ledger holds afterwards."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from polymux.routing.price import picodollars
from polymux.store.database import Database
from polymux.store.shipper import Shipper
from polymux.types import Record
from support.gateway import PATIENCE, Gateway
from support.raw import Wire, post

ADMIN: Final = "admin-0123456789abcdef"
PRICE: Final = '{ input = "2.50", output = "10.00" }'


def family(gateway: Gateway) -> list[int]:
    """The process ids of the gateway's workers, and its own (Linux)."""
    assert gateway.process is not None
    own = gateway.process.pid
    return [*(int(path.name) for path in Path("/proc").glob("[0-9]*") if _parent(path) == own), own]


def _parent(path: Path) -> int:
    try:
        return int((path / "stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0  # it has just ended


def kill(gateway: Gateway) -> None:
    """All of it at once, as the kernel does when memory is short; the parent first, so that nobody is replaced."""
    for pid in reversed(family(gateway)):
        os.kill(pid, signal.SIGKILL)
    gateway.kill()


class Clients:
    """Each asks without a pause on a connection of its own, until the gateway is gone. `seen`: the ids of the answers
    that came to their very end."""

    def __init__(self, gateway: Gateway, models: tuple[str, ...], count: int = 6) -> None:
        self.seen: list[str] = []
        self._gateway = gateway
        self._models = models
        self._came = threading.Condition()
        self._threads = [threading.Thread(target=self._ask, args=(number,), daemon=True) for number in range(count)]
        for thread in self._threads:
            thread.start()

    def until(self, count: int) -> None:
        """Until so many answers have come."""
        with self._came:
            assert self._came.wait_for(lambda: len(self.seen) >= count, PATIENCE), f"only {len(self.seen)} answers"

    def join(self) -> list[str]:
        """When the gateway is gone: what was seen."""
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        return self.seen

    def _ask(self, number: int) -> None:
        chance = random.Random(number)
        try:
            with Wire(self._gateway.url) as wire:
                while True:
                    body = {"model": chance.choice(self._models), "messages": [{"role": "user", "content": "Hi"}]}
                    wire.send(post(self._gateway.key, {**body, "stream": chance.random() < 0.5}))
                    answer = wire.answer()
                    assert answer.status == 200, answer
                    with self._came:
                        self.seen.append(answer.headers["x-request-id"])
                        self._came.notify()
        except (OSError, AssertionError):
            return


class Held(NamedTuple):
    """What the database holds. The sums are those of `hours`; cost: picodollars."""

    ids: Counter[str]
    requests: int
    tokens: int
    cost: int


def held(data: Path) -> Held:
    with closing(sqlite3.connect(data / "polymux.db")) as database:
        ids = Counter(row[0] for row in database.execute("SELECT id FROM records"))
        sums = database.execute("SELECT SUM(requests), SUM(input + output), SUM(cost) FROM hours").fetchone()
    return Held(ids, *(value or 0 for value in sums))


def ship(data: Path) -> Shipper:
    """Move what is left, as the next gateway would."""
    database = Database("sqlite", data)
    shipper = Shipper(database, data)
    shipper.ship()
    shipper.close()
    database.close()
    return shipper


def journalled(data: Path) -> dict[str, Record]:
    """All whole records of all journals, by id."""
    return {record.id: record for path in (data / "journal").glob("*.jsonl") for record in _records(path)}


def _records(path: Path) -> Iterator[Record]:
    for line in path.read_bytes().split(b"\n"):
        try:
            yield msgspec.json.decode(line, type=Record)
        except msgspec.DecodeError:
            continue


def check(data: Path, seen: list[str]) -> None:
    """Everything that was seen is there once, and the sums are those of the records."""
    assert len(seen) == len(set(seen))
    found, written = held(data), journalled(data)
    assert not set(seen) - set(found.ids), "answers were seen that are not in the ledger"
    assert set(found.ids) == set(written)
    assert set(found.ids.values()) <= {1}
    assert found.requests == len(found.ids)
    assert found.tokens == sum(record.input_tokens + record.output_tokens for record in written.values())
    assert found.cost == sum(picodollars(record.cost_usd or "0") for record in written.values())
