"""The emulated WaveSpeedAI over real sockets: its own bodies, limits, prices and faults. The test moves the clock."""

from __future__ import annotations

import base64
import io
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

EMULATED = {"name": "wavespeed", "balance_usd": "1000"}

SEQUENCE = "bytedance/seedream-v5.0-lite/sequential"
EDIT_SEQUENCE = "bytedance/seedream-v5.0-lite/edit-sequential"
SUBMIT = f"/api/v3/{SEQUENCE}"


PICTURE = base64.b64encode(picture()).decode()


def generic_api() -> Api:
    """Return this API as the generic tests need it."""
    model = "bytedance/seedream-v5.0-lite/sequential"

    def put(client: httpx2.Client) -> httpx2.Response:
        asked = {"filename": "cat.png", "size": len(picture()), "content_type": "image/png"}
        upload = client.post("/api/v3/media/uploads", json=asked).json()["data"]["upload"]
        return httpx2.put(upload["url"], content=picture(), headers=upload["headers"])

    return Api(
        "wavespeed",
        lambda c, prompt: c.post(f"/api/v3/{model}", json={"prompt": prompt}),
        lambda body: body["data"]["id"],
        lambda c, job_id: c.get(f"/api/v3/predictions/{quote(job_id, safe='')}/result"),
        lambda body: body["data"]["status"],
        lambda body: body["data"]["outputs"],
        lambda body: body.get("error_code", body["code"]),
        "0.035",
        {"balance_usd": "1000"},
        {
            "upload": lambda c: c.post("/api/v3/media/uploads", json={"filename": "cat.png", "size": 1}),
            "put": put,
            "form": lambda c: c.post("/api/v3/media/upload/binary", files=FORM_FILE),
            "models": lambda c: c.get("/api/v3/models"),
            "price": lambda c: c.post("/api/v3/model/price", json={"model_id": model, "inputs": {"prompt": "two"}}),
            "history": lambda c: c.post("/api/v3/predictions", json={"page": 1, "page_size": 20}),
            "balance": lambda c: c.get("/api/v3/balance"),
        },
    )


def submit(
    client: httpx2.Client, prompt: str = "two lighthouses", model: str = SEQUENCE, **fields: Any
) -> httpx2.Response:
    return client.post(f"/api/v3/{model}", json={"prompt": prompt, **fields})


def submitted(client: httpx2.Client, prompt: str = "two lighthouses", model: str = SEQUENCE, **fields: Any) -> str:
    return str(submit(client, prompt, model, **fields).json()["data"]["id"])


def poll(client: httpx2.Client, work_id: str) -> httpx2.Response:
    return client.get(f"/api/v3/predictions/{quote(work_id, safe='')}/result")


def polled(client: httpx2.Client, work_id: str) -> dict[str, Any]:
    data: dict[str, Any] = poll(client, work_id).json()["data"]
    return data


def ticket(client: httpx2.Client, data: bytes, **fields: Any) -> dict[str, Any]:
    asked = {"filename": "cat.png", "size": len(data), "content_type": "image/png", **fields}
    told: dict[str, Any] = client.post("/api/v3/media/uploads", json=asked).json()["data"]
    return told


def upload(client: httpx2.Client, data: bytes) -> str:
    told = ticket(client, data)
    put = httpx2.put(told["upload"]["url"], content=data, headers=told["upload"]["headers"])
    assert put.status_code == 200
    return str(told["download_url"])


def history(client: httpx2.Client, **query: Any) -> list[dict[str, Any]]:
    asked = {"page": 1, "page_size": 20, **query}
    items: list[dict[str, Any]] = client.post("/api/v3/predictions", json=asked).json()["data"]["items"]
    return items


# The usual way


def test_uploaded_images_are_edited_into_a_sequence_of_real_images(api: Emulator, client: httpx2.Client) -> None:
    url = upload(client, picture())
    before = api.charged_usd
    fields = {"images": [url], "max_images": 3, "size": "2304*1728", "output_format": "png"}
    answer = submit(client, "make three warm versions", EDIT_SEQUENCE, **fields)
    told = answer.json()
    assert (answer.status_code, told["code"], told["message"]) == (200, 200, "success")
    assert told["data"]["input"] == {"prompt": "make three warm versions", **fields}
    assert (told["data"]["status"], told["data"]["outputs"], told["data"]["model"]) == ("created", [], EDIT_SEQUENCE)
    done = client.get(told["data"]["urls"]["get"]).json()["data"]
    assert (done["status"], done["has_nsfw_contents"], done["error"]) == ("completed", [False] * 3, "")
    pictures = [client.get(output) for output in done["outputs"]]
    assert [picture.headers["content-type"] for picture in pictures] == ["image/png"] * 3
    assert [Image.open(io.BytesIO(picture.content)).size for picture in pictures] == [(48, 36)] * 3
    assert client.get(url).content == picture()
    assert api.charged_usd - before == Decimal("0.105")
    assert api.accepted[-1] == told["data"]["id"]


