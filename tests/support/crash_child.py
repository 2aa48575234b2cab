"""Processes that make one job each and kill themselves on the way, at a moment that they are told.

    python crash_child.py < cases

A case is one line of JSON: `environ`, `images`, `tool`, `count`, `steps`, `save_to`, `fatal` (the number of the moment,
from 1; beyond the last one it is killed when the job has ended) and `trace`, the file to which the moments are written
as they are reached. One line answers it when the process is dead: its exit status.

The first process only imports, and forks for each case; where there is no safe fork each case is a fresh process.

A moment is before and after each persist point (a committed transaction, a write alone, a file moved or linked into its
place), on PostgreSQL also once a COMMIT or a write alone has left and its answer has not come, the middle of each file
that is written, each request once its last byte has left, each answer once its head has come, and each event of a
stream.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import anyio
import PIL.Image
import psycopg
import psycopg.waiting

from support import machine
from support.stored import sqlite_of
from triptych import providers, settings
from triptych.core.requests import Request
from triptych.images import processing
from triptych.jobs import uploads
from triptych.jobs.planning import Terms
from triptych.jobs.service import ImageService
from triptych.jobs.submission import Submission
from triptych.providers import client, guarded_transport
from triptych.providers.event_stream import EventStream
from triptych.storage import migrations

FORKS = hasattr(os, "fork") and sys.platform != "darwin"  # the system libraries of macOS do not outlive a fork


class Moments:
    """Counts the moments, writes each down, and ends the process at the fatal one."""

    def __init__(self, fatal: int, trace: Path) -> None:
        self._fatal = fatal
        self._passed = 0
        self._lock = threading.Lock()
        self._trace = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._log_bytes = trace.with_name("log-bytes")

    def reach(self, label: str) -> None:
        with self._lock:
            self._passed += 1
            os.write(self._trace, f"{label}\n".encode())
            if self._passed == self._fatal:
                die()

    def note_log(self, size_bytes: int) -> None:
        """Leave how long the database's log was before the write that comes now."""
        with self._lock:
            self._log_bytes.write_text(str(size_bytes))

    def around(self, label: str, write: Callable[[], Any]) -> Any:
        self.reach(f"before {label}")
        result = write()
        self.reach(f"after {label}")
        return result


def die() -> NoReturn:
    if hasattr(signal, "SIGKILL"):
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(137)


class Connection:
    """The database's connection, with its writes counted."""

    def __init__(self, db: Any, moments: Moments) -> None:
        self._db, self._moments, self._first = db, moments, ""
        self._log = Path(db.execute("PRAGMA database_list").fetchone()["file"] + "-wal")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    def execute(self, sql: str, *values: Any) -> Any:
        verb, *words = sql.split(maxsplit=3)
        writes, alone = verb in ("INSERT", "UPDATE", "DELETE"), not self._db.in_transaction
        if alone:
            self._first = ""
        if writes and not self._first:
            self._first = words[0 if verb == "UPDATE" else 1]
            state = values[0].get("state") if values else None
            self._first += f" ({state})" if state else ""
        if verb == "COMMIT" or (writes and alone):
            self._moments.note_log(self._log.stat().st_size if self._log.exists() else 0)
            return self._moments.around(f"write of {self._first}", lambda: self._db.execute(sql, *values))
        return self._db.execute(sql, *values)


class PostgresConnection(psycopg.Connection[Any]):
    """A connection to PostgreSQL, with its writes counted: before each, once it has left, and after the answer."""

    moments: Moments | None = None
    _first = ""
    _label = ""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        text = str(query)
        alone = self.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        if alone:
            self._first = ""
        written = re.search(r"(?:^|; )(?:INSERT INTO|UPDATE|DELETE FROM) (\w+)", text)
        if written and not self._first:
            state = params.get("state") if isinstance(params, dict) else None
            self._first = written[1] + (f" ({state})" if state else "")
        ends = text.endswith("COMMIT") or (alone and written)
        if not self.moments or not ends or not self._first:
            return super().execute(query, params, **options)
        self._label = f"write of {self._first}"
        try:
            return self.moments.around(self._label, lambda: super(PostgresConnection, self).execute(query, params))
        finally:
            self._label = ""

    def wait(self, gen: Any, *options: Any, **more: Any) -> Any:
        return super().wait(self._watched(gen) if self._label else gen, *options, **more)

    def _watched(self, gen: Any) -> Any:
        """Wait as `gen` does, with a moment once the whole statement has left and its answer has not come."""
        ready = None
        try:
            while True:
                state = gen.send(ready)
                if state == psycopg.waiting.WAIT_R and self._label and self.moments:
                    label, self._label = self._label, ""
                    self.moments.reach(f"sent {label}")
                ready = yield state
        except StopIteration as end:
            return end.value


def watch_postgres(moments: Moments) -> None:
    connect = psycopg.Connection.connect.__func__  # type: ignore[attr-defined]

    def connected(cls: Any, **options: Any) -> Any:
        made = connect(PostgresConnection, **options)
        made.moments = moments
        return made

    psycopg.Connection.connect = classmethod(connected)  # type: ignore[assignment, arg-type]


