"""The emulated Atlas Cloud, asked over real sockets. Time is a hand-turned clock; nothing sleeps."""

from __future__ import annotations

import base64
import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from PIL import Image

from support.clients import AUTH
from support.clocks import HandClock
from support.pictures import picture
from triptych_emulators import Emulator, faults, names, running
from triptych_emulators.kit import FaultType

EMULATED = {"name": "atlas", "balance_usd": "1000"}

SUBMIT = "/api/v1/model/generateImage"
SEQUENCE = "bytedance/seedream-v5.0-lite/sequential"
EDIT_SEQUENCE = "bytedance/seedream-v5.0-lite/edit-sequential"


def submit(client: httpx2.Client, prompt: str = "two lighthouses", **fields: Any) -> httpx2.Response:
    return client.post(SUBMIT, json={"model": SEQUENCE, "prompt": prompt, **fields})


def submitted(client: httpx2.Client, prompt: str = "two lighthouses", **fields: Any) -> str:
    return str(submit(client, prompt, **fields).json()["data"]["id"])


def polled(client: httpx2.Client, work_id: str) -> dict[str, Any]:
    data: dict[str, Any] = client.get(f"/api/v1/model/prediction/{quote(work_id, safe='')}").json()["data"]
    return data


def upload(client: httpx2.Client, data: bytes) -> str:
    files = {"file": ("cat.png", data, "image/png")}
    return str(client.post("/api/v1/model/uploadMedia", files=files).json()["data"]["download_url"])


# The usual way


def test_the_emulated_apis_are_found_by_listing_the_package() -> None:
    assert "atlas" in names()
    assert not {"kit", "atlas_models", "atlas_polls"} & set(names())


def test_an_unknown_name_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(LookupError, match="atlas"), running("atlantis"):
        pass


def test_uploaded_images_are_edited_into_a_sequence_of_real_images(api: Emulator, client: httpx2.Client) -> None:
    url = upload(client, picture())
    before = api.charged_usd
    answer = submit(
        client,
        "make three warm versions",
        model=EDIT_SEQUENCE,
        images=[url],
        max_images=3,
        size="2304*1728",
        output_format="jpeg",
    )
    told = answer.json()
    assert (told["code"], told["message"], told["data"]["status"]) == (200, "", "processing")
    assert told["data"]["outputs"] is None and len(told["data"]["id"]) == 32
    done = client.get(told["data"]["urls"]["get"]).json()["data"]
    assert done["status"] == "completed" and done["has_nsfw_contents"] == [False] * 3
    pictures = [client.get(output) for output in done["outputs"]]
    assert [picture.headers["content-type"] for picture in pictures] == ["image/jpeg"] * 3
    assert [Image.open(io.BytesIO(picture.content)).size for picture in pictures] == [(48, 36)] * 3
    assert done["outputs"][0].endswith("/1.jpg")
    assert client.get(url).content == picture()
    assert api.charged_usd - before == Decimal("0.096")
    assert api.seen_at("POST", SUBMIT)[0].json["max_images"] == 3
    assert api.accepted[-1] == told["data"]["id"]


def test_the_nested_body_is_understood_like_the_flat_one(client: httpx2.Client) -> None:
    body = {"model": SEQUENCE, "input": {"prompt": "two lighthouses", "max_images": 2}}
    work_id = client.post(SUBMIT, json=body).json()["data"]["id"]
    assert len(polled(client, work_id)["outputs"]) == 2


def test_the_same_request_gives_the_same_pixels_wherever_it_is_asked(client: httpx2.Client) -> None:
    with (
        running("atlas", max_side=48) as other,
        httpx2.Client(base_url=other.base_url, headers=AUTH) as other_client,
    ):
        here, there = (polled(asked, submitted(asked))["outputs"][0] for asked in (client, other_client))
        assert here != there
        assert client.get(here).content == other_client.get(there).content


