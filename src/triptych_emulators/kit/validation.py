"""Checks of a request body that several emulated APIs share. Each API keeps its own fields, limits and messages.

Rules: a check either returns a plain value or raises `InvalidRequest` in the words that these APIs have in common.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeGuard

MAX_TOTAL = 15
"""References and outputs of one request, together."""
MAX_ASPECT = 16
MIME_TYPES: Mapping[str, str] = {"jpeg": "image/jpeg", "png": "image/png"}


class InvalidRequest(Exception):
    """A request that the API refuses with HTTP 400; the message is the API's."""


def parsed(raw: bytes) -> Any:
    """Return a JSON body; raise InvalidRequest when it is none."""
    try:
        return json.loads(raw)
    except ValueError:
        raise InvalidRequest("request body is not valid JSON") from None


def parsed_or_none(raw: bytes) -> Any:
    """Return a JSON body, or None when it is none."""
    try:
        return json.loads(raw)
    except ValueError:
        return None


def fields_of(body: Any) -> dict[str, Any]:
    """Return a body that is a JSON object; raise InvalidRequest for another one."""
    if not isinstance(body, dict):
        raise InvalidRequest("request body must be a JSON object")
    return body


def prompt_of(fields: Mapping[str, Any], message: str = "prompt is required") -> str:
    """Return the prompt; raise InvalidRequest with this message when it is missing or blank."""
    prompt = fields.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise InvalidRequest(message)
    return prompt


def is_whole(value: Any, low: int, high: int) -> TypeGuard[int]:
    """Whether a value is an integer, not a boolean, from `low` to `high`."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_texts(value: Any) -> TypeGuard[list[str]]:
    """Whether a value is a list of strings, none of them empty; the list itself may be empty."""
    return isinstance(value, list) and all(isinstance(item, str) and item for item in value)


def pixels_of(size: Any, separator: str, message: str) -> tuple[int, int]:
    """Return width and height of a size; raise InvalidRequest with this message when it is no pair of numbers."""
    width, _, height = str(size).partition(separator)
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise InvalidRequest(message)
    return int(width), int(height)


def is_too_long(pixels: tuple[int, int]) -> bool:
    """Whether one side is more than 16 times the other."""
    return max(pixels) > MAX_ASPECT * min(pixels)


def check_area(pixels: tuple[int, int], area: tuple[int, int], name: str = "size") -> None:
    """Raise InvalidRequest for a size outside the area or the aspect ratios of a model."""
    low, high = area
    if not low <= pixels[0] * pixels[1] <= high:
        raise InvalidRequest(f"{name}: the area must be between {low} and {high} pixels")
    check_aspect(pixels, name)


def check_aspect(pixels: tuple[int, int], name: str = "size") -> None:
    """Raise InvalidRequest for a size with one side more than 16 times the other."""
    if is_too_long(pixels):
        raise InvalidRequest(f"{name}: the aspect ratio must be between 1/16 and 16")
