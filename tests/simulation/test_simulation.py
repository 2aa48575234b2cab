"""Many seeds of the simulation, in a process of their own; a seed repeats exactly; the parts do what they say."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Callable
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest

from simulation.faults import Faults, injected, is_injected
from simulation.loop import PROCESS, UPTIME_S, Loop, Machine, Process
from simulation.mutants import MUTANTS, Mutant, patched
from simulation.reduce import fewest

ROOT = Path(__file__).parents[2]
SEEDS = 12


def simulated(*arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-m", "benchmarks.simulation", *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1, SEEDS, 6))
def test_no_world_of_many_breaks_a_rule(first: int) -> None:
    done = simulated("--first", str(first), "--seeds", "6", "--jobs", "1")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_world_on_postgresql_is_the_same_each_time() -> None:
    asked = ("--seed", "3", "--quiet", "--database", "postgres")
    once, again = simulated(*asked), simulated(*asked, "--after", "3")
    assert once.returncode == 0, once.stdout + once.stderr
    assert "trace " in once.stdout and again.stdout == once.stdout


@pytest.mark.slow
def test_a_seed_is_the_same_world_wherever_it_runs() -> None:
    alone = simulated("--seed", "12", "--quiet").stdout
    assert "trace " in alone
    after_others = simulated("--seed", "12", "--quiet", "--after", "6,12").stdout
    assert after_others == alone


# -- the loop ----------------------------------------------------------------------------------------------------


@pytest.fixture
def loop() -> Any:
    made = Loop(random.Random(0))
    yield made
    made.end()


def in_process(loop: Loop, process: Process, main: Callable[[], Any]) -> asyncio.Task[Any]:
    context = copy_context()
    context.run(PROCESS.set, process)
    task: asyncio.Task[Any] = loop.create_task(main(), context=context)
    return task


async def sleeper(loop: Loop, seconds: float) -> float:
    await asyncio.sleep(seconds)
    return loop.now


def test_a_day_passes_at_once(loop: Loop) -> None:
    assert loop.run_until_complete(sleeper(loop, 86_400.0)) == pytest.approx(86_400.0, abs=1)


def test_a_frozen_process_wakes_late_and_others_go_on(loop: Loop) -> None:
    async def main() -> tuple[float, float]:
        one, two = Process("one", "server"), Process("two", "server")
        loop.freeze(one, 60.0)
        first = in_process(loop, one, lambda: sleeper(loop, 5.0))
        second = in_process(loop, two, lambda: sleeper(loop, 5.0))
        return await first, await second

    late, prompt = loop.run_until_complete(main())
    assert (round(late), round(prompt)) in ((60, 5), (65, 5))


def test_a_killed_process_stops_in_the_middle_without_cleaning_up(loop: Loop) -> None:
    told: list[str] = []

    async def victim() -> None:
        try:
            told.append("begun")
            loop.kill(process)
            loop.block(1.0)
        finally:
            if not loop.over:
                told.append("cleaned up")

    process = Process("victim", "server", blocks=True)

    async def main() -> None:
        in_process(loop, process, victim)
        await asyncio.sleep(100.0)

    loop.run_until_complete(main())
    assert told == ["begun"]


def test_blocking_code_stops_its_own_process_alone(loop: Loop) -> None:
    order: list[tuple[str, int]] = []

    async def blocking() -> None:
        loop.block(10.0)
        order.append(("blocking", round(loop.now)))

    async def neighbour() -> None:
        await asyncio.sleep(1.0)
        order.append(("neighbour", round(loop.now)))

    async def other() -> None:
        await asyncio.sleep(2.0)
        order.append(("other", round(loop.now)))

    one, two = Process("one", "server", blocks=True), Process("two", "server", blocks=True)

    async def main() -> None:
        tasks = [in_process(loop, one, blocking), in_process(loop, one, neighbour), in_process(loop, two, other)]
        await asyncio.wait(tasks)

    loop.run_until_complete(main())
    assert order == [("other", 2), ("blocking", 10), ("neighbour", 11)]


def test_a_thread_that_waits_leaves_its_process_running(loop: Loop) -> None:
    process = Process("one", "server", blocks=True)

    async def body() -> tuple[int, int]:
        thread = loop.in_thread(lambda: loop.block(10.0))
        await asyncio.sleep(1.0)
        meanwhile = round(loop.now)
        await thread
        return meanwhile, round(loop.now)

    async def main() -> Any:
        return await in_process(loop, process, body)

    assert loop.run_until_complete(main()) == (1, 10)


@pytest.mark.parametrize(("counts_sleep", "monotonic_s"), [(True, 3605), (False, 5)])
def test_a_suspended_machine_counts_sleep_or_rests(loop: Loop, counts_sleep: bool, monotonic_s: int) -> None:
    machine = Machine(loop, 1000.0, counts_sleep=counts_sleep)
    process = Process("one", "server", machine, blocks=True)

    async def main() -> tuple[float, float, float]:
        loop.at(1.0, lambda: loop.suspend(machine, [process], 3600.0))
        await in_process(loop, process, lambda: sleeper(loop, 5.0))
        return loop.now, machine.monotonic(), machine.wall()

    true, monotonic, wall = loop.run_until_complete(main())
    assert (round(true), round(monotonic), round(wall)) == (3605, round(UPTIME_S) + monotonic_s, 4605)


# -- the faults and the reducer ------------------------------------------------------------------------------------


def struck(**options: Any) -> list[str]:
    faults = Faults("7", 100.0, servers=1, providers=["atlas"], **options)
    faults.rates["disk"] = 0.1
    lots = (faults.lot("disk", f"s1.{call}", 1.0) for _ in range(200) for call in ("write", "read"))
    return [lot.name for lot in lots if lot]


def test_leaving_one_fault_out_shifts_no_other() -> None:
    every = struck()
    assert len(every) > 10
    assert struck(without=[every[3]]) == [name for name in every if name != every[3]]
    assert struck(only=every[:2]) == every[:2]


def test_an_error_raised_from_ours_is_one_of_ours() -> None:
    error = RuntimeError("later")
    error.__cause__ = injected(OSError("ours"))
    assert is_injected(error)
    assert not is_injected(RuntimeError("the program's own"))


def test_the_reducer_finds_the_two_faults_that_matter() -> None:
    items = [f"fault {n}" for n in range(40)]
    assert fewest(items, lambda part: {"fault 7", "fault 31"} <= set(part)) == ["fault 7", "fault 31"]


def test_what_fails_without_any_fault_is_reduced_to_none() -> None:
    assert fewest(["a", "b"], lambda part: True) == []


# -- the mutants ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_mutant_still_applies(mutant: Mutant) -> None:
    for patch in mutant.patches:
        patched(patch)


# -- the audit -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_audit_sees_what_is_put_into_the_books() -> None:
    told = simulated("--seed", "3", "--quiet", "--spoil").stdout
    for what in (
        "paid twice",
        "somebody else's prediction",
        "paid and not remembered",
        "a stored image is not there",
        "layers cost more than was reserved",
        "sent under another offer",
    ):
        assert f"VIOLATION {what}" in told, told