def test_an_output_can_be_the_next_input_and_so_can_base64_and_data_uris(client: httpx2.Client) -> None:
    output = polled(client, submitted(client))["outputs"][0]
    plain = base64.b64encode(picture()).decode()
    images = [output, plain, f"data:image/png;base64,{plain}"]
    work_id = submitted(client, model=EDIT_SEQUENCE, images=images)
    assert polled(client, work_id)["status"] == "completed"


@pytest.mark.parametrize("reference", ["https://example.org/cat.png", "not base64 at all!", "aGVsbG8="])
def test_an_input_that_cannot_be_fetched_or_decoded_fails_the_prediction_and_costs_nothing(
    api: Emulator, client: httpx2.Client, reference: str
) -> None:
    before = api.charged_usd
    told = polled(client, submitted(client, model=EDIT_SEQUENCE, images=[reference]))
    assert told["status"] == "failed" and "image" in told["error"] and told["error_code"] == 400
    assert api.charged_usd == before


def test_both_poll_paths_tell_the_same(client: httpx2.Client) -> None:
    work_id = submitted(client)
    assert client.get(f"/api/v1/model/result/{work_id}").json()["data"]["outputs"] == polled(client, work_id)["outputs"]


def test_a_prediction_ends_when_its_time_has_passed_and_not_before() -> None:
    clock = HandClock()
    with (
        running("atlas", max_side=16, latency_s=9.0, clock=clock) as api,
        httpx2.Client(base_url=api.base_url, headers=AUTH) as client,
    ):
        work_id = submitted(client)
        clock.now += 8.9
        assert polled(client, work_id)["status"] == "processing"
        clock.now += 0.1
        assert "price" not in polled(client, work_id)
        clock.now += 1.0
        assert polled(client, work_id)["price"] == "0.032"
        other = submitted(client)
        api.finish_all()
        assert polled(client, other)["status"] == "completed"
        assert "price" not in client.get(f"/api/v1/model/prediction/{submitted(client)}").json()["data"]


def test_realistic_latency_is_the_same_for_the_same_seed_and_longer_for_more_images() -> None:
    def durations(seed: int) -> list[float]:
        with (
            running("atlas", max_side=16, latency_s=None, seed=seed, clock=HandClock()) as api,
            httpx2.Client(base_url=api.base_url, headers=AUTH) as client,
        ):
            submitted(client)
            submitted(client, max_images=15)
            return [work.finish_at - work.submitted_at for work in api.jobs]

    once = durations(7)
    assert once == durations(7) != durations(8)
    assert 2 < once[0] < 32 and once[1] > once[0]


def test_the_charge_is_told_from_the_second_poll_on(client: httpx2.Client) -> None:
    work_id = submitted(client, max_images=2)
    assert "price" not in polled(client, work_id)
    assert polled(client, work_id)["price"] == "0.064"


def test_v4_gives_base64_when_asked_to(client: httpx2.Client) -> None:
    fields: dict[str, Any] = {"images": [upload(client, picture())], "enable_base64_output": True}
    told = polled(client, submitted(client, model="bytedance/seedream-v4/edit-sequential", **fields))
    head, _, data = told["outputs"][0].partition(",")
    assert head == "data:image/jpeg;base64" and Image.open(io.BytesIO(base64.b64decode(data))).size == (48, 48)


@pytest.mark.parametrize("given", ["image", "images"])
def test_the_disputed_edit_field_is_a_switch(given: str) -> None:
    with (
        running("atlas", max_side=16, edit_field=given) as api,
        httpx2.Client(base_url=api.base_url, headers=AUTH) as client,
    ):
        model = "bytedance/seedream-v5.0-lite/edit"
        plain = base64.b64encode(picture()).decode()
        assert submit(client, model=model, image=plain).status_code == (200 if given == "image" else 400)
        assert submit(client, model=model, images=[plain]).status_code == (200 if given == "images" else 400)
        fields = client.get(f"/_schemas/{model}.json").json()["components"]["schemas"]["Input"]
        assert given in fields["required"] and fields["x-order-properties"] == list(fields["properties"])


