"""What the store's looks cost with few predictions and with many: `python -m benchmarks.storage [--small] [URL]`.

For each number of predictions in flight (half run, half are queued, of five owners at two providers), and with a
million finished ones as well: the median of a claim, of a look for the next due one, of a budget check, and of an idle
look. Then the claims per second of 1, 4 and 16 claimers, each with its own connection, one and 16 at a time, and the
share of a core that a server and a stdio session use that have nothing to do (where there is a /proc). With the URL of
an empty PostgreSQL database, the same there.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

from benchmarks.table import Row, main
from triptych.core.clock import SystemClock, moment
from triptych.core.models import Job, Prediction, State
from triptych.core.offers import Operation
from triptych.core.requests import Request
from triptych.core.requests import Row as TableRow
from triptych.jobs.catalogues import START_S
from triptych.storage.budget import Caps
from triptych.storage.claims import Claim, Slots
from triptych.storage.jobs import Store

SMALL = "--small" in sys.argv
URL = next((arg for arg in sys.argv[1:] if "://" in arg), None)
IN_FLIGHT = (100, 1_000, 10_000) if SMALL else (100, 1_000, 10_000, 100_000)
FINISHED = 20_000 if SMALL else 1_000_000
LANES = 1_000
OWNERS = ("ann", "bob", "cem", "dan", None)
PROVIDERS = ("atlas", "wavespeed")
RUNS = 200
LIMIT_MS = 1.0
CLAIMERS = (1, 4, 16)
CLAIM_S = 3.0
IDLE_S = 10.0 if SMALL else 60.0
IDLE_LIMIT = 0.002
"""Of a core."""
IDLE = {"an idle server": ("serve", "--transport", "http", "--port", "0"), "an idle session over stdio": ()}
CAPS = Caps(Decimal(10**9), Decimal(10**9))


def slots(most: int = 10**9, steps: int = 64) -> list[Slots]:
    """Return what a process may claim for the account at each provider."""
    return [Slots(f"{name}:1", name, most, steps) for name in PROVIDERS]


def opened(home: Path) -> Store:
    if URL is None:
        return Store(home / "triptych.db", home / "images", CAPS)
    from triptych.storage.database import open_database

    return Store(open_database(home, URL), home / "images", CAPS)


def fill(store: Store, first: int, count: int) -> None:
    """Store predictions in flight, all of them due, until there are so many."""
    now = moment(SystemClock())
    for n in range(first, count, LANES):
        lanes = min(LANES, count - n)
        job_id, owner, provider = f"job_{n:08}", OWNERS[n // LANES % len(OWNERS)], PROVIDERS[n // LANES % 2]
        request = Request("edit_chain", ("{mood}",), rows=(TableRow(("img_1",), {"mood": "calm"}),) * lanes)
        job = Job(job_id, request, now.at, f"f{n}", provider, "m", "e", owner=owner)
        made = [_prediction(job, lane) for lane in range(lanes)]
        assert store.add_job(job, made, now=now, attach=False) is None
    _execute(
        store,
        "UPDATE predictions SET state = 'running', ticket = id, account = provider || ':1', submitted_at = created_at "
        "WHERE lane % 2 = 0 AND state = 'queued'",
    )


def _prediction(job: Job, lane: int) -> Prediction:
    return Prediction(
        id=f"{job.id}-{lane}-0",
        job_id=job.id,
        request=job.request,
        lane=lane,
        step=0,
        after_id=None,
        first_output=lane + 1,
        provider=job.provider,
        endpoint="e",
        operation=Operation.EDIT,
        size=None,
        client_id=str(lane),
        variation="",
        quoted_usd=Decimal("0.04"),
        quote_exact=True,
        created_mono=0.0,
    )


def fill_finished(store: Store, count: int) -> None:
    """Copy a finished job until so many predictions have ended, over the last ten days."""
    now = moment(SystemClock())
    request = Request("edit_chain", ("{mood}",), rows=(TableRow(("img_1",), {"mood": "calm"}),) * LANES)
    job = Job("job_done", request, now.at, "done", "atlas", "m", "e", owner="ann")
    made = [replace(_prediction(job, lane), state=State.DONE) for lane in range(LANES)]
    assert store.add_job(job, made, now=now, attach=False) is None
    _execute(
        store,
        "UPDATE predictions SET charged_usd = '0.04', ticket = id, submitted_at = created_at, finished_at = created_at "
        "WHERE job_id = 'job_done'",
    )
    _execute(store, "UPDATE jobs SET status = 'done', returned = 1000 WHERE id = 'job_done'")
    columns = (
        "lane, step, after_id, first_output, state, provider, endpoint, operation, size, client_id, variation, "
        "quoted_usd, quote_exact, reserved_usd, charged_usd, charge_is_estimate, due_at, attempts, lease_until, owner"
    )
    of_job = (
        "request, fingerprint, provider, model, endpoint, save_to, warnings, routes, owner, cancel_requested, status, "
        "returned, page_size, live_offer, sources"
    )
    for n in range(count // LANES):
        at = now.at.timestamp() - n * 864_000 * LANES / count
        copied = f"SELECT 'old_{n}', {at}, {of_job} FROM jobs WHERE id = 'job_done'"
        _execute(store, f"INSERT INTO jobs (id, created_at, {of_job}) {copied}")
        _execute(
            store,
            f"INSERT INTO predictions (id, job_id, ticket, created_at, submitted_at, finished_at, {columns}) "
            f"SELECT 'old_{n}-' || lane, 'old_{n}', 'old_{n}-' || lane, {at}, {at}, {at}, {columns} "
            "FROM predictions WHERE job_id = 'job_done'",
        )
        _execute(
            store,
            f"INSERT INTO frames (job_id, n, prediction_id, sha256, source, created_at) SELECT 'old_{n}', lane + 1, "
            f"'old_{n}-' || lane, 'x', '[]', {at} FROM predictions WHERE job_id = 'job_done'",
        )
        _execute(store, f"INSERT INTO saves (job_id, directory, saved) VALUES ('old_{n}', '/nowhere', 1000)")


def _execute(store: Store, sql: str) -> None:
    if URL is None:
        with store._db.transaction():
            store._db.connection.execute(sql)
    else:
        with store._db.lent() as connection:  # type: ignore[attr-defined]
            connection.execute(sql)


def median_ms(work: Callable[[], object], undo: Callable[[], object] = lambda: None) -> float:
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        work()
        times.append((time.perf_counter() - began) * 1000)
        undo()
    return statistics.median(times)


def looks(store: Store) -> tuple[float, float, float, float]:
    """Return the medians of a claim, a look for the next due one, a budget check and an idle look, in ms."""
    clock, leases = SystemClock(), iter(range(10**9))

    def claim() -> None:
        claims.extend(store.claim(now=moment(clock), lease=f"c{next(leases)}", slots=slots()))

    claims: list[Claim] = []
    claimed = median_ms(claim, lambda: store.put_back(claims.pop(), 0.0))
    due = median_ms(lambda: store.look(now=moment(clock), slots=slots()))
    budget = median_ms(lambda: store.ledger.tightest(moment(clock), "ann", None))
    idle = median_ms(lambda: (store.look(now=moment(clock), slots=slots()), store.to_save()))
    return claimed, due, budget, idle


def claims_per_s(home: Path, claimers: int, at_once: int) -> float:
    """Return how many predictions so many claimers claim each second, so many at a time."""
    stores = [opened(home) for _ in range(claimers)]
    _execute(stores[0], "UPDATE predictions SET lease = NULL, lease_until = 0, due_at = 0 WHERE lease IS NOT NULL")
    counts = [0] * claimers
    end = time.perf_counter() + CLAIM_S

    def work(which: int) -> None:
        clock = SystemClock()
        while time.perf_counter() < end:
            try:
                claims = stores[which].claim(
                    now=moment(clock), lease=f"w{which}n{counts[which]}", slots=slots(steps=at_once), most=at_once
                )
            except Exception as error:  # SQLite lets no one in for 2 s
                print(error, file=sys.stderr)
                continue
            counts[which] += len(claims)
            if not claims:
                return

    began = time.perf_counter()
    threads = [threading.Thread(target=work, args=(which,)) for which in range(claimers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took_s = time.perf_counter() - began
    for store in stores:
        store.close()
    return sum(counts) / took_s


def idle_share(home: Path, *arguments: str) -> float | None:
    """Return the share of a core that `triptych` with these arguments uses while it has nothing to do."""
    env = {name: os.environ[name] for name in ("PATH", "HOME", "SYSTEMROOT") if name in os.environ}
    if URL is not None:
        env["TRIPTYCH_DATABASE_URL"] = URL
    env |= {"TRIPTYCH_HOME": str(home), "ATLASCLOUD_API_KEY": "k", "ATLASCLOUD_BASE_URL": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "triptych", *arguments]
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            time.sleep(START_S + 20)  # it has read the providers' catalogues by then
            began_s = _cpu_s(process.pid)
            time.sleep(IDLE_S)
            ended_s = _cpu_s(process.pid)
        finally:
            process.kill()
    return None if began_s is None or ended_s is None else (ended_s - began_s) / IDLE_S


def _cpu_s(pid: int) -> float | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure() -> Sequence[Row]:
    """Return a row for each size and figure."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as root:
        home = Path(root)
        store = opened(home)
        for first, count in pairwise((0, *IN_FLIGHT)):
            fill(store, first, count)
            rows += _rows(f"{count:,} in flight", store)
        for claimers in CLAIMERS:
            one, many = (claims_per_s(home, claimers, at_once) for at_once in (1, 16))
            rows.append(Row(f"claims per second, {claimers} claimers", f"{one:,.0f}", f"{many:,.0f} (16 at a time)"))
            print(*rows[-1].cells()[:3], file=sys.stderr)
        _execute(store, "UPDATE predictions SET lease = NULL, lease_until = 0, due_at = 0 WHERE lease IS NOT NULL")
        fill_finished(store, FINISHED)
        rows += _rows(f"{IN_FLIGHT[-1]:,} in flight, {FINISHED:,} finished", store)
        _end_all(store)
        store.close()
        for name, arguments in IDLE.items():
            share = idle_share(home, *arguments)
            if share is not None:
                text, limit = f"{share:.2%} of a core", f"≤ {IDLE_LIMIT:.1%}"
                rows.append(Row(f"{FINISHED:,} finished: {name}", text, target=limit, met=share <= IDLE_LIMIT))
    return rows


def _end_all(store: Store) -> None:
    """End what is in flight, some at a time: PostgreSQL keeps each version of a total until its transaction ends."""
    some = "SELECT id FROM predictions WHERE state IN ('queued', 'running') LIMIT 500"
    for _ in range(0, IN_FLIGHT[-1], 500):
        _execute(store, f"UPDATE predictions SET state = 'failed', reserved_usd = '0' WHERE id IN ({some})")


def _rows(what: str, store: Store) -> list[Row]:
    rows = []
    for name, ms in zip(("claim", "next due", "budget check", "idle look"), looks(store), strict=True):
        row = Row(f"{what}: {name}", f"{ms:.2f} ms")
        if URL is None:  # a network lies between: no target
            row = replace(row, target=f"≤ {LIMIT_MS:g} ms", met=ms <= LIMIT_MS)
        rows.append(row)
        print(f"{row.what}: {row.ours}", file=sys.stderr)  # the whole takes minutes
    return rows


if __name__ == "__main__":
    sys.argv = [arg for arg in sys.argv if arg != "--small" and "://" not in arg]
    main(measure)
