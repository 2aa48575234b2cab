"""A fleet under fire: replicas, workers, a balancer, and everything that can go wrong going wrong; then an audit.

    python -m benchmarks.fleet [--jobs 10000] [--seconds 1200] [--no-kills] [--no-outages] [--sqlite] [--mutant NAME]

Three `triptych serve` (one with its own worker, two with `--no-worker`) and two `triptych worker` work on one
PostgreSQL and one S3 API, behind a balancer that takes the next replica for every request. Clients of five owners make
jobs at six emulated providers, where a tenth of everything goes wrong. Every four seconds a replica or a worker is
killed with SIGKILL and started again; PostgreSQL is restarted once, and the object store is away for ten seconds. Each
client waits for its job, reads images by their URLs, and tries for what is another owner's.

At the end the audit holds the providers' books against the database. Exit status 1 when a rule is broken: a job lost, a
request paid twice, another owner's data shown, more requests at an account than its limit, a cent of difference.

The same clients then drive one `triptych serve` on SQLite with a twentieth of the jobs and the same faults, without
kills: compare throughput and lags within one run only. Nothing leaves the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks import fleet_audit, fleet_mutants
from benchmarks.fleet_audit import counted, lag
from benchmarks.fleet_clients import Owner, Refused, Told, make
from benchmarks.fleet_members import Fleet, Member, Work, cpu_s, emulators, environment, free_port
from benchmarks.fleet_net import ERAS, HOST, Door, Relay
from benchmarks.fleet_sites import COUNTED, LEFT, OPEN_JOBS, PostgresSite, SqliteSite
from benchmarks.table import Row, show

TOKENS = tuple(f"fleet-token-of-owner-{n}-0123456789" for n in range(5))
CLIENTS = 120
OBJECTS_AWAY_S = 10.0
STUCK_S = 60.0
"""So long nothing may change before the end is given up."""

Site = PostgresSite | SqliteSite


@dataclass(frozen=True)
class Plan:
    """How large a run is."""

    jobs: int = 10_000
    seconds: float = 1200.0
    """No client begins a job after this time."""
    seed: int = 1
    share: float = 0.1
    latency_s: float = 0.8
    kill_every_s: float | None = 4.0
    outages: bool = True
    replicas: int = 3
    workers: int = 2
    mutant: str = ""


@dataclass
class Run:
    """What one run came to."""

    report: fleet_audit.Report
    told: Told
    asked: int
    made: int
    made_s: float
    drained_s: float
    kills: int
    passed: dict[str, int]
    cpu_s: dict[str, float]
    all_cpu_s: float
    away_s: float


async def run(plan: Plan, site: Site, room: Path) -> Run:
    """Drive a fleet on `site` through the whole plan, and return what the audit found."""
    from triptych import providers
    from triptych.server.auth import owner_of

    told, began_cpu_s = Told(), all_cpu_s()
    room.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(site.running())
        base = environment()
        leads, books = await stack.enter_async_context(emulators(plan.share, plan.seed, plan.latency_s, base))
        ports = [free_port() for _ in range(plan.replicas)]
        balancer = await stack.enter_async_context(Relay([(HOST, port) for port in ports]).running())
        door = f"http://{HOST}:{balancer.port}"
        env = base | leads | {"TRIPTYCH_AUTH_TOKEN": ",".join(TOKENS), "TRIPTYCH_PUBLIC_URL": door}
        fleet = Fleet(members(plan, ports, env, site, room), plan.seed)
        await fleet.start()
        stack.push_async_callback(fleet.stop)
        owners = [Owner(n, Door(balancer.port, token), told) for n, token in enumerate(TOKENS)]
        if site.stateless:
            owners[-1].door.era = ERAS[1]
        await asyncio.gather(*(owner.bring_images() for owner in owners))
        began, progress = time.monotonic(), Progress(plan.jobs, plan.seconds)
        for member in fleet.members:
            member.cpu_s -= cpu_s(member.process.pid)  # the first start is not counted, the later ones are
        trouble = [asyncio.create_task(one) for one in troubles(plan, fleet, site, progress)]
        for one in trouble:
            stack.callback(one.cancel)
        await clients(plan, owners, progress)
        made_s = time.monotonic() - began
        fleet.peace.set()
        await asyncio.gather(*trouble)
        await drain(site)
        await look_again(site, owners, [owner_of(token) for token in TOKENS])
        await drain(site)
        drained_s = time.monotonic() - began
        ends = await fleet.stop()
        works = await books()
        limits = {name: providers.load(name).max_running for name in sorted({work.provider for work in works})}
        ids = [owner_of(token) for token in TOKENS]
        found, totals = await asyncio.to_thread(lambda: judged(site, works, told, ids, limits))
    wrong = {
        **found.wrong,
        "ends that were not in order": ends,
        "mistakes in the logs": mistakes(room),
        "totals that are not the sums": totals,
    }
    cpu = {member.name: member.cpu_s for member in fleet.members}
    passed = {f"replica {n}": balancer.passed[port] for n, port in enumerate(ports, 1)}
    return Run(
        report=replace(found, wrong=wrong),
        told=told,
        asked=plan.jobs,
        made=progress.ended,
        made_s=made_s,
        drained_s=drained_s,
        kills=fleet.kills,
        passed=passed,
        cpu_s=cpu,
        all_cpu_s=all_cpu_s() - began_cpu_s,
        away_s=site.away_s,
    )


def all_cpu_s() -> float:
    """Return the CPU time of this process and of all that it started and that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def judged(
    site: Site, works: Sequence[Work], told: Told, ids: Sequence[str], limits: Mapping[str, int]
) -> tuple[fleet_audit.Report, list[str]]:
    kept = site.kept()
    return (
        fleet_audit.report(works, kept, told, ids, limits),
        fleet_audit.totals(kept, *(site.rows(sql) for sql in COUNTED)),
    )


