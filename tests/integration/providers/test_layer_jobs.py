"""Pictures taken apart, options and sizes left to the model: whole jobs at Atlas Cloud and WaveSpeedAI."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from support.fixtures import Emulator, FakeClock, Finish, MakeService
from support.jobs import Options, edit_chain, edit_sequence, edited, ended
from triptych.core import errors
from triptych_emulators import running

pytestmark = pytest.mark.anyio

LAYERS = {"layers": True}


@pytest.fixture
def api(request: pytest.FixtureRequest, clock: FakeClock) -> Iterator[Emulator]:
    """The emulator that the test's parameter names."""
    own = {"price": "prompt"} if request.param == "atlas" else {}
    with running(request.param, max_side=96, clock=clock.monotonic, latency_s=10.0, **own) as emulator:
        yield emulator


def apart(**changes: Any) -> Options:
    """Return the options of a job that takes a picture apart."""
    return Options(**{"wait_s": 0, "model": "seedream-5.0-pro", "params": LAYERS, **changes})  # type: ignore[typeddict-item]


PARTS = [
    # Atlas Cloud charges the images that came, WaveSpeedAI the most that there could be.
    pytest.param("atlas", "seedream-5.0-pro", "1K", "0.3825", "0.09", id="atlas-pro"),
    pytest.param("atlas", "seedream-5.0-flash", "2K", "0.306", "0.072", id="atlas-flash"),
    pytest.param("wavespeed", "seedream-5.0-pro", "1K", "0.765", "0.765", id="wavespeed-pro"),
    pytest.param("wavespeed", "seedream-5.0-flash", "2K", "0.459", "0.459", id="wavespeed-flash"),
    pytest.param("wavespeed", "seedream-5.5", "1.5K", "2.008", "2.008", id="wavespeed-5.5"),
]


@pytest.mark.parametrize(("api", "family", "size", "quoted", "charged"), PARTS, indirect=["api"])
async def test_a_picture_is_taken_apart_at_the_right_charge(
    make_service: MakeService,
    api: Emulator,
    finish: Finish,
    coffee: str,
    family: str,
    size: str,
    quoted: str,
    charged: str,
) -> None:
    asked = apart(model=family, size=size, max_cost_usd=Decimal(3))
    async with make_service(api) as service:
        started = await edit_sequence(service, [coffee], "take it apart", 1, asked)
        job = await ended(service, finish, started.job_id)
        money = service.store.plain.money_since(0)
    assert (job.status, job.model, job.returned) == ("done", family, 4), job.text()
    assert job.cost.quoted == Decimal(quoted)
    assert job.cost.charged == Decimal(charged) == api.charged_usd
    assert money == (Decimal(charged), 0)
    assert [image.handle for image in job.images] == [f"{job.job_id}/{n}" for n in range(1, 5)]
    assert [image.layer and image.layer.z_index for image in job.images] == [0, 1, 2, 3]
    modes = [Image.open(io.BytesIO(Path(image.path or "").read_bytes())).mode for image in job.images]
    assert modes == ["RGB", "RGBA", "RGBA", "RGBA"]
    assert any("params.layers:" in warning for warning in job.warnings)
    named = [image.layer.name for image in job.images if image.layer]
    assert named == (["", "element 1", "element 2", "element 3"] if api.name == "atlas" else [""] * 4)


@pytest.mark.parametrize("api", ["atlas"], indirect=True)
@pytest.mark.parametrize("fault", ["layers-missing", "layers-fewer", "layers-odd", "output-old-spelling"])
async def test_odd_layers_are_images_all_the_same(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str, fault: str
) -> None:
    api.fault("poll", fault, times=1)
    async with make_service(api) as service:
        started = await edit_sequence(service, [coffee], "take it apart", 1, apart(size="1K"))
        job = await ended(service, finish, started.job_id)
    assert (job.status, job.returned, job.cost.charged) == ("done", 4, Decimal("0.09")), job.text()
    layers = [image.layer for image in job.images]
    assert [layer and layer.z_index for layer in layers] == [0, 1, 2, 3]
    if fault == "layers-odd":
        assert all(layer and layer.box is None and len(layer.description) <= 300 for layer in layers)
        assert not any("\u202e" in (layer.description if layer else "") for layer in layers)


@pytest.mark.parametrize("api", ["atlas"], indirect=True)
async def test_a_layer_is_an_image_like_any_other(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str
) -> None:
    async with make_service(api) as service:
        started = await edit_sequence(service, [coffee], "take it apart", 1, apart(size="1K"))
        job = await ended(service, finish, started.job_id)
        edited_ = await edit_chain(service, [job.images[1].handle], ["in gold"], options=Options(wait_s=0))
        chain = await ended(service, finish, edited_.job_id)
        again = await edit_sequence(service, [coffee], "take it apart", 1, apart(size="1K"))
    assert chain.status == "done" and chain.images[0].layer is None
    assert again.job_id == job.job_id and len(api.accepted) == 2


