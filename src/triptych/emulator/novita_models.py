"""What Novita AI sells, as data: paths, fields, limits and list prices; and what it makes of a request.

Source: the documentation as quoted in docs/providers/novita.md#submit, and for Seedream 4.0 and 4.5 the same provider's
pages. Unknown fields are accepted silently. Prices of 4.5 and 4.0 are the origin's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from triptych.emulator.stage import Order

MAX_TOTAL = 15
"""References and outputs of one request, together."""

_WORDS: Mapping[str, tuple[tuple[int, int], ...]] = {
    "1K": ((1024, 1024), (1280, 832), (832, 1280)),
    "2K": ((2048, 2048), (2304, 1728), (1664, 2496)),
    "3K": ((3072, 3072), (3456, 2592), (2496, 3744)),
    "4K": ((4096, 4096), (4704, 3520), (3328, 4992)),
}
_URI = re.compile(r"data:image/[a-z]+;base64,")


class Malformed(Exception):
    """A request that is refused with 400 INVALID_REQUEST_BODY; the message is the provider's."""


@dataclass(frozen=True)
class Offer:
    """One path: what its reference field is called, whether the count is nested, and its limits."""

    model: str
    price_usd: Decimal
    words: tuple[str, ...]
    area: tuple[int, int]
    reference_field: str = "image"
    references: int = 14
    nested_count: bool = True

    @property
    def path(self) -> str:
        return f"/v3/{self.model}"


OFFERS: tuple[Offer, ...] = (
    Offer("seedream-5.0-lite", Decimal("0.035"), ("2K", "3K"), (3_686_400, 10_404_496)),
    Offer("seedream-4.5", Decimal("0.04"), ("2K", "4K"), (3_686_400, 16_777_216)),
    Offer("seedream-4.0", Decimal("0.03"), ("1K", "2K", "4K"), (1_048_576, 16_777_216), "images", 10, False),
)


def understood(body: Any, offer: Offer, *, inline: str) -> Order:
    """Return what a body asks for; raise Malformed. `inline` is "both", "uri" or "plain": which base64 is taken."""
    if not isinstance(body, dict):
        raise Malformed("request body must be a JSON object")
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise Malformed("prompt is required")
    if not isinstance(body.get("watermark", True), bool):
        raise Malformed("watermark must be a boolean")
    references = _references(body, offer, inline)
    return Order(
        model=offer.model,
        prompt=prompt,
        references=references,
        count=_count(body, offer, len(references)),
        size=_size(body, offer),
        mime_type="image/jpeg",
        price_usd=offer.price_usd,
        body=body,
    )


def _references(body: Mapping[str, Any], offer: Offer, inline: str) -> list[str]:
    given = body.get(offer.reference_field)
    if given is None:
        return []
    if not isinstance(given, list) or not given or not all(isinstance(item, str) and item for item in given):
        raise Malformed(f"{offer.reference_field} must be an array of strings")
    if len(given) > offer.references:
        raise Malformed(f"{offer.reference_field}: at most {offer.references} items")
    for item in given:
        is_uri = bool(_URI.match(item))
        if not item.startswith(("http://", "https://")) and inline == ("plain" if is_uri else "uri"):
            wanted = "plain base64" if inline == "plain" else "data:image/<format>;base64,<data>"
            raise Malformed(f"{offer.reference_field}: invalid image, the base64 format must be {wanted}")
    return given


def _count(body: Mapping[str, Any], offer: Offer, references: int) -> int:
    mode = body.get("sequential_image_generation", "disabled")
    if mode not in ("auto", "disabled"):
        raise Malformed("sequential_image_generation must be auto or disabled")
    if mode == "disabled":
        return 1
    options = body.get("sequential_image_generation_options", {}) if offer.nested_count else body
    most = options.get("max_images", MAX_TOTAL - references) if isinstance(options, dict) else None
    if isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= MAX_TOTAL:
        raise Malformed("max_images must be an integer between 1 and 15")
    if references + most > MAX_TOTAL:
        raise Malformed("the number of input images plus max_images must not exceed 15")
    return most


def _size(body: Mapping[str, Any], offer: Offer) -> tuple[int, int]:
    size = body.get("size", "2048x2048")
    if size in offer.words:
        # Which shape a word becomes is the model's choice: here it goes by the prompt.
        shapes = _WORDS[size]
        return shapes[hashlib.sha256(str(body["prompt"]).encode()).digest()[0] % len(shapes)]
    if not isinstance(size, str) or not re.fullmatch(r"[1-9][0-9]{1,4}x[1-9][0-9]{1,4}", size):
        raise Malformed(f"size must be one of {', '.join(offer.words)} or <width>x<height>")
    width, height = (int(side) for side in size.split("x"))
    low, high = offer.area
    if not low <= width * height <= high:
        raise Malformed(f"size: the total pixels must be between {low} and {high}")
    if max(width, height) > 16 * min(width, height):
        raise Malformed("size: the aspect ratio must be between 1/16 and 16")
    return width, height
