"""One call, from raw arguments to the blocks of its answer."""

from __future__ import annotations

import base64
import json
import logging
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import mcp_types as types
import pytest
from mcp import MCPError

from support.servers import CannedService, Connect, image_result, job_result
from triptych.core import errors
from triptych.core.models import Failure
from triptych.core.requests import Request
from triptych.jobs.model_results import ModelRow, ModelsResult, ProviderRow
from triptych.jobs.planning import Terms
from triptych.jobs.results import Cost, JobsResult, JobSummary, Preview, Saved, SaveResult, UploadResult
from triptych.jobs.service import Caller
from triptych.server import schemas, tools

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
COST = Cost(quoted=Decimal("0.108"), charged=Decimal("0.105"))
IMAGE = image_result(
    url="https://cdn.example/a.png?sig=1", url_expires_at=NOON, width=2048, height=1024, mime_type="image/png"
)
RESULTS = [
    ("upload_images", {"images": ["a.png"]}, UploadResult(images=[IMAGE], provider="atlas", next="edit_sequence(…)")),
    ("edit_sequence", {"images": ["a.png"], "prompt": "warm"}, job_result(images=[IMAGE], cost=COST)),
    ("edit_chain", {"images": ["a.png"], "steps": ["warm"]}, job_result(status="running", next="get_status(…)")),
    (
        "generate_sequence",
        {"prompt": "a cat"},
        job_result(job_id=None, status="dry_run", request={"json": {"n": None}}),
    ),
    (
        "get_status",
        {"job_id": "job_12345678"},
        job_result(status="failed", error=Failure(kind="moderated", message="said no", retryable=False)),
    ),
    (
        "list_jobs",
        {},
        JobsResult(
            jobs=[
                JobSummary(
                    job_id="job_12345678",
                    status="done",
                    tool="edit_sequence",
                    prompt="warm",
                    provider="atlas",
                    model="seedream-5.0-lite",
                    requested=4,
                    returned=4,
                    created_at=NOON,
                    cost=COST,
                )
            ]
        ),
    ),
    ("cancel_job", {"job_id": "job_12345678"}, job_result(status="cancelled")),
    (
        "list_models",
        {"provider": "atlas"},
        ModelsResult(
            default_provider="atlas",
            providers=[ProviderRow(provider="atlas", usable=True, balance_usd=Decimal("4.2"))],
            models=[
                ModelRow(
                    model="seedream-5.0-lite",
                    provider="atlas",
                    endpoints={"edit": "bytedance/seedream-v5.0-lite/edit"},
                    usd_per_image=Decimal("0.035"),
                    price_as_of="2026-11-01",
                    max_references=14,
                    max_outputs=1,
                    sizes=["2K"],
                    formats=["png"],
                    usable=True,
                )
            ],
        ),
    ),
    (
        "save_images",
        {"images": ["job_12345678/1"], "directory": "."},
        SaveResult(saved=[Saved(handle="job_12345678/1", path="/tmp/a.png")], count=1, directory="/tmp"),
    ),
]
WORDS = {"images": ["a.png"], "prompt": "warm"}


def text_of(result: types.CallToolResult) -> str:
    assert isinstance(result.content[0], types.TextContent)
    return result.content[0].text


def refusal_of(result: types.CallToolResult) -> str:
    """Return what a refusal says after its first word, having checked that it is nothing but text and short."""
    assert result.is_error and len(result.content) == 1 and result.structured_content is None
    assert len(text_of(result)) < 1000 and text_of(result).startswith("Error: ")
    return text_of(result).removeprefix("Error: ")


# -- answers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tool", "arguments", "answer"), RESULTS, ids=[r[0] for r in RESULTS])
async def test_an_answer_keeps_its_schema_and_repeats_it_in_text(
    client_of: Connect, told: CannedService, tool: str, arguments: dict[str, Any], answer: Any
) -> None:
    told.answer = answer
    async with client_of() as client:
        schema = next(t for t in (await client.list_tools()).tools if t.name == tool).output_schema
        result = await client.call_tool(tool, arguments)
    assert not result.is_error
    jsonschema.validate(result.structured_content, schema, jsonschema.Draft202012Validator)
    assert text_of(result) == answer.text()
    name, asked, *_ = told.asked[0]
    assert (asked.tool if isinstance(asked, Request) else name) == tool