@pytest.mark.parametrize("api", ["atlas", "wavespeed"], indirect=True)
async def test_a_lost_layer_request_is_found_and_not_paid_twice(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str
) -> None:
    api.fault("submit", "lost-answer", times=1)
    async with make_service(api) as service:
        started = await edit_sequence(service, [coffee], "take it apart", 1, apart(size="1K"))
        job = await ended(service, finish, started.job_id)
    assert (job.status, job.returned, len(api.accepted)) == ("done", 4, 1), job.text()


@pytest.mark.parametrize("api", ["atlas"], indirect=True)
async def test_a_hundred_layers_are_quoted_before_they_are_paid(
    make_service: MakeService, api: Emulator, coffee: str
) -> None:
    async with make_service(api) as service:
        with pytest.raises(errors.OverBudget, match=r"up to 100 layers, seedream-5.5 on atlas .*3\.508"):
            await edit_sequence(service, [coffee], "take it apart", 1, apart(model="seedream-5.5"))
    assert not api.accepted


# Options of the request


@pytest.mark.parametrize("api", ["atlas"], indirect=True)
async def test_without_a_model_a_family_below_the_confirmation_does_it(
    make_service: MakeService, api: Emulator, coffee: str
) -> None:
    plain = Options(wait_s=0, params=LAYERS, dry_run=True)
    async with make_service(api) as service:
        dry = await edit_sequence(service, [coffee], "apart", 1, plain)
    assert (dry.model, dry.cost.quoted) == ("seedream-5.0-pro", Decimal("0.765"))


@pytest.mark.parametrize("api", ["atlas"], indirect=True)
async def test_hours_go_out_as_headers_and_end_the_links(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str, clock: FakeClock
) -> None:
    hours = {"result_hours": 3, "history_hours": 2, "prompt_optimization": "fast"}
    async with make_service(api) as service:
        job = await edited(service, finish, coffee, 2, params=hours)
        plain = await edited(service, finish, coffee, 2)
        ends = [service.store.plain.predictions(made.job_id or "")[0].finished_at for made in (job, plain)]
    (first, second) = (call for call in api.seen if call.path.endswith("/generateImage"))
    assert first.headers["x-atlascloud-object-expiration-hours"] == "3"
    assert first.headers["x-atlascloud-request-retention-hours"] == "2"
    assert first.json["optimize_prompt_options"] == {"mode": "fast"}
    assert not [name for name in second.headers if name.startswith("x-atlascloud")]
    links = [made.images[0].url_expires_at for made in (job, plain)]
    lives = [link - end for link, end in zip(links, ends, strict=True) if link and end]
    assert timedelta(hours=2.9) < lives[0] <= timedelta(hours=3) < timedelta(hours=23) < lives[1]
    assert sum("within these hours" in warning for warning in job.warnings) == 2


@pytest.mark.parametrize(("slept_h", "status"), [(0.5, "done"), (3.0, "uncertain")])
async def test_a_forgotten_lost_submit_is_not_paid_again(
    make_service: MakeService, finish: Finish, clock: FakeClock, coffee: str, slept_h: float, status: str
) -> None:
    with running("atlas", latency_s=5.0, max_side=64, clock=lambda: clock.now().timestamp()) as api:
        api.fault("submit", "lost-answer")
        short = Options(wait_s=0, params={"history_hours": 1})
        async with make_service(api) as service:
            started = await edit_sequence(service, [coffee], "make it golden hour", 2, short)
            await service.worker.step()
            clock._now += timedelta(hours=slept_h)
            clock.offset_s -= slept_h * 3600
            job = await ended(service, finish, started.job_id)
        assert (job.status, len(api.accepted)) == (status, 1), job.text()


@pytest.mark.parametrize("api", ["wavespeed"], indirect=True)
async def test_a_size_left_to_the_model_follows_the_reference(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str
) -> None:
    async with make_service(api) as service:
        lite = await edited(service, finish, coffee, 2, size="auto")
        five = await edited(service, finish, coffee, 1, size="auto", model="seedream-5.5")
    bodies = [job.spec.body for job in api.jobs]
    assert lite.status == five.status == "done", five.text()
    assert "size" not in bodies[0] and "aspect_ratio" not in bodies[1]
    assert bodies[1]["resolution"] == "2k"
    assert lite.cost.charged == Decimal("0.07")
    assert five.cost.quoted == Decimal("0.078"), "the dearest tier"
