"""PostgreSQL as the program sees it: a real server and real locks, a seam before and after every statement.

All simulated processes are greenlets of one thread, so a statement that waits for a lock must not stop the thread: it
is sent, and while the server says that it waits, its process waits in virtual time. Before anybody else goes on, each
statement that waited has either its answer or waits again: so the order is that of the locks, and a seed repeats. The
timeouts that the program sets, deadlocks and the server's clock are of virtual time too.

Not simulated: the disk of the server, what a crash takes of commits without a flush, and LISTEN.
"""

from __future__ import annotations

import functools
import multiprocessing.util
import random
import re
import select
from typing import Any

import psycopg
from greenlet import getcurrent
from psycopg import pq
from psycopg.rows import dict_row

from simulation.faults import injected, spread
from simulation.here import here
from simulation.loop import PROCESS, Killed, Process
from support import postgres
from triptych.core.states import LEASE_S

real_connect = psycopg.Connection.connect.__func__  # type: ignore[attr-defined]
TEMPLATE, NAME = "simulation_template", "simulated"
NEAR_S = 0.005
"""Real time after which the server is asked whether a statement waits for a lock."""
FIRST_LOOK_S, LOOK_S = 0.002, 0.1
EPOCH_S = 1_800_000_000.0
CLAIMS = "UPDATE predictions SET lease = %(lease)s || id"
TIMEOUT = re.compile(r"SET LOCAL (\w+)_timeout = '(\d+)s'; ")
SERVER_TIME = "extract(epoch FROM clock_timestamp())"
WRITES = frozenset({"INSERT", "UPDATE", "DELETE", "COMMIT"})
HISTORY = f"""
CREATE TABLE history (
  rowid BIGSERIAL PRIMARY KEY, what TEXT, id TEXT, was TEXT, now TEXT, at DOUBLE PRECISION, by BIGINT
);
CREATE FUNCTION sim_note(what TEXT, id TEXT, was TEXT, now TEXT) RETURNS void LANGUAGE sql AS $$
  INSERT INTO history (what, id, was, now, at, by) VALUES (what, id, was, now,
    COALESCE(current_setting('sim.now', true), '0')::float8, COALESCE(current_setting('sim.by', true), '0')::bigint)
$$;
CREATE FUNCTION sim_job() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
  PERFORM sim_note('job', NEW.id, CASE TG_OP WHEN 'INSERT' THEN '' ELSE OLD.status END, NEW.status);
  RETURN NULL;
END $$;
CREATE FUNCTION sim_prediction() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
  IF OLD.state <> NEW.state THEN PERFORM sim_note('prediction', NEW.id, OLD.state, NEW.state); END IF;
  IF OLD.lease <> NEW.lease AND OLD.lease_until <> NEW.lease_until
     AND OLD.lease_until > NEW.lease_until - {LEASE_S} + 0.001 THEN
    PERFORM sim_note('lease', NEW.id, OLD.lease_until::text, (NEW.lease_until - {LEASE_S})::text);
  END IF;
  RETURN NULL;
END $$;
CREATE FUNCTION sim_new_job() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
  PERFORM sim_note('job', NEW.id, '', NEW.status);
  RETURN NULL;
END $$;
CREATE TRIGGER history_of_new_jobs AFTER INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION sim_new_job();
CREATE TRIGGER history_of_jobs AFTER UPDATE OF status ON jobs FOR EACH ROW WHEN (OLD.status <> NEW.status)
EXECUTE FUNCTION sim_job();
CREATE TRIGGER history_of_predictions AFTER UPDATE OF state, lease ON predictions FOR EACH ROW
EXECUTE FUNCTION sim_prediction();
"""
ERRORS: tuple[tuple[type[psycopg.Error], str], ...] = (
    (psycopg.errors.SerializationFailure, "could not serialize access due to concurrent update"),
    (psycopg.errors.DeadlockDetected, "deadlock detected"),
    (psycopg.errors.LockNotAvailable, "canceling statement due to lock timeout"),
    (psycopg.errors.QueryCanceled, "canceling statement due to statement timeout"),
    (psycopg.errors.DiskFull, "could not extend file: No space left on device"),
    (psycopg.errors.OutOfMemory, "out of memory"),
    (psycopg.errors.ReadOnlySqlTransaction, "cannot execute UPDATE in a read-only transaction"),
)
"""What a server answers to a statement, which ends its transaction."""
LOST: tuple[tuple[type[psycopg.Error], str], ...] = (
    (psycopg.OperationalError, "consuming input failed: server closed the connection unexpectedly"),
    (psycopg.OperationalError, "sending query failed: Connection reset by peer"),
    (psycopg.OperationalError, "consuming input failed: could not receive data from server: Connection timed out"),
    (psycopg.errors.AdminShutdown, "terminating connection due to administrator command"),
    (psycopg.errors.CrashShutdown, "terminating connection because of crash of another server process"),
)
REFUSED: tuple[tuple[type[psycopg.Error], str], ...] = (
    (psycopg.OperationalError, "connection failed: Connection refused"),
    (psycopg.OperationalError, "connection failed: FATAL:  the database system is starting up"),
    (psycopg.errors.ConnectionTimeout, "connection timeout expired"),
)
TOO_MANY = (psycopg.OperationalError, "connection failed: FATAL:  sorry, too many clients already")
STANDBY = (psycopg.OperationalError, "connection failed: session is read-only")

