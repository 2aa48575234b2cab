"""The stdio server's bytes: what the real server answers to given bytes, line by line, and processes to compare with.

`Answers` runs the real server inside this process over memory, so that the end of its work is known without waiting;
`Talk` is a server in a process of its own.
"""

from __future__ import annotations

import asyncio
import io
import queue
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
from mcp.server.stdio import stdio_server

from triptych.jobs.service import ImageService
from triptych.server.app import build

REAL = (
    "-c",
    "from triptych.server import transports; from triptych import settings; import os; "
    "transports.serve(lambda: settings.read(os.environ))",
)
"""The interpreter's arguments for the stdio server without a thin start."""
TRIPTYCH = ("-m", "triptych")
HEAR_LIMIT_S = 30.0


def as_lines(said: bytes) -> list[str]:
    """Return the lines that the SDK reads: of UTF-8 with replacements and universal newlines."""
    return list(io.TextIOWrapper(io.BytesIO(said), encoding="utf-8", errors="replace"))


class _Out:
    """stdout for the SDK, in memory."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    async def write(self, text: str) -> None:
        self.lines.append(text.encode())

    async def flush(self) -> None:
        pass


class Answers:
    """The real server's answers, over one service; use it inside one event loop."""

    def __init__(self, open_service: Callable[[], Awaitable[ImageService]]) -> None:
        self._open_service = open_service
        self._busy = 0

    @asynccontextmanager
    async def counting(self) -> AsyncIterator[Answers]:
        """Count the calls in worker threads for as long as the block runs."""
        plain = anyio.to_thread.run_sync

        async def counted(*given: Any, **named: Any) -> Any:
            self._busy += 1
            try:
                return await plain(*given, **named)
            finally:
                self._busy -= 1

        anyio.to_thread.run_sync = counted
        try:
            yield self
        finally:
            anyio.to_thread.run_sync = plain

    async def to(self, said: bytes, *, at_once: bool = False) -> list[list[bytes]]:
        """Return the lines that answer each line, and, last, those after the end of stdin.

        With `at_once` no line waits for an answer: all answers are in the second to last list.
        """
        lines = as_lines(said)
        sender, receiver = anyio.create_memory_object_stream[str](0)
        out = _Out()
        found: list[list[bytes]] = []
        before = asyncio.all_tasks()

        async def serve() -> None:
            server = build(self._open_service, remote=False)
            async with stdio_server(receiver, out) as (incoming, outgoing):  # type: ignore[arg-type]
                await server.run(incoming, outgoing, server.create_initialization_options())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            async with sender:
                for line in lines:
                    await sender.send(line)
                    if not at_once:
                        await self._rest(before)
                        found.append(_taken(out.lines))
                if at_once:
                    await self._rest(before)
                    found.append(_taken(out.lines))
        return [*found, _taken(out.lines)]

    async def _rest(self, before: set[asyncio.Task[Any]]) -> None:
        """Wait until every task of this connection waits for something outside."""
        while True:
            tasks = asyncio.all_tasks() - before - {asyncio.current_task()}
            if not self._busy and all(_waits(task) for task in tasks):
                return
            await asyncio.sleep(0)
            if self._busy:
                await asyncio.sleep(0.0005)


def _waits(task: asyncio.Task[Any]) -> bool:
    waiter = getattr(task, "_fut_waiter", None)
    return waiter is not None and not waiter.done()


def _taken(lines: list[bytes]) -> list[bytes]:
    found, lines[:] = list(lines), []
    return found


class Talk:
    """A stdio server in a process of its own."""

    def __init__(self, env: Mapping[str, str], argv: Sequence[str] = TRIPTYCH, **options: Any) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen([sys.executable, *argv], env=dict(env), **{**pipes, **options})
        self.stderr = b""
        self._lines: queue.Queue[bytes] = queue.Queue()
        self._threads = [threading.Thread(target=self._listen, daemon=True) for _ in range(1)]
        self._threads.append(threading.Thread(target=self._read_stderr, daemon=True))
        for thread in self._threads:
            thread.start()

    def _listen(self) -> None:
        for line in self.process.stdout or ():
            self._lines.put(line)
        self._lines.put(b"")

    def _read_stderr(self) -> None:
        for line in self.process.stderr or ():
            self.stderr += line

    def say(self, said: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(said)
        self.process.stdin.flush()

    def hear(self, count: int, limit_s: float = HEAR_LIMIT_S) -> list[bytes]:
        """Return the next lines of stdout."""
        end = time.monotonic() + limit_s
        found = []
        for _ in range(count):
            line = self._lines.get(timeout=max(end - time.monotonic(), 0.01))
            assert line, f"it ended after {found}: {self.stderr.decode(errors='replace')}"
            found.append(line)
        return found

    def end(self, code: int | None = 0) -> list[bytes]:
        """Close stdin, wait for the end, check its exit code and that stderr has no traceback; return what it said."""
        if self.process.stdin and not self.process.stdin.closed:
            try:
                self.process.stdin.close()
            except BrokenPipeError:
                pass
        try:
            ended = self.process.wait(timeout=HEAR_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        for thread in self._threads:
            thread.join(timeout=HEAR_LIMIT_S)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()
        assert b"Traceback" not in self.stderr, self.stderr.decode(errors="replace")
        assert code is None or ended == code, (ended, self.stderr.decode(errors="replace"))
        rest = []
        while not self._lines.empty():
            rest.append(self._lines.get())
        return [line for line in rest if line]


def sorted_answers(lines: Iterable[bytes]) -> list[bytes]:
    """Return lines in an order that does not depend on which of several requests was answered first."""
    return sorted(lines)
