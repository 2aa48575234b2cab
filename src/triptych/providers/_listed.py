"""Read the entries of providers' live catalogues, as `ListedModel`s. Everything in an entry is data from outside.

Rules: texts are bounded and on one line; an entry of the wrong shape is left out. Several providers share this file, so
it knows none of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from triptych.core import errors
from triptych.core.offers import ListedModel
from triptych.core.text import line
from triptych.providers import HttpResponse
from triptych.providers import _reading as read

MAX_MODELS = 1000
"""The most models of one catalogue that are read."""
SCHEMA_BYTES = 2_000_000
"""The limit of a model's schema document."""
TITLE_CHARS = 100
DESCRIPTION_CHARS = 400
_ID = re.compile(r"[A-Za-z0-9][\w.:@-]*(?:/[A-Za-z0-9][\w.:@-]*)*", re.ASCII)
_TOOLS = re.compile(r"upscal|remov|inpaint|outpaint|erase|image.?(tool|edit)")
_NO_IMAGE = re.compile(r"-to-(?!image)|video|audio|speech|music|3d|train|lora.?train|caption|llm")


def entries(response: HttpResponse) -> list[Any]:
    """Return the entries of a catalogue (`data`). Raises: `errors.Outage` for anything but a list with entries."""
    body = response.json()
    data = read.field(body, "data")
    if not 200 <= response.status < 300 or not isinstance(data, list) or not data:
        read.raise_for_status(response, body)
        raise read.outage(response, body)
    return data


def models(listing: Iterable[Any], listed: Callable[[Any], ListedModel | None]) -> tuple[ListedModel, ...]:
    """Return the models of a list that may make or edit images, one for each id; `listed` reads an entry."""
    found: dict[str, ListedModel] = {}
    for entry in listing:
        try:
            model = listed(entry)
        except Exception:  # noqa: S112 (an entry can raise anything in its reader, and hides no other)
            continue
        if model and makes_images(model.kind):
            found.setdefault(model.endpoint.casefold(), model)
        if len(found) == MAX_MODELS:
            break
    return tuple(found.values())


def makes_images(kind: str) -> bool:
    """Return whether a model of this category may return images; one without a category may."""
    return not kind or (not _NO_IMAGE.search(kind) and ("image" in kind or bool(_TOOLS.search(kind))))


def is_id(value: Any) -> bool:
    """Return whether this can be a model's id: path segments of letters, digits and a few marks, 200 at most."""
    return isinstance(value, str) and len(value) <= 200 and ".." not in value and bool(_ID.fullmatch(value))


def kind_of(*words: Any) -> str:
    """Return the first text among these as a category: lower case, with hyphens."""
    first = next((word for word in words if isinstance(word, str) and word.strip()), "")
    return re.sub(r"[\s_]+", "-", line(first, 60).casefold())


def text(value: Any, limit_chars: int) -> str:
    return line(value, limit_chars) if isinstance(value, str) else ""


def document(response: HttpResponse) -> Mapping[str, Any]:
    """Return a schema document. Raises: `errors.Outage`, `errors.Refused`: without one."""
    if len(response.body) > SCHEMA_BYTES:
        raise errors.Refused(f"It has more than {SCHEMA_BYTES // 1_000_000} MB.")
    body = response.json()
    read.raise_for_status(response, body if isinstance(body, dict) and "components" not in body else None)
    if not isinstance(body, dict):
        raise errors.Refused("It is not a JSON object.")
    return body
