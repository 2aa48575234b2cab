"""The thin start and the server that goes on, inside this process: over a real pipe, with stdout in memory."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import anyio
from anyio.from_thread import BlockingPortal
from mcp.server.stdio import stdio_server

from support.wire import HEAR_LIMIT_S, Answers, Out
from triptych import thin
from triptych.server import taking_over
from triptych.server.app import build
from triptych.thin import HandedOver, database, environment, snapshots
from triptych.thin.messages import Unknown
from triptych.thin.pipe import Pipe
from triptych.thin.session import Session


class ThinHere:
    """One session of `triptych` on stdio: `say` bytes, `out` has the answers, `end` closes stdin.

    `woke` tells whether the real server was needed. Time stands still, so the database is not looked at.
    """

    def __init__(self, environ: Mapping[str, str], answers: Answers, portal: BlockingPortal) -> None:
        self.out = Out()
        self.woke = False
        self.failure: BaseException | None = None
        self._answers, self._portal = answers, portal
        self._read_fd, self._write_fd = os.pipe()
        home = environment.home(environ)
        snapshot = snapshots.find(home)
        assert home and snapshot and environment.is_judged(environ, snapshot.providers, snapshot.urls)
        rows = database.Database(home, snapshot, environment.usable(environ, snapshot.providers), database.clock)
        self._session, self._rows = Session(snapshot, rows.images), rows
        self._pipe = Pipe(self._read_fd)
        self._thread = threading.Thread(target=self._run)
        self._pipe.start()
        self._thread.start()

    def say(self, said: bytes) -> None:
        view = memoryview(said)
        while view:
            view = view[os.write(self._write_fd, view) :]

    def end(self) -> list[bytes]:
        """Close stdin; return what is still said."""
        os.close(self._write_fd)
        self._thread.join(30)
        assert not self._thread.is_alive(), "it does not end with its stdin"
        os.close(self._read_fd)
        if self.failure:
            raise self.failure
        return self.out.taken()

    def _run(self) -> None:
        try:
            try:
                with mock.patch.object(thin, "_send", self.out.put):
                    thin.serve(self._session, self._pipe, self._rows, lambda: 0.0)
            except Unknown:
                self.woke = True
                handed = HandedOver(self._pipe, self._session.replayed())
                self._portal.call(self._go_on, handed)
        except BaseException as error:
            self.failure = error
            self.out.put(f"{error!r}\n".encode())  # nobody waits for an answer that does not come

    async def _go_on(self, handed: HandedOver) -> None:
        server = build(self._answers.open_service, remote=False)
        text = io.TextIOWrapper(io.BufferedReader(handed), encoding="utf-8", errors="replace")
        async with stdio_server(anyio.wrap_file(text), self.out) as (incoming, outgoing):  # type: ignore[arg-type]
            fresh = taking_over._WithoutRepeats(outgoing, handed)
            await server.run(incoming, fresh, server.create_initialization_options())


@dataclass(frozen=True, slots=True)
class Judged:
    """Both servers over one home: what the real one answers, and the thin start with what follows it."""

    home: Path
    environ: dict[str, str]
    portal: BlockingPortal
    answers: Answers

    def expected(self, *parts: bytes) -> list[list[bytes]]:
        """Return the real server's lines for each part, and those after the end."""
        return self.portal.call(self.answers.to, parts)

    def thin(self) -> ThinHere:
        return ThinHere(self.environ, self.answers, self.portal)

    def compare(self, parts: Sequence[bytes], limit_s: float = HEAR_LIMIT_S) -> ThinHere:
        """Say each part to both once the one before is answered; return the thin session, which has ended.

        Lines of one part may be answered in any order. Raises: `AssertionError` for another answer, or none.
        """
        expected = self.expected(*parts)
        thin = self.thin()
        try:
            for part, answers in zip(parts, expected, strict=False):
                thin.say(part)
                found = thin.out.taken(len(answers), limit_s)
                assert sorted(found) == sorted(answers), part
        finally:
            rest = thin.end()
        assert sorted(rest) == sorted(expected[-1]), "at the end"
        return thin
