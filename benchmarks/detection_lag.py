"""How soon a finished prediction is noticed, and how many requests that takes, beside a loop that asks every 2 s.

Two hundred predictions with log-normal durations (median 20 s, σ = 0.5, seeded) run at a simulated Atlas Cloud, which
answers at once. The engine, the store and the provider's flows are the real ones, and so is the event loop, but for its
clock: whenever everybody waits, time jumps to the next thing to do. Every request that asks how far something has come
is counted: single polls and looks at the provider's list.

Alone, no schedule reaches both halves of the target. With S(t) the part of predictions that still runs after t seconds
and f(t) its density of ends, polling at the rate r(t) costs ∫ r S polls and ∫ f / 2r seconds of lag, and the product of
the two is at least I² / 2 with I = ∫ √(f S) (Cauchy and Schwarz). Here I is 4.07 √s, so a prediction's polls times its
lag are at least 8.3 s, while half the loop's polls times its lag are 5.9 s. Where several run at a provider that lists
what has ended, one look serves them all, and both halves are reached.
"""

from __future__ import annotations

import asyncio
import io
import json
import math
import random
import selectors
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import anyio
import anyio.lowlevel
from PIL import Image as Picture
from pydantic import SecretStr

from benchmarks.table import Row, main
from triptych.assets import Assets
from triptych.clock import SystemClock
from triptych.engine import Engine
from triptych.model import Done, Edit, Image, Job, Offer, Operation, Prediction, Quote
from triptych.planning import Plan, write_up
from triptych.providers import Answer, Call, Flow, atlas
from triptych.store import Store
from triptych.wire import Account, Wire

PREDICTIONS = 200
MEDIAN_S = 20.0
SIGMA = 0.5
SEED = 2026
LOOP_S = 2.0
START = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run of all predictions came to."""

    lag_s: float
    polls: int
    looks: int

    @property
    def requests(self) -> int:
        return self.polls + self.looks


def measure() -> list[Row]:
    """Return lag and requests for a prediction alone and for as many at once as Atlas usually runs, beside the loop."""
    loop = simulate(_loop)
    rows: list[Row] = []
    for at_once in (1, 3, 4, atlas.PROVIDER.max_running):
        ours = simulate(_engine, at_once)
        name = "alone" if at_once == 1 else f"{at_once} at once"
        aim = at_once == atlas.PROVIDER.max_running
        lag, requests = ours.lag_s / loop.lag_s, ours.requests / loop.requests
        rows.append(
            Row(
                f"detection, {name}: mean lag",
                f"{ours.lag_s:.2f} s",
                f"{loop.lag_s:.2f} s (2 s loop)",
                lag,
                "< 1×" if aim else "",
                lag < 1 if aim else None,
            )
        )
        rows.append(
            Row(
                f"detection, {name}: requests",
                f"{ours.requests:,} ({ours.polls:,} polls, {ours.looks:,} looks at the list)",
                f"{loop.requests:,} (2 s loop)",
                requests,
                "≤ 0.5×" if aim else "",
                requests <= 0.5 if aim else None,
            )
        )
    return rows


# -- the simulation ---------------------------------------------------------------------------------------------------


class JumpingSelector(selectors.SelectSelector):
    """Makes an event loop's waits take no time: `passed_s` is what they would have taken."""

    def __init__(self) -> None:
        super().__init__()
        self.passed_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise AssertionError("everybody waits for good")
        self.passed_s += max(timeout, 0.0)
        return super().select(0)


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only while everybody waits."""

    def __init__(self) -> None:
        self._jumping = JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.passed_s


class LoopClock(SystemClock):
    """The event loop's time as a clock."""

    def now(self) -> datetime:
        return START + timedelta(seconds=anyio.current_time())

    def monotonic(self) -> float:
        return anyio.current_time()


