"""Seedream 5.5, 5.0 pro and 5.0 flash: what goes out at each provider, field by field, and what is billed for it.

They make one image per request. A field that would ask for a sequence, a stream or a count is refused by the origin or
makes the provider ignore the request's size, so none of them is ever sent.
"""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from support.flows import answer, drive, drive_stream, edit
from triptych import catalog, providers
from triptych.core import errors
from triptych.core.models import Done, ProviderRequest
from triptych.core.offers import Operation
from triptych.core.requests import Request
from triptych.providers import HttpRequest, ark, atlas, evolink, runware, wavespeed

FAMILIES = ("seedream-5.5", "seedream-5.0-pro", "seedream-5.0-flash")
CLIENT_ID = "11111111-2222-4333-8444-555555555555"
REFERENCES = ["https://host.example/0.png", "https://host.example/1.png"]
CLEAR = "a cat on a transparent background"
ARK_IDS = {
    "seedream-5.5": "seedream-5-5-261028",
    "seedream-5.0-pro": "seedream-5-0-pro-260628",
    "seedream-5.0-flash": "seedream-5-0-flash-260915",
}


def sent(provider: providers.Provider, operation: Operation, family: str, **changes: Any) -> HttpRequest:
    """Return the first call of a submit."""
    changes = {"references": 2, "size": (2048, 2048), "format": None, "client_id": CLIENT_ID, **changes}
    call = next(provider.submit(edit(provider, operation, family, **changes)))
    assert isinstance(call, HttpRequest)
    return call


SOLD = [
    (provider, family, operation)
    for provider in (ark, atlas, evolink, runware, wavespeed)
    for family in FAMILIES
    for operation in (Operation.GENERATE, Operation.EDIT)
    if any((o.family, o.operation) == (family, operation) for o in provider.PROVIDER.offers)
]


def test_they_are_sold_where_they_should_be() -> None:
    sold = {(p.PROVIDER.name, family) for p, family, _ in SOLD}
    assert sold == {
        *((name, family) for name in ("ark", "atlas", "runware", "wavespeed") for family in FAMILIES),
        ("evolink", "seedream-5.0-pro"),
        ("evolink", "seedream-5.0-flash"),
    }
    assert len(SOLD) == 2 * len(sold)


# What goes out


@pytest.mark.parametrize("operation", [Operation.GENERATE, Operation.EDIT])
@pytest.mark.parametrize("family", FAMILIES)
def test_ark_gets_one_flat_body(family: str, operation: Operation) -> None:
    call = sent(ark.PROVIDER, operation, family)
    assert (call.method, call.path, call.stream) == ("POST", "/images/generations", False)
    assert call.json == {
        "model": ARK_IDS[family],
        "prompt": "two cats",
        "size": "2048x2048",
        "response_format": "url",
        "watermark": False,
        **({"output_format": "png"} if family == "seedream-5.5" else {}),
        **({"image": REFERENCES} if operation.edits else {}),
    }


@pytest.mark.parametrize("operation", [Operation.GENERATE, Operation.EDIT])
@pytest.mark.parametrize("family", FAMILIES)
def test_atlas_gets_its_sizes_with_a_star(family: str, operation: Operation) -> None:
    call = sent(atlas.PROVIDER, operation, family, size=(1776, 2368))
    tail = "edit" if operation.edits else "text-to-image"
    assert (call.method, call.path) == ("POST", "/api/v1/model/generateImage")
    assert call.json == {
        "model": f"bytedance/seedream-v{family.removeprefix('seedream-')}/{tail}",
        "prompt": "two cats",
        "size": "1776*2368",
        **({"output_format": "png"} if family == "seedream-5.5" else {}),
        **({"images": REFERENCES} if operation.edits else {}),
    }


