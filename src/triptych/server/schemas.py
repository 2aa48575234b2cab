"""The arguments of the tools: one model each, lean JSON schemas, and refusals in plain words.

Rules: the models are the contract of the tools. Common deviations of hosts are accepted (one string for a list, a list
written as JSON, numbers written as text, null for "not given"). Nothing is guessed: other values are refused, and the
refusal says what would be right. Schemas have no titles, no `$ref` and no null noise: every conversation pays for every
byte. Descriptions repeat limits that hosts may strip.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import PydanticKnownError

from triptych.core.errors import BadRequest, quoted
from triptych.core.json_fields import Result


def _listed(value: object) -> object:
    """Return one string as a list of it, and a list written as JSON as that list."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            return [value]
        if isinstance(found, list):
            return found
    return [value]


def _format(value: object) -> object:
    return {"jpg": "jpeg"}.get(value.lower(), value.lower()) if isinstance(value, str) else value


def _object(value: object) -> object:
    """Return an object written as JSON as that object."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        with suppress(ValueError, RecursionError):
            return json.loads(value)
    return value


def _number(value: object) -> object:
    """Return true and false as text, so that they do not count as numbers."""
    return str(value) if isinstance(value, bool) else value


def _bounded(value: str) -> str:
    if len(value) > NAME_LIMIT_CHARS:
        raise PydanticKnownError("string_too_long", {"max_length": NAME_LIMIT_CHARS})
    return value


Whole = Annotated[int, BeforeValidator(_number)]
Seconds = Annotated[float, BeforeValidator(_number)]
Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Name = Annotated[Words, AfterValidator(_bounded)]
NAME_LIMIT_CHARS = 2000
"""The limit of texts that are looked up or compared, and not sent on. Only the refusal names it."""
Items = Annotated[list[Words], BeforeValidator(_listed)]
# Bounded, because an amount of 1e-999999999 dollars has a billion digits when it is written out.
Usd = Annotated[Decimal, Field(max_digits=40, decimal_places=20), WithJsonSchema({"type": "number"})]
WAIT_LIMIT_S = 55
"""Below the 60 s after which many hosts give up a call."""


class Arguments(BaseModel):
    """The base of every tool's arguments: unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Paid(Arguments):
    """The optional arguments that the three paid tools share."""

    model: Name | None = Field(None, description="Id from list_models")
    provider: Name | None = None
    size: Name | None = Field(None, description="2K, 16:9, 2048x2048 or auto")
    format: Annotated[Literal["png", "jpeg", "webp"], BeforeValidator(_format)] | None = None
    params: Annotated[dict[str, Any], BeforeValidator(_object), WithJsonSchema({"type": "object"})] | None = Field(
        None, description="The model's own: background, seed, …"
    )
    wait_s: Seconds = Field(25, ge=0, le=WAIT_LIMIT_S, description="0-55 s")
    save_to: Name | None = Field(None, description="Directory for copies")
    max_cost_usd: Usd | None = Field(None, ge=0, description="Cap; consent if the user cannot be asked")
    dry_run: bool = Field(False, description="Quote only")
    again: bool = Field(False, description="Pay again for the same request")


class UploadImages(Arguments):
    images: Items = Field(min_length=1, description="In the forms of edit_sequence")
    look: Name | None = Field(None, description="Store them as this look:NAME, for edits")
    words: Words | None = Field(None, description="The look's words")


class EditSequence(Paid):
    images: Items = Field(
        min_length=1,
        description="1-14: handles, paths, folders, photos/*.jpg, https:// URLs, data: URIs, look:NAME",
    )
    prompt: Words = Field(description="The edit; if count > 1, how the images differ")
    count: Whole = Field(1, ge=1, le=14, description="1-14; images + count ≤ 15")


class EditChain(Paid):
    images: Items = Field(
        min_length=1,
        description="As in edit_sequence, any number; a table (.csv, .tsv, .jsonl): a lane per row; job_…/failed: its "
        "failed lanes",
    )
    steps: Items = Field([], description="1-10 instructions; {column} of the table")
    references: Items = Field(
        [], description='In every request: images, look:NAME; "original": the lane\'s first image, against drift'
    )