def test_without_a_size_an_edit_follows_its_first_reference(client: httpx2.Client) -> None:
    wide = upload(client, picture(size=(32, 16)))
    output = polled(client, submitted(client, model=EDIT_SEQUENCE, images=[wide]))["outputs"][0]
    assert Image.open(io.BytesIO(client.get(output).content)).size == (32, 16)
    plain = polled(client, submitted(client, size=None))["outputs"][0]
    assert plain.endswith(".jpg") and Image.open(io.BytesIO(client.get(plain).content)).size == (48, 48)


def test_a_prediction_ends_when_its_time_has_passed() -> None:
    clock = HandClock()
    with (
        running("wavespeed", max_side=16, latency_s=9.0, clock=clock) as api,
        httpx2.Client(base_url=api.base_url, headers=AUTH) as client,
    ):
        work_id = submitted(client)
        clock.now += 8.9
        assert (polled(client, work_id)["status"], polled(client, work_id)["outputs"]) == ("processing", [])
        clock.now += 0.1
        done = polled(client, work_id)
        assert (done["status"], done["timings"]) == ("completed", {"inference": 9000})


def test_sync_mode_returns_the_images_or_gives_up_with_5004() -> None:
    clock = HandClock()
    with (
        running("wavespeed", max_side=16, sync_hold_s=0.0, latency_s=5.0, clock=clock) as api,
        httpx2.Client(base_url=api.base_url, headers=AUTH) as client,
    ):
        told = submit(client, enable_sync_mode=True).json()["data"]
        assert (told["status"], told["code"]) == ("processing", 5004)
        assert told["error"].startswith("Sync mode timed out") and told["id"] == api.accepted[-1]
        clock.now += 5
        assert polled(client, told["id"])["status"] == "completed"
    with (
        running("wavespeed", max_side=16, clock=clock) as api,
        httpx2.Client(base_url=api.base_url, headers=AUTH) as client,
    ):
        assert submit(client, enable_sync_mode=True).json()["data"]["status"] == "completed"
        failed = submit(client, "x [[emulate: moderated]]", enable_sync_mode=True).json()["data"]
        assert (failed["status"], failed["code"]) == ("failed", 1200)
        late = submit(client, "x [[emulate: sync-timeout]]", enable_sync_mode=True).json()["data"]
        assert late["code"] == 5004 and polled(client, late["id"])["status"] == "completed"


def test_base64_is_naked_when_it_is_asked_for(client: httpx2.Client) -> None:
    output = polled(client, submitted(client, enable_base64_output=True))["outputs"][0]
    assert Image.open(io.BytesIO(base64.b64decode(output, validate=True))).size == (48, 48)


@pytest.mark.parametrize("default", [1, 2])
def test_the_default_of_max_images_is_a_switch(default: int) -> None:
    with (
        running("wavespeed", max_side=16, default_count=default) as api,
        httpx2.Client(base_url=api.base_url, headers=AUTH) as client,
    ):
        assert len(polled(client, submitted(client))["outputs"]) == default


@pytest.mark.parametrize("reference", ["https://example.org/cat.png", "not base64 at all!"])
def test_an_unreadable_input_fails_with_1402_and_costs_nothing(
    api: Emulator, client: httpx2.Client, reference: str
) -> None:
    before = api.charged_usd
    told = polled(client, submitted(client, model=EDIT_SEQUENCE, images=[reference]))
    assert (told["status"], told["code"]) == ("failed", 1402) and "image" in told["error"]
    assert api.charged_usd == before


@pytest.mark.parametrize(
    ("model", "fields", "about"),
    [
        (SEQUENCE, {"prompt": ""}, "prompt"),
        (SEQUENCE, {"max_images": 16}, "max_images"),
        (SEQUENCE, {"max_images": "2"}, "max_images"),
        (SEQUENCE, {"size": "2048x2048"}, "size"),
        (SEQUENCE, {"size": "1024*1024"}, "area"),
        (SEQUENCE, {"size": "8192*500"}, "aspect"),
        (SEQUENCE, {"output_format": "gif"}, "output_format"),
        (EDIT_SEQUENCE, {}, "images"),
        (EDIT_SEQUENCE, {"images": [PICTURE] * 11}, "at most 10"),
        (EDIT_SEQUENCE, {"images": [PICTURE] * 10, "max_images": 6}, "must not exceed 15"),
    ],
)
def test_a_request_outside_the_limits_is_a_400(
    api: Emulator, client: httpx2.Client, model: str, fields: dict[str, Any], about: str
) -> None:
    before = len(api.accepted)
    body = {"prompt": "two", **fields}
    priced = client.post("/api/v3/model/price", json={"model_id": model, "inputs": body})
    for answer in (client.post(f"/api/v3/{model}", json=body), priced):
        assert (answer.status_code, answer.json()["code"], answer.json()["data"]) == (400, 400, None)
        assert about in answer.json()["message"]
    assert len(api.accepted) == before


