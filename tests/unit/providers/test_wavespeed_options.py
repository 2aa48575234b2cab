"""WaveSpeedAI's parameters, layers and sizes left to the model: the bytes that go out, and what is read back."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from support import flows
from support.flows import answer, drive
from triptych import catalog
from triptych.core import errors
from triptych.core.models import Done, Layer
from triptych.core.offers import Operation, Quote
from triptych.core.requests import Request
from triptych.providers import wavespeed

TICKET = "0123456789abcdef0123456789abcdef"
IMAGE = "https://host.example/0.png"
LAYERS = {"layers": True}

edit = partial(flows.edit, wavespeed.PROVIDER)
ACCEPTED = answer(body={"code": 200, "data": {"id": TICKET, "status": "created"}})


def sent(*given: Any, **changes: Any) -> tuple[str, Any]:
    """Return the path and the body of a submit."""
    _, (call,) = drive(wavespeed.submit(edit(*given, **changes)), ACCEPTED)
    return call.path, call.json


# Parameters


@pytest.mark.parametrize("operation", [Operation.GENERATE, Operation.EDIT])
@pytest.mark.parametrize(
    ("family", "params", "fields"),
    [
        ("seedream-5.5", {"background": "opaque"}, {"background": "opaque"}),
        ("seedream-5.5", {"background": "auto"}, {"background": "auto"}),
        ("seedream-5.5", {"background": "transparent"}, {"background": "transparent"}),
        ("seedream-5.0-pro", {"prompt_optimization": "fast"}, {"prompt_optimization_mode": "fast"}),
        ("seedream-5.0-pro", {"prompt_optimization": "standard"}, {"prompt_optimization_mode": "standard"}),
    ],
)
def test_a_parameter_is_the_models_own_field(
    operation: Operation, family: str, params: dict[str, Any], fields: dict[str, Any]
) -> None:
    path, body = sent(operation, family, params=params)
    assert (path, body) == (path, {**sent(operation, family)[1], **fields})


def test_a_transparent_background_of_5_5_is_a_png() -> None:
    _, body = sent(Operation.EDIT, "seedream-5.5", params={"background": "transparent"}, format=None)
    assert (body["background"], body["output_format"]) == ("transparent", "png")


@pytest.mark.parametrize(
    ("family", "params", "fault"),
    [
        ("seedream-5.0-pro", {"background": "transparent"}, "background.: .* seedream-5.5's do"),
        ("seedream-5.0-flash", {"background": "transparent"}, "background.: .* It has no parameters"),
        ("seedream-5.0-flash", {"prompt_optimization": "fast"}, "It has no parameters"),
        ("seedream-5.0-pro", {"prompt_optimization": "off"}, "must be one of fast, standard"),
        ("seedream-5.5", {"background": "clear"}, "must be one of auto, transparent, opaque"),
        ("seedream-5.5", {"web_search": True}, r"It has: background \(auto, transparent, opaque\)"),
        ("seedream-4.5", {"watermark": False}, "It has no parameters"),
    ],
)
def test_a_parameter_that_the_model_lacks_is_refused(family: str, params: dict[str, Any], fault: str) -> None:
    offer = edit(Operation.EDIT, family).offer
    with pytest.raises(errors.OutOfLimits, match=fault):
        catalog.check_params(offer, Request("edit_chain", ("x",), ("a",), params=params))


# A size left to the model


@pytest.mark.parametrize("family", ["seedream-5.0-lite", "seedream-4.5", "seedream-4.0"])
@pytest.mark.parametrize("operation", [Operation.EDIT, Operation.EDIT_SEQUENTIAL])
def test_auto_sends_no_size_with_an_edit(family: str, operation: Operation) -> None:
    offer = edit(operation, family).offer
    assert catalog.resolve_size(offer, "auto", (1600, 900)) is None
    assert catalog.resolve_size(offer, None, (1600, 900)) is not None
    assert "size" not in sent(operation, family, size=None)[1]


@pytest.mark.parametrize("family", ["seedream-5.5", "seedream-5.0-pro", "seedream-5.0-flash"])
def test_auto_leaves_the_ratio_of_2k_to_the_model(family: str) -> None:
    offer = edit(Operation.EDIT, family).offer
    assert catalog.resolve_size(offer, "auto", (1600, 900)) is None
    _, body = sent(Operation.EDIT, family, size=None)
    assert body["resolution"] == "2k" and "aspect_ratio" not in body


def test_auto_counts_as_the_dearest_tier() -> None:
    offer = edit(Operation.EDIT, "seedream-5.5").offer
    assert catalog.quote(offer, 1, None, 1).usd == Decimal("0.078")
    assert catalog.quote(offer, 1, (2048, 2048), 1).usd == Decimal("0.043")


@pytest.mark.parametrize("family", ["seedream-5.5", "seedream-5.0-lite"])
def test_auto_without_a_reference_is_2k(family: str) -> None:
    offer = edit(Operation.GENERATE, family).offer
    assert catalog.resolve_size(offer, "auto", None) == (2048, 2048)


# Layers


@pytest.mark.parametrize(
    ("family", "most", "usd", "small_usd"),
    [
        ("seedream-5.5", 100, "3.508", "2.008"),
        ("seedream-5.0-pro", 17, "1.53", "0.765"),
        ("seedream-5.0-flash", 17, "0.459", "0.459"),
    ],
)
def test_a_layer_job_is_quoted_as_its_most_images(family: str, most: int, usd: str, small_usd: str) -> None:
    offer = edit(Operation.LAYERS, family).offer
    assert (offer.max_references, offer.max_outputs, offer.inferred_endpoint) == (1, most, False)
    assert "charged for its largest number" in offer.params["layers"].note
    assert catalog.quote(offer, most, (2048, 2048), 1).usd == Decimal(usd)
    assert catalog.quote(offer, most, (1024, 1024), 1).usd == Decimal(small_usd)


@pytest.mark.parametrize(("spec", "tier"), [(None, "2k"), ("auto", "2k"), ("1K", "1k"), ("1.5K", "1.5k"), ("2k", "2k")])
@pytest.mark.parametrize(
    ("family", "more"),
    [
        ("seedream-5.5", {}),
        ("seedream-5.0-pro", {"output_format": "png"}),
        ("seedream-5.0-flash", {"output_format": "png"}),
    ],
)
def test_a_layer_request_has_one_image_and_a_tier(spec: str | None, tier: str, family: str, more: Any) -> None:
    size = catalog.resolve_size(edit(Operation.LAYERS, family).offer, spec, (1600, 900))
    path, body = sent(Operation.LAYERS, family, size=size, params=LAYERS)
    assert path == f"/api/v3/bytedance/seedream-v{family.removeprefix('seedream-')}/layer-decomposition"
    assert body == {"prompt": "two cats", "image": IMAGE, "resolution": tier, **more}


def test_the_layers_of_pro_take_its_prompt_optimisation() -> None:
    params = {"layers": True, "prompt_optimization": "fast"}
    _, body = sent(Operation.LAYERS, "seedream-5.0-pro", params=params)
    assert body["prompt_optimization_mode"] == "fast" and "layers" not in body


def test_layers_are_never_jpeg() -> None:
    for family in ("seedream-5.5", "seedream-5.0-pro", "seedream-5.0-flash"):
        offer = edit(Operation.LAYERS, family).offer
        with pytest.raises(errors.OutOfLimits, match="jpeg"):
            catalog.check_limits(offer, Request("edit_sequence", ("x",), ("a",), format="jpeg"))


def test_the_price_call_quotes_the_whole_layer_job() -> None:
    asked = edit(Operation.LAYERS, "seedream-5.0-pro", size=(1024, 1024), params=LAYERS)
    told = answer(body={"code": 200, "data": {"price": 0.765, "currency": "USD"}})
    quoted, (call,) = drive(wavespeed.quote(asked), told)
    assert quoted == Quote(Decimal("0.765"), exact=True)
    assert call.json == {"model_id": asked.offer.endpoint, "inputs": next(wavespeed.submit(asked)).json}  # type: ignore[union-attr]


def test_a_layer_jobs_listed_price_is_shared_by_its_images() -> None:
    listed = {"bytedance/seedream-v5.0-pro/layer-decomposition": 0.765, "bytedance/seedream-v4.5/edit": 0.04, "x/y": 0}
    data = [{"model_id": name, "base_price": usd} for name, usd in listed.items()]
    found, _ = drive(wavespeed.listing(), answer(body={"code": 200, "data": data}))
    assert [*found.prices_usd.values()] == [Decimal("0.045"), Decimal("0.04"), None]


def test_tiers_alone_are_listed_without_a_ratio() -> None:
    assert catalog.sizes_text(edit(Operation.LAYERS, "seedream-5.5").offer) == ["1K", "1.5K", "2K"]


URLS = [f"https://a.example/{n}.png" for n in range(3)]


def read(model: Any, outputs: Any = URLS) -> tuple[Layer | None, ...]:
    body = {"data": {"id": TICKET, "status": "completed", "model": model, "outputs": outputs}}
    done, _ = drive(wavespeed.poll(TICKET, None), answer(body=body))
    assert isinstance(done, Done)
    return tuple(output.layer for output in done.outputs)


def test_layers_are_numbered_base_first() -> None:
    assert read("bytedance/seedream-v5.5/layer-decomposition") == (Layer(0), Layer(1), Layer(2))
    assert read("bytedance/seedream-v5.5/layer-decomposition", [None, *URLS[1:]]) == (Layer(0), Layer(1), Layer(2))
    assert read("bytedance/seedream-v5.5/layer-decomposition", URLS[0]) == (Layer(0),)


@pytest.mark.parametrize("model", [None, 7, {}, "bytedance/seedream-v5.5/edit", "layer-decomposition/x"])
def test_other_images_are_no_layers(model: Any) -> None:
    assert read(model) == (None, None, None)


def test_a_hundred_layers_are_read() -> None:
    urls = [f"https://a.example/{n}.png" for n in range(100)]
    assert [layer and layer.z_index for layer in read("x/layer-decomposition", urls)] == [*range(100)]
