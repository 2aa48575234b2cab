"""Runware's flows, driven by hand: what goes out, byte for byte, and what each odd answer comes to."""

from __future__ import annotations

import contextlib
import json
from base64 import b64encode
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import flows
from support.flows import HTML, SENT, SENT_AT, answer, any_answer, any_json, drive, lost
from triptych import catalog, providers
from triptych.core import errors
from triptych.core.models import Done, Pending, ProviderRequest, Reference, ReturnedImage, Upload
from triptych.core.offers import Operation
from triptych.providers import HttpResponse, SubmitTimes, runware
from triptych.providers._offers import PATH_TAILS

TICKET = "dfb92a9d-76fa-4c64-9f7e-78179a8fd374"
LITE = "bytedance:seedream@5.0-lite"
ASKED = "asked=2"


edit = partial(flows.edit, runware.PROVIDER, size=(2304, 1728), client_id=TICKET)


def item(n: int = 1, **more: Any) -> dict[str, Any]:
    plain = {
        "taskType": "imageInference",
        "taskUUID": TICKET,
        "imageUUID": f"0000000{n}-0000-4000-8000-000000000000",
        "imageURL": f"https://im.runware.ai/image/os/a/ii/{n}.png",
        "status": "success",
        "cost": 0.035,
    }
    return {key: value for key, value in {**plain, **more}.items() if value is not ...}


def url(n: int) -> ReturnedImage:
    return ReturnedImage(url=f"https://im.runware.ai/image/os/a/ii/{n}.png")


ACK = {"data": [{"taskType": "imageInference", "taskUUID": TICKET}]}
RUNNING = {"taskType": "imageInference", "taskUUID": TICKET, "status": "processing"}


def error(code: str, message: str = "no <b>luck</b>", **more: Any) -> dict[str, Any]:
    return {"code": code, "message": message, "taskUUID": TICKET, "taskType": "getResponse", **more}


NOT_FOUND = answer(404, {"errors": [error("taskFailedOrNotFound")]})


# The models


def test_every_family_sells_four_operations() -> None:
    sold: dict[str, set[str]] = {}
    for offer in runware.PROVIDER.offers:
        sold.setdefault(f"{offer.family} {offer.endpoint}", set()).add(offer.operation)
    every = set(PATH_TAILS)
    assert sold == {
        "seedream-5.0-lite bytedance:seedream@5.0-lite": every,
        "seedream-4.5 bytedance:seedream@4.5": every,
        "seedream-4.0 bytedance:5@0": every,
        "seedream-5.5 bytedance:seedream@5.5": every,
        "seedream-5.0-pro bytedance:seedream@5.0-pro": every,
        "seedream-5.0-flash bytedance:seedream@5.0-flash": every,
    }
    assert providers.load("runware") is runware.PROVIDER
    lite = edit().offer
    assert lite.sizes.exact and len(lite.sizes.all()) == 16 and lite.max_prompt_chars == 2000
    assert (lite.max_references, lite.max_outputs, lite.max_references_and_outputs) == (14, 15, 15)


def test_the_key_and_the_address_are_named_as_designed() -> None:
    assert runware.PROVIDER.key_env == "RUNWARE_API_KEY"
    (base,) = runware.PROVIDER.base_urls.values()
    assert (base.env, base.default) == ("RUNWARE_BASE_URL", "https://api.runware.ai/v1")
    assert runware.PROVIDER.honours_ids_s and not runware.PROVIDER.inline


# Submit: what goes out

COMMON = {
    "taskType": "imageInference",
    "taskUUID": TICKET,
    "model": LITE,
    "positivePrompt": "two cats",
    "width": 2304,
    "height": 1728,
    "deliveryMethod": "async",
    "outputType": "URL",
    "includeCost": True,
    "ttl": 86400,
    "outputFormat": "PNG",
}
REFERENCES = {"referenceImages": ["https://host.example/0.png"]}


