"""Which model does a job, what it costs in parts, and how a background stays transparent; through the emulated APIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from support.fixtures import FakeClock, Finish, MakeService
from support.jobs import Options, edit_chain, edit_sequence, ended, generate_sequence
from triptych import catalog
from triptych.catalog import backgrounds
from triptych.core import errors
from triptych.core.models import Image as Picture
from triptych.core.offers import Lifecycle, Offer, Operation, Price, Sizes
from triptych.core.requests import Request
from triptych.jobs import cost_check, planning
from triptych.jobs.polling import Polling
from triptych.jobs.service import Caller
from triptych_emulators import Emulator, running

pytestmark = pytest.mark.anyio

NOW = Options(wait_s=0)
V5_5 = Options(wait_s=0, model="seedream-5.5")
CLEAR = "a sticker of the cup, transparent background"
TRANSPARENT = {"background": "transparent"}
SETTINGS: dict[str, dict[str, Any]] = {
    "atlas": {"latency_s": 10.0, "price": "prompt"},
    "wavespeed": {"latency_s": 10.0},
    "runware": {"latency_s": 10.0},
    "evolink": {"latency_s": 10.0},
    "ark": {"latency_s": 0.0},
    "novita": {"latency_s": 0.0},
}
WITH_5_5 = ("atlas", "wavespeed", "ark", "runware")


@pytest.fixture
def api(request: pytest.FixtureRequest, clock: FakeClock) -> Iterator[Emulator]:
    """The emulator that the test's parameter names."""
    with running(request.param, max_side=96, clock=clock.monotonic, **SETTINGS[request.param]) as emulator:
        yield emulator


@pytest.fixture
def ark(clock: FakeClock) -> Iterator[Emulator]:
    with running("ark", max_side=96, clock=clock.monotonic, latency_s=0.0) as emulator:
        yield emulator


@pytest.fixture
def wavespeed(clock: FakeClock) -> Iterator[Emulator]:
    with running("wavespeed", max_side=96, clock=clock.monotonic, latency_s=10.0) as emulator:
        yield emulator


# Through each emulator


@pytest.mark.parametrize("api", WITH_5_5, indirect=True)
async def test_5_5_edits_generates_and_chains_at_the_right_charge(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str
) -> None:
    small = Decimal("0.016") if api.name == "atlas" else Decimal("0.020")
    large, reference = Decimal("0.035"), Decimal("0.008")
    async with make_service(api) as service:
        asked = [
            (await edit_sequence(service, [coffee, coffee], "warmer", 1, V5_5), large + 2 * reference),
            (await generate_sequence(service, "a lighthouse", 1, Options(**V5_5, size="1K")), small),
            (
                await edit_chain(
                    service, [coffee], ["warmer", "add snow", "at night"], options=Options(**V5_5, size="1.5K")
                ),
                3 * (small + reference),
            ),
        ]
        for started, usd in asked:
            job = await ended(service, finish, started.job_id)
            assert (job.status, job.model, job.returned) == ("done", "seedream-5.5", job.requested), job.text()
            assert (job.cost.quoted, job.cost.charged) == (usd, usd)
        charged, reserved = service.store.plain.money_since(0)
    assert len(api.accepted) == 5
    assert charged == api.charged_usd == sum(usd for _, usd in asked) and reserved == 0


@pytest.mark.parametrize("api", ["atlas", "wavespeed", "ark", "runware", "evolink"], indirect=True)
@pytest.mark.parametrize(("family", "large"), [("seedream-5.0-pro", "0.09"), ("seedream-5.0-flash", "0.018")])
async def test_pro_and_flash_edit_at_the_right_charge(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str, samples: Path, family: str, large: str
) -> None:
    usd = Decimal("0.027") if (api.name, large) == ("wavespeed", "0.018") else Decimal(large)
    usd += Decimal("0.003") if family.endswith("pro") else 0  # the first reference is free
    async with make_service(api) as service:
        images = [coffee, str(samples / "cat.jpg")]
        started = await edit_sequence(service, images, "warmer", 1, Options(wait_s=0, model=family))
        job = await ended(service, finish, started.job_id)
    assert (job.status, job.model, job.returned) == ("done", family, 1), job.text()
    assert job.cost.quoted == usd == api.charged_usd
    assert job.cost.charged is not None and abs(job.cost.charged - usd) < Decimal("0.0001"), job.cost


# Which model is chosen