PICTURE = base64.b64encode(picture()).decode()


@pytest.mark.parametrize(
    ("fields", "about"),
    [
        ({"model": "bytedance/seedream-v9"}, "model not found"),
        ({"prompt": ""}, "prompt is required"),
        ({"max_images": 16}, "max_images"),
        ({"max_images": 0}, "max_images"),
        ({"max_images": "2"}, "max_images"),
        ({"size": "2048x2048"}, "size must be one of"),
        ({"size": "1024*1024"}, "size must be one of"),
        ({"output_format": "gif"}, "output_format"),
        ({"model": EDIT_SEQUENCE}, "images is required"),
        ({"model": EDIT_SEQUENCE, "images": []}, "images is required"),
        ({"model": EDIT_SEQUENCE, "images": [PICTURE] * 15}, "at most 14"),
        ({"model": EDIT_SEQUENCE, "images": [PICTURE] * 10, "max_images": 6}, "must not exceed 15"),
        ({"model": "bytedance/seedream-v4.5/edit-sequential", "images": [PICTURE] * 11}, "at most 10"),
        ({"model": "bytedance/seedream-v4.5/edit-sequential", "images": [PICTURE], "size": "1024*1024"}, "area"),
        ({"model": "bytedance/seedream-v4/edit-sequential", "images": [PICTURE], "size": "8000*400"}, "aspect ratio"),
        ({"model": "bytedance/seedream-v4/edit-sequential", "images": [PICTURE], "max_images": 15}, "max_images"),
        ({"model": "bytedance/seedream-v4.7/edit-sequential", "images": [PICTURE], "num_images": 15}, "num_images"),
    ],
)
def test_a_request_outside_the_limits_is_a_400_and_is_not_accepted(
    api: Emulator, client: httpx2.Client, fields: dict[str, Any], about: str
) -> None:
    before = len(api.accepted)
    for path in (SUBMIT, "/api/v1/model/calculate"):
        answer = client.post(path, json={"model": SEQUENCE, "prompt": "two lighthouses", **fields})
        assert answer.status_code == 400 and about in answer.json()["msg"]
    assert len(api.accepted) == before


@pytest.mark.parametrize(
    ("model", "counted", "price"),
    [
        (EDIT_SEQUENCE, "max_images", "0.064"),
        ("bytedance/seedream-v4.5/edit-sequential", "max_images", "0.072"),
        ("bytedance/seedream-v4/edit-sequential", "max_images", "0.054"),
        ("bytedance/seedream-v4.7/edit-sequential", "num_images", "0.06"),
    ],
)
def test_a_quote_is_the_list_price_and_unknown_fields_are_ignored(
    client: httpx2.Client, model: str, counted: str, price: str
) -> None:
    body = {"model": model, "prompt": "two", "images": [PICTURE], counted: 2, "steps": 30}
    told = client.post("/api/v1/model/calculate", json=body).json()["data"]
    assert (Decimal(told["price"]), told["currency"]) == (Decimal(price), "USD")


def test_the_model_list_needs_no_key_and_names_schemas_that_can_be_read(api: Emulator) -> None:
    with httpx2.Client(base_url=api.base_url) as client:
        listed = client.get("/api/v1/models").json()["data"]
        entry = next(model for model in listed if model["model"] == EDIT_SEQUENCE)
        assert (entry["type"], entry["price"]["actual"]["base_price"]) == ("Image", "0.032")
        assert [model["display_console"] for model in listed].count(False) == 1
        fields = client.get(entry["schema"]).json()["components"]["schemas"]["Input"]
        assert len(fields["properties"]["size"]["enum"]) == 16
        assert fields["required"] == ["model", "prompt", "images"]
        assert fields["properties"]["images"]["maxItems"] == 14