class JumpingClock:
    """Real time plus every wait, which is over at once."""

    def __init__(self) -> None:
        self._ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def monotonic(self) -> float:
        return self.now().timestamp()

    async def wait(self, event: anyio.Event, seconds: float) -> None:
        self._ahead += timedelta(seconds=seconds)


class Halting:
    """A file in whose middle there is a moment."""

    def __init__(self, file: Any, moments: Moments) -> None:
        self._file, self._moments = file, moments

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Halting:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> None:
        self._file.write(data[: len(data) // 2])
        self._file.flush()
        self._moments.reach("in the middle of a file")
        self._file.write(data[len(data) // 2 :])


def watch_files(moments: Moments) -> None:
    opened = Path.open

    def open_file(self: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        file = opened(self, mode, *rest, **more)
        return Halting(file, moments) if mode == "xb" else file

    Path.open = open_file  # type: ignore[method-assign]
    for name in ("replace", "hardlink_to"):
        move = getattr(Path, name)
        setattr(Path, name, _around(moments, f"{name} of a file", move))


def _around(moments: Moments, label: str, move: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *paths: moments.around(label, functools.partial(move, *paths))


def watch_requests(moments: Moments) -> None:
    bare, sent, next_event = client.new_client, Submission._submit_and_read, EventStream.next_event
    whose: ContextVar[str] = ContextVar("whose", default="a request's")

    async def told(event: str, info: Any, earlier: Any = None) -> None:
        if earlier:
            await earlier(event, info)
        if event == "http11.send_request_body.complete":
            moments.reach(f"{whose.get()} last byte left")
        elif event == "http11.receive_response_headers.complete":
            moments.reach(f"{whose.get()} answer came")

    async def submit(*what: Any) -> Any:
        whose.set("the submit's")
        try:
            return await sent(*what)
        finally:
            whose.set("a request's")

    async def follow(request: Any) -> None:
        earlier = request.extensions.get("trace")
        request.extensions = {**request.extensions, "trace": functools.partial(told, earlier=earlier)}

    async def event(self: Any) -> Any:
        came = await next_event(self)
        moments.reach("an event of a stream came")
        return came

    client.new_client = lambda **options: bare(verify=NO_TLS, event_hooks={"request": [follow]}, **options)
    guarded_transport.connections = connections
    Submission._submit_and_read = submit  # type: ignore[method-assign,assignment]
    EventStream.next_event = event  # type: ignore[method-assign]


NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Reading the system's certificates takes longer than a case, and here is nothing but loopback."""


connections = functools.partial(guarded_transport.connections, verify=NO_TLS)


def no_flushes(service: ImageService) -> None:
    """Leave flushing to the system: a killed process loses nothing by it, and most of a case's time goes there."""
    if service.config.database_url:
        return
    sqlite_of(service.store.plain).connection.execute("PRAGMA synchronous=OFF")


async def work(case: dict[str, Any]) -> None:
    clock, moments = JumpingClock(), Moments(case["fatal"], Path(case["trace"]))
    watch_postgres(moments)
    with mock.patch.object(migrations, "migrate", machine.copy_migrated):
        service = ImageService(settings.read(case["environ"]).setup, clock)
    no_flushes(service)
    if not service.config.database_url:
        database = sqlite_of(service.store.plain)
        database.connection = Connection(database.connection, moments)  # type: ignore[assignment]
    watch_files(moments)
    watch_requests(moments)
    terms = Terms(wait_s=0, save_to=case["save_to"])
    if case["tool"] == "chain":
        await service.make(Request("edit_chain", tuple(case["steps"]), tuple(case["images"])), terms)
    else:
        request = Request("edit_sequence", (case["steps"][0],), tuple(case["images"]), count=case["count"])
        await service.make(request, terms)
    while service.store.plain.unfinished():
        if not await service.worker.step():
            await clock.wait(service.worker.notifier.next, 1.0)
    die()


async def warm_up() -> None:
    """Import what a job needs only later."""
    PIL.Image.init()
    machine.migrated()
    assert [processing, uploads, *(providers.load(name) for name in providers.names())]
    await client.new_client(verify=NO_TLS).aclose()


def killed(line: str) -> int:
    """Run one case in a process of its own and return how that ended."""
    if not FORKS:
        return subprocess.run([sys.executable, __file__, line], check=False).returncode
    pid = os.fork()
    if pid == 0:
        try:
            anyio.run(work, json.loads(line))
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    if len(sys.argv) > 1:
        anyio.run(work, json.loads(sys.argv[1]))
    else:
        anyio.run(warm_up)
        gc.collect()
        gc.freeze()  # a collection in a forked process would copy every page that holds an object
        gc.disable()
        for line in sys.stdin:
            sys.stdout.write(f"{killed(line)}\n")
            sys.stdout.flush()
