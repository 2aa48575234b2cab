"""Prints what seeds did: a trace for one, a table for many."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from concurrent.futures import ProcessPoolExecutor

from simulation.runner import Tally, many, one

CHUNK = 20


def command(seed: int, only: Collection[str] | None = None) -> str:
    """Return the command that repeats a seed exactly."""
    named = "" if only is None else f" --only '{','.join(only)}'"
    return f"python -m benchmarks.simulation --seed {seed}{named}"


def one_seed(seed: int, only: Sequence[str] | None, without: Sequence[str], *, quiet: bool = False) -> int:
    world = one(seed, only, without, trace=not quiet)
    for line in world.notes:
        print(line)
    print(f"seed {seed}: {world.lives} jobs, {world.calls} calls, {len(world.accepted)} accepted, "
          f"{world.loop.now:.0f} s, {world.loop.steps} steps, trace {world.digest()}")
    for name, what in world.faults.struck.items():
        print(f"  {name}: {what}")
    for what, detail in world.violations:
        print(f"VIOLATION {what}: {detail}")
    return 1 if world.violations else 0


def many_seeds(first: int, seeds: int, jobs: int) -> int:
    began = time.perf_counter()
    tally = Tally()
    chunks = [range(at, min(at + CHUNK, first + seeds)) for at in range(first, first + seeds, CHUNK)]
    if jobs <= 1:
        for chunk in chunks:
            tally.add(many(chunk))
    else:
        with ProcessPoolExecutor(jobs) as pool:
            for part in pool.map(many, chunks):
                tally.add(part)
    took_s = time.perf_counter() - began
    show(tally, took_s)
    return 1 if tally.wrong else 0


def show(tally: Tally, took_s: float) -> None:
    for seed, violations in sorted(tally.wrong.items()):
        for what, detail in violations[:4]:
            print(f"seed {seed}: {what}: {detail}")
    kinds: dict[str, list[int]] = {}
    for seed, violations in sorted(tally.wrong.items()):
        for what in dict.fromkeys(what for what, _ in violations):
            kinds.setdefault(what, []).append(seed)
    print(f"\n{tally.seeds} seeds, {tally.lives} job lives, {tally.calls} calls, {tally.accepted} accepted requests, "
          f"{tally.virtual_s / 3600:.1f} h of virtual time in {took_s:.1f} s: "
          f"{60 * tally.lives / took_s:.0f} lives a minute")
    print("faults: " + ", ".join(f"{kind} {n}" for kind, n in sorted(tally.faults.items())))
    if not kinds:
        print("no violation")
    for what, where in sorted(kinds.items(), key=lambda item: -len(item[1])):
        print(f"{len(where):6} seeds: {what}: {command(where[0])}")
