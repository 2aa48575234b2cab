"""The emulated Novita AI over real sockets: its own bodies, limits, prices and faults. The test moves the clock."""

from __future__ import annotations

import base64
import io
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from PIL import Image

from support.clients import AUTH
from support.clocks import until
from support.emulated_apis import Api
from support.pictures import picture
from triptych_emulators import Emulator, faults, running
from triptych_emulators.novita import REFUSALS, UPSTREAM

EMULATED = {"name": "novita"}

LITE = "/v3/seedream-5.0-lite"
V4 = "/v3/seedream-4.0"


PLAIN = base64.b64encode(picture()).decode()
URI = f"data:image/png;base64,{PLAIN}"


def generic_api() -> Api:
    """Return this API as the generic tests need it."""
    return Api(
        "novita",
        lambda c, prompt: c.post("/v3/seedream-5.0-lite", json={"prompt": prompt}),
        lambda body: "",
        None,
        lambda body: "done",
        lambda body: body["images"],
        lambda body: body["error"]["code"] if "error" in body else body["reason"],
        "0.035",
    )


def generate(client: httpx2.Client, count: int | None = None, path: str = LITE, **fields: Any) -> httpx2.Response:
    sequence: dict[str, Any] = {}
    if count is not None:
        most = {"max_images": count}
        sequence = most if path == V4 else {"sequential_image_generation_options": most}
        sequence = {"sequential_image_generation": "auto", **sequence}
    return client.post(path, json={"prompt": "two lighthouses", **sequence, **fields})


# The usual way


def test_references_become_a_sequence_of_real_images(api: Emulator, client: httpx2.Client) -> None:
    before = api.charged_usd
    answer = generate(client, 3, image=[URI], size="2304x1728", watermark=False)
    assert (answer.status_code, set(answer.json())) == (200, {"images"})
    pictures = [client.get(url) for url in answer.json()["images"]]
    assert [Image.open(io.BytesIO(picture.content)).size for picture in pictures] == [(48, 36)] * 3
    assert [picture.headers["content-type"] for picture in pictures] == ["image/jpeg"] * 3
    assert api.charged_usd - before == Decimal("0.105")


def test_seedream_4_has_its_own_field_names(api: Emulator, client: httpx2.Client) -> None:
    before = api.charged_usd
    assert len(generate(client, 2, V4, images=[URI]).json()["images"]) == 2
    assert len(generate(client, 2, LITE, images=[URI], max_images=9).json()["images"]) == 2  # unknown there, ignored
    assert len(generate(client, 2, "/v3/seedream-4.5", image=[URI]).json()["images"]) == 2
    assert api.charged_usd - before == 2 * (Decimal("0.03") + Decimal("0.035") + Decimal("0.04"))


def test_urls_plain_base64_and_data_uris_are_references(client: httpx2.Client) -> None:
    url = generate(client).json()["images"][0]
    assert generate(client, image=[url, PLAIN, URI]).status_code == 200


@pytest.mark.parametrize(("inline", "refused"), [("uri", PLAIN), ("plain", URI)])
def test_which_base64_is_taken_is_a_switch(inline: str, refused: str) -> None:
    with (
        running("novita", max_side=16, inline=inline) as api,
        httpx2.Client(base_url=api.base_url, headers=AUTH) as client,
    ):
        answer = generate(client, image=[refused])
        assert answer.status_code == 400 and "base64" in answer.json()["message"]
        assert generate(client, image=[URI if refused == PLAIN else PLAIN]).status_code == 200


@pytest.mark.parametrize("given", ["test-key", "Bearer test-key", "bearer test-key"])
def test_a_key_is_taken_with_and_without_its_scheme(client: httpx2.Client, given: str) -> None:
    assert generate(client).status_code == 200
    answer = client.post(LITE, json={"prompt": "a kite"}, headers={"Authorization": given})
    assert answer.status_code == 200


@pytest.mark.parametrize("given", ["", "wrong", "Bearer wrong", "Basic test-key"])
def test_a_wrong_key_is_a_403(client: httpx2.Client, given: str) -> None:
    answer = client.post(LITE, json={"prompt": "a kite"}, headers={"Authorization": given})
    told = answer.json()
    assert (answer.status_code, told["code"], told["reason"]) == (403, 403, "INVALID_API_KEY")
    assert told["message"] == "invalid api-key" and told["metadata"]["trace_id"]


