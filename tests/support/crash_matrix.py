"""The crash matrix: kinds of provider × shapes of job, each killed at every moment, and what must hold afterwards.

`run` does one cell of it. A real child (`crash_child.py`) makes a job against an emulated API and kills itself at one
of its moments; another process, this one, opens the same home a minute later and works until nothing is left to do.
What does not hold then is a violation, in words.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import anyio

import triptych_emulators
from support import crash_child, postgres
from support.clocks import when
from support.jobs import ANY, Options, edit_chain, edit_sequence
from support.stored import write
from triptych import providers, settings
from triptych.core.models import Prediction, State, Status
from triptych.jobs.results import JobResult
from triptych.jobs.service import ImageService
from triptych.providers import client, guarded_transport
from triptych.storage.claims import Slots

NEVER = 10**9
LATER_S = 60.0
"""Beyond every lease and the life of a half-written file."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of provider; `recovers` says whether it can be asked what became of a request, or knows it by our id."""

    about: str
    recovers: bool = True
    switches: Mapping[str, Any] = field(default_factory=dict)


KINDS: Mapping[str, Kind] = {
    "atlas": Kind("polled, list look-up", switches={"price": "prompt"}),
    "evolink": Kind("polled, idempotency key"),
    "wavespeed": Kind("polled, history look-up"),
    "runware": Kind("polled, id of ours"),
    "novita": Kind("synchronous", recovers=False),
    "ark": Kind("synchronous, streamed", recovers=False),
}


@dataclass(frozen=True, slots=True)
class Shape:
    """A shape of job: a sequence of `count`, or a chain of `steps` for each of `lanes` images."""

    count: int = 1
    steps: int = 1
    lanes: int = 1
    chain: bool = False
    saved: bool = False

    @property
    def images(self) -> int:
        return self.count * self.steps * self.lanes

    @property
    def requests(self) -> int:
        return self.steps * self.lanes


SHAPES: Mapping[str, Shape] = {
    "single": Shape(),
    "sequence": Shape(count=3, saved=True),
    "chain": Shape(steps=2, chain=True),
    "lanes": Shape(steps=2, lanes=2, chain=True),
}
STEPS = ("warmer", "sepia")


@dataclass(slots=True)
class Tally:
    """One cell of the matrix: how many moments there are, what was seen at the kills, and what did not hold."""

    kind: str
    shape: str
    moments: int = 0
    kills: int = 0
    jobs: int = 0
    submits_expected: int = 0
    submits_seen: int = 0
    done: int = 0
    uncertain: int = 0
    violations: list[str] = field(default_factory=list)


Child = subprocess.Popen[str]


@contextmanager
def ready_child() -> Iterator[Child]:
    """A child that waits for cases; it can be had for many cells."""
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, crash_child.__file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ) as child:
        assert child.stdin
        yield child
        child.stdin.close()


def run(child: Child, kind: str, shape: str, root: Path, *, every: bool, on_postgres: bool = False) -> Tally:
    """Kill one job of this shape at its moments and return what was seen; without `every`, only at telling ones.

    With `on_postgres` the process that goes on has another home: it gets the database and the images.
    """
    moments = moments_of(child, kind, shape, root, on_postgres)
    fatal = range(1, len(moments) + 1) if every else _telling(moments)
    cases = [Case(kind, shape, root / str(n), n, on_postgres=on_postgres) for n in fatal]
    return _judged(child, kind, shape, len(moments), cases)


def cut_power(child: Child, kind: str, shape: str, root: Path) -> Tally:
    """Cut the power in the middle of every write of the database: what of it is in the log ends at any byte.

    The log's index (`-shm`) is memory, and gone.
    """
    moments = moments_of(child, kind, shape, root)
    writes = [n for n, label in enumerate(moments, 1) if label.startswith("after write")]
    return _judged(child, kind, shape, len(moments), [Case(kind, shape, root / str(n), n, cuts=True) for n in writes])


def moments_of(child: Child, kind: str, shape: str, root: Path, on_postgres: bool = False) -> list[str]:
    """Return the moments of a job that is let live to its end."""
    whole = Case(kind, shape, root / "whole", NEVER, on_postgres=on_postgres)
    tally = Tally(kind, shape)
    whole.kill(child).judge(tally)
    assert (tally.done, tally.violations) == (1, [])
    return whole.moments


