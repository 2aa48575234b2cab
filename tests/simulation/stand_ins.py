"""Puts the simulated time, threads, entropy, files and connections in place of the real ones: once, for this process.

Outside of a world, and for code that no simulated server runs, each of them does what the real one does.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import os
import random
import sqlite3
import sys
import time
import urllib.request
from typing import Any

import anyio
import anyio._backends._asyncio as backend

from simulation import database, disk, postgres
from simulation.here import here
from simulation.loop import PROCESS, number
from simulation.network import CALLER, TAG, Line, Tag, resolve
from simulation.providers import NAMES
from triptych.jobs.database_opening import Opened
from triptych_emulators.kit import images

_installed = False
_real_time, _real_monotonic, _real_sleep, _real_urandom = time.time, time.monotonic, time.sleep, os.urandom


def install() -> None:
    """Install all of them; the second time nothing happens."""
    global _installed
    if _installed:
        return
    _installed = True
    _quiet()
    sqlite3.connect = database.connect
    postgres.install()
    for module, name, stand_in in disk.STAND_INS:
        setattr(module, name, stand_in)
    time.time, time.monotonic, time.sleep = _time, _monotonic, _sleep
    os.urandom = _urandom
    random._urandom = _urandom  # type: ignore[attr-defined]
    backend.CancelScope = _scope(backend.CancelScope)
    threads = backend.AsyncIOBackend
    _real_threads = threads.run_sync_in_worker_thread
    threads.run_sync_in_worker_thread = classmethod(functools.partial(_in_thread, _real_threads))  # type: ignore[assignment, arg-type]
    images.LOOPBACK_HOSTS |= {f"api.{name}.example" for name in NAMES}
    _program()


def _program() -> None:
    """Lead the program's own doors to the world: its clock, its HTTP client, its resolver."""
    import triptych.jobs.database_opening
    import triptych.jobs.service
    import triptych.jobs.submission
    import triptych.providers.client
    import triptych.storage.sqlite

    real_open, real_wire, real_run = (
        triptych.jobs.service.open_with_clock,
        triptych.jobs.service.ProviderClient,
        triptych.providers.client.ProviderClient.run,
    )

    real_boot_id = triptych.storage.sqlite.boot_id
    real_advance = triptych.jobs.submission.Submission.advance

    def open_with_clock(config: Any) -> Any:
        if here() is None:
            return real_open(config)
        database = config.open_database()
        return Opened(database, database.clock(here().clock()), is_shared=False)

    def provider_client(**options: Any) -> Any:
        world = here()
        if world is None:
            return real_wire(**options)
        return real_wire(
            resolve=lambda host, port: resolve(world, host),
            public=Line(world),
            transport=lambda name: Line(world),
            **options,
        )

    async def run(self: Any, account: Any, flow: Any, **options: Any) -> Any:
        if here() is None or account.provider.offline:
            return await real_run(self, account, flow, **options)
        edit = flow.gi_frame.f_locals.get("edit") if flow.gi_frame else None
        token = TAG.set(Tag(CALLER.get(), flow.gi_code.co_name, getattr(edit, "client_id", "")))
        try:
            return await real_run(self, account, flow, **options)
        finally:
            TAG.reset(token)

    async def advance(self: Any, claim: Any) -> None:
        world, process = here(), PROCESS.get()
        if world is None or process is None:
            return await real_advance(self, claim)
        step = (process.number, claim.prediction.id)
        if step in world.steps:
            world.wrong("a process worked on what it was working on", f"{process}: {claim.prediction.id}")
        world.steps.add(step)
        try:
            await real_advance(self, claim)
        finally:
            world.steps.discard(step)

    def boot_id() -> str:
        return f"boot {here().machine.boots}" if here() else real_boot_id()

    triptych.storage.sqlite.boot_id = boot_id
    triptych.jobs.submission.Submission.advance = advance  # type: ignore[method-assign]
    triptych.jobs.service.open_with_clock = open_with_clock
    triptych.jobs.service.ProviderClient = provider_client  # type: ignore[assignment, misc]
    triptych.providers.client.ProviderClient.run = run  # type: ignore[method-assign]
    urllib.request.getproxies = dict
    for name in list(os.environ):
        if name.upper().endswith("_PROXY"):
            del os.environ[name]


def _quiet() -> None:
    """Say nothing of what still unwinds when a world is over, and collect garbage between worlds only."""
    shown = sys.unraisablehook
    sys.unraisablehook = lambda told: None if here() or _installed else shown(told)
    logger = logging.getLogger("triptych")
    logger.propagate = False
    logger.addHandler(logging.NullHandler())
    gc.disable()


def _world_of_a_server() -> Any:
    process = PROCESS.get()
    return here() if process is not None and process.kind == "server" else None


def _time() -> float:
    world = here()
    if world is None:
        return _real_time()
    process = PROCESS.get()
    from simulation.providers import WALL_S

    return float(process.machine.wall() if process and process.machine else WALL_S + world.loop.now)


def _monotonic() -> float:
    world, process = here(), PROCESS.get()
    if world is None:
        return _real_monotonic()
    return float(process.machine.monotonic() if process and process.machine else world.loop.now)


def _sleep(seconds: float) -> None:
    world = _world_of_a_server()
    if world is not None and world.loop.can_block():
        world.loop.block(seconds)
    elif here() is None:
        _real_sleep(seconds)


def _urandom(size: int) -> bytes:
    world = here()
    return world.entropy.randbytes(size) if world is not None else _real_urandom(size)


def _scope(real: Any) -> Any:
    class CancelScope(real):  # type: ignore[misc]
        """A scope whose place in a set does not depend on its address."""

        __slots__ = ("_number",)

        def __init__(self, *args: Any, **options: Any) -> None:
            self._number = number()
            super().__init__(*args, **options)

        def __hash__(self) -> int:
            return self._number

    return CancelScope


async def _in_thread(
    real: Any, cls: Any, func: Any, args: Any, abandon_on_cancel: bool = False, limiter: Any = None
) -> Any:
    world = here()
    if world is None:
        return await real(func, args, abandon_on_cancel=abandon_on_cancel, limiter=limiter)
    await asyncio.sleep(0)
    done = world.loop.in_thread(func, *args)
    with anyio.CancelScope(shield=not abandon_on_cancel):
        return await done