@pytest.mark.parametrize("api", SETTINGS, indirect=True)
async def test_chains_prefer_5_5_and_sets_a_sequence_family(
    make_service: MakeService, api: Emulator, coffee: str
) -> None:
    best = "seedream-5.5" if api.name in WITH_5_5 else "seedream-5.0-lite"
    dry = Options(wait_s=0, dry_run=True)
    async with make_service(api) as service:
        chain = await edit_chain(service, [coffee], ["warmer", "sepia"], options=dry)
        single = await edit_sequence(service, [coffee], "warmer", 1, dry)
        edits = await edit_sequence(service, [coffee], "four seasons", 4, dry)
        drawn = await generate_sequence(service, "four lighthouses", 4, dry)
    assert (chain.model, single.model) == (best, best)
    assert (edits.model, drawn.model) == ("seedream-5.0-lite", "seedream-5.0-lite")
    assert {r.provider for r in (chain, single, edits, drawn)} == {api.name}


async def test_what_5_5_does_not_take_the_next_family_does(
    make_service: MakeService, atlas: Emulator, coffee: str
) -> None:
    dry = Options(wait_s=0, dry_run=True)
    async with make_service(atlas) as service:
        many = await edit_sequence(service, [coffee] * 12, "one picture", 1, dry)
        large = await edit_chain(service, [coffee], ["warmer"], options=Options(**dry, size="4K"))
        with pytest.raises(errors.OutOfLimits, match="1 to 10 references, not 12"):
            await edit_sequence(service, [coffee] * 12, "one picture", 1, Options(**dry, model="seedream-5.5"))
    assert (many.model, large.model) == ("seedream-5.0-lite", "seedream-4.5")


VOLCENGINE = {"ARK_API_KEY": "k" * 20, "ARK_BASE_URL": "https://ark.cn-beijing.volces.com/api/v3"}


async def test_a_retired_default_is_replaced_and_the_result_says_so(
    make_service: MakeService, clock: FakeClock, coffee: str
) -> None:
    dry = Options(wait_s=0, dry_run=True)
    async with make_service(**VOLCENGINE) as service:
        (coming, *_) = (await service.list_models("5.0-lite", provider="ark")).models
        before = await edit_sequence(service, [coffee], "four seasons", 4, dry)
        clock.advance(3 * 24 * 3600)
        after = await edit_sequence(service, [coffee], "four seasons", 4, dry)
        chain = await edit_chain(service, [coffee], ["warmer"], options=dry)
        with pytest.raises(errors.OutOfLimits, match=r"retired on 2026-11-24 .*use seedream-4\.5"):
            await edit_sequence(service, [coffee], "four seasons", 4, Options(**dry, model="seedream-5.0-lite"))
        listed = await service.list_models("5.0-lite", provider="ark")
    assert (before.endpoint, len(before.warnings)) == ("doubao-seedream-5-0-260128", 1)
    assert after.endpoint == "doubao-seedream-4-5-251128"
    assert "seedream-5.0-lite on ark was retired on 2026-11-24" in after.warnings[0]
    assert "third parties" in after.warnings[0] and "seedream-4.5 is used instead" in after.warnings[0]
    assert (chain.endpoint, len(chain.warnings)) == ("doubao-seedream-5-5-261028", 1)
    assert all("retired 2026-11-24 (two third parties" in (row.lifecycle or "") for row in listed.models)
    assert "retired 2026-11-24" in listed.text() and "not usable: retired on 2026-11-24" in listed.text()
    assert coming.usable and "retires 2026-11-24" in (coming.lifecycle or "")
    assert not any(row.usable for row in listed.models)


async def test_volcengine_gets_its_own_ids_behind_any_address(
    make_service: MakeService, finish: Finish, clock: FakeClock, coffee: str
) -> None:
    """Behind a proxy the host says nothing: the plain id is surely not accepted, and is sent with the prefix."""
    with running("ark", volcengine=True, max_side=48, latency_s=0.0, clock=clock.monotonic) as api:
        async with make_service(api) as service:
            started = await edit_chain(service, [coffee], ["warmer"], options=NOW)
            job = await ended(service, finish, started.job_id)
        sent = [seen.json["model"] for seen in api.seen if seen.method == "POST"]
    assert job.status == "done" and job.cost.charged == api.charged_usd
    assert sent == ["seedream-5-5-261028", "doubao-seedream-5-5-261028"]