class GenerateSequence(Paid):
    prompt: Words = Field(description="If count > 1, how the images differ")
    count: Whole = Field(1, ge=1, le=15, description="1-15")


class GetStatus(Arguments):
    job_id: Name
    wait_s: Seconds = Field(0, ge=0, le=WAIT_LIMIT_S, description="0-55 s")
    page: Whole | None = Field(None, ge=1, description="Page of an ended job's images")


class ListJobs(Arguments):
    limit: Whole = Field(20, ge=1, le=100, description="1-100")
    status: Literal["queued", "running", "done", "partial", "failed", "cancelled", "uncertain"] | None = None


class CancelJob(Arguments):
    job_id: Name


class ListModels(Arguments):
    query: Annotated[str, AfterValidator(_bounded)] = Field("", description="Words of a name, id or title")
    operation: Literal["generate", "generate-sequential", "edit", "edit-sequential", "layers"] | None = None
    provider: Name | None = None


class ViewImages(Arguments):
    images: Items = Field(min_length=1, description="1-40 images")
    detail: bool = Field(False, description="Larger: up to 540 KB instead of 200")


class SaveImages(Arguments):
    images: Items = Field(min_length=1, description="Images, or job_…: its final ones")
    directory: Name = Field(description="May end in .zip")
    name: Name | None = Field(None, description="File name, numbered; {column}, {source}")
    size: Name | None = Field(
        None, description="1080x1080 crops; 1600: longest side; contain 800x600 white; several by commas"
    )
    format: Annotated[Literal["png", "jpeg", "webp"], BeforeValidator(_format)] | None = None


ArgumentsT = TypeVar("ArgumentsT", bound=Arguments)


def read(model: type[ArgumentsT], tool: str, given: Mapping[str, Any]) -> ArgumentsT:
    """Return the arguments as `model`. Null counts as not given, and so does an empty text for an optional argument.

    Raises: `BadRequest` naming each wrong argument, its fault, and what would be right.
    """
    try:
        return model.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        if blank := _blank(model, error):  # some frameworks have their model fill in every argument
            return read(model, tool, {name: value for name, value in given.items() if name not in blank})
        # From None: pydantic's own text quotes the values, which may be megabytes of base64.
        raise BadRequest(_refusal(model, tool, error)) from None


def _blank(model: type[Arguments], error: ValidationError) -> set[str]:
    """Return the optional arguments whose only fault is an empty text."""
    empty = {
        str(fault["loc"][0])
        for fault in error.errors(include_url=False)
        if fault["type"] in ("string_too_short", "literal_error", "dict_type") and not str(fault["input"]).strip()
    }
    return {name for name in empty & model.model_fields.keys() if not model.model_fields[name].is_required()}


def _refusal(model: type[Arguments], tool: str, error: ValidationError) -> str:
    names = _names(model)
    faults = error.errors(include_url=False, include_context=True)
    sentences = [
        _fault(fault["type"], fault["loc"], fault.get("input"), fault.get("ctx") or {}, names) for fault in faults
    ]
    more = f" And {len(sentences) - 3} more." if len(sentences) > 3 else ""
    return f"{tool}: {' '.join(sentences[:3])}{more} Nothing was sent. {tool} takes: {', '.join(names)}."


_FAULTS = {
    "missing": "is missing",
    "greater_than_equal": "is {shown}; it must be at least {ge:g}",
    "less_than_equal": "is {shown}; it can be at most {le:g}",
    "too_short": "is empty; it needs at least {min_length}",
    "too_long": "has {length} items; it can have at most {max_length}",
    "string_too_short": "is empty; it needs some text",
    "string_too_long": "is too long; it can have at most {max_length} characters",
    "string_type": "is {shown}; it must be text",
    "list_type": "is {shown}; it must be a list of strings",
    "dict_type": 'is {shown}; it must be an object such as {{"seed": 7}}',
    "literal_error": "is {shown}; it must be one of {expected}",
    "int": "is {shown}; it must be a whole number",
    "float": "is {shown}; it must be a number",
    "finite": "is {shown}; it must be a number",
    "decimal": "is {shown}; it must be a number of US dollars",
    "bool": "is {shown}; it must be true or false",
}