def members(plan: Plan, ports: Sequence[int], env: dict[str, str], site: Site, room: Path) -> list[Member]:
    """Return the replicas and workers, none of them started."""
    program = ["-m", "benchmarks.fleet_child", "mutant", plan.mutant] if plan.mutant else ["-m", "triptych"]
    made = []
    for n, port in enumerate(ports, 1):
        argv = [*program, "serve", "--transport", "http", "--port", str(port)]
        argv += ["--no-worker"] if plan.workers and n > 1 else []
        name = f"replica {n}"
        made.append(Member(name, argv, {**env, **site.settings(name)}, room / f"replica-{n}.log", port))
    for n in range(1, plan.workers + 1):
        name = f"worker {n}"
        made.append(Member(name, [*program, "worker"], {**env, **site.settings(name)}, room / f"worker-{n}.log"))
    return made


@dataclass
class Progress:
    """How far the clients are."""

    jobs: int
    seconds: float
    begun: int = 0
    ended: int = 0
    since: float = field(default_factory=time.monotonic)

    async def reach(self, share: float) -> None:
        """Return when so much of the jobs was begun, or so much of the time is over, or all have ended."""
        ends_at = self.since + share * self.seconds
        while self.begun < share * self.jobs and self.ended < self.jobs and time.monotonic() < ends_at:
            await asyncio.sleep(0.2)


def troubles(plan: Plan, fleet: Fleet, site: Site, progress: Progress) -> list[Coroutine[Any, Any, None]]:
    """Return what is done to the fleet while the clients work."""

    async def restart_database() -> None:
        await progress.reach(0.35)
        await site.restart_database()

    async def lose_objects() -> None:
        await progress.reach(0.6)
        await site.lose_objects(OBJECTS_AWAY_S)

    made = [fleet.kill_now_and_then(plan.kill_every_s)] if plan.kill_every_s else []
    return [*made, restart_database(), lose_objects()] if plan.outages else made