def test_history_is_newest_first_filtered_paged_and_gives_requests_back_as_text(client: httpx2.Client) -> None:
    first = submitted(client, "history one")
    second = submitted(client, "history two [[emulate: moderated]]")

    def history(**query: Any) -> dict[str, Any]:
        told: dict[str, Any] = client.get("/api/v1/model/history", params=query).json()["data"]
        return told

    newest = history(no=1, size=2)
    assert [item["ID"] for item in newest["items"]] == [second, first]
    assert json.loads(newest["items"][1]["requestBody"])["prompt"] == "history one"
    assert history(no=2, size=1)["items"][0]["ID"] == first
    assert history(status="failed", size=1)["items"][0]["ID"] == second
    assert history(sessionID=first)["total"] == 1
    assert history(model="bytedance/seedream-v4/edit-sequential", status="failed")["items"] == []
    assert newest["pageNo"] == 1 and newest["pageSize"] == 2 and newest["total"] >= 2


def test_the_balance_goes_down_and_an_empty_one_refuses_with_402() -> None:
    with (
        running("atlas", max_side=16, balance_usd="0.10", clock=HandClock()) as api,
        httpx2.Client(base_url=api.base_url, headers=AUTH) as client,
    ):
        assert submit(client, max_images=3).status_code == 200
        assert client.get("/public/v1/balance").json()["available"] == {"value": "0.004000", "currency": "usd"}
        refused = submit(client)
        assert (refused.status_code, refused.json()["msg"]) == (402, "insufficient balance")
        day = api.jobs[0].created_at.date()
        query = {"start_date": str(day), "end_date": str(day.replace(year=day.year + 1)), "group_by[]": "model"}
        assert client.get("/public/v1/model-costs", params=query).status_code == 400
        query["end_date"] = str(day.fromordinal(day.toordinal() + 1))
        costs = client.get("/public/v1/model-costs", params=query).json()["data"][0]
        assert costs["results"] == [{"model": SEQUENCE, "amount": {"value": "0.096000", "currency": "usd"}}]
        usage = client.get("/public/v1/model-usage", params=query).json()["data"][0]
        assert usage["results"] == [{"model": SEQUENCE, "requests": 1, "images": 3}]


def test_a_wrong_key_and_a_wrong_path_are_both_401_with_a_request_id(api: Emulator, client: httpx2.Client) -> None:
    wrong = client.post(SUBMIT, json={}, headers={"Authorization": "Bearer wrong"})
    nowhere = client.get("/api/v1/model/predictions")
    for answer in (wrong, nowhere):
        assert answer.status_code == 401
        assert answer.json()["msg"] == "unauthorized" and answer.json()["data"] is None
        assert answer.headers["X-Request-ID"] == answer.json()["request_id"]
    public = client.get("/public/v1/balance", headers={"Authorization": "Bearer wrong"}).json()
    assert set(public["error"]) == {"type", "code", "message", "param"}


def test_any_key_is_accepted_when_none_is_set() -> None:
    with running("atlas", key=None) as api, httpx2.Client(base_url=api.base_url) as client:
        assert client.get("/public/v1/balance", headers={"Authorization": "Bearer whatever"}).status_code == 200
        assert client.get("/public/v1/balance").status_code == 401


def test_retention_headers_are_checked(client: httpx2.Client) -> None:
    header = "X-AtlasCloud-Object-Expiration-Hours"
    body = {"model": SEQUENCE, "prompt": "two"}
    assert client.post(SUBMIT, json=body, headers={header: "336"}).status_code == 200
    assert client.post(SUBMIT, json=body, headers={header: "0"}).status_code == 400


def test_an_upload_over_50_mb_is_413(client: httpx2.Client) -> None:
    files = {"file": ("big.png", bytes(50 * 1024 * 1024 + 1), "image/png")}
    assert client.post("/api/v1/model/uploadMedia", files=files).status_code == 413


# Every fault of the table