def test_an_unknown_model_or_key_is_refused(client: httpx2.Client) -> None:
    assert submit(client, model="bytedance/seedream-v9").status_code == 404
    wrong = client.post(SUBMIT, json={}, headers={"Authorization": "Bearer wrong"})
    assert (wrong.status_code, wrong.json()["code"]) == (401, 401)


@pytest.mark.parametrize("status", [400, 402, 403])
def test_an_empty_balance_refuses_with_the_status_of_the_switch(status: int) -> None:
    with (
        running("wavespeed", max_side=16, balance_usd="0.08", no_funds_status=status) as api,
        httpx2.Client(base_url=api.base_url, headers=AUTH) as client,
    ):
        assert submit(client, max_images=2).status_code == 200
        assert client.get("/api/v3/balance").json()["data"] == {"balance": 0.01}
        refused = submit(client)
        assert refused.status_code == status and "Insufficient credits" in refused.json()["message"]
        assert len(api.accepted) == 1


def test_a_tickets_put_takes_exactly_its_headers_and_no_key(client: httpx2.Client) -> None:
    told = ticket(client, picture())
    assert told["upload"]["method"] == "PUT" and told["upload"]["headers"] == {"Content-Type": "image/png"}
    url = told["upload"]["url"]
    assert client.put(url, content=picture(), headers=told["upload"]["headers"]).status_code == 400
    assert httpx2.put(url, content=picture()).status_code == 403
    assert httpx2.put(url, content=b"less", headers=told["upload"]["headers"]).status_code == 403
    assert httpx2.put(url.replace("_put/", "_put/x"), content=picture()).status_code == 403
    assert client.get(told["download_url"]).status_code == 404
    assert client.post("/api/v3/media/uploads", json={"filename": "x"}).status_code == 400
    assert client.post("/api/v3/media/uploads", json={"filename": "x", "size": 1 << 28}).status_code == 413


def test_the_form_upload_takes_one_file(client: httpx2.Client) -> None:
    told = client.post("/api/v3/media/upload/binary", files={"file": ("cat.png", picture(), "image/png")}).json()[
        "data"
    ]
    assert (told["type"], told["filename"], told["size"]) == ("image", "cat.png", len(picture()))
    assert client.get(told["download_url"]).content == picture()
    assert client.post("/api/v3/media/upload/binary", files={"other": ("a", b"a")}).status_code == 400


def test_the_model_list_has_prices_and_schemas(client: httpx2.Client) -> None:
    listed = client.get("/api/v3/models").json()["data"]
    entry = next(model for model in listed if model["model_id"] == EDIT_SEQUENCE)
    (schema,) = entry["api_schema"]["api_schemas"]
    assert (entry["base_price"], schema["api_path"]) == (0.035, f"/api/v3/{EDIT_SEQUENCE}")
    assert schema["request_schema"]["required"] == ["prompt", "images"]
    assert len(listed) > 19 and len({model["model_id"] for model in listed}) == len(listed)


def test_a_price_is_for_the_request_or_for_one_image(client: httpx2.Client) -> None:
    asked = {"model_id": EDIT_SEQUENCE, "inputs": {"prompt": "two", "images": [PICTURE], "max_images": 2}}
    told = client.post("/api/v3/model/price", json=asked).json()["data"]
    assert (told["price"], told["discounted_price"], told["currency"]) == (0.07, 0.07, "USD")
    assert client.post("/api/v3/model/pricing", json=asked).json()["data"] == {"unit_price": 0.035, "currency": "USD"}


