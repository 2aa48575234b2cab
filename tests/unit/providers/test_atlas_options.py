"""Atlas Cloud's parameters, layers and retention: the bytes that go out, and what is read back."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from support import flows
from support.flows import SENT, SENT_AT, answer, drive, lost
from triptych import catalog
from triptych.core import errors
from triptych.core.models import Done, Layer, Pending, Reference
from triptych.core.offers import Operation, Quote
from triptych.core.requests import Request
from triptych.providers import HttpResponse, SubmitTimes, atlas

TICKET = "0123456789abcdef0123456789abcdef"
POLL_URL = f"https://api.atlascloud.ai/api/v1/model/prediction/{TICKET}"
IMAGE = "https://host.example/0.png"
LAYERS = {"layers": True}

edit = partial(flows.edit, atlas.PROVIDER)
ACCEPTED = answer(body={"code": 200, "data": {"id": TICKET, "status": "processing", "urls": {"get": POLL_URL}}})


def sent(*given: Any, **changes: Any) -> Any:
    """Return the body of a submit."""
    _, (call,) = drive(atlas.submit(edit(*given, **changes)), ACCEPTED)
    return call.json


# Parameters


@pytest.mark.parametrize("operation", [o for o in Operation if o is not Operation.LAYERS])
@pytest.mark.parametrize("mode", ["standard", "fast"])
@pytest.mark.parametrize(
    ("family", "field"),
    [
        ("seedream-5.0-lite", {"optimize_prompt_options": {"mode": "MODE"}}),
        ("seedream-4.7", {"prompt_expansion_mode": "MODE"}),
        ("seedream-5.0-pro", {"prompt_optimization_mode": "MODE"}),
    ],
)
def test_the_prompts_optimisation_is_each_models_own_field(
    operation: Operation, mode: str, family: str, field: dict[str, Any]
) -> None:
    if family == "seedream-5.0-pro" and operation.sequential:
        return
    said = {name: {"mode": mode} if isinstance(value, dict) else mode for name, value in field.items()}
    without = sent(operation, family)
    assert sent(operation, family, params={"prompt_optimization": mode}) == {**without, **said}
    assert not said.keys() & without.keys()


@pytest.mark.parametrize(
    ("family", "params", "fault"),
    [
        ("seedream-5.0-lite", {"prompt_optimization": "off"}, "off.* must be one of fast, standard"),
        ("seedream-4.5", {"prompt_optimization": "fast"}, r"It has: result_hours \(a whole number from 1 to 336\)"),
        ("seedream-4.7", {"web_search": True}, r"It has: prompt_optimization \(fast, standard\), result_hours"),
        ("seedream-5.5", {"watermark": True}, "has no parameter .*watermark"),
        ("seedream-5.5", {"result_hours": 0}, "a whole number from 1 to 336"),
        ("seedream-5.5", {"history_hours": 337}, "a whole number from 1 to 336"),
        ("seedream-5.5", {"history_hours": True}, "a whole number from 1 to 336"),
    ],
)
def test_a_parameter_that_the_model_lacks_is_refused(family: str, params: dict[str, Any], fault: str) -> None:
    offer = edit(Operation.EDIT, family).offer
    with pytest.raises(errors.OutOfLimits, match=fault):
        catalog.check_params(offer, Request("edit_chain", ("x",), ("a",), params=params))


# How long things are kept


@pytest.mark.parametrize("operation", list(Operation))
def test_hours_are_headers_and_not_in_the_body(operation: Operation) -> None:
    family = "seedream-5.0-pro" if operation is Operation.LAYERS else "seedream-5.0-lite"
    hours = {"result_hours": 336, "history_hours": 1}
    plain = next(atlas.submit(edit(operation, family)))
    pending, (call,) = drive(atlas.submit(edit(operation, family, params=hours)), ACCEPTED)
    assert call.headers == {
        "X-AtlasCloud-Object-Expiration-Hours": "336",
        "X-AtlasCloud-Request-Retention-Hours": "1",
    }
    assert (plain.headers, call.json) == ({}, plain.json)
    assert pending == Pending(TICKET, f"{POLL_URL}#336")


def test_the_second_spelling_has_the_hours_too() -> None:
    refused = answer(400, {"code": 400, "msg": "image is required and must be a string", "data": None})
    asked = edit(Operation.EDIT, params={"result_hours": 2})
    _, (first, second) = drive(atlas.submit(asked), refused, ACCEPTED)
    assert first.headers == second.headers == {"X-AtlasCloud-Object-Expiration-Hours": "2"}


@pytest.mark.parametrize(
    ("poll_url", "asked", "lifetime_s"),
    [
        (f"{POLL_URL}#2", POLL_URL, 2 * 3600),
        (POLL_URL, POLL_URL, 24 * 3600),
        (None, POLL_URL.removeprefix("https://api.atlascloud.ai"), 24 * 3600),
        ("#48", POLL_URL.removeprefix("https://api.atlascloud.ai"), 48 * 3600),
        (f"{POLL_URL}#x9", POLL_URL, 24 * 3600),
    ],
)
def test_the_lifetime_of_results_follows_the_request(poll_url: str | None, asked: str, lifetime_s: float) -> None:
    done = {"code": 200, "data": {"id": TICKET, "status": "completed", "outputs": [IMAGE]}}
    result, (call,) = drive(atlas.poll(TICKET, poll_url), answer(body=done))
    assert isinstance(result, Done) and (call.path, result.url_lifetime_s) == (asked, lifetime_s)
    running, _ = drive(atlas.poll(TICKET, poll_url), answer(body={"data": {"id": TICKET, "status": "processing"}}))
    assert running == Pending(TICKET, poll_url)
    _, (charge,) = drive(atlas.charge(TICKET, poll_url), answer(body=done))
    assert charge.path == asked


def empty() -> HttpResponse:
    return answer(body={"code": 200, "data": {"items": [], "pageNo": 1, "pageSize": 20, "total": 0}})


def test_a_short_history_proves_nothing_once_it_is_over() -> None:
    short, after = edit(params={"history_hours": 1}), SubmitTimes(SENT_AT, 3601.0)
    assert drive(atlas.find(short, lost(short), SENT, frozenset()), empty())[0] is None
    with pytest.raises(errors.Unclear, match="may no longer reach back"):
        drive(atlas.find(short, lost(short), after, frozenset()), empty())
    for plain in (edit(), edit(params={"history_hours": 336})):
        assert drive(atlas.find(plain, lost(plain), after, frozenset()), empty())[0] is None
        days = SubmitTimes(SENT_AT, 25 * 3600.0)
        with pytest.raises(errors.Unclear):
            drive(atlas.find(plain, lost(plain), days, frozenset()), empty())


def test_a_found_submit_keeps_the_lifetime_of_its_results() -> None:
    asked = edit(params={"result_hours": 6})
    item = {
        "ID": TICKET,
        "createdAt": SENT_AT.timestamp() + 1,
        "model": asked.offer.endpoint,
        "requestBody": json.dumps(next(atlas.submit(asked)).json),
    }
    listed = answer(body={"code": 200, "data": {"items": [item], "total": 1}})
    assert drive(atlas.find(asked, lost(asked), SENT, frozenset()), listed)[0] == Pending(TICKET, "#6")


# Layers


@pytest.mark.parametrize(
    ("family", "endpoint", "most", "usd"),
    [
        ("seedream-5.5", "bytedance/seedream-v5.5/layer-decomposition", 100, ("3.508", "1.608")),
        ("seedream-5.0-pro", "bytedance/seedream-v5.0-pro/layer-decomposition", 17, ("0.765", "0.3825")),
        ("seedream-5.0-flash", "bytedance/seedream-v5.0-flash/layer-decomposition", 17, ("0.306", "0.306")),
    ],
)
def test_layers_have_an_offer_of_their_own(family: str, endpoint: str, most: int, usd: tuple[str, str]) -> None:
    offer = edit(Operation.LAYERS, family).offer
    assert (offer.endpoint, offer.max_references, offer.max_outputs) == (endpoint, 1, most)
    assert [*offer.params] == ["layers", "result_hours", "history_hours"]
    assert "each layer are charged as an image" in offer.params["layers"].note
    quoted = (catalog.quote(offer, most, size, 1).usd for size in ((2048, 2048), (1536, 1536)))
    assert tuple(quoted) == tuple(map(Decimal, usd))
    assert catalog.quote(offer, most, None, 1).usd == Decimal(usd[0]), "without a size the dearest counts"


@pytest.mark.parametrize(
    ("spec", "size"), [(None, "auto"), ("auto", "auto"), ("1K", "1K"), ("1.5k", "1.5K"), ("2K", "2K")]
)
@pytest.mark.parametrize("format", ["png", "jpeg", None])
def test_a_layer_request_has_one_image_and_a_tier(spec: str | None, size: str, format: str | None) -> None:
    offer = edit(Operation.LAYERS, "seedream-5.0-pro").offer
    pixels = catalog.resolve_size(offer, spec, (1600, 900))
    body = sent(Operation.LAYERS, "seedream-5.0-pro", size=pixels, format=format, params=LAYERS)
    assert body == {
        "model": "bytedance/seedream-v5.0-pro/layer-decomposition",
        "prompt": "two cats",
        "image": IMAGE,
        "size": size,
        "output_format": format or "png",
    }


def test_a_layer_request_takes_bytes_as_a_data_uri() -> None:
    given = (Reference("0", "image/png", data=b"x"),)
    body = sent(Operation.LAYERS, "seedream-5.5", references=given, params=LAYERS)
    assert body["image"] == "data:image/png;base64,eA==" and "images" not in body


@pytest.mark.parametrize("spec", ["16:9", "2048x1152", "4K"])
def test_a_layer_request_refuses_pixels_and_ratios(spec: str) -> None:
    offer = edit(Operation.LAYERS, "seedream-5.5").offer
    with pytest.raises(errors.OutOfLimits, match="1K: 1024x1024"):
        catalog.resolve_size(offer, spec, None)


@pytest.mark.parametrize(("price", "counts"), [("0.022", False), ("0.7649", False), ("0.765", True), ("1.2", True)])
def test_a_price_of_layers_counts_if_it_covers_them_all(price: str, counts: bool) -> None:
    asked = edit(Operation.LAYERS, "seedream-5.0-pro", params=LAYERS)
    told = answer(body={"code": 200, "data": {"price": price, "currency": "USD"}})
    quoted, (call,) = drive(atlas.quote(asked), told)
    assert quoted == (Quote(Decimal(price), exact=True) if counts else None)
    assert (call.path, call.json) == ("/api/v1/model/calculate", next(atlas.submit(asked)).json)


URLS = [f"https://a.example/{n}.png" for n in range(3)]
BOX = {"absolute": [366, 119, 1657, 403], "normalized": [179, 58, 809, 197]}
TOLD = [
    {"image": {"width": 2048, "height": 2048}, "z_index": 0},
    {"z_index": 1, "name": "headline", "description": "the\ntitle", "bounding_box": BOX, "font": "new"},
    {"z_index": 2, "name": "cup", "description": "", "bounding_box": {"absolute": [0, 0, 9, 9]}},
]


def read(**data: Any) -> tuple[Layer | None, ...]:
    body = {"data": {"id": TICKET, "status": "completed", "outputs": URLS, **data}}
    done, _ = drive(atlas.poll(TICKET, None), answer(body=body))
    assert isinstance(done, Done) and sorted(output.url or "" for output in done.outputs) == URLS
    return tuple(output.layer for output in done.outputs)


def test_layers_are_read_with_names_and_boxes() -> None:
    base, headline, cup = read(layers=TOLD)
    assert (base, cup) == (Layer(0), Layer(2, "cup", "", (0, 0, 9, 9)))
    assert headline == Layer(1, "headline", "the title", (366, 119, 1657, 403))


def test_layers_come_base_first_whatever_their_order() -> None:
    body = {"data": {"id": TICKET, "status": "completed", "outputs": URLS[::-1], "layers": TOLD[::-1]}}
    done, _ = drive(atlas.poll(TICKET, None), answer(body=body))
    assert isinstance(done, Done) and [output.url for output in done.outputs] == URLS


PLACES = (Layer(0), Layer(1), Layer(2))


@pytest.mark.parametrize(
    "told",
    [None, "x", 7, {}, [], TOLD[:2], [*TOLD, {}], [None, 7, "x"], [{}, [], {"z_index": -1, "name": 3}],
     [{"bounding_box": box} for box in (BOX["absolute"], {"absolute": [1, 2, 3]}, {"absolute": [9, 9, 1, 1]})]],
)  # fmt: skip
def test_odd_layers_have_their_places_alone(told: Any) -> None:
    assert read(model="bytedance/seedream-v5.0-pro/layer-decomposition", layers=told) == PLACES


@pytest.mark.parametrize("told", [None, [], {}, "x", False])
def test_images_of_another_model_are_no_layers(told: Any) -> None:
    assert read(model="bytedance/seedream-v5.0-pro/edit", layers=told) == (None, None, None)


def test_a_missing_layer_keeps_its_place() -> None:
    body = {"data": {"id": TICKET, "status": "completed", "outputs": [URLS[0], None, URLS[2]], "layers": TOLD}}
    done, _ = drive(atlas.poll(TICKET, None), answer(body=body))
    assert isinstance(done, Done)
    assert [(output.url, output.layer and output.layer.z_index) for output in done.outputs] == [
        (URLS[0], 0),
        (None, 1),
        (URLS[2], 2),
    ]


def test_a_lost_layer_request_is_found_by_image_and_size() -> None:
    asked = edit(Operation.LAYERS, "seedream-5.0-pro", params=LAYERS)

    def listed(**changes: Any) -> HttpResponse:
        body = {**next(atlas.submit(asked)).json, **changes}
        at = SENT_AT.timestamp() + 1
        item = {"ID": TICKET, "createdAt": at, "model": asked.offer.endpoint, "requestBody": json.dumps(body)}
        return answer(body={"code": 200, "data": {"items": [item], "total": 1}})

    def found(response: HttpResponse) -> Pending | None:
        return drive(atlas.find(asked, lost(asked), SENT, frozenset()), response)[0]

    assert found(listed()) == Pending(TICKET)
    assert found(listed(size="1K")) is None
    with pytest.raises(errors.Unclear):
        found(listed(image="https://elsewhere.example/0.png"))


def test_layers_are_never_chosen_for_another_operation() -> None:
    offers = [offer for offer in atlas.PROVIDER.offers if offer.family == "seedream-5.0-pro"]
    for operation in Operation:
        chosen = catalog.by_preference(offers, operation, 1)
        assert [offer.operation is Operation.LAYERS for offer in chosen] == [operation is Operation.LAYERS]
    only_layers = [replace(offers[-1], operation=Operation.LAYERS)]
    assert not catalog.by_preference(only_layers, Operation.EDIT, 1)
