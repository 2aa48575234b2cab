"""The bodies of requests for live models: each is legal by the very schema that the provider publishes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from support.catalogue import PROVIDERS, entries, mapped, only, sized
from triptych import catalog
from triptych.catalog.live_offers import NotMapped
from triptych.core import errors
from triptych.core.models import ProviderRequest, Reference
from triptych.core.offers import Offer, Operation, Param
from triptych.core.requests import Request
from triptych.providers import _live as live

MASK = Reference("m" * 64, "image/png", url="https://files.example/mask.png")


def reference(n: int) -> Reference:
    return Reference(f"{n:064}", "image/png", url=f"https://files.example/{n}.png")


def offered() -> Iterator[tuple[str, str, Offer]]:
    for provider in PROVIDERS:
        for model, entry in entries(provider).items():
            try:
                found = mapped(provider, entry)
            except NotMapped:
                continue
            yield from ((provider, model, offer) for offer in found)


def asked(offer: Offer, *, images: int = 1, **options: Any) -> ProviderRequest:
    """Return a request for an offer that passes the checks before a payment."""
    count = images if offer.operation.edits else 0
    params = {name: "mask.png" for name, param in offer.params.items() if param.required} | options.pop("params", {})
    handles = tuple(f"img_{n}" for n in range(count))
    tool = "edit_sequence" if offer.operation.edits else "generate_sequence"
    request = Request(tool, ("a red hat",), handles, params=params, **options)
    catalog.check_limits(offer, request)
    catalog.check_params(offer, request)
    size = catalog.resolve_size(offer, request.size, (1200, 800) if count else None)
    values = {name: MASK if offer.params[name].is_image else value for name, value in params.items()}
    references = tuple(reference(n) for n in range(count))
    return ProviderRequest(offer, request, request.prompt, size, references, params=values)


def samples(param: Param) -> list[Any]:
    """Return values of a parameter: all of an enum, the bounds of a number, a text."""
    schema = param.schema
    if "enum" in schema:
        return list(schema["enum"])
    if schema["type"] == "boolean":
        return [True, False]
    if schema["type"] == "string":
        return ["mask.png" if param.is_image else "blurred, low quality"[: schema.get("maxLength")]]
    return [schema.get("minimum", -5), schema.get("maximum", 5), schema.get("default", 1)]


def sizes(offer: Offer) -> list[str | None]:
    """Return every kind of size that an offer takes, and every size in its table."""
    rows = offer.sizes.presets
    words = list(rows)
    ratios = [f"{word} {ratio}" for word, row in rows.items() for ratio in row] + list(next(iter(rows.values()), ()))
    pixels = [f"{width}x{height}" for width, height in offer.sizes.all()]
    low, high = offer.sizes.min_side, offer.sizes.max_side
    free = [] if offer.sizes.exact else [f"{low}x{low}", f"{high}x{high}", f"{low + 10}x{low}"]
    return [None, "auto", *words, *ratios, *pixels, *free]


def grid(offer: Offer) -> Iterator[ProviderRequest]:
    most_images = {1, offer.max_references} if offer.operation.edits else {0}
    for images in most_images:
        for count in {1, offer.max_outputs}:
            yield asked(offer, images=images, count=count)
    for size in sizes(offer):
        yield asked(offer, size=size, count=offer.max_outputs)
    for image_format in offer.formats:
        yield asked(offer, format=image_format)
    for name, param in offer.params.items():
        for value in samples(param):
            yield asked(offer, params={name: value})
    everything = {name: samples(param)[0] for name, param in offer.params.items()}
    yield asked(offer, images=max(most_images), size=sizes(offer)[-1], params=everything)


OFFERED = list(offered())


@pytest.mark.parametrize(("provider", "model", "offer"), OFFERED, ids=[f"{p}-{m}-{o.operation}" for p, m, o in OFFERED])
def test_every_body_is_legal_by_the_models_own_schema(provider: str, model: str, offer: Offer) -> None:
    schema = {**entries(provider)[model]["schema"], "additionalProperties": False}
    validator = Draft202012Validator(schema)
    for edit in grid(offer):
        own = {"model": model} if provider == "atlas" else {}
        made = live.body(edit)
        faults = [error.message for error in validator.iter_errors({**own, **made})]
        assert not faults, (edit.request, made)
        assert all(low <= side <= high for low, side, high in sides(schema, made)), made


def sides(schema: Any, made: dict[str, Any]) -> Iterator[tuple[int, int, int]]:
    """Yield each side of a size with its bounds; for a validator these are words without a meaning."""
    size = schema["properties"].get("size", {})
    if "minimum" in size and "size" in made:
        yield from ((size["minimum"], int(side), size["maximum"]) for side in made["size"].split("*"))


def body(provider: str, model: str, operation: Operation = Operation.EDIT, **options: Any) -> dict[str, Any]:
    offer = next(o for o in mapped(provider, entries(provider)[model]) if o.operation is operation)
    made = live.body(asked(offer, **options))
    assert made.pop("model", model) == model
    return made


FIRST, SECOND = "https://files.example/0.png", "https://files.example/1.png"


def test_nano_banana_gets_a_ratio_and_a_tier() -> None:
    made = body("wavespeed", "google/nano-banana-2/edit", images=2, size="2K 16:9", format="jpeg")
    assert made == {
        "prompt": "a red hat",
        "images": [FIRST, SECOND],
        "aspect_ratio": "16:9",
        "resolution": "2k",
        "output_format": "jpeg",
    }


def test_an_omitted_size_is_not_in_the_body() -> None:
    plain = {"prompt": "a red hat", "images": [FIRST]}
    assert body("wavespeed", "google/nano-banana-2/edit") == plain
    assert body("wavespeed", "google/nano-banana-2/edit", size="auto") == plain


def test_gpt_image_gets_its_own_words() -> None:
    params = {"background": "transparent", "quality": "max", "mask": "mask.png"}
    made = body(
        "atlas", "openai/gpt-image-2.5-flare/edit", Operation.EDIT_SEQUENTIAL, count=4, size="3:2", params=params
    )
    assert made == {
        "prompt": "a red hat",
        "images": [FIRST],
        "n": 4,
        "size": "1536x1024",
        "background": "transparent",
        "quality": "max",
        "mask": "https://files.example/mask.png",
    }


def test_shared_parameters_are_sent_in_the_providers_words() -> None:
    made = body("atlas", "alibaba/qwen-image/edit-plus", params={"prompt_optimization": "off", "seed": 7})
    assert made == {"prompt": "a red hat", "images": [FIRST], "num_images": 1, "prompt_extend": False, "seed": 7}
    searched = body("wavespeed", "google/nano-banana-2/edit", params={"web_search": True})
    assert searched["enable_web_search"] is True


def test_one_image_is_always_asked_for_by_number() -> None:
    made = body("atlas", "black-forest-labs/flux-kontext-dev")
    assert made == {"prompt": "a red hat", "image": FIRST, "num_images": 1}


def test_a_model_without_a_prompt_is_sent_none() -> None:
    assert body("wavespeed", "bria/remove-background") == {"image": FIRST}
    assert body("wavespeed", "bria/eraser") == {"image": FIRST, "mask_image": "https://files.example/mask.png"}
    assert body("wavespeed", "bria/expand", size="16:9") == {"image": FIRST, "aspect_ratio": "16:9"}
    assert body("wavespeed", "bria/increase-resolution", params={"desired_increase": 4}) == {
        "image": FIRST,
        "desired_increase": 4,
    }
    assert body("wavespeed", "wavespeed-ai/image-upscaler", size="4K", format="png") == {
        "image": FIRST,
        "target_resolution": "4k",
        "output_format": "png",
    }


def test_a_generation_carries_no_image() -> None:
    made = body("wavespeed", "wavespeed-ai/flux-2-pro/text-to-image", Operation.GENERATE, size="1280x720")
    assert made == {"prompt": "a red hat", "size": "1280*720", "num_images": 1}


def test_width_and_height_are_numbers() -> None:
    side = {"type": "integer", "minimum": 64, "maximum": 2048}
    assert live.body(asked(sized(width=side, height=side), size="700x900")) == {
        "image": FIRST,
        "width": 700,
        "height": 900,
    }


def test_formats_have_the_providers_spelling() -> None:
    offer = sized(output_format={"type": "string", "enum": ["JPG", "PNG", "gif"]})
    assert offer.formats == ("jpeg", "png")
    assert live.body(asked(offer, format="jpeg")) == {"image": FIRST, "output_format": "JPG"}


def test_constants_give_way_to_what_a_request_sets() -> None:
    factor = {"type": "integer", "enum": [2, 4], "default": 2}
    tier = {"type": "string", "enum": ["1k", "2k"], "default": "1k"}
    offer = sized(required=("factor", "resolution"), factor=factor, resolution=tier)
    assert live.body(asked(offer)) == {"image": FIRST, "factor": 2, "resolution": "1k"}
    assert live.body(asked(offer, params={"factor": 4}, size="2K")) == {"image": FIRST, "factor": 4, "resolution": "2k"}


def test_a_size_outside_the_table_is_refused() -> None:
    offer = only(mapped("wavespeed", entries("wavespeed")["google/nano-banana-2/edit"]))
    with pytest.raises(errors.OutOfLimits, match="takes no 1000x999"):
        live.body(replace(asked(offer), size=(1000, 999)))
