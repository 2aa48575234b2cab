"""The request of a paid call as a value."""

from __future__ import annotations

from triptych.core.requests import Request, Row


def test_a_handle_takes_the_place_of_an_image_and_of_no_equal_text() -> None:
    asked = Request(
        "edit_chain",
        ("warm",),
        ("a.jpg",),
        ("b.jpg",),
        rows=(Row(("a.jpg",), {"name": "a.jpg"}),),
        params={"mask": "b.jpg", "caption": "a.jpg"},
    )
    stored = asked.renamed({"a.jpg": "img_1", "b.jpg": "img_2"}, in_params=("b.jpg",))
    assert (stored.images, stored.references) == (("img_1",), ("img_2",))
    assert stored.rows == (Row(("img_1",), {"name": "a.jpg"}),)
    assert stored.params == {"mask": "img_2", "caption": "a.jpg"}