@pytest.mark.parametrize(
    ("request_", "task"),
    [
        (edit(), {**COMMON, "inputs": REFERENCES, "settings": {"maxSequentialImages": 2}}),
        (edit(Operation.EDIT), {**COMMON, "inputs": REFERENCES}),
        (edit(Operation.GENERATE_SEQUENTIAL), {**COMMON, "settings": {"maxSequentialImages": 2}}),
        (edit(Operation.GENERATE, format="jpeg"), {**COMMON, "outputFormat": "JPG"}),
        (
            edit(Operation.GENERATE, "seedream-4.0", size=None, format=None),
            {k: v for k, v in COMMON.items() if k not in ("width", "height", "outputFormat")}
            | {"model": "bytedance:5@0"},
        ),
        (
            edit(Operation.EDIT, "seedream-5.0-pro"),
            {**COMMON, "model": "bytedance:seedream@5.0-pro", "inputs": REFERENCES},
        ),
    ],
)
def test_a_request_is_one_task_with_its_own_fields_only(request_: ProviderRequest, task: dict[str, Any]) -> None:
    pending, (call,) = drive(runware.submit(request_), answer(body=ACK))
    assert (call.method, call.path, call.json) == ("POST", "", [task])
    assert not call.repeatable
    assert pending == Pending(TICKET, f"asked={request_.count}")


@pytest.mark.parametrize("family", ["seedream-4.5", "seedream-5.5", "seedream-5.0-pro", "seedream-5.0-flash"])
def test_an_automatic_size_is_a_tier(family: str) -> None:
    asked = edit(Operation.EDIT, family, size=None)
    assert catalog.resolve_size(asked.offer, "auto", (300, 200)) is None
    assert catalog.resolve_size(asked.offer, None, (300, 200)) is not None
    _, (call,) = drive(runware.submit(asked), answer(body=ACK))
    plain = {name: value for name, value in COMMON.items() if name not in ("width", "height")}
    assert call.json == [{**plain, "model": asked.offer.endpoint, "inputs": REFERENCES, "resolution": "2K"}]
    largest = catalog.quote(asked.offer, 1, (2048, 2048), 1)
    assert catalog.quote(asked.offer, 1, None, 1) == largest


@pytest.mark.parametrize(
    ("family", "params", "fields"),
    [
        ("seedream-5.5", {"background": "transparent"}, {"settings": {"background": "transparent"}}),
        ("seedream-4.0", {"prompt_optimization": "fast"}, {"settings": {"optimizePromptMode": "fast"}}),
        ("seedream-5.0-lite", {"quality": 80}, {"outputQuality": 80}),
        ("seedream-4.5", {"safety": {"checkContent": True}}, {"safety": {"checkContent": True}}),
        ("seedream-5.0-pro", {"safety": {"mode": "full"}}, {"safety": {"mode": "full"}}),
        ("seedream-5.0-flash", {"ttl_s": 3600}, {"ttl": 3600}),
        (
            "seedream-5.5",
            {"upload_endpoint": "https://bucket.example/a?sig=1"},
            {"uploadEndpoint": "https://bucket.example/a?sig=1"},
        ),
        ("seedream-5.5", {"variations": True}, {}),
    ],
)
def test_a_parameter_is_one_field_of_the_task(family: str, params: dict[str, Any], fields: dict[str, Any]) -> None:
    asked = edit(Operation.GENERATE, family, params=params, format="webp")
    catalog.check_params(asked.offer, asked.request)
    _, (call,) = drive(runware.submit(asked), answer(body=ACK))
    plain = {**COMMON, "model": asked.offer.endpoint, "outputFormat": "WEBP"}
    assert call.json == [{**plain, **fields}]