GENERIC = {fault.name for fault in faults("atlas") if fault.op == "models"}
PATHS: dict[str, Callable[[httpx2.Client], httpx2.Response]] = {
    "submit": submit,
    "upload": lambda c: c.post("/api/v1/model/uploadMedia", files={"file": ("cat.png", picture(), "image/png")}),
    "models": lambda c: c.get("/api/v1/models"),
    "calculate": lambda c: c.post("/api/v1/model/calculate", json={"model": SEQUENCE, "prompt": "two"}),
    "history": lambda c: c.get("/api/v1/model/history"),
    "balance": lambda c: c.get("/public/v1/balance"),
}


def ask(api: Emulator, client: httpx2.Client, op: str) -> Callable[[], httpx2.Response]:
    if op in PATHS:
        return lambda: PATHS[op](client)
    work_id = submitted(client)
    if op == "poll":
        return lambda: client.get(f"/api/v1/model/prediction/{work_id}")
    output = polled(client, work_id)["outputs"][0]
    return lambda: client.get(output)


def check_generic(name: str, answer: Callable[[], httpx2.Response]) -> None:
    if name in ("drop", "lost-answer", "hang"):
        with pytest.raises(httpx2.RemoteProtocolError):
            answer()
        return
    got = answer()
    if name.isdigit():
        assert got.status_code == int(name) and "X-Request-ID" in got.headers
        assert "retry-after" not in got.headers
        return
    assert got.status_code == (502 if name == "html-502" else 200)
    if name == "html-502":
        assert "<html>" in got.text
    elif name == "broken-json":
        assert got.content
        with pytest.raises(ValueError):
            json.loads(got.content)
    elif name == "empty-body":
        assert got.content == b""
    else:
        assert name == "code-500-null" and got.json() == {"code": 500, "data": None}


@pytest.mark.parametrize(
    "fault", [f for f in faults("atlas") if f.name in GENERIC], ids=lambda fault: f"{fault.op}/{fault.name}"
)
def test_a_fault_of_every_operation_spoils_one_answer_and_the_next_is_whole(
    api: Emulator, client: httpx2.Client, fault: FaultType
) -> None:
    asked = ask(api, client, fault.op)
    before = len(api.accepted)
    options: dict[str, Any] = {"seconds": 0.01} if fault.name == "hang" else {}
    api.fault(fault.op, fault.name, **options)
    check_generic(fault.name, asked)
    was_accepted = len(api.accepted) - before
    assert was_accepted == (fault.op == "submit" and fault.reach == "after")
    assert asked().status_code == 200
    if fault.name in ("drop", "lost-answer", "hang"):
        assert api.seen[-2].status == 0


def failing(status: str, **expected: Any) -> Callable[[list[httpx2.Response]], None]:
    def check(polls: list[httpx2.Response]) -> None:
        for poll in polls:
            told = poll.json()["data"]
            assert (poll.status_code, told["status"], told["outputs"]) == (200, status, None)
            assert {name: told.get(name) for name in expected} == expected
            assert "price" not in told

    return check


def check_held(polls: list[httpx2.Response], *statuses: str) -> None:
    assert [poll.json()["data"]["status"] for poll in polls[:3]] == [*statuses, "completed"]
    assert polls[0].json()["data"]["outputs"] is None


def check_failed_500(polls: list[httpx2.Response]) -> None:
    for poll in polls:
        assert (poll.status_code, poll.json()["code"], poll.json()["data"]["status"]) == (500, 500, "failed")
        assert poll.json()["message"].startswith("Generation failed: ")


def check_200_then_500(polls: list[httpx2.Response]) -> None:
    assert [poll.status_code for poll in polls] == [200, 500, 500, 500]
    assert {poll.json()["data"]["status"] for poll in polls} == {"failed"}


def check_prices(*told: bool) -> Callable[[list[httpx2.Response]], None]:
    def check(polls: list[httpx2.Response]) -> None:
        assert ["price" in poll.json()["data"] for poll in polls] == list(told)

    return check


