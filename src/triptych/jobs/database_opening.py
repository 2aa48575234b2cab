"""Opens the configured database with the clock that belongs to it, and keeps in touch with its server.

That is: the server's clock is measured again and again, and changes by other processes are heard.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import anyio

from triptych.core import errors
from triptych.core.clock import Clock, SystemClock
from triptych.jobs.config import ServiceConfig
from triptych.storage.async_store import Hop, one_thread, threads
from triptych.storage.database import Database

log = logging.getLogger(__name__)

DATABASE_THREADS = 8
"""How many calls to PostgreSQL run at a time, each on a connection of its own."""
MEASURE_EVERY_S = 5.0
GATHER_S = 0.05
"""Changes of this time are told at once, so that many of them wake a process seldom."""
LISTEN_AGAIN_S = 2.0
LISTEN_AGAIN_LATER_S = 300.0
"""After a refusal that waiting does not change, such as by a pooler."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A database, and the clock that its leases and due times are of. `is_shared`: other machines may use it too."""

    database: Database
    clock: Clock
    is_shared: bool


def hop_for(config: ServiceConfig) -> Hop:
    """Return a hop for the configured database: PostgreSQL takes several calls at a time."""
    return threads(DATABASE_THREADS) if config.database_url else one_thread()


def open_with_clock(config: ServiceConfig) -> Opened:
    """Open the configured database; this may block.

    Raises: `errors.Unusable` if it cannot be used, `errors.Outage` if it cannot be used now.
    """
    database, local = config.open_database(), SystemClock()
    return Opened(database, database.clock(local), config.database_url is not None)


async def keep_clock(opened: Opened, hop: Hop) -> None:
    """Measure the clock of a database server again and again; return at once for this machine's own clock."""
    while opened.is_shared:
        await opened.clock.wait(anyio.Event(), MEASURE_EVERY_S)
        try:
            await hop(opened.database.measure_clock)
        except errors.Outage as error:  # meanwhile this machine's monotonic clock counts on; the store logs the outage
            log.debug("the clock of the database was not read: %s", error.for_operator)
        except Exception:  # such as a thread that cannot start: the service goes on
            log.exception("internal error while reading the clock of the database")


async def keep_listening(opened: Opened, hop: Hop, changed: Callable[[str | None], None]) -> None:
    """Call `changed` with the id of each job that another process has changed; return at once if none can be heard.

    None: some changes may have been missed.
    """
    while opened.is_shared:
        try:
            listener = await hop(opened.database.listener)
            if listener is None:
                return
            changed(None)
            try:
                while True:
                    await anyio.wait_readable(listener)
                    for job_id in listener.heard():
                        changed(job_id)
                    await anyio.sleep(GATHER_S)
            finally:
                listener.close()
        except errors.Unusable as error:
            log.info("%s", error.for_operator)
            await opened.clock.wait(anyio.Event(), LISTEN_AGAIN_LATER_S)
        except errors.Outage as error:
            log.debug("changes by other processes are not heard: %s", error.for_operator)
            await opened.clock.wait(anyio.Event(), LISTEN_AGAIN_S)
        except Exception:  # everything is right without it
            log.exception("internal error while listening for changes by other processes")
            await opened.clock.wait(anyio.Event(), LISTEN_AGAIN_S)
