"""Somebody else's program with the same key: its predictions stand in the same histories, and are nobody's business."""

from __future__ import annotations

import asyncio
from typing import Any

from simulation.providers import Provider, stranger


class Stranger:
    """Asks one provider for pictures now and then, often for just what our clients ask for."""

    def __init__(self, world: Any, provider: Provider) -> None:
        self._world = world
        self._provider = provider
        self._chance = world.chance(f"stranger at {provider.name}")
        self._asked = 0

    async def live(self) -> None:
        chance = self._chance
        if chance.random() < 0.5:
            return
        while self._world.faults_on():
            await asyncio.sleep(chance.expovariate(1 / 40))
            self._asked += 1
            await self._ask(f"a red kite #x{self._asked}.1", chance.choice((1, 2, 3)))

    async def _ask(self, prompt: str, count: int) -> None:
        """Send what our own program would send, in its own body, under another name."""
        from triptych import providers
        from triptych.core.models import Edit
        from triptych.core.offers import Operation

        provider = providers.load(self._provider.name)
        offers = [offer for offer in provider.offers if offer.operation is Operation.GENERATE_SEQUENTIAL]
        offer = self._chance.choice(offers)
        edit = Edit(offer, prompt, count, (2048, 2048), None, client_id=f"00000000-0000-4000-8000-{self._asked:012d}")
        call: Any = next(provider.submit(edit))
        headers = [(name.lower().encode(), value.encode()) for name, value in call.headers.items()]
        headers.append((b"authorization", f"Bearer {self._provider.api.key}".encode()))
        base = next(iter(provider.base_urls.values())).default
        path = "/" + base.partition("://")[2].partition("/")[2].rstrip("/")
        await stranger(self._provider, call.json, (path.rstrip("/") + call.path) or "/", headers)