def _judged(child: Child, kind: str, shape: str, moments: int, cases: Sequence[Case]) -> Tally:
    """Let the child die of one case while the one before it is judged."""
    tally = Tally(kind, shape, moments)
    ahead: deque[Future[Case]] = deque()
    with ThreadPoolExecutor(max_workers=1) as hand:
        for case in cases:
            ahead.append(hand.submit(case.kill, child))
            if len(ahead) > 2:
                ahead.popleft().result().judge(tally)
        for killed in ahead:
            killed.result().judge(tally)
    return tally


def _telling(moments: Sequence[str]) -> list[int]:
    """Return the first and the last moment of each sort, from the job's being written on.

    The one just before a write is left out: on the disk and at the provider, nothing is different from the one before.
    """
    written = moments.index("after write of jobs")
    sorts: dict[str, list[int]] = {}
    for n, label in enumerate(moments[written:], written + 1):
        if not label.startswith("before"):
            sorts.setdefault(label, []).append(n)
    return sorted({n for found in sorts.values() for n in (found[0], found[-1])})


class Case:
    """One job that is killed at its moment number `fatal`, in a home of its own, at an emulated API of its own."""

    def __init__(
        self, kind: str, shape: str, root: Path, fatal: int, *, cuts: bool = False, on_postgres: bool = False
    ) -> None:
        self.name, self.kind, self.shape, self.fatal, self._cuts = kind, KINDS[kind], SHAPES[shape], fatal, cuts
        self.root, self.home, self.out = root, root / "home", root / "out"
        self._trace = root / "moments"
        self._on_postgres, self._database = on_postgres, ""

    @property
    def moments(self) -> list[str]:
        return self._trace.read_text().splitlines()

    def kill(self, child: Child) -> Case:
        """Let the child make the job and die; return once the API has done what had reached it."""
        self.root.mkdir(parents=True)
        if self._on_postgres:
            self._database = postgres.server().create()
        self._images = [_picture(self.root / f"{lane}.png", lane) for lane in range(self.shape.lanes)]
        self.api = triptych_emulators._emulated(self.name)(latency_s=0.0, max_side=48, **self.kind.switches)
        self._loopback = self.api.open("127.0.0.1", 0)
        self._loopback.start()
        case = {
            "environ": self._environ(),
            "images": self._images,
            "tool": "chain" if self.shape.chain else "sequence",
            "count": self.shape.count,
            "steps": STEPS[: self.shape.steps],
            "save_to": str(self.out) if self.shape.saved else None,
            "fatal": self.fatal,
            "trace": str(self._trace),
        }
        assert child.stdin and child.stdout
        child.stdin.write(f"{json.dumps(case)}\n")
        child.stdin.flush()
        status = int(child.stdout.readline())
        assert status not in (0, 1), "the child was not killed"
        self._wait_until_idle()
        if self._database:
            self._wait_for_database()
            self._move_on()
        if self._cuts:
            self._cut_power()
        return self

    def _wait_until_idle(self) -> None:
        """Wait until the API has answered every request of the child.

        The API accepts connections in their order: once it has this one, it has all of the child's.
        """
        state, url = self._loopback._server.server_state, urlsplit(self.api.base_url)
        with socket.create_connection((url.hostname or "", url.port or 0)) as last:
            while not any(
                c.transport.get_extra_info("peername") == last.getsockname() for c in list(state.connections)
            ):
                time.sleep(0.001)
        while state.connections or state.tasks:
            time.sleep(0.001)

    def _move_on(self) -> None:
        """Give the process that goes on another home, with the images and their parts of the killed one."""
        before, self.home = self.home, self.root / "other home"
        self.home.mkdir()
        for name in ("images", "parts"):
            if (before / name).exists():
                (before / name).rename(self.home / name)

    def _wait_for_database(self) -> None:
        """Wait until the server has done all that had reached it, and has seen that the child is gone."""
        name = f"'{self._database}'"
        while postgres.server().execute(f"SELECT 1 FROM pg_stat_activity WHERE datname = {name}"):
            time.sleep(0.001)

    def _cut_power(self) -> None:
        log = self.home / "triptych.db-wal"
        before, after = int((self.root / "log-bytes").read_text()), log.stat().st_size
        assert before <= after, "the log only grows"
        # A claim that finds nothing writes nothing; and under load a moment's number may be another one's.
        if before < after and self.moments[-1].startswith("after write"):
            with log.open("r+b") as file:
                file.truncate(random.Random(self.fatal).randrange(before, after))
        (self.home / "triptych.db-shm").unlink()

    def judge(self, tally: Tally) -> None:
        """Take up what was left, add to the tally what is seen, and stop the API."""
        label = f"{self.name}, {self.shape}, killed at moment {self.fatal} ({self.moments[-1]})"
        with self.aftermath():
            clock = LaterClock()
            anyio.run(self.visit, Aftermath(self, tally, label, clock).judge, clock)

    @contextmanager
    def aftermath(self) -> Iterator[None]:
        """Stop the API afterwards."""
        try:
            with (
                mock.patch.object(client, "new_client", _client),
                mock.patch.object(guarded_transport, "connections", crash_child.connections),
            ):
                yield
        finally:
            self._loopback.stop()
            self.api.close()
            if self._database:
                postgres.server().give_back(self._database)

    def _environ(self) -> dict[str, str]:
        provider = providers.load(self.name)
        assert provider.key_env
        return {
            "TRIPTYCH_HOME": str(self.home),
            **({"TRIPTYCH_DATABASE_URL": postgres.server().url(self._database)} if self._database else {}),
            "TRIPTYCH_ALLOWED_DIRS": str(self.root),
            provider.key_env: self.api.key,
            **{base.env: self.api.base_url for base in provider.base_urls.values()},
        }

    async def visit(self, look: Callable[[ImageService], Awaitable[None]], clock: LaterClock) -> None:
        """Open what was left, as the next server does."""
        service = ImageService(settings.read(self._environ()).setup, clock)
        service.provider_client._sleep = clock.pass_by
        crash_child.no_flushes(service)
        try:
            await look(service)
        finally:
            await service.provider_client.aclose()
            service.store.plain.close()

    async def ask(self, service: ImageService, options: Options = ANY) -> JobResult:
        """Make the same call once more."""
        saved: Options = {"save_to": str(self.out)} if self.shape.saved else {}
        chosen: Options = {"wait_s": 0, **saved, **options}
        if self.shape.chain:
            return await edit_chain(service, self._images, STEPS[: self.shape.steps], options=chosen)
        return await edit_sequence(service, self._images, STEPS[0], self.shape.count, chosen)


