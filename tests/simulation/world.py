"""One world: servers over one home, clients, providers, and everything that goes wrong between them, from one seed.

A world lives in four parts: faults, calm (whatever died is started again), rest (every job ends, every failed one is
looked at once more), and a stop. Then `audit` holds the providers' books against the database.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import random
import re
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from contextvars import Context, copy_context
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import anyio

from simulation import here, stand_ins
from simulation.attempts import Attempts
from simulation.clients import Client, Wish, look_again
from simulation.database import Reader, hold_lock, let_go
from simulation.disk import Disk
from simulation.extras import CHANGES, SHARED, has_extras, spoil
from simulation.faults import Faults, Lot, Spell, is_injected, spread
from simulation.loop import PROCESS, Killed, Loop, Machine, Process, TooLong
from simulation.network import CALLER
from simulation.providers import NAMES, WALL_S, Accepted, Provider, plain_picture
from simulation.sets import has_sets
from simulation.strangers import Stranger
from simulation.themes import TABLES, theme_of
from triptych.core.clock import SystemClock
from triptych.storage.async_store import Hop

T = TypeVar("T")

START_S = 20.0
"""A server that cannot start in calm weather within this time never will."""
REST_S = 4000.0
"""Longest time until every job has ended, after the faults have: the longest deadline twice over."""
_ADDRESS = re.compile(r"(?<=cancel scope )[0-9a-f]+|0x[0-9a-f]{6,}")
DAY_S = 86_400.0
STEP_S = 3.0
"""How far the clocks of two database servers differ at most."""
LATE_S = 300.0
"""So long a charge, or an image, may come after the others."""
ON_POSTGRES = 0.1
"""The share of the worlds whose database is PostgreSQL, if nobody chooses."""
UNSETTLED = (
    "SELECT id FROM predictions WHERE state = 'done' AND charged_usd IS NULL AND ticket IS NOT NULL AND attempts < 6"
)
UNFINISHED = "SELECT id, state FROM predictions WHERE state NOT IN ('done', 'failed', 'cancelled', 'uncertain')"


class Clock(SystemClock):
    """A server's clocks: its machine's."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._machine.wall(), UTC)

    def monotonic(self) -> float:
        return self._machine.monotonic()

    async def wait(self, event: anyio.Event, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await event.wait()


class Server:
    """One place for a server; a process is started in it again and again."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.process: Process | None = None
        self.context: Context | None = None
        self.service: Any = None
        self.gone: asyncio.Future[None] = world.loop.create_future()
        self.wanted = False
        """Whether it should be running: not killed, not stopped."""
        self._stop = asyncio.Event()

    @property
    def up(self) -> bool:
        return self.wanted and self.service is not None

    def start(self) -> None:
        self.process = Process(self.name, "server", self.world.machine, blocks=True)
        self.world.processes.append(self.process)
        self.gone = self.world.loop.create_future()
        self._stop = asyncio.Event()
        self.wanted = True
        self.service = None
        self.context = copy_context()
        self.context.run(PROCESS.set, self.process)
        self.world.note(f"{self.name} starts")
        self.world.loop.create_task(self._serve(self.process, self.gone), context=self.context)

    async def _serve(self, process: Process, gone: asyncio.Future[None]) -> None:
        from triptych.jobs.service import open_service

        error: BaseException | None = None
        try:
            async with open_service(self.world.setup(), hop=self.world.hop()) as service:
                self.service = service
                self.world.lay_triggers()
                self.world.note(f"{self.name} is open")
                await self._stop.wait()
        except Exception as caught:
            error = caught
        finally:
            if process.alive and self.process is process:
                opened, self.service = self.service is not None, None
                stopped = self._stop.is_set()
                self.wanted = False
                self.world.loop.kill(process)
                self.world.close_connections(process)
                if not gone.done():
                    gone.set_result(None)
                self.world.note(f"{self.name} ends {'as asked' if stopped else f'by itself: {error!r}'}")
                if opened and not stopped:
                    self.world.wrong("a server ended by itself", f"{self.name}: {error!r}")
                elif error and not is_injected(error) and not self.world.faults_on():
                    self.world.wrong("a server did not start or stop cleanly", f"{self.name}: {error!r}")

    def stop(self) -> None:
        """Ask it to end, as SIGTERM does."""
        self.wanted = False
        assert self.context
        self.world.loop.call_soon(self._stop.set, context=self.context)

    def die(self) -> None:
        """End it where it stands, as SIGKILL does."""
        self.wanted = False
        self.service = None
        if self.process and self.process.alive:
            self.world.loop.kill(self.process)
            self.world.close_connections(self.process)
            self.world.note(f"{self.name} is dead")
        if not self.gone.done():
            self.world.loop.call_soon(lambda: self.gone.done() or self.gone.set_result(None), context=Context())


class World:
    """Everything there is, for one seed; `run` lets it live and returns what the audit found."""

    def __init__(
        self,
        seed: int,
        *,
        only: Collection[str] | None = None,
        without: Collection[str] = (),
        trace: bool = False,
        database: str = "",
    ) -> None:
        self.seed = seed
        drawn = "postgres" if self.chance("database").random() < ON_POSTGRES else "sqlite"
        self.database = database or drawn
        self.postgres: Any = None
        """The server's view of the database, where it is PostgreSQL."""
        self.violations: list[tuple[str, str]] = []
        self.spoil: Callable[[World], None] | None = None
        """What a test does to the books before they are audited."""
        self.notes: list[str] = []
        self._hash = hashlib.blake2b(digest_size=16)
        self._tracing = trace
        self._only, self._without = only, without
        self.home = Path()
        self.directory = ""
        self.accepted: list[Accepted] = []
        self.drawn: dict[str, tuple[str, str, int]] = {}
        self.connections: list[Any] = []
        self.processes: list[Process] = []
        self.uploads: Counter[str] = Counter()
        """Uploads that were sent, by the call that they were sent for."""
        self.attempts = Attempts(self)
        self.holders: dict[str, Process] = {}
        """Which process took predictions under leases that begin so."""
        self.steps: set[tuple[int, str]] = set()
        """What each process works on now: its number, a prediction's id."""
        self.wishes: dict[str, Wish] = {}
        self.calls = 0
        self.lives = 0
        self.theme = theme_of(seed)
        self.extras = has_extras(seed)
        self.sets = has_sets(seed)
        self.entropy = self.chance("entropy")
        self.jitter = self.chance("jitter")

    def chance(self, purpose: str) -> random.Random:
        return random.Random(f"{self.seed}:{purpose}")

    # -- its life

    def run(self) -> None:
        """Let it live from beginning to end, and audit it."""
        from simulation.audit import audit

        root = "/dev/shm" if Path("/dev/shm").is_dir() else None
        self.directory = tempfile.mkdtemp(prefix="triptych-world-", dir=root)
        if self.database == "postgres":
            from simulation import postgres

            self.postgres = postgres.Engine(self)
        self.loop = Loop(self.chance("order"))
        here.enter(self)
        log = _Log(self)
        logger = logging.getLogger("triptych")
        logger.addHandler(log)
        logger.setLevel(logging.INFO if self._tracing else logging.WARNING)
        asyncio.set_event_loop(self.loop)
        try:
            self._make()
            try:
                self.loop.run_until_complete(self._live())
            except TooLong as error:
                self.wrong("time stands still", str(error))
            for context in self.loop.complaints:
                self._complained(context)
            if self.spoil:
                self.spoil(self)
            audit(self)
        finally:
            logger.removeHandler(log)
            self.loop.end()
            asyncio.set_event_loop(None)
            for connection in list(self.connections):
                connection.close()
            self.reader.close()
            here.leave()
            if self.postgres:
                self.postgres.close()
            shutil.rmtree(self.directory, ignore_errors=True)

    def _make(self) -> None:
        chance = self.chance("world")
        self.home = Path(self.directory) / "home"
        self.pictures = Path(self.directory) / "pictures"
        self.pictures.mkdir()
        for n in range(4):
            (self.pictures / f"{n}.png").write_bytes(plain_picture(n))
        self.machine = Machine(self.loop, WALL_S, counts_sleep=chance.random() < 0.7)
        self.wall_s = WALL_S
        self.jumped_s = 0.0
        """The wall clock's steps forward, in all."""
        self.power_cuts_s: list[float] = []
        theme = self.theme
        names = [chance.choice(theme.providers or NAMES)]
        names += chance.sample([name for name in NAMES if name not in names], chance.choice((0, 0, 1, 2)))
        if theme is TABLES and len(names) == 1:
            names.append(next(name for name in ("atlas", "wavespeed") if name not in names))
        self.until_s = chance.uniform(*theme.until_s)
        servers = chance.choice(theme.servers)
        self.faults = Faults(
            str(self.seed),
            self.until_s,
            servers=servers,
            providers=names,
            theme=theme,
            only=self._only,
            without=self._without,
            catalogues=[name for name in names if self.extras and name in SHARED],
        )
        self._plan_for_postgres()
        for spell in self.faults.spells:
            spell.met = lambda what, spell=spell: self._met(spell, what)  # type: ignore[misc]
        budgets = theme.budgets_usd or (None, Decimal(10), Decimal(10), Decimal(1), Decimal("0.3"))
        self.budget_usd = chance.choice(budgets)
        self.confirm_usd = chance.choice((Decimal(100), Decimal(100), Decimal(1), Decimal("0.05")))
        self.models = "live" if self.extras and self.chance("models").random() < 0.9 else "builtin"
        self.providers = {name: Provider(self, name, chance) for name in names}
        self._hosts = {provider.host: provider for provider in self.providers.values()}
        self.reader: Any = Reader(self.home / "triptych.db", lambda: self.loop.now)
        if self.postgres:
            self.reader = self.postgres.reader()
        self.disk = Disk(self, self.home)
        self.servers = [Server(self, f"s{n}") for n in range(1, servers + 1)]
        self.clients = [Client(self, f"c{n}") for n in range(1, chance.choice((2, 3, 4, 5)) + 1)]
        self.strangers = [Stranger(self, provider) for provider in self.providers.values()]
        self.tell(f"{theme.name}; providers {', '.join(names)}; {servers} servers; rates {self.faults.rates}")
        for spell in self.faults.spells:
            self.tell(f"plan {spell}")

    def _plan_for_postgres(self) -> None:
        """Add what happens to a database server alone."""
        if not self.postgres or not any(self.faults.rates.values()):
            return
        from simulation.postgres import plan

        chance = self.chance("postgres")
        for n, (kind, begin_s, end_s) in enumerate(plan(chance, self.until_s)):
            spell = Spell(f"spell:postgres:{n}", kind, begin_s, end_s, random.Random(chance.random()))
            if self.faults.allowed(spell.id):
                self.faults.spells.append(spell)

    def environ(self) -> dict[str, str]:
        settings = {
            "TRIPTYCH_HOME": str(self.home),
            "TRIPTYCH_ALLOWED_DIRS": self.directory,
            "TRIPTYCH_BUDGET_USD": "none" if self.budget_usd is None else str(self.budget_usd),
            "TRIPTYCH_CONFIRM_USD": str(self.confirm_usd),
            "TRIPTYCH_MODELS": self.models,
        }
        if self.postgres:
            settings["TRIPTYCH_DATABASE_URL"] = self.postgres.url
        for provider in self.providers.values():
            settings |= provider.environ()
        return settings

    def setup(self) -> Any:
        from triptych.settings import read as read_settings

        return read_settings(self.environ(), remote=True).setup

    async def _live(self) -> None:
        for spell in self.faults.spells:
            self.loop.at(spell.begin_s, lambda spell=spell: self._begin(spell))  # type: ignore[misc]
        starts = self.chance("starts")
        for server in self.servers:
            server.start()
            await asyncio.sleep(starts.choice((0.0, 0.0, 0.5)))
        keeping = self.loop.create_task(self._keep_up())
        others = [self.loop.create_task(stranger.live()) for stranger in self.strangers]
        clients = [client.begin() for client in self.clients]
        await asyncio.sleep(max(0.0, self.until_s - self.loop.now))
        self.note("the faults end")
        if self.loop.now < self.until_s:
            await asyncio.sleep(self.until_s - self.loop.now)
        self.lay_triggers()
        await self._awake()
        _, late = await asyncio.wait(clients, timeout=REST_S)
        for task in late:
            self.wrong("a client was never done", str(task))
        for task in [*others, *clients]:
            task.cancel()
        await self._rest("after the faults")
        await self._look()
        keeping.cancel()
        await self._stop()

    async def _keep_up(self) -> None:
        """Start again what died or could not start, after a while: soon, or long after its leases ran out."""
        chance = self.chance("restarts")
        while True:
            await asyncio.sleep(chance.choice((0.3, 1.0, 3.0, 20.0, 70.0)) if self.faults_on() else 1.0)
            await self._awake()
            for server in self.servers:
                if not server.wanted and (server.process is None or not server.process.alive):
                    server.start()
            self.lay_triggers()

    async def _awake(self) -> None:
        """Return when nothing stands still any more."""
        while still := [p.frozen_until for p in self.processes if p.alive and p.frozen_until]:
            await asyncio.sleep(max(still) - self.loop.now + 0.1)

    def lay_triggers(self) -> None:
        with suppress(sqlite3.Error):
            self.reader.lay()

    async def _rest(self, when: str) -> None:
        """Wait until every prediction has ended, and a little longer for charges that come late."""
        began = self.loop.now
        while self.reader.all(UNFINISHED) or not all(server.up for server in self.servers):
            if self.loop.now - began > REST_S:
                left = [f"{row['id']} {row['state']}" for row in self.reader.all(UNFINISHED)]
                down = [server.name for server in self.servers if not server.up]
                self.wrong("a job never ended", f"{when}: {left}, not up: {down}")
                return
            await asyncio.sleep(1.0)
        for _ in range(int(LATE_S)):
            await asyncio.sleep(1.0)
            if self.loop.now - began > 8.0 and not self.reader.all(UNSETTLED):
                return

    async def _look(self) -> None:
        """Look once more at what failed: what was paid comes home now, and nothing is paid for looking."""
        before, sent = len(self.accepted_by_us()), set(self.attempts.by_id)
        await look_again(self)
        await self._rest("after looking again")
        more = self.accepted_by_us()[before:]
        for accepted in more:
            if accepted.tag.client_id not in sent:
                continue  # a later step of a chain that goes on, since what it waited for came after all
            self.wrong("looking paid", f"{accepted.provider} accepted {accepted.prompt!r} for get_status")

    async def _stop(self) -> None:
        for server in self.servers:
            if server.up:
                server.stop()
        gone = [server.gone for server in self.servers if not server.gone.done()]
        if gone:
            _, late = await asyncio.wait(gone, timeout=30.0)
            if late:
                self.wrong("a server did not stop", str([s.name for s in self.servers if not s.gone.done()]))

    # -- what the seams ask

    def faults_on(self) -> bool:
        return self.loop.now < self.until_s

    def seam(self, process: Process, point: str, *, times: float = 1.0) -> None:
        """Perhaps kill or freeze a process where it stands; `times` makes it likelier."""
        if self.loop.over or not process.alive:
            if self.loop.over:
                raise Killed
            self.loop.block(math.inf)
        if self.faults.gentle:
            return
        if lot := self.lot("kill", f"{process}.{point}", times=times):
            lot.is_("kill", f"{process} at {point}")
            self.server(process.name).die()
            self.loop.block(math.inf)
        if lot := self.lot("freeze", f"{process}.{point}", times=times):
            seconds = spread(lot, 0.5, 20) if lot.random() < 0.5 else spread(lot, 20, 200)
            lot.is_("freeze", f"{process} at {point} for {seconds:.1f} s")
            self.loop.freeze(process, seconds)
            self.loop.block(0.0)

    def lot(self, family: str, point: str, *, times: float = 1.0) -> Lot | None:
        if not self.faults.rates[family]:
            return None
        lot = self.faults.lot(family, point, self.loop.now, times=times)
        if lot and self._tracing:
            name, happened = lot.name, lot.is_

            def told(kind: str, detail: str = "") -> None:
                happened(kind, detail)
                self.tell(f"FAULT {name}: {kind} {detail}")

            lot.is_ = told  # type: ignore[method-assign]
        return lot

    def spell(self, kind: str, of: str = "") -> Any:
        """Return the condition of this kind that holds now, if one does."""
        now = self.loop.now
        if now >= self.until_s or not self.faults.spells:
            return None
        for spell in self.faults.spells:
            if spell.kind == kind and spell.begin_s <= now < spell.end_s and spell.of == of:
                return spell
        return None

    def _met(self, spell: Spell, what: str) -> None:
        self.faults.happened(spell.id, f"spell: {spell.kind}", str(spell))
        self.tell(f"FAULT {spell.id}: {spell.kind} {what}")

    def _begin(self, spell: Spell) -> None:
        kind, lasts_s = spell.kind, spell.end_s - spell.begin_s
        if kind == "database locked":
            file = self.home / "triptych.db"
            held: Any = self.postgres.hold_lock() if self.postgres else hold_lock(file) if file.exists() else None
            if held:
                self._met(spell, "")
                self.connections.append(held)
                self.loop.at(min(lasts_s, max(0.0, self.until_s - self.loop.now)), lambda: let_go(held))
        elif kind.startswith("postgres"):
            self._met(spell, "")
            if kind != "postgres has too many connections":
                steps = kind == "postgres fails over"
                self.postgres.restart(spell.chance.uniform(-STEP_S, STEP_S) if steps else self.postgres.ahead_s)
        elif kind.startswith("wall clock"):
            hours = spell.chance.choice((0.02, 0.2, 1, 2, 25))
            forward = kind.endswith("forward")
            if not forward and not self.machine.counts_sleep:
                return  # set back by as much as it slept, no clock of the machine shows the sleep
            self.machine.wall_s += 3600 * hours * (1 if forward else -1)
            self.jumped_s += 3600 * hours if forward else 0
            self._met(spell, f"{hours} h")
        elif kind in CHANGES:
            self.providers[spell.of].catalogue.publish()
            self._met(spell, spell.of)
            with suppress(OSError, ValueError):
                spoil(kind, self.home / "catalogues" / f"{spell.of}.json")
        elif kind.startswith("machine suspended"):
            if self.machine.awake_s > self.loop.now:
                return  # it sleeps already
            here_ = [p for p in self.processes if p.alive and p.machine is self.machine]
            self.loop.suspend(self.machine, here_, lasts_s)
            self._met(spell, f"{lasts_s:.0f} s")
        elif kind == "power cut":
            self._met(spell, "")
            for server in self.servers:
                server.die()
            self.disk.cut_power(spell.chance, self._close_all)
            self.machine.reboot()
            self.power_cuts_s.append(self.loop.now)
        elif kind.startswith("server"):
            server = self.server(spell.of)
            if not (server.process and server.process.alive):
                return
            self._met(spell, server.name)
            if kind == "server frozen":
                self.loop.freeze(server.process, lasts_s)
            elif kind == "server killed":
                server.die()
            elif server.up:
                server.stop()

    def _close_all(self) -> None:
        self.reader.close()
        for connection in list(self.connections):
            connection.close()
        self.connections.clear()

    def close_connections(self, process: Process) -> None:
        """Close what a process that ended had open: its locks fall, its transactions are undone."""
        for connection in [c for c in self.connections if getattr(c, "process", None) is process]:
            with suppress(sqlite3.Error):
                connection.close()
            if connection in self.connections:
                self.connections.remove(connection)

    def server(self, name: str) -> Server:
        return next(server for server in self.servers if server.name == name)

    def serves(self, process: Process) -> bool:
        """Return whether a process is a server that lives and was not asked to stop."""
        return process.alive and any(server.process is process and server.wanted for server in self.servers)

    def knows(self, host: str) -> bool:
        return host in self._hosts

    def provider_of(self, host: str) -> Provider:
        return self._hosts[host.partition(":")[0]]

    def clock(self) -> Clock:
        return Clock(self.machine)

    def hop(self) -> Hop:
        """Return what runs one server's calls of its store: in virtual time, each beginning a drawn moment later."""
        limiter = anyio.CapacityLimiter(self.chance("threads").choice((1, 2, 4, 8)) if self.postgres else 1)

        async def hop(call: Callable[[], T], /) -> T:
            async with limiter:
                with anyio.CancelScope(shield=True):
                    result: T = await self.loop.in_thread(call)
                    return result

        return hop

    # -- what is written down

    def note(self, text: str, *, counts: bool = True) -> None:
        """Add a line to the trace, whose hash tells two runs apart."""
        process = PROCESS.get()
        line = f"{self.loop.now:12.5f} {process.name if process else 'world':9} {self.scrubbed(text)}"
        if counts:
            self._hash.update(f"{self.loop.steps} {line}\n".encode())
        if self._tracing:
            self.notes.append(line)

    def tell(self, text: str) -> None:
        """Add a line to the trace alone."""
        if self._tracing:
            self.note(text, counts=False)

    def scrubbed(self, text: str) -> str:
        """Return a text without what no seed decides: addresses in memory, and where the world's files lie."""
        if self.postgres:
            text = text.replace(self.postgres.directory, "…")
        return _ADDRESS.sub("…", text.replace(self.directory, "…"))

    def wrong(self, what: str, detail: str) -> None:
        """Report a violation."""
        if (what, detail) not in self.violations:
            self.violations.append((what, self.scrubbed(detail)))
            self.note(f"WRONG {what}: {detail}")

    def digest(self) -> str:
        return self._hash.hexdigest()

    def was_accepted(self, accepted: Accepted) -> None:
        self.accepted.append(accepted)
        tag = accepted.tag
        self.note(f"ACCEPTED {accepted.work.id[:8]} {accepted.prompt[:60]!r} from {tag.caller or 'a stranger'}")
        if tag.flow and tag.flow != "submit":
            self.wrong("looking paid", f"{tag.flow} made {accepted.provider} accept {accepted.prompt!r}")

    def holds(self, process: Process, client_id: str) -> bool:
        """Return whether a prediction is a process's by its lease."""
        rows = self.reader.all("SELECT lease FROM predictions WHERE client_id = ?", client_id)
        return any(self.holders.get((row["lease"] or "").partition("-")[0]) is process for row in rows)

    def reserved(self) -> None:
        """Hold the ledger to the budget right after a job was written, while all that was spent is of this day."""
        if self.budget_usd is None or self.loop.now >= DAY_S or (self.power_cuts_s and self.jumped_s >= DAY_S):
            return
        weights = self.reader.all("SELECT COALESCE(charged_usd, reserved_usd) AS usd FROM predictions")
        total = sum((Decimal(row["usd"]) for row in weights), Decimal(0))
        if total > self.budget_usd:
            self.wrong("more was reserved than the budget allows", f"${total}, and ${self.budget_usd} is the cap")

    def moves_of(self, prediction_id: str) -> list[Any]:
        """Return a prediction's moves, in order."""
        return self.reader.all("SELECT * FROM history WHERE id = ? ORDER BY rowid", prediction_id)

    def accepted_by_us(self) -> list[Accepted]:
        return [accepted for accepted in self.accepted if accepted.tag.flow]

    def _complained(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, Killed) or is_injected(error):
            return
        self.wrong("an error that nobody took", f"{context.get('message')}: {error!r}")


class _Log(logging.Handler):
    """Reads what the program logs: a bug that it reports is a finding, unless a fault of ours caused it."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.INFO if world._tracing else logging.WARNING)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        process = PROCESS.get()
        if process is not None and not process.alive:
            return
        world = self._world
        text = record.getMessage()
        world.note(f"log {record.levelname} {text}", counts=record.levelno >= logging.WARNING)
        if record.exc_info and record.exc_info[1] and not is_injected(record.exc_info[1]):
            world.wrong("logged as a bug", f"{text}: {_where(record.exc_info[1])}")


def _where(error: BaseException) -> str:
    import traceback

    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"


def lived(seed: int, **options: Any) -> World:
    """Return the world of a seed after its life."""
    stand_ins.install()
    world = World(seed, **options)
    world.run()
    return world


HttpRequest = Callable[[Any], Any]
__all__ = ["CALLER", "World", "lived"]