async def clients(plan: Plan, owners: Sequence[Owner], progress: Progress) -> None:
    """Let the clients make the jobs, as many as they begin before the time is over."""
    numbers, ends_at = iter(range(plan.jobs)), time.monotonic() + plan.seconds

    async def client() -> None:
        for n in numbers:
            if time.monotonic() > ends_at:
                return
            progress.begun += 1
            await make(n, owners, plan.seed)
            progress.ended += 1

    await asyncio.gather(*(client() for _ in range(max(min(CLIENTS, plan.jobs // 4), 5))))
    progress.jobs = progress.ended


async def drain(site: Site) -> None:
    """Return when nothing is left to do, or nothing has moved for a long time."""
    seen, since = None, time.monotonic()
    while time.monotonic() - since < STUCK_S:
        now = (await asyncio.to_thread(site.rows, LEFT))[0]
        if not now["open"]:
            return
        if now != seen:
            seen, since = now, time.monotonic()
        await asyncio.sleep(0.5)


async def look_again(site: Site, owners: Sequence[Owner], ids: Sequence[str]) -> None:
    """Ask for every job that is not done once more: what can be found or fetched after all then is."""
    rows = await asyncio.to_thread(site.rows, OPEN_JOBS)
    turns = asyncio.Semaphore(CLIENTS // 2)

    async def ask(job_id: str, owner: Owner) -> None:
        async with turns:
            with suppress(Refused):
                await owner.call("get_status", {"job_id": job_id}, named=[job_id])

    await asyncio.gather(*(ask(row["id"], owners[ids.index(row["owner"])]) for row in rows))


def mistakes(room: Path) -> list[str]:
    """Return the lines with which a member reports a mistake of its own."""
    found = []
    for log in sorted(room.glob("*.log")):
        for line in log.read_text("utf-8", errors="replace").splitlines():
            if "Traceback" in line or " ERROR " in line or " CRITICAL " in line:  # a provider's text is in warnings
                found.append(f"{log.stem}: {line[:300]}")
    return found


def rows(name: str, run: Run) -> list[Row]:
    """Return the figures of a run; what must be zero has its target."""
    found, lags, told = run.report.found, run.report.lags, run.told
    ends = {end: n for end, n in found.ends.items() if end != "done"}
    made = [
        Row(
            f"{name}: jobs",
            f"{sum(found.jobs.values()):,}",
            f"{run.made:,} of {run.asked:,} requests, {told.calls:,} calls",
        ),
        Row("jobs", f"{sum(found.jobs.values()):,}", counted(found.jobs)),
        Row("predictions", f"{found.submitted:,} submitted", f"{sum(found.accepted.values()):,} accepted"),
        Row("ends other than done", f"{sum(ends.values()):,}", counted(ends)),
        Row("kills", f"{run.kills:,}", f"PostgreSQL away for {run.away_s:.1f} s" if run.away_s else ""),
        Row("calls by replica", counted(run.passed)),
        Row("calls made again", f"{told.repeated.total():,}", counted(told.repeated)),
        Row("attempts at what is another's", f"{told.attacks.total():,}", counted(told.attacks)),
        Row("images read by our own URL", f"{len(told.images):,}"),
        Row("at once at each account", counted(run.report.most)),
        Row("charged in the ledger", f"${found.charged_usd}", f"${found.for_done_usd} by the providers for the same"),
        Row("held back in the ledger", f"${found.held_usd}", counted(found.held_ends)),
        Row("time", f"{run.drained_s:,.0f} s", f"{run.made_s:,.0f} s of it with clients"),
        Row("throughput", f"{run.report.per_s:.1f} predictions/s"),
        Row(
            "CPU time of the members",
            f"{1000 * sum(run.cpu_s.values()) / max(found.submitted, 1):,.0f} ms a prediction",
            ", ".join(f"{member} {seconds:.0f} s" for member, seconds in run.cpu_s.items()),
        ),
        Row(
            "CPU time of everything",
            f"{run.all_cpu_s:,.0f} s",
            "also the database, the bucket, the providers, the clients",
        ),
        Row("submit", lag(lags.submit_s)),
        Row("the end noticed by the engine", lag(lags.noticed_s)),
        Row("the end heard by a waiting client", lag(lags.heard_s)),
        Row("told to a subscription", lag(lags.told_s), f"{len(lags.told_s)} jobs"),
    ]
    return made + [
        Row(f"{name}: {what}", f"{len(lines)}", target="0", met=not lines) for what, lines in run.report.wrong.items()
    ]


async def main(plan: Plan, keep: str | None, only: str | None, sqlite: bool) -> None:
    """Run the fleet, then the one server, print the table, and leave with status 1 when a rule is broken."""
    with ExitStack() as stack:
        room = Path(tempfile.mkdtemp(dir=keep) if keep else stack.enter_context(tempfile.TemporaryDirectory()))
        runs = {}
        if only != "one":
            site = SqliteSite(room / "fleet") if sqlite else PostgresSite(room / "fleet")
            runs["fleet"] = await run(plan, site, room / "fleet")
        if only != "fleet":
            alone = replace(
                plan, jobs=max(plan.jobs // 20, 30), kill_every_s=None, outages=False, replicas=1, workers=0
            )
            runs["one"] = await run(alone, SqliteSite(room / "one"), room / "one")
        table = [row for name, one in runs.items() for row in rows(name, one)]
        show(table)
        for name, one in runs.items():
            for text, times in one.told.refusals.most_common(12):
                print(f"{name}: refused {times} times: {text}", file=sys.stderr)
            for what, lines in one.report.wrong.items():
                for line in lines[:15]:
                    print(f"{name}: {what}: {line}", file=sys.stderr)
        if keep:
            print(f"kept in {room}", file=sys.stderr)
    if plan.mutant:
        rule = fleet_mutants.FOUND_AS[plan.mutant][1]
        is_found = bool(runs["fleet"].report.wrong[rule])
        print(f"{plan.mutant}: {'found' if is_found else 'NOT found'} as {rule}", file=sys.stderr)
        raise SystemExit(not is_found)
    if any(row.met is False for row in table):
        raise SystemExit(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A fleet of replicas and workers under fire; then an audit.")
    parser.add_argument("--jobs", type=int, default=Plan.jobs)
    parser.add_argument("--seconds", type=float, default=Plan.seconds, help="how long clients begin jobs at most")
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument(
        "--share", type=float, default=Plan.share, help="of everything that goes wrong at the providers"
    )
    parser.add_argument("--latency-s", type=float, default=Plan.latency_s, help="how long a provider takes")
    parser.add_argument("--no-kills", dest="kill_every_s", action="store_const", const=None, default=Plan.kill_every_s)
    parser.add_argument("--no-outages", dest="outages", action="store_false")
    parser.add_argument("--sqlite", action="store_true", help="the fleet shares one SQLite home, without object store")
    parser.add_argument("--workers", type=int, default=Plan.workers)
    parser.add_argument(
        "--mutant",
        default="",
        choices=list(fleet_mutants.FOUND_AS),
        help="put a mistake in, which the audit has to find",
    )
    parser.add_argument("--only", choices=["fleet", "one"], help="run only one of the two")
    parser.add_argument("--keep", metavar="DIR", help="leave everything in a new directory below this one")
    given = vars(parser.parse_args())
    kept_in, alone, on_sqlite = given.pop("keep"), given.pop("only"), given.pop("sqlite")
    asyncio.run(main(Plan(**given), kept_in, alone, on_sqlite))
