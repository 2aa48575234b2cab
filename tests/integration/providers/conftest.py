"""What the tests of providers' jobs share: the emulator that a module's `EMULATED` describes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.fixtures import FakeClock
from triptych_emulators import Emulator, running


@pytest.fixture
def api(request: pytest.FixtureRequest, clock: FakeClock) -> Iterator[Emulator]:
    with running(**request.module.EMULATED, clock=clock.monotonic) as emulator:
        yield emulator
