"""Claims about comparing a sent request with one that a provider's list shows."""

from __future__ import annotations

from typing import Any

import pytest

from triptych.providers._history import same_request

OURS = "https://host.example/0.png"
COPY = "https://cdn.example/copied.png"


@pytest.mark.parametrize("name", ["image", "images", "reference_images", "mask_image", "input_image"])
@pytest.mark.parametrize("as_list", [True, False])
def test_images_under_other_urls_decide_nothing(name: str, as_list: bool) -> None:
    def body(url: str) -> dict[str, Any]:
        return {"seed": 7, name: [url] if as_list else url}

    assert same_request(body(OURS), body(OURS)) is True
    assert same_request(body(OURS), body(COPY)) is None
    assert same_request(body(OURS), {**body(OURS), "seed": 8}) is False
    assert same_request(body(OURS), {"seed": 7}) is None


def test_another_number_of_images_is_another_request() -> None:
    assert same_request({"reference_images": [OURS]}, {"reference_images": [OURS, COPY]}) is False
    assert same_request({"prompt": "a"}, {"prompt": "a", "images": [OURS]}) is False


def test_a_single_image_may_be_shown_as_a_list() -> None:
    assert same_request({"image": OURS, "n": 1}, {"images": [OURS], "n": 1.0}) is True
