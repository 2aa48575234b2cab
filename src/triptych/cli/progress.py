"""The progress of a job on stderr: a bar for each step on a terminal, lines elsewhere. Stdout stays for the result."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from triptych.cli.output import Screen
from triptych.core.errors import format_usd
from triptych.core.text import line

if TYPE_CHECKING:
    from triptych.jobs.results import JobResult, JobStages

PATIENCE_S = 2.0
"""A longer job shows its progress."""
LINE_EVERY_S = 60.0
"""How often the same count is printed again, with another remaining time."""
LINE_SHARE = 20
"""A line for each such part of the images, not for each of 2,000."""
BAR_CHARS = 24
LABEL_CHARS = 28


class Progress:
    """Redraws a bar for each step on a terminal; elsewhere writes a line at each change. Nothing at first."""

    def __init__(self, screen: Screen, columns: int | None = None) -> None:
        self._screen = screen
        self._columns = columns
        self._began = self._written_s = time.monotonic()
        self._reported: tuple[str, int] | None = None
        self._drawn = 0

    def is_due(self) -> bool:
        """Return whether the job has run long enough to show its progress."""
        return time.monotonic() - self._began >= PATIENCE_S

    def show(self, result: JobResult, stages: JobStages) -> None:
        """Show how far the job is."""
        if _redraws():
            self._draw(result, stages)
            return
        reported = (result.status, result.returned * LINE_SHARE // max(result.requested, 1))
        if reported == self._reported and time.monotonic() - self._written_s < LINE_EVERY_S:
            return
        self._reported, self._written_s = reported, time.monotonic()
        self._screen.note(f"{result.job_id} {result.status}, {facts(result, stages)}")

    def _draw(self, result: JobResult, stages: JobStages) -> None:
        import shutil

        columns = self._columns or shutil.get_terminal_size().columns
        lines = [*bars(stages, columns), line(f"{result.job_id} {facts(result, stages)}", columns - 1)]
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        # On Windows click translates these two sequences for consoles that do not know them.
        click.echo(up + "".join(f"\x1b[2K{text}\n" for text in lines), err=True, nl=False)
        self._drawn = len(lines)


def _redraws() -> bool:
    """Return whether lines on stderr can be written again: not in a file, and not on a dumb terminal."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def facts(result: JobResult, stages: JobStages) -> str:
    """Return the number of images, the remaining time and the cost so far in words."""
    from triptych.jobs.results import time_left

    words = [f"{result.returned} of {result.requested} images"]
    words += [time_left(result.progress.remaining_s)] if result.progress.remaining_s else []
    if result.cost.quoted:
        words.append(f"${format_usd(stages.spent)} of ${format_usd(result.cost.quoted)}")
    return ", ".join(words)


def bars(stages: JobStages, columns: int) -> Sequence[str]:
    """Return a line for each step that fits the columns: its words and its bar, as far as there is room."""
    counts = [f" {one.done}/{one.total}" + (f" {one.lost} lost" if one.lost else "") for one in stages.steps]
    room = columns - 1 - 3 - max(map(len, counts), default=0)
    bar_chars = min(BAR_CHARS, room - 2) if room >= 7 else 0
    label_chars = min(LABEL_CHARS, room - bar_chars - 3)
    found = []
    for number, (stage, count) in enumerate(zip(stages.steps, counts, strict=True), 1):
        full = bar_chars * stage.done // max(stage.total, 1)
        bar = f"[{'#' * full}{'-' * (bar_chars - full)}]" if bar_chars else ""
        label = f"{line(stage.prompt, label_chars):{label_chars}} " if label_chars >= 8 else ""
        # A line that wraps cannot be redrawn.
        found.append(f"{number:2} {label}{bar}{count}"[: max(columns - 1, 1)])
    return found
