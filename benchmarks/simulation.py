"""Runs the deterministic simulation: `python -m benchmarks.simulation --seeds 1000 [--first 1] [--jobs 2]`.

`--seed 1234` lives one world and prints its trace; `--only` and `--without` name the faults that may, or may not,
happen in it. `--mutants --seeds 500` puts known mistakes back, one at a time, and finds each. Each failure is printed
with the command that repeats it exactly.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests")]
HASH_SEED = "0"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many worlds")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes side by side")
    parser.add_argument("--seed", type=int, help="just this world, with its trace")
    parser.add_argument("--only", help="names of the only faults that happen, with commas")
    parser.add_argument("--without", help="names of faults that do not happen, with commas")
    parser.add_argument("--mutants", action="store_true", help="put known mistakes back, and find each")
    parser.add_argument("--mutant", help="live with this mistake in the program")
    parser.add_argument("--hunt", help=argparse.SUPPRESS)
    parser.add_argument("--no-reduce", action="store_true", help="do not cut failing worlds down")
    parser.add_argument("--quiet", action="store_true", help="no trace")
    parser.add_argument("--after", help="seeds to live first, with commas: the world must be the same after them")
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="", help="else each seed decides")
    parser.add_argument("--spoil", action="store_true", help="break the books before the audit")
    asked = parser.parse_args(argv)
    if os.environ.get("PYTHONHASHSEED") != HASH_SEED:
        os.execve(  # the same program, with the order of sets fixed
            sys.executable,
            [sys.executable, "-m", "benchmarks.simulation", *argv],
            {**os.environ, "PYTHONHASHSEED": HASH_SEED},
        )
    if asked.mutants:
        from simulation import hunt, mutants

        names = [mutant.name for mutant in mutants.MUTANTS if not asked.mutant or asked.mutant in mutant.name]
        return hunt.every(names, asked.first, asked.seeds, asked.jobs)
    if asked.mutant or asked.hunt:
        from simulation import mutants

        mutants.put_in(asked.mutant or asked.hunt)
    if asked.hunt is not None:
        from simulation import hunt

        hunt.hunt(asked.first, asked.seeds, asked.database)
        return 0
    from simulation import report

    if asked.seed is not None:
        only = None if asked.only is None else [name for name in asked.only.split(",") if name]
        without = [name for name in (asked.without or "").split(",") if name]
        for earlier in (asked.after or "").split(",") if asked.after else ():
            report.one(int(earlier), database=asked.database)
        return report.one_seed(
            asked.seed, only, without, quiet=asked.quiet, spoils=asked.spoil, database=asked.database
        )
    return report.many_seeds(asked.first, asked.seeds, asked.jobs, reduces=not asked.no_reduce, database=asked.database)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