async def test_pixels_come_as_an_image_block_with_a_caption(client_of: Connect, told: CannedService) -> None:
    told.answer = Preview(jpeg=b"\xff\xd8 pixels", caption="two\nlines")
    async with client_of() as client:
        result = await client.call_tool("view_images", {"images": ["img_0a1b2c3d"]})
    image, caption = result.content
    assert isinstance(image, types.ImageContent) and isinstance(caption, types.TextContent)
    assert base64.b64decode(image.data) == b"\xff\xd8 pixels" and image.mime_type == "image/jpeg"
    assert caption.text == "two lines" and result.structured_content is None


async def test_only_a_dry_run_shows_a_request(client_of: Connect, told: CannedService) -> None:
    async with client_of() as client:
        told.answer = job_result()
        plain = await client.call_tool("edit_sequence", WORDS)
        told.answer = job_result(job_id=None, status="dry_run", request={"json": {"prompt": "warm"}})
        dry = await client.call_tool("edit_sequence", {**WORDS, "dry_run": True})
    assert "request" not in plain.structured_content and plain.structured_content["error"] is None
    assert (
        dry.structured_content["request"] == {"json": {"prompt": "warm"}} and dry.structured_content["job_id"] is None
    )


# -- arguments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({"images": "a.png"}, ["a.png"]),
        ({"images": '["a.png", "b.png"]'}, ["a.png", "b.png"]),
        ({"images": "[draft] a.png"}, ["[draft] a.png"]),
        ({"images": [" a.png "]}, ["a.png"]),
    ],
)
async def test_a_list_may_be_one_string_or_written_as_json(
    client_of: Connect, told: CannedService, given: dict[str, Any], asked: list[str]
) -> None:
    async with client_of() as client:
        result = await client.call_tool("edit_sequence", {"prompt": "warm", **given})
    assert not result.is_error and told.asked[0][1].images == tuple(asked)


async def test_numbers_may_be_text_and_null_is_not_given(client_of: Connect, told: CannedService) -> None:
    loose = {"count": "4", "wait_s": "0", "max_cost_usd": "0.5", "dry_run": "true", "format": "JPG", "model": None}
    async with client_of() as client:
        result = await client.call_tool("edit_sequence", {**WORDS, **loose})
    assert not result.is_error
    request = Request("edit_sequence", ("warm",), ("a.png",), count=4, format="jpeg")
    assert told.asked == [("make", request, Terms(wait_s=0, max_cost_usd=Decimal("0.5"), dry_run=True))]


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({"seed": 7, "background": "opaque"}, {"seed": 7, "background": "opaque"}),
        ('{"seed": 7}', {"seed": 7}),
        ({}, None),
        ("", None),
        (None, None),
    ],
)
async def test_params_are_an_object_or_written_as_json(
    client_of: Connect, told: CannedService, given: Any, asked: dict[str, Any] | None
) -> None:
    async with client_of() as client:
        result = await client.call_tool("edit_sequence", {**WORDS, "params": given})
    assert not result.is_error and told.asked[0][1].params == asked


async def test_arguments_not_given_are_the_services_own_defaults(client_of: Connect, told: CannedService) -> None:
    async with client_of() as client:
        await client.call_tool("edit_chain", {"images": "a.png", "steps": "warm"})
    assert told.asked == [("make", Request("edit_chain", ("warm",), ("a.png",)), Terms())]


