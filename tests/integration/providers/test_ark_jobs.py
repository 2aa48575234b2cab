"""Jobs on ModelArk through the real worker, against its emulator: one paid call each, and no made image is lost."""

from __future__ import annotations

from decimal import Decimal

import anyio
import anyio.lowlevel
import pytest

from support import flows
from support.fixtures import Emulator, FakeClock, Finish, MakeService
from support.jobs import Options, edit_chain, edit_sequence, edited, ended, make
from support.pictures import picture
from triptych.core import errors
from triptych.core.models import Done, Layer, Reference
from triptych.core.offers import Operation
from triptych.core.secret import SecretStr
from triptych.providers import ark
from triptych.providers.accounts import Account
from triptych.providers.client import ProviderClient
from triptych_emulators import running

EMULATED = {"name": "ark", "max_side": 48}

pytestmark = pytest.mark.anyio

GENERATE = ("POST", "/images/generations")
NOW = Options(wait_s=0, provider="ark")


async def test_a_sequence_is_one_streamed_call_with_the_reference_inside(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str
) -> None:
    async with make_service(api) as service:
        job = await edited(service, finish, coffee, 3)
    assert (job.status, job.returned, job.cost.charged) == ("done", 3, Decimal("0.105"))
    assert all(image.path and image.url_expires_at for image in job.images)
    (call,) = api.seen_at(*GENERATE)
    (reference,) = call.json.pop("image")
    assert reference.startswith("data:image/jpeg;base64,")
    width, height = call.json.pop("size").split("x")
    assert int(width) * int(height) >= 3_686_400
    assert "3 images" in call.json.pop("prompt")
    assert call.json == {
        "model": "seedream-5-0-260128",
        "response_format": "url",
        "watermark": False,
        "sequential_image_generation": "auto",
        "sequential_image_generation_options": {"max_images": 3},
        "stream": True,
    }
    assert call.headers["authorization"] == "Bearer test-key"
    assert len(api.accepted) == 1


async def test_a_chain_hands_each_result_on_as_its_url(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str
) -> None:
    async with make_service(api) as service:
        started = await edit_chain(service, [coffee], ["warmer", "add snow"], options=NOW)
        await finish(service)
        job = await service.job(started.job_id, every=True)
    assert (job.status, job.returned) == ("done", 2)
    first, second = api.seen_at(*GENERATE)
    assert first.json["image"][0].startswith("data:") and "stream" not in first.json
    assert second.json["image"] == [job.images[0].url]
    assert len(api.accepted) == 2


async def test_each_image_of_a_stream_is_stored_at_once(
    make_service: MakeService, clock: FakeClock, coffee: str
) -> None:
    with running("ark", max_side=48, latency_s=90.0, clock=clock.monotonic) as slow:
        async with make_service(slow) as service, anyio.create_task_group() as tasks:
            started = await edit_sequence(service, [coffee], "three seasons", 3, NOW)
            tasks.start_soon(service.worker.step)
            with anyio.fail_after(60):
                while not slow.jobs:
                    await anyio.lowlevel.checkpoint()
                for n in (1, 2):
                    clock.advance(30)
                    images = []
                    while not (n <= len(images) and images[n - 1].path):
                        images = (await service.job(started.job_id, every=True)).images
                        await anyio.lowlevel.checkpoint()
                    assert ((await service.job(started.job_id)).status, len(images)) == ("running", n)
                clock.advance(30)
        assert len(slow.accepted) == 1


@pytest.mark.parametrize("asked", ["stream-error", "stopped", "stopped, not-streamed", "frame-broken, not-streamed"])
async def test_an_answer_that_ends_in_an_error_is_partial(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str, asked: str
) -> None:
    async with make_service(api) as service:
        started = await edit_sequence(service, [coffee], f"four cats [[emulate: {asked}]]", 4, NOW)
        job = await ended(service, finish, started.job_id)
    assert (job.status, job.returned, job.cost.charged) == ("partial", 1, Decimal("0.035")), job.text()
    assert any("is missing" in warning and "InternalServiceError" in warning for warning in job.warnings)
    assert job.cost.charged == api.charged_usd and len(api.accepted) == 1


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("what", ["image", "no-image", "no-base64"])
async def test_an_unreadable_inline_image_loses_only_its_frame(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str, what: str, streamed: bool
) -> None:
    asked = f"inline n=2 what={what}{'' if streamed else ', not-streamed'}"
    async with make_service(api) as service:
        started = await edit_sequence(service, [coffee], f"three cats [[emulate: {asked}]]", 3, NOW)
        job = await ended(service, finish, started.job_id)
    whole = what == "image"
    assert (job.status, job.returned) == (("done", 3) if whole else ("partial", 2)), job.text()
    assert whole or any("/2 is missing" in warning and "decode" in warning for warning in job.warnings)
    assert len(api.accepted) == len(api.seen_at(*GENERATE)) == 1


