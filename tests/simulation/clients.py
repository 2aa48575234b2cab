"""The clients: assistants that call every tool, lose patience, ask again, cancel and vanish.

A client is a process of its own; its call runs in a server. What it wants is a `Wish`, whose mark stands in every
prompt of it: so each request that a provider accepts leads back to the wish. The rule that a call answers in time is
checked here, for every call.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from simulation import sets
from simulation.extras import vary
from simulation.faults import is_injected
from simulation.loop import PROCESS, Process
from simulation.network import CALLER
from triptych.core import errors

GRACE_S = 1.0
ASKS_FIRST_S = {"edit_sequence": 9.0, "generate_sequence": 9.0, "edit_chain": 9.0, "list_models": 10.0}
"""These may ask a provider before they wait (`pricing.PATIENCE_S`, 8 s)."""
UNBOUNDED = frozenset({"upload_images"})
"""An upload takes as long as the provider's own time-outs and tries let it."""
ENDED = ("done", "partial", "failed", "cancelled")


@dataclass(slots=True)
class Wish:
    """What a client wants: one request, however often it is asked for. `paid_anew` counts its calls with `again`."""

    mark: str
    tool: str
    arguments: dict[str, Any]
    options: dict[str, Any]
    paid_anew: int = 0
    jobs: dict[str, None] = field(default_factory=dict)

    def use(self, options: dict[str, Any]) -> Callable[[Any], Coroutine[Any, Any, Any]]:
        from triptych.jobs.planning import read_arguments

        return lambda service: service.make(*read_arguments(self.tool, {**self.arguments, **options}))


@dataclass(slots=True)
class HttpResponse:
    """How a call came out: a result, an error of the program, `late` (the client gave up), or `gone` (no server)."""

    result: Any = None
    error: BaseException | None = None
    late: bool = False
    gone: bool = False


