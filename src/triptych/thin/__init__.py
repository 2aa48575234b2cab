"""The thin start: the stdio server until its first real work, with the standard library alone.

    __init__ -> pipe, environment, snapshots, database -> session -> messages

A client that only connects gets its answers from a snapshot that the real server wrote (`server.snapshots`). A message
without an answer there, or unfinished work in the database, starts the real server in the same process. It reads the
pipe on from there and knows the conversation (`pipe.HandedOver`).

Rules: the modules import only the standard library and each other. Everything that is not exactly as expected is left
to the real server: see `messages`.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from triptych.thin import database, environment, snapshots
from triptych.thin.messages import Unknown
from triptych.thin.pipe import HandedOver, Pipe
from triptych.thin.session import Session

TYPE_CHECKING = False  # importing `typing` costs a start
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["HandedOver", "environment", "images", "messages", "run", "session", "snapshots"]

FIRST_LOOK_S = 1.0
"""As in the real server, so that a client waits for nothing but the start."""
LOOK_EVERY_S = 15.0


def run(
    environ: Mapping[str, str],
    *,
    now: Callable[[], float] = time.monotonic,
    clock: Callable[[], float] = database.clock,
) -> HandedOver | None:
    """Serve the client on stdin and stdout; return the stdin of the real server once that is needed.

    None: a thin start is not possible, and nothing of stdin was read. At the end of stdin, and on SIGTERM and SIGINT,
    the process ends. `now` counts seconds; `clock` is that of the times in the database.
    """
    home = environment.home(environ)
    snapshot = snapshots.find(home)
    if not home or not snapshot or not environment.is_judged(environ, snapshot.providers, snapshot.urls):
        return None
    _end_on_signals()
    pipe = Pipe(os.dup(0))
    pipe.start()
    usable = environment.usable(environ, snapshot.providers)
    rows = database.Database(home, snapshot, usable, clock)
    session = Session(snapshot, rows.images)
    try:
        serve(session, pipe, rows, now)
    except Unknown as reason:
        _tell_news(session)
        if sys.platform == "win32":
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return HandedOver(pipe, session.replayed(), isinstance(reason, database.Work))
    sys.exit(0)


def serve(session: Session, pipe: Pipe, rows: database.Database, now: Callable[[], float]) -> None:
    """Answer until the client closes the pipe. Raises: `Unknown` when the real server is needed."""
    look_at, has_work = now() + FIRST_LOOK_S, rows.has_work
    while True:
        line = pipe.line(look_at, now)
        if line is not None:
            try:
                _send(session.answer(line))
            except Unknown:
                pipe.unread(line)
                raise
        elif pipe.ended:
            _send(session.farewell())
            return
        if now() >= look_at:
            if has_work():
                raise database.Work
            _send(session.news())
            look_at, has_work = now() + LOOK_EVERY_S, rows.has_overdue_work


def _tell_news(session: Session) -> None:
    """Tell the client of new images, if they can be read: the real server tells only later changes."""
    try:
        _send(session.news())
    except Unknown:
        return


def _send(lines: bytes) -> None:
    if lines:
        try:
            sys.stdout.buffer.write(lines)
            sys.stdout.buffer.flush()
        except OSError:  # the client is gone
            os._exit(1)


def _end_on_signals() -> None:
    """End as the real server does: with 0 where it handles the signals, else as the system does."""
    if sys.platform == "win32":  # waiting for a line there, Python itself would notice Ctrl-C only with the next one
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
