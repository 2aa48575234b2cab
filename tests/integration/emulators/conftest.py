"""What the tests of the emulators share: one emulator for a module, as its `EMULATED` describes it, and a client."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from support.clients import AUTH
from support.clocks import HandClock
from triptych_emulators import Emulator, running


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest) -> Iterator[Emulator]:
    with running(**request.module.EMULATED, max_side=48, clock=HandClock()) as emulator:
        yield emulator


@pytest.fixture
def api(shared: Emulator) -> Emulator:
    """The module's emulator, as if it had just started."""
    shared.clear()
    return shared


@pytest.fixture(scope="module")
def client(shared: Emulator) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=shared.base_url, headers=AUTH) as client:
        yield client
