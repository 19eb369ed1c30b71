"""The connections to one address under one trust: at most so many, kept for a while, waited for in turn."""

from __future__ import annotations

import asyncio
from collections import deque

from polymux.errors import Failure
from polymux.transport.connection import Connection, Lost
from polymux.transport.dial import Dialer, Target

IDLE = 55.0  # seconds a connection is kept unused: below the common 60 s of load balancers


class Pool:
    """A slot is taken from the first step of dialing until the connection has ended. Whoever finds none waits for a
    connection that is parked, or for a slot, first come first served; while anybody waits, nothing is idle."""

    def __init__(self, target: Target, dialer: Dialer, loop: asyncio.AbstractEventLoop) -> None:
        self.target = target
        self.all: set[Connection] = set()
        self.dialing = 0
        self.idle: list[Connection] = []  # the longest unused first
        self.waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._dialer = dialer
        self._loop = loop
        self._limit = target.link.max_connections
        self._timer: asyncio.TimerHandle | None = None

    @property
    def used(self) -> int:
        return len(self.all) + self.dialing

    def take(self, now: float) -> Connection | None:
        """An idle connection, if there is one; the last used is the least likely to be stale."""
        while self.idle:
            conn = self.idle.pop()
            if conn.open and now - conn.since < IDLE:
                return conn
            conn.abort()
        return None

    def park(self, conn: Connection) -> None:
        """The connection has served a request: the next one waiting gets it."""
        conn.since = now = self._loop.time()
        while self.waiting:
            waiter = self.waiting.popleft()
            if not waiter.done():
                waiter.set_result(conn)
                return
        self.idle.append(conn)
        if self._timer is None:
            self._timer = self._loop.call_at(now + IDLE, self._sweep)

    def forget(self, conn: Connection) -> None:
        """The connection has ended."""
        self.all.discard(conn)
        if conn in self.idle:
            self.idle.remove(conn)
        self._grant()

    async def connect(self, seconds: float, final: float) -> Connection:
        """A connection when `take` had none: a new one or, at the limit, the next that comes free. Waiting for one
        and connecting may take so many seconds each, and not past `final`. Raises `Failure`."""
        while self.used >= self._limit:
            conn = await self._turn(min(seconds, final - self._loop.time()))
            if conn is None:
                break
            if conn.open:
                return conn
        else:
            self.dialing += 1
        try:
            conn = Connection(self, self._loop)
            await self._dialer.dial(self.target, conn, min(seconds, final - self._loop.time()))
            if not conn.open:
                raise Lost(answered=False)
            self.all.add(conn)
            return conn
        finally:
            self.dialing -= 1
            self._grant()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for conn in list(self.all):
            conn.abort()

    async def _turn(self, seconds: float) -> Connection | None:
        """Wait for a connection, or for a slot (None), which is then taken."""
        name = self.target.name
        if len(self.waiting) >= self._limit:
            text = f"all {self._limit} connections to {name} are busy, and as many requests wait for one"
            raise Failure("overloaded", text)
        if self.idle:  # not wanted: its like has just turned out to be stale
            self.idle.pop(0).abort()
        waiter: asyncio.Future[Connection | None] = self._loop.create_future()
        self.waiting.append(waiter)
        try:
            async with asyncio.timeout(seconds):
                return await waiter
        except BaseException as error:
            self._give_back(waiter)
            if not isinstance(error, TimeoutError):
                raise
        text = f"all {self._limit} connections to {name} have been busy for {max(0.0, round(seconds, 2)):g} s"
        raise Failure("overloaded", text)

    def _give_back(self, waiter: asyncio.Future[Connection | None]) -> None:
        """Who waited has gone: what it was given just now goes to the next."""
        if waiter in self.waiting:
            self.waiting.remove(waiter)
        elif waiter.done() and not waiter.cancelled():
            conn = waiter.result()
            if conn is None:
                self.dialing -= 1
                self._grant()
            elif conn.open:
                self.park(conn)

    def _grant(self) -> None:
        """Give free slots to those who wait."""
        while self.waiting and self.used < self._limit:
            waiter = self.waiting.popleft()
            if not waiter.done():
                self.dialing += 1
                waiter.set_result(None)

    def _sweep(self) -> None:
        """Close what has not been used for too long."""
        now, self._timer = self._loop.time(), None
        while self.idle and now - self.idle[0].since >= IDLE:
            self.idle.pop(0).abort()
        if self.idle:
            self._timer = self._loop.call_at(self.idle[0].since + IDLE, self._sweep)