def test_history_is_newest_first_filtered_and_paged(client: httpx2.Client) -> None:
    first = submitted(client, "history one")
    second = submitted(client, "history two [[emulate: moderated]]")
    assert [item["id"] for item in history(client)[:2]] == [second, first]
    assert "input" not in history(client)[0]
    assert history(client, page=2, page_size=1)[0]["id"] == first
    assert history(client, status="failed", page_size=1)[0]["id"] == second
    assert history(client, model=EDIT_SEQUENCE, status="failed", page_size=1)[0]["id"] != second
    assert history(client, created_after="2026-01-01T00:00:00Z") == []
    assert history(client, created_before="1970-01-01T00:00:01Z") == []
    assert client.post("/api/v3/predictions/delete", json={"ids": [second]}).json()["code"] == 200
    assert history(client)[0]["id"] == first
    assert polled(client, second)["status"] == "deleted"
    assert client.post("/api/v3/predictions", json={"page": 1}).status_code == 400
    assert client.post("/api/v3/predictions", json={"page": 1, "page_size": 101}).status_code == 400


@pytest.mark.parametrize("field", ["inputs", "input"])
def test_history_shows_requests_where_they_are_asked_for(field: str) -> None:
    with (
        running("wavespeed", max_side=16, history_shows=field) as api,
        httpx2.Client(base_url=api.base_url, headers=AUTH) as client,
    ):
        submitted(client, max_images=2)
        assert history(client, include_inputs=True)[0][field] == {"prompt": "two lighthouses", "max_images": 2}
        assert field not in history(client)[0]


# The faults of this API alone


def ends(status: str, **expected: Any) -> Callable[[list[dict[str, Any]]], None]:
    def check(polls: list[dict[str, Any]]) -> None:
        for told in polls:
            assert (told["status"], told["outputs"]) == (status, [])
            assert {name: told.get(name) for name in expected} == expected

    return check


def check_unknown(polls: list[dict[str, Any]]) -> None:
    assert [told["status"] for told in polls] == ["warming", "warming", "completed"]


def each(check: Callable[[dict[str, Any]], bool]) -> Callable[[list[dict[str, Any]]], None]:
    def checked(polls: list[dict[str, Any]]) -> None:
        assert all(told["status"] == "completed" and check(told) for told in polls)

    return checked


ODD_POLLS: dict[str, Callable[[list[dict[str, Any]]], None]] = {
    "unknown-status": check_unknown,
    "failed-200": ends("failed", code=1403),
    "no-code": ends("failed", code=None, error="something went wrong"),
    "moderated": ends("failed", code=1200),
    **{f"code-{code}": ends("failed", code=code) for code in (1400, 1401, 1402, 1403, 1405, 1406, 1407, 5000, 5003)},
    "cancelled": ends("cancelled"),
    "timeout-status": ends("timeout"),
    "deleted": ends("deleted"),
    "empty-outputs": each(lambda told: told["outputs"] == []),
    "fewer": each(lambda told: told["outputs"] == []),
    "outputs-string": each(lambda told: isinstance(told["outputs"], str)),
    "outputs-objects": each(lambda told: told["outputs"][0]["url"].startswith("http")),
    "frame-missing": each(lambda told: told["outputs"] == [None]),
    "bare": each(lambda told: set(told) == {"id", "outputs", "urls", "status", "created_at"}),
}
FREE = {name for name in ODD_POLLS if "code" in name} | {
    "failed-200", "moderated", "cancelled", "timeout-status", "deleted", "fewer", "frame-missing", "empty-outputs"
}  # fmt: skip


@pytest.mark.parametrize("name", [f.name for f in faults("wavespeed") if f.op == "poll" and f.reach == "job"])
def test_an_odd_prediction_is_odd_in_every_poll(api: Emulator, client: httpx2.Client, name: str) -> None:
    before = api.charged_usd
    api.fault("poll", name)
    work_id = submitted(client, "one kite")
    ODD_POLLS[name]([polled(client, work_id) for _ in range(3)])
    assert api.charged_usd - before == (0 if name in FREE else Decimal("0.035"))


def test_a_ticket_can_be_odd(api: Emulator, client: httpx2.Client) -> None:
    api.fault("upload", "odd-ticket")
    assert ticket(client, picture())["upload"]["method"] == "POST"


# Seedream 5.5, 5.0 pro and flash: a ratio and a resolution

V5_5 = "bytedance/seedream-v5.5"


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (V5_5, {"size": "2048*2048"}),
        (V5_5, {"model": V5_5}),
        (V5_5, {"max_images": 1}),
        (V5_5, {"images": [PICTURE]}),
        (V5_5, {"resolution": "2K"}),
        (V5_5, {"aspect_ratio": "7:5"}),
        (V5_5, {"background": "transparent", "output_format": "jpeg"}),
        (f"{V5_5}/edit", {}),
        (f"{V5_5}/edit", {"images": [PICTURE] * 11}),
        ("bytedance/seedream-v5.0-pro", {"background": "transparent"}),
        ("bytedance/seedream-v5.0-flash", {"resolution": "3k"}),
    ],
)
def test_a_model_by_ratio_refuses_other_fields(
    api: Emulator, client: httpx2.Client, model: str, fields: dict[str, Any]
) -> None:
    before = len(api.accepted)
    assert client.post(f"/api/v3/{model}", json={"prompt": "a kite", **fields}).status_code == 400
    assert len(api.accepted) == before