class Client:
    """One client and its plans."""

    def __init__(self, world: Any, name: str) -> None:
        self.world = world
        self.name = name
        self.process = Process(name, "client", world.machine)
        world.processes.append(self.process)
        self._chance: random.Random = world.chance(f"client {name}")
        self._extra: random.Random = world.chance(f"extras of {name}")
        self._sets: random.Random = world.chance(f"sets of {name}")
        self._wishes = 0

    def begin(self) -> asyncio.Task[None]:
        context = copy_context()
        context.run(PROCESS.set, self.process)
        task: asyncio.Task[None] = self.world.loop.create_task(self._live(), context=context)
        return task

    async def _live(self) -> None:
        chance = self._chance
        for _ in range(chance.choice((2, 3, 4, 6))):
            await asyncio.sleep(chance.choice((0.1, 1.0, 5.0, 20.0)) * chance.random())
            others = list(self.world.wishes.values())
            wish = chance.choice(others) if others and chance.random() < 0.12 else self._new_wish()
            if chance.random() < self.world.theme.together:
                more = [self._new_wish() for _ in range(chance.choice((1, 2, 4)))]
                await asyncio.gather(*map(self._pursue, (wish, *more)))
            else:
                await self._pursue(wish)

    def _new_wish(self) -> Wish:
        chance, world = self._chance, self.world
        self._wishes += 1
        mark = f"#{self.name[1:]}{self._wishes:02d}.1"
        tool = chance.choice(("generate_sequence", "edit_sequence", "edit_sequence", "edit_chain"))
        pictures = [str(world.pictures / f"{n}.png") for n in range(4)]
        arguments: dict[str, Any] = {}
        if tool == "edit_chain":
            arguments["images"] = chance.sample(pictures, chance.choice((1, 1, 2, 3)))
            arguments["steps"] = [f"a red kite {mark[:-1]}{step}" for step in range(1, chance.choice((1, 2, 3)) + 1)]
            if chance.random() < 0.2:
                arguments["references"] = [chance.choice(pictures)]
        else:
            arguments |= {"prompt": f"a red kite {mark}", "count": chance.choice((1, 1, 2, 3, 4))}
            if tool == "edit_sequence":
                arguments["images"] = chance.sample(pictures, chance.choice((1, 1, 2)))
        options: dict[str, Any] = {
            "provider": chance.choice([*world.providers, *world.providers, None]),
            "model": chance.choice((None, None, None, "seedream-4.5", "seedream-4.0")),
            "wait_s": chance.choice((0, 0, 3, 25, 55)),
            "save_to": f"{world.directory}/saved/{mark[1:]}" if chance.random() < 0.25 else None,
            "max_cost_usd": Decimal(chance.choice(("0.05", "1", "5"))) if chance.random() < 0.2 else None,
        }
        if world.extras and self._extra.random() < 0.6:
            tool = vary(world, self._extra, tool, arguments, options, pictures)
        if world.sets and self._sets.random() < 0.7:
            tool, arguments = sets.vary(world, self._sets, mark, options)
        wish = Wish(mark[:-2], tool, arguments, options)
        world.wishes[wish.mark] = wish
        return wish

    # -- what a client does about a wish

    async def _pursue(self, wish: Wish) -> None:
        chance = self._chance
        if sets.has_look(wish.arguments) and (self._sets.random() < 0.4 or not sets.look_versions(self.world)):
            await self._keep_look()
        if chance.random() < 0.08:
            await self._ask(wish, {**wish.options, "dry_run": True})
        patience_s = 5.0 if chance.random() < 0.4 else None
        if chance.random() < 0.1:  # the host calls twice at once
            self.world.loop.create_task(self._ask(wish, wish.options, patience_s))
        for _ in range(chance.choice((2, 4, 6))):
            answer = await self._ask(wish, wish.options, patience_s)
            if answer.result is not None:
                if answer.result.job_id:
                    await self._follow(wish, answer.result.job_id)
                return
            if answer.late and chance.random() < 0.15:
                return  # it vanishes
            if isinstance(answer.error, errors.OverBudget) and wish.options["max_cost_usd"] is None:
                wish.options = {**wish.options, "max_cost_usd": Decimal(5)}
            elif isinstance(answer.error, errors.BadRequest) and not is_injected(answer.error):
                return
            await asyncio.sleep(chance.choice((0.2, 2.0, 7.0, 30.0)))

    async def _ask(self, wish: Wish, options: dict[str, Any], patience_s: float | None = None) -> HttpResponse:
        if options.get("again"):
            wish.paid_anew += 1
        if sets.has_look(wish.arguments) and wish.jobs and self._sets.random() < 0.4:
            await self._keep_look()  # the same words of a call are another request now
        looks = len(sets.look_versions(self.world)) if sets.has_look(wish.arguments) else 0
        answer = await self.call(wish.tool, options["wait_s"], wish.use(options), patience_s)
        if answer.result is not None and answer.result.job_id and not options.get("dry_run"):
            wish.jobs.setdefault(answer.result.job_id)
            if looks:
                sets.check_look(self.world, answer.result.job_id, looks)
        return answer

    async def _keep_look(self) -> None:
        images, words = sets.new_look(self.world, self._sets)
        await self.call("upload_images", 0, lambda s: s.upload_images(images, look="film", words=words))

    async def _again(self, wish: Wish, job_id: str) -> None:
        """Make what failed again, perhaps twice, while the job is asked for and perhaps an attempt comes late."""
        chance = self._sets
        failed = Wish(wish.mark, "edit_chain", {"images": [f"{job_id}/failed"], "steps": []}, dict(wish.options))
        failed.options |= {"provider": None, "model": None}
        for _ in range(chance.choice((1, 2, 3))):
            if chance.random() < 0.3:
                await self.call("get_status", 0, lambda s: s.get_status(job_id, 0))
            answer = await self._ask(failed, failed.options, 5.0 if chance.random() < 0.4 else None)
            if answer.result and chance.random() < 0.5:
                again_id = answer.result.job_id
                await self.call("get_status", 50, lambda s, again_id=again_id: s.get_status(again_id, 50))
                if answer.result.status in ("failed", "partial") and chance.random() < 0.4:
                    await self._again(wish, again_id)
            await asyncio.sleep(chance.choice((0.2, 5.0, 30.0)))

    async def _follow(self, wish: Wish, job_id: str) -> None:
        """Ask for the job until it has ended, and do this and that in between."""
        chance = self._chance
        status = ""
        for _ in range(chance.choice((2, 8, 40))):
            wait_s = chance.choice((0, 5, 20, 50))
            answer = await self.call("get_status", wait_s, lambda s, wait_s=wait_s: s.get_status(job_id, wait_s))
            if isinstance(answer.error, errors.UnknownHandle):
                self.world.wrong("a job that was promised is not there", f"{job_id} of {wish.mark}")
                return
            status = answer.result.status if answer.result else status
            if status in ENDED:
                break
            await self._this_and_that(wish, job_id)
            if status == "uncertain" and chance.random() < 0.3:
                if chance.random() < 0.5:
                    await self.call("cancel_job", 0, lambda s: s.cancel_job(job_id))
                break
            await asyncio.sleep(chance.choice((0.5, 3.0, 15.0)))
        await self._afterwards(wish, job_id, status)

    async def _this_and_that(self, wish: Wish, job_id: str) -> None:
        match self._chance.randrange(14):
            case 0:
                await self.call("list_jobs", 0, lambda s: s.list_jobs(20))
            case 1:
                query = "brush" if self.world.extras and self._extra.random() < 0.5 else ""
                await self.call("list_models", 0, lambda s: s.list_models(query))
            case 2:
                await self.call("spend", 0, lambda s: s.spend(2))
            case 3:
                await self.call("view_images", 0, lambda s: s.view_images([job_id]))
            case 4:
                await self.call("upload_images", 0, lambda s: s.upload_images([str(self.world.pictures / "0.png")]))
            case 5 if self._chance.random() < 0.3:
                await self.call("cancel_job", 0, lambda s: s.cancel_job(job_id))
            case 6 | 7:
                await self._ask(wish, {**wish.options, "wait_s": 3})

    async def _afterwards(self, wish: Wish, job_id: str, status: str) -> None:
        chance = self._chance
        if self.world.sets and wish.tool == "edit_chain" and status in ("failed", "partial", "cancelled"):
            await self._again(wish, job_id)
        if status in ("done", "partial"):
            if chance.random() < 0.3:
                await self.call("view_images", 0, lambda s: s.view_images([job_id]))
            if chance.random() < 0.3:
                target = f"{self.world.directory}/saved/{wish.mark[1:]}-later"
                await self.call("save_images", 0, lambda s: s.save_images([f"{job_id}/1"], target))
        if chance.random() < 0.25:
            await self._ask(wish, wish.options)
        if chance.random() < 0.08:
            await self._ask(wish, {**wish.options, "again": True})

    # -- one call

    async def call(
        self, name: str, wait_s: float, use: Callable[[Any], Coroutine[Any, Any, Any]], patience_s: float | None = None
    ) -> HttpResponse:
        """Call a use-case on a server that is up; give up after `patience_s`."""
        world, chance = self.world, self._chance
        up = [server for server in world.servers if server.up]
        if not up:
            await asyncio.sleep(2.0)
            return HttpResponse(gone=True)
        server = chance.choice(up)
        world.calls += 1
        process, context = server.process, server.context.copy()
        caller = f"{name} {world.calls}"
        context.run(CALLER.set, caller)
        timed = _Timed(world, process, name, wait_s, f"{self.name}: {name}")
        task = world.loop.create_task(timed.run(use(server.service)), context=context)
        done, _ = await asyncio.wait({task, server.gone}, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        if task in done:
            error = task.exception() if not task.cancelled() else asyncio.CancelledError()
            free = isinstance(error, errors.OverBudget) or (
                error is None and getattr(task.result(), "status", "") == "dry_run"
            )
            if free and world.uploads[caller]:
                world.wrong("an upload for a call that was refused", f"{name}: {error or 'a dry run'}")
            if isinstance(error, errors.TriptychError) or is_injected(error):
                return HttpResponse(error=error)
            if error is not None and not isinstance(error, asyncio.CancelledError):
                if process.alive:
                    world.wrong("a call raised what nobody expects", f"{name}: {error!r}")
                return HttpResponse(error=error)
            return HttpResponse(result=None if error else task.result(), gone=error is not None)
        if server.gone in done:
            return HttpResponse(gone=True)
        if chance.random() < 0.6:  # the host says that it gave up
            world.loop.call_soon(task.cancel, context=context)
        return HttpResponse(late=True)


class _Timed:
    """Runs one call in its server, and holds it to its time."""

    def __init__(self, world: Any, process: Process, name: str, wait_s: float, words: str) -> None:
        self._world, self._process, self._name, self._wait_s, self._words = world, process, name, wait_s, words

    async def run(self, call: Coroutine[Any, Any, Any]) -> Any:
        world, process = self._world, self._process
        began_s, still_s = world.loop.now, process.still_s
        try:
            result = await call
            world.note(f"{self._words} → {_told(result)}")
            return result
        except BaseException as error:
            world.note(f"{self._words} → {type(error).__name__}: {str(error)[:100]}")
            raise
        finally:
            if process.alive and self._name not in UNBOUNDED:
                took_s = world.loop.now - began_s - (process.still_s - still_s)
                most_s = self._wait_s + GRACE_S + ASKS_FIRST_S.get(self._name, 0.0)
                if took_s > most_s:
                    world.wrong("a call came late", f"{self._name} took {took_s:.1f} s, with wait_s={self._wait_s}")


def _told(result: Any) -> str:
    if hasattr(result, "returned"):
        return f"{result.job_id} {result.status} {result.returned}/{result.requested}"
    return type(result).__name__


async def look_again(world: Any) -> None:
    """Ask once more for every job, in calm weather, as a user would who comes back."""
    client = Client(world, "c0")
    jobs = [row["id"] for row in world.reader.all("SELECT id FROM jobs ORDER BY created_at, id")]
    context = copy_context()
    context.run(PROCESS.set, client.process)

    async def look() -> None:
        for job_id in jobs:
            await client.call("get_status", 0, lambda s, job_id=job_id: s.get_status(job_id, 0))

    await world.loop.create_task(look(), context=context)
