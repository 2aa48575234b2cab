"""What is known of every paid request that a server began to send: whether it may have been accepted.

The rule it watches is stricter than "accepted once": a request that may have left is not sent again, unless the
provider knows it by an id of ours, or its list was read in the meantime and did not have it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from simulation.loop import Process


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

    def begins(self, tag: Any, provider: Any, process: Process) -> Attempt:
        world, earlier = self._world, self.by_id[tag.client_id]
        looked_s = self._looked.get(tag.client_id, -1.0)
        for one in earlier:
            if not one.end and not provider.repeatable and looked_s <= one.at_s:
                world.wrong(
                    "sent again though it may have left",
                    f"{tag.client_id} at {provider.name}: at {one.at_s:.1f} s, and at {world.loop.now:.1f} s",
                )
        made = Attempt(process, world.loop.now)
        earlier.append(made)
        return made

    def looked(self, tag: Any) -> None:
        """Note that the provider's list was read for a request."""
        self._looked[tag.client_id] = self._world.loop.now
