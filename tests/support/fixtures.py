"""Types of the fixtures in `tests/conftest.py`, for the signatures of tests."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from support.clocks import FakeClock
from triptych.jobs.service import ImageService
from triptych_emulators import Emulator

__all__ = ["Emulator", "FakeClock", "Finish", "MakeService"]


class MakeService(Protocol):
    """Make a service on these emulators and settings, over the test's one home."""

    def __call__(self, *emulators: Emulator, **environ: str) -> AbstractAsyncContextManager[ImageService]: ...


class Finish(Protocol):
    """Let a service's worker work, and time pass, until nothing is left to do."""

    async def __call__(self, service: ImageService) -> None: ...