@pytest.mark.parametrize(
    ("tool", "given", "said"),
    [
        (
            "edit_sequence",
            {"images": ["a"], "promt": "warm"},
            ["There is no argument `promt`", "did you mean `prompt`", "missing"],
        ),
        ("edit_sequence", {"prompt": "warm"}, ["`images` is missing"]),
        ("edit_sequence", {"images": None, "prompt": "warm"}, ["`images` is missing"]),
        ("edit_sequence", {**WORDS, "count": 20}, ["`count` is 20;", "at most 14"]),
        ("edit_sequence", {**WORDS, "count": 0}, ["at least 1"]),
        ("edit_sequence", {**WORDS, "count": "four"}, ['`count` is "four"', "whole number"]),
        ("get_status", {"job_id": 5}, ["`job_id` is 5; it must be text"]),
        ("edit_sequence", {"images": ["a"], "prompt": True}, ["`prompt` is true; it must be text"]),
        ("edit_sequence", {**WORDS, "wait_s": 600}, ["`wait_s`", "at most 55"]),
        ("edit_sequence", {**WORDS, "wait_s": "nan"}, ["`wait_s`", "a number"]),
        ("edit_sequence", {**WORDS, "max_cost_usd": "cheap"}, ["`max_cost_usd`", "US dollars"]),
        ("edit_sequence", {**WORDS, "max_cost_usd": -1}, ["`max_cost_usd`", "at least 0"]),
        ("edit_sequence", {**WORDS, "dry_run": "maybe"}, ["`dry_run`", "true or false"]),
        ("edit_sequence", {**WORDS, "format": "gif"}, ["`format`", "'png', 'jpeg' or 'webp'"]),
        ("edit_sequence", {**WORDS, "params": "seed=7"}, ["`params`", 'an object such as {"seed": 7}']),
        ("edit_sequence", {**WORDS, "params": ["seed"]}, ["`params` is a list", "an object"]),
        ("edit_sequence", {**WORDS, "images": []}, ["`images` is empty"]),
        ("edit_sequence", {**WORDS, "images": ["a", 7]}, ["`images` item 2", "must be text"]),
        ("edit_sequence", {**WORDS, "images": {"a": 1}}, ["`images` is an object", "list of strings"]),
        ("edit_sequence", {**WORDS, "prompt": "  "}, ["`prompt` is empty"]),
        ("list_jobs", {"status": "finished"}, ['`status` is "finished"', "'done'"]),
        ("list_models", {"operation": "inpaint"}, ["`operation`", "'edit-sequential'"]),
    ],
)
async def test_a_wrong_argument_is_named_with_what_is_right(
    client_of: Connect, told: CannedService, tool: str, given: dict[str, Any], said: list[str]
) -> None:
    async with client_of() as client:
        refusal = refusal_of(await client.call_tool(tool, given))
    for words in said:
        assert words in refusal
    assert refusal.startswith(f"{tool}: ") and "Nothing was sent" in refusal and "takes: " in refusal
    assert told.asked == [] and "pydantic" not in refusal


async def test_an_empty_optional_text_counts_as_not_given(client_of: Connect, told: CannedService) -> None:
    """Some frameworks have their model fill in every argument."""
    blank = dict.fromkeys(("model", "provider", "size", "save_to"), "") | {"format": " "}
    async with client_of() as client:
        assert not (await client.call_tool("edit_sequence", {**WORDS, **blank})).is_error
        refused = refusal_of(await client.call_tool("edit_sequence", {**WORDS, "max_cost_usd": ""}))
    assert "`max_cost_usd`" in refused, "a cap is never passed over"
    assert schemas.read(schemas.ListJobs, "list_jobs", {"status": ""}).status is None


async def test_a_refusal_never_repeats_a_misplaced_image(client_of: Connect) -> None:
    pixels = "data:image/png;base64," + "iVBORw0KGgo" * 100_000
    async with client_of() as client:
        refusal = refusal_of(await client.call_tool("edit_sequence", {**WORDS, "count": pixels, pixels: 1}))
    assert refusal.count("iVBORw0KGgo") < 12


async def test_twenty_wrong_arguments_still_make_a_short_refusal(client_of: Connect) -> None:
    async with client_of() as client:
        refusal = refusal_of(await client.call_tool("edit_chain", {f"wrong_{'x' * 80}_{n}": n for n in range(20)}))
    assert "And 18 more" in refusal


async def test_an_unknown_tool_is_refused_with_the_known_names(client_of: Connect, told: CannedService) -> None:
    async with client_of() as client:
        with pytest.raises(MCPError) as refused:
            await client.call_tool("edit_image", {})
    message = refused.value.error.message
    assert refused.value.error.code == types.INVALID_PARAMS and told.asked == []
    assert '"edit_image"' in message and all(name in message for name in tools.TOOLS)