@pytest.mark.parametrize(
    ("family", "params", "words"),
    [
        ("seedream-5.5", {"seed": 1}, "would do nothing"),
        ("seedream-4.5", {"seed": 1}, "would do nothing"),
        ("seedream-5.0-pro", {"layers": True}, "Runware does not document how it returns layers"),
        ("seedream-5.0-lite", {"negative_prompt": "rain"}, "name in the prompt what to leave out"),
        ("seedream-5.0-lite", {"background": "transparent"}, "no parameter .background."),
        ("seedream-5.5", {"prompt_optimization": "fast"}, "must be standard"),
        ("seedream-5.5", {"quality": 19}, "a whole number from 20 to 99"),
        ("seedream-5.5", {"quality": True}, "a whole number from 20 to 99"),
        ("seedream-5.5", {"ttl_s": 60}, "from 600 to 31536000"),
        ("seedream-5.5", {"ttl_s": 10**300}, "from 600 to 31536000"),
        ("seedream-5.5", {"safety": True}, r"an object of checkContent \(true or false\), mode \(fast, full\)"),
        ("seedream-5.5", {"safety": {"check": True}}, "an object of checkContent"),
        ("seedream-5.5", {"safety": {}}, "an object of checkContent"),
        ("seedream-5.5", {"upload_endpoint": "http://bucket.example/a"}, "a URL that begins with https://"),
        ("seedream-5.5", {"upload_endpoint": "https://me:pass@bucket.example/a"}, "a URL that begins with https://"),
        ("seedream-5.5", {"upload_endpoint": "https://bucket.example/a b"}, "a URL that begins with https://"),
        ("seedream-5.5", {"variations": False}, "must be true"),
        ("seedream-5.5", {"number_results": 3}, "It has: "),
    ],
)
def test_a_wrong_parameter_is_refused_with_what_is_right(family: str, params: dict[str, Any], words: str) -> None:
    asked = edit(Operation.EDIT, family, params=params)
    with pytest.raises(errors.OutOfLimits, match=words):
        catalog.check_params(asked.offer, asked.request)


@pytest.mark.parametrize(
    ("family", "format", "refused"),
    [
        ("seedream-5.5", None, True),  # a PNG by default
        ("seedream-5.5", "png", True),
        ("seedream-5.5", "webp", False),
        ("seedream-4.5", None, False),  # a JPEG by default
        ("seedream-4.5", "jpeg", False),
        ("seedream-4.5", "png", True),
    ],
)
def test_a_quality_is_refused_for_a_png(family: str, format: str | None, refused: bool) -> None:
    asked = edit(Operation.EDIT, family, params={"quality": 50}, format=format)
    with pytest.raises(errors.OutOfLimits, match="a PNG has no such quality") if refused else contextlib.nullcontext():
        catalog.check_params(asked.offer, asked.request)


@pytest.mark.parametrize("family", ["seedream-5.5", "seedream-5.0-pro", "seedream-5.0-flash"])
@pytest.mark.parametrize("operation", [Operation.GENERATE_SEQUENTIAL, Operation.EDIT_SEQUENTIAL])
def test_several_of_a_single_model_are_independent_results(family: str, operation: Operation) -> None:
    asked = edit(operation, family, count=3)
    pending, (call,) = drive(runware.submit(asked), answer(body=ACK))
    inputs = {"inputs": REFERENCES} if operation.edits else {}
    assert call.json == [{**COMMON, "model": asked.offer.endpoint, "numberResults": 3, **inputs}]
    assert pending == Pending(TICKET, "asked=3")
    assert asked.offer.max_outputs == 15 and catalog.name_count(asked.offer, "two cats", 3) == "two cats"


def test_one_of_a_single_model_asks_for_no_number() -> None:
    _, (call,) = drive(runware.submit(edit(Operation.EDIT_SEQUENTIAL, "seedream-5.5", count=1)), answer(body=ACK))
    assert not {"numberResults", "settings"} & set(call.json[0])


def test_variations_of_a_model_for_sets_leave_the_prompt_alone() -> None:
    asked = edit(params={"variations": True}, prompt="cats in rain")
    asked = replace(asked, prompt=catalog.name_count(asked.offer, "cats in rain", 2))
    assert asked.prompt == "cats in rain. Generate exactly 2 images."
    _, (call,) = drive(runware.submit(asked), answer(body=ACK))
    assert call.json == [{**COMMON, "positivePrompt": "cats in rain", "inputs": REFERENCES, "numberResults": 2}]
    (set_,) = next(runware.submit(replace(asked, params={"variations": False}))).json
    assert set_["settings"] == {"maxSequentialImages": 2} and "numberResults" not in set_


