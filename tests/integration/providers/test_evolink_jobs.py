"""EvoLink through the real worker: one accepted submit for each job, and nothing is paid twice."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import httpx2
import pytest

from support import flows
from support.fixtures import Emulator, FakeClock, Finish, MakeService
from support.jobs import NOW, Options, edit_chain, edit_sequence, edited, ended, generate_sequence, make
from support.pictures import picture
from triptych.core.models import Done, Layer, Pending, Reference
from triptych.core.secret import SecretStr
from triptych.jobs import uploads
from triptych.providers import evolink
from triptych.providers.accounts import Account
from triptych.providers.client import ProviderClient
from triptych_emulators import running
from triptych_emulators.kit import UnreachableImage

EMULATED = {"name": "evolink", "latency_s": 10.0, "max_side": 64}

pytestmark = pytest.mark.anyio

SUBMIT = ("POST", "/v1/images/generations")


@pytest.fixture
def open_service(make_service: MakeService, api: Emulator) -> Any:
    """A service with the API and the files host on the emulator."""
    return lambda: make_service(api, EVOLINK_FILES_BASE_URL=api.base_url)


async def test_an_edit_of_three_is_one_submit(open_service: Any, api: Emulator, finish: Finish, coffee: str) -> None:
    async with open_service() as service:
        job = await edited(service, finish, coffee)
    assert (job.status, job.returned, job.provider) == ("done", 3, "evolink")
    assert all(image.path and image.url and image.width for image in job.images)
    assert len(api.accepted) == 1 and job.cost.charged == api.charged_usd == Decimal("0.096")
    (submit,) = api.seen_at(*SUBMIT)
    body = dict(submit.json)
    assert body.pop("image_urls")[0].startswith(f"{api.base_url}/_uploads/")
    assert "3" in body.pop("prompt")
    assert body == {"model": "doubao-seedream-5.0-lite", "n": 3, "size": "2496x1664"}
    assert len(submit.headers["idempotency-key"]) >= 32
    assert len(api.seen_at("POST", "/api/v1/files/upload/stream")) == 1


async def test_every_submit_has_a_key_of_its_own(open_service: Any, api: Emulator, finish: Finish, coffee: str) -> None:
    async with open_service() as service:
        made = await generate_sequence(service, "two lighthouses", 2, NOW)
        job = await ended(service, finish, made.job_id)
        assert (job.status, job.returned, len(api.accepted)) == ("done", 2, 1)
        started = await edit_chain(service, [coffee], ["warmer", "add snow"], (), NOW)
        chain = await ended(service, finish, started.job_id)
    assert chain.status == "done" and len(api.accepted) == 3
    _, first, second = api.seen_at(*SUBMIT)
    assert "n" not in first.json and "image_urls" not in api.seen_at(*SUBMIT)[0].json
    assert second.json["image_urls"][0].startswith(f"{api.base_url}/_results/")
    assert len({seen.headers["idempotency-key"] for seen in api.seen_at(*SUBMIT)}) == 3


@pytest.mark.parametrize("fault", ["lost-answer", "no-id", "drop", "502"])
async def test_a_lost_submit_is_repeated_under_the_same_key(
    open_service: Any, api: Emulator, finish: Finish, coffee: str, fault: str
) -> None:
    api.fault("submit", fault)
    async with open_service() as service:
        job = await edited(service, finish, coffee)
    if fault == "no-id":  # Accepted, and the same response every time, so that the id stays unknown.
        assert job.status == "uncertain"
    else:
        assert (job.status, job.returned) == ("done", 3), job.error
    submits = api.seen_at(*SUBMIT)
    assert len(submits) >= 2 and len({seen.headers["idempotency-key"] for seen in submits}) == 1
    assert len(api.accepted) == 1


async def test_a_key_is_not_trusted_for_longer_than_ten_minutes(
    open_service: Any, api: Emulator, finish: Finish, clock: FakeClock, coffee: str
) -> None:
    """The list cannot be read for eleven minutes, and the provider has forgotten the key by then."""
    api._keys_kept_s = 600
    api.fault("submit", "lost-answer")
    async with open_service() as service:
        started = await edit_sequence(service, [coffee], "make it golden hour", 3, NOW)
        while not api.performed["submit"]:
            await service.worker.step()
        clock.advance(660)
        job = await ended(service, finish, started.job_id)
    assert (job.status, len(api.seen_at(*SUBMIT)), len(api.accepted)) == ("uncertain", 1, 1)
    assert api.performed["tasks"]


@pytest.mark.parametrize("later_s", [60, 3 * 24 * 3600])
async def test_looking_at_an_uncertain_job_never_sends_it_again(
    open_service: Any, api: Emulator, finish: Finish, clock: FakeClock, coffee: str, later_s: float
) -> None:
    api.fault("submit", "lost-answer")
    api.fault("tasks", "html-502", times=None)
    async with open_service() as service:
        job = await edited(service, finish, coffee)
        assert job.status == "uncertain"
        api.clear()
        clock.advance(later_s)
        await service.get_status(job.job_id or "")
        await finish(service)
        assert (await service.job(job.job_id or "")).status == "uncertain"
        assert not api.seen_at(*SUBMIT) and api.performed["submit"] == len(api.accepted) == 1
        assert api.seen_at("GET", "/v1/tasks")


@pytest.mark.parametrize(
    ("op", "fault", "kind"),
    [
        ("submit", "user-quota", "no_funds"),
        ("submit", "model-unavailable", "not_offered"),
        ("poll", "image_processing_error", "failed"),
        ("poll", "cancelled", "failed"),
    ],
)
async def test_a_refusal_has_its_kind_and_frees_the_money(
    open_service: Any, api: Emulator, finish: Finish, coffee: str, op: str, fault: str, kind: str
) -> None:
    api.fault(op, fault, times=None)
    async with open_service() as service:
        job = await edited(service, finish, coffee)
        assert sum(service.store.plain.money_since(0)) == 0
    assert job.status == "failed" and job.error and job.error.kind == kind
    assert len(api.seen_at(*SUBMIT)) == 1


@pytest.mark.parametrize(
    ("op", "fault"),
    [
        ("poll", "result-data"),
        ("poll", "price-never"),
    ],
)
async def test_an_odd_result_does_not_fail_a_job(
    open_service: Any, api: Emulator, finish: Finish, coffee: str, op: str, fault: str
) -> None:
    api.fault(op, fault, times=2)
    async with open_service() as service:
        job = await edited(service, finish, coffee)
    assert (job.status, job.returned) == ("done", 3), job.error
    assert len(api.accepted) == 1


async def test_a_sequence_on_pro_is_refused_with_another_model(open_service: Any, api: Emulator, coffee: str) -> None:
    from triptych.core.errors import OutOfLimits

    async with open_service() as service:
        with pytest.raises(OutOfLimits, match="use seedream-"):
            await edit_sequence(service, [coffee], "warmer", 3, Options(wait_s=0, model="seedream-5.0-pro"))
    assert not api.seen


async def test_many_at_once_are_asked_in_one_batch(
    open_service: Any, api: Emulator, finish: Finish, coffee: str
) -> None:
    async with open_service() as service:
        for prompt in ("one", "two", "three"):
            await edit_sequence(service, [coffee], prompt, 2, NOW)
        while len(api.accepted) < 3:
            await service.worker.step()
        assert await service.worker.sweep_is_due("evolink")
        api.finish_all()
        await service.worker.sweep("evolink")
        await finish(service)
    (batch,) = api.seen_at("POST", "/v1/tasks/batch")
    assert set(batch.json["task_ids"]) == set(api.accepted)


# Parameters and layers


async def test_a_search_is_quoted_and_the_parameters_go_out(
    open_service: Any, api: Emulator, finish: Finish, coffee: str
) -> None:
    params = {"web_search": True, "prompt_optimization": "standard"}
    async with open_service() as service:
        job = await edited(service, finish, coffee, 2, params=params, size="auto")
    assert (job.status, job.cost.quoted) == ("done", Decimal("0.0778"))
    assert any("for a search" in warning for warning in job.warnings)
    (submit,) = api.seen_at(*SUBMIT)
    assert submit.json["model_params"] == {"tools": [{"type": "web_search"}]}
    assert (submit.json["prompt_priority"], submit.json["size"], submit.json["quality"]) == ("standard", "auto", "2K")


@pytest.mark.parametrize("odd", ["", " [[emulate: layers-inside]]", " [[emulate: layers-bare]]"])
async def test_layers_come_over_real_sockets_in_order(api: Emulator, odd: str) -> None:
    account = Account(evolink.PROVIDER, SecretStr(api.key), {"api": api.base_url, "files": api.base_url})
    offer = next(o for o in evolink.PROVIDER.offers if o.endpoint == "doubao-seedream-5.0-flash-layerize")
    client = ProviderClient()
    try:
        hosted = await client.run(account, evolink.upload(picture(), "image/png", "a.png"))
        given = (Reference("00", "image/png", url=hosted.url),)
        asked = flows.asked(offer, prompt=f"apart{odd}", size=None, references=given, params={"layers": True})
        pending = await client.run(account, evolink.submit(asked))
        assert isinstance(pending, Pending)
        api.finish_all()
        done = await client.run(account, evolink.poll(pending.ticket, pending.poll_url))
    finally:
        await client.aclose()
    assert isinstance(done, Done) and done.charged_usd == api.charged_usd == Decimal("0.072")
    layers = [output.layer for output in done.outputs]
    assert [layer and layer.z_index for layer in layers] == [0, 1, 2, 3] and layers[0] == Layer(0)
    assert layers[3] == (Layer(3) if "bare" in odd else Layer(3, "layer 3", "element 3", (256, 256, 1792, 1792)))


async def test_a_picture_is_taken_apart_in_one_task(
    open_service: Any, api: Emulator, finish: Finish, coffee: str
) -> None:
    async with open_service() as service:
        given = {"images": [coffee], "prompt": "the cup", "params": {"layers": True, "prompt_optimization": "fast"}}
        options = Options(wait_s=0, model="seedream-5.0-pro", max_cost_usd=Decimal(2))
        started = await make(service, "edit_sequence", given, options)
        job = await ended(service, finish, started.job_id)
    (submit,) = api.seen_at(*SUBMIT)
    (url,) = submit.json["image_urls"]
    assert submit.json == {
        "model": "doubao-seedream-5.0-pro-layerize",
        "prompt": "the cup",
        "quality": "auto",
        "image_urls": [url],
        "output_format": "png",
        "prompt_priority": "fast",
    }
    assert (job.status, job.returned, job.cost.quoted) == ("done", 4, Decimal("1.53")), job.text()
    assert job.cost.charged == api.charged_usd == Decimal("0.225")
    assert [image.layer.box for image in job.images if image.layer][1:] == [(256, 256, 1792, 1792)] * 3


# The quota of uploaded files

FILES = "/api/v1/files"


def a_picture(tmp_path: Path, n: int) -> str:
    path = tmp_path / f"{n}.png"
    path.write_bytes(picture(size=(70 + n, 64)))
    return str(path)


@pytest.fixture
def roomy(make_service: MakeService, tmp_path: Path) -> Any:
    return lambda api: make_service(api, EVOLINK_FILES_BASE_URL=api.base_url, TRIPTYCH_ALLOWED_DIRS=f"{tmp_path}")


def upload_by_another(api: Emulator) -> str:
    """Upload a file as another client of the account; return its URL."""
    with httpx2.Client(base_url=api.base_url, headers={"Authorization": f"Bearer {api.key}"}) as other:
        told = other.post(f"{FILES}/upload/stream", files={"file": ("theirs.png", picture(), "image/png")})
    return str(told.json()["data"]["file_url"])


def deleted(api: Emulator) -> int:
    return sum(seen.method == "DELETE" for seen in api.seen)


async def test_at_the_quota_our_old_uploads_are_deleted(
    roomy: Any, clock: FakeClock, finish: Finish, tmp_path: Path
) -> None:
    with running("evolink", max_side=48, files_kept=4, clock=clock.monotonic) as api:
        theirs = upload_by_another(api)
        async with roomy(api) as service:
            for n in range(3):
                assert (await edited(service, finish, a_picture(tmp_path, n), 1)).status == "done"
                clock.advance(1)
            sent = [seen.json["image_urls"][0] for seen in api.seen_at(*SUBMIT)]
            job = await edited(service, finish, a_picture(tmp_path, 3), 1)
            assert job.status == "done", job.text()
            assert deleted(api) == 3 and api.files.read(theirs)
            for url in sent:
                with pytest.raises(UnreachableImage):
                    api.files.read(url)
            # A deleted upload is forgotten: its image is uploaded again.
            assert (await edited(service, finish, a_picture(tmp_path, 0), 1, again=True)).status == "done"
        assert len(api.accepted) == 5


async def test_an_upload_that_a_job_uses_stays(roomy: Any, clock: FakeClock, finish: Finish, tmp_path: Path) -> None:
    with running("evolink", latency_s=10**6, max_side=48, files_kept=2, clock=clock.monotonic) as api:
        async with roomy(api) as service:
            first = await edit_sequence(service, [a_picture(tmp_path, 0)], "warm", 1, NOW)
            while len(api.accepted) < 1:
                await service.worker.step()
            api.finish_all()
            assert (await ended(service, finish, first.job_id)).status == "done"
            await edit_sequence(service, [a_picture(tmp_path, 1)], "cold", 1, NOW)
            while len(api.accepted) < 2:
                await service.worker.step()
            await edit_sequence(service, [a_picture(tmp_path, 2)], "wet", 1, NOW)
            while len(api.accepted) < 3:
                await service.worker.step()
            old, used, new = (seen.json["image_urls"][0] for seen in api.seen_at(*SUBMIT))
            assert deleted(api) == 1 and api.files.read(used) and api.files.read(new)
            with pytest.raises(UnreachableImage):
                api.files.read(old)


async def test_without_an_upload_of_ours_nothing_is_deleted(
    roomy: Any, clock: FakeClock, finish: Finish, tmp_path: Path
) -> None:
    with running("evolink", max_side=48, files_kept=1, clock=clock.monotonic) as api:
        theirs = upload_by_another(api)
        async with roomy(api) as service:
            job = await edited(service, finish, a_picture(tmp_path, 0), 1)
            assert sum(service.store.plain.money_since(0)) == 0
        assert (job.status, job.error and job.error.kind) == ("failed", "no_room")
        assert job.error and "delete other files yourself" in job.error.message and "72 hours" in job.error.message
        assert deleted(api) == 0 and api.files.read(theirs) and not api.accepted


async def test_uploads_that_could_not_be_deleted_are_known_again(
    roomy: Any, clock: FakeClock, finish: Finish, tmp_path: Path
) -> None:
    with running("evolink", max_side=48, files_kept=1, clock=clock.monotonic) as api:
        async with roomy(api) as service:
            assert (await edited(service, finish, a_picture(tmp_path, 0), 1)).status == "done"
            api.fault("files", "html-502", times=None)
            assert (await edited(service, finish, a_picture(tmp_path, 1), 1)).status == "failed"
            assert (await edited(service, finish, a_picture(tmp_path, 0), 1, again=True)).status == "done"
        assert len(api.seen_at("POST", f"{FILES}/upload/stream")) == 2 and deleted(api) == 0


async def test_a_stop_during_a_deletion_leaves_no_url_of_a_deleted_file(
    roomy: Any, clock: FakeClock, finish: Finish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running("evolink", max_side=48, files_kept=1, clock=clock.monotonic) as api:
        async with roomy(api) as service:
            assert (await edited(service, finish, a_picture(tmp_path, 0), 1)).status == "done"
            account, store = service.config.accounts["evolink"], service.store
            (sent,) = store.plain.predictions(store.plain.jobs(1)[0].id)[0].sent_urls
            run = service.provider_client.run
            with anyio.CancelScope() as stop:

                async def run_and_stop(*arguments: Any, **options: Any) -> Any:
                    await run(*arguments, **options)
                    stop.cancel()
                    await anyio.lowlevel.checkpoint()

                monkeypatch.setattr(service.provider_client, "run", run_and_stop)
                await uploads._delete_unused(store, service.provider_client, clock, account)
            assert deleted(api) == 1
            known = [row["url"] for row in store.plain._db.all("uploads", provider="evolink", now=0)]
        assert sent not in known