_bare_client = client.new_client


def _client(**options: Any) -> Any:
    return _bare_client(verify=crash_child.NO_TLS, **options)


class LaterClock:
    """A minute from now, and on from there only when it is told to."""

    def __init__(self) -> None:
        self._now = datetime.now(UTC) + timedelta(seconds=LATER_S)

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._now.timestamp()

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)

    async def pass_by(self, seconds: float) -> None:
        self.advance(seconds)

    async def wait(self, event: anyio.Event, seconds: float) -> None:
        self.advance(seconds)


async def finish(service: ImageService, clock: LaterClock) -> None:
    """Let a service work, and time pass, until nothing is left to do."""
    for _ in range(2000):
        if await service.worker.step():
            continue
        if not service.store.plain.unfinished():
            return
        due = await service.worker.next_due()
        clock.advance(1.0 if due is None else max(due - clock.monotonic(), 0.01))
    raise AssertionError("the engine never came to rest")


class Aftermath:
    """What another process finds and makes of it."""

    def __init__(self, case: Case, tally: Tally, label: str, clock: LaterClock) -> None:
        self._case, self._tally, self._label, self._clock = case, tally, label, clock

    def _claim(self, holds: bool, claim: str, *seen: object) -> None:
        if not holds:
            self._tally.violations.append(f"{self._label}: not so: {claim} {' '.join(map(repr, seen))}".rstrip())

    async def judge(self, service: ImageService) -> None:
        """Take up what was left, and add to the tally what is seen."""
        tally, api = self._tally, self._case.api
        rows = service.store.plain.jobs(10)
        left = [p for row in rows for p in service.store.plain.predictions(row.id)]
        early = {p.id: len(service.store.plain.outputs_of(p.id)) for p in left}
        silent = not self._case.kind.recovers
        lost = [p for p in left if silent and p.state is State.SUBMITTING and early[p.id] < p.count]
        behind = {p.id for p in lost}
        for p in left:  # step by step
            behind |= {p.id} if p.after_id in behind else set()
        free = [p for p in left if p.id not in behind]
        accepted, sent = len(api.accepted), api.performed["submit"]
        self._claim(len(rows) <= 1, "one job at most", rows)
        self._claim(accepted <= sum(p.submitted_at is not None for p in left), "written before it is paid")
        await finish(service, self._clock)
        unsent = sum(p.submitted_at is None for p in free)
        expected = accepted + unsent if lost else self._case.shape.requests * len(rows)
        tally.kills += 1
        tally.jobs += len(rows)
        tally.submits_expected += expected
        tally.submits_seen += len(api.accepted)
        self._claim(len(api.accepted) == expected, f"{expected} accepted", len(api.accepted))
        if not rows:
            self._claim(service.store.plain.money_since(0) == (0, 0) == (api.charged_usd, 0), "no job, no money")
        for row in rows:
            images = sum(p.count for p in free) + sum(early[p.id] for p in lost)
            await self._judge_job(service, row.id, lost, images)
            if lost:
                self._claim(api.performed["submit"] == sent + unsent, "nothing is sent again")
                await self._ways_out(service, row.id, lost)
        await self._judge_rest(service)

    async def _judge_job(self, service: ImageService, job_id: str, lost: Sequence[Prediction], images: int) -> None:
        """A job is done and paid once; where an answer was lost it is uncertain, with its money held back."""
        job, api = await service.job(job_id, every=True), self._case.api
        charged, reserved = service.store.plain.money_since(0)
        held = sum((p.quoted_usd for p in lost), Decimal(0))
        self._claim(job.returned == images, f"{images} images are home", job.returned)
        self._claim(reserved == held, f"${held} held back", reserved)
        if lost:
            self._tally.uncertain += 1
            self._claim(job.status == Status.UNCERTAIN, "uncertain", job.text())
            self._claim(api.charged_usd - charged in (0, held), "the rest is charged as it was paid", charged)
        else:
            self._tally.done += 1
            self._claim(job.status == Status.DONE, "done", job.text())
            self._claim(images == self._case.shape.images, "every image came", images)
            self._claim(charged == api.charged_usd, f"${api.charged_usd} charged", charged)
        for image in job.images:
            whole = image.path and _is_whole(Path(image.path))
            self._claim(bool(whole and image.url), "every image is home in full", image)

    async def _ways_out(self, service: ImageService, job_id: str, lost: Sequence[Prediction]) -> None:
        """`get_status` and the same call send nothing, `again` makes a new job, `cancel_job` accepts the loss."""
        api = self._case.api
        accepted, sent, money = len(api.accepted), api.performed["submit"], service.store.plain.money_since(0)
        looked = await service.get_status(job_id)
        self._claim(looked.status == Status.UNCERTAIN, "get_status alone decides nothing", looked.text())
        await finish(service, self._clock)
        self._claim((await self._case.ask(service)).job_id == job_id, "the same call attaches")
        await finish(service, self._clock)
        self._claim((len(api.accepted), api.performed["submit"]) == (accepted, sent), "neither sends anything")
        again = await self._case.ask(service, {"again": True})
        await finish(service, self._clock)
        made = await service.job(again.job_id or "")
        self._claim(again.job_id != job_id and made.status == Status.DONE, "again makes a new job", made.text())
        self._claim(len(api.accepted) == accepted + self._case.shape.requests, "again pays once", len(api.accepted))
        dropped = await service.cancel_job(job_id)
        ended = Status.PARTIAL if dropped.returned else Status.CANCELLED
        self._claim(dropped.status == ended, f"cancel_job leaves it {ended}", dropped.text())
        after = service.store.plain.money_since(0)
        self._claim(after == (money[0] + (made.cost.charged or 0), money[1]), "what may be charged stays held", after)

    async def _judge_rest(self, service: ImageService) -> None:
        """Nothing is left lying about: no lease, nothing to claim, no temporary file, no half image."""
        store, case = service.store.plain, self._case
        held = write(store, "SELECT id, state FROM predictions WHERE lease IS NOT NULL")
        self._claim(held == [], "no lease is left", [tuple(row) for row in held])
        later = self._clock.now() + timedelta(days=2)
        claims = store.claim(now=when(later), lease="x", slots=[Slots("another", case.name, 99)])
        self._claim(claims == [], "nothing is left to claim", claims)
        parts = [str(path.relative_to(case.root)) for path in case.root.rglob("*.part")]
        self._claim(parts == [], "no temporary file is left", parts)
        kept = [path for path in service._files.images_dir.rglob("*") if path.is_file()]
        self._claim(all(map(_is_whole, kept)), "every file is named for its bytes", kept)
        if case.shape.saved:
            saved = sorted(_sha256(path) for path in case.out.iterdir()) if case.out.exists() else []
            jobs = [await service.job(row.id, every=True) for row in store.jobs(10)]
            home = sorted(_sha256(Path(i.path)) for job in jobs for i in job.images if i.path)
            self._claim(saved == home, "saved once each, in full", saved, home)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_whole(path: Path) -> bool:
    return _sha256(path).startswith(path.stem)


def _picture(path: Path, lane: int) -> str:
    from PIL import Image

    Image.new("RGB", (96, 64), (40 + 90 * lane, 120, 140)).save(path)
    return str(path)