def test_each_variation_pays_for_its_references() -> None:
    offer = edit(Operation.EDIT_SEQUENTIAL, "seedream-5.5").offer
    assert catalog.quote(offer, 3, (2048, 2048), 2).usd == 3 * (Decimal("0.035") + 2 * Decimal("0.008"))
    pro = edit(Operation.EDIT_SEQUENTIAL, "seedream-5.0-pro").offer
    assert catalog.quote(pro, 2, (1024, 1024), 3).usd == 2 * (Decimal("0.045") + 2 * Decimal("0.003"))


def test_several_without_a_model_are_a_set() -> None:
    for offers in (runware.PROVIDER.offers, [o for o in runware.PROVIDER.offers if o.family != "seedream-5.0-lite"]):
        assert not catalog.choose(offers, Operation.EDIT_SEQUENTIAL, None, 4).independent
    single = [o for o in runware.PROVIDER.offers if o.family == "seedream-5.5"]
    with pytest.raises(errors.OutOfLimits, match="edit-sequential of 4 images"):
        catalog.choose(single, Operation.EDIT_SEQUENTIAL, None, 4)
    assert catalog.choose(single, Operation.EDIT_SEQUENTIAL, "seedream-5.5", 4).independent
    assert catalog.choose(single, Operation.EDIT_SEQUENTIAL, None, 1).family == "seedream-5.5"


def test_a_lifetime_travels_to_the_results() -> None:
    asked = edit(params={"ttl_s": 3600})
    pending, _ = drive(runware.submit(asked), answer(body=ACK))
    assert pending == Pending(TICKET, "asked=2&ttl=3600")
    done = polled(item(1), item(2), count="asked=2&ttl=3600")
    assert isinstance(done, Done) and (done.url_lifetime_s, done.settle_s) == (3600, None)
    assert polled(item(1), RUNNING, count="asked=2&ttl=3600") == Pending(TICKET, "asked=2&ttl=3600", done=1)
    at_once, _ = drive(runware.submit(asked), answer(body={"data": [item(1), item(2)]}))
    assert isinstance(at_once, Done) and at_once.url_lifetime_s == 3600
    found, _ = drive(runware.find(asked, lost(asked), SENT, frozenset()), answer(body={"data": [RUNNING]}))
    assert found == pending


def test_flagged_content_is_a_warning() -> None:
    done = polled(item(1, NSFWContent=False), item(2, NSFWContent=True))
    assert isinstance(done, Done)
    assert done.warnings == ("Runware flags the content of image 2 (NSFWContent).",)


def test_a_reference_without_a_url_goes_as_a_data_uri() -> None:
    _, (call,) = drive(runware.submit(edit(references=(Reference("0", "image/png", data=b"x"),))), answer(body=ACK))
    assert call.json[0]["inputs"]["referenceImages"] == ["data:image/png;base64,eA=="]
    with pytest.raises(errors.UnreadableImage):
        next(runware.submit(edit(references=(Reference("0", "image/png"),))))


# Submit: what comes back


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, ACK),
        (200, {"data": [{"taskType": "imageInference"}]}),
        (200, {"data": [{"taskUUID": TICKET.upper()}]}),
        (200, {"data": [RUNNING]}),
        (500, ACK),
        (400, {"errors": [error("conflictTaskUUID", taskType="imageInference")]}),
        (200, {"data": [], "errors": [error("conflictTaskUUID")]}),
    ],
)
def test_an_accepted_submit_is_the_ticket_that_it_came_with(status: int, body: Any) -> None:
    assert drive(runware.submit(edit()), answer(status, body))[0] == Pending(TICKET, ASKED)


