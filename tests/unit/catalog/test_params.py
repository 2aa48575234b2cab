"""The model's own parameters: each is checked against the offer, and a refusal says what would be right."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from triptych import catalog
from triptych.core.errors import OutOfLimits
from triptych.core.offers import Offer, Operation, Param, Price, Sizes
from triptych.core.requests import Request

OFFER = Offer(
    provider="shop",
    family="painter-1",
    operation=Operation.EDIT,
    endpoint="painter/1",
    price=Price(Decimal("0.03"), "2026-11-21", "a test"),
    sizes=Sizes(presets={}, exact=True),
    max_references=4,
    params={
        "background": Param({"type": "string", "enum": ["auto", "transparent", "opaque"]}),
        "guidance": Param({"type": "number", "minimum": 0, "maximum": 20}),
        "negative_prompt": Param({"type": "string", "maxLength": 50}),
        "steps": Param({"type": "integer", "minimum": 1}),
        "watermark": Param({"type": "boolean"}, note="the image has a visible mark"),
        "mask": Param({"type": "string"}, is_image=True),
    },
    no_params={"seed": "it would do nothing"},
)


def asking(**params: Any) -> Request:
    return Request("edit_chain", ("warmer",), ("img_1",), params=params)


@pytest.mark.parametrize(
    "params",
    [{}, {"background": "transparent"}, {"guidance": 7.5}, {"guidance": 7, "steps": 30}, {"watermark": False},
     {"negative_prompt": "text, logos"}, {"mask": "img_2"}],
    ids=str,
)  # fmt: skip
def test_a_right_value_is_taken(params: dict[str, Any]) -> None:
    catalog.check_params(OFFER, asking(**params))


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"background": "green"}, 'params.background is "green"; on painter-1 on shop it must be one of auto, tr'),
        ({"guidance": 21}, "it must be a number from 0 to 20"),
        ({"guidance": "7"}, "it must be a number from 0 to 20"),
        ({"guidance": True}, "it must be a number from 0 to 20"),
        ({"steps": 2.5}, "it must be a whole number of at least 1"),
        ({"watermark": "yes"}, "it must be true or false"),
        ({"negative_prompt": "n" * 51}, "it must be text of at most 50 characters"),
        ({"negative_prompt": "n" * 10_000}, "of at most 2000 characters"),
        ({"guidance": float("nan")}, "it must be a number from 0 to 20"),
        ({"negative_prompt": "half a \ud83d"}, "it must be text of at most 50 characters"),
        ({"mask": 7}, "params.mask is an image: a handle, a path or a URL"),
        ({"mask": " "}, "params.mask is an image"),
        ({"backgroun": "auto"}, 'painter-1 on shop has no parameter "backgroun"; did you mean "background"?'),
        ({"seed": 7}, 'has no parameter "seed": it would do nothing. It has: background (auto, transparent, opaque)'),
        ({"\x1b[31m": 1}, "has no parameter"),
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_value_is_refused_with_what_is_right(params: dict[str, Any], words: str) -> None:
    with pytest.raises(OutOfLimits) as refusal:
        catalog.check_params(OFFER, asking(**params))
    assert words in refusal.value.message and "\x1b" not in refusal.value.message
    assert len(refusal.value.message) < 600


def test_a_model_without_parameters_says_so() -> None:
    with pytest.raises(OutOfLimits, match="It has no parameters: leave params out"):
        catalog.check_params(replace(OFFER, params={}), asking(background="auto"))


def test_a_jpeg_cannot_be_transparent() -> None:
    with pytest.raises(OutOfLimits, match='use format="png"'):
        catalog.check_params(OFFER, replace(asking(background="transparent"), format="jpeg"))


def test_the_notes_have_each_set_parameters_effect() -> None:
    assert list(catalog.params.notes(OFFER, asking(watermark=True))) == [
        "params.watermark: the image has a visible mark"
    ]
    assert list(catalog.params.notes(OFFER, asking(watermark=False))) == []


def test_the_images_among_parameters_have_an_order() -> None:
    two = replace(OFFER, params={**OFFER.params, "depth": Param({"type": "string"}, is_image=True)})
    assert catalog.image_params(two, asking(mask="img_2", depth="img_3", background="auto")) == ("img_3", "img_2")


def test_parameters_are_listed_with_their_values() -> None:
    assert catalog.params.params_text(OFFER.params) == [
        "background: auto, transparent, opaque", "guidance: a number from 0 to 20",
        "negative_prompt: text of at most 50 characters", "steps: a whole number of at least 1",
        "watermark: true or false", "mask: an image",
    ]  # fmt: skip
