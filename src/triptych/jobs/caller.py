"""The caller of a use-case. Pure."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from triptych.core import errors

READ, SPEND = "triptych:read", "triptych:spend"
"""The two rights of a caller who signed in by OAuth, as scopes: what pays nothing, and what may pay."""

Report = Callable[[float, float, str], Awaitable[None]]
"""Called with progress: done, total, one line of text."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The rights and wishes of one call: further directories, progress reports, and the owner whose jobs it sees.

    `owner` is None for the person at the machine, who sees everything and whose jobs have no owner. `asks`: the user
    can be asked before a costly job; then only a yes confirms one, up to `agreed_usd`. `left_s` returns how long the
    caller still waits; it waits for images to be read for `read_limit_s` at most. `files_url` is the base of this
    caller's signed URLs; None for a caller that reads the disk. Without `may_spend` it may use only what pays nothing.
    `group` is the budget group of its jobs, None without one.
    """

    roots: tuple[Path, ...] = ()
    report: Report | None = None
    owner: str | None = None
    asks: bool = False
    agreed_usd: Decimal | None = None
    left_s: Callable[[], float] = lambda: math.inf
    read_limit_s: float = math.inf
    files_url: str | None = None
    may_spend: bool = True
    group: str | None = None

    def sees(self, owner: str | None) -> bool:
        """Return whether this caller may see the jobs and images of `owner`."""
        return self.owner is None or self.owner == owner

    def require_spend(self, what: str) -> None:
        """Raise `errors.NoScope` if this caller may not do what may pay; `what` is the name of a tool."""
        if not self.may_spend:
            raise lacks_spend(what)

    async def report_progress(self, done: float, total: float, message: str) -> None:
        """Report progress, if this caller has a `report`."""
        if self.report:
            await self.report(done, total, message)


def lacks_spend(what: str) -> errors.NoScope:
    """Return the refusal of a call that needs the right to spend."""
    return errors.NoScope(
        f"{what} may pay or send images to a provider, and this sign-in lacks the scope {SPEND}. Nothing was sent. Ask "
        f"the user to sign in again and to allow {SPEND}, or the server's operator to grant it."
    )
