"""Log lines about an outage: its beginning, once a minute that it lasts, and its end."""

from __future__ import annotations

import logging
from typing import Protocol

from triptych.core.errors import TriptychError

AGAIN_S = 60.0
"""How long the same outage is not logged again."""


class Monotonic(Protocol):
    """The part of a clock that is needed here."""

    def monotonic(self) -> float: ...


class OutageLog:
    """Logs an outage that many calls notice: at most one line in `AGAIN_S`, and one when it is over.

    `failed` and `answered` are called for every call, in any order.
    """

    def __init__(self, log: logging.Logger, clock: Monotonic, about: str) -> None:
        """`about` begins each line."""
        self._log = log
        self._clock = clock
        self._about = about
        self._said_s: float | None = None
        self._began_s: float | None = None

    def failed(self, error: Exception) -> None:
        """Note that a call failed; an error that Triptych did not raise on purpose is logged with its traceback."""
        now_s = self._clock.monotonic()
        if self._said_s is not None and now_s - self._said_s < AGAIN_S:
            return
        self._said_s = now_s
        self._began_s = now_s if self._began_s is None else self._began_s
        if isinstance(error, TriptychError):
            self._log.warning("%s: %s", self._about, error.for_operator)
        else:
            self._log.error("%s", self._about, exc_info=error)

    def answered(self) -> None:
        """Note that a call did not fail."""
        if self._began_s is not None:
            lasted_s, self._began_s = self._clock.monotonic() - self._began_s, None
            self._log.warning("%s: over after %.0f s", self._about, lasted_s)
