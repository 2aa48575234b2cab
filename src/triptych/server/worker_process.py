"""A process with a worker and no server (`triptych worker`)."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from triptych.core import systems

if TYPE_CHECKING:
    from triptych.settings import Settings


def announce() -> None:
    """Write to stderr that the worker works."""
    sys.stderr.write("Triptych works on jobs; Ctrl-C or SIGTERM ends it.\n")
    sys.stderr.flush()


async def work(
    settings: Settings, on_ready: Callable[[], None] = announce, probes_at: tuple[str, int] | None = None
) -> None:
    """Advance jobs until a SIGTERM or SIGINT; then the steps in progress end (`Worker.run`).

    `probes_at` is the host and port of `/healthz`, `/readyz` and `/metrics`.
    Raises: `errors.BadRequest` if they cannot be served there.
    """
    from triptych import logs
    from triptych.jobs.service import open_service
    from triptych.server import monitoring
    from triptych.server.service_holder import traced

    logs.configure(settings.log_level, settings.log_format)
    with traced():
        async with (
            open_service(settings.setup, worker=False) as service,
            monitoring.probed(service, settings, probes_at) as health,
        ):

            def stop() -> None:
                health.draining = True
                service.stop()

            with stop_signals(stop):
                on_ready()
                await service.worker.run()


@contextmanager
def stop_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on the event loop at the first signal to stop; a second one ends the process as usual.

    `signal.signal` works on Windows too, where event loops have no signal handlers.
    """
    loop = asyncio.get_running_loop()
    usual = {number: signal.getsignal(number) for number in systems.stop_signals()}

    def restore() -> None:
        for number, handler in usual.items():
            signal.signal(number, handler)

    def handle(_number: int, _frame: FrameType | None) -> None:
        restore()
        loop.call_soon_threadsafe(stop)

    for number in usual:
        signal.signal(number, handle)
    try:
        yield
    finally:
        restore()
