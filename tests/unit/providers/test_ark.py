"""ModelArk's flows, driven by hand: what goes out, byte for byte, and what each odd answer or stream comes to."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from datetime import date
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import flows
from support.flows import HTML, OVER, answer, any_json, drive_stream
from triptych import catalog, providers
from triptych.core import errors
from triptych.core.models import Done, Layer, ProviderRequest, Reference, ReturnedImage
from triptych.core.offers import Operation
from triptych.providers import FrameReceived, HttpResponse, ark
from triptych.providers import _ark_models as models
from triptych.providers import _reading as read
from triptych.providers._offers import PATH_TAILS

SENSITIVE = "OutputImageSensitiveContentDetected"
STREAM = HttpResponse(200, {"content-type": "text/event-stream; charset=utf-8"}, b"")
URLS = ["https://tos.example/1.jpeg?X-Tos-Signature=a", "https://tos.example/2.jpeg", "https://tos.example/3.jpeg"]


def event(kind: str, **more: Any) -> HttpResponse:
    told = {"type": f"image_generation.{kind}", "model": "seedream-5-0-260128", "created": 1757396757}
    return HttpResponse(200, {"event": told["type"]}, json.dumps({**told, **more}).encode())


def image(index: int | None) -> HttpResponse:
    return event("partial_succeeded", image_index=index, url=URLS[index or 0], size="2048x2048")


def failed(index: int, code: str = SENSITIVE) -> HttpResponse:
    return event("partial_failed", image_index=index, error={"code": code, "message": "no <luck>"})


def completed(images: Any = 2, **more: Any) -> HttpResponse:
    return event("completed", usage={"generated_images": images, "output_tokens": 1, "total_tokens": 1}, **more)


DONE_LINE = HttpResponse(200, {}, b"[DONE]")
LOST = errors.AnswerLost("cut off")


edit = partial(flows.edit, ark.PROVIDER)


def finished(body: Any, request: ProviderRequest | None = None) -> Done:
    done, _, _ = drive_stream(ark.submit(request or edit()), answer(body=body))
    assert isinstance(done, Done)
    return done


def streamed(*events: HttpResponse | errors.TriptychError, count: int = 2) -> tuple[Done, list[FrameReceived]]:
    done, _, came = drive_stream(ark.submit(edit(count=count)), STREAM, *events)
    assert isinstance(done, Done)
    return done, came


# The models


def test_three_families_make_sequences_and_three_make_single_images() -> None:
    offers = ark.PROVIDER.offers
    assert {(o.endpoint, str(o.price.usd_per_image)) for o in offers} == {
        ("seedream-5-0-260128", "0.035"),
        ("seedream-4-5-251128", "0.04"),
        ("seedream-4-0-250828", "0.03"),
        ("seedream-5-5-261028", "0.020"),
        ("seedream-5-0-pro-260628", "0.045"),
        ("seedream-5-0-flash-260915", "0.018"),
    }
    assert len({(o.endpoint, o.operation) for o in offers}) == len(offers) == 21
    assert {o.family for o in offers if o.operation is Operation.EDIT_SEQUENTIAL} == {
        "seedream-5.0-lite",
        "seedream-4.5",
        "seedream-4.0",
    }
    assert providers.load("ark") is ark.PROVIDER
    assert (offers[0].family, offers[0].operation) == ("seedream-5.0-lite", Operation.GENERATE)


@pytest.mark.parametrize("operation", [Operation.EDIT_SEQUENTIAL, Operation.GENERATE_SEQUENTIAL])
@pytest.mark.parametrize("family", ["seedream-5.0-pro", "seedream 5 flash"])
def test_pro_and_flash_are_refused_for_sequences_with_the_reason(family: str, operation: Operation) -> None:
    with pytest.raises(
        errors.OutOfLimits, match=r"offers generate, edit, layers, but not .* of 3 images: use seedream-5.0-lite"
    ):
        catalog.choose(ark.PROVIDER.offers, operation, family, 3)
    assert catalog.choose(ark.PROVIDER.offers, Operation.EDIT, family, 1).operation is Operation.EDIT


@pytest.mark.parametrize("operation", list(PATH_TAILS))
@pytest.mark.parametrize(
    "name", ["seedream-5-0-260128", "seedream-5-0-lite-260128", "doubao-seedream-5-0-260128", "seedream 5.0 lite"]
)
def test_an_id_of_either_platform_finds_every_offer(name: str, operation: Operation) -> None:
    offer = catalog.choose(ark.PROVIDER.offers, operation, name, 2 if operation.sequential else 1)
    assert (offer.endpoint, offer.operation) == ("seedream-5-0-260128", operation)


OFFERS = [offer for offer in ark.PROVIDER.offers if offer.operation is not Operation.LAYERS]


@pytest.mark.parametrize("offer", OFFERS, ids=lambda o: f"{o.endpoint}-{o.operation}")
def test_every_size_on_offer_is_within_the_offers_own_limits(offer: Any) -> None:
    for spec in [
        None,
        "16:9",
        "21:9",
        "portrait",
        *offer.sizes.presets,
        *(f"{word} 9:16" for word in offer.sizes.presets),
    ]:
        width, height = catalog.resolve_size(offer, spec, (4000, 3000))
        assert offer.sizes.min_area <= width * height <= offer.sizes.max_area
    assert date.fromisoformat(offer.lifecycle.released) < date.fromisoformat(offer.price.as_of)


def test_only_volcengine_retires_5_0_lite() -> None:
    assert edit().offer.lifecycle.retired == edit().offer.lifecycle.deprecated == ""
    for host in ("ark.cn-beijing.volces.com", "ARK.cn-beijing.volces.com:443"):
        there = models.offers_at({"api": f"https://{host}/api/v3"})
        assert {o.endpoint for o in there} == {f"doubao-{o.endpoint}" for o in ark.PROVIDER.offers}
        assert {o.family: o.lifecycle.retired for o in there if o.lifecycle.retired} == {
            "seedream-5.0-lite": "2026-11-24"
        }
    for host in ("ark.ap-southeast.bytepluses.com", "volces.com.example", "notvolces.com"):
        assert models.offers_at({"api": f"https://{host}/api/v3"}) == ark.PROVIDER.offers
    assert models.offers_at({"api": "https://ark.cn-beijing.volces.com/api/v3"})[0].aliases[0] == "seedream-5-0-260128"


def test_an_id_that_has_the_prefix_is_asked_for_once() -> None:
    offer = models.offers_at({"api": "https://ark.cn-beijing.volces.com/api/v3"})[0]
    missing = answer(404, {"error": said("InvalidEndpointOrModel.NotFound")})
    with pytest.raises(errors.NotOffered):
        drive_stream(ark.submit(replace(edit(), offer=offer)), missing)


# What goes out (docs/providers/ark.md#submit)


SEQUENCE = {
    "sequential_image_generation": "auto",
    "sequential_image_generation_options": {"max_images": 2},
    "stream": True,
}
PLAIN = {"prompt": "two cats", "response_format": "url", "watermark": False, "size": "2048x2048"}
REFERENCE = {"image": ["https://host.example/0.png"]}
PNG = {"output_format": "png"}


@pytest.mark.parametrize(
    ("request_", "body"),
    [
        (edit(), {"model": "seedream-5-0-260128", **PLAIN, **REFERENCE, **PNG, **SEQUENCE}),
        (edit(Operation.EDIT), {"model": "seedream-5-0-260128", **PLAIN, **REFERENCE, **PNG}),
        (edit(Operation.GENERATE_SEQUENTIAL), {"model": "seedream-5-0-260128", **PLAIN, **PNG, **SEQUENCE}),
        (edit(Operation.GENERATE, format=None), {"model": "seedream-5-0-260128", **PLAIN}),
        (edit(family="seedream-4.5", format="png"), {"model": "seedream-4-5-251128", **PLAIN, **REFERENCE, **SEQUENCE}),
        (edit(Operation.GENERATE, "seedream-4.0"), {"model": "seedream-4-0-250828", **PLAIN}),
        (edit(Operation.EDIT, "seedream-5.0-pro"), {"model": "seedream-5-0-pro-260628", **PLAIN, **REFERENCE, **PNG}),
        (edit(Operation.GENERATE, "seedream-5.0-flash"), {"model": "seedream-5-0-flash-260915", **PLAIN, **PNG}),
    ],
)
def test_the_body_has_the_intended_fields_and_no_nulls(request_: ProviderRequest, body: dict[str, Any]) -> None:
    _, (call,), _ = drive_stream(ark.submit(request_), answer(body={"data": [{"url": URLS[0]}]}))
    assert (call.method, call.path, call.base, call.json) == ("POST", "/images/generations", "api", body)
    assert call.stream == ("stream" in body)
    assert not call.repeatable and call.authorize and call.timeout_s >= 600


LITE = {"model": "seedream-5-0-260128", **PLAIN}
PRO = {"model": "seedream-5-0-pro-260628", **PLAIN}
V5_5 = {"model": "seedream-5-5-261028", **PLAIN, **PNG}


@pytest.mark.parametrize(
    ("family", "params", "body"),
    [
        ("seedream-5.0-lite", {"watermark": True}, {**LITE, **PNG, "watermark": True}),
        ("seedream-5.0-lite", {"watermark": False}, {**LITE, **PNG}),
        ("seedream-5.0-lite", {"web_search": True}, {**LITE, **PNG, "tools": [{"type": "web_search"}]}),
        ("seedream-5.0-lite", {"web_search": False}, {**LITE, **PNG}),
        (
            "seedream-4.0",
            {"prompt_optimization": "fast"},
            {**PLAIN, "model": "seedream-4-0-250828", "optimize_prompt_options": {"mode": "fast"}},
        ),
        ("seedream-5.0-pro", {"background": "opaque"}, {**PRO, **PNG, "background": "opaque"}),
        ("seedream-5.5", {"background": "transparent"}, {**V5_5, "background": "transparent"}),
        (
            "seedream-5.5",
            {"prompt_optimization": "standard"},
            {**V5_5, "optimize_prompt_options": {"mode": "standard"}},
        ),
    ],
)
def test_each_parameter_has_its_field(family: str, params: dict[str, Any], body: dict[str, Any]) -> None:
    asked = edit(Operation.GENERATE, family, params=params)
    _, (call,), _ = drive_stream(ark.submit(asked), answer(body={"data": [{"url": URLS[0]}]}))
    assert call.json == body
    catalog.check_params(asked.offer, asked.request)


@pytest.mark.parametrize("family", ["seedream-5.0-pro", "seedream-5.0-flash"])
def test_a_kept_background_is_asked_for_as_png(family: str) -> None:
    asked = edit(Operation.EDIT, family, params={"background": "transparent"}, format=None)
    catalog.check_params(asked.offer, asked.request)
    _, (call,), _ = drive_stream(ark.submit(asked), answer(body={"data": [{"url": URLS[0]}]}))
    assert (call.json["background"], call.json["output_format"]) == ("transparent", "png")


@pytest.mark.parametrize(
    ("family", "operation", "params", "why"),
    [
        *((family, Operation.EDIT, {"seed": 7}, "it would do nothing") for family in models.FAMILIES),
        ("seedream-5.0-lite", Operation.EDIT, {"prompt_optimization": "fast"}, "must be standard"),
        ("seedream-5.5", Operation.EDIT, {"prompt_optimization": "fast"}, "must be standard"),
        ("seedream-4.5", Operation.EDIT, {"prompt_optimization": "off"}, "must be standard"),
        ("seedream-5.0-pro", Operation.EDIT, {"prompt_optimization": "off"}, "must be one of fast, standard"),
        ("seedream-4.5", Operation.EDIT, {"web_search": True}, "no parameter"),
        ("seedream-5.0-lite", Operation.EDIT, {"background": "opaque"}, "no parameter"),
        ("seedream-5.0-lite", Operation.EDIT, {"watermark": "yes"}, "true or false"),
        ("seedream-5.0-pro", Operation.EDIT, {"background": "auto"}, "opaque, transparent"),
        ("seedream-5.0-pro", Operation.GENERATE, {"background": "transparent"}, "exactly one image to edit"),
        ("seedream-5.5", Operation.LAYERS, {"background": "transparent"}, "layers of a picture are transparent"),
        ("seedream-5.5", Operation.LAYERS, {"seed": 1}, "it would do nothing"),
    ],
)
def test_a_parameter_that_the_model_has_not_is_refused(
    family: str, operation: Operation, params: dict[str, Any], why: str
) -> None:
    asked = edit(operation, family, params=params)
    with pytest.raises(errors.OutOfLimits, match=why):
        catalog.check_params(asked.offer, asked.request)


def test_a_kept_background_needs_exactly_one_image() -> None:
    asked = edit(Operation.EDIT, "seedream-5.0-flash", 2, params={"background": "transparent"})
    with pytest.raises(errors.OutOfLimits, match=r"exactly one image to edit, and this request has 2.*no background"):
        catalog.check_params(asked.offer, asked.request)
    opaque = edit(Operation.EDIT, "seedream-5.0-flash", 2, params={"background": "opaque"})
    catalog.check_params(opaque.offer, opaque.request)


def test_a_web_search_warns_of_a_cost_outside_the_quote() -> None:
    asked = edit(Operation.EDIT, params={"web_search": True})
    assert any("bill each search" in note for note in catalog.params.notes(asked.offer, asked.request))


@pytest.mark.parametrize("offer", OFFERS, ids=lambda o: f"{o.endpoint}-{o.operation}")
def test_auto_leaves_the_ratio_to_the_model(offer: Any) -> None:
    assert catalog.resolve_size(offer, "auto", (4000, 3000)) is None
    assert catalog.resolve_size(offer, None, None) == catalog.resolve_size(offer, "2K", None)
    asked = edit(offer=offer, size=None, references=1 if offer.operation.edits else 0)
    assert next(ark.submit(asked)).json["size"] == "2K"  # type: ignore[union-attr]
    dearest = [offer.price.usd_per_image, *(usd for _, usd in offer.price.above)][-1]
    assert catalog.quote(offer, 1, None, 0).usd == dearest


@pytest.mark.parametrize(
    ("size", "usd"), [("1248x832", "0.020"), ("2496x1664", "0.035"), ("odd", "0.035"), (7, "0.035")]
)
def test_a_size_that_the_model_chose_is_charged_by_area(size: Any, usd: str) -> None:
    asked = edit(Operation.GENERATE, "seedream-5.5", size=None)
    assert finished({"data": [{"url": URLS[0], "size": size}]}, asked).charged_usd == Decimal(usd)


# Layers (docs/providers/ark.md#layers)

LAYERED = [
    {"url": URLS[0], "size": "2048x2048", "output_format": "png", "z_index": 0},
    {
        "url": URLS[1],
        "size": "640x210",
        "output_format": "png",
        "z_index": 1,
        "name": "headline",
        "description": "the title",
        "bounding_box": {"absolute": [366, 119, 1657, 403], "normalized": [179, 58, 809, 197]},
        "text": {"content": "SALE"},
    },
]


@pytest.mark.parametrize("family", ["seedream-5.5", "seedream-5.0-pro", "seedream-5.0-flash"])
@pytest.mark.parametrize(
    ("spec", "word"), [(None, "auto"), ("auto", "auto"), ("1K", "1K"), ("1.5K", "1.5K"), ("2k", "2K")]
)
def test_layers_are_one_image_and_a_tier(family: str, spec: str | None, word: str) -> None:
    asked = edit(Operation.LAYERS, family, params={"layers": True}, format=None)
    asked = replace(asked, size=catalog.resolve_size(asked.offer, spec, (4000, 3000)))
    done, (call,), _ = drive_stream(ark.submit(asked), answer(body={"data": LAYERED}))
    assert call.json == {
        "model": asked.offer.endpoint,
        "prompt": "two cats",
        "image": "https://host.example/0.png",
        "layer_decomposition": True,
        "size": word,
        "output_format": "png",
        "response_format": "url",
        "watermark": False,
    }
    assert isinstance(done, Done)
    assert done.outputs == (
        ReturnedImage(url=URLS[0], layer=Layer(0)),
        ReturnedImage(url=URLS[1], layer=Layer(1, "headline", "the title", (366, 119, 1657, 403))),
    )
    catalog.check_params(asked.offer, asked.request)


@pytest.mark.parametrize("spec", ["16:9", "2048x2047", "3K"])
def test_a_ratio_or_pixels_are_refused_for_layers(spec: str) -> None:
    with pytest.raises(errors.OutOfLimits, match="does not take the size"):
        catalog.resolve_size(edit(Operation.LAYERS, "seedream-5.5").offer, spec, None)


@pytest.mark.parametrize(
    ("family", "most"), [("seedream-5.5", 100), ("seedream-5.0-pro", 17), ("seedream-5.0-flash", 17)]
)
def test_all_images_of_the_largest_layer_answer_are_read(family: str, most: int) -> None:
    asked = edit(Operation.LAYERS, family, size=None)
    assert (asked.offer.max_outputs, asked.offer.max_references) == (most, 1)
    entries = [{**LAYERED[1], "z_index": n} for n in range(most)]
    done = finished({"data": entries, "usage": {"generated_images": most, "input_images": 1}}, asked)
    assert [output.layer and output.layer.z_index for output in done.outputs] == list(range(most))


@pytest.mark.parametrize(
    ("size", "usage", "usd"),
    [
        (None, {"generated_images": 2, "input_images": 1}, "0.063"),  # 0.035 base, 0.020 layer, 0.008 input
        (None, {}, "0.063"),
        ((1024, 1024), {"generated_images": 2}, "0.063"),  # the sizes in the answer decide
        (None, {"generated_images": 3}, "0.098"),  # an image without a size is a dear one
        (None, {"generated_images": 1}, "0.043"),
    ],
)
def test_layers_are_charged_each_by_its_area_with_the_input(size: Any, usage: Any, usd: str) -> None:
    asked = edit(Operation.LAYERS, "seedream-5.5", size=size)
    assert finished({"data": LAYERED, "usage": usage}, asked).charged_usd == Decimal(usd)


def test_odd_layers_are_in_order_with_plain_words() -> None:
    hostile = {"url": URLS[2], "z_index": 2, "name": "\x1b[2J" + "x" * 999, "bounding_box": {"absolute": [9, 9, 1, 1]}}
    lost = {"error": {"code": "InternalServiceError", "message": "broke"}, "z_index": 1}
    done = finished({"data": [hostile, lost, LAYERED[0]]}, edit(Operation.LAYERS, "seedream-5.0-pro"))
    assert [output.url for output in done.outputs] == [URLS[0], None, URLS[2]]
    last = done.outputs[2].layer
    assert last and last.box is None and len(last.name) == 120 and last.name.isprintable()
    assert done.outputs[1].error == '"InternalServiceError: broke"'


# Endpoints of the account (docs/providers/ark.md#models)


@pytest.mark.parametrize("name", ["ep-20261101093000-abc12 seedream-5.5", "ep-20261101093000-abc12, seedream 5.5"])
def test_an_endpoint_with_its_model_has_that_models_offers(name: str) -> None:
    offers = models.offers_for(name)
    table = [offer for offer in ark.PROVIDER.offers if offer.family == "seedream-5.5"]
    assert [(o.operation, o.price, o.sizes, o.params) for o in offers] == [
        (o.operation, o.price, o.sizes, o.params) for o in table
    ]
    assert {o.endpoint for o in offers} == {"ep-20261101093000-abc12"}
    assert all("are those of seedream-5.5" in o.assumed and o.in_no_table for o in offers)
    chosen = catalog.choose((*offers, *ark.PROVIDER.offers), Operation.EDIT, name)
    assert (chosen.endpoint, chosen.family) == ("ep-20261101093000-abc12", "seedream-5.5")


def test_an_endpoint_alone_has_the_limits_that_all_models_share() -> None:
    for offer in models.offers_for("ep-m-20261101-abc12"):
        assert (offer.family, offer.endpoint) == ("ep-m-20261101-abc12", "ep-m-20261101-abc12")
        assert catalog.quote(offer, 1, (2048, 2048), 0).usd == Decimal("0.09")
        assert not offer.formats and "background" in offer.no_params and "seed" in offer.no_params
        assert 'model="ep-m-20261101-abc12 seedream-5.5"' in offer.assumed
        if offer.operation.edits:
            assert (offer.max_references, offer.price.usd_per_reference) == (10, Decimal("0.008"))
        for other in OFFERS:
            for size in offer.sizes.all():
                assert catalog.resolve_size(other, f"{size[0]}x{size[1]}", None) == size


@pytest.mark.parametrize("name", ["seedream-5.5", "ep", "ep-", "epsilon", "x ep-1234", "ep-äöü", ""])
def test_other_names_are_no_endpoints(name: str) -> None:
    assert models.offers_for(name) == ()


def test_an_endpoint_of_an_unknown_model_is_refused() -> None:
    with pytest.raises(errors.UnknownModel, match="There is no model"):
        models.offers_for("ep-20261101-abc12 seedream-9")


def test_one_image_of_an_endpoint_asks_for_no_sequence() -> None:
    offers = models.offers_for("ep-20261101-abc12")
    offer = catalog.choose(offers, Operation.EDIT_SEQUENTIAL, "ep-20261101-abc12", 1)
    body = next(ark.submit(edit(offer=offer, count=1))).json  # type: ignore[union-attr]
    assert not any("sequential" in name or name == "stream" for name in body)
    assert "sequential_image_generation" in next(ark.submit(edit(offer=offer, count=2))).json  # type: ignore[union-attr]


def test_an_endpoint_id_goes_out_verbatim_and_once() -> None:
    offer = models.offers_for("ep-20261101-ABC12 seedream-4.5")[1]
    _, (call,), _ = drive_stream(ark.submit(edit(offer=offer)), answer(body={"data": [{"url": URLS[0]}]}))
    assert call.json["model"] == "ep-20261101-ABC12"
    with pytest.raises(errors.NotOffered):
        drive_stream(ark.submit(edit(offer=offer)), answer(404, NOT_FOUND))


def test_a_sequence_of_one_is_not_streamed() -> None:
    done, (call,), came = drive_stream(ark.submit(edit(count=1)), answer(body={"data": [{"url": URLS[0]}]}))
    assert "stream" not in call.json and not call.stream and not came
    assert call.json["sequential_image_generation_options"] == {"max_images": 1}
    assert [output.url for output in done.outputs] == [URLS[0]]


def test_references_without_a_url_go_as_data_uris() -> None:
    inline = replace(
        edit(), references=(Reference("0", "image/PNG", data=b"x"), Reference("1", "image/webp", data=b"y"))
    )
    _, (call,), _ = drive_stream(ark.submit(inline), answer(body={"data": [{"url": URLS[0]}]}))
    assert call.json["image"] == ["data:image/png;base64,eA==", "data:image/webp;base64,eQ=="]
    with pytest.raises(errors.UnreadableImage):
        next(ark.submit(replace(edit(), references=(Reference("0", "image/png"),))))


def test_the_limits_of_a_reference_are_the_smaller_reading() -> None:
    limits = ark.PROVIDER.reference_limits
    assert ark.PROVIDER.inline and ark.PROVIDER.upload is None and ark.PROVIDER.poll is None
    assert (limits.max_bytes, limits.max_pixels, limits.max_body_bytes) == (10_000_000, 36_000_000, 64_000_000)


NOT_FOUND = {"error": {"code": "InvalidEndpointOrModel.NotFound", "message": "The model does not exist.", "type": ""}}


def test_an_unknown_id_is_asked_once_more_with_volcengines_prefix() -> None:
    done, calls, _ = drive_stream(ark.submit(edit()), answer(404, NOT_FOUND), STREAM, image(0), image(1), completed())
    assert [call.json["model"] for call in calls] == ["seedream-5-0-260128", "doubao-seedream-5-0-260128"]
    assert {**calls[0].json, "model": ""} == {**calls[1].json, "model": ""}
    assert isinstance(done, Done) and len(done.outputs) == 2


def test_an_unknown_prefix_leaves_the_first_refusal() -> None:
    second = {"error": {"code": "InvalidEndpointOrModel.NotFound", "message": "nor with the prefix"}}
    with pytest.raises(errors.NotOffered, match="The model does not exist"):
        drive_stream(ark.submit(edit()), answer(404, NOT_FOUND), answer(404, second))


# A plain answer (docs/providers/ark.md#answer)


SUCCESS = {
    "model": "seedream-5-0-260128",
    "created": 1757388756,
    "data": [{"url": URLS[0], "size": "2848x1600"}, {"url": URLS[1], "size": "2848x1600"}],
    "usage": {"generated_images": 2, "output_tokens": 35600, "total_tokens": 35600},
}
FAILED_ENTRY = {"error": {"code": SENSITIVE, "message": "The output image may be <sensitive>."}}


def test_a_plain_answer_gives_ordered_frames_and_the_charge() -> None:
    done = finished(SUCCESS)
    assert done == Done(
        (ReturnedImage(url=URLS[0]), ReturnedImage(url=URLS[1])),
        charged_usd=Decimal("0.070"),
        charge_is_estimate=True,
        url_lifetime_s=24 * 3600,
    )


def test_a_failed_entry_is_a_frame_not_billed() -> None:
    done = finished({**SUCCESS, "data": [SUCCESS["data"][0], FAILED_ENTRY, SUCCESS["data"][1]]})  # type: ignore[index]
    assert [bool(output.url) for output in done.outputs] == [True, False, True]
    assert done.outputs[1].error == f'"{SENSITIVE}: The output image may be ‹sensitive›."'
    assert done.charged_usd == Decimal("0.070")


@pytest.mark.parametrize(
    ("usage", "charged"),
    [
        ({"generated_images": 1}, "0.035"),
        ({"generated_images": 0}, "0"),
        ({"generated_images": "2"}, "0.070"),
        ({"generated_images": -1}, "0.070"),
        ({"generated_images": 10**9}, "0.070"),
        ({}, "0.070"),
        (None, "0.070"),
        ([], "0.070"),
    ],
)
def test_the_charge_follows_the_usage_or_the_frames(usage: Any, charged: str) -> None:
    assert finished({**SUCCESS, "usage": usage}).charged_usd == Decimal(charged)


@pytest.mark.parametrize(
    ("entry", "output"),
    [
        ({"url": URLS[0]}, ReturnedImage(url=URLS[0])),
        ({"b64_json": "eA=="}, ReturnedImage(data=b"x")),
        ({"b64_json": "data:image/png;base64,eA\n=="}, ReturnedImage(data=b"x")),
        ({"b64_json": "%%"}, ReturnedImage(error="the provider's image data cannot be decoded")),
        ({"url": "ftp://x/y"}, ReturnedImage(error="the provider's answer has no URL for this image")),
        ({}, ReturnedImage(error="the provider's answer has no URL for this image")),
        (None, ReturnedImage(error="the provider's answer has no URL for this image")),
        ({"error": {"code": 7}}, ReturnedImage(error='"no reason given"')),
        ({"error": {"message": "x" * 5000}}, ReturnedImage(error=errors.quoted("x" * 5000))),
    ],
)
def test_every_entry_is_a_frame_or_a_reason(entry: Any, output: ReturnedImage) -> None:
    assert finished({"data": [{"url": URLS[1]}, entry]}).outputs[1] == output


def test_an_error_beside_some_of_the_images_loses_the_others() -> None:
    done = finished({"data": [{"url": URLS[0]}], "error": {"code": "InternalServiceError", "message": "broke"}})
    assert done.outputs == (ReturnedImage(url=URLS[0]), ReturnedImage(error='"InternalServiceError: broke"'))
    assert done.charged_usd == Decimal("0.035") and not done.warnings
    assert len(finished({"data": [{"url": URLS[0]}]}).outputs) == 1, "a model may make fewer"


def test_an_error_beside_all_images_is_a_warning() -> None:
    done = finished({**SUCCESS, "error": {"code": "InternalServiceError", "message": "broke"}})
    assert done.warnings == ('The provider stopped early: "InternalServiceError: broke"',) and len(done.outputs) == 2


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"data": [FAILED_ENTRY, FAILED_ENTRY]}, errors.Moderated),
        ({"data": [{"error": {"code": "InternalServiceError", "message": "broke"}}]}, errors.Failed),
        ({"data": []}, errors.Failed),
        ({"data": [], **FAILED_ENTRY}, errors.Moderated),
        (FAILED_ENTRY, errors.Moderated),
        ({"code": "InternalServiceError", "message": "broke"}, errors.Failed),
        ({"data": None}, errors.Outage),
        ({"code": 500, "data": None}, errors.Outage),
        ([], errors.Outage),
        (b"", errors.Outage),
        (HTML, errors.Outage),
        (b"[" * 100_000, errors.Outage),
    ],
)
def test_a_success_without_an_image_is_a_decision(body: Any, kind: Any) -> None:
    with pytest.raises(errors.TriptychError) as caught:
        finished(body)
    assert type(caught.value) is kind and "<" not in caught.value.message


# Errors (docs/providers/ark.md#errors)


def said(code: str, message: str = "Not <this> time. Request id: 021790758342364337dd80e2", kind: str = "") -> Any:
    return {"code": code, "message": message, "param": "", "type": kind}


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "InvalidParameter", errors.Refused),
        (400, "MissingParameter.prompt", errors.Refused),
        (400, "InvalidImageURL.Unreachable", errors.Refused),
        (400, "InputTextSensitiveContentDetected", errors.Moderated),
        (400, "InputImageSensitiveContentDetected.PrivacyInformation", errors.Moderated),
        (400, SENSITIVE, errors.Moderated),
        (401, "AuthenticationError", errors.KeyRejected),
        (402, "Whatever", errors.NoFunds),
        (403, "AccessDenied", errors.KeyRejected),
        (403, "OperationDenied.ServiceNotOpen", errors.NotOffered),
        (403, "AccountOverdueError", errors.NoFunds),
        (404, "ModelNotOpen", errors.NotOffered),
        (404, "UnsupportedModel", errors.NotOffered),
        (413, "RequestEntityTooLarge", errors.Refused),
        (429, "RateLimitExceeded.EndpointRPMExceeded", errors.RateLimited),
        (429, "ModelAccountIpmRateLimitExceeded", errors.RateLimited),
        (429, "AccountRateLimitExceeded", errors.RateLimited),
        (429, "ServerOverloaded", errors.RateLimited),
        (429, "RequestBurstTooFast", errors.RateLimited),
        (429, "QuotaExceeded", errors.NoFunds),
        (429, "SetLimitExceeded", errors.NoFunds),
        (500, "InternalServiceError", errors.Outage),
        (503, "ServerOverloaded", errors.RateLimited),
        (504, "InternalServiceError", errors.Outage),
        (408, "RequestTimeout", errors.Outage),
    ],
)
def test_both_shapes_of_an_error_mean_the_same(status: int, code: str, kind: type[Exception], wrapped: bool) -> None:
    body = {"error": said(code)} if wrapped else said(code)
    with pytest.raises(errors.TriptychError) as caught:
        drive_stream(ark.submit(edit()), answer(status, body))
    assert type(caught.value) is kind
    assert "Not ‹this› time" in caught.value.message
    assert caught.value.request_id == "021790758342364337dd80e2"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, HTML, errors.Refused),
        (401, b"", errors.KeyRejected),
        (404, {"error": "nothing here"}, errors.NotOffered),
        (413, HTML, errors.Refused),
        (429, HTML, errors.RateLimited),
        (502, HTML, errors.Outage),
        (503, HTML, errors.Outage),
        (302, HTML, errors.Outage),
        (499, {}, errors.Outage),
        (600, {}, errors.Outage),
    ],
)
def test_an_error_in_no_shape_goes_by_its_status(status: int, body: Any, kind: type[Exception]) -> None:
    with pytest.raises(errors.TriptychError) as caught:
        drive_stream(ark.submit(edit()), answer(status, body))
    assert type(caught.value) is kind


def test_request_id_and_retry_after_are_passed_on() -> None:
    headers = {"X-Request-Id": "from-the-header", "Retry-After": "7"}
    with pytest.raises(errors.RateLimited) as caught:
        drive_stream(ark.submit(edit()), answer(429, {"error": said("ServerOverloaded")}, headers))
    assert (caught.value.request_id, caught.value.retry_after_s) == ("from-the-header", 7)


def test_no_other_refusal_is_ever_sent_again() -> None:
    for status, code in [
        (404, "ModelNotOpen"),
        (400, "InvalidEndpointOrModel.NotFound"),
        (500, "InternalServiceError"),
    ]:
        with pytest.raises(errors.TriptychError):
            drive_stream(ark.submit(edit()), answer(status, {"error": said(code)}))


# A stream (docs/providers/ark.md#stream)


def test_each_image_of_a_stream_is_delivered_at_once() -> None:
    done, came = streamed(image(0), image(1), completed(2))
    assert came == [FrameReceived(0, ReturnedImage(url=URLS[0])), FrameReceived(1, ReturnedImage(url=URLS[1]))]
    assert done.outputs == (ReturnedImage(url=URLS[0]), ReturnedImage(url=URLS[1]))
    assert (done.charged_usd, done.url_lifetime_s) == (Decimal("0.070"), 24 * 3600)


def test_a_failed_image_does_not_lose_the_later_ones() -> None:
    done, came = streamed(image(0), failed(1), image(2), completed(2), count=3)
    assert [frame.index for frame in came] == [0, 2]
    assert [bool(output.url) for output in done.outputs] == [True, False, True]
    assert done.outputs[1].error == f'"{SENSITIVE}: no ‹luck›"'
    assert done.charged_usd == Decimal("0.070")


def test_images_are_in_their_places_however_they_arrive() -> None:
    done, came = streamed(image(2), image(0), completed(2), count=3)
    assert [frame.index for frame in came] == [2, 0]
    assert [output.url for output in done.outputs] == [URLS[0], None, URLS[2]]
    assert done.outputs[1].error == "the provider's answer does not mention this image"


@pytest.mark.parametrize(
    "noise",
    [
        event("partial_image", image_index=0, b64_json="/9j/4AAQ"),
        HttpResponse(200, {}, b"not json"),
        HttpResponse(200, {}, b"[1, 2]"),
        HttpResponse(200, {}, b""),
        image(0),
        event("partial_succeeded", image_index=-1, url=URLS[2]),
        event("partial_succeeded", image_index=99, url=URLS[2]),
    ],
)
def test_what_means_nothing_in_a_stream_is_passed_over(noise: HttpResponse) -> None:
    done, came = streamed(image(0), noise, image(1), completed())
    assert len(came) == 2 and [output.url for output in done.outputs] == URLS[:2]


def test_an_image_without_a_number_is_the_next_one() -> None:
    done, _ = streamed(image(None), event("partial_succeeded", url=URLS[1]), completed())
    assert [output.url for output in done.outputs] == URLS[:2]


@pytest.mark.parametrize("end", [[DONE_LINE], [completed(1)]])
def test_fewer_images_than_asked_are_no_loss_if_announced(end: list[HttpResponse]) -> None:
    done, _ = streamed(image(0), *end, count=3)
    assert (len(done.outputs), done.charged_usd) == (1, Decimal("0.035"))


@pytest.mark.parametrize("end", [LOST, OVER])
def test_a_broken_stream_keeps_the_images_it_delivered(
    end: HttpResponse | errors.TriptychError,
) -> None:
    came: list[FrameReceived] = []
    flow = ark.submit(edit(count=3))
    wanted = next(flow)
    with pytest.raises(errors.AnswerLost):
        for following in (STREAM, image(0), failed(1), end):
            wanted = flow.throw(following) if isinstance(following, Exception) else flow.send(following)
            if isinstance(wanted, FrameReceived):
                came.append(wanted)
                wanted = flow.send(OVER)
    assert came == [FrameReceived(0, ReturnedImage(url=URLS[0]))]


@pytest.mark.parametrize("end", [LOST, OVER])
def test_a_stream_broken_after_its_last_image_is_whole(end: HttpResponse | errors.TriptychError) -> None:
    done, _ = streamed(image(0), failed(1), end)
    assert [bool(output.url) for output in done.outputs] == [True, False]
    assert done.charged_usd == Decimal("0.035")


def test_an_error_event_loses_only_the_images_after_it() -> None:
    trouble = HttpResponse(
        200, {"event": "error"}, json.dumps({"error": said("InternalServiceError", "broke")}).encode()
    )
    done, _ = streamed(image(0), trouble, count=3)
    assert done.outputs[1:] == (ReturnedImage(error='"InternalServiceError: broke"'),) * 2
    with pytest.raises(errors.Failed, match="broke"):
        streamed(trouble)


@pytest.mark.parametrize(
    ("events", "kind"),
    [
        ((failed(0), failed(1), completed(0)), errors.Moderated),
        ((failed(0, "InternalServiceError"), completed(0)), errors.Failed),
        ((completed(0),), errors.Failed),
        ((completed(0, error={"code": SENSITIVE, "message": "no"}),), errors.Moderated),
        ((DONE_LINE,), errors.Failed),
    ],
)
def test_a_stream_without_an_image_is_a_decision(events: Any, kind: type[Exception]) -> None:
    with pytest.raises(errors.Failed) as caught:
        streamed(*events)
    assert type(caught.value) is kind


def test_a_plain_answer_to_a_stream_is_read_as_well() -> None:
    assert len(finished(SUCCESS).outputs) == 2


def test_a_stream_that_was_not_asked_for_is_no_answer() -> None:
    with pytest.raises(errors.Outage):
        drive_stream(ark.submit(edit(Operation.EDIT)), STREAM)


# The listing


def test_the_listing_names_our_models_by_any_of_their_ids() -> None:
    entries = [{"id": "doubao-seedream-5-0-260128", "object": "model"}, {"id": "seedream-4-5-251128"}, {"id": "glm"}, 7]
    listing, (call,), _ = drive_stream(ark.listing(), answer(body={"object": "list", "data": entries}))
    names = {"seedream-5-0-260128", "seedream-5-0-lite-260128", "seedream-4-5-251128"}
    volcengine = {f"doubao-{name}" for name in names}
    assert listing.prices_usd == dict.fromkeys(names | volcengine)
    assert (call.method, call.path) == ("GET", "/models")


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, {"data": []}, errors.Outage),
        (200, {"data": [{"id": "glm"}]}, errors.Outage),
        (404, {"error": said("NotFound")}, errors.Outage),
        (502, HTML, errors.Outage),
        (401, {"error": said("AuthenticationError")}, errors.KeyRejected),
        (429, HTML, errors.RateLimited),
    ],
)
def test_a_listing_that_cannot_be_read_is_never_no_models(status: int, body: Any, kind: type[Exception]) -> None:
    with pytest.raises(errors.TriptychError) as caught:
        drive_stream(ark.listing(), answer(status, body))
    assert type(caught.value) is kind


# Whatever comes

_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
_WORDS = st.sampled_from([*URLS, SENSITIVE, "image_generation.completed", "image_generation.partial_failed", "eA=="])
_KEYS = st.sampled_from(
    ["data", "error", "code", "message", "url", "b64_json", "usage", "generated_images", "image_index", "type", "id"]
)
_JSON = any_json(_SCALARS | _WORDS, _KEYS)
_ENTRY = st.dictionaries(_KEYS, _JSON, max_size=6)


@given(status=st.sampled_from([200, 201, 302, 400, 401, 403, 404, 429, 500, 503]), body=_JSON | _ENTRY, raw=st.binary())
def test_no_answer_raises_anything_but_our_errors(status: int, body: Any, raw: bytes) -> None:
    for content in (body, raw):
        layers = ark.submit(edit(Operation.LAYERS, "seedream-5.5"))
        for flow in (ark.submit(edit()), ark.submit(edit(Operation.GENERATE)), layers, ark.listing()):
            with contextlib.suppress(errors.TriptychError):
                wanted = next(flow)
                with contextlib.suppress(StopIteration):
                    while wanted:
                        wanted = flow.send(answer(status, content))


@given(events=st.lists(_ENTRY | _JSON, max_size=8), count=st.integers(1, 15))
def test_no_stream_raises_anything_but_our_errors(events: list[Any], count: int) -> None:
    flow = ark.submit(edit(count=count))
    waiting = [STREAM, *(answer(body=told) for told in events), OVER]
    next(flow)
    try:
        wanted = flow.send(waiting.pop(0))
        while True:
            wanted = flow.send(OVER if isinstance(wanted, FrameReceived) else waiting.pop(0))
    except errors.TriptychError as error:
        assert len(error.message) < 1000
    except StopIteration as stop:
        assert isinstance(stop.value, Done) and len(stop.value.outputs) <= read.MAX_OUTPUTS
