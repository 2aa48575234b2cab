"""What the tests share: a clock that nobody waits for, and a service on the emulator or the offline engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from triptych import providers, settings
from triptych.core.clock import SystemClock
from triptych.jobs.service import ImageService, ServiceConfig
from triptych_emulators import running

# By itself it gives an answer five seconds, which a busy machine may need.
for _call in (httpx2.Client.__init__, httpx2.AsyncClient.__init__, httpx2.get, httpx2.head, httpx2.post, httpx2.put):
    _call.__kwdefaults__["timeout"] = httpx2.Timeout(60.0)
httpx2.request.__kwdefaults__["timeout"] = httpx2.Timeout(60.0)

SAMPLES = Path(settings.__file__).parent / "samples"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_real_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever keys and homes this machine has, the tests see none of them."""
    import os

    for name in list(os.environ):
        if name.startswith("TRIPTYCH_") and name != "TRIPTYCH_UPDATE_SNAPSHOTS":
            monkeypatch.delenv(name)
        if name.endswith(("_API_KEY", "_BASE_URL")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TRIPTYCH_HOME", str(tmp_path / "home"))


class FakeClock:
    """Time that moves only when somebody waits; whoever waits drives the engine in the meantime."""

    def __init__(self) -> None:
        self._now = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
        self.offset_s = 0.0
        """The monotonic clock is ahead of the wall clock by so much."""
        self.drive: Callable[[], Awaitable[bool]] | None = None
        self.next_due: Callable[[], Awaitable[float | None]] | None = None

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._now.timestamp() + self.offset_s

    def follow_the_machine(self) -> None:
        """Show what the machine's clocks show now, where another process reads those."""
        self._now = datetime.now(UTC)
        self.offset_s = SystemClock().monotonic() - self._now.timestamp()

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)

    async def pass_by(self, seconds: float) -> None:
        """Sleep, for those who only sleep."""
        self.advance(seconds)

    async def wait(self, event: anyio.Event, seconds: float) -> None:
        if self.drive and await self.drive():
            return
        due = await self.next_due() if self.next_due else None
        self.advance(seconds if due is None else min(seconds, max(due - self.monotonic(), 0.01)))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def samples() -> Path:
    return SAMPLES


@pytest.fixture
def coffee(samples: Path) -> str:
    return str(samples / "coffee.jpg")


@pytest.fixture
def atlas(clock: FakeClock) -> Iterator[Any]:
    """The Atlas emulator on loopback; a prediction takes ten seconds of the fake clock, its results are small.

    The charge comes with the images.
    """
    with running("atlas", latency_s=10.0, max_side=96, clock=clock.monotonic, price="prompt") as emulator:
        yield emulator


MakeService = Callable[..., Any]


@pytest.fixture
def make_service(clock: FakeClock, tmp_path: Path) -> MakeService:
    """Make services over one home; nothing runs by itself: waiting drives the engine, and so does `finish`."""

    @asynccontextmanager
    async def make(*emulators: Any, **environ: str) -> AsyncIterator[ImageService]:
        env = {"TRIPTYCH_HOME": str(tmp_path / "home"), "TRIPTYCH_ALLOWED_DIRS": str(SAMPLES), **environ}
        for emulator in emulators:
            provider = providers.load(emulator.name)
            assert provider.key_env
            env[provider.key_env] = emulator.key
            env |= {base.env: emulator.base_url for base in provider.base_urls.values()}
        service = ImageService(settings.read(env).setup, clock)
        service.provider_client._sleep = clock.pass_by
        clock.drive, clock.next_due = service.worker.step, service.worker.next_due
        try:
            yield service
        finally:
            await service.provider_client.aclose()
            await service.store.close()

    return make


@pytest.fixture
def setup(tmp_path: Path) -> ServiceConfig:
    return settings.read({"TRIPTYCH_HOME": str(tmp_path / "home"), "TRIPTYCH_ALLOWED_DIRS": str(SAMPLES)}).setup


Finish = Callable[[ImageService], Awaitable[None]]


@pytest.fixture
def finish(clock: FakeClock) -> Finish:
    """Let a service's engine work, and time pass, until nothing is left to do."""

    async def until_quiet(service: ImageService) -> None:
        for _ in range(5000):
            if await service.worker.step():
                continue
            if not service.store.plain.unfinished():
                return
            due = await service.worker.next_due()
            clock.advance(1.0 if due is None else max(due - clock.monotonic(), 0.01))
        raise AssertionError("the engine never came to rest")

    return until_quiet
