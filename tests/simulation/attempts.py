"""What is known of every paid request that a server began to send: whether it may have been accepted.

The rules it watches are stricter than "accepted once": a request that may have left is not sent again, unless the
provider knows it by an id of ours, or its list was read in the meantime for a minute and did not have it. And it is
sent by nobody but the process that holds the prediction.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from simulation.loop import Process

UNHEARD_S = 60.0
"""So long a request may be on its way whose sender says nothing any more."""


@dataclass(slots=True)
class Attempt:
    """One try to send a paid request; `end` stays empty while it may have been accepted."""

    process: Process
    at_s: float
    left: bool = False
    end: str = ""
    exchange: Any = None

    def ends(self, how: str) -> None:
        if self.process.alive:
            self.end = how


class Attempts:
    """All of them, by the id that a prediction was given before anything was sent."""

    def __init__(self, world: Any) -> None:
        self._world = world
        self.by_id: dict[str, list[Attempt]] = defaultdict(list)
        self._looked: dict[str, float] = {}

    def begins(self, tag: Any, process: Process) -> Attempt:
        made = Attempt(process, self._world.loop.now)
        self.by_id[tag.client_id].append(made)
        return made

    def leaves(self, attempt: Attempt, tag: Any, provider: Any) -> None:
        """Note that a request is on its way now; it may not be if an earlier one is."""
        world = self._world
        looked_s = self._looked.get(tag.client_id, -1.0)
        attempt.left = True
        for one in self.by_id[tag.client_id]:
            if one is attempt or one.end or provider.repeatable:
                continue
            when = f"{tag.client_id} at {provider.name}: at {one.at_s:.1f} s, and at {world.loop.now:.1f} s"
            if looked_s <= one.at_s:
                world.wrong("sent again though it may have left", when)
            elif world.loop.now - one.at_s < UNHEARD_S:
                world.wrong("sent again though it may still be on its way", when)

    def looked(self, tag: Any) -> None:
        """Note that the provider's list was read for a request."""
        self._looked[tag.client_id] = self._world.loop.now
