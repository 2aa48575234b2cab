"""What the tests share: a clock that never waits, and a service on the emulator or the offline engine."""

from __future__ import annotations

import gc
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as property_settings

from support import forked_start, machine
from support.clocks import FakeClock
from support.fixtures import Finish, MakeService
from triptych import providers, settings
from triptych.jobs.service import ImageService, ServiceConfig
from triptych.storage import migrations
from triptych_emulators import Emulator, running

machine.wait_longer_for_answers()
machine.read_certificates_once()
machine.check_schemas_once()
machine.keep_files_in_memory()
machine.paint_small_scenes()
forked_start.install()
gc.disable()  # until the tests are collected: nothing of them is garbage

# No property depends on the speed of the machine.
property_settings.register_profile("any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
property_settings.load_profile("any speed")

SAMPLES = Path(settings.__file__).parent / "samples"


def pytest_collection_finish() -> None:
    """Keep the garbage collector from reading every collected test again and again."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    forked_start.remove()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_real_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the keys and the home of this machine from the tests."""
    import os

    for name in list(os.environ):
        if name.startswith("TRIPTYCH_") and name != "TRIPTYCH_UPDATE_SNAPSHOTS":
            monkeypatch.delenv(name)
        if name.endswith(("_API_KEY", "_BASE_URL")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TRIPTYCH_HOME", str(tmp_path / "home"))


@pytest.fixture
def ordinary_start() -> Iterator[pytest.MonkeyPatch]:
    """Start the children of a test in the ordinary way, not as forks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", forked_start.OrdinaryPopen)
        yield patch


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
def atlas(clock: FakeClock) -> Iterator[Emulator]:
    """The Atlas emulator on loopback; a prediction takes ten seconds of the fake clock, its results are small.

    The charge comes with the images.
    """
    with running("atlas", latency_s=10.0, max_side=96, clock=clock.monotonic, price="prompt") as emulator:
        yield emulator


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test on both databases if it opens one, and it or its module (`ON_BOTH_DATABASES`) says so."""
    marked = metafunc.definition.get_closest_marker
    both = getattr(metafunc.module, "ON_BOTH_DATABASES", False) or marked("both_databases")
    if both and "database_url" in metafunc.fixturenames:
        only_sqlite = marked("only_sqlite")
        metafunc.parametrize("database_url", ["sqlite"] if only_sqlite else ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """The URL of the test's PostgreSQL database; None for SQLite, the default."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield None
        return
    from support import postgres

    with postgres.database() as url:
        yield url


@pytest.fixture
def make_service(clock: FakeClock, tmp_path: Path, database_url: str | None) -> MakeService:
    """Make services over one home; nothing runs by itself: waiting drives the worker, and so does `finish`."""

    @asynccontextmanager
    async def make(*emulators: Emulator, **environ: str) -> AsyncIterator[ImageService]:
        env = {"TRIPTYCH_HOME": str(tmp_path / "home"), "TRIPTYCH_ALLOWED_DIRS": str(SAMPLES)}
        env["TRIPTYCH_MODELS"] = "builtin"  # a test of live models says so
        if database_url:
            env["TRIPTYCH_DATABASE_URL"] = database_url
        for emulator in emulators:
            provider = providers.load(emulator.name)
            assert provider.key_env
            env[provider.key_env] = emulator.key
            env |= {base.env: emulator.base_url for base in provider.base_urls.values()}
        env |= environ
        with mock.patch.object(migrations, "migrate", machine.copy_migrated):
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


@pytest.fixture
def finish(clock: FakeClock) -> Finish:
    """Let a service's worker work, and time pass, until nothing is left to do."""

    async def until_quiet(service: ImageService) -> None:
        for _ in range(5000):
            if await service.worker.step():
                continue
            if not service.store.plain.unfinished():
                return
            due = await service.worker.next_due()
            clock.advance(1.0 if due is None else max(due - clock.monotonic(), 0.01))
        raise AssertionError("the worker never came to rest")

    return until_quiet