SPELLS = {
    "postgres restarts": (0.5, 20.0),
    "postgres fails over": (0.5, 30.0),
    "postgres has too many connections": (1.0, 40.0),
}
"""Conditions that only a database server has, with the range of their lengths in seconds."""


def error(kind: tuple[type[psycopg.Error], str]) -> psycopg.Error:
    made: psycopg.Error = injected(kind[0](kind[1]))
    return made


@functools.cache
def server() -> postgres.Server:
    """Return this process's server, with a template of a world's database."""
    started = postgres.server()
    multiprocessing.util.Finalize(None, started.stop, exitpriority=1)  # a process of a pool runs no `atexit`
    name = started.create()
    started.execute(HISTORY, name)
    started.execute(f"ALTER DATABASE {name} RENAME TO {TEMPLATE}")
    return started


class Engine:
    """The database of one world, as one that knows the server sees it."""

    def __init__(self, world: Any) -> None:
        self._world = world
        self._server = server()
        self._server.drop(NAME)
        self._server.execute(f"CREATE DATABASE {NAME} TEMPLATE {TEMPLATE}")
        self.url = self._server.url(NAME)
        self.directory = str(self._server.directory)
        self._admin = real_connect(psycopg.Connection, self.url, autocommit=True)
        self.waiting: dict[Connection | Late | Ghost, None] = {}
        self.not_written: set[str] = set()
        """The tokens of the transactions whose callers learned that nothing is written."""
        self.ahead_s = 0.0
        """How far the server's clock is ahead of true time."""

    def close(self) -> None:
        self._admin.close()
        self._server.drop(NAME)

    def reader(self) -> Reader:
        return Reader(self)

    def now_s(self) -> float:
        """Return the server's clock."""
        return EPOCH_S + float(self._world.loop.now) + self.ahead_s

    def blockers(self, pid: int) -> list[int]:
        """Return the sessions that a session waits for."""
        row = self._admin.execute("SELECT pg_blocking_pids(%s)", [pid]).fetchone()
        return list(row[0]) if row else []

    def settle(self) -> None:
        """Return once every statement that waited has its answer, or waits again."""
        while self.waiting:
            found = self._admin.execute(
                "SELECT pid, state = 'active' AND cardinality(pg_blocking_pids(pid)) = 0 FROM pg_stat_activity "
                "WHERE pid = ANY(%s)",
                [[waits.pid for waits in self.waiting]],
            ).fetchall()
            present = {pid for pid, _ in found}
            for waits in list(self.waiting):
                if waits.pid not in present:
                    self.waiting.pop(waits)
            if not any(goes_on for _, goes_on in found):
                return

    def gone(self, pid: int) -> None:
        """Return once a session has ended, and what waited for it goes on; one that waits for a lock notices late."""
        while True:
            row = self._admin.execute(
                "SELECT state = 'active' AND cardinality(pg_blocking_pids(pid)) > 0 FROM pg_stat_activity "
                "WHERE pid = %s",
                [pid],
            ).fetchone()
            if row and row[0]:
                self.waiting[Ghost(pid)] = None
            if not row or row[0]:
                break
        self.settle()

    def in_a_circle(self, connection: Connection) -> bool:
        """Return whether a statement waits, by way of others, for itself."""
        seen: set[int] = set()
        ahead = self.blockers(connection.pid)
        while ahead:
            pid = ahead.pop()
            if pid == connection.pid:
                return True
            if pid not in seen:
                seen.add(pid)
                ahead += self.blockers(pid)
        return False

    def end_idle(self) -> None:
        """End the sessions whose transaction has stood still for longer than they allow."""
        for connection in self._world.connections:
            if isinstance(connection, Connection) and connection not in self.waiting and connection.is_overdue():
                connection.lose()

    def restart(self, ahead_s: float) -> None:
        """End every session; the server's clock is another one's afterwards."""
        self.ahead_s = ahead_s
        for connection in self._world.connections:
            if isinstance(connection, Connection):
                connection.lose()

    def hold_lock(self) -> Any:
        """Lock every writer out, as a program that nobody here knows; `close` lets go."""
        held = real_connect(Locker, self.url, autocommit=False)
        held.engine = self
        try:
            held.execute("LOCK TABLE jobs, predictions IN SHARE ROW EXCLUSIVE MODE NOWAIT")
        except psycopg.Error:
            held.close()
            return None
        return held