def test_a_server_that_does_not_wait_gives_images_directly() -> None:
    done, _ = drive(runware.submit(edit()), answer(body={"data": [item(1, status=...), item(2, status=...)]}))
    assert isinstance(done, Done)
    assert (done.outputs, done.charged_usd) == ((url(1), url(2)), Decimal("0.070"))


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "invalidApiKey", errors.KeyRejected),
        (200, "invalidApiKey", errors.KeyRejected),
        (403, "insufficientPermissions", errors.KeyRejected),
        (402, "insufficientCredits", errors.NoFunds),
        (200, "insufficientCredits", errors.NoFunds),
        (400, "insufficientBalance", errors.NoFunds),
        (429, "rateLimitExceeded", errors.RateLimited),
        (503, "noAvailableServer", errors.RateLimited),
        (503, "somethingNew", errors.RateLimited),
        (400, "invalidModel", errors.NotOffered),
        (404, "whatever", errors.NotOffered),
        (400, "contentPolicyViolation", errors.Moderated),
        (400, "invalidProviderContent", errors.Moderated),
        (400, "invalidPositivePrompt", errors.Refused),
        (200, "somethingNew", errors.Refused),
        (413, "payloadTooLarge", errors.Refused),
        (504, "timeoutProvider", errors.Outage),
        (400, "timeoutProvider", errors.Outage),
        (500, "internalServerError", errors.Outage),
        (503, "serviceUnavailable", errors.Outage),
        (408, "late", errors.Outage),
        (500, "somethingNew", errors.Outage),
    ],
)
@pytest.mark.parametrize("wrapped", [True, False])
def test_a_refusal_means_what_its_code_says(status: int, code: str, kind: type[Exception], wrapped: bool) -> None:
    said = {"code": code, "message": "no <b>luck</b>"}
    with pytest.raises(errors.TriptychError) as caught:
        drive(runware.submit(edit()), answer(status, {"errors": [said]} if wrapped else {"error": said}))
    assert type(caught.value) is kind
    assert code in caught.value.message and "‹b›luck" in caught.value.message


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, HTML, errors.KeyRejected),
        (402, b"", errors.NoFunds),
        (429, HTML, errors.RateLimited),
        (400, HTML, errors.Refused),
        (502, HTML, errors.Outage),
        (503, HTML, errors.Outage),
        (302, HTML, errors.Outage),
        (200, HTML, errors.Outage),
        (200, {"data": []}, errors.Outage),
        (200, {"data": [{"taskUUID": "another"}]}, errors.Outage),
        (200, {"code": 500, "data": None}, errors.Outage),
        (200, [], errors.Outage),
        (200, b"[" * 100_000, errors.Outage),
    ],
)
def test_an_answer_that_is_none_of_runwares_says_how_surely(status: int, body: Any, kind: type[Exception]) -> None:
    with pytest.raises(errors.TriptychError) as caught:
        drive(runware.submit(edit()), answer(status, body))
    assert type(caught.value) is kind


def test_a_retry_after_is_handed_on() -> None:
    with pytest.raises(errors.RateLimited) as caught:
        drive(runware.submit(edit()), answer(429, {"errors": [error("rateLimitExceeded")]}, {"retry-after": "7"}))
    assert caught.value.retry_after_s == 7


# Poll


def polled(*items: Any, count: str | None = ASKED, **more: Any) -> Pending | Done:
    return drive(runware.poll(TICKET, count), answer(body={"data": list(items), **more}))[0]


def test_a_poll_asks_for_the_one_task() -> None:
    pending, (call,) = drive(runware.poll(TICKET, ASKED), answer(body={"data": [RUNNING]}))
    assert pending == Pending(TICKET, ASKED)
    assert (call.method, call.path, call.repeatable) == ("POST", "", True)
    assert call.json == [{"taskType": "getResponse", "taskUUID": TICKET}]


@pytest.mark.parametrize(
    "items",
    [
        [RUNNING],
        [item(1), RUNNING],
        [item(1), {**RUNNING, "progress": 40}, item(2)],
        [{**RUNNING, "status": "warming"}],
        [{**RUNNING, "status": None}],
        [{**RUNNING, "status": ["processing"]}],
        [{**RUNNING, "imageUUID": "x"}],
    ],
)
def test_a_task_runs_until_no_item_is_processing(items: list[Any]) -> None:
    assert polled(*items) == Pending(TICKET, ASKED, done=sum("imageURL" in one for one in items))


def test_a_finished_task_gives_ordered_images_and_total_cost() -> None:
    done = polled(item(2, resultIndex=1), item(1, resultIndex=0), {"taskUUID": "another", "status": "error"})
    assert done == Done((url(1), url(2)), charged_usd=Decimal("0.070"), url_lifetime_s=86400)


