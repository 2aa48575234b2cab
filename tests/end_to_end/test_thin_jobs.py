"""A thin session and the work in the database: it takes over from the dead, leaves the living alone, and tells news."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.servers import SMALL, environ
from support.wire import REAL, Talk
from triptych_emulators import Emulator, running

CLIENT = {"name": "anyone", "version": "1"}
HANDSHAKE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": CLIENT}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": CLIENT,
    "io.modelcontextprotocol/clientCapabilities": {},
}
IMPATIENT = (
    "-c",
    """
import os, sys
from triptych import thin
from triptych.thin import database

thin.FIRST_LOOK_S = 0.0
thin.LOOK_EVERY_S = 0.2

def telling(plain, said):
    def told(*given, **named):
        print(said, file=sys.stderr, flush=True)
        return plain(*given, **named)
    return told

thin.HandedOver = telling(thin.HandedOver, "woke")
overdue = database.Database.has_overdue_work
database.Database.has_overdue_work = telling(overdue, "looked")

from triptych.__main__ import main
main()
""",
)
"""`triptych` that looks at the database often, and says so on stderr; also when the real server starts."""
LATE = (
    IMPATIENT[0],
    IMPATIENT[1].replace(
        "from triptych.__main__",
        "database.OVERDUE_S = 60.0\n"
        "seen = telling(overdue, 'looked')\n"
        "database.Database.has_overdue_work = lambda rows: os.path.exists('look') and seen(rows)\n"
        "from triptych.__main__",
    ),
)
"""The same, but it looks only once there is a file `look`; it takes a living server for alive on a slow machine."""
IDLE = (IMPATIENT[0], IMPATIENT[1].replace("telling(overdue,", "telling(lambda rows: False,"))
"""The same, but no look finds work."""
SLOW = (IMPATIENT[0], IMPATIENT[1].replace("FIRST_LOOK_S = 0.0", "FIRST_LOOK_S = 3600.0"))
"""`triptych` that never looks."""


def line(method: str, request_id: Any = None, **params: Any) -> bytes:
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    if request_id is not None:
        message["id"] = request_id
    return json.dumps(message | ({"params": params} if params else {})).encode() + b"\n"


def make(request_id: Any, _meta: Any = None, **arguments: Any) -> bytes:
    given = {"prompt": "a boat", "wait_s": 0, **arguments}
    more = {"_meta": _meta} if _meta else {}
    return line("tools/call", request_id, name="generate_sequence", arguments=given, **more)


def begun(env: dict[str, str], argv: tuple[str, ...], **options: Any) -> Talk:
    talk = Talk(env, argv, **options)
    talk.say(line("initialize", 0, **HANDSHAKE) + line("notifications/initialized"))
    assert json.loads(talk.hear(1)[0])["id"] == 0
    return talk


def answered(talk: Talk, request_id: Any) -> bytes:
    """Return the answer to a request; what else is said before it is dropped."""
    while True:
        (said,) = talk.hear(1)
        if json.loads(said).get("id") == request_id:
            return said


def changes(talk: Talk, request_id: Any) -> list[bytes]:
    """Return the notifications of new images until the answer to a request, or the first one after it."""
    found, is_answered = [], False
    while not (found and is_answered):
        (said,) = talk.hear(1)
        if json.loads(said).get("method") == "notifications/resources/list_changed":
            found.append(said)
        is_answered = is_answered or json.loads(said).get("id") == request_id
    return found


def until(reached: Callable[[], bool], limit_s: float = 30) -> None:
    end = time.monotonic() + limit_s
    while not reached():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


class Home:
    """A home with a key of the emulator in its settings, and what its database says."""

    def __init__(self, folder: Path, atlas: Emulator) -> None:
        self.path = folder / "home"
        self.env = environ(
            self.path,
            TRIPTYCH_MODELS="builtin",
            ATLASCLOUD_API_KEY=atlas.key or "",
            ATLASCLOUD_BASE_URL=atlas.base_url,
        )

    def sql(self, text: str) -> list[Any]:
        connection = sqlite3.connect(self.path / "triptych.db", timeout=10)
        try:
            with connection:
                return connection.execute(text).fetchall()
        finally:
            connection.close()

    def states(self) -> set[str]:
        return {state for (state,) in self.sql("SELECT state FROM predictions")}

    def left_by_the_dead(self) -> None:
        """Make a paid job in a process that is killed, and let its lease end."""
        server = begun(self.env, REAL)
        server.say(make(1))
        assert b"job_" in answered(server, 1)
        until(lambda: self.states() == {"running"})
        server.process.kill()
        server.end(code=None)
        self.sql("UPDATE predictions SET lease_until = lease_until - 20, due_at = due_at - 20")


@pytest.fixture
def atlas() -> Iterator[Emulator]:
    with running("atlas", latency_s=1.0, max_side=64, price="prompt") as emulator:
        yield emulator


@pytest.fixture
def home(tmp_path: Path, atlas: Emulator) -> Home:
    return Home(tmp_path, atlas)


def test_thin_sessions_finish_the_job_of_a_dead_server_once(home: Home, atlas: Emulator) -> None:
    begun(home.env, REAL).end()  # the database is there before they look
    idle = [begun(home.env, IMPATIENT) for _ in range(2)]
    home.left_by_the_dead()
    until(lambda: home.states() == {"done"})
    for talk in idle:
        assert talk.end() == []
    assert len(atlas.accepted) == 1, "paid once"
    assert any(b"woke" in talk.stderr for talk in idle)


def test_work_that_is_there_at_the_start_wakes_at_once(home: Home, atlas: Emulator) -> None:
    home.left_by_the_dead()
    talk = begun(home.env, IMPATIENT)
    until(lambda: b"woke" in talk.stderr)
    until(lambda: home.states() == {"done"})
    assert talk.end() == []
    assert len(atlas.accepted) == 1


def test_the_work_of_a_living_server_wakes_nobody(home: Home, tmp_path: Path) -> None:
    worker = begun(home.env, REAL)
    worker.say(line("resources/list", 1))
    answered(worker, 1)
    talk = begun(home.env, LATE, cwd=tmp_path)
    worker.say(make(2))
    answered(worker, 2)
    until(lambda: "queued" not in home.states())
    (tmp_path / "look").touch()
    until(lambda: b"looked\nlooked\nlooked" in talk.stderr)
    assert b"woke" not in talk.stderr
    assert talk.end() == []
    worker.end(code=None)


@pytest.mark.parametrize("era", ["2025-11-25", "2026-07-28"])
def test_another_sessions_new_images_are_told_as_by_the_real_server(home: Home, era: str) -> None:
    listen = line("subscriptions/listen", "listen:0", _meta=META, notifications={"resourcesListChanged": True})
    asked = line("resources/list", 1, _meta=META) + listen
    if era != "2026-07-28":
        asked = line("initialize", 0, **HANDSHAKE) + line("notifications/initialized") + line("resources/list", 1)
    env = {name: value for name, value in home.env.items() if not name.startswith("ATLAS")}
    real = Talk(env, REAL)
    real.say(asked + make(7, size=SMALL, wait_s=30, _meta=META if era == "2026-07-28" else None))
    told = [*changes(real, 7), *real.end()]
    talk = Talk(env, IDLE)
    talk.say(asked)
    talk.hear(2)
    until(lambda: b"looked" in talk.stderr)
    maker = begun(env, REAL)
    maker.say(make(1, size=SMALL, wait_s=30, again=True))
    assert b"job_" in answered(maker, 1)
    maker.end()
    assert [*talk.hear(1), *talk.end()] == told
    assert b"woke" not in talk.stderr


def test_news_before_a_wake_are_told_once(home: Home) -> None:
    env = {name: value for name, value in home.env.items() if not name.startswith("ATLAS")}
    talk = Talk(env, SLOW)
    talk.say(line("initialize", 0, **HANDSHAKE) + line("notifications/initialized") + line("resources/list", 1))
    talk.hear(2)
    maker = begun(env, REAL)
    maker.say(make(1, size=SMALL, wait_s=30))
    assert b"job_" in answered(maker, 1)
    maker.end()
    talk.say(line("completion/complete", 2))
    said = [json.loads(one) for one in [*talk.hear(1), *talk.end()]]
    assert sorted(str(one.get("id") or one["method"]) for one in said) == ["2", "notifications/resources/list_changed"]