class Ghost:
    """A session that waits for a lock and whose client is gone."""

    def __init__(self, pid: int) -> None:
        self.pid = pid


class Locker(psycopg.Connection[Any]):
    """A session that holds locks."""

    engine: Engine

    def close(self) -> None:
        if not self.closed:
            pid = self.info.backend_pid
            super().close()
            self.engine.gone(pid)


class Connection(psycopg.Connection[Any]):
    """A connection of one simulated process."""

    world: Any = None
    process: Process
    pid = 0
    lost = False
    began_s = 0.0
    """When its last statement ended."""
    reserves = False
    """Whether this transaction has written a job."""
    _text: Any = ""
    _values: Any = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.timeouts_s: dict[str, float] = {}

    __hash__ = object.__hash__

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        if self.world is None:
            return super().execute(query, params, **options)
        if isinstance(query, str):
            if query.startswith("BEGIN"):
                self.timeouts_s = {name: float(seconds) for name, seconds in TIMEOUT.findall(query)}
                query = TIMEOUT.sub("", query)
            if query.startswith("SELECT"):
                query = query.replace(SERVER_TIME, str(self.world.postgres.now_s()))
            if query.startswith(CLAIMS):
                self.world.holders[params["lease"].rstrip("-")] = self.process
        self._text, self._values = query, params
        return super().execute(query, params, **options)

    def rollback(self) -> None:
        self._text = "ROLLBACK"
        super().rollback()

    def close(self) -> None:
        """Close; what it held is free on return."""
        if self.world is None or self.world.loop.over:
            super().close()
            return
        if self in self.world.connections:
            self.world.connections.remove(self)
        holds = self.info.transaction_status not in (pq.TransactionStatus.IDLE, pq.TransactionStatus.UNKNOWN)
        super().close()
        if holds:
            self.world.postgres.gone(self.pid)

    def lose(self) -> None:
        """Let the connection break; the server undoes its transaction."""
        if not self.lost:
            self.lost = True
            self.pgconn.finish()
            self.world.postgres.gone(self.pid)

    def is_overdue(self) -> bool:
        """Return whether its transaction stands still for longer than the server allows."""
        allowed_s = self.timeouts_s.get("idle_in_transaction_session")
        inside = self.info.transaction_status in (pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR)
        return bool(allowed_s and inside and self.world.loop.now - self.began_s > allowed_s)

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        world = self.world
        if world is None:
            return super().wait(gen, interval, timeout)
        if world.loop.over:
            gen.close()
            raise Killed
        text, values, self._text, self._values = self._text, self._values, "", None
        word = _word(text)
        if word == "BEGIN":  # also where nobody waits for what they hold
            world.postgres.end_idle()
        if self.is_overdue():
            self.lose()
        world.seam(self.process, f"db.{word.lower()}")
        self._meet(word, text, values)
        alone = self.info.transaction_status == pq.TransactionStatus.IDLE
        if word != "ROLLBACK" and not str(text).startswith(("SELECT", "BEGIN; SELECT", "COMMIT")):
            self.pgconn.exec_(f"SET sim.now = '{world.loop.now!r}'".encode())
        self.reserves = self.reserves or not text  # many rows at once: a job's
        try:
            done = self._drive(gen)
        finally:
            self.began_s = world.loop.now
            if not self.closed and self.info.transaction_status == pq.TransactionStatus.IDLE:
                world.postgres.settle()
        if word == "COMMIT" or (word in WRITES and alone):
            self._committed(word)
        if word in ("COMMIT", "ROLLBACK"):
            self.reserves = False
        return done

    def _committed(self, word: str) -> None:
        if self.reserves:
            self.world.reserved()
        self.world.seam(self.process, "db.committed")
        if lot := self.world.lot("acknowledgement", f"{self.process}.{word}.done"):
            lot.is_("lost", word)
            self.lose()
            raise error(lot.choice(LOST))

    def _drive(self, gen: Any) -> Any:
        """Send a statement and return its answer; wait for locks in virtual time."""
        if self.lost:
            raise error(LOST[0])
        engine, file = self.world.postgres, self.pgconn.socket
        try:
            state = next(gen)
            while True:
                ready = _ready(file, state, NEAR_S)
                if not ready and engine.blockers(self.pid):
                    engine.waiting[self] = None
                    try:
                        self._wait_for_lock(file, state)
                    finally:
                        engine.waiting.pop(self, None)
                elif ready:
                    state = gen.send(ready)
        except StopIteration as end:
            return end.value

    def _wait_for_lock(self, file: int, state: int) -> None:
        world, engine, waited_s, look_s = self.world, self.world.postgres, 0.0, FIRST_LOOK_S
        longest_s = self.timeouts_s.get("lock", 1e9) if self.info.transaction_status else 1e9
        while True:
            kind = None
            if engine.in_a_circle(self):
                kind = psycopg.errors.DeadlockDetected("deadlock detected")
            elif waited_s >= longest_s or not world.loop.can_block():
                kind = psycopg.errors.LockNotAvailable("canceling statement due to lock timeout")
            if kind:
                self.pgconn.get_cancel().cancel()
                while not _ready(file, 1, 1.0):
                    pass
                raise kind
            self.process.still_s += look_s
            world.loop.block(look_s)
            waited_s, look_s = waited_s + look_s, min(2 * look_s, LOOK_S)
            if not self.process.alive:
                raise Killed
            if self.lost:
                raise error(LOST[0])
            if _ready(file, state, 0):
                return
            engine.end_idle()

    def _meet(self, word: str, text: Any, values: Any) -> None:
        """Fail as the world wants it, before the statement does anything."""
        world, process = self.world, self.process
        if self.lost:
            raise error(LOST[0])
        if word in WRITES and (spell := world.spell("database full")):
            spell.met(f"{process} {word}")
            self._refuse(error(ERRORS[4]))
        if word in WRITES and (spell := world.spell("database read-only")):
            spell.met(f"{process} {word}")
            self._refuse(error(ERRORS[6]))
        if word == "COMMIT" and (lot := world.lot("acknowledgement", f"{process}.COMMIT")):
            # The connection breaks while the COMMIT is on its way: it arrives later, if the session still lives.
            late_s = spread(lot, 0.001, 4)
            lot.is_("late", f"COMMIT after {late_s:.3f} s")
            self._arrive_later(psycopg.ClientCursor(self).mogrify(text, values), late_s)
            raise error(lot.choice(LOST[:3]))
        if word == "ROLLBACK":
            return
        if lot := world.lot("database", f"{process}.{word}", times=2.0 if word == "COMMIT" else 1.0):
            draw = lot.random()
            if draw < 0.25:
                slow_s = spread(lot, 0.05, 20)
                lot.is_("slow", f"{word} {slow_s:.1f} s")
                process.still_s += slow_s
                world.loop.block(slow_s)
                if self.lost:
                    raise error(LOST[0])
            elif draw < 0.6:
                lot.is_("connection lost", word)
                self.lose()
                raise error(lot.choice(LOST))
            elif draw < 0.65:
                lot.is_("MemoryError", word)
                raise injected(MemoryError())
            else:
                kind = lot.choice(ERRORS)
                lot.is_(kind[0].__name__, word)
                self._refuse(error(kind))

    def _refuse(self, refusal: Exception) -> None:
        """Raise an error of the server, which fails the transaction."""
        if self.info.transaction_status == pq.TransactionStatus.INTRANS:
            self.pgconn.exec_(b"SELECT 1/0")
        raise refusal

    def _arrive_later(self, text: str, late_s: float) -> None:
        """Break the connection for the client; the server gets one more text on it."""
        late = Late(self, text)
        self.pgconn, self.lost = pq.PGconn.connect_start(b"host=/nowhere"), True
        self.pgconn.finish()
        self.world.loop.at(late_s, late.arrive)


