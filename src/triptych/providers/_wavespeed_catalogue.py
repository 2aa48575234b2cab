"""WaveSpeedAI's live catalogue: one list, with the path and the schema of each model's submit in it.

The facts are in docs/providers/wavespeed.md#live-catalogue.
"""

from __future__ import annotations

import re
from typing import Any

from triptych.core.offers import ListedModel
from triptych.providers import Flow, HttpRequest, _listed
from triptych.providers import _reading as read

ROOT = "/api/v3/"
_PER_IMAGE = re.compile(r"(price( ?\* ?(num_images|max_images|num_outputs|n))?)?", re.I)
"""Formulas of a price under which an image costs the base price; under another one the price is unknown."""
_OPERATIONS = frozenset({"predictions", "media", "model", "models", "balance"})
"""First segments below the root that are not models."""


def catalogue() -> Flow[tuple[ListedModel, ...]]:
    """Return the models that may make or edit images, with their schemas. Raises: `errors.Outage` for no list."""
    response = yield HttpRequest("GET", "/api/v3/models")
    return _listed.models(_listed.entries(response), _model)


def _model(entry: Any) -> ListedModel | None:
    endpoint, run = read.field(entry, "model_id"), _run(read.field(entry, "api_schema", "api_schemas"))
    path, schema = read.field(run, "api_path"), read.field(run, "request_schema")
    if not _listed.is_id(endpoint) or not _is_submit(path) or not isinstance(schema, dict):
        return None
    name, formula = read.field(entry, "name"), read.field(entry, "formula")
    return ListedModel(
        endpoint=endpoint,
        title=_listed.text(name if name != endpoint else "", _listed.TITLE_CHARS),
        kind=_listed.kind_of(read.field(entry, "type")),
        path=path,
        usd=read.usd(read.field(entry, "base_price")) if _PER_IMAGE.fullmatch(str(formula or "")) else None,
        description=_listed.text(read.field(entry, "description"), _listed.DESCRIPTION_CHARS),
        schema=schema,
    )


def _run(schemas: Any) -> Any:
    """Return the description of the submit among those of a model's requests."""
    if not isinstance(schemas, list):
        return None
    runs = [one for one in schemas if read.field(one, "type") == "model_run"]
    found = runs[0] if runs else schemas[0] if len(schemas) == 1 else None
    return found if read.field(found, "method") in (None, "POST") else None


def _is_submit(path: Any) -> bool:
    """Return whether a path is that of a model: below the root, and no other request of the API."""
    if not isinstance(path, str) or not path.startswith(ROOT):
        return False
    below = path.removeprefix(ROOT)
    return _listed.is_id(below) and below.split("/")[0] not in _OPERATIONS