def check_old_spelling(polls: list[httpx2.Response]) -> None:
    assert "outputs" not in polls[0].json()["data"] and len(polls[0].json()["data"]["output"]) == 1


def each(check: Callable[[dict[str, Any]], bool]) -> Callable[[list[httpx2.Response]], None]:
    def checked(polls: list[httpx2.Response]) -> None:
        assert all(poll.status_code == 200 and check(poll.json()["data"]) for poll in polls)

    return checked


def statuses(*expected: int) -> Callable[[list[httpx2.Response]], None]:
    def check(polls: list[httpx2.Response]) -> None:
        assert [poll.status_code for poll in polls] == list(expected)

    return check


ODD_POLLS: dict[str, Callable[[list[httpx2.Response]], None]] = {
    "unknown-status": lambda polls: check_held(polls, "warming", "warming"),
    "pending-after-processing": lambda polls: check_held(polls, "processing", "pending"),
    "failed-200": failing("failed"),
    "moderated": failing("failed", error_code=1039),
    "failed-500": check_failed_500,
    "200-then-500": check_200_then_500,
    "400-at-first": statuses(400, 400, 200, 200),
    "404-at-first": statuses(404, 404, 200, 200),
    "timeout-status": failing("timeout"),
    "canceled": failing("canceled"),
    "cancelled": failing("cancelled"),
    "outputs-string": each(lambda told: isinstance(told["outputs"], str)),
    "outputs-objects": each(lambda told: told["outputs"][0]["url"].startswith("http")),
    "output-old-spelling": check_old_spelling,
    "error-object": each(lambda told: "message" in told["error"] and told["status"] == "failed"),
    "empty-outputs": each(lambda told: told["outputs"] == [] and told["status"] == "completed"),
    "fewer": each(lambda told: told["outputs"] == [] and told["status"] == "completed"),
    "price-late": check_prices(False, False, False, True),
    "price-never": check_prices(False, False, False, False),
    "other-host-url": each(lambda told: told["urls"]["get"].startswith("https://poll.atlascloud.example/")),
}


@pytest.mark.parametrize("asked_by", ["test", "prompt", "http"])
@pytest.mark.parametrize("name", [f.name for f in faults("atlas") if f.op == "poll" and f.reach == "job"])
def test_an_odd_prediction_is_odd_in_every_poll(api: Emulator, client: httpx2.Client, name: str, asked_by: str) -> None:
    before = api.charged_usd
    if asked_by == "test":
        api.fault("poll", name)
    elif asked_by == "http":
        assert client.post("/_emulator/faults", json={"op": "poll", "name": name}).status_code == 204
    work_id = submitted(client, f"one kite [[emulate: {name}]]" if asked_by == "prompt" else "one kite")
    polls = [client.get(f"/api/v1/model/prediction/{work_id}") for _ in range(4)]
    ODD_POLLS[name](polls)
    failed = polls[-1].json()["data"].get("status") in ("failed", "timeout", "canceled", "cancelled")
    free = failed or name in ("fewer", "empty-outputs")
    assert api.charged_usd - before == (0 if free else Decimal("0.032"))
    assert polled(client, submitted(client, "the next is as usual"))["status"] == "completed"


def test_fewer_images_are_charged_as_fewer(api: Emulator, client: httpx2.Client) -> None:
    before = api.charged_usd
    work_id = submitted(client, "kites [[emulate: fewer n=2]]", max_images=5)
    assert len(polled(client, work_id)["outputs"]) == 3
    assert (polled(client, work_id)["price"], api.charged_usd - before) == ("0.096", Decimal("0.096"))


ODD_SUBMITS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "short-form": lambda told: set(told) == {"id", "status", "model", "created_at"},
    "no-id": lambda told: "id" not in told["data"],
    "odd-ids": lambda told: "/" in told["data"]["id"] and not told["data"]["id"].isascii(),
}


