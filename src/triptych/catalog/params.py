"""Check the parameters of a request against those that an offer has.

Rules: pure. A refusal names the parameter, its fault, and what would be right.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from triptych.core.errors import OutOfLimits, quoted
from triptych.core.offers import Offer, Param
from triptych.core.requests import Request

SHARED = ("background", "seed", "negative_prompt", "prompt_optimization", "web_search", "watermark", "quality")
"""The names that Triptych gives to parameters which many models share; the rest have the provider's names."""
VALUE_CHARS = 2_000
"""The limit of a parameter as JSON, besides its own; an image may be a longer text."""


def check_params(offer: Offer, request: Request) -> None:
    """Check a request's parameters. Raises: `OutOfLimits`, saying what would be right."""
    where = f"{offer.family} on {offer.provider}"
    for name, needed in offer.params.items():
        if needed.required and name not in (request.params or {}):
            raise OutOfLimits(f"{where} needs params.{name}: {_words(needed)}.")
    for name, value in (request.params or {}).items():
        param = offer.params.get(name)
        if param is None:
            raise OutOfLimits(f"{where} has no parameter {quoted(name, 40)}{_why_not(offer, name)}. {_has(offer)}")
        if param.is_image:
            if not isinstance(value, str) or not value.strip():
                raise OutOfLimits(f"params.{name} is an image: a handle, a path or a URL, as in images.")
        elif fault := _fault(param, value):
            raise OutOfLimits(f"params.{name} is {_shown(value)}; on {where} it must be {fault}.")
        elif value in param.one_reference and request.most_inputs != 1:
            raise OutOfLimits(
                f"params.{name} is {_shown(value)}; on {where} that needs exactly one image to edit, and this request "
                f"has {request.most_inputs}: {param.note}."
            )
    image_format = request.format or offer.default_format
    if image_format == "png" and _is_compression(offer, request):
        raise OutOfLimits(
            "params.quality compresses a JPEG or WebP, and a PNG has no such quality: set format or leave quality out."
        )
    if request.format == "jpeg" and (request.params or {}).get("background") == "transparent":
        raise OutOfLimits('params.background is "transparent", and a JPEG has no transparency: use format="png".')


def _is_compression(offer: Offer, request: Request) -> bool:
    """Return whether the request sets a quality in percent; a quality in words is the model's effort."""
    param = offer.params.get("quality") if "quality" in (request.params or {}) else None
    return bool(param and not offer.live and param.schema.get("type") == "integer")


def image_params(offer: Offer, request: Request) -> tuple[str, ...]:
    """Return the images among a request's parameters, in the order of their names."""
    given = request.params or {}
    return tuple(given[name] for name in sorted(given) if name in offer.params and offer.params[name].is_image)


def notes(offer: Offer, request: Request) -> Iterator[str]:
    """Yield the notes of the parameters that are set."""
    for name, value in (request.params or {}).items():
        note = offer.params[name].note
        if note and value not in (False, "off", None):
            yield f"params.{name}: {note}"


def params_text(params: Mapping[str, Param]) -> list[str]:
    """Return each parameter with its values in a few words: "seed: whole number", "quality: low, medium, high"."""
    needed = {name: " (required)" if param.required else "" for name, param in params.items()}
    return [f"{name}: {_words(param)}{needed[name]}" for name, param in params.items()]


def _words(param: Param) -> str:
    return "an image" if param.is_image else _values(param.schema)


def _why_not(offer: Offer, name: str) -> str:
    if reason := offer.no_params.get(name):
        return f": {reason}"
    near = get_close_matches(name, offer.params, n=1, cutoff=0.5)
    return f"; did you mean {quoted(near[0], 60)}?" if near else ""


def _has(offer: Offer) -> str:
    if not offer.params:
        return "It has no parameters: leave params out."
    listed = [f"{name} ({_values(param.schema)})" for name, param in offer.params.items()]
    more = f" and {len(listed) - 20} more" if len(listed) > 20 else ""
    return f"It has: {', '.join(listed[:20])}{more}."


def _fault(param: Param, value: Any) -> str:
    """Return what a value must be, in words; "" for a valid one."""
    from jsonschema import Draft202012Validator

    longest = max(VALUE_CHARS, param.schema.get("maxLength", 0))
    if len(_written(value)) > longest + 2:
        return f"{_values(param.schema)}, of at most {longest} characters"
    if _is_json(value) and Draft202012Validator(dict(param.schema)).is_valid(value):
        return ""
    return f"{'one of ' if len(param.schema.get('enum', ())) > 1 else ''}{_values(param.schema)}"


def _is_json(value: Any) -> bool:
    """Return whether a value can be written as JSON in UTF-8: no NaN, no infinity, no half of a character."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return False
    return True


def _values(schema: Mapping[str, Any]) -> str:
    """Return the values that a schema takes, in words."""
    if enum := schema.get("enum"):
        shown = [_word(one) if isinstance(one, str) else _written(one) for one in enum]
        return ", ".join(shown[:12]) + (f" and {len(shown) - 12} more" if len(shown) > 12 else "")
    kind = _kind(schema)
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f"{kind} from {low} to {high}"
    if low is not None or high is not None:
        return f"{kind} of at least {low}" if high is None else f"{kind} of at most {high}"
    if (longest := schema.get("maxLength")) and kind == "text":
        return f"{kind} of at most {longest} characters"
    return kind


def _word(value: str) -> str:
    """Return a value of an enum: in quotes if it is more than a word, as it may be any text of a live catalogue."""
    return value if re.fullmatch(r"[\w.:*/+-]{1,40}", value) else quoted(value, 100)


def _kind(schema: Mapping[str, Any]) -> str:
    if schema.get("format") == "uri":
        return "a URL that begins with https://" if str(schema.get("pattern")).startswith("^https:") else "a URL"
    if isinstance(properties := schema.get("properties"), Mapping):
        flat = {name: one for name, one in properties.items() if isinstance(one, Mapping) and "properties" not in one}
        return f"an object of {', '.join(f'{name} ({_values(one)})' for name, one in list(flat.items())[:12])}"
    words = {"boolean": "true or false", "integer": "a whole number", "number": "a number", "string": "text"}
    return words.get(str(schema.get("type")), "an object" if schema.get("type") == "object" else "a list")


def _shown(value: Any) -> str:
    return quoted(value if isinstance(value, str) else _written(value), 60)


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