async def test_a_job_from_an_earlier_base_url_finds_its_offer(make_service: MakeService, coffee: str) -> None:
    async with make_service(ARK_API_KEY="k" * 20) as service:
        started = await edit_chain(service, [coffee], ["warmer"], options=NOW)
        (prediction,) = service.store.plain.predictions(started.job_id or "")
    async with make_service(**VOLCENGINE) as service:
        found = Polling(service.store, service.config.accounts, service._clock).offer(prediction)
    assert prediction.endpoint == "seedream-5-5-261028"
    assert found and found.endpoint == "doubao-seedream-5-5-261028"


async def test_no_other_provider_retires_5_0_lite(make_service: MakeService, clock: FakeClock) -> None:
    async with make_service(ARK_API_KEY="k" * 20) as service:
        listed = await service.list_models("5.0-lite", every=True)
        clock.advance(30 * 24 * 3600)
        dry = await generate_sequence(service, "four lighthouses", 4, Options(wait_s=0, dry_run=True))
    assert len(listed.models) > 5 and not any("retire" in (row.lifecycle or "") for row in listed.models)
    assert (dry.provider, dry.model) == ("ark", "seedream-5.0-lite")


# Where a refused job goes


async def test_a_default_without_5_5_keeps_its_own_family(
    make_service: MakeService, wavespeed: Emulator, finish: Finish, clock: FakeClock, coffee: str
) -> None:
    with running("evolink", max_side=96, clock=clock.monotonic, latency_s=10.0) as evolink:
        evolink.fault("submit", "402", times=None)
        async with make_service(evolink, wavespeed, TRIPTYCH_PROVIDER="evolink") as service:
            started = await edit_chain(service, [coffee], ["warmer"], options=NOW)
            assert (started.provider, started.model) == ("evolink", "seedream-5.0-lite")
            job = await ended(service, finish, started.job_id)
    assert (job.status, job.provider, job.model) == ("done", "wavespeed", "seedream-5.0-lite")
    assert wavespeed.jobs[0].spec.model == "bytedance/seedream-v5.0-lite/edit"


async def test_an_unknown_inferred_id_is_reported_and_rerouted(
    make_service: MakeService, atlas: Emulator, wavespeed: Emulator, finish: Finish, coffee: str
) -> None:
    atlas.fault("submit", "404", times=None)
    async with make_service(atlas, wavespeed) as service:
        started = await edit_chain(service, [coffee], ["warmer", "sepia"], options=NOW)
        job = await ended(service, finish, started.job_id)
    assert (job.status, job.provider, job.model, job.returned) == ("done", "wavespeed", "seedream-5.5", 2)
    assert any("seedream-v5.5/edit, which is inferred" in warning for warning in job.warnings)
    assert (atlas.accepted, len(wavespeed.accepted)) == ([], 2)
    assert job.cost.charged == wavespeed.charged_usd == 2 * Decimal("0.043")


async def test_the_cheapest_compares_one_family_by_the_whole_price(
    make_service: MakeService, wavespeed: Emulator, clock: FakeClock, coffee: str
) -> None:
    """EvoLink's 5.0 lite is cheaper than any 5.5, and is not what a single edit prefers."""
    cheapest = Options(wait_s=0, provider="cheapest", dry_run=True)
    with running("evolink", clock=clock.monotonic) as evolink:
        async with make_service(evolink, wavespeed, TRIPTYCH_PROVIDER="evolink") as service:
            one = await edit_sequence(service, [coffee] * 3, "warmer", 1, cheapest)
            four = await edit_sequence(service, [coffee], "warmer", 4, cheapest)
    assert (one.provider, one.model, one.cost.quoted) == ("wavespeed", "seedream-5.5", Decimal("0.059"))
    assert (four.provider, four.model) == ("evolink", "seedream-5.0-lite")


# The whole price, everywhere


async def test_the_cap_of_a_call_sees_references_too(make_service: MakeService, ark: Emulator, coffee: str) -> None:
    async with make_service(ark) as service:
        short = Options(**V5_5, max_cost_usd=Decimal("0.058"))
        with pytest.raises(errors.OverBudget, match=r"max_cost_usd=0\.059"):
            await edit_sequence(service, [coffee] * 3, "warmer", 1, short)
        assert not service.store.plain.jobs(5)
        enough = await edit_sequence(
            service, [coffee] * 3, "warmer", 1, Options(**{**short, "max_cost_usd": Decimal("0.059")})
        )
    assert enough.cost.quoted == Decimal("0.059")