@pytest.mark.parametrize("charset", ["hex", "utf-7", "undefined", "no-such", "utf-16"])
async def test_a_stream_is_utf_8_despite_its_header(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str, charset: str
) -> None:
    api.fault("submit", "charset", charset=charset)
    async with make_service(api) as service:
        job = await edited(service, finish, coffee, 3)
    assert (job.status, job.returned, len(api.accepted)) == ("done", 3, 1), job.text()
    assert len(api.seen_at(*GENERATE)) == 1


@pytest.mark.parametrize("quietly", [False, True])
async def test_a_cut_stream_is_uncertain_and_keeps_its_images(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str, quietly: bool
) -> None:
    api.fault("submit", "cut", after=2, quietly=quietly)
    async with make_service(api) as service:
        job = await edited(service, finish, coffee, 4)
    assert (job.status, job.returned) == ("uncertain", 2)
    assert all(image.path for image in job.images)
    assert len(api.accepted) == len(api.seen_at(*GENERATE)) == 1


async def test_images_of_a_cut_stream_are_fetched_again(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str
) -> None:
    api.fault("submit", "cut", after=2)
    api.fault("result", "503", times=3)
    async with make_service(api) as service:
        job = await edited(service, finish, coffee, 4)
    assert (job.status, job.returned) == ("uncertain", 2)
    assert all(image.path for image in job.images)
    assert len(api.seen_at(*GENERATE)) == 1


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("key-unknown", "key_rejected"),
        ("quota", "no_funds"),
        ("model-not-open", "not_offered"),
        ("all-failed", "moderated"),
        ("413", "refused"),
    ],
)
async def test_a_refusal_has_its_kind_and_frees_the_money(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str, fault: str, kind: str
) -> None:
    api.fault("submit", fault)
    async with make_service(api) as service:
        job = await edited(service, finish, coffee, 3)
        assert sum(service.store.plain.money_since(0)) == 0
    assert (job.status, job.error and job.error.kind) == ("failed", kind)
    assert job.error and len(job.error.message) < 1000
    assert api.charged_usd == 0


@pytest.mark.parametrize("fault", ["model-ipm", "burst", "overloaded"])
async def test_a_busy_provider_is_asked_again_later(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str, fault: str
) -> None:
    api.fault("submit", fault, times=2)
    async with make_service(api) as service:
        job = await edited(service, finish, coffee, 3)
        assert job.status == "done"
    assert len(api.accepted) == 1 and len(api.seen_at(*GENERATE)) == 3


async def test_volcengine_is_reached_through_the_base_url_alone(
    make_service: MakeService, clock: FakeClock, finish: Finish, coffee: str
) -> None:
    with running("ark", max_side=48, clock=clock.monotonic, volcengine=True) as volcengine:
        async with make_service(volcengine) as service:
            job = await edited(service, finish, coffee, 3)
            assert job.status == "done"
            listed = await service.list_models("5.0 lite", "edit-sequential", "ark")
        models = [call.json["model"] for call in volcengine.seen_at(*GENERATE)]
    assert models == ["seedream-5-0-260128", "doubao-seedream-5-0-260128"]
    (row,) = listed.models
    assert (row.endpoints, row.usable) == ({"edit-sequential": "seedream-5-0-260128"}, True)
    assert len(volcengine.accepted) == 1


async def test_parameters_go_out_and_the_extra_cost_is_warned_of(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str
) -> None:
    params = {"web_search": True, "watermark": True, "prompt_optimization": "standard"}
    async with make_service(api) as service:
        job = await edited(service, finish, coffee, 2, params=params)
    assert job.status == "done" and any("bill each search" in warning for warning in job.warnings), job.text()
    (call,) = api.seen_at(*GENERATE)
    assert (call.json["tools"], call.json["watermark"]) == ([{"type": "web_search"}], True)
    assert call.json["optimize_prompt_options"] == {"mode": "standard"}


async def test_auto_is_quoted_at_the_dearest_tier(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str
) -> None:
    async with make_service(api) as service:
        job = await edited(service, finish, coffee, 1, model="seedream-5.5", size="auto")
    (call,) = api.seen_at(*GENERATE)
    assert (call.json["size"], job.cost.quoted) == ("2K", Decimal("0.043"))
    assert job.cost.charged == api.charged_usd == Decimal("0.043")


