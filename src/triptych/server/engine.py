"""The engine alone: a process that advances jobs and answers nobody (`triptych worker`)."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triptych.settings import Settings

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def announce() -> None:
    """Write to stderr that the worker works."""
    sys.stderr.write("Triptych works on jobs; Ctrl-C or SIGTERM ends it.\n")
    sys.stderr.flush()


async def work(settings: Settings, on_ready: Callable[[], None] = announce) -> None:
    """Advance jobs until a SIGTERM or SIGINT; then the steps in progress end (`Worker.run`)."""
    from triptych.jobs.service import open_service
    from triptych.settings import configure_logging

    configure_logging(settings.log_level)
    async with open_service(settings.setup, engine=False) as service:
        with stop_signals(service.stop):
            on_ready()
            await service.worker.run()


@contextmanager
def stop_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on the event loop at the first SIGTERM or SIGINT; a second one ends the process as usual.

    `signal.signal` works on Windows too, where event loops have no signal handlers.
    """
    loop = asyncio.get_running_loop()
    usual = {number: signal.getsignal(number) for number in STOP_SIGNALS}

    def restore() -> None:
        for number, handler in usual.items():
            signal.signal(number, handler)

    def handle(_number: int, _frame: FrameType | None) -> None:
        restore()
        loop.call_soon_threadsafe(stop)

    for number in STOP_SIGNALS:
        signal.signal(number, handle)
    try:
        yield
    finally:
        restore()
