"""What each live model becomes: its operations, limits, inputs and parameters, or the reason why it is not offered."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from support.catalogue import PROVIDERS, READ_ON, SOURCE, entries, listed, mapped, only, sized, stand_in
from triptych import catalog
from triptych.catalog.live_offers import NotMapped, offers
from triptych.core import errors
from triptych.core.offers import Offer, Operation
from triptych.core.requests import Request

# operations, references, outputs, {input: property}, parameters
ATLAS: dict[str, tuple[str, int, int, str, str]] = {
    "google/nano-banana-2/edit": (
        "edit", 14, 1, "prompt images ratio:aspect_ratio tier:resolution format:output_format",
        "thinking_level media_resolution",
    ),
    "google/nano-banana-pro/edit": (
        "edit", 10, 1, "prompt images ratio:aspect_ratio tier:resolution format:output_format", "",
    ),
    "openai/gpt-image-2/edit": ("edit", 10, 1, "prompt images size format:output_format", "quality"),
    "openai/gpt-image-2.5-flare/edit": (
        "edit edit-sequential", 16, 10, "prompt images count:n size format:output_format", "mask background quality",
    ),
    "openai/gpt-image-2.5-sunburst/edit": (
        "edit edit-sequential", 16, 10, "prompt images count:n size format:output_format", "mask background quality",
    ),
    "atlascloud/qwen-image/edit": ("edit", 1, 1, "prompt image", "seed"),
    "alibaba/qwen-image/edit-plus": (
        "edit edit-sequential", 10, 6, "prompt images count:num_images size",
        "seed negative_prompt prompt_optimization",
    ),
    "black-forest-labs/flux-kontext-dev": (
        "edit edit-sequential", 1, 4, "prompt image count:num_images size",
        "seed num_inference_steps guidance_scale enable_safety_checker",
    ),
    "alibaba/wan-2.7/image-edit": ("edit edit-sequential", 9, 4, "prompt images count:n size", "seed thinking_mode"),
    "alibaba/wan-2.7/image-edit-pro": ("edit edit-sequential", 9, 4, "prompt images count:n size", "seed"),
    "bytedance/seedream-v4.5/edit": ("edit", 10, 1, "prompt images size", ""),
    "bytedance/seedream-v4.5/edit-sequential": ("edit-sequential", 10, 15, "prompt images count:max_images size", ""),
    "bytedance/seedream-v5.0-pro/text-to-image": ("generate", 0, 1, "prompt size format:output_format", ""),
    "bytedance/seedream-v5.0-pro/edit": ("edit", 10, 1, "prompt images size format:output_format", ""),
    "bytedance/seedream-v4.7/text-to-image": ("generate", 0, 1, "prompt size", ""),
}  # fmt: skip
WAVESPEED: dict[str, tuple[str, int, int, str, str]] = {
    "google/nano-banana-2/edit": (
        "edit", 14, 1, "prompt images ratio:aspect_ratio tier:resolution format:output_format",
        "web_search enable_image_search",
    ),
    "google/nano-banana-2/edit-fast": (
        "edit", 14, 1, "prompt images ratio:aspect_ratio tier:resolution format:output_format", "web_search",
    ),
    "google/nano-banana-pro/edit": (
        "edit", 8, 1, "prompt images ratio:aspect_ratio tier:resolution format:output_format", "",
    ),
    "google/nano-banana-2-lite/edit": ("edit", 4, 1, "prompt images ratio:aspect_ratio", ""),
    "openai/gpt-image-2/edit": ("edit", 4, 1, "prompt images ratio:aspect_ratio tier:resolution", "quality"),
    "openai/gpt-image-2.5-flare/edit": (
        "edit", 16, 1, "prompt images ratio:aspect_ratio tier:resolution format:output_format", "quality",
    ),
    "wavespeed-ai/qwen-image/edit": ("edit", 1, 1, "prompt image", "seed"),
    "wavespeed-ai/qwen-image/edit-2511": ("edit", 3, 1, "prompt images", "seed"),
    "alibaba/qwen-image-max/edit": ("edit", 6, 1, "prompt images size", "seed"),
    "alibaba/qwen-image-3.0/edit": (
        "edit", 3, 1, "prompt images ratio:aspect_ratio tier:resolution", "seed prompt_optimization",
    ),
    "wavespeed-ai/flux-kontext-pro": (
        "edit", 1, 1, "prompt image ratio:aspect_ratio", "seed guidance_scale safety_tolerance",
    ),
    "wavespeed-ai/flux-2-pro/text-to-image": ("generate", 0, 1, "prompt count:num_images size", "seed"),
    "wavespeed-ai/flux-2-pro/edit": ("edit", 3, 1, "prompt images size", "seed"),
    "alibaba/wan-2.7/image-edit": ("edit", 9, 1, "prompt images size", "seed"),
    "kwaivgi/kling-image-o3/edit": (
        "edit edit-sequential", 10, 9,
        "prompt images count:num_images ratio:aspect_ratio tier:resolution format:output_format", "",
    ),
    "bytedance/seedream-v4.5/edit": ("edit", 10, 1, "prompt images size", ""),
    "bytedance/seedream-v5.5/edit": (
        "edit", 10, 1, "prompt images ratio:aspect_ratio tier:resolution format:output_format", "background",
    ),
    "bria/remove-background": ("edit", 1, 1, "image", ""),
    "bria/increase-resolution": ("edit", 1, 1, "image", "desired_increase"),
    "bria/eraser": ("edit", 1, 1, "image", "mask"),
    "bria/expand": ("edit", 1, 1, "image ratio:aspect_ratio", ""),
    "bria/fibo/edit": ("edit", 1, 1, "prompt images", "seed negative_prompt"),
    "wavespeed-ai/image-upscaler": ("edit", 1, 1, "image tier:target_resolution format:output_format", ""),
}  # fmt: skip
OFFERED = {
    **{("atlas", model): row for model, row in ATLAS.items()},
    **{("wavespeed", m): r for m, r in WAVESPEED.items()},
}
NOT_OFFERED = {
    ("atlas", "bytedance/seedream-v5.0-pro/layer-decomposition"): "takes a picture apart",
    ("atlas", "alibaba/wan-2.7/image-to-video"): 'category is "image-to-video"',
    ("atlas", "deepseek-ai/deepseek-v3.2"): 'category is "llm"',
    ("atlas", "black-forest-labs/flux-kontext-dev-lora-trainer"): 'category is "training"',
    ("wavespeed", "bytedance/seedream-v5.5/layer-decomposition"): "takes a picture apart",
    ("wavespeed", "wavespeed-ai/ai-clothes-changer"): "does not take exactly one image",
    ("wavespeed", "wavespeed-ai/video-upscaler"): "makes videos",
    ("wavespeed", "alibaba/wan-2.7/image-to-video"): 'category is "image-to-video"',
    ("wavespeed", "wavespeed-ai/any-llm"): 'category is "llm"',
    ("wavespeed", "wavespeed-ai/flux-dev-lora-trainer"): 'category is "training"',
}
INPUTS = ("prompt", "image", "images", "count", "size", "width", "height", "ratio", "tier", "format")
PROMPT = {"type": "string", "x-ui-component": "textarea"}
IMAGES = {
    "type": "array",
    "items": {"type": "string"},
    "maxItems": 4,
    "x-ui-component": "uploaders",
    "x-accept": "image/*",
}
IMAGE = {"type": "string", "x-ui-component": "uploader", "x-accept": "image/*"}


def inputs_of(offer: Offer) -> str:
    assert offer.live
    named = [(name, getattr(offer.live, name)) for name in INPUTS]
    return " ".join(name if name == own else f"{name}:{own}" for name, own in named if own)


# The models of both catalogues ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("provider", "model"), OFFERED)
def test_each_documented_model_becomes_these_offers(provider: str, model: str) -> None:
    operations, references, outputs, inputs, params = OFFERED[provider, model]
    found = mapped(provider, entries(provider)[model])
    assert " ".join(offer.operation for offer in found) == operations
    assert {inputs_of(offer) for offer in found} == {inputs}
    assert [" ".join(offer.params) for offer in found] == [params] * len(found)
    assert max(offer.max_references for offer in found) == references
    assert max(offer.max_outputs for offer in found) == outputs
    for offer in found:
        assert (offer.provider, offer.family, offer.endpoint) == (provider, model, model)
        assert (offer.max_outputs > 1) == offer.operation.sequential
        assert offer.max_references_and_outputs >= offer.max_references + offer.max_outputs


@pytest.mark.parametrize(("provider", "model"), NOT_OFFERED)
def test_the_others_are_refused_with_the_reason(provider: str, model: str) -> None:
    with pytest.raises(NotMapped, match=NOT_OFFERED[provider, model]):
        mapped(provider, entries(provider)[model])


def test_the_tables_name_every_model() -> None:
    listed_models = {(provider, model) for provider in PROVIDERS for model in entries(provider)}
    assert listed_models == OFFERED.keys() | NOT_OFFERED.keys()
    assert len({model for _, model in OFFERED}) >= 25


def test_price_title_and_path_come_from_the_catalogue() -> None:
    offer = only(mapped("atlas", entries("atlas")["google/nano-banana-2/edit"]))
    assert offer.title == "Nano Banana 2 Edit: Google's model for edits by words, with up to 14 references."
    assert (offer.price.usd_per_image, offer.price.unknown) == (Decimal("0.04"), False)
    assert (offer.price.as_of, offer.price.source) == (READ_ON, SOURCE)
    assert offer.live
    assert offer.live.path == "/api/v3/google/nano-banana-2/edit"
    assert mapped("wavespeed", entries("wavespeed")["bytedance/seedream-v5.5/edit"])[0].price.unknown


def test_a_sequential_model_is_told_the_count_in_its_prompt() -> None:
    offer = only(mapped("atlas", entries("atlas")["bytedance/seedream-v4.5/edit-sequential"]))
    assert offer.names_count_in_prompt
    assert not mapped("atlas", entries("atlas")["alibaba/wan-2.7/image-edit"])[1].names_count_in_prompt


# Media ---------------------------------------------------------------------------------------------------------------


def test_an_unknown_model_works_from_its_schema_alone() -> None:
    offer = only(stand_in({"prompt": PROMPT, "person_photo": IMAGE}, ("prompt", "person_photo")))
    assert (offer.operation, offer.max_references, inputs_of(offer)) == (Operation.EDIT, 1, "prompt image:person_photo")


@pytest.mark.parametrize(
    ("name", "kind", "is_offered"),
    [
        ("subject", "image-to-image", True),
        ("subject", "upscaler", False),
        ("subject_image", "upscaler", True),
        ("subject_video", "image-to-image", False),
        ("lora_file", "image-to-image", False),
    ],
)
def test_a_file_field_without_a_kind_needs_another_sign(name: str, kind: str, is_offered: bool) -> None:
    properties = {name: {"type": "string", "x-ui-component": "uploader"}}
    if is_offered:
        assert inputs_of(only(stand_in(properties, (name,), kind=kind))) == f"image:{name}"
    else:
        with pytest.raises(NotMapped):
            stand_in(properties, (name,), kind=kind)


def test_optional_images_give_both_operations() -> None:
    both = stand_in({"prompt": PROMPT, "images": IMAGES}, ("prompt",), model="new-lab/brush-1", kind="text-to-image")
    assert [(offer.operation, offer.max_references) for offer in both] == [(Operation.GENERATE, 0), (Operation.EDIT, 4)]


def test_a_model_for_edits_never_generates() -> None:
    assert [offer.operation for offer in stand_in({"prompt": PROMPT, "images": IMAGES})] == [Operation.EDIT]


@pytest.mark.parametrize(
    ("properties", "required", "reason"),
    [
        ({"prompt": PROMPT}, ("prompt",), "no clear field for an image"),
        ({"seed": {"type": "integer"}}, (), "neither a prompt nor an image"),
        ({"image": IMAGE, "style": IMAGE}, ("image", "style"), "several images: image, style"),
        ({"image": {**IMAGE, "x-accept": "video/*"}}, ("image",), "may be no image"),
        ({"image": {**IMAGE, "x-accept": "image/*,video/*"}}, ("image",), "may be no image"),
        ({"prompt": PROMPT, "image": IMAGE, "voice_file": {"type": "string"}}, ("voice_file",), "may be no image"),
        ({"image": IMAGE, "strength": {"type": "number"}}, ("strength",), '"strength", which is unknown'),
        ({"images": {**IMAGES, "minItems": 2}}, (), "takes 2 images or more"),
        ({"image": IMAGE, "prompt": {**PROMPT, "pattern": "^a"}}, (), "its prompt is not a plain text"),
        ({"prompt": PROMPT, "image": IMAGE, "duration": {"type": "integer"}}, (), "it makes videos"),
        ({"image": IMAGE, "n": {"type": "integer", "minimum": 2, "maximum": 4}}, (), "its n does not take 1"),
        ({"image": IMAGE, "n": {"type": "string"}}, (), "its n does not take 1"),
    ],
)
def test_an_uncertain_schema_is_refused(properties: dict[str, Any], required: tuple[str, ...], reason: str) -> None:
    with pytest.raises(NotMapped, match=reason):
        stand_in(properties, required)


def test_a_bound_beside_a_reference_is_not_dropped() -> None:
    level = {"$ref": "#/$defs/level", "maximum": 9}
    with pytest.raises(NotMapped, match=r"bounds a value twice \(maximum\)"):
        stand_in({"image": IMAGE, "level": level}, **{"$defs": {"level": {"type": "integer", "maximum": 5}}})


def test_a_required_option_named_model_is_sent() -> None:
    versions = {"type": "string", "enum": ["Standard", "Fine"]}
    offer = only(stand_in({"image": IMAGE, "model": {**versions, "default": "Fine"}}, ("image", "model")))
    assert offer.live
    assert offer.live.constants == {"model": "Fine"}
    with pytest.raises(NotMapped, match='requires "model"'):
        stand_in({"image": IMAGE, "model": versions}, ("image", "model"))


def test_a_prompt_that_is_too_short_is_refused() -> None:
    offer = only(stand_in({"image": IMAGE, "prompt": {**PROMPT, "minLength": 3}}, ("image", "prompt")))
    with pytest.raises(errors.OutOfLimits, match=r"has 2 characters; .* takes at least 3"):
        catalog.check_limits(offer, Request("edit_sequence", ("hi",), ("img_1",)))


@pytest.mark.parametrize("required", [(), ("output_format",)])
def test_a_format_that_cannot_be_read_is_never_chosen(required: tuple[str, ...]) -> None:
    offer = sized(required=required, output_format={"type": "string", "enum": ["svg", "jpg", "PNG"], "default": "svg"})
    assert offer.live
    assert offer.live.constants == {"output_format": "PNG"}


@pytest.mark.parametrize("name", ["num_variations", "samples", "batch_count", "number_of_outputs"])
def test_no_default_multiplies_the_images(name: str) -> None:
    offer = sized(**{name: {"type": "integer", "minimum": 1, "maximum": 4, "default": 4}})
    assert offer.live
    assert (offer.live.constants, offer.params) == ({name: 1}, {})


def test_a_model_without_layers_says_so() -> None:
    offers = stand_in({"image": IMAGE, "prompt": PROMPT}, ("image",))
    with pytest.raises(errors.OutOfLimits, match="takes no picture apart into layers: leave model out"):
        catalog.choose(offers, Operation.LAYERS, offers[0].endpoint)


@pytest.mark.parametrize("kind", ["string", None, 7, ["null"], {}])
def test_a_schema_of_no_object_is_refused(kind: Any) -> None:
    with pytest.raises(NotMapped, match="not one of an object"):
        stand_in({"image": IMAGE, "prompt": PROMPT}, type=kind)


def test_a_bounded_number_of_fields_is_refused() -> None:
    with pytest.raises(NotMapped, match="conditions between its fields"):
        stand_in({"image": IMAGE, "prompt": PROMPT}, maxProperties=1)


def test_conditions_between_fields_are_refused() -> None:
    with pytest.raises(NotMapped, match="conditions between its fields"):
        stand_in({"image": IMAGE, "images": IMAGES}, oneOf=[{"required": ["image"]}, {"required": ["images"]}])


def test_a_required_mask_must_be_given() -> None:
    eraser = only(mapped("wavespeed", entries("wavespeed")["bria/eraser"]))
    request = Request("edit_chain", ("erase it",), ("img_1",))
    with pytest.raises(errors.OutOfLimits, match=r"needs params\.mask: an image"):
        catalog.check_params(eraser, request)
    catalog.check_params(eraser, Request("edit_chain", ("erase it",), ("img_1",), params={"mask": "img_2"}))


def test_a_mask_is_no_parameter_of_a_generation() -> None:
    both = stand_in({"prompt": PROMPT, "image": IMAGE, "mask": IMAGE}, model="lab/x", kind="text-to-image")
    assert [list(offer.params) for offer in both] == [[], ["mask"]]


# Sizes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("properties", "spec", "pixels"),
    [
        ({"size": {"type": "string", "enum": ["1024x1024", "1536x1024"]}}, "3:2", (1536, 1024)),
        ({"size": {"type": "string", "enum": ["auto", "2048*2048", "1280*720"]}}, "16:9", (1280, 720)),
        ({"size": {"type": "string", "minimum": 256, "maximum": 1536}}, "1000x700", (1000, 700)),
        ({"size": {"type": "string", "minimum": 512, "maximum": 1536}}, "3:1", (1536, 512)),
        ({"size": {"type": "string", "default": "1024*768"}}, "4:3", (1024, 768)),
        ({"size": {"type": "string", "enum": ["1K", "2K"]}}, "2K", (2048, 2048)),
        ({"width": {"type": "integer", "minimum": 64, "maximum": 2048}, "height": {"type": "integer", "minimum": 64,
          "maximum": 2048}}, "700x900", (700, 900)),
        ({"aspect_ratio": {"type": "string", "enum": ["16:9"]}}, "16:9", (1424, 800)),
        ({"aspect_ratio": {"type": "string", "enum": ["1:1", "16:9"]}, "resolution": {"type": "string",
          "enum": ["1K", "2K"]}}, "2K 16:9", (2816, 1584)),
        ({"resolution": {"type": "string", "enum": ["auto", "2k", "4k"]}}, "4K", (4096, 4096)),
        ({"resolution": {"type": "string", "enum": ["512x512", "1024x768"]}}, "1024x768", (1024, 768)),
    ],
)  # fmt: skip
def test_a_size_becomes_pixels_of_the_model(properties: dict[str, Any], spec: str, pixels: tuple[int, int]) -> None:
    offer = sized(**properties)
    assert catalog.resolve_size(offer, spec, None) == pixels
    assert catalog.resolve_size(offer, None, (1200, 800)) is None
    assert catalog.resolve_size(offer, "auto", (1200, 800)) is None


@pytest.mark.parametrize("spec", ["1500x200", "8K", "5000x5000"])
def test_a_size_beyond_the_sides_is_refused(spec: str) -> None:
    offer = sized(size={"type": "string", "minimum": 256, "maximum": 1536})
    with pytest.raises(errors.OutOfLimits):
        catalog.resolve_size(offer, spec, None)


def test_a_required_size_without_default_is_always_sent() -> None:
    offer = sized(required=("aspect_ratio",), aspect_ratio={"type": "string", "enum": ["1:1", "3:2"]})
    assert catalog.resolve_size(offer, None, (1200, 800)) == (1248, 832)
    chosen = sized(required=("aspect_ratio",), aspect_ratio={"type": "string", "enum": ["auto", "3:2"]})
    assert catalog.resolve_size(chosen, None, (1200, 800)) is None
    assert chosen.live
    assert chosen.live.constants == {"aspect_ratio": "auto"}


def test_a_required_tier_never_costs_the_free_ratio() -> None:
    offer = sized(
        required=("aspect_ratio", "resolution"),
        aspect_ratio={"type": "string", "enum": ["1:1", "auto"]},
        resolution={"type": "string", "enum": ["4k", "1k", "2k"]},
    )
    assert catalog.resolve_size(offer, "auto", (1200, 800)) is None
    assert offer.live
    assert offer.live.constants == {"aspect_ratio": "auto", "resolution": "1k"}


def test_sides_in_steps_keep_their_shapes() -> None:
    side = {"type": "integer", "minimum": 256, "maximum": 1536, "multipleOf": 64}
    offer = sized(width=side, height=side)
    assert catalog.resolve_size(offer, "16:9", None) == (1408, 768)
    assert all(not (side % 64) for size in offer.sizes.all() for side in size)


def test_the_default_tier_counts_where_only_a_ratio_is_named() -> None:
    resolution = {"type": "string", "enum": ["0.5k", "1k", "2k"], "default": "1k"}
    offer = sized(aspect_ratio={"type": "string", "enum": ["1:1", "16:9"]}, resolution=resolution)
    assert list(offer.sizes.presets) == ["1K", "0.5K", "2K"]
    assert catalog.resolve_size(offer, "1:1", None) == (1024, 1024)


def test_openai_at_atlas_writes_sizes_with_x() -> None:
    size = {"type": "string", "minimum": 256, "maximum": 1536}
    marks = [
        only(stand_in({"image": IMAGE, "size": size}, ("image",), provider=provider, model=model)).live
        for provider, model in (
            ("atlas", "openai/new/edit"),
            ("atlas", "lab/new/edit"),
            ("wavespeed", "openai/new/edit"),
        )
    ]
    assert [live and live.size_separator for live in marks] == ["x", "*", "*"]


def test_words_that_are_no_tiers_stay_a_parameter() -> None:
    offer = sized(resolution={"type": "string", "enum": ["small", "large"]})
    assert offer.params["resolution"].schema == {"type": "string", "enum": ["small", "large"]}
    assert offer.sizes.exact
    assert not offer.sizes.presets


def test_the_listed_model_may_have_no_description() -> None:
    model = listed(entries("wavespeed")["bria/remove-background"])
    assert model.title == model.endpoint
    found = offers("wavespeed", model, entries("wavespeed")[model.endpoint]["schema"], as_of="", source="")
    assert only(found).title == "bria/remove-background: Cuts the subject out of its background."
