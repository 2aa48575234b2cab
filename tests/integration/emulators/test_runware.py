"""The emulated Runware over real sockets: its own bodies, limits, prices and faults. The test moves the clock."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from PIL import Image

from support import pictures
from support.clients import AUTH
from support.clocks import HandClock
from support.emulated_apis import Api
from triptych_emulators import Emulator, faults, running

EMULATED = {"name": "runware", "balance_usd": "1000"}

LITE = "bytedance:seedream@5.0-lite"


def generic_api() -> Api:
    """Return this API as the generic tests need it."""

    def send(client: httpx2.Client, kind: str, task_id: str | None = None, **fields: Any) -> httpx2.Response:
        return client.post("/v1", json=[{"taskType": kind, "taskUUID": task_id or str(uuid4()), **fields}])

    def submit(client: httpx2.Client, prompt: str) -> httpx2.Response:
        fields = {"model": "bytedance:seedream@5.0-lite", "positivePrompt": prompt, "deliveryMethod": "async"}
        return send(client, "imageInference", **fields)

    def details(client: httpx2.Client) -> httpx2.Response:
        return send(client, "getTaskDetails", submit(client, "details").json()["data"][0]["taskUUID"])

    return Api(
        "runware",
        submit,
        lambda body: body["data"][0]["taskUUID"],
        lambda c, job_id: send(c, "getResponse", job_id),
        lambda body: body["data"][0]["status"],
        lambda body: [item["imageURL"] for item in body["data"]],
        lambda body: body["errors"][0]["code"],
        "0.035",
        {"balance_usd": "1000"},
        {
            "details": details,
            "upload": lambda c: send(c, "mediaStorage", operation="delete", media="x"),
            "models": lambda c: send(c, "modelSearch", search="seedream"),
            "account": lambda c: send(c, "accountManagement", operation="getDetails"),
        },
    )


def picture(colour: str = "teal") -> str:
    return "data:image/png;base64," + base64.b64encode(pictures.picture(colour)).decode()


def task(prompt: str = "two lighthouses", count: int = 1, **fields: Any) -> dict[str, Any]:
    plain = {
        "taskType": "imageInference",
        "taskUUID": str(uuid4()),
        "model": LITE,
        "positivePrompt": prompt,
        "width": 2048,
        "height": 2048,
        "deliveryMethod": "async",
        "includeCost": True,
        "settings": {"maxSequentialImages": count},
    }
    return {**plain, **fields}


def post(client: httpx2.Client, *tasks: dict[str, Any], path: str = "/v1") -> httpx2.Response:
    return client.post(path, json=list(tasks))


def submitted(client: httpx2.Client, *args: Any, **fields: Any) -> str:
    asked = task(*args, **fields)
    told = post(client, asked).json()
    assert told == {"data": [{"taskType": "imageInference", "taskUUID": asked["taskUUID"]}]}
    return str(asked["taskUUID"])


def poll(client: httpx2.Client, *task_ids: str) -> dict[str, Any]:
    told: dict[str, Any] = post(client, *({"taskType": "getResponse", "taskUUID": one} for one in task_ids)).json()
    return told


# The usual way


def test_an_uploaded_image_becomes_a_sequence_of_items(api: Emulator, client: httpx2.Client) -> None:
    media = {"taskType": "mediaStorage", "taskUUID": str(uuid4()), "operation": "upload", "media": picture()}
    (stored,) = post(client, media).json()["data"]
    assert set(stored) == {"taskType", "taskUUID", "operation", "mediaUUID", "mediaURL"}
    old = {"taskType": "imageUpload", "taskUUID": str(uuid4()), "image": picture("red")}
    (uploaded,) = post(client, old).json()["data"]
    before = api.charged_usd
    references = [stored["mediaURL"], stored["mediaUUID"], uploaded["imageUUID"], uploaded["imageURL"], picture()]
    task_id = submitted(client, "three", 3, inputs={"referenceImages": references}, width=2304, height=1728)
    items = poll(client, task_id)["data"]
    assert [item["status"] for item in items] == ["success"] * 3
    assert {item["taskUUID"] for item in items} == {task_id} and len({item["imageUUID"] for item in items}) == 3
    assert [item["cost"] for item in items] == [0.035] * 3
    sizes = [Image.open(io.BytesIO(client.get(item["imageURL"]).content)).size for item in items]
    assert sizes == [(48, 36)] * 3
    assert api.charged_usd - before == Decimal("0.105")
    assert api.accepted[-1] == task_id
    # An output's UUID is a reference too.
    again = submitted(client, inputs={"referenceImages": [items[0]["imageUUID"]]})
    assert poll(client, again)["data"][0]["status"] == "success"


@pytest.mark.parametrize("path", ["/", "/v1"])
def test_both_generations_of_the_fields_are_understood(client: httpx2.Client, path: str) -> None:
    older = {"providerSettings": {"bytedance": {"maxSequentialImages": 2, "optimizePromptMode": "fast"}}}
    asked = task("two", referenceImages=[picture()], settings={}, **older)
    assert post(client, asked, path=path).status_code == 200
    assert len(poll(client, asked["taskUUID"])["data"]) == 2


def test_the_same_id_twice_is_charged_once(api: Emulator, client: httpx2.Client) -> None:
    asked, before = task(), len(api.accepted)
    assert post(client, asked).status_code == 200
    charged = api.charged_usd
    again = post(client, asked)
    assert again.status_code == 400 and again.json()["errors"][0]["code"] == "conflictTaskUUID"
    assert len(api.accepted) == before + 1 and api.charged_usd == charged


def test_a_synchronous_answer_has_the_images_and_no_status(client: httpx2.Client) -> None:
    items = post(client, task(count=2, deliveryMethod="sync")).json()["data"]
    assert len(items) == 2 and all("status" not in item and item["imageURL"] for item in items)
    unasked = task()
    del unasked["deliveryMethod"], unasked["includeCost"]
    (item,) = post(client, unasked).json()["data"]
    assert item["imageURL"] and "cost" not in item


@pytest.mark.parametrize(("output_type", "field"), [("base64Data", "imageBase64Data"), ("dataURI", "imageDataURI")])
@pytest.mark.parametrize(("name", "kind"), [("PNG", "PNG"), ("JPG", "JPEG"), ("WEBP", "WEBP")])
def test_images_come_as_asked(client: httpx2.Client, output_type: str, field: str, name: str, kind: str) -> None:
    task_id = submitted(client, outputType=output_type, outputFormat=name)
    (item,) = poll(client, task_id)["data"]
    assert "imageURL" not in item
    data = base64.b64decode(item[field].rpartition(",")[2])
    assert Image.open(io.BytesIO(data)).format == kind


def test_batches_are_independent_of_sequences(client: httpx2.Client) -> None:
    assert len(poll(client, submitted(client, count=2, numberResults=3))["data"]) == 6


def test_one_response_has_the_data_and_errors_of_several_tasks(client: httpx2.Client) -> None:
    good, bad = task(), task(model="nobody:1@1")
    told = post(client, good, bad)
    assert told.status_code == 200
    assert [item["taskUUID"] for item in told.json()["data"]] == [good["taskUUID"]]
    assert [(e["code"], e["taskUUID"]) for e in told.json()["errors"]] == [("invalidModel", bad["taskUUID"])]
    other = submitted(client)
    assert [item["taskUUID"] for item in poll(client, good["taskUUID"], other)["data"]] == [good["taskUUID"], other]


def test_a_task_is_processing_until_its_time_has_passed() -> None:
    clock = HandClock()
    with (
        running("runware", max_side=16, latency_s=9.0, clock=clock) as api,
        httpx2.Client(base_url=api.base_url, headers=AUTH) as client,
    ):
        task_id = submitted(client)
        details = {"taskType": "getTaskDetails", "taskUUID": task_id}
        clock.now += 8.9
        assert poll(client, task_id)["data"] == [
            {"taskType": "imageInference", "taskUUID": task_id, "status": "processing"}
        ]
        assert post(client, details).status_code == 404
        clock.now += 0.1
        assert poll(client, task_id)["data"][0]["status"] == "success"
        (told,) = post(client, details).json()["data"]
        assert told["request"][0]["taskUUID"] == task_id and told["response"]["data"][0]["imageURL"]


def test_the_key_may_be_a_header_or_the_first_task(api: Emulator) -> None:
    with httpx2.Client(base_url=api.base_url) as client:
        refused = post(client, task())
        (error,) = refused.json()["errors"]
        assert refused.status_code == 401
        assert (error["code"], error["parameter"], error["taskType"]) == ("invalidApiKey", "apiKey", "authentication")
        first = {"taskType": "authentication", "apiKey": "test-key"}
        assert post(client, first).json()["data"][0]["connectionSessionUUID"]
        assert post(client, first, task()).status_code == 200
        assert post(client, {**first, "apiKey": "wrong"}, task()).status_code == 401


PICTURE = picture()


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"model": "bytedance:seedream@9"}, "invalidModel"),
        ({"positivePrompt": ""}, "invalidPositivePrompt"),
        ({"positivePrompt": "x" * 2001}, "invalidPositivePrompt"),
        ({"width": 1024, "height": 1024}, "invalidDimensions"),
        ({"width": "2048"}, "invalidWidth"),
        ({"model": "bytedance:seedream@4.5", "width": 1024, "height": 1024}, "invalidDimensions"),
        ({"settings": {"maxSequentialImages": 16}}, "invalidSettingsMaxSequentialImages"),
        ({"settings": {"maxSequentialImages": True}}, "invalidSettingsMaxSequentialImages"),
        ({"settings": 3}, "invalidSettings"),
        ({"inputs": {"referenceImages": [PICTURE] * 15}}, "maxItemsExceeded"),
        ({"inputs": {"referenceImages": PICTURE}}, "invalidInputsReferenceImages"),
        ({"inputs": {"referenceImages": [str(uuid4())]}}, "invalidImage"),
        (
            {"inputs": {"referenceImages": [PICTURE] * 10}, "settings": {"maxSequentialImages": 6}},
            "invalidSettingsMaxSequentialImages",
        ),
        ({"model": "bytedance:seedream@5.0-pro"}, "unsupportedParameter"),
        ({"seed": 1}, "unsupportedParameter"),
        ({"steps": 30}, "unsupportedParameter"),
        ({"numberResults": 21}, "invalidNumberResults"),
        ({"resolution": "2K"}, "invalidResolution"),
        ({"model": "bytedance:seedream@4.5", "resolution": "2K"}, "invalidResolution"),
        ({"ttl": 59}, "invalidTtl"),
        ({"outputQuality": 100}, "invalidOutputQuality"),
        ({"uploadEndpoint": "bucket"}, "invalidUploadEndpoint"),
        ({"safety": True}, "invalidSafety"),
        ({"safety": {"checkContent": "yes"}}, "invalidSafetyCheckContent"),
        ({"settings": {"optimizePromptMode": "fast"}}, "invalidSettingsOptimizePromptMode"),
        (
            {"providerSettings": {"bytedance": {"optimizePromptMode": "off"}}},
            "invalidProviderSettingsBytedanceOptimizePromptMode",
        ),
        ({"outputFormat": "jpeg"}, "invalidOutputFormat"),
        ({"deliveryMethod": "later"}, "invalidDeliveryMethod"),
        ({"taskUUID": "mine"}, "invalidTaskUUID"),
    ],
)
def test_a_task_outside_the_limits_is_a_400(
    api: Emulator, client: httpx2.Client, fields: dict[str, Any], code: str
) -> None:
    before = len(api.accepted)
    refused = post(client, task(**fields))
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (400, code)
    assert len(api.accepted) == before


def test_pro_and_flash_make_one_image(client: httpx2.Client) -> None:
    for air in ("bytedance:seedream@5.0-pro", "bytedance:seedream@5.0-flash"):
        task_id = submitted(client, model=air, settings={}, inputs={"referenceImages": [PICTURE] * 2})
        assert len(poll(client, task_id)["data"]) == 1


def test_an_unreadable_input_fails_the_task_and_costs_nothing(api: Emulator, client: httpx2.Client) -> None:
    before = api.charged_usd
    task_id = submitted(client, inputs={"referenceImages": ["https://example.org/cat.png"]})
    (item,) = poll(client, task_id)["data"]
    assert item["status"] == "error" and item["error"]["code"] == "invalidImage"
    assert api.charged_usd == before


def test_bodies_that_are_no_tasks_are_refused(client: httpx2.Client) -> None:
    for body in (b"{", b"{}", b"[]", b"[1]"):
        assert client.post("/v1", content=body).json()["errors"][0]["code"] == "invalidRequest"
    assert post(client, {"taskType": "sing"}).json()["errors"][0]["code"] == "invalidTaskType"
    bad = {"taskType": "mediaStorage", "taskUUID": str(uuid4()), "operation": "upload", "media": "nonsense!"}
    assert post(client, bad).json()["errors"][0]["code"] == "invalidImage"
    assert client.post("/v2", json=[]).status_code == 404


def test_an_unknown_task_is_an_error_or_an_empty_list() -> None:
    for said, status, code in (("errors", 404, "taskFailedOrNotFound"), ("empty", 200, None)):
        with (
            running("runware", unknown_task=said) as api,
            httpx2.Client(base_url=api.base_url, headers=AUTH) as client,
        ):
            told = post(client, {"taskType": "getResponse", "taskUUID": str(uuid4())})
            assert told.status_code == status
            assert (told.json().get("errors") or [{}])[0].get("code") == code


def test_an_empty_balance_refuses_with_402() -> None:
    with (
        running("runware", max_side=16, balance_usd="0.10", clock=HandClock()) as api,
        httpx2.Client(base_url=api.base_url, headers=AUTH) as client,
    ):
        submitted(client, count=2)
        details = {"taskType": "accountManagement", "taskUUID": str(uuid4()), "operation": "getDetails"}
        assert post(client, details).json()["data"][0]["balance"] == {"amount": 0.03, "currency": "USD"}
        refused = post(client, task())
        assert (refused.status_code, refused.json()["errors"][0]["code"]) == (402, "insufficientCredits")


def test_models_are_searched(client: httpx2.Client) -> None:
    asked = {"taskType": "modelSearch", "taskUUID": str(uuid4()), "search": "seedream lite", "limit": 5}
    (told,) = post(client, asked).json()["data"]
    assert (told["totalResults"], told["results"][0]["air"]) == (1, LITE)


# What goes wrong, one check for each fault


def error_of(client: httpx2.Client, task_id: str) -> dict[str, Any]:
    told = poll(client, task_id)
    error: dict[str, Any] = told["errors"][0] if "errors" in told else told["data"][0]["error"]
    return error


Check = Callable[[httpx2.Client, str], bool]


def statuses(*expected: str) -> Check:
    return lambda client, one: [item["status"] for item in poll(client, one)["data"]] == list(expected)


def check_errors(client: httpx2.Client, one: str) -> bool:
    told = poll(client, one)
    return len(told["data"]) == 2 and told["errors"][0]["taskUUID"] == one


def check_first(key: str) -> Check:
    def check(client: httpx2.Client, one: str) -> bool:
        first, second, third = (poll(client, one) for _ in range(3))
        return first == second and bool(first.get(key)) == (key == "errors") and bool(third["data"])

    return check


def check_unknown(client: httpx2.Client, one: str) -> bool:
    told = [poll(client, one)["data"][0]["status"] for _ in range(3)]
    return told == ["warming", "warming", "success"]


def check_trickle(*expected: list[str]) -> Check:
    return lambda client, one: (
        [[item["status"] for item in poll(client, one)["data"]] for _ in expected] == list(expected)
    )


def check_forgotten(client: httpx2.Client, one: str) -> bool:
    details = post(client, {"taskType": "getTaskDetails", "taskUUID": one}).json()
    return "errors" in poll(client, one) and len(details["data"][0]["response"]["data"]) == 3


def check_empty(client: httpx2.Client, one: str) -> bool:
    return poll(client, one)["data"] == [{"taskType": "imageInference", "taskUUID": one, "status": "success"}]


OK, BAD, RUNNING = "success", "error", "processing"
ODD_POLLS: dict[str, tuple[Check, str]] = {
    "failed": (lambda client, one: error_of(client, one)["code"] == "providerError", "0"),
    "failed-errors": (lambda client, one: error_of(client, one)["code"] == "providerError", "0"),
    "moderated": (lambda client, one: error_of(client, one)["code"] == "invalidProviderContent", "0"),
    "frame-failed": (statuses(OK, BAD, OK), "0.07"),
    "frame-failed-errors": (check_errors, "0.07"),
    "all-failed": (statuses(BAD, BAD, BAD), "0"),
    "empty-outputs": (check_empty, "0"),
    "fewer": (statuses(OK, OK), "0.07"),
    "unknown-status": (check_unknown, "0.105"),
    "not-found-at-first": (check_first("errors"), "0.105"),
    "empty-at-first": (check_first("data"), "0.105"),
    "trickle": (check_trickle([OK, RUNNING], [OK, OK, RUNNING], [OK, OK, OK]), "0.105"),
    "trickle-bare": (check_trickle([OK], [OK, OK], [OK, OK, OK]), "0.105"),
    "one-by-one": (lambda client, one: len(poll(client, one)["data"]) == 1, "0.105"),
    "one-late": (statuses(OK, OK), "0.105"),
    "forgotten": (check_forgotten, "0.105"),
    "flagged": (statuses(OK, OK, OK), "0.105"),
    "no-cost": (lambda client, one: all("cost" not in item for item in poll(client, one)["data"]), "0.105"),
}


@pytest.mark.parametrize("name", [f.name for f in faults("runware") if f.op == "poll" and f.reach == "job"])
def test_an_odd_task_is_odd_in_every_poll(api: Emulator, client: httpx2.Client, name: str) -> None:
    before = api.charged_usd
    api.fault("poll", name)
    task_id = submitted(client, "kites", 3)
    check, usd = ODD_POLLS[name]
    assert check(client, task_id)
    assert api.charged_usd - before == Decimal(usd)


@pytest.mark.parametrize(("name", "counts"), [("one-by-one", [0, 1, 2, 2, 3]), ("one-late", [0, 2, 2, 2, 3])])
def test_images_can_come_one_after_the_other(name: str, counts: list[int]) -> None:
    clock = HandClock()
    with (
        running("runware", max_side=16, latency_s=9.0, clock=clock) as api,
        httpx2.Client(base_url=api.base_url, headers=AUTH) as client,
    ):
        api.fault("poll", name, seconds=12)
        task_id = submitted(client, count=3)
        poll(client, task_id)
        seen = []
        for now_s in (0, 9, 21 if name == "one-by-one" else 20, 32 if name == "one-by-one" else 20, 33):
            clock.now = 1000.0 + now_s
            data = poll(client, task_id)["data"]
            seen.append(sum(item["status"] == OK for item in data))
            assert now_s < 9 or len(data) == seen[-1]
        assert seen == counts


def test_odd_submits_are_accepted_all_the_same(api: Emulator, client: httpx2.Client) -> None:
    api.fault("submit", "no-id")
    assert post(client, task()).json() == {"data": [{"taskType": "imageInference"}]}
    api.fault("submit", "at-once")
    assert len(post(client, task(count=2)).json()["data"]) == 2
    api.fault("submit", "lost-answer")
    asked = task()
    with pytest.raises(httpx2.RemoteProtocolError):
        post(client, asked)
    assert poll(client, asked["taskUUID"])["data"][0]["status"] == OK


# Seedream 5.5

V5_5 = {"model": "bytedance:seedream@5.5", "settings": {}}


@pytest.mark.parametrize(
    "fields",
    [
        {"settings": {"maxSequentialImages": 2}},
        {"settings": {"background": "none"}},
        {"settings": {"background": "transparent"}},
        {"settings": {"background": "transparent"}, "outputFormat": "PNG", "model": "bytedance:seedream@5.0-pro"},
        {"width": 4096, "height": 4096},
        {"inputs": {"referenceImages": [picture()] * 11}},
    ],
)
def test_5_5_refuses_sequences_and_other_sizes(api: Emulator, client: httpx2.Client, fields: dict[str, Any]) -> None:
    before = len(api.accepted)
    assert post(client, task(**{**V5_5, **fields})).status_code == 400
    assert len(api.accepted) == before


def test_5_5_costs_its_tier_and_its_references(api: Emulator, client: httpx2.Client) -> None:
    fields = {**V5_5, "settings": {"background": "transparent"}, "outputFormat": "PNG"}
    inputs = {"referenceImages": [picture(), picture("red")]}
    (item,) = poll(client, submitted(client, **fields, inputs=inputs))["data"]
    assert item["cost"] == 0.051
    assert Image.open(io.BytesIO(client.get(item["imageURL"]).content)).mode == "RGBA"


def test_each_result_of_5_5_is_made_for_itself(api: Emulator, client: httpx2.Client) -> None:
    before = api.charged_usd
    inputs = {"referenceImages": [picture(), picture("red")]}
    items = poll(client, submitted(client, **V5_5, inputs=inputs, numberResults=3))["data"]
    assert [item["cost"] for item in items] == [0.051] * 3
    assert api.charged_usd - before == Decimal("0.153")


def test_a_transparent_webp_has_an_alpha_channel(client: httpx2.Client) -> None:
    fields = {**V5_5, "settings": {"background": "transparent"}, "outputFormat": "WEBP"}
    (item,) = poll(client, submitted(client, **fields))["data"]
    image = Image.open(io.BytesIO(client.get(item["imageURL"]).content))
    assert (image.format, image.mode) == ("WEBP", "RGBA")


def test_the_check_of_the_content_marks_every_image(api: Emulator, client: httpx2.Client) -> None:
    api.fault("poll", "flagged", n=2)
    task_id = submitted(client, count=2, safety={"checkContent": True})
    assert [item["NSFWContent"] for item in poll(client, task_id)["data"]] == [False, True]
    assert all("NSFWContent" not in item for item in poll(client, submitted(client, count=2))["data"])


@pytest.mark.parametrize(("tier", "usd"), [("1K", 0.02), ("1.5K", 0.02), ("2K", 0.035)])
def test_a_tier_stands_in_place_of_width_and_height(client: httpx2.Client, tier: str, usd: float) -> None:
    asked = {name: value for name, value in task(**V5_5).items() if name not in ("width", "height")}
    assert post(client, {**asked, "resolution": tier}).status_code == 200
    (item,) = poll(client, asked["taskUUID"])["data"]
    assert item["cost"] == usd
