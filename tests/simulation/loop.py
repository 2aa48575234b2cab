"""Virtual time: an event loop that runs several simulated processes, and jumps to the next timer when none has work.

A callback belongs to the process in its context (`PROCESS`). Each process keeps asyncio's order; which process goes
next is drawn. A process can be frozen (its callbacks wait), killed (they never run, and no `finally` does), and stopped
in the middle of synchronous code: a server's callbacks and its worker threads run on greenlets of their own, so that
a seam inside them can wait in virtual time while the other processes go on.

Nothing here sleeps, starts a thread or opens a socket.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from itertools import count
from typing import Any

from greenlet import getcurrent, greenlet

STEP_S = 2e-5
"""What one callback takes: so that a process that spins without waiting cannot stop the time."""

UPTIME_S = 5_000.0
"""How long a machine has been up when its world begins."""
BOOT_S = 12.0

PROCESS: ContextVar[Process | None] = ContextVar("PROCESS", default=None)


class Killed(BaseException):
    """Raised by a seam in the code of a process that is dead or of a world that is over."""


class TooLong(Exception):
    """The world took more steps than it may: something spins."""


class Machine:
    """A computer: its wall clock can be set, and its monotonic clock counts sleep where `counts_sleep` says so.

    Linux, macOS and Windows count it; a virtual machine that is paused as a whole does not.
    """

    def __init__(self, loop: Loop, wall_s: float, *, counts_sleep: bool = True) -> None:
        self.loop = loop
        self.counts_sleep = counts_sleep
        self.asleep_s = 0.0
        self.wall_s = wall_s
        self.boots = 1
        self.awake_s = 0.0
        """When it wakes, by true time."""
        self._up_at_s = -UPTIME_S

    def monotonic(self) -> float:
        return self.loop.now - self._rested_s - self._up_at_s

    def reboot(self) -> None:
        """Begin another boot: its monotonic clock counts from near zero."""
        self.boots += 1
        self._up_at_s = self.loop.now - self._rested_s - BOOT_S

    @property
    def _rested_s(self) -> float:
        return 0.0 if self.counts_sleep else self.asleep_s

    def wall(self) -> float:
        return self.loop.now + self.wall_s


class Process:
    """One simulated process. With `blocks`, its code may wait in the middle (`Loop.block`)."""

    def __init__(self, name: str, kind: str, machine: Machine | None = None, *, blocks: bool = False) -> None:
        self.name = name
        self.number = number()
        self.kind = kind
        self.machine = machine
        self.blocks = blocks
        self.alive = True
        self.died_s = math.inf
        self.frozen_until = 0.0
        self.blocked = False
        self.ready: deque[asyncio.Handle] = deque()
        self.resumes: deque[greenlet] = deque()
        self.listed = False
        self.still_s = 0.0
        """How long it was frozen or blocked by faults, in all: what a fair deadline allows on top."""

    def __repr__(self) -> str:
        return self.name

    def may_run(self) -> bool:
        return self.alive and not self.frozen_until and bool(self.resumes or (self.ready and not self.blocked))


_numbers = count()


def number() -> int:
    """Return a number that no other object of this world has: what its place in a set depends on, not its address."""
    return next(_numbers)


class Task(asyncio.Task):  # type: ignore[type-arg]
    """A task whose place in a set does not depend on its address."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._number = number()
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self._number


