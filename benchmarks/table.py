"""What every benchmark prints: one table, and whether the targets were met.

A row compares two things that were measured in the same run; its ratio carries over to other machines, its times do
not. A row without a target is there to be read.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

HEAD = ("what", "Triptych", "compared with", "ratio", "target", "")


@dataclass(frozen=True, slots=True)
class Row:
    """One figure, with its units in its text. `met` is None where there is no target."""

    what: str
    ours: str
    theirs: str = ""
    ratio: float | None = None
    target: str = ""
    met: bool | None = None

    def cells(self) -> tuple[str, ...]:
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}×"
        verdict = "" if self.met is None else "met" if self.met else "MISSED"
        return (self.what, self.ours, self.theirs, ratio, self.target, verdict)


def at_most(what: str, ours: float, theirs: float, unit: str, *, limit: float, name: str, digits: int = 0) -> Row:
    """Return a row whose target is that ours is at most `limit` times theirs."""
    ratio = ours / theirs
    return Row(
        what,
        f"{ours:,.{digits}f} {unit}",
        f"{theirs:,.{digits}f} {unit} ({name})",
        ratio,
        f"≤ {limit:g}×",
        ratio <= limit,
    )


def show(rows: Sequence[Row]) -> None:
    """Print the rows as a Markdown table whose columns line up."""
    table = [HEAD, *(row.cells() for row in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(HEAD))]
    table.insert(1, tuple("-" * width for width in widths))
    for line in table:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")


def main(measure: Callable[[], Sequence[Row]], *, always_check: bool = False) -> None:
    """Measure, print the table, and with `--check` (or always) leave with status 1 when a target was missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true", help="exit with status 1 when a target was missed")
    check = parser.parse_args().check or always_check
    rows = measure()
    show(rows)
    if check and any(row.met is False for row in rows):
        raise SystemExit(1)