async def test_the_budget_sees_references_too(make_service: MakeService, ark: Emulator, coffee: str) -> None:
    async with make_service(ark, TRIPTYCH_BUDGET_USD="0.1") as service:
        await edit_sequence(service, [coffee] * 3, "warmer", 1, V5_5)
        with pytest.raises(errors.OverBudget, match=r"reserved \$0\.059, quoted \$0\.043"):
            await edit_sequence(service, [coffee], "cooler", 1, V5_5)


async def test_list_models_shows_the_parts_of_a_price(make_service: MakeService, ark: Emulator) -> None:
    async with make_service(ark) as service:
        listed = await service.list_models("5.5")
    edit = next(row for row in listed.models if row.provider == "ark")
    assert {row.model for row in listed.models} == {"seedream-5.5"}
    assert (edit.usd_per_image, edit.max_references, edit.sizes[:3]) == (Decimal("0.02"), 10, ["1K", "1.5K", "2K"])
    assert edit.price == "$0.02 an image up to 2.6 MP, $0.035 above, $0.008 a reference"
    assert edit.endpoints == {"generate": "seedream-5-5-261028", "edit": "seedream-5-5-261028"}
    assert edit.price in listed.text()


async def test_a_pros_first_reference_is_shown_as_free(make_service: MakeService) -> None:
    async with make_service() as service:
        text = (await service.list_models("5.0-pro", "edit", "ark")).text()
    assert "$0.045 an image up to 2.6 MP, $0.09 above, $0.003 a reference after the first" in text


def offer(**changes: Any) -> Offer:
    sizes = Sizes(presets={}, min_area=1, max_area=10**8, follows_reference=True)
    parts = Price(Decimal("0.02"), "2026-11-21", "a test", ((2_601_123, Decimal("0.035")),), Decimal("0.008"))
    plain = Offer("shop", "new", Operation.EDIT, "new/edit", parts, sizes, 10, 1)
    return replace(plain, **changes)


def test_lanes_in_different_size_tiers_are_quoted_each() -> None:
    sides = (1024, 2048)
    images = {f"img_{side}": Picture("00", f"img_{side}", "image/png", side, side, 1, Path("x")) for side in sides}
    offers = [offer(), offer(provider="other", price=Price(Decimal(1), "2026-11-21", "a test"))]
    plan = planning.build_plan(Request("edit_chain", ("a", "b"), tuple(images)), offers, images, lambda _: None)
    assert [quote.usd for quote in plan.quotes] == [Decimal("0.028"), Decimal("0.043")]
    assert plan.quoted_usd == 2 * Decimal("0.071")
    assert plan.routes[0].quotes_usd == (1, 1)
    assert cost_check.drop_expensive_routes(plan, Decimal("3.99")).routes == ()
    assert cost_check.drop_expensive_routes(plan, Decimal(4)).routes == plan.routes


def test_a_date_of_retirement_counts_from_its_day() -> None:
    gone = offer(lifecycle=Lifecycle(retired="2026-11-24", source="someone"))
    assert not catalog.is_retired(gone, date(2026, 11, 23)) and catalog.is_retired(gone, date(2026, 11, 24))
    assert not catalog.is_retired(gone, None)


# A transparent background: the words


@pytest.mark.parametrize(
    "prompt",
    [
        "a cat, transparent background",
        "a cat on a transparent background.",
        "Make the background transparent",
        "background: transparent",
        "the background should be fully transparent",
        "a transparent-background sticker",
        "save it as a transparent PNG",
        "with an alpha channel",
        "no shadows on transparent background",
        "change the background to a transparent background",
        "not blurry, on a transparent background",
        "icons on transparent backgrounds",
        "a see-through background",
        "透明背景的猫",
        "change the background to transparent",
        "change the background from white to transparent",
        "replace the white background with a transparent one",
        "Remove the background and make it transparent",
        "remove the background, leaving it transparent",
        "remove the background so it's transparent",
        "PNG with transparency",
        "keep the existing transparent background",
        "on a transparent canvas",
        "把背景变成透明",
    ],
)
def test_words_that_ask_for_a_transparent_background(prompt: str) -> None:
    assert backgrounds.asked_for(prompt)


