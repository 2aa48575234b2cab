"""What `catalog` decides: which offer, within which limits, at what size and price."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych import catalog
from triptych.catalog import presets
from triptych.core import errors
from triptych.core.offers import Lifecycle, Offer, Operation, Param, Price, Quote, Sizes
from triptych.core.requests import Look, Request

EDITS, EDIT = Operation.EDIT_SEQUENTIAL, Operation.EDIT
DRAWS, DRAW = Operation.GENERATE_SEQUENTIAL, Operation.GENERATE
OPERATIONS = (DRAW, DRAWS, EDIT, EDITS)

EXACT = Sizes(presets=presets.rows("2K", "3K"), exact=True)
FREE = Sizes(presets=presets.rows("2K", "4K"), min_area=3_686_400, max_area=16_777_216)
SINGLE = Sizes(presets=presets.SINGLE, min_area=921_600, max_area=4_624_220)
FOLLOWS = Sizes(
    presets=presets.rows("1K", "2K"), min_area=65_536, max_area=16_777_216, default="1K", follows_reference=True
)


def offer(operation: Operation = EDITS, family: str = "seedream-5.0-lite", **changes: object) -> Offer:
    version = family.removeprefix("seedream-")
    tail = {DRAW: "", DRAWS: "/sequential", EDIT: "/edit", EDITS: "/edit-sequential"}[operation]
    plain = Offer(
        provider="shop",
        family=family,
        operation=operation,
        endpoint=f"bytedance/seedream-v{version}{tail}",
        price=Price(Decimal("0.032"), "2026-11-21", "a test"),
        sizes=EXACT,
        max_references=14 if operation.edits else 0,
        max_outputs=15 if operation.sequential else 1,
        formats=("png", "jpeg"),
        names_count_in_prompt=operation.sequential,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


LITE = [offer(operation, aliases=("seedream-5-0-260128",)) for operation in OPERATIONS]
OLD = [offer(operation, "seedream-4.5", sizes=FREE, formats=(), max_references=10) for operation in OPERATIONS]
PRO = [offer(operation, "seedream-5.0-pro") for operation in (DRAW, EDIT)]
SHOP = [*LITE, *OLD, *PRO]


# choose


def test_no_model_means_the_first_family() -> None:
    assert catalog.choose(SHOP, EDITS, None, 4).endpoint == "bytedance/seedream-v5.0-lite/edit-sequential"
    assert catalog.choose(SHOP, DRAWS, " ", 4).endpoint == "bytedance/seedream-v5.0-lite/sequential"


def test_without_a_model_unable_families_are_passed_over() -> None:
    assert catalog.choose([*PRO, *OLD], EDITS, None, 4).family == "seedream-4.5"


@pytest.mark.parametrize(
    "name",
    [
        "seedream-5.0-lite",
        "Seedream v5.0 Lite",
        "seedream-v5.0-lite",
        "bytedance/seedream-v5.0-lite",
        "5.0-lite",
        "5.0 lite",
        "seedream 5 lite",
        "doubao-seedream-5-0-lite",
        "Seedream-5-0-260128",
        "BYTEDANCE/SEEDREAM-V5.0-LITE/EDIT-SEQUENTIAL",
    ],
)
def test_a_family_answers_to_its_many_spellings(name: str) -> None:
    assert catalog.choose(SHOP, EDITS, name, 4).endpoint == "bytedance/seedream-v5.0-lite/edit-sequential"


def test_versions_are_not_mixed_up() -> None:
    assert catalog.choose(SHOP, EDITS, "4.5", 4).family == "seedream-4.5"
    with pytest.raises(errors.UnknownModel):
        catalog.choose(SHOP, EDITS, "seedream-5.0", 4)


def test_an_exact_id_wins_with_its_single_form() -> None:
    chosen = catalog.choose(SHOP, EDITS, "bytedance/seedream-v4.5/edit", 1)
    assert (chosen.family, chosen.operation) == ("seedream-4.5", EDIT)
    assert catalog.choose(SHOP, EDIT, "bytedance/seedream-v4.5/edit-sequential", 1).operation is EDITS


@pytest.mark.parametrize(
    ("operation", "model", "count", "names"),
    [
        (EDITS, "bytedance/seedream-v5.0-lite/edit", 4, "bytedance/seedream-v5.0-lite/edit-sequential"),
        (DRAWS, "bytedance/seedream-v5.0-lite/edit-sequential", 4, "bytedance/seedream-v5.0-lite/sequential"),
        (DRAW, "bytedance/seedream-v5.0-lite/edit", 1, "bytedance/seedream-v5.0-lite"),
        (EDITS, "bytedance/seedream-v5.0-lite/sequential", 4, "bytedance/seedream-v5.0-lite/edit-sequential"),
        (EDITS, "bytedance/seedream-v5.0-pro/edit", 4, "no endpoint for that"),
        (EDITS, "seedream-5.0-pro", 4, "bytedance/seedream-v5.0-lite/edit-sequential"),
    ],
)
def test_the_wrong_endpoint_is_refused_by_naming_the_right_one(
    operation: Operation, model: str, count: int, names: str
) -> None:
    with pytest.raises(errors.OutOfLimits, match=names):
        catalog.choose(SHOP, operation, model, count)


def test_a_base_id_stands_for_its_family() -> None:
    assert catalog.choose(SHOP, EDIT, "bytedance/seedream-v4.5").operation is EDIT
    assert catalog.choose(SHOP, DRAWS, "bytedance/seedream-v4.5", 3).operation is DRAWS


def test_one_endpoint_may_serve_every_operation() -> None:
    one = [offer(operation, endpoint="/v3/seedream-5.0-lite") for operation in OPERATIONS]
    assert catalog.choose(one, EDITS, "/v3/seedream-5.0-lite", 4).operation is EDITS


def test_a_family_without_sequences_serves_one_image() -> None:
    assert catalog.choose(PRO, EDITS, "5.0-pro", 1).operation is EDIT
    assert catalog.choose(PRO, DRAWS, None, 1).operation is DRAW
    with pytest.raises(errors.OutOfLimits, match="of 2 images"):
        catalog.choose(PRO, DRAWS, None, 2)


def test_an_unknown_model_offers_the_nearest_and_all_there_are() -> None:
    with pytest.raises(errors.UnknownModel, match=r"Did you mean seedream-5.0-lite.*There are: seedream-5.0-lite, see"):
        catalog.choose(SHOP, EDITS, "seedream-5.0-lites")
    with pytest.raises(errors.UnknownModel, match="There are:"):
        catalog.choose(SHOP, EDITS, "<b>" + "x" * 5000)
    with pytest.raises(errors.UnknownModel):
        catalog.choose([], EDITS)


def test_a_retired_family_serves_only_by_its_endpoint() -> None:
    gone = [replace(o, lifecycle=Lifecycle(retired="2026-11-24", source="someone")) for o in LITE]
    shop, after = [*gone, *OLD], date(2026, 11, 24)
    assert catalog.choose(shop, EDITS, None, 4, today=date(2026, 11, 23)).family == "seedream-5.0-lite"
    assert catalog.choose(shop, EDITS, None, 4, today=after).family == "seedream-4.5"
    with pytest.raises(errors.OutOfLimits, match=r"retired on 2026-11-24 \(someone\): use seedream-4.5"):
        catalog.choose(shop, EDITS, "5.0-lite", 4, today=after)
    assert catalog.choose(shop, EDITS, gone[3].endpoint, 4, today=after) == gone[3]


@given(st.text(max_size=60), st.sampled_from(list(Operation)), st.integers(1, 15))
def test_any_name_at_all_is_chosen_or_refused(name: str, operation: Operation, count: int) -> None:
    try:
        assert catalog.choose(SHOP, operation, name, count) in SHOP
    except errors.BadRequest as error:
        assert len(error.message) < 1000


# check


def check(o: Offer, references: int = 1, count: int = 1, prompt: str = "a cat", format: str | None = None) -> None:
    images = tuple(f"img_{n:08}" for n in range(references))
    catalog.check_limits(o, Request("edit_sequence", (prompt,), images, count=count, format=format))


def test_what_is_within_the_limits_passes() -> None:
    check(LITE[3], references=14, count=1, format="png")
    check(LITE[3], references=1, count=14)
    check(LITE[0], references=0, format="jpeg")


@pytest.mark.parametrize(
    ("o", "asked", "says"),
    [
        (LITE[3], {"references": 14, "count": 4}, "make 18; .* 15 together: use at most 11 references or 1 image"),
        (LITE[3], {"references": 1, "count": 15}, "make 16; .* use at most 14 images"),
        (LITE[3], {"references": 0}, "1 to 14 references, not 0"),
        (LITE[3], {"references": 15}, "1 to 14 references, not 15"),
        (LITE[3], {"count": 16}, "1 to 15 images per request, not 16"),
        (LITE[3], {"count": 0}, "not 0"),
        (LITE[2], {"count": 2}, "1 image per request, not 2"),
        (LITE[0], {"references": 2}, "prompt alone"),
        (LITE[3], {"prompt": " \n"}, "prompt is empty"),
        (LITE[3], {"prompt": "x" * 4001}, "4001 characters; .* at most 4000"),
        (LITE[3], {"format": "webp"}, "formats png, jpeg, not"),
        (OLD[3], {"format": "png"}, "chooses the format itself"),
    ],
)
def test_what_is_outside_is_refused_with_what_would_be_right(o: Offer, asked: dict[str, object], says: str) -> None:
    with pytest.raises(errors.OutOfLimits, match=says):
        check(o, **asked)  # type: ignore[arg-type]


# resolve_size


@pytest.mark.parametrize(
    ("sizes", "spec", "follow", "pixels"),
    [
        (EXACT, None, None, (2048, 2048)),
        (EXACT, "2K", (4000, 3000), (2304, 1728)),
        (EXACT, None, (3000, 4000), (1728, 2304)),
        (EXACT, "3k", (1000, 1010), (3072, 3072)),
        (EXACT, "16:9", (300, 300), (2848, 1600)),
        (EXACT, "16:9 3K", None, (4096, 2304)),
        (EXACT, "3K, 32 : 18", None, (4096, 2304)),
        (EXACT, "2048*2048", None, (2048, 2048)),
        (EXACT, "2048 × 2048", None, (2048, 2048)),
        (EXACT, "1600X2848", (10, 10), (1600, 2848)),
        (EXACT, "portrait", None, (1728, 2304)),
        (EXACT, "portrait", (1920, 1080), (1600, 2848)),
        (EXACT, "landscape 3K", (1080, 1920), (4096, 2304)),
        (EXACT, "square", (1080, 1920), (2048, 2048)),
        (EXACT, "21:9", None, (3136, 1344)),
        (EXACT, "auto", (1080, 1920), (1600, 2848)),
        (FREE, "2K", (3000, 2000), (2496, 1664)),
        (FREE, "4K", (1, 1), (4096, 4096)),
        (FREE, "2560x1440", None, (2560, 1440)),
        (FREE, "5:4", None, (2288, 1824)),
        (FOLLOWS, None, (640, 427), (640, 427)),
        (FOLLOWS, None, None, (1024, 1024)),
        (FOLLOWS, "2K", (640, 480), (2304, 1728)),
        (SINGLE, "1.5K", None, (1536, 1536)),
        (SINGLE, "1.5k 16:9", None, (2048, 1152)),
        (SINGLE, "2K", (3000, 2000), (2496, 1664)),
        (SINGLE, None, (900, 1600), (1584, 2816)),
    ],
)
def test_a_size_becomes_pixels(
    sizes: Sizes, spec: str | None, follow: tuple[int, int] | None, pixels: tuple[int, int]
) -> None:
    assert catalog.resolve_size(offer(sizes=sizes), spec, follow) == pixels


@pytest.mark.parametrize(
    ("sizes", "spec", "says"),
    [
        (EXACT, "1000x1000", "nearest is 2048x2048.*2K: 2048x2048 2304x1728"),
        (EXACT, "4K", '"4K".*2K: 2048x2048'),
        (EXACT, "5:4", "nearest is 2304x1728"),
        (EXACT, "huge", '"huge"'),
        (EXACT, "2K 3K", "two sizes"),
        (EXACT, "16:9 portrait", "two sizes"),
        (EXACT, "2K 2048x2048", "two sizes"),
        (FREE, "1024x1024", "WxH 3.7–16.8 MP"),
        (FREE, "16000x500", "no side longer than 16 times"),
        (FREE, "100:1", "no side longer than 16 times"),
        (FREE, "0x0", "does not take"),
        (FREE, "99999x99999", "does not take"),
        (FREE, "9" * 50 + "x1", "does not take"),
    ],
)
def test_an_unknown_size_is_refused_with_the_known_ones(sizes: Sizes, spec: str, says: str) -> None:
    with pytest.raises(errors.OutOfLimits, match=says):
        catalog.resolve_size(offer(sizes=sizes), spec, None)


@given(
    st.sampled_from([EXACT, FREE, FOLLOWS]),
    st.sampled_from([None, "2K", "portrait", "landscape", "square", "5:4", "9:21", "1:15"]),
    st.none() | st.tuples(st.integers(1, 30_000), st.integers(1, 30_000)),
)
def test_every_resolved_size_is_one_the_offer_takes(
    sizes: Sizes, spec: str | None, follow: tuple[int, int] | None
) -> None:
    try:
        pixels = catalog.resolve_size(offer(sizes=sizes), spec, follow)
    except errors.OutOfLimits:
        assert spec and ":" in spec
        return
    assert catalog.resolve_size(offer(sizes=sizes), f"{pixels[0]}x{pixels[1]}", None) == pixels


@given(st.text(alphabet="0123456789kKx:*× ,abportisqu", max_size=20) | st.text(max_size=20))
def test_any_size_text_is_resolved_or_refused(spec: str) -> None:
    try:
        width, height = catalog.resolve_size(offer(sizes=FREE), spec, None)
        assert width > 0 and height > 0
    except errors.OutOfLimits as error:
        assert len(error.message) < 1000


def test_sizes_are_told_in_a_few_words() -> None:
    assert catalog.sizes_text(OLD[3]) == ["2K", "4K", "WxH 3.7–16.8 MP"]
    assert catalog.sizes_text(LITE[3])[:2] == ["2K", "3K"]
    assert catalog.sizes_text(LITE[3])[2].startswith("each as 1:1 4:3 ")
    many = Sizes(presets=presets.SINGLE, exact=True)
    assert catalog.sizes_text(offer(sizes=many))[:3] == ["1K", "1.5K", "2K"]
    assert "each as 1:1 2:3 3:2" in catalog.sizes_text(offer(sizes=many))[3]


# quote, name_count, search


def test_a_list_price_is_per_image_and_not_exact() -> None:
    assert catalog.quote(LITE[3], 4, (2048, 2048), 9) == Quote(Decimal("0.128"), exact=False)


IN_PARTS = Price(
    Decimal("0.02"), "2026-11-21", "a test", ((2_601_123, Decimal("0.035")),), Decimal("0.008"), free_references=0
)


@pytest.mark.parametrize(
    ("size", "references", "free", "usd"),
    [
        ((1024, 1024), 0, 0, "0.02"),
        ((1536, 1536), 0, 0, "0.02"),
        ((1, 2_601_123), 0, 0, "0.02"),
        ((1, 2_601_124), 0, 0, "0.035"),
        ((2048, 2048), 0, 0, "0.035"),
        (None, 0, 0, "0.035"),
        ((1024, 1024), 1, 0, "0.028"),
        ((1024, 1024), 10, 0, "0.1"),
        ((1024, 1024), 1, 1, "0.02"),
        ((2048, 2048), 3, 1, "0.051"),
    ],
)
def test_a_quote_adds_size_tier_and_references(size: Any, references: int, free: int, usd: str) -> None:
    o = offer(EDIT, price=replace(IN_PARTS, free_references=free))
    assert catalog.quote(o, 1, size, references).usd == Decimal(usd)


def test_references_cost_once_per_request_images_each() -> None:
    assert catalog.quote(offer(EDITS, price=IN_PARTS), 3, (1024, 1024), 2).usd == Decimal("0.076")


@pytest.mark.parametrize(
    ("price", "size", "count", "usd"),
    [
        ({"usd_per_megapixel": Decimal("0.01")}, (1000, 1500), 2, "0.03"),
        ({"usd_per_megapixel": Decimal("0.01"), "usd_per_request": Decimal("0.005")}, (1000, 1000), 3, "0.035"),
        ({"usd_per_image": Decimal("0.02"), "usd_per_megapixel": Decimal("0.01")}, (1000, 1000), 1, "0.03"),
        ({"usd_per_request": Decimal("0.05")}, (512, 512), 4, "0.05"),
        ({"usd_per_megapixel": Decimal("0.01")}, None, 1, "0.04194304"),
    ],
)
def test_a_price_may_count_megapixels_and_requests(price: dict[str, Decimal], size: Any, count: int, usd: str) -> None:
    parts = Price(**{"usd_per_image": Decimal(0), **price}, as_of="2026-11-21", source="a test")
    assert catalog.quote(offer(EDITS, price=parts), count, size, 1).usd == Decimal(usd)


def test_a_set_parameter_adds_its_cost_to_each_image() -> None:
    searches = {"web_search": Param({"type": "boolean"}, usd_per_image=Decimal("0.014"))}
    o = offer(EDITS, params=searches)
    assert catalog.quote(o, 2, (2048, 2048), 1, {"web_search": True}).usd == Decimal("0.092")
    assert catalog.quote(o, 2, (2048, 2048), 1, {"web_search": False}).usd == Decimal("0.064")


def test_layers_are_quoted_at_the_most() -> None:
    layers = replace(offer(EDIT), operation=Operation.LAYERS, max_outputs=17)
    asked = Request("edit_sequence", ("apart",), ("img_1",), params={"layers": True})
    assert catalog.most_images(layers, asked) == 17 and catalog.most_images(offer(EDIT), asked) == 1


@pytest.mark.parametrize(("spec", "default", "size"), [("auto", "2K", None), (None, "", None), ("AUTO ", "", None)])
def test_auto_leaves_the_size_to_a_model_that_can_choose(spec: str | None, default: str, size: None) -> None:
    able = replace(EXACT, may_be_left_out=True, default=default)
    assert catalog.resolve_size(offer(sizes=able), spec, (640, 480)) is size
    assert catalog.resolve_size(offer(sizes=able), "3K 1:1", None) == (3072, 3072)


def test_a_model_without_sizes_gets_no_size() -> None:
    sizeless = offer(sizes=Sizes(presets={}, exact=True))
    assert catalog.resolve_size(sizeless, None, (640, 480)) is catalog.resolve_size(sizeless, "auto", None) is None
    with pytest.raises(errors.OutOfLimits, match="leave size out"):
        catalog.resolve_size(sizeless, "2K", None)
    assert catalog.sizes_text(sizeless) == []


# by_preference

NEW = [offer(operation, "seedream-5.5") for operation in (DRAW, EDIT)]


@pytest.mark.parametrize(
    ("operation", "count", "families"),
    [
        (EDITS, 1, ["seedream-5.5", "seedream-5.0-lite", "seedream-4.5", "seedream-5.0-pro"]),
        (EDIT, 1, ["seedream-5.5", "seedream-5.0-lite", "seedream-4.5", "seedream-5.0-pro"]),
        (DRAWS, 1, ["seedream-5.5", "seedream-5.0-lite", "seedream-4.5", "seedream-5.0-pro"]),
        (EDITS, 2, ["seedream-5.0-lite", "seedream-4.5"]),
        (DRAWS, 15, ["seedream-5.0-lite", "seedream-4.5"]),
    ],
)
def test_one_image_prefers_5_5_a_set_prefers_sequences(operation: Operation, count: int, families: list[str]) -> None:
    shop = [*OLD, *PRO, *LITE, *NEW]
    assert [o.family for o in catalog.by_preference(shop, operation, count)] == families
    assert catalog.choose(shop, operation, None, count).family == families[0]


@pytest.mark.parametrize(
    "prompt",
    [
        "four images of a cat",
        "Make 4 variants",
        "a set of 4.",
        "4 different watercolour posters of the cat",
        "a series of exactly four",
        "a 4-panel strip",
        "生成4张图片",
        "Four seasonal pictures",
    ],
)
def test_a_prompt_that_names_the_count_is_left_alone(prompt: str) -> None:
    assert catalog.name_count(LITE[3], prompt, 4) == prompt


@pytest.mark.parametrize(
    "prompt",
    [
        "a cat",
        "Put these 4 photos into one style",
        "4K images",
        "in 4:3 images",
        "two images",
        "14 images",
        "four cats.",
        "version 4.5 images",
    ],
)
def test_a_prompt_that_does_not_gets_one_sentence_more(prompt: str) -> None:
    named = catalog.name_count(LITE[3], prompt, 4)
    assert named.startswith(prompt)
    assert named.endswith(". Generate exactly 4 images.")
    assert ".." not in named


def test_one_image_never_changes_the_prompt() -> None:
    assert catalog.name_count(LITE[3], "a cat", 1) == "a cat"
    assert catalog.name_count(replace(LITE[3], names_count_in_prompt=False), "a cat", 4) == "a cat"
    assert catalog.name_count(LITE[3], "x" * 3990, 4) == "x" * 3990


@pytest.mark.parametrize(
    ("query", "operation", "provider", "found"),
    [
        ("", None, None, 10),
        ("v5", None, None, 6),
        ("5.0 lite", None, None, 4),
        ("V5 LITE edit-sequential", None, None, 1),
        ("seedream", "edit-sequential", None, 2),
        ("4.5", None, "shop", 4),
        ("4.5", None, "elsewhere", 0),
        ("kling", None, None, 0),
    ],
)
def test_every_word_of_a_query_has_to_occur(
    query: str, operation: str | None, provider: str | None, found: int
) -> None:
    assert len(catalog.search(SHOP, query, operation, provider)) == found


def test_an_operation_that_does_not_exist_is_refused() -> None:
    with pytest.raises(errors.OutOfLimits, match="generate, generate-sequential, edit, edit-sequential"):
        catalog.search(SHOP, "", "upscale")


# fit_look


def with_look(own: int, look: int, count: int = 1) -> Request:
    images = tuple(f"img_{n}" for n in range(own))
    kept = Look("coffee", 2, "", tuple(f"img_l{n}" for n in range(look)))
    return Request("edit_sequence", ("p",), images, count=count, look=kept)


@pytest.mark.parametrize(
    ("limit", "own", "look", "count", "kept"),
    [(14, 1, 13, 1, 13), (14, 1, 14, 1, 13), (14, 4, 14, 4, 7), (14, 1, 14, 14, 0), (14, 0, 14, 14, 1),
     (10, 1, 14, 1, 9), (10, 10, 3, 1, 0), (3, 1, 14, 1, 2), (3, 0, 14, 1, 3), (1, 1, 2, 1, 0), (1, 0, 2, 1, 1)],
)  # fmt: skip
def test_a_look_is_cut_to_the_limits_of_a_model(limit: int, own: int, look: int, count: int, kept: int) -> None:
    one = offer(max_references=limit, max_references_and_outputs=15)
    request = with_look(own, look, count)
    fitted, notes = catalog.fit_look(one, request)
    catalog.check_limits(one, fitted)
    assert fitted.look and fitted.look.images == tuple(f"img_l{n}" for n in range(kept))
    assert fitted.inputs(0) == (*request.images, *fitted.look.images)
    assert len(fitted.inputs(0)) <= limit and len(fitted.inputs(0)) + count <= 15
    assert len(notes) == (kept < look)
    if notes:
        assert notes[0].startswith(f"{look - kept} of the {look} images of look:coffee are left out (img_l{kept}")


@given(st.integers(1, 14), st.integers(0, 14), st.integers(1, 14), st.integers(1, 14), st.booleans())
def test_a_fitted_look_fits_whenever_the_call_does(limit: int, own: int, look: int, count: int, chain: bool) -> None:
    one = offer(max_references=limit, max_references_and_outputs=15)
    request = with_look(own, look, count)
    if chain:
        references = ("original", *(f"img_{n}" for n in range(own)))
        request = replace(request, tool="edit_chain", images=("img_x",), prompts=("p", "q"), references=references)
    bare = replace(request, look=None)
    try:
        catalog.check_limits(one, bare)
    except errors.OutOfLimits:
        return
    fitted, notes = catalog.fit_look(one, request)
    catalog.check_limits(one, fitted)
    assert bool(notes) == (fitted != request)