@pytest.mark.parametrize("cost", [..., None, "free", -1, True, 0])
def test_without_every_cost_the_charge_is_not_known(cost: Any) -> None:
    done = polled(item(1), item(2, cost=cost))
    assert isinstance(done, Done) and done.charged_usd is None


def test_fewer_images_than_asked_wait_a_quiet_minute() -> None:
    assert polled(item(1)) == Done((url(1),), Decimal("0.035"), 86400, settle_s=60)
    assert polled(item(1), item(2)) == Done((url(1), url(2)), Decimal("0.070"), 86400)
    assert polled(item(1), BAD).settle_s is None  # type: ignore[union-attr]
    # What an earlier version wrote.
    assert polled(item(1), count="asked=1 came=1 quiet=1") == Done((url(1),), Decimal("0.035"), 86400)
    assert polled(item(1), count=None).settle_s == 60  # type: ignore[union-attr]


def test_one_bad_frame_that_comes_first_is_not_the_end() -> None:
    assert polled(BAD) == Done(
        (ReturnedImage(error='"invalidProviderContent: no ‹b›"'),), Decimal(0), 86400, settle_s=60
    )
    with pytest.raises(errors.Moderated):
        polled(BAD, BAD)
    with pytest.raises(errors.Moderated):  # the task itself
        polled({**BAD, "imageUUID": None})


def test_a_submit_answered_with_some_images_is_polled() -> None:
    assert drive(runware.submit(edit()), answer(body={"data": [item(1)]}))[0] == Pending(TICKET, ASKED)


BAD = item(2, status="error", imageURL=..., cost=..., error={"code": "invalidProviderContent", "message": "no <b>"})


def test_one_bad_frame_is_reported_in_its_place() -> None:
    done = polled(BAD, item(1))
    assert isinstance(done, Done)
    assert done.outputs == (ReturnedImage(error='"invalidProviderContent: no ‹b›"'), url(1))
    assert done.charged_usd == Decimal("0.035")


@pytest.mark.parametrize("more", [{"taskType": "imageInference"}, {"status": "error"}, {}])
def test_errors_may_stand_beside_the_data(more: Any) -> None:
    done = polled(item(1), errors=[error("providerContentPolicyViolation", **more), {**error("x"), "taskUUID": "y"}])
    assert isinstance(done, Done) and [bool(output.error) for output in done.outputs] == [False, True]


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, {"data": [BAD, BAD]}, errors.Moderated),
        (200, {"data": [{**BAD, "error": {"code": "providerError", "message": "boom"}}]}, errors.Failed),
        (200, {"data": [{**BAD, "error": {"code": "x", "message": "flagged as sensitive"}}]}, errors.Moderated),
        (200, {"data": [{**BAD, "error": None}]}, errors.Failed),
        (200, {"data": [item(imageURL=...)]}, errors.Failed),
        (200, {"data": [item(imageURL="file:///etc/passwd")]}, errors.Failed),
        (400, {"data": [], "errors": [error("providerError")]}, errors.Failed),
        (200, {"errors": [error("timeoutProvider", status="error")]}, errors.Failed),
        (500, {"errors": [error("internalServerError", taskType="imageInference")]}, errors.Failed),
        (400, {"errors": [error("contentPolicyViolation")]}, errors.Moderated),
    ],
)
def test_a_decision_ends_the_task_whatever_the_http_status(status: int, body: Any, kind: type[Exception]) -> None:
    with pytest.raises(errors.Failed) as caught:
        drive(runware.poll(TICKET, "asked=1"), answer(status, body))
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (502, HTML, errors.Outage),
        (200, b"{", errors.Outage),
        (200, {"code": 500, "data": None}, errors.Outage),
        (500, {"errors": [error("internalServerError")]}, errors.Outage),
        (504, {"errors": [error("timeoutProvider")]}, errors.Outage),
        (401, {"errors": [error("invalidApiKey")]}, errors.KeyRejected),
        (429, {"errors": [error("rateLimitExceeded")]}, errors.RateLimited),
        (451, {"errors": [error("regionNotSupported")]}, errors.Refused),
    ],
)
def test_trouble_with_asking_decides_nothing(status: int, body: Any, kind: type[Exception]) -> None:
    with pytest.raises(errors.TriptychError) as caught:
        drive(runware.poll(TICKET, ASKED), answer(status, body))
    assert type(caught.value) is kind


