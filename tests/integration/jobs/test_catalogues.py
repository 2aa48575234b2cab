"""Live catalogues in the home: read once a day, by one process, from the right hosts; a broken one hides no other."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from integration.jobs.test_live_models import LIVE, NEW, reads, schema_of
from support.clocks import until
from support.fixtures import Emulator, FakeClock, MakeService
from support.jobs import Options, edit_sequence
from support.systems import needs_modes
from triptych import settings
from triptych.cli import doctor
from triptych.core import errors
from triptych.jobs import catalogues
from triptych.jobs.catalogues import Catalogue
from triptych.jobs.service import ImageService, open_service
from triptych_emulators import running

pytestmark = pytest.mark.anyio

OTHER = "acme/brush-10/edit"
SUBMIT = ("POST", "/api/v1/model/generateImage")


@pytest.fixture
def atlas(clock: FakeClock) -> Iterator[Emulator]:
    """Atlas Cloud with two models that no table has; its list names their schemas at the static host."""
    extra = [{"model": name, "schema": schema_of("atlas")} for name in (NEW, OTHER)]
    with running("atlas", clock=clock.monotonic, extra_models=extra, static_host=True) as emulator:
        yield emulator


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "catalogues" / "atlas.json"


async def known(service: ImageService) -> Catalogue:
    return (await service.catalogues.wait())["atlas"]


async def ids(service: ImageService) -> set[str]:
    return {offer.endpoint for one in (await service.catalogues.wait()).values() for offer in one.offers}


def schema_reads(api: Emulator) -> list[Any]:
    return [seen for seen in api.seen if seen.path.startswith("/model/schema/")]


# -- where it is read from ---------------------------------------------------------------------------------------------


async def test_the_key_never_goes_to_the_static_host(
    make_service: MakeService, atlas: Emulator, clock: FakeClock
) -> None:
    extra = [{"model": NEW, "schema": schema_of("atlas")}]
    with running("atlas", clock=clock.monotonic, extra_models=extra) as static:
        async with make_service(atlas, ATLASCLOUD_STATIC_BASE_URL=static.base_url, **LIVE) as service:
            found = await known(service)
    assert {offer.endpoint for offer in found.offers} >= {NEW} and OTHER in found.skipped
    assert schema_reads(static) and not schema_reads(atlas)
    assert not any("authorization" in seen.headers for seen in static.seen)
    assert not any(static.key in str(seen.headers) for seen in static.seen)


async def test_a_schema_on_a_foreign_host_is_not_read(
    make_service: MakeService, atlas: Emulator, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from triptych_emulators.atlas import Emulated

    with running("atlas", clock=clock.monotonic) as foreign:
        monkeypatch.setattr(
            Emulated, "_schema_url", lambda _, model: f"{foreign.base_url}/_schemas/{model.replace('/', '-')}.json"
        )
        async with make_service(atlas, **LIVE) as service:
            found = await known(service)
        assert not foreign.seen
    assert not found.offers and "returned a URL on another host" in found.skipped[NEW]


# -- a broken one ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"version": 1}', "\x00" * 100, "[" * 5000])
async def test_a_damaged_file_counts_as_none(
    make_service: MakeService, atlas: Emulator, path: Path, content: str
) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(content)
    async with make_service(atlas, **LIVE) as service:
        assert await service.catalogues.known() == {}
        assert NEW in await ids(service)
    assert json.loads(path.read_text("ascii"))["models"]


@pytest.mark.parametrize(
    "change",
    [{"models": None}, {"models": [3]}, {"models": [{}]}, {"read_at": "yesterday"}, {"read_at": "2026-11-21"},
     {"version": 0}, {"from": {}}],
    ids=str,
)  # fmt: skip
async def test_a_file_of_another_shape_counts_as_none(
    make_service: MakeService, atlas: Emulator, path: Path, change: dict[str, Any]
) -> None:
    async with make_service(atlas, **LIVE) as service:
        await known(service)
        path.write_text(json.dumps(json.loads(path.read_text("ascii")) | change))
        assert await service.catalogues.known() == {}


async def test_a_catalogue_of_another_base_url_is_not_used(make_service: MakeService, clock: FakeClock) -> None:
    extra = [{"model": NEW, "schema": schema_of("atlas")}]
    with running("atlas", clock=clock.monotonic, extra_models=extra) as one:
        async with make_service(one, **LIVE) as service:
            assert NEW in await ids(service)
    with running("atlas", clock=clock.monotonic) as other:
        async with make_service(other, **LIVE) as service:
            assert NEW not in await ids(service)


HOSTILE: list[Any] = [
    {},
    [],
    None,
    7,
    {"properties": None},
    {"properties": {"prompt": {"$ref": "#/properties/prompt"}, "images": {"$ref": "#/missing"}}},
    {"properties": {"prompt": [], "images": {"type": ["array"], "items": 3, "maxItems": "x"}}},
    {"type": "object", "required": 3, "properties": {"prompt": {"type": "string", "enum": []}}},
    {"properties": {f"p{n}": {"type": "string"} for n in range(5000)}},
]


@pytest.mark.parametrize("name", ["atlas", "wavespeed"])
async def test_a_hostile_schema_is_one_skipped_model(
    make_service: MakeService, clock: FakeClock, coffee: str, name: str
) -> None:
    extra = [{"model": f"acme/bad-{n}/edit", "schema": schema} for n, schema in enumerate(HOSTILE)]
    extra += [{"model": NEW, "schema": schema_of(name)}]
    with running(name, clock=clock.monotonic, extra_models=extra) as api:
        async with make_service(api, **LIVE) as service:
            found = (await service.catalogues.wait())[name]
            with pytest.raises(errors.BadRequest):
                await edit_sequence(service, [coffee], "one", 1, Options(model="acme/bad-5/edit"))
            assert (await edit_sequence(service, [coffee], "one", 1, Options(model=NEW, dry_run=True))).endpoint == NEW
    assert NEW in {offer.endpoint for offer in found.offers}
    assert not {offer.endpoint for offer in found.offers} & {f"acme/bad-{n}/edit" for n in range(6)}
    assert not api.accepted


@pytest.mark.parametrize("name", ["atlas", "wavespeed"])
async def test_a_very_long_schema_is_left_out(make_service: MakeService, clock: FakeClock, name: str) -> None:
    long = schema_of(name, style={"type": "string", "description": "x" * 2_000_000})
    extra = [{"model": OTHER, "schema": long}, {"model": NEW, "schema": schema_of(name)}]
    with running(name, clock=clock.monotonic, extra_models=extra) as api:
        async with make_service(api, **LIVE) as service:
            found = (await service.catalogues.wait())[name]
    assert NEW in {offer.endpoint for offer in found.offers}
    assert "more than 2 MB" in found.skipped[OTHER]


async def test_a_failing_schema_hides_no_other_and_is_read_again(
    make_service: MakeService, atlas: Emulator, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from starlette.responses import Response

    from triptych_emulators.atlas import Emulated

    really, bad = Emulated._document, [503]

    def document(emulator: Any, name: str) -> Response:
        return Response("down", bad[0]) if name == OTHER and bad else really(emulator, name)

    monkeypatch.setattr(Emulated, "_document", document)
    async with make_service(atlas, **LIVE) as service:
        found = await known(service)
        assert NEW in {offer.endpoint for offer in found.offers} and not found.complete
        assert "could not be read" in found.skipped[OTHER]
        count = len(schema_reads(atlas))
        assert await known(service) == found, "a failure rests for an hour"
        bad.clear()
        clock.advance(catalogues.LOOK_S)
        assert OTHER in await ids(service)
    assert len(schema_reads(atlas)) <= count + 4, "only the missing one is read, and tried again"


async def test_a_list_that_cannot_be_read_rests_for_an_hour(
    make_service: MakeService, atlas: Emulator, clock: FakeClock, coffee: str
) -> None:
    atlas.fault("models", "503", times=None)
    async with make_service(atlas, **LIVE) as service:
        for _ in range(3):
            with pytest.raises(errors.UnknownModel, match="live catalogue of Atlas Cloud could not be read"):
                await edit_sequence(service, [coffee], "one", 1, Options(model=NEW))
        assert reads(atlas) == 1
        atlas.clear_faults()
        clock.advance(catalogues.LOOK_S)
        assert NEW in await ids(service)


async def test_a_list_without_a_model_hides_none(
    make_service: MakeService, atlas: Emulator, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make_service(atlas, **LIVE) as service:
        before = await ids(service)
    clock.advance(2 * 24 * 3600)
    monkeypatch.setattr("triptych_emulators.atlas.listing", lambda *_: [{"model": 5}])
    monkeypatch.setattr("triptych_emulators.live_models.atlas_entry", lambda *_: {"model": None})
    async with make_service(atlas, **LIVE) as service:
        assert await service.catalogues.refresh(service.config.accounts["atlas"])
        assert await ids(service) == before


# -- when it is read ---------------------------------------------------------------------------------------------------


async def test_it_is_read_again_after_a_day(make_service: MakeService, atlas: Emulator, clock: FakeClock) -> None:
    async with make_service(atlas, **LIVE) as service:
        begun = clock.now()
        end, wait = anyio.CancelScope(), clock.wait

        async def wait_until_the_third_day(event: anyio.Event, seconds: float) -> None:
            await wait(event, seconds)
            if clock.now() - begun >= timedelta(days=3):
                end.cancel()
                await anyio.lowlevel.checkpoint()

        clock.wait = wait_until_the_third_day  # type: ignore[method-assign]
        with end:
            await service.catalogues.keep()
    assert reads(atlas) == 3


async def test_a_thread_that_cannot_start_ends_no_service(
    make_service: MakeService, atlas: Emulator, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, failures = catalogues.private_files.make_directory, [RuntimeError("can't start new thread")]

    def make_directory(directory: Path) -> None:
        if failures:
            raise failures.pop()
        make(directory)

    async with make_service(atlas, **LIVE) as service:
        monkeypatch.setattr(catalogues.private_files, "make_directory", make_directory)
        begun, wait, end = clock.now(), clock.wait, anyio.CancelScope()

        async def wait_until_the_second_look(event: anyio.Event, seconds: float) -> None:
            await wait(event, seconds)
            if clock.now() - begun > timedelta(seconds=2 * catalogues.LOOK_S):
                end.cancel()
                await anyio.lowlevel.checkpoint()

        clock.wait = wait_until_the_second_look  # type: ignore[method-assign]
        with end:
            await service.catalogues.keep()
    assert not failures and reads(atlas) == 1


async def test_a_call_reads_no_complete_catalogue_again(
    make_service: MakeService, atlas: Emulator, clock: FakeClock
) -> None:
    async with make_service(atlas, **LIVE) as service:
        await known(service)
        clock.advance(30 * 24 * 3600)
        await known(service)
        await service.list_models("brush")
    assert reads(atlas) == 2, "one list for the catalogue, one for the prices"


async def test_a_service_starts_without_reading_anything(
    make_service: MakeService, atlas: Emulator, path: Path
) -> None:
    async with make_service(atlas, **LIVE) as service:
        assert service.catalogues.providers == ("atlas",)
    assert not atlas.seen and not path.parent.exists()


async def test_an_open_service_reads_it_in_the_background(
    atlas: Emulator, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogues, "START_S", 0.0)
    env = {"TRIPTYCH_HOME": str(tmp_path / "home"), "ATLASCLOUD_API_KEY": atlas.key}
    env |= dict.fromkeys(("ATLASCLOUD_BASE_URL", "ATLASCLOUD_STATIC_BASE_URL"), atlas.base_url)
    async with open_service(settings.read(env).setup):
        await anyio.to_thread.run_sync(until, path.exists)
    report = await doctor.run_checks(env, offline=True)
    (line,) = [check.line() for check in report.checks if check.about == "live models of atlas"]
    assert "models, " in line and line.startswith("✓") and reads(atlas) == 1


HOLD = """
import os, sqlite3, sys
lock = sqlite3.connect(sys.argv[1], isolation_level=None)
lock.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
os._exit(1)
"""


async def test_a_refresh_belongs_to_one_process_until_it_dies(
    make_service: MakeService, atlas: Emulator, path: Path
) -> None:
    path.parent.mkdir(parents=True)
    held = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", HOLD, str(path.with_name("atlas.lock"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert held.stdin and held.stdout and held.stdout.readline() == "held\n"
    async with make_service(atlas, **LIVE) as service:
        account = service.config.accounts["atlas"]
        assert not await service.catalogues.refresh(account)
        assert not reads(atlas)
        held.kill()
        held.communicate()
        assert await service.catalogues.refresh(account)
        assert NEW in await ids(service)
    assert reads(atlas) == 1


async def test_a_refresh_that_is_stopped_goes_on_where_it_was(
    make_service: MakeService, atlas: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    from triptych.providers.client import ProviderClient

    really, asked, stop = ProviderClient.run, [], anyio.CancelScope()

    async def run(client: Any, account: Any, flow: Any, **options: Any) -> Any:
        if flow.__name__ == "schema":
            asked.append(flow)
            if len(asked) == 4:
                stop.cancel()
                await anyio.sleep_forever()
        return await really(client, account, flow, **options)

    monkeypatch.setattr(ProviderClient, "run", run)
    async with make_service(atlas, **LIVE) as service:
        with stop:
            await service.catalogues.refresh(service.config.accounts["atlas"])
        found = (await service.catalogues.known())["atlas"]
        assert not found.complete
        first = len(schema_reads(atlas))
        assert NEW in await ids(service) and OTHER in await ids(service)
        total = {seen.path for seen in schema_reads(atlas)}
        assert (await known(service)).complete
    assert len(schema_reads(atlas)) <= len(total) + 4 and first < len(total)


@needs_modes
async def test_only_the_user_can_read_it(make_service: MakeService, atlas: Emulator, path: Path) -> None:
    async with make_service(atlas, **LIVE) as service:
        await known(service)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {one.name for one in path.parent.iterdir()} == {"atlas.json", "atlas.lock"}