@pytest.mark.parametrize(
    "prompt",
    [
        "a glass on a table",
        "a transparent umbrella against a city background",
        "replace the transparent background with a beach",
        "fill the transparent background with blue",
        "remove the transparent background",
        "no transparent background",
        "without a transparent background",
        "do not make the background transparent",
        "don't use a transparent background",
        "non-transparent background",
        "the background is not transparent",
        "a transparent glass background",
        "turn the transparent background into a beach",
        "make the transparent background white",
        "paint over the transparent background",
        "a street in place of the transparent background",
        "a transparent canvas tent in the mountains",
        "a city background and a transparent umbrella",
        "a city background, transparent umbrella",
        "do not change the background to transparent",
        "do not replace the background with a transparent one",
    ],
)
def test_words_that_do_not_ask_for_a_transparent_background(prompt: str) -> None:
    assert not backgrounds.asked_for(prompt)


def test_a_long_run_of_blanks_is_read_at_once() -> None:
    assert not backgrounds.asked_for("background" + " " * 50_000 + "of glass")
    assert backgrounds.asked_for("the background" + " " * 50_000 + "should be transparent")


@pytest.mark.parametrize("api", ["wavespeed", "ark", "runware"], indirect=True)
async def test_a_jpeg_with_a_transparent_background_is_refused_unsent(
    make_service: MakeService, api: Emulator, coffee: str
) -> None:
    jpeg = Options(wait_s=0, format="jpeg", params=TRANSPARENT, model="seedream-5.5")
    async with make_service(api) as service:
        for make in (edit_sequence(service, [coffee], "warmer", 1, jpeg), generate_sequence(service, "cup", 1, jpeg)):
            with pytest.raises(errors.OutOfLimits, match='format="png"'):
                await make
    assert api.seen == []


async def test_a_provider_without_the_parameter_says_what_it_has(
    make_service: MakeService, atlas: Emulator, coffee: str
) -> None:
    asked = Options(wait_s=0, model="seedream-5.5", params=TRANSPARENT)
    async with make_service(atlas) as service:
        with pytest.raises(errors.OutOfLimits, match=r"no parameter .background.: .* It has: result_hours"):
            await edit_sequence(service, [coffee], "warmer", 1, asked)
    assert atlas.seen == []


async def test_a_parameter_goes_to_a_provider_that_has_it(
    make_service: MakeService, atlas: Emulator, wavespeed: Emulator, finish: Finish, coffee: str
) -> None:
    """The default has no background parameter; the same family elsewhere has one."""
    asked = Options(wait_s=0, model="seedream-5.5", params=TRANSPARENT)
    async with make_service(atlas, wavespeed) as service:
        started = await edit_sequence(service, [coffee], "warmer", 1, asked)
        job = await ended(service, finish, started.job_id)
    assert (job.status, job.provider) == ("done", "wavespeed") and not atlas.accepted
    assert wavespeed.jobs[0].spec.body["background"] == "transparent"


async def test_words_alone_are_warned_of_and_set_nothing(
    make_service: MakeService, atlas: Emulator, wavespeed: Emulator, coffee: str
) -> None:
    dry = Options(wait_s=0, dry_run=True)
    there = Options(**dry, provider="wavespeed")
    async with make_service(atlas, wavespeed) as service:
        here = await edit_sequence(service, [coffee], CLEAR, 1, dry)
        four = await edit_sequence(service, [coffee], CLEAR, 4, dry)
        able = await edit_sequence(service, [coffee], CLEAR, 1, there)
        chain = await edit_chain(service, [coffee], ["warmer", CLEAR], options=there)
        said = await edit_sequence(service, [coffee], CLEAR, 1, Options(**there, params={"background": "auto"}))
        plain = await edit_sequence(service, [coffee], "warmer", 1, dry)
    assert "seedream-5.5 on atlas has no parameter that makes one" in here.warnings[0]
    use = 'model="seedream-5.5", provider="wavespeed", params={"background": "transparent"}'
    assert use in here.warnings[0] and use in four.warnings[0] and "one image per request" in four.warnings[0]
    for words in (able, chain):
        assert "words do not set it" in words.warnings[0]
        assert 'params={"background": "transparent"}' in words.warnings[0]
        assert "'background'" not in str(words.request)
    assert not any("background" in warning for warning in (*plain.warnings, *said.warnings))


async def test_a_note_names_the_key_that_is_missing(make_service: MakeService, atlas: Emulator, coffee: str) -> None:
    async with make_service(atlas) as service:
        here = await edit_sequence(service, [coffee], CLEAR, 1, Options(wait_s=0, dry_run=True))
    assert 'params={"background": "transparent"} (set WAVESPEED_API_KEY first).' in here.warnings[0]


