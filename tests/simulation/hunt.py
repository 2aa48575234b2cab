"""Looks for the first seed in which a mutant breaks a rule that the program without it keeps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from simulation.mutants import MUTANTS

ROOT = Path(__file__).resolve().parents[2]


def hunt(first: int, seeds: int, database: str = "") -> None:
    """Live seeds in this process, which has a mutant in it; print a JSON line for each: the seed, its violations.

    The parent ends this process when it has what it wants.
    """
    from simulation.runner import many

    for seed in range(first, first + seeds):
        tally = many([seed], database)
        print(json.dumps([seed, tally.wrong.get(seed, [])]), flush=True)


def _child(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.simulation", *arguments]
    env = {**os.environ, "PYTHONHASHSEED": "0"}
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def _broken(*arguments: str) -> Iterator[tuple[int, list[list[str]]]]:
    child = _child(*arguments)
    assert child.stdout
    try:
        for line in child.stdout:
            seed, violations = json.loads(line)
            yield seed, violations
    finally:
        child.kill()
        child.wait()


def found(name: str, first: int, seeds: int) -> tuple[int, int, str, str] | None:
    """Return how many seeds it took, the seed, the rule it broke and how; None if the mutant was not found."""
    lived = 0
    database = next(mutant.database for mutant in MUTANTS if mutant.name == name)
    chosen = ("--database", database) if database else ()
    for seed, violations in _broken("--hunt", name, "--first", str(first), "--seeds", str(seeds), *chosen):
        lived += 1
        if not violations:
            continue
        clean = next(_broken("--hunt", "", "--first", str(seed), "--seeds", "1", *chosen))[1]
        rules = {what for what, _ in clean}
        for what, detail in violations:
            if what not in rules:
                return lived, seed, what, detail
    if lived < seeds:
        print(f"the hunt for {name!r} ended by itself after {lived} seeds", flush=True)
    return None


def every(names: Sequence[str], first: int, seeds: int, jobs: int) -> int:
    """Hunt all mutants, print the table, and return how many were not found."""
    missed = 0
    began = time.perf_counter()
    with ThreadPoolExecutor(jobs) as pool:
        hunts = {pool.submit(found, name, first, seeds): name for name in names}
        for done in as_completed(hunts):
            name, caught = hunts[done], done.result()
            if caught is None:
                missed += 1
                print(f"NOT FOUND in {seeds} seeds: {name}", flush=True)
            else:
                lived, seed, what, detail = caught
                print(f"{lived:4} seeds: {name}: {what} (seed {seed}: {detail[:120]})", flush=True)
    print(f"{len(names) - missed} of {len(names)} mutants found in {time.perf_counter() - began:.0f} s")
    return missed
