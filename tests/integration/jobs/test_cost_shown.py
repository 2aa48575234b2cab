"""What is said of money: what was charged, by whose word, and when nothing was; six decimals at most, everywhere."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from click.testing import CliRunner

import triptych_emulators
from support.fixtures import Emulator, FakeClock, Finish, MakeService
from support.jobs import Options, edit_sequence, generate_sequence
from triptych import providers
from triptych.cli import cli, formatting
from triptych.core import errors
from triptych.jobs.model_results import ProviderRow
from triptych.jobs.results import Cost, JobResult
from triptych.jobs.service import Caller, ImageService
from triptych.server import resources, tools
from triptych.storage.budget import Budget
from triptych_emulators.kit.jobs import EmulatedJob

pytestmark = pytest.mark.anyio

HOSTED = tuple(name for name in providers.names() if not providers.load(name).offline)
REPORTS = {"atlas", "evolink", "runware"}
"""The providers that say what a request cost; of the others the list price is all there is."""
NOW = Options(wait_s=0)


@pytest.fixture(params=HOSTED)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def api(name: str, clock: FakeClock) -> Iterator[Any]:
    latency_s = 10.0 if providers.load(name).poll else 0.0
    with triptych_emulators.running(name, latency_s=latency_s, max_side=48, clock=clock.monotonic) as running:
        yield running


async def ended(service: ImageService, finish: Finish, image: str, **options: Any) -> JobResult:
    job = await edit_sequence(service, [image], "make it golden hour", 3, Options(wait_s=0, **options))
    assert job.job_id
    await finish(service)
    return await service.job(job.job_id)


async def everywhere(service: ImageService, job_id: str) -> list[dict[str, Any]]:
    """Return the costs of one job as every list and resource shows them."""

    async def opened() -> ImageService:
        return service

    found = [(await service.list_jobs()).as_json()["jobs"][0]["cost"]]
    for uri in ("triptych://jobs", f"triptych://jobs/{job_id}", "triptych://spend"):
        [content] = (await resources.read(opened, uri, Caller())).contents
        shown = json.loads(content.text)  # type: ignore[union-attr]
        found.append(shown["jobs"][0]["cost"] if "jobs" in shown else shown.get("cost") or shown["rows"][0])
    return found


# Whose word it is ----------------------------------------------------------------------------------------------------


async def test_a_charge_without_a_report_is_an_estimate(
    make_service: MakeService, finish: Finish, api: Emulator, name: str, clock: FakeClock, coffee: str
) -> None:
    async with make_service(api) as service:
        job = await ended(service, finish, coffee)
        for _ in range(10):  # a charge may come later than its images
            clock.advance(30)
            while await service.worker.step():
                pass
        job = await service.job(job.job_id or "")
        shown = await everywhere(service, job.job_id or "")
    estimated = name not in REPORTS
    assert job.status == "done" and job.cost.charged == api.charged_usd
    assert job.cost.charge_is_estimate is estimated
    assert [cost["charge_is_estimate"] for cost in shown] == [estimated] * 4
    answer = tools.tool_result(job)
    assert answer.structured_content and answer.structured_content["cost"]["charge_is_estimate"] is estimated
    said = f"about ${errors.format_usd(api.charged_usd)}, the provider reports no charge"
    assert (said in job.text()) is (said in formatting.job_text(job)) is estimated


async def test_spend_and_jobs_mark_an_estimate_on_the_command_line(
    make_service: MakeService, finish: Finish, clock: FakeClock, coffee: str
) -> None:
    with triptych_emulators.running("novita", max_side=48, clock=clock.monotonic) as api:
        async with make_service(api) as service:
            job = await ended(service, finish, coffee)
            spend, jobs = await service.spend(), await service.list_jobs()
    usd = errors.format_usd(job.cost.charged or Decimal(0))
    assert f"~${usd}" in formatting.spend_text(spend)
    assert "~ an estimate at the list price: the provider reports no charge" in formatting.spend_text(spend)
    assert f"~${usd}" in formatting.jobs_text(jobs)


# When nothing was charged --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "fault", "status"),
    [("submit", "402", "failed"), ("submit", "401", "failed"), ("poll", "moderated", "failed")],
)
async def test_a_job_that_was_refused_says_that_nothing_was_charged(
    make_service: MakeService, finish: Finish, atlas: Emulator, coffee: str, op: str, fault: str, status: str
) -> None:
    atlas.fault(op, fault, times=None)
    async with make_service(atlas) as service:
        job = await ended(service, finish, coffee)
        shown = await everywhere(service, job.job_id or "")
    assert (job.status, job.cost.charged, job.cost.charge_is_estimate) == (status, 0, False)
    assert "nothing was charged" in job.text() and "nothing was charged" in formatting.job_text(job)
    assert "not charged yet" not in job.text() + formatting.job_text(job)
    assert {cost["charged"] for cost in shown} == {0}


async def test_a_job_cancelled_before_it_was_sent_was_not_charged(
    make_service: MakeService, atlas: Emulator, coffee: str
) -> None:
    async with make_service(atlas) as service:
        made = await edit_sequence(service, [coffee], "make it golden hour", 1, NOW)
        assert made.cost.charged is None and "not charged yet" in made.text()
        job = await service.cancel_job(made.job_id or "")
    assert (job.status, job.cost.charged) == ("cancelled", 0)
    assert "nothing was charged" in job.text()


async def test_what_may_have_been_charged_is_not_called_free(
    make_service: MakeService, finish: Finish, atlas: Emulator, coffee: str
) -> None:
    atlas.fault("submit", "lost-answer", times=None)
    atlas.fault("history", "500", times=None)
    async with make_service(atlas) as service:
        job = await ended(service, finish, coffee)
        assert (job.status, job.cost.charged) == ("uncertain", None)
        assert "may have been charged" in job.text() and "may have been charged" in formatting.job_text(job)
        lost = await service.cancel_job(job.job_id or "")
    assert (lost.status, lost.cost.charged) == ("cancelled", None)
    assert "may have been charged" in lost.text()


# Six decimals --------------------------------------------------------------------------------------------------------

LONG = Decimal("0.03333333333333333333333333")


def test_money_leaves_with_six_decimals_at_most() -> None:
    cost = Cost(quoted=LONG, charged=LONG * 2)
    assert cost.as_json() == {
        "currency": "USD", "quoted": 0.033334, "charged": 0.066667, "charge_is_estimate": False
    }  # fmt: skip
    assert errors.format_usd(LONG) == "0.033334", "fields and text agree, and what is given back as a cap is enough"
    assert Budget(cap=None, spent=LONG, reserved=LONG).as_json()["spent"] == 0.033334
    row = ProviderRow(provider="a", usable=True, balance_usd=Decimal("12.3456789"))
    assert row.as_json()["balance_usd"] == 12.345679


async def test_a_share_of_a_quote_is_kept_with_six_decimals(
    make_service: MakeService, finish: Finish, clock: FakeClock, coffee: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with triptych_emulators.running("wavespeed", latency_s=10.0, max_side=48, clock=clock.monotonic) as api:
        api.fault("poll", "fewer", times=None)
        async with make_service(api, TRIPTYCH_CONFIRM_USD="none") as service:
            made = await edit_sequence(service, [coffee], "make it golden hour", 3, NOW)
            with sqlite3.connect(service.config.home / "triptych.db") as db:
                db.execute("UPDATE predictions SET quoted_usd = '0.1', reserved_usd = '0.1'")
            db.close()
            await finish(service)
            job = await service.job(made.job_id or "")
            charged, _ = service.store.plain.money_since(0)
    assert job.returned == 2 and job.cost.charged == charged == Decimal("0.066667")


async def test_a_surprising_charge_is_told_with_six_decimals(
    make_service: MakeService, finish: Finish, clock: FakeClock, coffee: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EmulatedJob, "charge_usd", lambda work, now: Decimal("5.123456789"))
    with triptych_emulators.running("atlas", max_side=48, clock=clock.monotonic, price="prompt") as atlas:
        async with make_service(atlas) as service:
            job = await ended(service, finish, coffee)
    assert any("$5.123457; the quote was" in warning for warning in job.warnings), job.warnings
    for said in (*job.warnings, job.text(), formatting.job_text(job)):
        for amount in re.findall(r"\$(\d+\.\d+)", said):
            assert len(amount.partition(".")[2]) <= 6


# A key that is wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["401", "403"])
async def test_a_rejected_key_names_its_setting(
    make_service: MakeService, finish: Finish, api: Emulator, name: str, coffee: str, status: str
) -> None:
    for op in {fault.op for fault in triptych_emulators.faults(name)} - {"result", "callback"}:
        api.fault(op, status, times=None)
    async with make_service(api) as service:
        uploaded = await service.upload_images([coffee])
        job = await generate_sequence(service, "two lighthouses", 2, Options(wait_s=0, provider=name))
        await finish(service)
        job = await service.job(job.job_id or "")
    key_env = providers.load(name).key_env or ""
    assert job.error and job.error.kind == "key_rejected"
    assert f"set {key_env} to" in job.error.message and api.key not in job.error.message
    assert all(key_env in warning for warning in uploaded.warnings)
    assert bool(uploaded.warnings) is not providers.load(name).inline


def test_the_command_line_names_the_setting_of_a_rejected_key(coffee: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with triptych_emulators.running("atlas", latency_s=0.0, max_side=48, key="sk-right-0123456789") as api:
        monkeypatch.setenv("ATLASCLOUD_API_KEY", "sk-wrong-0123456789")
        monkeypatch.setenv("ATLASCLOUD_BASE_URL", api.base_url)
        result = CliRunner().invoke(cli, ["edit", coffee, "-p", "fog"])
    said = " ".join(result.output.split())
    assert "set ATLASCLOUD_API_KEY" in said and "nothing was charged" in said
    assert "sk-wrong" not in said


async def test_a_done_job_with_a_late_price_says_so(
    make_service: MakeService, finish: Finish, coffee: str, clock: FakeClock
) -> None:
    with triptych_emulators.running(
        "atlas", latency_s=10.0, max_side=96, clock=clock.monotonic, price="never"
    ) as atlas:
        async with make_service(atlas) as service:
            job = await ended(service, finish, coffee)
    assert (job.status, job.cost.charged) == ("done", None)
    for text in (job.text(), formatting.job_text(job)):
        assert "the charge is not known yet" in text and "not charged yet" not in text
