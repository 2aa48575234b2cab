"""The caller of a use-case. Pure."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

Report = Callable[[float, float, str], Awaitable[None]]
"""Called with progress: done, total, one line of text."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The rights and wishes of one call: further directories, progress reports, and the owner whose jobs it sees.

    `owner` is None for the person at the machine, who sees everything and whose jobs have no owner. `asks`: the user
    can be asked before a costly job; then only a yes confirms one, up to `agreed_usd`. `left_s` returns how long the
    caller still waits; it waits for images to be read for `read_limit_s` at most. `files_url` is the base of this
    caller's signed URLs; None for a caller that reads the disk.
    """

    roots: tuple[Path, ...] = ()
    report: Report | None = None
    owner: str | None = None
    asks: bool = False
    agreed_usd: Decimal | None = None
    left_s: Callable[[], float] = lambda: math.inf
    read_limit_s: float = math.inf
    files_url: str | None = None

    def sees(self, owner: str | None) -> bool:
        """Return whether this caller may see the jobs and images of `owner`."""
        return self.owner is None or self.owner == owner

    async def report_progress(self, done: float, total: float, message: str) -> None:
        """Report progress, if this caller has a `report`."""
        if self.report:
            await self.report(done, total, message)