class Late:
    """A session whose client is gone, and the text that is still on its way to it."""

    def __init__(self, client: Connection, text: str) -> None:
        self.pid, self._session = client.pid, client.pgconn
        self._world, self._text, self._reserves = client.world, text, client.reserves

    def arrive(self) -> None:
        """Let the text arrive."""
        self._session.send_query(self._text.encode())
        self._session.flush()
        self._answer()

    def _answer(self) -> None:
        world, engine, session = self._world, self._world.postgres, self._session
        engine.waiting.pop(self, None)
        while session.is_busy():
            if _ready(session.socket, 1, NEAR_S):
                session.consume_input()
            elif engine.blockers(self.pid):
                engine.waiting[self] = None
                engine.end_idle()
                world.loop.at(LOOK_S, self._answer)
                return
        while session.get_result():
            pass
        if self._reserves:
            world.reserved()
        is_written = session.transaction_status == pq.TransactionStatus.IDLE
        world.note(f"late COMMIT: {is_written}")
        if is_written and any(token in self._text for token in engine.not_written):
            world.wrong("a write arrived after its error", self._text[:200])
        session.finish()
        engine.gone(self.pid)


def _word(text: Any) -> str:
    if not isinstance(text, str) or not text:
        return "INSERT"
    return "COMMIT" if text.endswith("COMMIT") else text.lstrip()[:12].upper().partition(" ")[0].rstrip(";")


