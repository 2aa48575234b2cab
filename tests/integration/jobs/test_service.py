"""The use-cases on the offline engine and the emulator: what is refused, what it costs, what the result says."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from support.fixtures import Emulator, FakeClock, Finish, MakeService
from support.jobs import Options, edit_chain, edit_sequence
from triptych.core import errors
from triptych.jobs.service import Caller, ImageService

pytestmark = pytest.mark.anyio

NOW = Options(wait_s=0)
ON_BOTH_DATABASES = True


def counts(service: ImageService) -> tuple[int, int]:
    """What a refusal must leave as it was: jobs and files."""
    return len(service.store.plain.jobs(100)), len(list(service.config.home.rglob("*.png")))


REFUSED: list[tuple[str, dict[str, Any], type[errors.TriptychError], list[str]]] = [
    ("unknown handle", {"images": ["img_00000000"]}, errors.UnknownHandle, ["img_00000000", "list_jobs"]),
    ("handle of no job", {"images": ["job_00000000/1"]}, errors.UnknownHandle, ["list_jobs"]),
    ("missing path", {"images": ["{allowed}/none.jpg"]}, errors.UnreadableImage, ["no file", "check the path"]),
    ("not an image", {"images": ["{allowed}/notes.txt"]}, errors.UnreadableImage, ["notes.txt"]),
    ("a folder without pictures", {"images": ["{allowed}"]}, errors.UnreadableImage, ["no picture", "notes.txt"]),
    ("outside", {"images": ["/etc/passwd"]}, errors.NotAllowed, ["TRIPTYCH_ALLOWED_DIRS"]),
    ("plain http", {"images": ["http://example.com/a.png"]}, errors.NotAllowed, ["https"]),
    ("private address", {"images": ["https://127.0.0.1/a.png"]}, errors.NotAllowed, ["public"]),
    ("bad data", {"images": ["data:image/png;base64,@@"]}, errors.UnreadableImage, ["base64"]),
    ("empty item", {"images": [""]}, errors.UnreadableImage, ["empty"]),
    ("no images", {"images": []}, errors.OutOfLimits, ["reference"]),
    ("too many references", {"images": ["img_00000000"] * 15}, errors.OutOfLimits, ["14"]),
    ("references + outputs", {"images": ["img_00000000"] * 12, "count": 4}, errors.OutOfLimits, ["15"]),
    ("count 0", {"count": 0}, errors.OutOfLimits, ["1"]),
    ("count 16", {"count": 16}, errors.OutOfLimits, ["15"]),
    ("empty prompt", {"prompt": "  "}, errors.OutOfLimits, ["prompt is empty"]),
    ("unknown model", {"model": "seedream-5.0-litte"}, errors.UnknownModel, ["seedream-5.0-lite"]),
    ("unknown provider", {"provider": "atlantis"}, errors.UnknownModel, ["atlas", "draft"]),
    ("odd size", {"size": "123x45"}, errors.OutOfLimits, ["2048x2048"]),
    ("word for a size", {"size": "enormous"}, errors.OutOfLimits, ["2K"]),
    ("odd format", {"format": "gif"}, errors.OutOfLimits, ["png", "jpeg"]),
    ("over the caller's cap", {"count": 4, "max_cost_usd": Decimal("0.1")}, errors.OverBudget, ["0.128", "0.1"]),
    ("save outside", {"save_to": "/etc"}, errors.NotAllowed, ["TRIPTYCH_ALLOWED_DIRS"]),
]


@pytest.mark.parametrize(("arguments", "error", "says"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
async def test_a_refusal_explains_itself_and_costs_and_leaves_nothing(
    arguments: dict[str, Any],
    error: type[errors.TriptychError],
    says: list[str],
    make_service: MakeService,
    atlas: Emulator,
    coffee: str,
    tmp_path: Path,
) -> None:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / "notes.txt").write_text("not a picture")
    given = {"images": [coffee], "prompt": "make it blue", "count": 1} | arguments
    images = [item.replace("{allowed}", str(allowed)) for item in given.pop("images")]
    prompt, count = given.pop("prompt"), given.pop("count")
    async with make_service(atlas) as service:
        caller = Caller(roots=(allowed,))
        with pytest.raises(error) as refused:
            await edit_sequence(service, images, prompt, count, Options(wait_s=0, **given), caller)
        assert counts(service) == (0, 0)
        assert service.store.plain.money_since(0) == (0, 0)
    message = refused.value.message
    assert len(message) < 1000
    assert all(part in message for part in says), message
    assert atlas.accepted == []


async def test_without_a_key_the_variable_is_named(make_service: MakeService, coffee: str) -> None:
    async with make_service() as service:
        with pytest.raises(errors.NoKey, match="ATLASCLOUD_API_KEY"):
            await edit_sequence(service, [coffee], "warmer", 1, Options(provider="atlas"))
        with pytest.raises(errors.NoKey, match="ATLASCLOUD_API_KEY"):
            await edit_sequence(service, [coffee], "warmer", 1, Options(model="seedream-5.0-lite"))


async def test_without_any_key_the_offline_engine_does_the_job(make_service: MakeService, coffee: str) -> None:
    async with make_service() as service:
        result = await edit_sequence(service, [coffee], "four seasons: spring, summer, autumn, winter", 4)
    assert (result.provider, result.status, result.returned) == ("draft", "done", 4)
    assert result.warnings == ["Drawn by the offline preview engine, not by Seedream."]
    assert result.cost.quoted == result.cost.charged == 0
    assert len({image.path for image in result.images}) == 4
    assert all(image.url and image.url.startswith("file:") for image in result.images)


async def test_a_costly_job_names_the_argument_that_confirms_it(
    make_service: MakeService, atlas: Emulator, coffee: str
) -> None:
    async with make_service(atlas, TRIPTYCH_CONFIRM_USD="0.05") as service:
        with pytest.raises(errors.OverBudget, match=r"max_cost_usd=0.128"):
            await edit_sequence(service, [coffee], "four variants", 4, NOW)
        confirmed = Options(wait_s=0, max_cost_usd=Decimal("0.128"))
        assert (await edit_sequence(service, [coffee], "four variants", 4, confirmed)).status == "queued"


async def test_the_budget_refuses_what_does_not_fit(make_service: MakeService, atlas: Emulator, coffee: str) -> None:
    async with make_service(atlas, TRIPTYCH_BUDGET_USD="0.1") as service:
        await edit_sequence(service, [coffee], "two variants", 2, NOW)
        with pytest.raises(errors.OverBudget, match="reserved"):
            await edit_sequence(service, [coffee], "two other variants", 2, NOW)


async def test_every_refusal_about_money_names_cap_spent_reserved_and_asked(
    make_service: MakeService, atlas: Emulator, coffee: str
) -> None:
    limits = {"TRIPTYCH_CONFIRM_USD": "0.07", "TRIPTYCH_BUDGET_USD": "0.20"}
    async with make_service(atlas, **limits) as service:
        await edit_sequence(service, [coffee], "two variants", 2, NOW)
        for count, cap, own in (
            (3, "0.09", "cap $0.09 (max_cost_usd)"),
            (3, None, "above $0.07 (TRIPTYCH_CONFIRM_USD)"),
            (5, None, "does not fit the budget"),
            (5, "1", "does not fit the budget"),
        ):
            options = Options(wait_s=0, max_cost_usd=Decimal(cap) if cap else None)
            with pytest.raises(errors.OverBudget) as refused:
                await edit_sequence(service, [coffee], "other variants", count, options)
            said, asked = refused.value.message, "0.096" if count == 3 else "0.16"
            budget = "cap $0.2 per 24 h (TRIPTYCH_BUDGET_USD), spent $0, reserved $0.064"
            for part in (own, budget, f"quoted ${asked}", "Nothing was sent"):
                assert part in said
            assert count == 5 or f"max_cost_usd={asked}." in said
            assert (refused.value.confirm_usd is not None) == (count == 3 and cap is None)
            assert len(said) < 900 and "E-" not in said
        assert service.store.plain.money_since(0) == (0, Decimal("0.064"))


async def test_a_repeated_call_attaches_with_the_budget_used_up(
    make_service: MakeService, atlas: Emulator, coffee: str
) -> None:
    limits = {"TRIPTYCH_CONFIRM_USD": "0.05", "TRIPTYCH_BUDGET_USD": "0.13"}
    async with make_service(atlas, **limits) as service:
        confirmed = Options(wait_s=0, max_cost_usd=Decimal("0.128"))
        first = await edit_sequence(service, [coffee], "four variants", 4, confirmed)
        assert (await edit_sequence(service, [coffee], "four variants", 4, NOW)).job_id == first.job_id


async def test_the_ledger_is_shown_by_day_provider_and_model(
    make_service: MakeService, atlas: Emulator, clock: FakeClock, finish: Finish, coffee: str
) -> None:
    async with make_service(atlas) as service:
        await edit_sequence(service, [coffee], "two variants", 2, NOW)
        await finish(service)
        clock.advance(2)
        await service.worker.step()  # the charge is told a moment later
        clock.advance(86_400)
        await edit_sequence(service, [coffee], "two others", 2, NOW)
        await edit_sequence(service, [coffee], "three of another", 3, Options(wait_s=0, model="seedream-4.5"))
        shown = await service.spend(2)
        assert [(row.day, row.model, row.jobs, row.images) for row in shown.rows] == [
            ("2026-11-22", "seedream-4.5", 1, 0),
            ("2026-11-22", "seedream-5.0-lite", 1, 0),
            ("2026-11-21", "seedream-5.0-lite", 1, 2),
        ]
        oldest = shown.rows[-1]
        assert (oldest.quoted, oldest.charged, oldest.reserved) == (Decimal("0.064"), atlas.charged_usd, 0)
        assert shown.total.charged + shown.total.reserved == sum(service.store.plain.money_since(0))
        assert [row.day for row in (await service.spend(1)).rows] == ["2026-11-22"] * 2
        for days in (0, 367):
            with pytest.raises(errors.OutOfLimits, match="1 to 366"):
                await service.spend(days)


async def test_a_dry_run_shows_the_exact_request_and_sends_nothing(
    make_service: MakeService, atlas: Emulator, coffee: str
) -> None:
    async with make_service(atlas) as service:
        result = await edit_sequence(service, [coffee], "four variants", 4, Options(dry_run=True, size="2K"))
        assert counts(service)[0] == 0
    assert atlas.seen == []
    assert (result.job_id, result.status, result.cost.quoted) == (None, "dry_run", Decimal("0.128"))
    assert result.request and result.request["url"] == f"{atlas.base_url}/api/v1/model/generateImage"
    assert result.request["json"]["max_images"] == 4
    assert result.request["json"]["model"] == "bytedance/seedream-v5.0-lite/edit-sequential"


async def test_a_call_waits_no_longer_than_it_was_told(
    make_service: MakeService, atlas: Emulator, clock: FakeClock, coffee: str
) -> None:
    async with make_service(atlas) as service:
        before = clock.now()
        result = await edit_sequence(service, [coffee], "warmer", 1, Options(wait_s=3))
        assert result.status == "running"
        assert (clock.now() - before).total_seconds() <= 4
        assert result.next == f'get_status(job_id="{result.job_id}", wait_s=50)'
        done = await service.get_status(result.job_id or "", wait_s=50)
    assert done.status == "done"


async def test_progress_is_reported_while_a_call_waits(make_service: MakeService, atlas: Emulator, coffee: str) -> None:
    told: list[tuple[float, float, str]] = []

    async def report(done: float, total: float, message: str) -> None:
        told.append((done, total, message))

    async with make_service(atlas) as service:
        await edit_sequence(service, [coffee], "two variants", 2, Options(wait_s=50), Caller(report=report))
    assert told[0][:2] == (0, 2) and told[-1][:2] == (2, 2)
    assert "done" in told[-1][2]


async def test_any_output_can_be_the_next_input(make_service: MakeService, coffee: str) -> None:
    async with make_service() as service:
        first = await edit_sequence(service, [coffee], "spring, summer, autumn, winter", 4)
        third = first.images[2].handle
        redone = await edit_sequence(service, [third], "brighter")
        branched = await edit_sequence(service, [third], "sepia")
        undone = await edit_sequence(service, [first.images[2].source[0]], "night")
    assert redone.images[0].source == branched.images[0].source == [third]
    assert undone.images[0].source == first.images[0].source
    assert redone.images[0].path != branched.images[0].path


async def test_the_same_file_is_the_same_handle(make_service: MakeService, coffee: str) -> None:
    async with make_service() as service:
        first, second = await service.upload_images([coffee]), await service.upload_images([f"file://{coffee}"])
    assert first.images[0].handle == second.images[0].handle


async def test_an_upload_gives_the_url_on_the_default_providers_storage(
    make_service: MakeService, atlas: Emulator, coffee: str
) -> None:
    async with make_service(atlas) as service:
        (image,) = (await service.upload_images([coffee])).images
    assert image.url and image.url.startswith(f"{atlas.base_url}/_uploads/")
    assert image.url_expires_at


async def test_a_failed_upload_leaves_the_handle_with_a_warning(
    make_service: MakeService, atlas: Emulator, coffee: str
) -> None:
    atlas.fault("upload", "402", times=None)
    async with make_service(atlas) as service:
        result = await service.upload_images([coffee])
    assert result.images[0].handle.startswith("img_")
    assert "not yet at Atlas Cloud" in result.warnings[0]


async def test_a_lost_id_is_found_again_in_the_list(make_service: MakeService, coffee: str, clock: FakeClock) -> None:
    async with make_service() as service:
        first = await edit_sequence(service, [coffee], "warmer")
        clock.advance(1)
        second = await edit_sequence(service, [coffee], "cooler")
        listed = await service.list_jobs()
        assert [job.job_id for job in listed.jobs] == [second.job_id, first.job_id]
        assert (await service.list_jobs(status="failed")).jobs == []
        with pytest.raises(errors.OutOfLimits, match="uncertain"):
            await service.list_jobs(status="lost")


async def test_two_thousand_requests_are_accepted(make_service: MakeService, coffee: str) -> None:
    async with make_service() as service:
        (image,) = (await service.upload_images([coffee])).images
        result = await edit_chain(service, [image.handle] * 200, [f"step {n}" for n in range(10)], options=NOW)
        assert (result.requested, result.status) == (2000, "queued")
        assert len(json.dumps(result.as_json(), separators=(",", ":"))) < 9000
        many = await edit_chain(service, [image.handle] * 2000, ["warmer"], options=NOW)
        assert (many.requested, many.status) == (2000, "queued")
        with pytest.raises(errors.OutOfLimits, match="201 images × 10 steps are 2010 requests"):
            await edit_chain(service, [image.handle] * 201, [f"step {n}" for n in range(10)])
        with pytest.raises(errors.OutOfLimits, match="10"):
            await edit_chain(service, [image.handle], ["warmer"] * 11)


async def test_models_are_listed_with_price_limits_and_reasons(make_service: MakeService, atlas: Emulator) -> None:
    async with make_service() as service:
        listed = await service.list_models(provider="atlas")
        assert listed.models and not any(row.usable for row in listed.models)
        assert listed.models[0].why_not == "set ATLASCLOUD_API_KEY"
    async with make_service(atlas) as service:
        (row,) = (await service.list_models("5.0 lite", "edit-sequential", "atlas")).models
        assert (row.usable, row.usd_per_image, row.max_references) == (True, Decimal("0.032"), 14)
        (provider,) = (await service.list_models(provider="atlas")).providers
        assert provider.balance_usd == Decimal("125.50")


async def test_a_failed_live_list_does_not_mean_no_models(
    make_service: MakeService, atlas: Emulator, clock: FakeClock
) -> None:
    atlas.fault("models", "code-500-null", times=None)
    async with make_service(atlas) as service:
        listed = await service.list_models(provider="atlas")
        assert listed.models and all(row.usable for row in listed.models)
        assert "is built in" in listed.warnings[0]
        atlas.clear()
        assert (await service.list_models(provider="atlas")).warnings == []


async def test_one_image_is_a_preview_and_several_are_a_sheet(
    make_service: MakeService, coffee: str, samples: Path
) -> None:
    async with make_service() as service:
        one = await service.view_images([coffee])
        many = await service.view_images([coffee, str(samples / "cat.jpg")])
    assert one.jpeg[:3] == many.jpeg[:3] == b"\xff\xd8\xff"
    assert len(many.jpeg) < 400_000
    assert many.caption.count("img_") == 2


async def test_saving_never_overwrites_and_leaves_the_allowed_directories_never(
    make_service: MakeService, coffee: str, samples: Path, tmp_path: Path
) -> None:
    caller = Caller(roots=(tmp_path,))
    async with make_service() as service:
        result = await service.save_images([coffee], str(tmp_path / "out"), "cup", caller)
        again = await service.save_images([str(samples / "cat.jpg")], str(tmp_path / "out"), "cup", caller)
        assert [Path(saved.path).name for saved in result.saved + again.saved] == ["cup.jpg", "cup-2.jpg"]
        with pytest.raises(errors.NotAllowed, match="TRIPTYCH_ALLOWED_DIRS"):
            await service.save_images([coffee], "/var", None, caller)


async def test_an_exact_quote_of_the_provider_is_used_and_remembered(
    make_service: MakeService, atlas: Emulator, coffee: str
) -> None:
    async with make_service(atlas) as service:
        await edit_sequence(service, [coffee], "warmer", 2, NOW)
        await edit_sequence(service, [coffee], "cooler", 2, NOW)
    assert len(atlas.seen_at("POST", "/api/v1/model/calculate")) == 1


async def test_no_result_log_or_database_holds_a_key(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str, tmp_path: Path, caplog: Any
) -> None:
    caplog.set_level("DEBUG")
    atlas.fault("submit", "401", times=None)
    async with make_service(atlas) as service:
        result = await edit_sequence(service, [coffee], "warmer", 1, NOW)
        await finish(service)
        text = json.dumps((await service.job(result.job_id or "")).as_json()) + caplog.text + repr(service.config)
    stored = b"".join(path.read_bytes() for path in (tmp_path / "home").glob("triptych.db*"))
    assert atlas.key not in text and atlas.key.encode() not in stored
