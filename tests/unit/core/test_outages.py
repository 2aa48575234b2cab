"""How often an outage is logged that every call notices."""

from __future__ import annotations

import logging

import pytest

from support.clocks import FakeClock
from triptych.core import errors
from triptych.core.outages import OutageLog

AWAY = errors.Outage("The database is away.", for_operator="db.example does not answer.")
log = logging.getLogger(__name__)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    said = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return said


def test_a_long_outage_is_logged_once_a_minute(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    outage = OutageLog(log, clock, "database")
    for _ in range(300):
        outage.failed(AWAY)
        clock.advance(0.5)
    assert lines(caplog) == ["database: db.example does not answer."] * 3
    outage.answered()
    outage.answered()
    assert lines(caplog) == ["database: over after 150 s"]


def test_a_connection_that_comes_and_goes_is_logged_once_a_minute(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    outage = OutageLog(log, clock, "database")
    for _ in range(100):
        outage.failed(AWAY)
        outage.answered()
        clock.advance(0.5)
    assert len(lines(caplog)) == 2


def test_no_outage_is_no_line(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    OutageLog(log, clock, "database").answered()
    assert lines(caplog) == []


def test_an_unexpected_error_is_logged_with_its_traceback(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    outage = OutageLog(log, clock, "start")
    for _ in range(9):
        outage.failed(RuntimeError("odd"))
    [record] = caplog.records
    assert record.exc_info and record.levelno == logging.ERROR
