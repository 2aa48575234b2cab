"""The layers of a picture, as a response describes them: what is kept, bounded or left out."""

from __future__ import annotations

from typing import Any

import pytest

from triptych.core.models import Layer
from triptych.providers import _reading as read

BOX = {"absolute": [366, 119, 1657, 403], "normalized": [179, 58, 809, 197]}


def test_a_layer_has_its_place_name_and_box() -> None:
    told = {"z_index": 2, "name": "headline", "description": "the title", "bounding_box": BOX, "font": {"size": 12}}
    assert read.layer(told, 1) == Layer(2, "headline", "the title", (366, 119, 1657, 403))


@pytest.mark.parametrize("item", [None, "https://a.example/1.png", {}, {"z_index": -1}, {"z_index": 10**6}, []])
def test_a_layer_without_a_z_index_has_its_place(item: Any) -> None:
    assert read.layer(item, 3) == Layer(3)


@pytest.mark.parametrize(
    "box",
    [None, [], [1, 2, 3], [1, 2, 3, 4, 5], [3, 0, 1, 9], [0, 3, 9, 1], ["a", 0, 1, 1], [0, 0, 10**9, 1], [-1, 0, 1, 1]],
)
def test_a_box_that_is_no_box_is_left_out(box: Any) -> None:
    assert read.layer({"z_index": 1, "bounding_box": {"absolute": box}}, 1).box is None


def test_names_are_bounded_lines_without_control_characters() -> None:
    told = read.layer({"name": "a\x1b[31m\n\u202eb" + "x" * 999, "description": ["no text"]}, 1)
    assert told.name.startswith("a [31m bxx") and len(told.name) == read.LAYER_NAME_CHARS and told.name.endswith("…")
    assert told.description == ""
