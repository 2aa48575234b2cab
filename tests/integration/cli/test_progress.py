"""The progress of a job on stderr: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import io
import sys
from decimal import Decimal

import pytest

from support.servers import job_result
from triptych.cli import progress
from triptych.cli.output import Screen
from triptych.cli.progress import Progress, bars
from triptych.jobs.results import Cost, JobResult, JobStages, Stage
from triptych.jobs.results import Progress as Done

STAGES = JobStages(
    steps=[
        Stage(prompt="Remove the background and leave the shadow", done=120, lost=3, total=200),
        Stage(prompt="Soft evening light", done=80, lost=0, total=200),
    ],
    spent=Decimal("6.4"),
)


class Terminal(io.StringIO):
    """A stderr that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def running(returned: int = 200, remaining_s: int | None = 250) -> JobResult:
    return job_result(
        job_id="job_12345678",
        status="running",
        returned=returned,
        requested=400,
        progress=Done(done=returned, total=400, remaining_s=remaining_s),
        cost=Cost(quoted=Decimal(16)),
    )


def terminal(patch: pytest.MonkeyPatch) -> Terminal:
    """Return the stderr of this test, which says that it is a terminal."""
    stderr = Terminal()
    patch.setattr(sys, "stderr", stderr)
    patch.delenv("TERM", raising=False)
    return stderr


def test_each_step_has_a_bar_with_its_lanes() -> None:
    assert bars(STAGES, 80) == [
        " 1 Remove the background and l… [##############----------] 120/200 3 lost",
        " 2 Soft evening light           [#########---------------] 80/200",
    ]


@pytest.mark.parametrize("columns", [1, 10, 20, 32, 40, 60, 79, 200])
def test_no_line_is_wider_than_the_terminal(columns: int) -> None:
    assert all(len(text) < max(columns, 2) for text in bars(STAGES, columns))


def test_a_narrow_terminal_keeps_the_counts() -> None:
    assert bars(STAGES, 32) == [" 1 [######-----] 120/200 3 lost", " 2 [####-------] 80/200"]
    assert bars(STAGES, 20) == [" 1  120/200 3 lost", " 2  80/200"]


def test_a_terminal_shows_time_left_and_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = terminal(monkeypatch)
    Progress(Screen(as_json=False), columns=80).show(running(), STAGES)
    last = stderr.getvalue().splitlines()[-1]
    assert last.endswith("job_12345678 200 of 400 images, about 4 min left, $6.4 of $16")


def test_bars_are_drawn_over_the_last_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = terminal(monkeypatch)
    shown = Progress(Screen(as_json=False), columns=80)
    shown.show(running(), STAGES)
    first = stderr.getvalue()
    shown.show(running(201), STAGES)
    assert "\x1b[3A" not in first and stderr.getvalue().removeprefix(first).startswith("\x1b[3A")


def test_a_prompt_moves_no_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = terminal(monkeypatch)
    hostile = Stage(prompt="\x1b[2J\r\n\x1b[9Aevening", done=1, lost=0, total=2)
    Progress(Screen(as_json=False), columns=80).show(running(), JobStages(steps=[hostile], spent=Decimal(0)))
    assert "\x1b[2J" not in stderr.getvalue() and "\x1b[9A" not in stderr.getvalue()
    assert len(stderr.getvalue().splitlines()) == 2


def test_elsewhere_lines_say_it_without_sequences(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress(Screen(as_json=True))
    for returned in range(400):
        shown.show(running(returned, None if returned < 3 else 100), STAGES)
    told = capsys.readouterr()
    assert told.out == "" and "\x1b" not in told.err
    lines = told.err.splitlines()
    assert len(lines) == progress.LINE_SHARE, "a line for each twentieth, not for each image"
    assert lines[1] == "job_12345678 running, 20 of 400 images, about 2 min left, $6.4 of $16"


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = terminal(monkeypatch)
    monkeypatch.setenv("TERM", "dumb")
    Progress(Screen(as_json=False)).show(running(), STAGES)
    assert "\x1b" not in stderr.getvalue()
