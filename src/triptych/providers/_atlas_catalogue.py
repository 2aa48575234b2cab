"""Atlas Cloud's live catalogue: its public list of models, and the schema document that each entry names.

The facts are in docs/providers/atlas.md#live-catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from triptych.core import errors
from triptych.core.offers import ListedModel
from triptych.providers import BaseUrl, Flow, HttpRequest, _listed
from triptych.providers import _reading as read

STATIC = BaseUrl("ATLASCLOUD_STATIC_BASE_URL", "https://static.atlascloud.ai", optional=True)
"""The host of the schema documents; it gets no key."""
SUBMIT_PATH = "/api/v1/model/generateImage"


def catalogue() -> Flow[tuple[ListedModel, ...]]:
    """Return the models that may make or edit images; hidden ones are left out.

    Raises: `errors.Outage` for anything but a list.
    """
    response = yield HttpRequest("GET", "/api/v1/models", authorize=False)
    return _listed.models(_listed.entries(response), _model)


def _model(entry: Any) -> ListedModel | None:
    endpoint, url = read.field(entry, "model"), read.field(entry, "schema")
    if not _listed.is_id(endpoint) or read.field(entry, "display_console") is False:
        return None
    categories, tags = read.field(entry, "categories"), read.field(entry, "tags")
    tagged = [tag for tag in tags if isinstance(tag, str) and "-to-" in tag.replace("_", "-")] if _some(tags) else []
    price = read.field(entry, "price", "actual")
    each = read.field(price, "unit") in (None, "", "image")
    return ListedModel(
        endpoint=endpoint,
        title=_listed.text(read.field(entry, "displayName"), _listed.TITLE_CHARS),
        kind=_listed.kind_of(*(categories if _some(categories) else []), *tagged, read.field(entry, "type")),
        path=SUBMIT_PATH,
        usd=read.usd(read.field(price, "base_price")) if each else None,
        description=_listed.text(read.field(entry, "profile"), _listed.DESCRIPTION_CHARS),
        schema_url=url if read.is_url(url) else "",
    )


def _some(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= 100


def schema(model: ListedModel) -> Flow[Mapping[str, Any]]:
    """Return the JSON schema of a model's request, with the rest of its document for the references in it.

    The document is read from the static host, or from the origin of the API. A URL on any other host is not read.
    Raises: `errors.Outage`, `errors.Refused`, `errors.NotAllowed`: without a schema.
    """
    if not model.schema_url:
        raise errors.Refused("The catalogue names no schema for it.")
    parts = urlsplit(model.schema_url)
    if f"{parts.scheme}://{parts.netloc}" == STATIC.default:
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        response = yield HttpRequest("GET", path or "/", base="static", authorize=False, timeout_s=15.0)
    else:  # authorised, so that the client refuses every origin but the API's
        response = yield HttpRequest("GET", model.schema_url, timeout_s=15.0)
    components = read.field(_listed.document(response), "components")
    schemas = read.field(components, "schemas")
    found = read.field(schemas, "Input")
    if not isinstance(found, dict):
        raise errors.Refused("Its schema document has no components.schemas.Input.")
    others = {name: value for name, value in schemas.items() if name != "Input"}
    return {**found, "components": {"schemas": others}}
