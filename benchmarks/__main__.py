"""Runs every benchmark and prints one table: `python -m benchmarks [--check]`."""

from __future__ import annotations

import sys

from benchmarks import detection_lag, economy, large_jobs, loop_block, overhead, start, start_cli, status, upload_memory
from benchmarks.table import Row, main

ALL = (start, start_cli, status, loop_block, detection_lag, upload_memory, large_jobs, economy, overhead)


def measure() -> list[Row]:
    """Return the rows of all of them, in order."""
    rows: list[Row] = []
    for benchmark in ALL:
        print(f"{benchmark.__name__} …", file=sys.stderr)
        rows += benchmark.measure()
    return rows


if __name__ == "__main__":
    main(measure)