def details(response: Any) -> HttpResponse:
    told = {"taskType": "getTaskDetails", "taskUUID": TICKET, "request": [{}], "response": response}
    return answer(body={"data": [told]})


PAST = [item(1, status=...), item(2, status=...)]


@pytest.mark.parametrize("unknown", [NOT_FOUND, answer(body={"data": []})])
@pytest.mark.parametrize("response", [{"data": PAST}, PAST, json.dumps({"data": PAST})])
def test_an_inactive_task_is_found_among_past_ones(unknown: HttpResponse, response: Any) -> None:
    done, calls = drive(runware.poll(TICKET, ASKED), unknown, details(response))
    assert isinstance(done, Done) and done.outputs == (url(1), url(2))
    assert calls[1].json == [{"taskType": "getTaskDetails", "taskUUID": TICKET}]


def test_a_past_task_that_failed_has_failed() -> None:
    with pytest.raises(errors.Failed):
        drive(runware.poll(TICKET, ASKED), NOT_FOUND, details({"errors": [{"code": "x", "message": "boom"}]}))


@pytest.mark.parametrize("second", [NOT_FOUND, answer(502, HTML), details(None), details({"data": []})])
def test_an_unknown_task_is_asked_for_again_later(second: HttpResponse) -> None:
    with pytest.raises(errors.Outage):
        drive(runware.poll(TICKET, ASKED), NOT_FOUND, second)


def test_a_failure_quotes_the_provider_in_bounds() -> None:
    with pytest.raises(errors.Failed) as caught:
        polled({**BAD, "error": {"code": "x" * 500, "message": "<i>\n" * 9000}}, count="asked=1")
    assert "<" not in caught.value.message and len(caught.value.message) < 500


# Find


def look(*answers: HttpResponse) -> Pending | None:
    found, calls = drive(runware.find(edit(), lost(edit()), SENT, frozenset()), *answers)
    assert calls[0].json == [{"taskType": "getResponse", "taskUUID": TICKET}]
    return found


@pytest.mark.parametrize(
    "answers",
    [
        [answer(body={"data": [RUNNING]})],
        [answer(body={"data": [item()]})],
        [answer(body={"data": [BAD]})],
        [answer(400, {"errors": [error("providerError")]})],
        [NOT_FOUND, details({"data": PAST})],
    ],
)
def test_a_lost_submit_is_asked_for_by_its_own_id(answers: list[HttpResponse]) -> None:
    assert look(*answers) == Pending(TICKET, ASKED)


def test_a_submit_unknown_to_runware_did_not_arrive() -> None:
    assert look(NOT_FOUND, NOT_FOUND) is None
    assert look(answer(body={"data": []}), NOT_FOUND) is None