# -- refusals and accidents --------------------------------------------------------------------------------------------


async def test_what_the_studio_refuses_is_its_message_and_kind(client_of: Connect, told: CannedService) -> None:
    told.answer = errors.OverBudget("The job costs $2.00; pass max_cost_usd=2 to confirm.")
    async with client_of() as client:
        refusal = refusal_of(await client.call_tool("edit_sequence", WORDS))
    assert refusal == "The job costs $2.00; pass max_cost_usd=2 to confirm. [over_budget]"


async def test_a_refusal_says_whether_a_retry_may_help(client_of: Connect, told: CannedService) -> None:
    told.answer = errors.RateLimited("busy " * 1000)
    async with client_of() as client:
        refusal = refusal_of(await client.call_tool("edit_sequence", WORDS))
    assert refusal.endswith("[rate_limited; the same call may help later]")


async def test_an_unexpected_exception_is_logged_and_never_quoted(
    client_of: Connect, told: CannedService, caplog: pytest.LogCaptureFixture
) -> None:
    told.answer = RuntimeError("key sk-secret is in here")
    async with client_of() as client:
        with caplog.at_level(logging.ERROR):
            refusal = refusal_of(await client.call_tool("edit_sequence", WORDS))
    assert "sk-secret" not in refusal and "list_jobs" in refusal
    assert "sk-secret" in caplog.text and "Traceback" in caplog.text


# -- progress and roots ------------------------------------------------------------------------------------------------


async def test_progress_reaches_a_client_that_asked_for_it(client_of: Connect, told: CannedService) -> None:
    async def work(caller: Caller) -> Any:
        assert caller.report
        await caller.report(1, 3, "one of three")
        await caller.report(3, 3, "all")
        return job_result()

    told.act = work
    heard = []

    async def hear(done: float, total: float | None, message: str | None) -> None:
        heard.append((done, total, message))

    async with client_of() as client:
        await client.call_tool("edit_sequence", WORDS)
        assert heard == []
        await client.call_tool("edit_sequence", WORDS, progress_callback=hear)
    assert heard == [(1, 3, "one of three"), (3, 3, "all")]


class Rooted:
    """A client's side of roots: lists them, and counts how often it was asked."""

    def __init__(self, *uris: str) -> None:
        self.uris = list(uris)
        self.asked = 0

    async def __call__(self, context: Any) -> types.ListRootsResult:
        self.asked += 1
        return types.ListRootsResult(roots=[types.Root(uri=uri) for uri in self.uris])


def only_inside(told: CannedService, root: Path) -> None:
    async def work(caller: Caller) -> Any:
        if root not in caller.roots:
            raise errors.NotAllowed("a.png is outside the allowed directories.")
        return job_result()

    told.act = work


async def test_a_clients_roots_are_asked_once_and_allow_their_directories(
    client_of: Connect, told: CannedService, tmp_path: Path
) -> None:
    rooted = Rooted((tmp_path / "a b").as_uri(), "file://elsewhere/share")
    only_inside(told, tmp_path / "a b")
    async with client_of(list_roots_callback=rooted) as client:
        for _ in range(3):
            assert not (await client.call_tool("edit_sequence", WORDS)).is_error
    assert rooted.asked == 1 and told.callers[-1].roots == (tmp_path / "a b",)


async def test_a_path_outside_the_roots_is_refused(client_of: Connect, told: CannedService, tmp_path: Path) -> None:
    rooted = Rooted((tmp_path / "here").as_uri())
    only_inside(told, tmp_path / "there")
    async with client_of(list_roots_callback=rooted) as client:
        refusal = refusal_of(await client.call_tool("edit_sequence", WORDS))
    assert "outside the allowed directories" in refusal and rooted.asked == 1


@pytest.mark.parametrize("era", ["legacy"], indirect=True)
async def test_a_client_that_cannot_list_its_roots_is_served(client_of: Connect, told: CannedService) -> None:
    async def broken(context: Any) -> types.ErrorData:
        return types.ErrorData(code=types.INTERNAL_ERROR, message="no idea")

    async with client_of(list_roots_callback=broken) as client:
        assert not (await client.call_tool("edit_sequence", WORDS)).is_error
    assert told.callers[0].roots == ()