@dataclass
class SimulatedAtlas:
    """Answers submits, polls and looks at the history; the nth submit runs for the nth of `durations_s`."""

    durations_s: Sequence[float]
    ends_s: dict[str, float] = field(default_factory=dict)
    seen_s: dict[str, float] = field(default_factory=dict)
    """When a prediction was first told to be completed, to somebody who polled it."""
    asked: Counter[str] = field(default_factory=Counter)
    all_seen: anyio.Event = field(default_factory=anyio.Event)

    def answer(self, call: Call) -> Answer:
        kind, _, ticket = call.path.removeprefix("/api/v1/model/").partition("/")
        self.asked[kind] += 1
        match kind:
            case "generateImage":
                ticket = f"p{len(self.ends_s)}"
                self.ends_s[ticket] = anyio.current_time() + self.durations_s[len(self.ends_s)]
                data: Any = self._told(ticket)
            case "prediction":
                data = self._told(unquote(ticket))
                if data["status"] == "completed":
                    self.seen_s.setdefault(data["id"], anyio.current_time())
                    if len(self.seen_s) == len(self.durations_s):
                        self.all_seen.set()
            case "history":
                newest = list(reversed(self.ends_s))[: int(call.params["size"])]
                data = {"items": [{"ID": one, "status": self._told(one)["status"]} for one in newest]}
            case _:
                raise AssertionError(f"nobody answers {call.path}")
        return Answer(200, {}, json.dumps({"code": 200, "data": data}).encode())

    def _told(self, ticket: str) -> dict[str, Any]:
        if anyio.current_time() < self.ends_s[ticket]:
            return {"id": ticket, "status": "processing"}
        return {"id": ticket, "status": "completed", "outputs": ["https://x.example/1.png"], "price": "0.032"}

    def figures(self) -> Figures:
        assert len(self.seen_s) == len(self.durations_s)
        lags_s = [seen_s - self.ends_s[ticket] for ticket, seen_s in self.seen_s.items()]
        return Figures(sum(lags_s) / len(lags_s), self.asked["prediction"], self.asked["history"])


class InstantWire(Wire):
    """Drives flows against the simulation; every result URL leads to the same small picture."""

    def __init__(self, api: SimulatedAtlas) -> None:
        super().__init__()
        self._simulated = api
        buffer = io.BytesIO()
        Picture.new("RGB", (8, 8)).save(buffer, "PNG")
        self._picture = buffer.getvalue()

    async def run(self, account: Account, flow: Flow[Any], *, tries: int = 1, came: Any = None) -> Any:
        await anyio.lowlevel.checkpoint()
        try:
            call = next(flow)
            while True:
                assert isinstance(call, Call)
                call = flow.send(self._simulated.answer(call))
        except StopIteration as stop:
            return stop.value

    async def fetch(self, url: str, **_: Any) -> bytes:
        return self._picture


class InstantAssets(Assets):
    """Keeps results without a thread, whose work would take no simulated time anyway."""

    async def keep(self, data: bytes) -> Image:
        return self._keep(data)


def simulate(run: Any, *arguments: Any) -> Figures:
    """Run all predictions through `run`, in simulated time, and return what it came to."""
    rng = random.Random(SEED)
    api = SimulatedAtlas([rng.lognormvariate(math.log(MEDIAN_S), SIGMA) for _ in range(PREDICTIONS)])
    anyio.run(run, api, *arguments, backend_options={"loop_factory": JumpingLoop})
    return api.figures()


def _offer() -> Offer:
    return next(offer for offer in atlas.PROVIDER.offers if offer.operation is Operation.GENERATE)


def _job(number: int) -> tuple[Job, list[Prediction]]:
    offer = _offer()
    plan = Plan(
        tool="generate_sequence",
        offer=offer,
        lanes=((),),
        references=(),
        prompts=(f"a lighthouse, take {number}",),
        count=1,
        sizes=(None,),
        format=None,
        quote=Quote(offer.price.usd_per_image, exact=False),
    )
    return write_up(plan, now=START, fingerprint=str(number), save_to=None, again=False, owner=None)


async def _engine(api: SimulatedAtlas, at_once: int) -> None:
    """Let the engine take all of them through, so many at once."""
    account = Account(replace(atlas.PROVIDER, max_running=at_once), SecretStr("simulated"))
    with tempfile.TemporaryDirectory() as folder:
        assets = InstantAssets(Path(folder), InstantWire(api).fetch)
        store = Store(Path(folder) / "triptych.db", assets.images_dir)
        engine = Engine(store, assets, InstantWire(api), {"atlas": account}, LoopClock(), lambda _: None)
        for number in range(PREDICTIONS):
            store.add_job(*_job(number), now=START, attach=False)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(engine.run)
            await api.all_seen.wait()
            tasks.cancel_scope.cancel()
        store.close()


async def _loop(api: SimulatedAtlas) -> None:
    """Ask for each of them every two seconds, as a plain client does."""
    account, wire = Account(atlas.PROVIDER, SecretStr("simulated")), InstantWire(api)

    async def one(prediction: Prediction) -> None:
        edit = Edit(_offer(), prediction.prompt, prediction.count, None, None)
        pending = await wire.run(account, atlas.submit(edit))
        while True:
            await anyio.sleep(LOOP_S)
            if isinstance(await wire.run(account, atlas.poll(pending.ticket, None)), Done):
                return

    async with anyio.create_task_group() as tasks:
        for number in range(PREDICTIONS):
            tasks.start_soon(one, _job(number)[1][0])


if __name__ == "__main__":
    main(measure)