@pytest.mark.parametrize("operation", [Operation.GENERATE, Operation.EDIT])
@pytest.mark.parametrize("family", FAMILIES)
def test_wavespeed_gets_ratio_and_resolution(family: str, operation: Operation) -> None:
    call = sent(wavespeed.PROVIDER, operation, family, size=(2048, 1152))
    base = f"/api/v3/bytedance/seedream-v{family.removeprefix('seedream-')}"
    assert (call.method, call.path) == ("POST", f"{base}/edit" if operation.edits else base)
    assert call.json == {
        "prompt": "two cats",
        "aspect_ratio": "16:9",
        "resolution": "1.5k",
        **({"output_format": "png"} if family == "seedream-5.5" else {}),
        **({"images": REFERENCES} if operation.edits else {}),
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_wavespeed_takes_every_ratio_at_every_tier(family: str) -> None:
    offer = next(o for o in wavespeed.PROVIDER.offers if (o.family, o.operation) == (family, Operation.EDIT))
    assert len(offer.sizes.presets) == (4 if family == "seedream-5.5" else 3)
    for word, row in offer.sizes.presets.items():
        assert len(row) == 15
        for ratio in row:
            size = catalog.resolve_size(offer, f"{word} {ratio}", None)
            body = sent(wavespeed.PROVIDER, Operation.EDIT, family, size=size).json
            assert (body["aspect_ratio"], body["resolution"]) == (ratio, word.lower())


@pytest.mark.parametrize("operation", [Operation.GENERATE, Operation.EDIT])
@pytest.mark.parametrize("family", FAMILIES)
def test_runware_gets_width_and_height(family: str, operation: Operation) -> None:
    call = sent(runware.PROVIDER, operation, family, size=(2048, 1152))
    assert call.json == [
        {
            "taskType": "imageInference",
            "taskUUID": CLIENT_ID,
            "model": f"bytedance:seedream@{family.removeprefix('seedream-')}",
            "positivePrompt": "two cats",
            "width": 2048,
            "height": 1152,
            "deliveryMethod": "async",
            "outputType": "URL",
            "includeCost": True,
            "ttl": 86400,
            **({"outputFormat": "PNG"} if family == "seedream-5.5" else {}),
            **({"inputs": {"referenceImages": REFERENCES}} if operation.edits else {}),
        }
    ]
    assert UUID(CLIENT_ID).version == 4


@pytest.mark.parametrize("operation", [Operation.GENERATE, Operation.EDIT])
@pytest.mark.parametrize("family", FAMILIES[1:])
def test_evolink_gets_the_format_at_the_top(family: str, operation: Operation) -> None:
    call = sent(evolink.PROVIDER, operation, family, format="png")
    assert call.json == {
        "model": f"doubao-{family}",
        "prompt": "two cats",
        "size": "2048x2048",
        "output_format": "png",
        **({"image_urls": REFERENCES} if operation.edits else {}),
    }


@pytest.mark.parametrize(("provider", "family", "operation"), SOLD)
def test_nothing_asks_for_a_sequence_a_stream_or_a_count(provider: Any, family: str, operation: Operation) -> None:
    call = sent(provider.PROVIDER, operation, family, prompt=CLEAR, format="png")
    said = json.dumps(call.json)
    for word in ("sequential", "stream", '"n"', "max_images", "num_images", "maxSequentialImages", "numberResults"):
        assert word not in said
    assert not call.stream


@pytest.mark.parametrize(
    ("spec", "asked"),
    [
        ("2K", ("1:1", "2k")),
        ("1K 16:9", ("16:9", "1k")),
        ("3K 16:9", ("16:9", "3k")),
        ("1.5K 1:3", ("1:3", "1.5k")),
        ("2:1", ("2:1", "2k")),
        ("3840x2160", ("16:9", "3k")),
        ("2496x1664", ("3:2", "2k")),
    ],
)
def test_every_size_of_wavespeed_has_its_ratio_and_tier(spec: str, asked: tuple[str, str]) -> None:
    offer = edit(wavespeed.PROVIDER, Operation.EDIT, "seedream-5.5").offer
    body = sent(wavespeed.PROVIDER, Operation.EDIT, "seedream-5.5", size=catalog.resolve_size(offer, spec, None)).json
    assert (body["aspect_ratio"], body["resolution"]) == asked


def test_the_sizes_of_wavespeed_are_all_different() -> None:
    sizes = edit(wavespeed.PROVIDER, Operation.EDIT, "seedream-5.5").offer.sizes.all()
    assert len(sizes) == len(set(sizes)) == 60
    for refused in ("4K", "1000x1000"):
        with pytest.raises(errors.OutOfLimits, match=r"1K; 1\.5K; 2K; 3K; each as 1:1"):
            catalog.resolve_size(edit(wavespeed.PROVIDER, Operation.EDIT, "seedream-5.5").offer, refused, None)
    with pytest.raises(errors.OutOfLimits, match="1000x1000"):
        sent(wavespeed.PROVIDER, Operation.EDIT, "seedream-5.5", size=(1000, 1000))


# A transparent background


@pytest.mark.parametrize(
    ("provider", "field"),
    [
        (ark, lambda body: body["background"]),
        (wavespeed, lambda body: body["background"]),
        (runware, lambda body: body[0]["settings"]["background"]),
    ],
)
@pytest.mark.parametrize("operation", [Operation.GENERATE, Operation.EDIT])
def test_a_parameter_asks_5_5_for_a_transparent_background(provider: Any, field: Any, operation: Operation) -> None:
    body = sent(provider.PROVIDER, operation, "seedream-5.5", params={"background": "transparent"}).json
    assert field(body) == "transparent" and "png" in json.dumps(body).casefold()
    words_alone = sent(provider.PROVIDER, operation, "seedream-5.5", prompt=CLEAR).json
    assert '"background":' not in json.dumps(words_alone)


@pytest.mark.parametrize("family", FAMILIES)
def test_atlas_has_no_known_background_and_says_why(family: str) -> None:
    offer = edit(atlas.PROVIDER, Operation.EDIT, family).offer
    with pytest.raises(errors.OutOfLimits, match=r'no parameter "background": no page .* ignores unknown fields'):
        catalog.check_params(offer, Request("edit_chain", ("x",), ("a",), params={"background": "transparent"}))


@pytest.mark.parametrize("provider", [atlas, wavespeed])
def test_a_seed_is_refused_because_it_would_do_nothing(provider: Any) -> None:
    for offer in provider.PROVIDER.offers:
        with pytest.raises(errors.OutOfLimits, match=r"seed.: its makers dropped it after .* it would do nothing"):
            catalog.check_params(offer, Request("edit_sequence", ("x",), ("a",), params={"seed": 7}))


# An id that no document names


ATLAS_EDIT = "bytedance/seedream-v5.5/edit"


@pytest.mark.parametrize(
    ("status", "words"),
    [(404, "not found"), (400, "model not found: x"), (400, "The model does not exist"), (422, "unknown model")],
)
def test_an_unknown_inferred_id_says_that_it_is_inferred(status: int, words: str) -> None:
    refused = answer(status, {"code": status, "msg": words, "data": None})
    with pytest.raises(errors.NotOffered, match=f"{ATLAS_EDIT}, which is inferred"):
        drive(atlas.submit(edit(atlas.PROVIDER, Operation.EDIT, "seedream-5.5")), refused)


def test_a_documented_id_is_not_called_inferred() -> None:
    refused = answer(404, {"code": 404, "msg": "not found", "data": None})
    with pytest.raises(errors.NotOffered) as caught:
        drive(atlas.submit(edit(atlas.PROVIDER, Operation.GENERATE, "seedream-5.5")), refused)
    assert "inferred" not in caught.value.message


def test_the_field_of_an_inferred_id_has_two_spellings() -> None:
    refused = answer(400, {"code": 400, "msg": "image is required and must be a string", "data": None})
    accepted = answer(200, {"code": 200, "data": {"id": "t1", "status": "processing"}})
    asked = edit(atlas.PROVIDER, Operation.EDIT, "seedream-5.5")
    _, (first, second) = drive(atlas.submit(asked), refused, accepted)
    assert (first.json["images"], second.json["image"]) == (REFERENCES[:1], REFERENCES[0])
    assert {**second.json, "images": REFERENCES[:1]} == {**first.json, "image": REFERENCES[0]}


# What is billed


@pytest.mark.parametrize(
    ("family", "size", "references", "usd"),
    [
        ("seedream-5.5", (1024, 1024), 0, "0.02"),
        ("seedream-5.5", (1536, 1536), 1, "0.028"),
        ("seedream-5.5", (2048, 2048), 2, "0.051"),
        ("seedream-5.0-pro", (1024, 1024), 1, "0.045"),
        ("seedream-5.0-pro", (2048, 2048), 3, "0.096"),
        ("seedream-5.0-flash", (2048, 2048), 3, "0.018"),
    ],
)
def test_ark_charges_tier_and_references(family: str, size: Any, references: int, usd: str) -> None:
    operation = Operation.EDIT if references else Operation.GENERATE
    request = edit(ark.PROVIDER, operation, family, references or 1, size=size)
    usage = {"generated_images": 1, "input_images": references}
    done = charged(request, {"data": [{"url": "https://a.example/1.png"}], "usage": usage})
    assert done.charged_usd == Decimal(usd) == catalog.quote(request.offer, 1, size, references).usd


@pytest.mark.parametrize(
    ("usage", "usd"), [({"input_images": 1}, "0.043"), ({}, "0.051"), ({"input_images": -1}, "0.051")]
)
def test_ark_bills_the_references_that_it_counted(usage: dict[str, int], usd: str) -> None:
    request = edit(ark.PROVIDER, Operation.EDIT, "seedream-5.5", 2)
    done = charged(request, {"data": [{"url": "https://a.example/1.png"}], "usage": usage})
    assert done.charged_usd == Decimal(usd)


def charged(request: ProviderRequest, body: Any) -> Done:
    done, _, _ = drive_stream(ark.submit(replace(request, size=request.size)), answer(body=body))
    assert isinstance(done, Done)
    return done
