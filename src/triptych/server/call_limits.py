"""How many calls of one owner may be in progress at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import mcp_types as types
from mcp.shared.exceptions import MCPError

CALLS_PER_OWNER = 64
"""The most calls in progress of one owner on another machine; further ones are refused until one ends."""


class ConcurrencyLimiter:
    """Counts the calls in progress of each owner, for remote clients, and refuses too many.

    `limits.CallsInProgress` limits connections. Calls are also counted here: closing a connection does not cancel
    calls of pre-2026 clients or over SSE.
    """

    def __init__(self, remote: bool) -> None:
        self._remote = remote
        self._busy: Counter[str | None] = Counter()

    @contextmanager
    def taken(self, owner: str | None) -> Iterator[None]:
        """Count one call for as long as the block runs.

        Raises: `MCPError` if the owner has the most calls in progress.
        """
        if self._remote and self._busy[owner] >= CALLS_PER_OWNER:
            message = f"You have {CALLS_PER_OWNER} calls running, the limit. Nothing was done. Wait until one ends."
            raise MCPError(types.INTERNAL_ERROR, message)
        self._busy[owner] += 1
        try:
            yield
        finally:
            self._busy[owner] -= 1
