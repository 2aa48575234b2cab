"""What is left when a process is killed, at every moment of a job: `python -m benchmarks.crash_matrix [KIND …]`.

`--database postgres` does it on a real PostgreSQL server; the process that goes on then has a home of its own.

Six kinds of provider × four shapes of job, each killed for real before and after every write and at every request,
answer, event and half-written file; another process then goes on with what it finds. A row is one cell. Whatever does
not hold is printed under the table, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support import crash_matrix

HEAD = ("kind", "shape", "moments", "kills", "jobs", "submits expected", "submits seen", "done", "uncertain")


def main(arguments: list[str]) -> None:
    """Kill, go on, judge; print a row for each cell."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crash_matrix", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(crash_matrix.KINDS))
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    asked = parser.parse_args(arguments)
    kinds, on_postgres = asked.kinds, asked.database == "postgres"
    began, violations, kills = time.monotonic(), [], 0
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    with crash_matrix.ready_child() as child:
        for kind in kinds or crash_matrix.KINDS:
            for shape in crash_matrix.SHAPES:
                with tempfile.TemporaryDirectory() as root:
                    tally = crash_matrix.run(child, kind, shape, Path(root), every=True, on_postgres=on_postgres)
                about = f"{kind}: {crash_matrix.KINDS[kind].about}"
                cells = (about, shape, tally.moments, tally.kills, tally.jobs, tally.submits_expected)
                cells = (*cells, tally.submits_seen, tally.done, tally.uncertain)
                print(f"| {' | '.join(map(str, cells))} |", flush=True)
                kills += tally.kills
                violations += tally.violations
    print(f"\n{kills} processes killed in {time.monotonic() - began:.0f} s; {len(violations)} violations.")
    for violation in violations:
        print(f"- {violation}")
    raise SystemExit(bool(violations))


if __name__ == "__main__":
    main(sys.argv[1:])
