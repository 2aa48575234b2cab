"""The emulated Atlas Cloud over real sockets: its own bodies, limits, prices and faults. The test moves the clock."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from PIL import Image

from support.clients import AUTH
from support.clocks import HandClock
from support.emulated_apis import FORM_FILE, Api
from support.pictures import picture
from triptych_emulators import Emulator, faults, running

EMULATED = {"name": "atlas", "balance_usd": "1000"}

SUBMIT = "/api/v1/model/generateImage"
SEQUENCE = "bytedance/seedream-v5.0-lite/sequential"
EDIT_SEQUENCE = "bytedance/seedream-v5.0-lite/edit-sequential"


def generic_api() -> Api:
    """Return this API as the generic tests need it."""
    model = "bytedance/seedream-v5.0-lite/sequential"
    base = "/api/v1/model"
    return Api(
        "atlas",
        lambda c, prompt: c.post(f"{base}/generateImage", json={"model": model, "prompt": prompt}),
        lambda body: body["data"]["id"],
        lambda c, job_id: c.get(f"{base}/prediction/{quote(job_id, safe='')}"),
        lambda body: body["data"]["status"],
        lambda body: body["data"]["outputs"],
        lambda body: body["error"]["code"] if "error" in body else body["code"],
        "0.032",
        {"balance_usd": "1000"},
        {
            "upload": lambda c: c.post(f"{base}/uploadMedia", files=FORM_FILE),
            "models": lambda c: c.get("/api/v1/models"),
            "calculate": lambda c: c.post(f"{base}/calculate", json={"model": model, "prompt": "two"}),
            "history": lambda c: c.get(f"{base}/history"),
            "balance": lambda c: c.get("/public/v1/balance"),
        },
    )


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


def test_an_output_base64_and_data_uris_can_be_inputs(client: httpx2.Client) -> None:
    output = polled(client, submitted(client))["outputs"][0]
    plain = base64.b64encode(picture()).decode()
    images = [output, plain, f"data:image/png;base64,{plain}"]
    work_id = submitted(client, model=EDIT_SEQUENCE, images=images)
    assert polled(client, work_id)["status"] == "completed"


@pytest.mark.parametrize("reference", ["https://example.org/cat.png", "not base64 at all!", "aGVsbG8="])
def test_an_unreadable_input_fails_the_prediction_and_costs_nothing(
    api: Emulator, client: httpx2.Client, reference: str
) -> None:
    before = api.charged_usd
    told = polled(client, submitted(client, model=EDIT_SEQUENCE, images=[reference]))
    assert told["status"] == "failed" and "image" in told["error"] and told["error_code"] == 400
    assert api.charged_usd == before


def test_both_poll_paths_return_the_same_outputs(client: httpx2.Client) -> None:
    work_id = submitted(client)
    assert client.get(f"/api/v1/model/result/{work_id}").json()["data"]["outputs"] == polled(client, work_id)["outputs"]


def test_a_prediction_ends_when_its_time_has_passed() -> None:
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


def test_polls_have_the_charge_from_the_second_one_on(client: httpx2.Client) -> None:
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
def test_a_request_outside_the_limits_is_a_400(
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
def test_a_quote_is_the_list_price_despite_unknown_fields(
    client: httpx2.Client, model: str, counted: str, price: str
) -> None:
    body = {"model": model, "prompt": "two", "images": [PICTURE], counted: 2, "steps": 30}
    told = client.post("/api/v1/model/calculate", json=body).json()["data"]
    assert (Decimal(told["price"]), told["currency"]) == (Decimal(price), "USD")


def test_the_model_list_needs_no_key_and_links_schemas(api: Emulator) -> None:
    with httpx2.Client(base_url=api.base_url) as client:
        listed = client.get("/api/v1/models").json()["data"]
        entry = next(model for model in listed if model["model"] == EDIT_SEQUENCE)
        assert (entry["type"], entry["price"]["actual"]["base_price"]) == ("Image", "0.032")
        assert [model["display_console"] for model in listed].count(False) == 1
        fields = client.get(entry["schema"]).json()["components"]["schemas"]["Input"]
        assert len(fields["properties"]["size"]["enum"]) == 16
        assert fields["required"] == ["model", "prompt", "images"]
        assert fields["properties"]["images"]["maxItems"] == 14


def test_history_is_newest_first_filtered_and_paged(client: httpx2.Client) -> None:
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


def test_an_empty_balance_refuses_with_402() -> None:
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


def test_a_wrong_key_or_path_is_a_401(api: Emulator, client: httpx2.Client) -> None:
    wrong = client.post(SUBMIT, json={}, headers={"Authorization": "Bearer wrong"})
    nowhere = client.get("/api/v1/model/predictions")
    for answer in (wrong, nowhere):
        assert answer.status_code == 401
        assert answer.json()["msg"] == "unauthorized" and answer.json()["data"] is None
        assert answer.headers["X-Request-ID"] == answer.json()["request_id"]
    public = client.get("/public/v1/balance", headers={"Authorization": "Bearer wrong"}).json()
    assert set(public["error"]) == {"type", "code", "message", "param"}


def test_retention_headers_are_checked(client: httpx2.Client) -> None:
    header = "X-AtlasCloud-Object-Expiration-Hours"
    body = {"model": SEQUENCE, "prompt": "two"}
    assert client.post(SUBMIT, json=body, headers={header: "336"}).status_code == 200
    assert client.post(SUBMIT, json=body, headers={header: "0"}).status_code == 400


def test_an_upload_over_50_mb_is_413(client: httpx2.Client) -> None:
    files = {"file": ("big.png", bytes(50 * 1024 * 1024 + 1), "image/png")}
    assert client.post("/api/v1/model/uploadMedia", files=files).status_code == 413


# The faults of this API alone


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
    "layers-missing": each(lambda told: "layers" not in told),
    "layers-fewer": each(lambda told: "layers" not in told),
    "layers-odd": each(lambda told: "layers" not in told),
    "price-late": check_prices(False, False, False, True),
    "price-never": check_prices(False, False, False, False),
    "other-host-url": each(lambda told: told["urls"]["get"].startswith("https://poll.atlascloud.example/")),
}


@pytest.mark.parametrize("name", [f.name for f in faults("atlas") if f.op == "poll" and f.reach == "job"])
def test_an_odd_prediction_is_odd_in_every_poll(api: Emulator, client: httpx2.Client, name: str) -> None:
    before = api.charged_usd
    api.fault("poll", name)
    work_id = submitted(client, "one kite")
    polls = [client.get(f"/api/v1/model/prediction/{work_id}") for _ in range(4)]
    ODD_POLLS[name](polls)
    failed = polls[-1].json()["data"].get("status") in ("failed", "timeout", "canceled", "cancelled")
    free = failed or name in ("fewer", "empty-outputs")
    assert api.charged_usd - before == (0 if free else Decimal("0.032"))


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
def test_an_odd_submit_response_is_still_accepted(api: Emulator, client: httpx2.Client, name: str) -> None:
    before = len(api.accepted)
    api.fault("submit", name)
    assert ODD_SUBMITS[name](submit(client).json())
    assert len(api.accepted) == before + 1
    assert polled(client, api.accepted[-1])["id"] == api.accepted[-1]


def test_content_refused_at_once_is_not_accepted(api: Emulator, client: httpx2.Client) -> None:
    before = len(api.accepted)
    api.fault("submit", "moderated-before")
    refused = submit(client)
    assert refused.status_code == 400 and "content safety policy" in refused.json()["msg"]
    assert len(api.accepted) == before


# Layers and the modes of prompts

PRO_LAYERS = "bytedance/seedream-v5.0-pro/layer-decomposition"


def apart(client: httpx2.Client, **fields: Any) -> httpx2.Response:
    """Take an uploaded picture apart."""
    asked = {"model": PRO_LAYERS, "image": upload(client, picture()), **fields}
    return client.post(SUBMIT, json={name: value for name, value in asked.items() if value is not None})


def test_a_layer_job_gives_a_base_and_cut_out_layers(api: Emulator, client: httpx2.Client) -> None:
    before = api.charged_usd
    told = polled(client, apart(client, size="1K").json()["data"]["id"])
    images = [Image.open(io.BytesIO(client.get(url).content)) for url in told["outputs"]]
    assert [(image.format, image.mode) for image in images] == [("JPEG", "RGB"), *[("PNG", "RGBA")] * 3]
    assert [layer["z_index"] for layer in told["layers"]] == [0, 1, 2, 3]
    base, first = told["layers"][:2]
    assert "bounding_box" not in base and "name" not in base
    assert (first["name"], first["bounding_box"]["normalized"]) == ("element 1", [125, 125, 875, 875])
    assert first["bounding_box"]["absolute"] == [128, 128, 896, 896]
    assert api.charged_usd - before == 4 * Decimal("0.0225")


def test_a_switch_sets_the_number_of_layers() -> None:
    many = running("atlas", max_side=16, latency_s=0.0, layer_count=30)
    with many as api, httpx2.Client(base_url=api.base_url, headers=AUTH) as client:
        told = polled(client, apart(client, output_format="png").json()["data"]["id"])
    assert len(told["outputs"]) == len(told["layers"]) == 17
    assert told["outputs"][0].endswith("1.png")


@pytest.mark.parametrize(
    "fields",
    [
        {"size": "2048*2048"},
        {"size": "4K"},
        {"image": None},
        {"image": None, "images": ["https://a.example/1.png"]},
        {"output_format": "webp"},
        {"model": "bytedance/seedream-v5.0-pro/edit", "prompt_optimization_mode": "off"},
        {"model": "bytedance/seedream-v4.7/text-to-image", "prompt": "x", "prompt_expansion_mode": "quick"},
        {"model": "bytedance/seedream-v5.0-lite", "prompt": "x", "optimize_prompt_options": {"mode": "off"}},
        {"model": "bytedance/seedream-v5.0-lite", "prompt": "x", "optimize_prompt_options": "fast"},
    ],
)
def test_what_layers_and_modes_do_not_take_is_a_400(
    api: Emulator, client: httpx2.Client, fields: dict[str, Any]
) -> None:
    before = len(api.accepted)
    assert apart(client, **fields).status_code == 400
    assert len(api.accepted) == before


@pytest.mark.parametrize("name", ["layers-missing", "layers-fewer", "layers-odd"])
def test_a_list_of_layers_can_be_odd(api: Emulator, client: httpx2.Client, name: str) -> None:
    api.fault("poll", name)
    told = polled(client, apart(client).json()["data"]["id"])
    assert len(told["outputs"]) == 4
    assert {"layers-missing": "layers" not in told, "layers-fewer": len(told.get("layers", ())) == 3}.get(
        name, told.get("layers", [{}])[0].get("z_index") == "top"
    )
