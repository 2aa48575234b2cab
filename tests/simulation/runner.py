"""Runs seeds: one after another in this process, or on several processes, and counts what they did."""

from __future__ import annotations

import gc
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from itertools import count

from simulation.world import World, lived


@dataclass(slots=True)
class Tally:
    """What some seeds did; `wrong` has, of each seed that failed, its violations."""

    seeds: int = 0
    lives: int = 0
    calls: int = 0
    accepted: int = 0
    virtual_s: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    wrong: dict[int, list[tuple[str, str]]] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        self.seeds += other.seeds
        self.lives += other.lives
        self.calls += other.calls
        self.accepted += other.accepted
        self.virtual_s += other.virtual_s
        self.faults += other.faults
        self.wrong |= other.wrong


def one(
    seed: int,
    only: Collection[str] | None = None,
    without: Collection[str] = (),
    trace: bool = False,
    spoil: Callable[[World], None] | None = None,
    database: str = "",
) -> World:
    """Return the world of a seed after its life; an error of the simulation itself is a violation too."""
    world = World(seed, only=only, without=without, trace=trace, database=database)
    world.spoil = spoil
    try:
        from simulation import stand_ins

        stand_ins.install()
        world.run()
    except Exception as error:
        world.violations.append(("the simulation broke", f"{error!r} {traceback.format_exc()[-1500:]}"))
    return world


def many(seeds: Iterable[int], database: str = "") -> Tally:
    """Run seeds one after another in this process."""
    tally = Tally()
    for seed in seeds:
        world = one(seed, database=database)
        tally.seeds += 1
        tally.lives += world.lives
        tally.calls += world.calls
        tally.accepted += len(world.accepted)
        tally.virtual_s += world.loop.now
        tally.faults += world.faults.kinds
        if world.violations:
            tally.wrong[seed] = list(world.violations)
        del world
        if next(_lived) % 10 == 0:
            gc.collect()  # not while a world lives: what it collects would unwind in it
    return tally


_lived = count(1)


__all__ = ["Tally", "lived", "many", "one"]
