"""Chaos soak: thousands of jobs over several servers that are killed all the time, at providers that fail all the time.

    python -m benchmarks.soak [--jobs 2000] [--servers 4] [--seed 1] [--minutes 2]

Real MCP servers on stdio share one TRIPTYCH_HOME; each is a process of its own, driven over its pipes by JSON-RPC
lines, because that is how hosts run Triptych, and a kill is then a kill of the real thing. All six emulated providers
run in one more process, and a tenth of everything they are asked goes wrong, drawn by lot: errors, HTML, broken JSON,
answers that are lost before or after acceptance, cut or slow downloads, bytes that are no image, refused and failed
jobs, missing frames. Every few seconds one server is killed with SIGKILL and replaced. A caller whose server died in
the middle of a call makes the same call to another one.

The calls are a mix of all three paid tools: alone, twice at once on any servers (they have to attach), again with
`again`, cancelled at once, and some whose result URL is dead for good. When all are made, or the time for them is over,
the servers finish what is there; then every job that is not done is asked for once more, as its `next` says. At the end
`soak_audit` holds the emulators' books against the database. Exit status 1 on any double payment, any loss, and any
other disagreement.

A second, short phase has a budget that runs out in the middle of many calls at once, over all the servers.

All clocks of the soak (the servers', the providers') go `--haste` times as fast as the machine's: waits of Triptych and
of the providers shrink alike, and neither knows. Time-outs of connections stay as they are. Nothing leaves the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

import anyio
import anyio.abc
from anyio.streams.buffered import BufferedByteReceiveStream

from benchmarks.soak_audit import Accepted, Findings, audit, read, unattached
from benchmarks.table import Row, show

ROOT = Path(__file__).parents[1]
PROVIDERS = ("atlas", "wavespeed", "ark", "evolink", "runware", "novita")
MOST_BYTES = 1 << 22
BACKLOG = 160
"""So many predictions wait or run before the callers pause: a longer queue would only be searched, not tested."""
CALLERS = 12
STUCK_S = 90.0
"""So long nothing may change before the soak gives up waiting for the end."""
LATENCY_S = 1.5
NEVER_TOLD = ("price-never", "credits-only")
"""Left out of the lot: without a charge there is nothing to hold the ledger against."""


@dataclass(frozen=True)
class Plan:
    """How large a soak is; `haste` is how many times as fast its clocks go."""

    jobs: int = 2000
    servers: int = 4
    seed: int = 1
    minutes: float = 2.0
    share: float = 0.1
    haste: float = 4.0
    kill_every_s: float = 4.0
    most_kills: int = 1000


@dataclass(slots=True)
class Told:
    """What the callers did and heard."""

    requests: int = 0
    """How many of the planned requests were made before the time was over."""
    calls: int = 0
    jobs: dict[str, int] = field(default_factory=dict)
    """The job ids that were answered, each with the number of its request."""
    attached: int = 0
    again: int = 0
    cancelled: int = 0
    repeated: int = 0
    """Calls whose server died in the middle and that were made again."""
    refused: list[str] = field(default_factory=list)
    kills: int = 0
    made_s: float = 0.0
    drained_s: float = 0.0


class Gone(Exception):
    """The server died before it answered."""


class Server:
    """One MCP server in a process of its own, on stdio."""

    def __init__(self, process: anyio.abc.Process) -> None:
        self._process = process
        self._answers: dict[int, tuple[anyio.Event, list[Any]]] = {}
        self._asked = 0
        self.alive = False

    async def live(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Read answers until the process ends; started once it has answered `initialize`."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._meet, task_status)
            try:
                await self._read()
            finally:
                self.alive = False
                for event, _ in self._answers.values():
                    event.set()
            await self._process.wait()

    async def _meet(self, task_status: anyio.abc.TaskStatus[None]) -> None:
        with suppress(Gone):
            client = {"name": "soak", "version": "1"}
            await self._ask("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client})
            await self._send({"method": "notifications/initialized"})
            self.alive = True
        task_status.started()

    async def _read(self) -> None:
        assert self._process.stdout
        lines = BufferedByteReceiveStream(self._process.stdout)
        with suppress(anyio.EndOfStream, anyio.IncompleteRead, anyio.ClosedResourceError, anyio.BrokenResourceError):
            while True:
                said = json.loads(await lines.receive_until(b"\n", MOST_BYTES))
                waiting = self._answers.get(said.get("id", -1))
                if waiting and "method" not in said:
                    waiting[1].append(said)
                    waiting[0].set()

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> Any:
        """Return a tool's structured result, or its refusal as a string.

        Raises: `Gone` when the server died first.
        """
        if not self.alive:
            raise Gone
        result = (await self._ask("tools/call", {"name": tool, "arguments": dict(arguments)}))["result"]
        return result["content"][0]["text"] if result.get("isError") else result["structuredContent"]

    async def _ask(self, method: str, params: Mapping[str, Any]) -> Any:
        self._asked += 1
        number, event, answer = self._asked, anyio.Event(), []
        self._answers[number] = (event, answer)
        try:
            await self._send({"id": number, "method": method, "params": params})
            await event.wait()
        finally:
            del self._answers[number]
        if not answer:
            raise Gone
        return answer[0]

    async def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin
        try:
            await self._process.stdin.send(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise Gone from error

    def kill(self) -> None:
        """Kill it with SIGKILL: it can write nothing more."""
        self.alive = False
        self._process.kill()

    async def close(self) -> None:
        """Close its stdin, as a host does, and wait until it has ended."""
        self.alive = False
        assert self._process.stdin
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await self._process.stdin.aclose()
        with anyio.move_on_after(20):
            await self._process.wait()
            return
        self._process.kill()


class Fleet:
    """The servers; `any` is one of them that lives."""

    def __init__(self, plan: Plan, env: Mapping[str, str], log: IO[bytes], tasks: anyio.abc.TaskGroup) -> None:
        self._plan = plan
        self._env = dict(env)
        self._log = log
        self._tasks = tasks
        self._lot = random.Random(plan.seed + 1)
        self._servers: list[Server] = []
        self._peace = anyio.Event()
        self._replacing = anyio.Lock()
        self.kills = 0

    async def start(self) -> None:
        """Start them all."""
        async with anyio.create_task_group() as tasks:
            for _ in range(self._plan.servers):
                tasks.start_soon(self._add)

    async def _add(self) -> None:
        command = [sys.executable, "-m", "benchmarks.soak_child", "server"]
        server = Server(await anyio.open_process(command, env=self._env, cwd=ROOT, stderr=self._log))
        await self._tasks.start(server.live)
        self._servers.append(server)

    async def any(self) -> Server:
        """Return a server that lives, waiting for one if none does."""
        while not (living := [server for server in self._servers if server.alive]):
            await anyio.sleep(0.05)
        return self._lot.choice(living)

    async def kill_now_and_then(self) -> None:
        """Kill one server every few seconds, and start another in its place."""
        while self.kills < self._plan.most_kills:
            with anyio.move_on_after(self._plan.kill_every_s):
                await self._peace.wait()
                return
            async with self._replacing:
                if self._peace.is_set():
                    return
                victim = await self.any()
                victim.kill()
                self._servers.remove(victim)
                await self._add()
                self.kills += 1

    async def spare(self) -> None:
        """Kill no more; return when all servers are there."""
        self._peace.set()
        async with self._replacing:
            pass

    async def call(self, tool: str, arguments: Mapping[str, Any], told: Told) -> Any:
        """Call a tool of any server; when that server dies in the middle, make the same call to another one."""
        while True:
            told.calls += 1
            try:
                return await (await self.any()).call(tool, arguments)
            except Gone:
                told.repeated += 1

    async def close(self) -> None:
        """End them all as a host does."""
        await self.spare()
        async with anyio.create_task_group() as tasks:
            for server in self._servers:
                tasks.start_soon(server.close)


# -- the calls --------------------------------------------------------------------------------------------------------


def request(n: int, lot: random.Random, images: list[str]) -> tuple[str, dict[str, Any], str]:
    """Return the n-th request: its tool, its arguments and its twist."""
    provider = lot.choice((*PROVIDERS, None))
    dead = " [[emulate: result/410 times=1000]]" if lot.random() < 0.01 else ""
    arguments: dict[str, Any] = {"wait_s": 0}
    if provider:
        arguments["provider"] = provider
    kind = lot.random()
    if kind < 0.2:
        arguments |= {
            "images": lot.sample(images, lot.choice((1, 1, 2))),
            "steps": [f"step {step}, warmer #{n}.{step}{dead}" for step in range(1, lot.choice((3, 3, 4)))],
        }
        tool = "edit_chain"
    elif kind < 0.65:
        count = lot.choice((1, 1, 2, 3))
        arguments |= {
            "images": lot.sample(images, lot.choice((1, 2))),
            "prompt": f"at dusk #{n}.1{dead}",
            "count": count,
        }
        tool = "edit_sequence"
    else:
        arguments |= {"prompt": f"a red kite over dunes #{n}.1{dead}", "count": lot.choice((1, 1, 2, 3))}
        tool = "generate_sequence"
    twist = lot.choices(("", "twin", "again", "cancel", "watch"), (70, 10, 6, 6, 8))[0]
    return tool, arguments, twist


async def make(n: int, asked: tuple[str, dict[str, Any], str], fleet: Fleet, told: Told) -> None:
    """Make one request with its twist, and remember what was answered."""
    tool, arguments, twist = asked

    async def once(**more: Any) -> str | None:
        answer = await fleet.call(tool, arguments | more, told)
        if isinstance(answer, str):
            told.refused.append(answer)
            return None
        told.attached += any("The same request was made" in warning for warning in answer["warnings"])
        told.jobs[answer["job_id"]] = n
        return str(answer["job_id"])

    if twist == "twin":
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(once)
            tasks.start_soon(once)
        return
    job_id = await once()
    if not job_id:
        return
    match twist:
        case "again":
            told.again += 1
            await once(again=True)
        case "cancel":
            told.cancelled += 1
            await fleet.call("cancel_job", {"job_id": job_id}, told)
        case "watch":
            await fleet.call("get_status", {"job_id": job_id, "wait_s": 10}, told)


# -- the run ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def emulators(plan: Plan, env: Mapping[str, str]) -> AsyncIterator[tuple[dict[str, str], Any]]:
    """Yield the settings that lead to the emulated providers, and a function that returns their books."""
    asked = {"share": plan.share, "seed": plan.seed, "latency_s": LATENCY_S, "but": NEVER_TOLD}
    command = [sys.executable, "-m", "benchmarks.soak_child", "emulators", json.dumps(asked)]
    async with await anyio.open_process(command, env=dict(env), cwd=ROOT, stderr=None) as child:
        assert child.stdin and child.stdout
        stdin, lines = child.stdin, BufferedByteReceiveStream(child.stdout)
        apis = json.loads(await lines.receive_until(b"\n", MOST_BYTES))
        yield _settings(apis), lambda: _books(stdin, lines)
        await stdin.aclose()
        await child.wait()


def _settings(apis: Mapping[str, tuple[str, str, str]]) -> dict[str, str]:
    from urllib.parse import urlsplit

    from triptych import providers

    settings = {}
    for name, (base_url, key, key_variable) in apis.items():
        settings[key_variable] = key
        for url in providers.load(name).base_urls.values():
            settings[url.env] = base_url + urlsplit(url.default).path
    return settings


async def _books(stdin: anyio.abc.ByteSendStream, lines: BufferedByteReceiveStream) -> list[Accepted]:
    await stdin.send(b"\n")
    entries = json.loads(await lines.receive_until(b"\n", 1 << 26))
    return [Accepted(e["provider"], e["id"], e["prompt"], Decimal(e["charged_usd"])) for e in entries]


def _environment(plan: Plan, home: Path, budget: str) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("TRIPTYCH_") and not name.endswith(("_API_KEY", "_BASE_URL"))
    }
    return kept | {
        "TRIPTYCH_HOME": str(home),
        "TRIPTYCH_ALLOWED_DIRS": str(home.parent / "in"),
        "TRIPTYCH_BUDGET_USD": budget,
        "TRIPTYCH_CONFIRM_USD": "none",
        "SOAK_BEGAN_S": str(time.time()),
        "SOAK_HASTE": str(plan.haste),
    }


def _draw_inputs(directory: Path) -> list[str]:
    from PIL import Image

    directory.mkdir()
    paths = []
    for n in range(6):
        path = directory / f"input-{n}.png"
        Image.new("RGB", (64, 48), (40 * n, 120, 255 - 40 * n)).save(path)
        paths.append(str(path))
    return paths


class Watch:
    """Looks at how far the database is, with a connection of its own."""

    def __init__(self, home: Path) -> None:
        self._path = home / "triptych.db"

    def _one(self, sql: str) -> tuple[Any, ...]:
        if not self._path.exists():
            return (0, 0, 0)
        with closing(sqlite3.connect(self._path, timeout=30)) as db:
            found: tuple[Any, ...] = db.execute(sql).fetchone()
        return found

    def backlog(self) -> int:
        """Return how many predictions have not ended."""
        return int(
            self._one(
                "SELECT COUNT(*) FROM predictions WHERE state NOT IN ('done', 'failed', 'cancelled', 'uncertain')"
            )[0]
        )

    def left(self) -> tuple[Any, ...]:
        """Return how many predictions have not ended or wait for their charge, and what changes when one moves."""
        return self._one(
            "SELECT COALESCE(SUM(state NOT IN ('done', 'failed', 'cancelled', 'uncertain') OR (state = 'done' AND "
            "charged_usd IS NULL AND ticket IS NOT NULL AND attempts < 4)), 0), SUM(due_at), SUM(attempts) "
            "FROM predictions"
        )


async def drain(watch: Watch) -> None:
    """Return when nothing is left to do, or nothing has moved for a long time."""
    seen, since = watch.left(), time.monotonic()
    while seen[0] and time.monotonic() - since < STUCK_S:
        await anyio.sleep(0.25)
        now = watch.left()
        if now != seen:
            seen, since = now, time.monotonic()


async def run(plan: Plan, room: Path, log: IO[bytes]) -> tuple[Told, Findings]:
    """Make the calls, kill the servers, wait for the end, and return what the audit found; all files are in `room`."""
    home, told = room / "home", Told()
    images = _draw_inputs(room / "in")
    env = _environment(plan, home, "none")
    lot = random.Random(plan.seed)
    requests = [request(n, lot, images) for n in range(plan.jobs)]
    began = time.monotonic()
    async with emulators(plan, env) as (settings, books), anyio.create_task_group() as tasks:
        fleet, watch = Fleet(plan, env | settings, log, tasks), Watch(home)
        await fleet.start()
        tasks.start_soon(fleet.kill_now_and_then)
        queue = list(reversed(list(enumerate(requests))))

        async def caller() -> None:
            while queue and time.monotonic() - began < plan.minutes * 60:
                if watch.backlog() > BACKLOG:
                    await anyio.sleep(0.25)
                    continue
                told.requests += 1
                await make(*queue.pop(), fleet, told)

        async with anyio.create_task_group() as callers:
            for _ in range(min(CALLERS, plan.jobs)):
                callers.start_soon(caller)
        told.made_s = time.monotonic() - began
        await drain(watch)
        await fleet.spare()
        early = _unattached(home)
        await _look_again(home, fleet, told)
        await drain(watch)
        told.drained_s = time.monotonic() - began
        told.kills = fleet.kills
        await fleet.close()
        accepted = await books()
    _sweep(home)
    found = audit(accepted, read(home), told.jobs)
    found.parts += [path.name for path in home.rglob("*.part")]
    found.unattached = early  # what was asked for once more has moved since then
    return told, found


def _unattached(home: Path) -> list[str]:
    with closing(sqlite3.connect(home / "triptych.db", timeout=30)) as db:
        db.row_factory = sqlite3.Row
        rows = [dict(row) for row in db.execute("SELECT * FROM predictions")]
        return unattached([dict(row) for row in db.execute("SELECT * FROM jobs ORDER BY created_at")], rows)


async def _look_again(home: Path, fleet: Fleet, told: Told) -> None:
    """Ask for every job that is not done once more: what can be found or fetched after all then is."""
    with closing(sqlite3.connect(home / "triptych.db", timeout=30)) as db:
        wanted = "SELECT id FROM jobs WHERE status IN ('partial', 'failed', 'uncertain') ORDER BY created_at"
        jobs = [row[0] for row in db.execute(wanted)]
    for job_id in jobs:
        await fleet.call("get_status", {"job_id": job_id}, told)


def _sweep(home: Path) -> None:
    """Do what the next start does with half-written files of processes that died."""
    from triptych.core.clock import SystemClock
    from triptych.images.files import ImageFiles

    async def fetch(url: str) -> bytes:
        raise AssertionError(url)

    for part in home.rglob("*.part"):
        os.utime(part, (0, 0))  # as if a minute had passed
    ImageFiles(home, fetch).remove_stale_parts(SystemClock().now())


# -- the budget that runs out -----------------------------------------------------------------------------------------

CAP_USD = Decimal("1.00")
PRICE_USD = Decimal("0.04")


@dataclass(frozen=True, slots=True)
class Spent:
    """How the phase with the budget ended."""

    asked: int
    taken: int
    refused: int
    otherwise: list[str]
    charged_usd: Decimal
    reserved_usd: Decimal
    emulators_usd: Decimal

    @property
    def holds(self) -> bool:
        """Whether the cap was used to the cent and not beyond, and every other call was refused."""
        used = self.charged_usd + self.reserved_usd == CAP_USD >= self.emulators_usd
        return used and self.taken == CAP_USD / PRICE_USD and not self.otherwise


async def spend(plan: Plan, room: Path, log: IO[bytes]) -> Spent:
    """Make many calls at once with a budget for some of them; one server is killed meanwhile, no provider fails."""
    room.mkdir()
    home, told = room / "home", Told()
    images = _draw_inputs(room / "in")
    plan = Plan(servers=plan.servers, seed=plan.seed, share=0.0, haste=plan.haste, kill_every_s=0.5, most_kills=1)
    env = _environment(plan, home, str(CAP_USD))
    asked = 3 * int(CAP_USD / PRICE_USD)
    async with emulators(plan, env) as (settings, books), anyio.create_task_group() as tasks:
        fleet, watch = Fleet(plan, env | settings, log, tasks), Watch(home)
        await fleet.start()
        tasks.start_soon(fleet.kill_now_and_then)
        async with anyio.create_task_group() as callers:
            for n in range(asked):
                arguments = {"prompt": f"at dusk #{n}.1", "images": images[:1], "provider": "ark", "wait_s": 0}
                call = ("edit_sequence", arguments | {"model": "seedream-4.5"}, "")
                callers.start_soon(make, n, call, fleet, told)
        await drain(watch)
        while fleet.kills < 1:
            await anyio.sleep(0.1)
        await fleet.close()
        accepted = await books()
    found = audit(accepted, read(home), told.jobs)
    over = [text for text in told.refused if "does not fit the budget" in text]
    others = [text for text in told.refused if "does not fit the budget" not in text]
    others += [line for lines in found.wrong().values() for line in lines]
    return Spent(
        asked, sum(found.jobs.values()), len(over), others, found.charged_usd, found.held_usd, found.emulators_usd
    )


# -- what is printed --------------------------------------------------------------------------------------------------


def rows(asked: int, told: Told, found: Findings) -> list[Row]:
    """Return the figures of a soak of so many requests; what must be zero has its target."""

    def listed(counter: Mapping[str, int]) -> str:
        return ", ".join(f"{name} {n:,}" for name, n in sorted(counter.items(), key=lambda item: -item[1]))

    jobs, ends = sum(found.jobs.values()), found.ends
    failed = {name.partition(": ")[2]: n for name, n in ends.items() if name.startswith("failed")}
    cancelled = {name.partition(": ")[2]: n for name, n in ends.items() if name.startswith("cancelled")}
    made = [
        Row("requests", f"{told.requests:,}", f"{asked:,} asked for, as far as the time goes"),
        Row("calls", f"{told.calls:,}", f"{told.repeated:,} made again after a kill, {told.attached:,} attached"),
        Row("servers killed", f"{told.kills:,}"),
        Row("jobs", f"{jobs:,}", listed(found.jobs)),
        Row("calls refused", f"{len(told.refused):,}"),
        Row("predictions submitted", f"{found.submitted:,}"),
        Row("accepted by the providers", f"{sum(found.accepted.values()):,}", listed(found.accepted)),
        Row("home", f"{sum(found.home.values()):,} with {found.images:,} images", listed(found.home)),
        Row("failed for cause", f"{sum(failed.values()):,}", listed(failed)),
        Row("uncertain", f"{ends['uncertain']:,}"),
        Row("cancelled", f"{sum(cancelled.values()):,}", listed(cancelled)),
        Row("charged in the ledger", f"${found.charged_usd}", f"${found.for_done_usd} by the providers for the same"),
        Row("held back in the ledger", f"${found.held_usd}", listed(found.held_ends)),
        Row("time", f"{told.drained_s:,.0f} s", f"{told.made_s:,.0f} s of it with calls"),
    ]
    zero = [Row(what, f"{len(lines)}", target="0", met=not lines) for what, lines in found.wrong().items()]
    return made + zero


def spent_row(spent: Spent) -> Row:
    """Return the figure of the phase with a budget."""
    return Row(
        f"budget of ${CAP_USD}, {spent.asked} calls of ${PRICE_USD} at once",
        f"{spent.taken} taken, {spent.refused} refused; ${spent.charged_usd} charged, ${spent.reserved_usd} uncertain",
        f"${spent.emulators_usd} by the provider",
        target=f"${CAP_USD}",
        met=spent.holds,
    )


def bugs(log: Path) -> list[str]:
    """Return the lines with which servers reported a bug of ours."""
    lines = log.read_text("utf-8", errors="replace").splitlines()
    return [line for line in lines if "bug of ours" in line or "Traceback" in line]


async def main(plan: Plan, keep: str | None) -> None:
    """Run both phases, print the table, and leave with status 1 when anything is wrong."""
    with ExitStack() as stack:
        room = Path(tempfile.mkdtemp(dir=keep) if keep else stack.enter_context(tempfile.TemporaryDirectory()))
        with (room / "servers.log").open("wb") as log:
            told, found = await run(plan, room, log)
            spent = await spend(plan, room / "budget", log)
        broken = bugs(room / "servers.log")
        bug_row = Row("bugs that servers logged", f"{len(broken)}", target="0", met=not broken)
        table = [*rows(plan.jobs, told, found), bug_row, spent_row(spent)]
        show(table)
        for what, lines in (*found.wrong().items(), ("bugs", broken), ("budget", spent.otherwise)):
            for line in lines[:20]:
                print(f"{what}: {line}", file=sys.stderr)
        if keep:
            print(f"kept in {room}", file=sys.stderr)
    if any(row.met is False for row in table):
        raise SystemExit(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Thousands of jobs, killed servers, failing providers; then an audit.")
    parser.add_argument("--jobs", type=int, default=Plan.jobs)
    parser.add_argument("--servers", type=int, default=Plan.servers)
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--minutes", type=float, default=Plan.minutes, help="how long calls are made at most")
    parser.add_argument("--haste", type=float, default=Plan.haste, help="how many times as fast all clocks go")
    parser.add_argument("--keep", metavar="DIR", help="leave everything in a new directory below this one")
    given = vars(parser.parse_args())
    kept_in = given.pop("keep")
    anyio.run(main, Plan(**given), kept_in)