@pytest.mark.parametrize(
    ("model", "fields", "usd", "shape", "kind"),
    [
        (V5_5, {}, "0.02", (48, 48), "png"),
        (V5_5, {"resolution": "2k", "aspect_ratio": "9:16"}, "0.035", (27, 48), "png"),
        (V5_5, {"resolution": "3k", "aspect_ratio": "16:9"}, "0.07", (48, 27), "png"),
        (f"{V5_5}/edit", {"images": [PICTURE] * 3, "resolution": "1.5k"}, "0.044", (48, 48), "png"),
        ("bytedance/seedream-v5.0-pro/edit", {"images": [PICTURE] * 3, "resolution": "2k"}, "0.096", (48, 48), "jpg"),
        ("bytedance/seedream-v5.0-flash", {"resolution": "2k"}, "0.027", (48, 48), "jpg"),
    ],
)
def test_a_model_by_ratio_bills_tier_and_references(
    api: Emulator, client: httpx2.Client, model: str, fields: dict[str, Any], usd: str, shape: Any, kind: str
) -> None:
    before = api.charged_usd
    asked = {"model_id": model, "inputs": {"prompt": "a kite", **fields}}
    assert client.post("/api/v3/model/price", json=asked).json()["data"]["price"] == float(usd)
    (output,) = polled(client, submitted(client, model=model, **fields))["outputs"]
    assert output.endswith(kind)
    width, height = Image.open(io.BytesIO(client.get(output).content)).size
    assert abs(width - shape[0]) <= 1 and abs(height - shape[1]) <= 1
    assert api.charged_usd - before == Decimal(usd)


# Layers


def apart(client: httpx2.Client, family: str, **fields: Any) -> httpx2.Response:
    body = {"image": PICTURE, **fields}
    return client.post(
        f"/api/v3/bytedance/seedream-{family}/layer-decomposition",
        json={name: value for name, value in body.items() if value is not None},
    )


@pytest.mark.parametrize(
    ("family", "fields", "usd", "base"),
    [
        ("v5.0-pro", {"resolution": "1k", "prompt_optimization_mode": "fast"}, "0.765", "JPEG"),
        ("v5.0-pro", {"resolution": "2k", "output_format": "png"}, "1.53", "PNG"),
        ("v5.0-flash", {"output_format": "png"}, "0.459", "PNG"),
        ("v5.5", {"resolution": "1.5k", "prompt": "the cup"}, "2.008", "PNG"),
    ],
)
def test_a_layer_job_is_charged_as_its_most_images(
    api: Emulator, client: httpx2.Client, family: str, fields: dict[str, Any], usd: str, base: str
) -> None:
    priced = {"model_id": f"bytedance/seedream-{family}/layer-decomposition", "inputs": {"image": PICTURE, **fields}}
    assert client.post("/api/v3/model/price", json=priced).json()["data"]["price"] == float(usd)
    before = api.charged_usd
    told = polled(client, apart(client, family, **fields).json()["data"]["id"])
    images = [Image.open(io.BytesIO(client.get(url).content)) for url in told["outputs"]]
    assert [image.format for image in images] == [base, "PNG", "PNG", "PNG"]
    assert [image.mode for image in images[1:]] == ["RGBA"] * 3 and "layers" not in told
    assert api.charged_usd - before == Decimal(usd)


@pytest.mark.parametrize(
    ("family", "fields"),
    [
        ("v5.0-pro", {"image": None}),
        ("v5.0-pro", {"image": None, "images": [PICTURE]}),
        ("v5.0-pro", {"images": [PICTURE]}),
        ("v5.0-pro", {"aspect_ratio": "1:1"}),
        ("v5.0-pro", {"resolution": "3k"}),
        ("v5.0-flash", {"prompt_optimization_mode": "fast"}),
        ("v5.5", {"resolution": "3k"}),
        ("v5.5", {"output_format": "png"}),
        ("v5.5", {"background": "transparent"}),
    ],
)
def test_what_layers_do_not_take_is_a_400(
    api: Emulator, client: httpx2.Client, family: str, fields: dict[str, Any]
) -> None:
    before = len(api.accepted)
    assert apart(client, family, **fields).status_code == 400
    assert len(api.accepted) == before
