"""Work on everything unfinished in a home until nothing is left: `python worker_child.py HOME ATLAS_URL`."""

from __future__ import annotations

import sys

import anyio

from triptych import settings
from triptych.core.clock import SystemClock
from triptych.jobs.service import open_service


async def main(home: str, url: str) -> None:
    environ = {"TRIPTYCH_HOME": home, "ATLASCLOUD_API_KEY": "test-key", "ATLASCLOUD_BASE_URL": url}
    async with open_service(settings.read(environ).setup) as service:
        while service.store.plain.unfinished():
            await SystemClock().wait(service.worker.notifier.next, 0.2)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2])