def _ready(file: int, state: int, seconds: float) -> int:
    """Return which of the waits of psycopg is over, after at most so much real time."""
    poll = select.poll()
    poll.register(file, (select.POLLIN if state & 1 else 0) | (select.POLLOUT if state & 2 else 0))
    found = 0
    for _, event in poll.poll(seconds * 1000):
        found |= state & (1 if event & ~select.POLLOUT else 0) | state & (2 if event & select.POLLOUT else 0)
    return found


def connect(cls: Any, conninfo: str = "", **options: Any) -> Any:
    """Stand in for `psycopg.Connection.connect`: in a simulated server with seams, everywhere else as it is."""
    world, process = here(), PROCESS.get()
    if world is None or process is None or process.kind != "server":
        return real_connect(cls, conninfo, **options)
    world.seam(process, "db.connect")
    kind = None
    for spell_kind, refusal in (
        ("postgres restarts", REFUSED[0]),
        ("postgres fails over", STANDBY),
        ("postgres has too many connections", TOO_MANY),
        ("database read-only", STANDBY),
    ):
        if spell := world.spell(spell_kind):
            spell.met(f"{process} connects")
            kind = refusal
    if kind is None and (lot := world.lot("database", f"{process}.connect", times=5.0)):
        kind = lot.choice((*REFUSED, TOO_MANY))
        lot.is_("connection refused", kind[1])
    if kind:
        raise error(kind)
    options["options"] = f"-c sim.by={process.number} -c deadlock_timeout=600s"
    made = real_connect(Connection, conninfo, **options)
    made.process, made.pid, made.world = process, made.info.backend_pid, world
    world.connections.append(made)
    return made


def install() -> None:
    """Lead the program's connections to the world that runs."""
    import triptych.storage.postgres

    real_listener = triptych.storage.postgres.Database.listener
    real_question = triptych.storage.postgres.Database._was_committed

    def was_committed(database: Any, token: str, lost: Any) -> bool:
        is_written, world = real_question(database, token, lost), here()
        if world and not is_written:
            world.postgres.not_written.add(token)
        return is_written

    triptych.storage.postgres.Database._was_committed = was_committed  # type: ignore[method-assign]
    psycopg.Connection.connect = classmethod(connect)  # type: ignore[assignment]
    triptych.storage.postgres._Here = Here  # type: ignore[misc, assignment]
    triptych.storage.postgres.Database.listener = (  # type: ignore[method-assign]
        lambda database: None if here() else real_listener(database)  # type: ignore[assignment, return-value]
    )


class Here:
    """The state of one worker thread, which is a greenlet."""

    def __init__(self) -> None:
        object.__setattr__(self, "_states", {})

    def _state(self) -> dict[str, Any]:
        key = getcurrent() if here() else None
        fresh: dict[str, Any] = {
            "connection": None, "no_fsync": False, "wrote": False, "versions": (0, 0), "told": [],
        }  # fmt: skip
        found: dict[str, Any] = self.__dict__["_states"].setdefault(key, fresh)
        return found

    def __getattr__(self, name: str) -> Any:
        return self._state()[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self._state()[name] = value


class Reader:
    """The audit's own connection; the database has the triggers from the beginning."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._db: Any = None

    def all(self, sql: str, *args: Any) -> list[Any]:
        """Return every row."""
        if self._db is None:
            self._db = real_connect(psycopg.Connection, self._engine.url, autocommit=True, row_factory=dict_row)
        found: list[Any] = self._db.execute(sql.replace("%", "%%").replace("?", "%s"), args).fetchall()
        return found

    def lay(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None


def plan(chance: random.Random, until_s: float, most: int = 3) -> list[tuple[str, float, float]]:
    """Return what happens to the server: kind, begin, end."""
    planned = []
    for _ in range(chance.randrange(most + 1)):
        kind = chance.choice(list(SPELLS))
        begin_s = chance.uniform(0.5, 0.9 * until_s)
        planned.append((kind, begin_s, begin_s + spread(chance, *SPELLS[kind])))
    return planned