async def test_a_job_with_the_parameter_is_not_rerouted_without_it(
    make_service: MakeService, atlas: Emulator, wavespeed: Emulator, finish: Finish, coffee: str
) -> None:
    """Elsewhere the same family has no setting: the picture would be paid for and come with a background."""
    wavespeed.fault("submit", "402", times=None)
    async with make_service(wavespeed, atlas, TRIPTYCH_PROVIDER="wavespeed") as service:
        started = await edit_sequence(service, [coffee], "warmer", 1, Options(wait_s=0, params=TRANSPARENT))
        job = await ended(service, finish, started.job_id)
    assert (job.status, job.provider) == ("failed", "wavespeed") and not atlas.accepted


# A transparent background: the pixels


def alpha_range(data: bytes) -> tuple[int, int]:
    image = Image.open(io.BytesIO(data))
    assert image.mode == "RGBA"
    low, high = image.getchannel("A").getextrema()
    return int(low), int(high)  # type: ignore[arg-type]


@pytest.mark.parametrize("api", ["wavespeed", "ark", "runware"], indirect=True)
async def test_alpha_survives_download_chain_and_saving(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str, tmp_path: Path
) -> None:
    async with make_service(api) as service:
        started = await edit_chain(
            service, [coffee], ["a sticker", "a red cup"], options=Options(wait_s=0, params=TRANSPARENT)
        )
        job = await ended(service, finish, started.job_id)
        assert job.status == "done", job.text()
        job = await service.job(started.job_id, every=True)
        first = Path(job.images[0].path or "")
        assert any("inferred" in warning for warning in job.warnings) is (api.name == "runware")
        saved = await service.save_images(
            [job.images[0].handle], str(tmp_path / "out"), None, Caller(roots=(tmp_path,))
        )
        copy = Path(saved.saved[0].path).read_bytes()
    assert alpha_range(first.read_bytes()) == (0, 255) and job.images[0].mime_type == "image/png"
    assert copy == first.read_bytes()
    assert sent_again(api) == first.read_bytes()


def sent_again(api: Emulator) -> bytes:
    """Return the reference of the last accepted request, as the provider reads it."""
    reference = api.jobs[-1].spec.references[0]
    if reference.startswith("data:"):
        return base64.b64decode(reference.partition(",")[2])
    return api.files.read(reference)


async def test_an_uploaded_image_keeps_its_alpha_on_the_way_out(
    make_service: MakeService, ark: Emulator, finish: Finish, samples: Path, tmp_path: Path
) -> None:
    """Larger than the provider takes: it is made smaller, not opaque."""
    noise = Image.effect_noise((1700, 1700), 90)
    image = Image.merge("RGBA", (noise, noise.rotate(90), noise.rotate(180), noise.rotate(270)))
    image.save(tmp_path / "cut-out.png", compress_level=1)
    assert (tmp_path / "cut-out.png").stat().st_size > 10_000_000
    async with make_service(ark) as service:
        caller = Caller(roots=(tmp_path,))
        started = await edit_sequence(service, [str(tmp_path / "cut-out.png")], "warmer", 1, V5_5, caller)
        await finish(service)
        assert (await service.job(started.job_id or "")).status == "done"
    out = sent_again(ark)
    assert len(out) <= 10_000_000 and "A" in Image.open(io.BytesIO(out)).getbands()


async def test_a_preview_and_a_sheet_show_a_checkerboard(
    make_service: MakeService, ark: Emulator, finish: Finish, coffee: str
) -> None:
    async with make_service(ark) as service:
        started = await edit_sequence(service, [coffee], CLEAR, 1, Options(wait_s=0, params=TRANSPARENT))
        job = await ended(service, finish, started.job_id)
        jpeg, _ = await service.preview(job.images[0].handle)
        one = await service.view_images([job.images[0].handle])
        sheet = await service.view_images([job.job_id or ""])
    for preview in (jpeg, one.jpeg):
        corner = Image.open(io.BytesIO(preview)).convert("L").crop((0, 0, 48, 12))
        assert len({round(corner.getpixel((x, 6)) / 8) for x in (6, 18)}) == 2, "two shades"  # type: ignore[operator]
    assert Image.open(io.BytesIO(sheet.jpeg)).mode == "RGB"