@pytest.mark.parametrize("name", [f.name for f in faults("atlas") if f.op == "submit" and f.reach == "job"])
def test_an_odd_answer_to_a_submit_is_still_an_accepted_one(api: Emulator, client: httpx2.Client, name: str) -> None:
    before = len(api.accepted)
    api.fault("submit", name)
    assert ODD_SUBMITS[name](submit(client).json())
    assert len(api.accepted) == before + 1
    assert polled(client, api.accepted[-1])["id"] == api.accepted[-1]


def test_content_that_is_refused_at_once_is_not_accepted(api: Emulator, client: httpx2.Client) -> None:
    before = len(api.accepted)
    api.fault("submit", "moderated-before")
    refused = submit(client)
    assert refused.status_code == 400 and "content safety policy" in refused.json()["msg"]
    assert len(api.accepted) == before


def check_truncated(ask_file: Callable[[], httpx2.Response]) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        ask_file()


def check_redirect(ask_file: Callable[[], httpx2.Response]) -> None:
    got = ask_file()
    assert got.status_code == 302 and got.headers["location"].startswith("/_results/")


def check_slow(ask_file: Callable[[], httpx2.Response]) -> None:
    assert Image.open(io.BytesIO(ask_file().content)).size == (48, 48)


def check_not_an_image(ask_file: Callable[[], httpx2.Response]) -> None:
    got = ask_file()
    assert got.headers["content-type"] == "image/png" and got.content.startswith(b"<Error>")


def check_gone(ask_file: Callable[[], httpx2.Response]) -> None:
    assert ask_file().status_code == 410


ODD_RESULTS = {
    "410": check_gone,
    "truncated": check_truncated,
    "not-an-image": check_not_an_image,
    "redirect": check_redirect,
    "slow": check_slow,
}


@pytest.mark.parametrize("asked_by", ["test", "prompt"])
@pytest.mark.parametrize("name", [f.name for f in faults("atlas") if f.op == "result" and f.name not in GENERIC])
def test_an_odd_download_is_odd_once(api: Emulator, client: httpx2.Client, name: str, asked_by: str) -> None:
    options: dict[str, Any] = {"seconds": 0.01} if name == "slow" else {}
    if asked_by == "test":
        api.fault("result", name, **options)
        output = polled(client, submitted(client))["outputs"][0]
    else:
        said = " ".join([f"result/{name}", *(f"{key}={value}" for key, value in options.items())])
        output = polled(client, submitted(client, f"a kite [[emulate: {said}]]"))["outputs"][0]
    ODD_RESULTS[name](lambda: client.get(output))
    assert Image.open(io.BytesIO(client.get(output).content)).format == "PNG"


# The three ways of asking


def test_a_directive_spoils_a_submit_once_and_the_same_request_then_goes_through(
    api: Emulator, client: httpx2.Client
) -> None:
    before = len(api.accepted)
    prompt = "a kite [[emulate: 429 retry_after=7, poll/html-502 times=2]]"
    refused = submit(client, prompt)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "7")
    work_id = submitted(client, prompt)
    assert len(api.accepted) == before + 1
    statuses = [client.get(f"/api/v1/model/prediction/{work_id}").status_code for _ in range(3)]
    assert statuses == [502, 502, 200]


def test_a_lost_answer_is_an_accepted_job_that_history_still_knows(api: Emulator, client: httpx2.Client) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        submit(client, "a lost kite [[emulate: lost-answer]]")
    items = client.get("/api/v1/model/history", params={"model": SEQUENCE, "size": 1}).json()["data"]["items"]
    assert items[0]["ID"] == api.accepted[-1]
    assert api.seen_at("POST", SUBMIT)[-1].status == 0


def test_directives_do_not_reach_the_pixels(client: httpx2.Client) -> None:
    plain = polled(client, submitted(client, "a red kite"))["outputs"][0]
    asked = polled(client, submitted(client, "a red [[emulate: price-never]] kite"))["outputs"][0]
    assert client.get(plain).content == client.get(asked).content


