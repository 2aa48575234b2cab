"""Models of a live catalogue: served from `catalogue/`, and checked by their schemas alone.

A JSON Schema validator decides whether a request body is valid. Its pictures have the size, number and
format that its fields ask for; each costs the listed price, or `UNLISTED_USD` where none is listed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from triptych_emulators.kit import InvalidRequest, JobSpec
from triptych_emulators.kit.prices import flat

UNLISTED_USD = "0.05"
DEFAULT_SIZE = (1024, 1024)
_MEDIA = frozenset({"uploader", "uploaders", "upload", "upload-array", "mask"})
_MIME_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "jpg": "image/jpeg", "webp": "image/webp"}
_COUNTS = ("num_images", "max_images", "num_outputs", "n")


SizeOf = Callable[[str], tuple[int, int] | None]


@dataclass(frozen=True)
class LiveModel:
    """One model; `schema` is that of a request's fields, `usd` the listed price of an image as text."""

    id: str
    title: str
    description: str
    kind: str
    usd: str | None
    schema: Mapping[str, Any]


def load(provider: str, kind: str, extra: Sequence[Mapping[str, Any]], but: Collection[str]) -> dict[str, LiveModel]:
    """Return the models of a provider's catalogue by id, without the ids in `but`, and the `extra` models.

    An extra model has the fields of the files in `catalogue/`; all but `model` and `schema` may be missing, and `kind`
    is then its category.
    """
    shipped = json.loads(files(__package__).joinpath("catalogue", f"{provider}.json").read_text("utf-8"))
    found = {}
    for entry in (*(one for one in shipped if one["model"] not in but), *extra):
        fields = {"title": "", "description": "", "kind": kind, "usd": None, **entry}
        found[entry["model"]] = LiveModel(id=fields.pop("model"), **fields)
    return found


def parse(model: LiveModel, fields: Mapping[str, Any], size_of: SizeOf) -> JobSpec:
    """Return the job of a request's fields; raise InvalidRequest for what the schema does not allow.

    `size_of` returns the size of a reference in pixels, which applies where no size is given.
    """
    from jsonschema import Draft202012Validator

    for fault in Draft202012Validator(dict(model.schema)).iter_errors(dict(fields)):
        raise InvalidRequest(f"{'.'.join(map(str, fault.path)) or 'request'}: {fault.message}"[:300])
    given = {name: rule["default"] for name, rule in _properties(model).items() if "default" in rule} | dict(fields)
    references = [text for name in _media(model) for text in _texts(fields.get(name))]
    count = next((given[name] for name in _COUNTS if isinstance(given.get(name), int)), 1)
    cut_out = given.get("background") == "transparent" or "remove-background" in model.id
    output_format = "png" if cut_out else str(given.get("output_format", "png")).lower()
    return JobSpec(
        model=model.id,
        prompt=str(fields.get("prompt", "")),
        references=references,
        count=count,
        size=_size(given) or (size_of(references[0]) if references else None) or DEFAULT_SIZE,
        mime_type=_MIME_TYPES.get(output_format, "image/png"),
        prices=flat(model.usd or UNLISTED_USD),
        transparent=cut_out,
        body=fields,
    )


def unknown_keys(model: LiveModel, fields: Mapping[str, Any]) -> set[str]:
    """Return the fields that the schema does not have."""
    return set(fields) - set(_properties(model))


def _properties(model: LiveModel) -> Mapping[str, Mapping[str, Any]]:
    found: Mapping[str, Mapping[str, Any]] = model.schema.get("properties", {})
    return found


def _media(model: LiveModel) -> Iterator[str]:
    """Yield the fields with images, a mask last."""
    found = [
        (rule.get("x-ui-component") == "mask" or "mask" in name, name)
        for name, rule in _properties(model).items()
        if rule.get("x-ui-component") in _MEDIA or rule.get("x-accept") or re.fullmatch(r"(input_)?images?", name)
    ]
    yield from (name for _, name in sorted(found, key=lambda one: one[0]))


def _texts(value: Any) -> Sequence[str]:
    return [value] if isinstance(value, str) else [text for text in value or () if isinstance(text, str)]


def _size(given: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the pixels that a body asks for; None if it leaves them open."""
    if found := re.fullmatch(r"([0-9]{2,5})[*x]([0-9]{2,5})", str(given.get("size", ""))):
        return int(found[1]), int(found[2])
    if isinstance(given.get("width"), int) and isinstance(given.get("height"), int):
        return given["width"], given["height"]
    ratio = re.fullmatch(r"([0-9]{1,2}):([0-9]{1,2})", str(given.get("aspect_ratio", "")))
    tier = re.fullmatch(r"([0-9](?:\.5)?)k", str(given.get("resolution", "1k")).lower())
    if not ratio or not tier:
        return None
    wide, high = int(ratio[1]), int(ratio[2])
    unit = 1024 * float(tier[1]) / math.sqrt(wide * high)
    return round(unit * wide / 16) * 16, round(unit * high / 16) * 16


def atlas_entry(model: LiveModel, schema_url: str) -> dict[str, Any]:
    """Return a model's entry in Atlas's public list."""
    price = {} if model.usd is None else {"actual": {"base_price": model.usd, "unit": "image"}}
    return {
        "model": model.id,
        "type": "Image" if "IMAGE" in model.kind else "Other",
        "displayName": model.title,
        "profile": model.description,
        "schema": schema_url,
        "tags": [],
        "categories": [model.kind],
        "price": {"discount": "100", **price},
        "display_console": True,
    }


def atlas_document(model: LiveModel) -> dict[str, Any]:
    """Return a model's OpenAPI document, as Atlas's static host serves it."""
    return {
        "openapi": "3.0.0",
        "info": {"title": model.id, "version": "1.0.0"},
        "paths": {
            "/api/v1/model/generateImage": {"x-api-name": "model_run"},
            "/api/v1/model/prediction/{request_id}": {"x-api-name": "model_result"},
        },
        "components": {"schemas": {"Input": model.schema, "Output": {"type": "object", "properties": {}}}},
    }


def wavespeed_entry(model: LiveModel, order: int) -> dict[str, Any]:
    """Return a model's entry in WaveSpeedAI's list."""
    run = {
        "type": "model_run",
        "method": "POST",
        "server": "https://api.wavespeed.ai",
        "api_path": f"/api/v3/{model.id}",
        "request_schema": model.schema,
    }
    price = {} if model.usd is None else {"base_price": float(model.usd)}
    return {
        "model_id": model.id,
        "name": model.title or model.id,
        "description": model.description,
        "type": model.kind,
        **price,
        "sort_order": order,
        "api_schema": {"api_schemas": [run]},
    }
