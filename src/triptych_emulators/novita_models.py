"""The models of Novita AI, as data: paths, fields, limits and list prices; and the parser of its submits.

Source: the documentation as quoted in docs/providers/novita.md#submit, and for Seedream 4.0 and 4.5 the same provider's
pages. Unknown fields are accepted silently. Prices of 4.5 and 4.0 are the origin's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from triptych_emulators.kit import InvalidRequest, JobSpec
from triptych_emulators.kit.prices import PriceTiers, flat
from triptych_emulators.kit.validation import MAX_TOTAL, check_aspect, fields_of, is_texts, is_whole, prompt_of

_WORDS: Mapping[str, tuple[tuple[int, int], ...]] = {
    "1K": ((1024, 1024), (1280, 832), (832, 1280)),
    "2K": ((2048, 2048), (2304, 1728), (1664, 2496)),
    "3K": ((3072, 3072), (3456, 2592), (2496, 3744)),
    "4K": ((4096, 4096), (4704, 3520), (3328, 4992)),
}
_URI = re.compile(r"data:image/[a-z]+;base64,")


@dataclass(frozen=True)
class Model:
    """One path: the name of its reference field, whether the count is nested, and its limits."""

    id: str
    prices: PriceTiers
    words: tuple[str, ...]
    area: tuple[int, int]
    reference_field: str = "image"
    references: int = 14
    nested_count: bool = True

    @property
    def path(self) -> str:
        return f"/v3/{self.id}"


MODELS: tuple[Model, ...] = (
    Model("seedream-5.0-lite", flat("0.035"), ("2K", "3K"), (3_686_400, 10_404_496)),
    Model("seedream-4.5", flat("0.04"), ("2K", "4K"), (3_686_400, 16_777_216)),
    Model("seedream-4.0", flat("0.03"), ("1K", "2K", "4K"), (1_048_576, 16_777_216), "images", 10, False),
)


def parse_submit(body: Any, model: Model, *, inline: str) -> JobSpec:
    """Return the job of a body; raise InvalidRequest. `inline` is "both", "uri" or "plain": the accepted base64."""
    fields_of(body)
    prompt = prompt_of(body)
    if not isinstance(body.get("watermark", True), bool):
        raise InvalidRequest("watermark must be a boolean")
    references = _references(body, model, inline)
    return JobSpec(
        model=model.id,
        prompt=prompt,
        references=references,
        count=_count(body, model, len(references)),
        size=_size(body, model),
        mime_type="image/jpeg",
        prices=model.prices,
        body=body,
    )


def _references(body: Mapping[str, Any], model: Model, inline: str) -> list[str]:
    given = body.get(model.reference_field)
    if given is None:
        return []
    if not given or not is_texts(given):
        raise InvalidRequest(f"{model.reference_field} must be an array of strings")
    if len(given) > model.references:
        raise InvalidRequest(f"{model.reference_field}: at most {model.references} items")
    for item in given:
        is_uri = bool(_URI.match(item))
        if not item.startswith(("http://", "https://")) and inline == ("plain" if is_uri else "uri"):
            wanted = "plain base64" if inline == "plain" else "data:image/<format>;base64,<data>"
            raise InvalidRequest(f"{model.reference_field}: invalid image, the base64 format must be {wanted}")
    return given


def _count(body: Mapping[str, Any], model: Model, references: int) -> int:
    mode = body.get("sequential_image_generation", "disabled")
    if mode not in ("auto", "disabled"):
        raise InvalidRequest("sequential_image_generation must be auto or disabled")
    if mode == "disabled":
        return 1
    options = body.get("sequential_image_generation_options", {}) if model.nested_count else body
    most = options.get("max_images", MAX_TOTAL - references) if isinstance(options, dict) else None
    if not is_whole(most, 1, MAX_TOTAL):
        raise InvalidRequest("max_images must be an integer between 1 and 15")
    if references + most > MAX_TOTAL:
        raise InvalidRequest("the number of input images plus max_images must not exceed 15")
    return most


def _size(body: Mapping[str, Any], model: Model) -> tuple[int, int]:
    size = body.get("size", "2048x2048")
    if size in model.words:
        # The model chooses the shape of a word; here the prompt decides.
        shapes = _WORDS[size]
        return shapes[hashlib.sha256(str(body["prompt"]).encode()).digest()[0] % len(shapes)]
    if not isinstance(size, str) or not re.fullmatch(r"[1-9][0-9]{1,4}x[1-9][0-9]{1,4}", size):
        raise InvalidRequest(f"size must be one of {', '.join(model.words)} or <width>x<height>")
    width, height = (int(side) for side in size.split("x"))
    low, high = model.area
    if not low <= width * height <= high:
        raise InvalidRequest(f"size: the total pixels must be between {low} and {high}")
    check_aspect((width, height))
    return width, height