def test_an_unknown_directive_is_a_400_that_names_the_faults(client: httpx2.Client) -> None:
    refused = submit(client, "a kite [[emulate: earthquake]]")
    assert refused.status_code == 400 and "moderated" in refused.json()["msg"]


def test_an_unknown_fault_or_option_is_refused_when_it_is_asked_for(api: Emulator, client: httpx2.Client) -> None:
    with pytest.raises(ValueError, match="no fault 'earthquake'"):
        api.fault("poll", "earthquake")
    with pytest.raises(ValueError, match="no option 'often'"):
        api.fault("poll", "fewer", often=True)
    assert client.post("/_emulator/faults", json={"op": "poll", "name": "earthquake"}).status_code == 400
    assert client.post("/_emulator/faults", json={"name": "404"}).status_code == 400


def test_faults_come_first_in_first_out_and_can_stay_for_ever(api: Emulator, client: httpx2.Client) -> None:
    api.fault("models", "503")
    api.fault("models", "html-502", times=2)
    api.fault("models", "429", times=None, retry_after=1)
    got = [client.get("/api/v1/models").status_code for _ in range(6)]
    assert got == [503, 502, 502, 429, 429, 429]
    assert client.request("DELETE", "/_emulator/faults").status_code == 204
    assert client.get("/api/v1/models").status_code == 200


def test_a_spoiled_submit_can_be_an_accepted_one(api: Emulator, client: httpx2.Client) -> None:
    before = len(api.accepted)
    api.fault("submit", "504", accepted=True)
    assert submit(client).status_code == 504
    assert len(api.accepted) == before + 1


def test_the_log_and_the_ledger_can_be_read_over_http_without_the_key(api: Emulator, client: httpx2.Client) -> None:
    submitted(client)
    seen = client.get("/_emulator/seen").json()
    assert [(entry["method"], entry["path"], entry["status"]) for entry in seen] == [("POST", SUBMIT, 200)]
    assert "test-key" not in json.dumps(seen)
    assert client.get("/_emulator/ledger").json()["accepted"] == api.accepted
    assert client.post("/_emulator/finish").status_code == 204
    assert {entry["op"] for entry in client.get("/_emulator/faults").json()} >= {"submit", "poll", "result"}
    assert api.seen[0].headers["authorization"] == "Bearer test-key"


def test_every_fault_of_the_table_is_exercised_here() -> None:
    known = {(fault.op, fault.name) for fault in faults("atlas")}
    assert {name for op, name in known if op == "poll"} == GENERIC | set(ODD_POLLS)
    assert {name for op, name in known if op == "submit"} == GENERIC | set(ODD_SUBMITS) | {"moderated-before"}
    assert {name for op, name in known if op == "result"} == GENERIC | set(ODD_RESULTS)
    assert len(known) == len(faults("atlas"))
    assert all(fault.about for fault in faults("atlas"))


def test_a_hanging_answer_does_not_keep_the_emulator_from_stopping() -> None:
    with (
        running("atlas") as api,
        httpx2.Client(base_url=api.base_url, headers=AUTH, timeout=httpx2.Timeout(60, read=0.05)) as client,
    ):
        api.fault("models", "hang")
        with pytest.raises(httpx2.TimeoutException):
            client.get("/api/v1/models")


def test_it_runs_in_the_foreground_until_it_is_interrupted() -> None:
    said = "from triptych_emulators import serve; serve('atlas', port=0, on_ready=lambda url: print(url, flush=True))"
    with subprocess.Popen([sys.executable, "-c", said], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        base_url = process.stdout.readline().strip()
        with httpx2.Client(base_url=base_url) as client:
            assert client.get("/api/v1/models").status_code == 200
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    assert (process.returncode, rest) == (0, "")


def test_a_taken_port_is_an_error_at_once(api: Emulator) -> None:
    with pytest.raises(OSError), running("atlas", port=int(api.base_url.rpartition(":")[2])):
        pass
