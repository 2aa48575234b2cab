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
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from unittest import mock

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


class Out:
    """stdout for the SDK, in memory: its lines, with a condition that is notified of each."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.more = threading.Condition()

    async def write(self, text: str) -> None:
        self.put(text.encode())

    async def flush(self) -> None:
        pass

    def put(self, said: bytes) -> None:
        """Add lines."""
        with self.more:
            self.lines += said.splitlines(keepends=True)
            self.more.notify_all()

    def taken(self, count: int | None = None, limit_s: float = HEAR_LIMIT_S) -> list[bytes]:
        """Remove the lines, or the next `count`, and return them; wait for those."""
        with self.more:
            if count is not None:
                self.more.wait_for(lambda: len(self.lines) >= count, limit_s)
            found, self.lines = self.lines[:count], self.lines[count:] if count is not None else []
        return found


class Answers:
    """The real server's answers, over one service; use it inside one event loop."""

    def __init__(self, open_service: Callable[[], Awaitable[ImageService]]) -> None:
        self.open_service = open_service
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

        with mock.patch.object(anyio.to_thread, "run_sync", counted):
            yield self

    async def to(self, parts: Sequence[bytes]) -> list[list[bytes]]:
        """Return the lines that answer each part, and, last, those after the end of stdin.

        The next part comes once nothing more answers the one before; the lines of a part do not wait.
        """
        lines = iter(as_lines(b"".join(parts)))
        sender, receiver = anyio.create_memory_object_stream[str](0)
        out = Out()
        found: list[list[bytes]] = []
        before = asyncio.all_tasks()

        async def serve() -> None:
            server = build(self.open_service, remote=False)
            async with receiver, stdio_server(receiver, out) as (incoming, outgoing):  # type: ignore[arg-type]
                await server.run(incoming, outgoing, server.create_initialization_options())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            async with sender:
                for part in parts:
                    for _ in as_lines(part):
                        await sender.send(next(lines))
                    await self._rest(before)
                    found.append(out.taken())
        return [*found, out.taken()]

    async def _rest(self, before: set[asyncio.Task[Any]]) -> None:
        """Wait until every task of this connection waits for something outside."""
        while True:
            tasks = asyncio.all_tasks() - before - {asyncio.current_task()}
            if not self._busy and all(_waits(task) for task in tasks):
                return
            await asyncio.sleep(0.0005 if self._busy else 0)


def _waits(task: asyncio.Task[Any]) -> bool:
    waiter = getattr(task, "_fut_waiter", None)
    return waiter is not None and not waiter.done()


class Talk:
    """A stdio server in a process of its own."""

    def __init__(self, env: Mapping[str, str], argv: Sequence[str] = TRIPTYCH, **options: Any) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen([sys.executable, *argv], env=dict(env), **{**pipes, **options})
        self.stderr = b""
        self._lines: queue.Queue[bytes] = queue.Queue()
        self._threads = [threading.Thread(target=read, daemon=True) for read in (self._listen, self._read_stderr)]
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
        found: list[bytes] = []
        for _ in range(count):
            line = self._lines.get(timeout=max(end - time.monotonic(), 0.01))
            assert line, f"it ended after {found}: {self.stderr.decode(errors='replace')}"
            found.append(line)
        return found

    def end(self, code: int | None = 0) -> list[bytes]:
        """Close stdin, wait for the end, check its exit code and that stderr has no traceback; return what it said."""
        if self.process.stdin and not self.process.stdin.closed:
            with suppress(BrokenPipeError):
                self.process.stdin.close()
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