async def test_roots_of_a_client_on_another_machine_count_for_nothing(
    client_of: Connect, told: CannedService, tmp_path: Path
) -> None:
    rooted = Rooted(tmp_path.as_uri())
    only_inside(told, tmp_path)
    async with client_of(remote=True, list_roots_callback=rooted) as client:
        refusal_of(await client.call_tool("edit_sequence", WORDS))
    assert rooted.asked == 0 and told.callers[0].roots == ()


async def test_a_client_without_roots_is_never_asked_for_them(
    client_of: Connect, told: CannedService, tmp_path: Path
) -> None:
    only_inside(told, tmp_path)
    async with client_of() as client:
        refusal_of(await client.call_tool("edit_sequence", WORDS))
    assert len(told.callers) == 1


async def test_changed_roots_are_asked_for_again(
    client_of: Connect, told: CannedService, tmp_path: Path, era: str
) -> None:
    rooted = Rooted((tmp_path / "one").as_uri())
    only_inside(told, tmp_path / "two")
    async with client_of(list_roots_callback=rooted) as client:
        refusal_of(await client.call_tool("edit_sequence", WORDS))
        rooted.uris = [(tmp_path / "two").as_uri()]
        if era == "legacy":
            await client.session.send_notification(types.RootsListChangedNotification())
        assert not (await client.call_tool("edit_sequence", WORDS)).is_error
    assert rooted.asked == 2


# -- resources ---------------------------------------------------------------------------------------------------------


async def test_resources_are_the_lists_and_the_recent_images(client_of: Connect) -> None:
    async with client_of() as client:
        listed = (await client.list_resources()).resources
        templates = (await client.list_resource_templates()).resource_templates
    fixed = [f"triptych://{name}" for name in ("jobs", "models", "looks", "spend")]
    assert [r.uri for r in listed] == [*fixed, "triptych://images/job_12345678/1"]
    assert [t.uri_template for t in templates] == [
        "triptych://jobs/{id}",
        "triptych://images/{handle}",
        "triptych://looks/{name}",
    ]
    assert all(r.title and r.description and r.mime_type for r in [*listed, *templates])


@pytest.mark.parametrize("handle", ["job_12345678/2", "job_12345678%2F2", "img_0a1b2c3d"])
async def test_an_images_handle_may_be_escaped_in_its_uri(client_of: Connect, handle: str) -> None:
    async with client_of() as client:
        blob = (await client.read_resource(f"triptych://images/{handle}")).contents[0]
    assert isinstance(blob, types.BlobResourceContents) and base64.b64decode(blob.blob) == b"\xff\xd8jpeg"
    assert blob.meta and blob.meta["handle"] == handle.replace("%2F", "/")


async def test_a_job_resource_has_the_tool_results_fields(client_of: Connect, told: CannedService) -> None:
    told.jobs["job_12345678"] = job_result(images=[IMAGE])
    async with client_of() as client:
        content = (await client.read_resource("triptych://jobs/job_12345678")).contents[0]
        same = await client.call_tool("get_status", {"job_id": "job_12345678"})
    assert isinstance(content, types.TextResourceContents)
    assert set(json.loads(content.text)) == set(same.structured_content)


@pytest.mark.parametrize(
    "uri", ["triptych://nothing", "triptych://images/", "file:///etc/passwd", "triptych://jobs/job_00000000"]
)
async def test_a_missing_resource_is_an_invalid_params_error(client_of: Connect, uri: str) -> None:
    async with client_of() as client:
        with pytest.raises(MCPError) as refused:
            await client.read_resource(uri)
    assert refused.value.error.code == types.INVALID_PARAMS
    assert "There is no" in refused.value.error.message and refused.value.error.data == {"uri": uri}


async def test_a_failing_resource_is_an_error_without_its_text(client_of: Connect, told: CannedService) -> None:
    told.answer = RuntimeError("key sk-secret is in here")
    async with client_of() as client:
        with pytest.raises(MCPError) as refused:
            await client.read_resource("triptych://images/img_0a1b2c3d")
    assert refused.value.error.code == types.INTERNAL_ERROR and "sk-secret" not in refused.value.error.message