def _fault(kind: str, loc: tuple[int | str, ...], value: object, ctx: Mapping[str, Any], names: list[str]) -> str:
    """Return one fault as a sentence; the value is shown only if it is short and cannot be an image."""
    name = quoted(loc[0], 60)[1:-1]
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        return f"There is no argument `{name}`" + (f"; did you mean `{near[0]}`?" if near else ".")
    place = f"`{name}`" + "".join(f" item {part + 1}" for part in loc[1:2] if isinstance(part, int))
    sentences = _FAULTS.get(kind) or _FAULTS.get(kind.partition("_")[0], "is {shown}, which is not a valid value")
    length = len(value) if isinstance(value, list) else 0
    return f"{place} {sentences.format(shown=_shown(value), length=length, **ctx)}."


def _shown(value: object) -> str:
    if isinstance(value, str | int | float):
        shown = quoted(value if isinstance(value, str) else json.dumps(value), 60)
        return shown if isinstance(value, str) else shown[1:-1]
    return "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else "not understood"


def input_schema(model: type[Arguments]) -> dict[str, Any]:
    """Return the model's JSON schema, own fields first, without titles, null noise and empty defaults.

    It does not say that other arguments are refused: `read` does, with the nearest name.
    """
    schema = _lean(model.model_json_schema(), {})
    del schema["additionalProperties"]
    schema["properties"] = {name: schema["properties"][name] for name in _names(model)}
    return dict(schema)


def _names(model: type[Arguments]) -> list[str]:
    """Return the tool's arguments in the order to show them: its own first, then the shared ones."""
    return sorted(model.model_fields, key=lambda name: name not in model.__annotations__)


def output_schema(kind: type[Result]) -> dict[str, Any]:
    """Return the JSON schema of a result, with its parts inlined."""
    schema = TypeAdapter(kind).json_schema(mode="serialization")
    lean: dict[str, Any] = _lean(schema, schema.get("$defs", {}), keep_null=True)
    return lean


_NOTHING: tuple[object, ...] = (None, False, "", [])


def _lean(node: Any, parts: Mapping[str, Any], *, keep_null: bool = False) -> Any:
    if isinstance(node, list):
        return [_lean(item, parts, keep_null=keep_null) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _lean(parts[node["$ref"].rpartition("/")[2]], parts, keep_null=keep_null)
    lean: dict[str, Any] = {}
    for key, value in node.items():
        if key in ("title", "$defs") or (key == "default" and (keep_null or value in _NOTHING)):
            continue
        if key == "description" and keep_null:
            continue
        if key == "properties":
            lean[key] = {name: _lean(part, parts, keep_null=keep_null) for name, part in value.items()}
        elif key == "anyOf":
            lean |= _union([_lean(part, parts, keep_null=keep_null) for part in value], keep_null=keep_null)
        elif key in ("minLength", "minItems", "minimum") and value in (0, 1) and not keep_null:
            continue  # The refusal says it, and every conversation would pay for it.
        else:
            lean[key] = _lean(value, parts, keep_null=keep_null)
    return lean


def _union(arms: list[dict[str, Any]], *, keep_null: bool) -> dict[str, Any]:
    """Return "this or null" as this, or as a type pair if null is a possible value."""
    real = [arm for arm in arms if arm != {"type": "null"}]
    if len(real) != 1 or len(real) == len(arms):
        return {"anyOf": arms}
    if not keep_null:
        return real[0]
    return {**real[0], "type": [real[0]["type"], "null"]} if "type" in real[0] else {"anyOf": arms}