@pytest.mark.parametrize(
    ("path", "fields", "about"),
    [
        (LITE, {"prompt": ""}, "prompt is required"),
        (LITE, {"image": URI}, "array of strings"),
        (LITE, {"image": [{"url": "https://x.example/1.png"}]}, "array of strings"),
        (LITE, {"image": [URI] * 15}, "at most 14"),
        (V4, {"images": [URI] * 11}, "at most 10"),
        (LITE, {"image": ["https://example.org/cat.png"]}, "unreachable"),
        (LITE, {"image": ["aGVsbG8="]}, "cannot decode"),
        (LITE, {"size": "1152x2048"}, "3686400"),
        (LITE, {"size": "4096x4096"}, "10404496"),
        (LITE, {"size": "4K"}, "size"),
        (LITE, {"size": "16384x256"}, "aspect ratio"),
        (V4, {"size": "1280x720"}, "1048576"),
        (LITE, {"watermark": "no"}, "watermark"),
        (LITE, {"sequential_image_generation": "on"}, "sequential_image_generation"),
        (V4, {"sequential_image_generation": "auto", "max_images": 16}, "max_images"),
        (V4, {"sequential_image_generation": "auto", "max_images": 15, "images": [URI]}, "must not exceed 15"),
    ],
)
def test_a_request_outside_the_limits_is_a_400(
    api: Emulator, client: httpx2.Client, path: str, fields: dict[str, Any], about: str
) -> None:
    before = len(api.accepted)
    answer = generate(client, path=path, **fields)
    assert (answer.status_code, answer.json()["reason"]) == (400, "INVALID_REQUEST_BODY")
    assert about in answer.json()["message"] and len(api.accepted) == before


def test_a_size_may_be_a_word(client: httpx2.Client) -> None:
    assert generate(client, size="3K").status_code == generate(client, path=V4, size="1K").status_code == 200
    assert client.post("/v3/seedream-9", json={}).json()["reason"] == "PATH_NOT_FOUND"
    assert client.get("/v3/async/task-result", params={"task_id": "x"}).status_code == 404


def test_a_response_is_held_until_its_time_has_come() -> None:
    with running("novita", max_side=16, latency_s=1e6) as api:
        with (
            httpx2.Client(base_url=api.base_url, headers=AUTH, timeout=httpx2.Timeout(60, read=0.05)) as client,
            pytest.raises(httpx2.TimeoutException),
        ):
            generate(client)
        until(lambda: len(api.accepted) == 1)


# The faults of this API alone


@pytest.mark.parametrize(("name", "status", "reason", "message"), REFUSALS)
def test_every_documented_error_can_be_asked_for(
    api: Emulator, client: httpx2.Client, name: str, status: int, reason: str, message: str
) -> None:
    before = len(api.accepted)
    api.fault("submit", name, retry_after=3)
    answer = generate(client)
    told = answer.json()
    assert (answer.status_code, told["code"], told["reason"], told["message"]) == (status, status, reason, message)
    assert answer.headers["retry-after"] == "3" and len(api.accepted) == before


@pytest.mark.parametrize(("name", "status", "code", "message"), UPSTREAM)
def test_the_origins_errors_come_in_its_own_shape(
    api: Emulator, client: httpx2.Client, name: str, status: int, code: str, message: str
) -> None:
    answer = generate(client, prompt=f"a kite [[emulate: {name}]]")
    assert (answer.status_code, answer.json()) == (status, {"error": {"code": code, "message": message}})


def test_every_error_can_be_in_the_origins_shape() -> None:
    with (
        running("novita", error_shape="upstream") as api,
        httpx2.Client(base_url=api.base_url, headers=AUTH) as client,
    ):
        assert generate(client, size="1x1").json()["error"]["code"] == "INVALID_REQUEST_BODY"


ODD: dict[str, tuple[Any, int]] = {
    "fewer": (lambda told: len(told["images"]) == 2, 2),
    "empty": (lambda told: told == {"images": []}, 0),
    "no-images": (lambda told: told == {}, 0),
    "frame-failed": (lambda told: [bool(url) for url in told["images"]] == [True, False, True], 2),
    "objects": (lambda told: [entry["image_url"].startswith("http") for entry in told["images"]] == [True] * 3, 3),
    "moderated-200": (lambda told: "Sensitive" in told["error"]["code"], 0),
    "task-id": (lambda told: set(told) == {"task_id"}, 3),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_response_is_charged_for_its_images(api: Emulator, client: httpx2.Client, name: str) -> None:
    before = api.charged_usd
    api.fault("submit", name)
    check, came = ODD[name]
    answer = generate(client, 3)
    assert answer.status_code == 200 and check(answer.json())
    assert api.charged_usd - before == came * Decimal("0.035")


def test_every_fault_of_a_job_is_exercised_here() -> None:
    assert {fault.name for fault in faults("novita") if fault.reach == "job"} == set(ODD)