@pytest.mark.parametrize(
    ("name", "quoted", "charged", "warning"),
    [
        ("ep-20261101-abc12", "0.188", "0.188", "does not say which model it is"),
        ("ep-20261101-abc12 seedream-4.5", "0.08", "0.08", "price are those of seedream-4.5"),
    ],
)
async def test_an_endpoint_of_the_account_goes_out_verbatim(
    make_service: MakeService,
    api: Emulator,
    finish: Finish,
    coffee: str,
    name: str,
    quoted: str,
    charged: str,
    warning: str,
) -> None:
    """The job keeps its offer: the process that sends it is another one than the one that made it."""
    async with make_service(api) as service:
        started = await edit_sequence(service, [coffee], "two seasons", 2, Options(wait_s=0, model=name))
    async with make_service(api) as service:
        job = await ended(service, finish, started.job_id)
    (call,) = api.seen_at(*GENERATE)
    assert call.json["model"] == job.endpoint == "ep-20261101-abc12"
    assert (job.status, job.returned, job.cost.quoted) == ("done", 2, Decimal(quoted)), job.text()
    assert job.cost.charged == Decimal(charged)
    assert any(warning in told for told in job.warnings)


async def test_an_endpoint_without_a_key_names_the_key(make_service: MakeService, coffee: str) -> None:
    async with make_service() as service:
        with pytest.raises(errors.NoKey, match="ARK_API_KEY"):
            await edit_sequence(service, [coffee], "warmer", 1, Options(wait_s=0, model="ep-20261101-abc12"))


@pytest.mark.parametrize("odd", ["", " [[emulate: odd-layers]]"])
async def test_layers_come_over_real_sockets_in_order(api: Emulator, odd: str) -> None:
    account = Account(ark.PROVIDER, SecretStr(api.key), {"api": api.base_url})
    offers = ark.PROVIDER.offers
    offer = next(o for o in offers if (o.family, o.operation) == ("seedream-5.0-pro", Operation.LAYERS))
    given = (Reference("00", "image/png", data=picture()),)
    asked = flows.asked(offer, prompt=f"take it apart{odd}", size=None, references=given, params={"layers": True})
    client = ProviderClient()
    try:
        done = await client.run(account, ark.PROVIDER.submit(asked))
    finally:
        await client.aclose()
    assert isinstance(done, Done) and done.charged_usd == api.charged_usd
    layers = [output.layer for output in done.outputs]
    assert [layer and layer.z_index for layer in layers] == [0, 1, 2, 3]
    assert layers[0] == Layer(0) and all(output.url for output in done.outputs)
    named = layers[1]
    assert named and named.name.isprintable() and len(named.name) <= 120
    assert named.box == (None if odd else (256, 256, 1792, 1792))


@pytest.mark.parametrize(
    ("model", "size", "most", "sent", "quoted", "charged"),
    [
        ("seedream-5.5", None, 100, "auto", "3.508", "0.103"),
        ("seedream-5.5", "1K", 100, "1K", "2.008", "0.088"),
        ("seedream-5.0-pro", None, 17, "auto", "1.53", "0.225"),
        ("ep-20261101-abc12 seedream-5.0-flash", "auto", 17, "auto", "0.306", "0.072"),
    ],
)
async def test_a_picture_is_taken_apart_and_each_layer_charged(
    make_service: MakeService,
    clock: FakeClock,
    finish: Finish,
    coffee: str,
    model: str,
    size: str | None,
    most: int,
    sent: str,
    quoted: str,
    charged: str,
) -> None:
    behind = "seedream-5-0-flash-260915"
    with running("ark", max_side=48, clock=clock.monotonic, endpoint_model=behind) as api:
        async with make_service(api) as service:
            given = {"images": [coffee], "prompt": "the cup", "params": {"layers": True}}
            options = Options(wait_s=0, model=model, max_cost_usd=Decimal(4), **({"size": size} if size else {}))
            started = await make(service, "edit_sequence", given, options)
            job = await ended(service, finish, started.job_id)
        (call,) = api.seen_at(*GENERATE)
        assert call.json["layer_decomposition"] is True and call.json["size"] == sent
        assert call.json["image"].startswith("data:image/jpeg;base64,") and call.json["prompt"] == "the cup"
        assert (job.status, job.returned, job.cost.quoted) == ("done", 4, Decimal(quoted)), job.text()
        assert job.cost.charged == Decimal(charged) == api.charged_usd
        assert [image.layer.name for image in job.images if image.layer] == ["", "layer 1", "layer 2", "layer 3"]


async def test_a_kept_background_is_not_recommended_for_a_new_one(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str
) -> None:
    async with make_service(api) as service:
        options = Options(wait_s=0, model="seedream-5.0-pro", dry_run=True)
        told = await edit_sequence(service, [coffee], "a cup on a transparent background", 1, options)
    (warning,) = (one for one in told.warnings if "transparent" in one)
    assert "no parameter that makes one" in warning and 'model="seedream-5.5"' in warning


async def test_an_endpoint_of_a_single_model_makes_one_image(
    make_service: MakeService, clock: FakeClock, finish: Finish, coffee: str
) -> None:
    with running("ark", max_side=48, clock=clock.monotonic, endpoint_model="seedream-5-5-261028") as api:
        async with make_service(api) as service:
            job = await edited(service, finish, coffee, 1, model="ep-20261101-abc12")
    assert (job.status, job.returned) == ("done", 1), job.text()
