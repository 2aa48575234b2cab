"""The processes of the soak besides its driver: one server each, and one that holds the six emulated providers.

    python -m benchmarks.soak_child server              an MCP server on stdio, its settings in the environment
    python -m benchmarks.soak_child emulators '{…}'     one line with the base URLs; every line in brings out the books

The server is the real one but for two values that it is handed. More requests may run at once (`MAX_RUNNING`), and its
clock is another: it starts a day ago and goes `SOAK_HASTE` times as fast, in all of these processes alike. Leases,
back-offs and deadlines keep their lengths on it. It starts in the past because file times are the machine's: a
half-written file would otherwise look old at once.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import anyio

from triptych.core.clock import SystemClock

BEHIND_S = 86_400.0
MAX_RUNNING = 16
"""So many requests may run at a provider at once, in place of 4 or 8: more of them then meet each other."""


class HastyClock(SystemClock):
    """The clock that all processes of a soak share: real time since `began_s`, `haste` times as fast."""

    def __init__(self, began_s: float, haste: float) -> None:
        self._began_s = began_s
        self._haste = haste

    @classmethod
    def of_environment(cls) -> HastyClock:
        return cls(float(os.environ["SOAK_BEGAN_S"]), float(os.environ["SOAK_HASTE"]))

    def seconds(self) -> float:
        """Return the time in UTC seconds."""
        return self._began_s - BEHIND_S + (time.time() - self._began_s) * self._haste

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds(), UTC)

    def monotonic(self) -> float:
        return self.seconds()

    async def wait(self, event: anyio.Event, seconds: float) -> None:
        await super().wait(event, seconds / self._haste)


def serve() -> None:
    """Serve MCP on stdio, as `triptych` does, by the shared clock."""
    from triptych.jobs import database_opening
    from triptych.server import transports
    from triptych.settings import read as read_settings

    database_opening.SystemClock = HastyClock.of_environment  # type: ignore[misc,assignment]
    settings = read_settings(os.environ)
    accounts = {
        name: replace(account, provider=replace(account.provider, max_running=MAX_RUNNING))
        for name, account in settings.setup.accounts.items()
    }
    transports.serve(replace(settings, setup=replace(settings.setup, accounts=accounts)))


def emulate(asked: dict[str, Any]) -> None:
    """Run all emulated providers until stdin closes; `share` of everything goes wrong, drawn with `seed`."""
    import triptych_emulators

    clock = HastyClock.of_environment()
    with ExitStack() as stack:
        apis = []
        for place, name in enumerate(triptych_emulators.names()):
            switches: dict[str, Any] = {} if name in ("ark", "novita") else {"balance_usd": "100000"}
            switches |= {"files_kept": 1_000_000} if name == "evolink" else {}
            running = triptych_emulators.running(
                name, latency_s=asked["latency_s"], max_side=16, clock=clock.seconds, painter=paint, **switches
            )
            api = stack.enter_context(running)
            if asked["share"]:
                api.chance(asked["share"], asked["seed"] + place, asked["but"])
            apis.append(api)
        say({api.name: [api.base_url, api.key, api.key_variable] for api in apis})
        for _ in sys.stdin:
            say([entry for api in apis for entry in books(api)])


def books(api: Any) -> list[dict[str, Any]]:
    """Return what an emulated provider has accepted, and what it charges for each."""
    now = api.clock()
    return [
        {
            "provider": api.name,
            "id": work.id,
            "prompt": work.spec.prompt,
            "charged_usd": str(work.charge_usd(now)),
        }
        for work in api.jobs
    ]


def paint(
    images: Sequence[bytes], prompt: str, *, count: int, size: tuple[int, int], mime_type: str, seed: str
) -> list[bytes]:
    """Return plain colours, another one for every request and place: a soak is about bytes, not about pictures."""
    from PIL import Image

    made = []
    for place in range(count):
        colour = hashlib.sha256(repr((images, prompt, place, seed)).encode()).digest()
        panel = Image.frombytes("RGB", (2, 2), colour[:12]).resize(size)
        panel.save(data := io.BytesIO(), mime_type.partition("/")[2])
        made.append(data.getvalue())
    return made


def say(told: Any) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


def main(argv: Sequence[str]) -> None:
    if argv[0] == "server":
        serve()
    else:
        emulate(json.loads(argv[1]))


if __name__ == "__main__":
    main(sys.argv[1:])