class Loop(asyncio.BaseEventLoop):
    """The loop of one world; `now` is the true time in seconds, from 0."""

    def __init__(self, chance: random.Random, most_steps: int = 3_000_000) -> None:
        super().__init__()
        global _numbers
        _numbers = count()
        self.now = 0.0
        self.steps = 0
        self.most_steps = most_steps
        self.over = False
        self.complaints: list[dict[str, Any]] = []
        self._chance = chance
        self._timers: list[tuple[float, int, Any]] = []
        self._numbers = count()
        self._listed: list[Process] = []
        self._outside = Process("world", "world")
        self._main = getcurrent()
        self._idle: list[greenlet] = []
        self._workers: dict[greenlet, None] = {}
        self._threads: dict[greenlet, Process] = {}
        self._kept: list[Any] = []

    # -- what asyncio asks of a loop

    def time(self) -> float:
        process = PROCESS.get()
        return self.now - process.machine.asleep_s if process and process.machine else self.now

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        process = handle._context.get(PROCESS) or self._outside
        process.ready.append(handle)
        if not process.listed:
            process.listed = True
            self._listed.append(process)
        return handle

    call_soon_threadsafe = call_soon

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        if when == math.inf:
            self._kept.append(timer)
            return timer
        process = timer._context.get(PROCESS)
        due = when + process.machine.asleep_s if process and process.machine else when
        heapq.heappush(self._timers, (due, next(self._numbers), timer))
        return timer

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None, **_: Any) -> Any:
        task = Task(coro, loop=self, name=name or "", context=context)
        self._kept.append(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.over:
            self.complaints.append(context)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        return self.in_thread(func, *args)

    def _write_to_self(self) -> None:
        pass

    def _process_events(self, event_list: Any) -> None:
        pass

    def _run_once(self) -> None:
        process = self._next()
        self.steps += 1
        if self.steps > self.most_steps:
            raise TooLong(f"{self.steps} steps by {self.now:.0f} s")
        self.now += STEP_S
        if process.resumes:
            worker = process.resumes.popleft()
            if worker not in self._threads:
                process.blocked = False
            self._go(worker, None)
            return
        handle = process.ready.popleft()
        if handle._cancelled:
            return
        if process.blocks:
            self._go(self._idle.pop() if self._idle else self._hired(), handle)
        else:
            handle._run()

    def _next(self) -> Process:
        """Return the process that goes next, after jumping to the time of the next timer if none can go."""
        while True:
            while self._timers and self._timers[0][0] <= self.now:
                self._ring(heapq.heappop(self._timers)[2])
            while self._listed:
                i = int(self._chance.random() * len(self._listed)) if len(self._listed) > 1 else 0
                process = self._listed[i]
                if process.may_run():
                    return process
                process.listed = False
                self._listed[i] = self._listed[-1]
                self._listed.pop()
            if not self._timers:
                raise RuntimeError("nothing is left to happen")
            self.now = max(self.now, self._timers[0][0])

    def _ring(self, item: Any) -> None:
        if isinstance(item, asyncio.TimerHandle):
            if not item._cancelled:
                process = item._context.get(PROCESS) or self._outside
                process.ready.append(item)
                self._list(process)
        else:
            item()

    def _list(self, process: Process) -> None:
        if not process.listed and process.may_run():
            process.listed = True
            self._listed.append(process)

    # -- what happens to processes

    def at(self, seconds: float, happen: Callable[[], None]) -> None:
        """Let something happen to the world after so many true seconds."""
        heapq.heappush(self._timers, (self.now + seconds, next(self._numbers), happen))

    def freeze(self, process: Process, seconds: float) -> None:
        """Hold everything of a process back for so long."""
        if not process.alive:
            return
        until = self.now + seconds
        process.still_s += max(0.0, until - max(process.frozen_until, self.now))
        process.frozen_until = max(process.frozen_until, until)

        def wake() -> None:
            if process.frozen_until and process.frozen_until <= self.now:
                process.frozen_until = 0.0
                self._list(process)

        heapq.heappush(self._timers, (until, next(self._numbers), wake))

    def kill(self, process: Process) -> None:
        """End a process where it stands: nothing of it ever runs again."""
        process.alive = False
        process.died_s = min(process.died_s, self.now)

    def suspend(self, machine: Machine, processes: list[Process], seconds: float) -> None:
        """Let a machine sleep: its processes stand still, and so do the timers of their event loops."""
        for process in processes:
            self.freeze(process, seconds)
        machine.asleep_s += seconds
        machine.awake_s = self.now + seconds
        mine = set(map(id, processes))

        def shifted(due: float, item: Any) -> float:
            owner = item._context.get(PROCESS) if isinstance(item, asyncio.TimerHandle) else getattr(item, "of", None)
            return due + seconds if owner is not None and id(owner) in mine else due

        self._timers = [(shifted(due, item), number, item) for due, number, item in self._timers]
        heapq.heapify(self._timers)

    # -- waiting in the middle of synchronous code

    def can_block(self) -> bool:
        return getcurrent() is not self._main

    def block(self, seconds: float) -> None:
        """Stop the code of the process that calls this for so long; its threads and the other processes go on."""
        worker, process = getcurrent(), PROCESS.get()
        if self.over or process is None:
            raise Killed
        if worker is self._main:
            raise RuntimeError(f"{process} cannot wait here")
        task = asyncio.current_task(self) if worker not in self._threads else None
        if worker not in self._threads:
            process.blocked = True
        resume = _Resume(self, process, worker)
        if seconds != math.inf and process.alive:
            heapq.heappush(self._timers, (self.now + seconds, next(self._numbers), resume))
        self._kept.append(worker)
        if task:
            asyncio.tasks._leave_task(self, task)
        try:
            self._main.switch(False)
        finally:
            if task:
                asyncio.tasks._enter_task(self, task)
        if self.over:
            raise Killed

    async def threaded(self, func: Callable[..., Any], *args: Any) -> Any:
        """Return what a call in a worker thread of this process returns."""
        return await self.in_thread(func, *args)

    def in_thread(self, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        future = self.create_future()
        process = PROCESS.get()
        if process is None or not process.blocks:
            _settle(future, func, args)
            return future
        context = copy_context()

        def work(_: object = None) -> bool:
            with suppress(Killed):
                context.run(self._work_in_thread, future, func, args)
            self._threads.pop(thread, None)
            return True

        thread = greenlet(work, self._main)
        self._threads[thread] = process
        resume = _Resume(self, process, thread)
        heapq.heappush(self._timers, (self.now + self._chance.random() * 0.002, next(self._numbers), resume))
        return future

    def _work_in_thread(self, future: asyncio.Future[Any], func: Callable[..., Any], args: Any) -> None:
        try:
            result = func(*args)
        except Exception as error:
            self.call_soon(_fail, future, error)
        else:
            self.call_soon(_succeed, future, result)

    def _hired(self) -> greenlet:
        worker = greenlet(self._work, self._main)
        self._workers[worker] = None
        return worker

    def _work(self, handle: asyncio.Handle) -> bool:
        while not self.over:
            handle._run()
            handle = None  # type: ignore[assignment]
            handle = self._main.switch(True)
        return True

    def _go(self, worker: greenlet, handle: asyncio.Handle | None) -> None:
        if worker.switch(handle) and worker in self._workers:
            self._idle.append(worker)

    def end(self) -> None:
        """Let go of everything; what still unwinds then meets `Killed` at every seam."""
        self.over = True
        for item in self._kept:
            if isinstance(item, asyncio.Task):
                item._log_destroy_pending = False
        for worker in [*self._threads, *self._workers]:
            if worker and worker is not getcurrent():
                worker.throw()
        self._kept.clear()
        self._timers.clear()
        self._listed.clear()
        self.close()


class _Resume:
    __slots__ = ("_loop", "of", "worker")

    def __init__(self, loop: Loop, process: Process, worker: greenlet) -> None:
        self._loop, self.of, self.worker = loop, process, worker

    def __call__(self) -> None:
        self.of.resumes.append(self.worker)
        self._loop._list(self.of)


def _settle(future: asyncio.Future[Any], func: Callable[..., Any], args: Any) -> None:
    try:
        future.set_result(func(*args))
    except Exception as error:
        future.set_exception(error)


def _succeed(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
