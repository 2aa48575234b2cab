"""Prints what seeds did: a trace for one, a table for many, and the fewest faults for what failed."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from simulation.reduce import reduced
from simulation.runner import Tally, many, one
from simulation.spoil import spoil

CHUNK = 10


def command(seed: int, only: Collection[str] | None = None, database: str = "") -> str:
    """Return the command that repeats a seed exactly."""
    named = "" if only is None else f" --only '{','.join(only)}'"
    chosen = f" --database {database}" if database else ""
    return f"python -m benchmarks.simulation --seed {seed}{chosen}{named}"


def one_seed(
    seed: int,
    only: Sequence[str] | None,
    without: Sequence[str],
    *,
    quiet: bool = False,
    spoils: bool = False,
    database: str = "",
) -> int:
    """Live one world and print its trace; return 1 if it broke a rule."""
    world = one(seed, only, without, trace=not quiet, spoil=spoil if spoils else None, database=database)
    for line in world.notes:
        print(line)
    print(
        f"seed {seed} on {world.database}: {world.lives} jobs, {world.calls} calls, {len(world.accepted)} accepted, "
        f"{world.loop.now:.0f} s, {world.loop.steps} steps, trace {world.digest()}"
    )
    for name, what in world.faults.struck.items():
        print(f"  {name}: {what}")
    for what, detail in world.violations:
        print(f"VIOLATION {what}: {detail}")
    return 1 if world.violations else 0


def cut_down(seed: int, what: str, database: str = "") -> str:
    """Return, as text, the fewest faults with which a seed still breaks a rule, and the command that repeats it."""
    world = one(seed, database=database)
    fewest = reduced(seed, what, list(world.faults.struck), database)
    last = one(seed, only=fewest, database=database)
    lines = [f"{what}, with {len(fewest)} of {len(world.faults.struck)} faults: {command(seed, fewest, database)}"]
    lines += [f"    {name}: {last.faults.struck.get(name, 'never met')}" for name in fewest]
    lines += [f"    → {detail}" for found, detail in last.violations if found == what][:3]
    return "\n".join(lines)


def many_seeds(first: int, seeds: int, jobs: int, *, reduces: bool = True, database: str = "") -> int:
    """Live many worlds on `jobs` processes, print what they did, and cut down the first failure of each kind."""
    began = time.perf_counter()
    tally = Tally()
    chunks = [range(at, min(at + CHUNK, first + seeds)) for at in range(first, first + seeds, CHUNK)]
    with ProcessPoolExecutor(max(jobs, 1)) as pool:
        for part in pool.map(partial(many, database=database), chunks):
            tally.add(part)
        show(tally, time.perf_counter() - began, database=database)
        if reduces:
            failed = [(seeds[0], what, database) for what, seeds in by_kind(tally).items()]
            for text in pool.map(_cut_down, failed):
                print("\n" + text)
    return 1 if tally.wrong else 0


def _cut_down(failed: tuple[int, str, str]) -> str:
    return cut_down(*failed)


def by_kind(tally: Tally) -> dict[str, list[int]]:
    """Return the seeds that broke each rule."""
    kinds: dict[str, list[int]] = {}
    for seed, violations in sorted(tally.wrong.items()):
        for what in dict.fromkeys(what for what, _ in violations):
            kinds.setdefault(what, []).append(seed)
    return kinds


def show(tally: Tally, took_s: float, most: int = 3, database: str = "") -> None:
    """Print the table: what was lived, what went wrong in it, which rules broke."""
    print(
        f"{tally.seeds} seeds, {tally.lives} job lives, {tally.calls} calls, {tally.accepted} accepted requests, "
        f"{tally.virtual_s / 3600:.1f} h of virtual time in {took_s:.1f} s: "
        f"{60 * tally.lives / took_s:.0f} lives a minute"
    )
    print("faults: " + (", ".join(_counted(sorted(tally.faults.items()))) or "none"))
    kinds = by_kind(tally)
    if not kinds:
        print("no violation")
    for what, seeds in sorted(kinds.items(), key=lambda item: -len(item[1])):
        print(f"{len(seeds):6} seeds: {what}: {command(seeds[0], database=database)}")
        for seed in seeds[:most]:
            detail = next(detail for found, detail in tally.wrong[seed] if found == what)
            print(f"              {seed}: {detail[:300]}")


def _counted(items: Iterable[tuple[str, int]]) -> list[str]:
    return [f"{kind} {n}" for kind, n in items]
