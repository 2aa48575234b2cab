"""`jobs`, `status` and `spend` read the database by themselves: they say what the service says."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import fields as dataclass_fields
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest
from click.testing import CliRunner
from PIL import Image
from pydantic import TypeAdapter

from triptych import settings
from triptych.cli import cli
from triptych.cli.formatting import as_commands
from triptych.cli.job_commands import with_all_images
from triptych.core.json_fields import IN_JSON, LEFT_OUT_IF, Result
from triptych.core.models import Failure
from triptych.jobs.results import Cost, ImageResult, JobResult, LayerResult, Page, Progress
from triptych.jobs.service import ImageService, open_service
from triptych_emulators import running

KEY = "sk-never-to-be-shown-1234567890"


def fields(*args: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(CliRunner().invoke(cli, [*args, "--json"]).stdout)
    return found


def test_a_refusal_names_commands_and_json_the_tools() -> None:
    refused = CliRunner().invoke(cli, ["status", "job_00000000", "--json"])
    assert refused.stderr == 'triptych: There is no job "job_00000000"; `triptych jobs` shows the recent ones.\n'
    assert "list_jobs" in json.loads(refused.stdout)["error"]["message"]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ('get_status(job_id="job_1a", wait_s=50) waits for it.', "`triptych status job_1a --wait` waits for it."),
        ('get_status(job_id="job_1a") says why.', "`triptych status job_1a` says why."),
        ("list_models without arguments shows what there is.", "`triptych models` shows what there is."),
        ("Or call again with max_cost_usd=0.48.", "Or repeat the command with --max-cost-usd 0.48."),
        ('provider="draft" works without one', "--provider draft works without one"),
        ("my_list_jobs and list_jobs_of", "my_list_jobs and list_jobs_of"),
    ],
)
def test_calls_of_tools_read_as_commands(said: str, shown: str) -> None:
    assert as_commands(said) == shown


def of_service(ask: Callable[[ImageService], Awaitable[Result]]) -> dict[str, Any]:
    """Return what the service answers, as the command line shows it."""

    async def asked() -> dict[str, Any]:
        async with open_service(settings.read(os.environ).setup, work=False) as service:
            found = (await ask(service)).as_json()
            return {name: value for name, value in found.items() if value is not None or name != "request"}

    return anyio.run(asked)


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A done set, a job that failed, and one with saved copies."""
    coffee = tmp_path / "coffee.png"
    Image.new("RGB", (64, 48), (120, 80, 40)).save(coffee)
    photo = str(coffee)
    with running("atlas", latency_s=0.0, max_side=96, key=KEY) as api:
        monkeypatch.setenv("ATLASCLOUD_API_KEY", KEY)
        monkeypatch.setenv("ATLASCLOUD_BASE_URL", api.base_url)
        made = [fields("edit", photo, "-p", "by day, at dusk", "-n", "2")["job_id"]]
        api.fault("submit", "401")
        made.append(fields("chain", photo, "-s", "warm", "-s", "flat")["job_id"])
        made.append(fields("edit", photo, "-p", "cool", "--save-to", str(tmp_path / "out"))["job_id"])
    return made


def test_status_is_what_the_service_says(jobs: list[str]) -> None:
    for job in jobs:

        async def ask(service: ImageService, job: str = job) -> Result:
            return await with_all_images(service, await service.get_status(job))

        assert fields("status", job) == of_service(ask)


def test_jobs_and_spend_are_what_the_service_says(jobs: list[str]) -> None:
    assert fields("jobs") == of_service(lambda service: service.list_jobs())
    assert fields("jobs", "-n", "1", "--status", "done") == of_service(lambda service: service.list_jobs(1, "done"))
    assert fields("spend") == of_service(lambda service: service.spend())


def test_json_has_the_numbers_and_times_that_pydantic_writes() -> None:
    layer = LayerResult(z_index=1, name="sky", box=(0, 0, 9, 9))
    result = JobResult(
        job_id="job_1",
        status="done",
        provider="atlas",
        model="seedream",
        endpoint="a/b",
        progress=Progress(done=1, total=2, remaining_s=9),
        requested=2,
        returned=1,
        page=Page(number=1, of=2),
        images=[ImageResult(handle="job_1/1", uri="triptych://images/job_1/1", source=["img_1"], layer=layer)],
        cost=Cost(quoted=Decimal("0.0333334"), charged=Decimal("0.1")),
        error=Failure("deadline", "late", True),
        warnings=["é"],
        request={"size": [1, 2.5, None]},
    )
    assert result.as_json() == TypeAdapter(JobResult).dump_python(result, mode="json")
    assert result.as_json()["cost"] == {
        "currency": "USD",
        "quoted": 0.033334,
        "charged": 0.1,
        "charge_is_estimate": False,
    }


def test_every_rule_of_a_field_is_one_that_json_knows() -> None:
    kinds = list(Result.__subclasses__())
    for kind in kinds:
        kinds += kind.__subclasses__()
        assert all({*one.metadata} <= {LEFT_OUT_IF, IN_JSON} for one in dataclass_fields(kind))