def test_a_task_that_runware_may_have_forgotten_may_have_arrived() -> None:
    with pytest.raises(errors.Unclear):
        drive(runware.find(edit(), lost(edit()), SubmitTimes(SENT_AT, 2 * 86400.0), frozenset()), NOT_FOUND, NOT_FOUND)


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ([answer(502, HTML)], errors.Outage),
        ([answer(401, {"errors": [error("invalidApiKey")]})], errors.KeyRejected),
        ([NOT_FOUND, answer(502, HTML)], errors.Outage),
        ([NOT_FOUND, answer(429, HTML)], errors.RateLimited),
    ],
)
def test_an_answer_that_cannot_be_read_is_not_a_no(answers: list[HttpResponse], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        look(*answers)


def test_many_tasks_are_asked_for_at_once() -> None:
    tickets = ["a", "b", "c", "d"]
    told = {
        "data": [
            {**item(1), "taskUUID": "a"},
            {**RUNNING, "taskUUID": "b"},
            {**item(1), "taskUUID": "c"},
            {**RUNNING, "taskUUID": "c"},
            {"status": "success"},
        ],
        "errors": [{**error("providerError"), "taskUUID": "d"}],
    }
    ended, (call,) = drive(runware.finished(tickets), answer(body=told))
    assert ended == {"a", "d"}
    assert call.json == [{"taskType": "getResponse", "taskUUID": ticket} for ticket in tickets]
    with pytest.raises(errors.Outage):
        drive(runware.finished(tickets), answer(502, HTML))


# Uploads and the account


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"mediaUUID": "u-1", "mediaURL": "https://mm.runware.ai/u-1.png"}, "https://mm.runware.ai/u-1.png"),
        ({"imageUUID": "u-1", "imageURL": "https://im.runware.ai/u-1.png"}, "https://im.runware.ai/u-1.png"),
        ({"mediaUUID": "u-1", "mediaURL": "file:///etc/passwd"}, "u-1"),
    ],
)
def test_an_upload_is_stored_as_media_for_two_weeks(names: dict[str, str], expected: str) -> None:
    hosted, (call,) = drive(runware.upload(b"png", "image/png", "a.png"), answer(body={"data": [names]}))
    assert hosted == Upload(expected, 14 * 24 * 3600)
    (task,) = call.json
    assert len(task.pop("taskUUID")) == 36
    media = f"data:image/png;base64,{b64encode(b'png').decode()}"
    assert task == {"taskType": "mediaStorage", "operation": "upload", "media": media}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (413, HTML, errors.OutOfLimits),
        (401, {"errors": [{"code": "invalidApiKey"}]}, errors.KeyRejected),
        (400, {"errors": [{"code": "invalidImage"}]}, errors.Refused),
        (502, HTML, errors.Outage),
        (200, {"data": [{}]}, errors.Outage),
    ],
)
def test_an_upload_that_did_not_work_says_why(status: int, body: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        drive(runware.upload(b"png", "image/png", "a.png"), answer(status, body))


@pytest.mark.parametrize(
    ("held", "amount"),
    [
        ({"amount": 12.5, "currency": "USD"}, "12.5"),
        ({"available": "12.5"}, "12.5"),
        (12.5, "12.5"),
        ({"amount": 3, "currency": "EUR"}, None),
        ({"amount": {}}, None),
        (None, None),
    ],
)
def test_the_balance_is_in_dollars_in_every_likely_shape(held: Any, amount: str | None) -> None:
    found, (call,) = drive(runware.balance(), answer(body={"data": [{"balance": held}]}))
    assert found == (None if amount is None else Decimal(amount))
    assert (call.json[0]["taskType"], call.json[0]["operation"]) == ("accountManagement", "getDetails")
    with pytest.raises(errors.KeyRejected):
        drive(runware.balance(), answer(401, {"errors": [{"code": "invalidApiKey"}]}))


# Hostile answers

_WORDS = """data errors error code message taskUUID taskType status imageURL imageUUID cost resultIndex response balance
amount currency mediaURL mediaUUID getResponse"""
_KEYS = st.sampled_from(_WORDS.split()) | st.text(max_size=5)
_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ["error", "success", "processing", TICKET, "https://a.example/1.png", "http://[", "\ud800", "1e999", 1e300]
    )
)
_JSON = any_json(_LEAVES, _KEYS)
_ENVELOPES = st.fixed_dictionaries(
    {}, optional={"data": st.lists(_JSON, max_size=3), "errors": st.lists(_JSON, max_size=3)}
)
_ANSWERS = any_answer(_JSON | _ENVELOPES)


@given(_ANSWERS)
def test_nothing_but_our_own_errors_leaves_a_flow(hostile: HttpResponse) -> None:
    for flow in (
        runware.submit(edit()),
        runware.poll(TICKET, None),
        runware.poll(TICKET, ASKED),
        runware.find(edit(), lost(edit()), SENT, frozenset()),
        runware.finished([TICKET, "b"]),
        runware.upload(b"", "image/png", "a.png"),
        runware.balance(),
    ):
        with contextlib.suppress(StopIteration, errors.TriptychError):
            next(flow)
            for _ in range(5):
                flow.send(hostile)
