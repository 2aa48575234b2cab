"""The fleet's processes: replicas, workers and the emulated providers, started, killed and started again.

A member is the real program, `python -m triptych …`, with its settings in the environment; only a mutant goes through
`fleet_child`. Its stderr goes to a file of its own, which the audit reads for what it reports as its own mistake.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from benchmarks.fleet_net import HOST
from benchmarks.soak import NEVER_TOLD, ROOT, _settings
from benchmarks.soak_audit import Accepted

START_LIMIT_S = 60.0
STOP_LIMIT_S = 30.0
READY = b"is listening on", b"works on jobs"
LINE_BYTES = 1 << 27
ENDLESS = "fewer"
"""Left out of the lot: a task of one image with one fewer has none, and Runware's list of it stays empty, so that only
the deadline of 30 minutes ends it."""


@dataclass(frozen=True, slots=True)
class Work(Accepted):
    """An accepted request with its times at the provider, in UTC seconds."""

    began_s: float = 0.0
    ended_s: float = 0.0


@dataclass
class Member:
    """One process of the fleet; a replica has a port."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    log: Path
    port: int | None = None
    starts: int = 0
    cpu_s: float = 0.0
    """Of all its lives; 0 where the system does not tell (Linux does)."""
    ended_badly: list[str] = field(default_factory=list)

    async def start(self) -> None:
        """Start it, and return when it says that it is ready."""
        self.starts += 1
        said = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, *self.argv, env=dict(self.env), cwd=ROOT, stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL, stderr=log,
            )  # fmt: skip
        began = time.monotonic()
        while time.monotonic() - began < START_LIMIT_S and self.process.returncode is None:
            if any(word in self.log.read_bytes()[said:] for word in READY):
                return
            await asyncio.sleep(0.1)
        self.ended_badly.append(f"{self.name} was not ready (status {self.process.returncode})")

    async def kill(self) -> None:
        """Kill it with SIGKILL: it can write nothing more."""
        if self.process.returncode is not None:
            self.ended_badly.append(f"{self.name} ended by itself with status {self.process.returncode}")
            return
        self.cpu_s += cpu_s(self.process.pid)
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> None:
        """Ask it to end, as a service manager does; it has to do so in time and with status 0."""
        if self.process.returncode is not None:
            self.ended_badly.append(f"{self.name} ended by itself with status {self.process.returncode}")
            return
        self.cpu_s += cpu_s(self.process.pid)
        self.process.terminate()
        try:
            async with asyncio.timeout(STOP_LIMIT_S):
                status = await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
            self.ended_badly.append(f"{self.name} did not end within {STOP_LIMIT_S:g} s")
            return
        if status != 0:
            self.ended_badly.append(f"{self.name} ended with status {status}")


@dataclass
class Fleet:
    """All replicas and workers."""

    members: Sequence[Member]
    seed: int = 1
    kills: int = 0
    stopped: bool = False
    peace: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        await self.members[0].start()  # it makes the database
        await asyncio.gather(*(member.start() for member in self.members[1:]))

    async def kill_now_and_then(self, every_s: float) -> None:
        """Kill one of them every few seconds, each in its turn of a shuffled order, and start it again."""
        lot, order = random.Random(self.seed), list[Member]()
        next_at = time.monotonic() + every_s
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(next_at - time.monotonic(), 0.01)):
                    await self.peace.wait()
                    return
            next_at += every_s
            order = order or lot.sample(list(self.members), len(self.members))
            member = order.pop()
            await member.kill()
            self.kills += 1
            await member.start()

    async def stop(self) -> list[str]:
        """End them all in order, at the first call, and return what went wrong with that."""
        if not self.stopped:
            self.stopped = True
            await asyncio.gather(*(member.stop() for member in self.members if member.starts))
        return [line for member in self.members for line in member.ended_badly]


@asynccontextmanager
async def emulators(
    share: float, seed: int, latency_s: float, env: Mapping[str, str]
) -> AsyncIterator[tuple[dict[str, str], Callable[[], Awaitable[list[Work]]]]]:
    """Yield the settings that lead to the emulated providers, and a function that returns their books."""
    asked = {"share": share, "seed": seed, "latency_s": latency_s, "but": (*NEVER_TOLD, ENDLESS)}
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.fleet_child", "emulators", json.dumps(asked),
        env=dict(env), cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LINE_BYTES,
    )  # fmt: skip
    stdin, stdout = child.stdin, child.stdout
    assert stdin and stdout

    async def books() -> list[Work]:
        stdin.write(b"\n")
        return [Work(**entry | {"charged_usd": Decimal(entry["charged_usd"])}) for entry in await said()]

    async def said() -> Any:
        return json.loads(await stdout.readline())

    try:
        yield _settings(await said()), books
    finally:
        stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_LIMIT_S):
                await child.wait()
        if child.returncode is None:
            child.kill()
            await child.wait()


def environment() -> dict[str, str]:
    """Return the environment of a member but for its home, without any settings of the person who runs this."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TRIPTYCH_", "AWS_")) and not name.endswith(("_API_KEY", "_BASE_URL"))
    }
    # Ark takes no uploads, so an uploaded image has the installation's own signed URL.
    settings = {"TRIPTYCH_PROVIDER": "ark", "TRIPTYCH_MODELS": "builtin"}
    return kept | settings | {"TRIPTYCH_BUDGET_USD": "none", "TRIPTYCH_CONFIRM_USD": "none"}


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process that runs; 0 where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.create_server((HOST, 0)) as made:
        return int(made.getsockname()[1])
