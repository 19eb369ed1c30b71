"""One of several workers, as the supervisor starts it: it takes its order from the control channel and obeys it."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from socket import socket as Socket
from typing import Any, NoReturn

import msgspec

from polymux.admin.api import Faulty, Reloaded
from polymux.app import Crew
from polymux.cli.process import Order, Process, Ready, Server, log_to_stderr
from polymux.config import ConfigError
from polymux.http.supervisor import LINE
from polymux.store.base import Unusable


class Start(msgspec.Struct, frozen=True):
    """The first line from the supervisor. listening, counters: descriptors that were inherited."""

    order: Order
    slot: int
    listening: tuple[int, ...]
    counters: int
    run: str


class Control:
    """The worker's end of the channel; `http.supervisor` has the messages."""

    def __init__(self, channel: Socket, process: Process) -> None:
        self._channel = channel
        self._process = process
        self._ready: Ready | None = None
        self._told: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._writer: asyncio.StreamWriter
        self.server = Server(process, self._begun, {signal.SIGHUP: _nothing, signal.SIGUSR2: _nothing})
        process.front.reload = self.reload

    def _begun(self) -> None:
        self._task(self._obey())

    async def _obey(self) -> None:
        reader, self._writer = await asyncio.open_connection(sock=self._channel, limit=LINE)
        self._send({"ready": True})
        try:
            while line := await reader.readline():
                message = msgspec.json.decode(line)
                if "told" in message:
                    self._told.pop(message["told"]).set_result(message)
                elif message["do"] == "stop":
                    self.server.should_exit = True
                else:
                    self._task(self._answer(message))
        except OSError:
            pass
        finally:
            self._writer.close()
            for future in self._told.values():
                future.set_result({"faults": ["the gateway is ending"]})
            self.server.should_exit = True  # without a supervisor there is nothing to do

    async def _answer(self, message: dict[str, Any]) -> None:
        answer: dict[str, Any] = {"n": message["n"]}
        match message["do"]:
            case "prepare":
                try:
                    self._ready = await self._process.prepare()
                except Faulty as error:
                    answer["faults"] = error.faults
            case "swap" if self._ready is not None:
                answer |= msgspec.to_builtins(self._process.swap(self._ready))
                self._ready = None
            case "drop":
                self._ready = None
        self._send(answer)

    async def reload(self) -> Reloaded:
        """On all workers. Raises `Faulty`."""
        number = id(future := asyncio.get_running_loop().create_future())
        self._told[number] = future
        self._send({"ask": number})
        told = await future
        if faults := told.get("faults"):
            raise Faulty(tuple(faults))
        return msgspec.convert(told, Reloaded)

    def _send(self, message: dict[str, Any]) -> None:
        self._writer.write(msgspec.json.encode(message) + b"\n")

    def _task(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _nothing() -> None:
    """The supervisor sees to it."""


def main() -> NoReturn:
    log_to_stderr()
    channel = Socket(fileno=int(sys.argv[1]))
    line = b""
    while not line.endswith(b"\n"):
        if not (data := channel.recv(65536)):
            raise SystemExit(1)
        line += data
    start = msgspec.json.decode(line, type=Start)
    try:
        process = Process(
            start.order, start.order.prepare(strict=False), Crew(start.slot, Path(start.run), start.counters)
        )
    except (ConfigError, OSError, Unusable) as error:
        channel.sendall(msgspec.json.encode({"failed": str(error)}) + b"\n")
        raise SystemExit(1) from None
    Control(channel, process).server.serve_on([Socket(fileno=fd) for fd in start.listening])
    raise SystemExit(0)


if __name__ == "__main__":
    main()
