"""SQLite as the program sees it: real files and real locks, a seam before and after every statement.

A lock that another connection holds is waited for in virtual time, as long as the program asked for. What a commit
wrote with `synchronous=FULL` survives a power cut; what it wrote with less may be lost from the end. The triggers write
down every change of a state, in the transaction that changes it: the audit's history.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg

from simulation.faults import DATABASE_ERRORS, any_database_error, database_error, injected, spread
from simulation.here import here
from simulation.loop import PROCESS, Killed, Process
from triptych.core.states import LEASE_S

real_connect = sqlite3.connect
LOOK_S = 0.1
CLAIMS = "UPDATE predictions SET lease = :lease || id, lease_until = :until"
RESERVES = "INSERT INTO predictions"
WRITES = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE", "CREATE", "ALTER", "DROP"})
HISTORY = (
    "CREATE TABLE IF NOT EXISTS history (what TEXT, id TEXT, was TEXT, now TEXT, at REAL, by TEXT)",
    "CREATE TRIGGER IF NOT EXISTS history_of_jobs AFTER UPDATE OF status ON jobs WHEN old.status IS NOT new.status "
    "BEGIN INSERT INTO history VALUES ('job', new.id, old.status, new.status, sim_now(), sim_by()); END",
    "CREATE TRIGGER IF NOT EXISTS history_of_new_jobs AFTER INSERT ON jobs "
    "BEGIN INSERT INTO history VALUES ('job', new.id, '', new.status, sim_now(), sim_by()); END",
    "CREATE TRIGGER IF NOT EXISTS history_of_predictions AFTER UPDATE OF state ON predictions "
    "WHEN old.state IS NOT new.state "
    "BEGIN INSERT INTO history VALUES ('prediction', new.id, old.state, new.state, sim_now(), sim_by()); END",
    # A claim sets the end of its lease to its own time plus the length of a lease: so its time is known exactly. An
    # answer that came after the lease was lost takes the lease back and leaves its end as it is: that is no claim.
    "CREATE TRIGGER IF NOT EXISTS history_of_leases AFTER UPDATE OF lease ON predictions "
    "WHEN old.lease IS NOT NULL AND new.lease IS NOT NULL AND old.lease IS NOT new.lease "
    "AND old.lease_until IS NOT new.lease_until "
    f"AND old.lease_until > new.lease_until - {LEASE_S} + 0.001 "
    f"BEGIN INSERT INTO history VALUES ('lease', new.id, old.lease_until, new.lease_until - {LEASE_S}, sim_now(), "
    "sim_by()); END",
)


class Connection(sqlite3.Connection):
    """A connection of one simulated process; its own world is asked before and after every statement."""

    world: Any = None
    process: Process
    patience_s = 5.0
    flushes = True
    reserves = False
    """Whether this transaction has written a job."""

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:  # type: ignore[override]
        if self.world is None:
            return super().execute(sql, *args)
        head = sql.lstrip()[:24].upper()
        if head.startswith("PRAGMA SYNCHRONOUS"):
            self.flushes = "FULL" in sql.upper() or sql.rstrip("; ").endswith("2")
            sql = "SELECT 1"
        if head.startswith("PRAGMA BUSY_TIMEOUT"):  # a lock is waited for in virtual time alone
            self.patience_s = float(sql.rpartition("=")[2]) / 1000
            sql = "SELECT 1"
        word = head.partition(" ")[0]
        if sql.startswith(CLAIMS):
            self.world.holders[args[0]["lease"].rstrip("-")] = self.process
        self._meet(word)
        cursor, wrote = self._run(sql, *args), self.reserves
        self.reserves = sql.startswith(RESERVES) or (self.reserves and word not in ("COMMIT", "ROLLBACK", "BEGIN"))
        if word == "COMMIT" and wrote:
            self.world.reserved()
        if word == "COMMIT" or (word in WRITES and not self.in_transaction):
            self.world.disk.committed(self.flushes)
            self.world.seam(self.process, "db.committed")
            self._acknowledge(word)
        return cursor

    def _acknowledge(self, word: str) -> None:
        """Fail after a commit, as a database on another machine does whose answer is lost: what was written stays."""
        if lot := self.world.lot("acknowledgement", f"{self.process}.{word}"):
            lot.is_("lost", word)
            raise database_error(*DATABASE_ERRORS[0])

    def _run(self, sql: str, *args: Any) -> sqlite3.Cursor:
        world, waited_s = self.world, 0.0
        while True:
            try:
                return super().execute(sql, *args)
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    raise
                if waited_s >= self.patience_s or not world.loop.can_block():
                    raise injected(error) from None
                waited_s += LOOK_S
                self.process.still_s += LOOK_S
                world.loop.block(LOOK_S)
                if not self.process.alive:
                    raise Killed from None

    def _meet(self, word: str) -> None:
        """Fail as the world wants it: before anything is done, or with the transaction undone."""
        world = self.world
        world.seam(self.process, f"db.{word.lower()}")
        writes = word in WRITES or word == "COMMIT" or word == "BEGIN"
        error: Exception | None = None
        if writes and (spell := world.spell("database full")) and word != "BEGIN":
            error = database_error(*DATABASE_ERRORS[1])
            spell.met(f"{self.process} {word}")
        elif writes and (spell := world.spell("database read-only")):
            error = database_error(*DATABASE_ERRORS[3])
            spell.met(f"{self.process} {word}")
        elif lot := world.lot("database", f"{self.process}.{word}", times=2.0 if word == "COMMIT" else 1.0):
            if lot.random() < 0.3:
                slow_s = spread(lot, 0.05, 20)
                lot.is_("slow", f"{word} {slow_s:.1f} s")
                if world.loop.can_block():
                    world.loop.block(slow_s)
                self.process.still_s += slow_s  # now: a call that began meanwhile waited for it, too
            else:
                error = any_database_error(lot)
                lot.is_(type(error).__name__, f"{word} {error}")
                if self.in_transaction and lot.random() < 0.5:  # a full disk undoes the transaction by itself
                    super().execute("ROLLBACK")
        if error and word != "ROLLBACK":
            raise error


def connect(database: Any, timeout: float = 5.0, **options: Any) -> sqlite3.Connection:
    """Stand in for `sqlite3.connect`: in a simulated server with seams, everywhere else as it is."""
    world, process = here(), PROCESS.get()
    if world is None or process is None or process.kind != "server":
        return real_connect(database, timeout=timeout, **options)
    world.seam(process, "db.connect")
    if lot := world.lot("database", f"{process}.connect", times=5.0):
        error = any_database_error(lot)
        lot.is_(type(error).__name__, f"connect {error}")
        raise error
    options.pop("factory", None)
    made = real_connect(database, timeout=0, factory=Connection, **options)
    made.execute("PRAGMA page_size=1024")
    made.execute("PRAGMA synchronous=OFF")
    made.execute("PRAGMA wal_autocheckpoint=0")
    made.create_function("sim_now", 0, lambda: world.loop.now)
    made.create_function("sim_by", 0, lambda: process.number)
    made.patience_s = timeout
    made.process = process
    made.world = world
    world.connections.append(made)
    return made


class Reader:
    """The audit's own connection: it only reads, and lays the triggers."""

    def __init__(self, path: Path, now: Any) -> None:
        self._path = path
        self._now = now
        self._db: sqlite3.Connection | None = None
        self._laid = False

    def all(self, sql: str, *args: Any) -> list[sqlite3.Row]:
        """Return every row, or none where there is no database yet."""
        db = self._open()
        return db.execute(sql, args).fetchall() if db else []

    def lay(self) -> None:
        """Lay the triggers, if the tables are there."""
        db = None if self._laid else self._open()
        if db:
            for statement in HISTORY:
                db.execute(statement)
            self._laid = True

    def _open(self) -> sqlite3.Connection | None:
        if self._db is None and self._path.exists():
            db = real_connect(self._path, timeout=0, isolation_level=None)
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'predictions'").fetchone():
                db.close()
                return None
            db.execute("PRAGMA synchronous=OFF")
            db.execute("PRAGMA wal_autocheckpoint=0")
            db.create_function("sim_now", 0, self._now)
            db.create_function("sim_by", 0, lambda: 0)
            db.row_factory = sqlite3.Row
            self._db = db
        return self._db

    def close(self) -> None:
        self._laid = False
        if self._db is not None:
            self._db.close()
            self._db = None


def hold_lock(path: Path) -> sqlite3.Connection | None:
    """Take the write lock as a program that nobody here knows; None where somebody else has it."""
    db = real_connect(path, timeout=0, isolation_level=None)
    try:
        db.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        db.close()
        return None
    return db


def let_go(db: Any) -> None:
    """End what `hold_lock` holds."""
    with closing(db), suppress(sqlite3.Error, psycopg.OperationalError):  # a power cut may have ended it
        db.execute("ROLLBACK")
