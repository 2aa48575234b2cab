"""What the tests of providers' jobs share: the emulator that a module's `EMULATED` describes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from triptych_emulators import Emulator, running


@pytest.fixture
def api(request: pytest.FixtureRequest, clock: Any) -> Iterator[Emulator]:
    with running(**request.module.EMULATED, clock=clock.monotonic) as emulator:
        yield emulator
