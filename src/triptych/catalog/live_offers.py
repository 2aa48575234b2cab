"""Map a model of a provider's live catalogue to offers, by the rules in `live_rules`.

Rules: pure. A model that cannot be mapped with certainty is not offered: `NotMapped`, the only error, has the reason. A
schema is data from outside: its texts are bounded and on one line, and the work is bounded by its size.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from triptych.catalog import live_rules as rules
from triptych.catalog import live_schema as schemas
from triptych.catalog.live_schema import Field, NotMapped
from triptych.catalog.live_sizes import Geometry, geometry
from triptych.core.errors import quoted
from triptych.core.offers import ListedModel, LiveInputs, Offer, Operation, Param, Price
from triptych.core.text import line

__all__ = ["NotMapped", "offers"]

LATENCY_S = 30.0


def offers(
    provider: str, model: ListedModel, schema: Mapping[str, Any], *, as_of: str, source: str
) -> tuple[Offer, ...]:
    """Return an offer for each operation of a model, all with its endpoint id as their family.

    `schema` is the JSON schema of a request's fields, or a document that has it at `components.schemas.Input`. `as_of`
    (an ISO date) and `source` go into the price.
    Raises: `NotMapped` with the reason, for a model that cannot be offered.
    """
    kind = _kind(model)
    fields = schemas.fields(schema)
    taken = _Taken(provider, model.endpoint, fields)
    image, mask = taken.images(kind)
    prompt = taken.prompt()
    operations = _operations(kind, model.endpoint, prompt, image)
    count, most, makes_sets = taken.count(model.endpoint)
    sizes = taken.sizes()
    format, formats = taken.format()
    params = taken.params({"mask": mask} if mask else {})
    inputs = LiveInputs(
        path=model.path,
        prompt=prompt.name if prompt else None,
        image=image.name if image and image.kind == "string" else None,
        images=image.name if image and image.kind == "array" else None,
        count=count,
        format=format,
        formats=formats,
        constants=taken.constants,
        **sizes.inputs,
    )
    references = _max_references(image) if image else 0
    return tuple(
        Offer(
            provider=provider,
            family=model.endpoint,
            operation=operation,
            endpoint=model.endpoint,
            price=_price(model, as_of, source),
            sizes=sizes.sizes,
            max_references=references if operation.edits else 0,
            max_outputs=most if operation.sequential else 1,
            max_references_and_outputs=references + most,
            formats=tuple(formats),
            min_prompt_chars=prompt.shortest if prompt else 0,
            max_prompt_chars=_prompt_chars(prompt),
            names_count_in_prompt=makes_sets,
            latency_s=LATENCY_S,
            params={name: param for name, param in params.items() if operation.edits or not param.is_image},
            no_params=_arguments(inputs) | taken.no_params,
            title=_title(model),
            live=inputs,
        )
        for operation in _with_sequential(operations, most, makes_sets)
    )


# The model ------------------------------------------------------------------------------------------------------------


def _kind(model: ListedModel) -> str:
    """Return the model's category in lower case. Raises: `NotMapped` if it makes no images, or its id is malformed."""
    for text, allowed in ((model.endpoint, rules.ENDPOINT), (model.path, rules.PATH)):
        if not isinstance(text, str) or len(text) > 200 or not allowed.fullmatch(text):
            raise NotMapped(f"its id or path is malformed: {quoted(str(text)[:200], 60)}")
    kind = "-".join(schemas.words(model.kind)) if isinstance(model.kind, str) else ""
    if kind not in rules.IMAGE_KINDS:
        raise NotMapped(f"its category is {quoted(kind, 40)}, not one of images")
    for word in schemas.words(model.endpoint):
        if reason := rules.NO_IMAGE_WORDS.get(word):
            raise NotMapped(f'{reason} ("{word}" in its id)')
    return kind


def _operations(kind: str, endpoint: str, prompt: Field | None, image: Field | None) -> list[Operation]:
    if not prompt and not image:
        raise NotMapped("its schema has neither a prompt nor an image")
    always_edits = kind in rules.EDIT_KINDS or bool(rules.EDIT_WORDS & set(schemas.words(endpoint)))
    if always_edits and not image:
        raise NotMapped("it edits images, but its schema has no clear field for an image")
    generates = prompt and not always_edits and not (image and image.required)
    return ([Operation.GENERATE] if generates else []) + ([Operation.EDIT] if image else [])


def _with_sequential(operations: list[Operation], most: int, makes_sets: bool) -> list[Operation]:
    """Return the operations, with those for several images; a model for sets has only these."""
    several = {
        Operation.GENERATE: Operation.GENERATE_SEQUENTIAL,
        Operation.EDIT: Operation.EDIT_SEQUENTIAL,
    }
    if makes_sets:
        return [several[one] for one in operations]
    return [each for one in operations for each in ((one, several[one]) if most > 1 else (one,))]


def _title(model: ListedModel) -> str:
    """Return the title and the description on one bounded line."""
    texts = [line(text, rules.MAX_TITLE_CHARS) for text in (model.title, model.description) if isinstance(text, str)]
    return line(": ".join(dict.fromkeys(text for text in texts if text)), rules.MAX_TITLE_CHARS)


def _price(model: ListedModel, as_of: str, source: str) -> Price:
    usd = model.usd
    if isinstance(usd, Decimal) and usd.is_finite() and 0 < usd < 1000:
        return Price(usd, as_of, source)
    return Price(Decimal(0), as_of, source, unknown=True)


def _prompt_chars(prompt: Field | None) -> int:
    return min(prompt.longest, rules.MAX_PROMPT_CHARS) if prompt and prompt.longest else 4000


def _max_references(image: Field) -> int:
    most = 1 if image.kind == "string" else rules.UNBOUNDED_IMAGES if image.most is None else image.most
    return min(most, rules.LARGEST_REFERENCES)


# The fields -----------------------------------------------------------------------------------------------------------


def _arguments(inputs: LiveInputs) -> dict[str, str]:
    """Return for each property that a tool's own argument sets, in place of a parameter, which argument that is."""
    sizes = (inputs.size, inputs.width, inputs.height, inputs.ratio, inputs.tier)
    own = {inputs.prompt: "prompt", inputs.image: "images", inputs.images: "images", inputs.count: "count"}
    own |= {inputs.format: "format", **dict.fromkeys(sizes, "size")}
    return {name: f"use {argument}" for name, argument in own.items() if name}


class _Taken:
    """The fields of a schema, taken one after the other; the rest become parameters.

    `constants` are the values of required fields that a request does not set.
    """

    def __init__(self, provider: str, endpoint: str, fields: Mapping[str, Field]) -> None:
        self._provider = provider
        self._endpoint = endpoint
        self._left = dict(fields)
        self.constants: dict[str, Any] = {}
        self.no_params: dict[str, str] = {}
        # A field of this name that does not take the id is an option of the model, as any other.
        if (own := self._left.get("model")) and own.takes(endpoint):
            del self._left["model"]
            self.constants |= {"model": endpoint} if own.required else {}
        if videos := rules.VIDEO_FIELDS & self._left.keys():
            raise NotMapped(f"it makes videos (it has {', '.join(sorted(videos))})")
        for exempt in rules.EXCEPTIONS:
            if exempt.provider in ("", provider) and endpoint.startswith(exempt.prefix):
                for name in exempt.properties:
                    if name in self._left:
                        self._set_aside(self._left[name])
                        self.no_params["mask" if name in rules.MASK else name] = exempt.reason
        for one in list(self._left.values()):
            if one.hidden or one.name in rules.NEVER_PARAMS or one.words & rules.NEVER_WORDS:
                self._set_aside(one)

    def _set_aside(self, one: Field) -> None:
        """Leave a field out of the request, or send its only value if it is required."""
        del self._left[one.name]
        if one.required:
            value = one.enum[0] if one.enum and len(one.enum) == 1 and one.readable else one.default
            if value is None:
                raise NotMapped(f"it requires {quoted(one.name, 60)}, which is unknown and has no default")
            self.constants[one.name] = value

    def _first(self, names: tuple[str, ...]) -> Field | None:
        return next((self._left[name] for name in names if name in self._left), None)

    def images(self, kind: str) -> tuple[Field | None, Param | None]:
        """Return the field of the images to edit, and the mask; all other fields for files are left out."""
        media = {one.name: role for one in self._left.values() if (role := _media(one, kind))}
        found = {name: self._left.pop(name) for name in media}
        others = [one for one in found.values() if media[one.name] == "other"]
        images = [one for one in found.values() if media[one.name] == "image"]
        masks = [one for one in found.values() if media[one.name] == "mask"]
        for one in others:
            if one.required:
                raise NotMapped(f"it requires {quoted(one.name, 60)}, a file that may be no image")
        if kind in rules.TOOL_KINDS and (others or len(images) != 1):
            raise NotMapped("it does not take exactly one image, or takes other files too")
        required = [one for one in images if one.required]
        if len(required) > 1 or len([one for one in masks if one.required]) > 1:
            raise NotMapped(f"it requires several images: {', '.join(one.name for one in (required or masks)[:5])}")
        named = [one for name in rules.IMAGE for one in images if one.name == name]
        image = next(iter(required or named or (images if len(images) == 1 else ())), None)
        if image:
            _check_image(image)
        mask = next((one for one in masks if one.required), masks[0] if masks else None)
        if mask and (mask.kind != "string" or not mask.readable or not image):
            if mask.required:
                raise NotMapped("it requires a mask in a form that is unknown")
            mask = None
        return image, _mask(mask) if mask else None

    def prompt(self) -> Field | None:
        """Return the field of the prompt. Raises: `NotMapped` if it is not a plain text."""
        one = self._first(rules.PROMPT)
        if one is None:
            return None
        if one.kind != "string" or one.enum is not None or not one.readable or one.longest == 0 or one.shortest > 10:
            raise NotMapped(f"its {one.name} is not a plain text")
        del self._left[one.name]
        return one

    def count(self, endpoint: str) -> tuple[str | None, int, bool]:
        """Return the field of the number of images, its maximum, and whether the model makes sets.

        A request always sends it, so that no default multiplies the cost. Raises: `NotMapped` if it does not take 1.
        """
        is_set = rules.SET_WORD in schemas.words(endpoint) and rules.SET_COUNT in self._left
        own = self._left.get(rules.SET_COUNT) if is_set else self._first(rules.COUNT)
        for name in (*rules.COUNT, *rules.OTHER_COUNTS):
            if one := self._left.pop(name, None):
                if one.kind != "integer" or not one.readable or not one.takes(1):
                    raise NotMapped(f"its {name} does not take 1 as the number of images")
                if one is not own:
                    self.constants[name] = 1
        if own is None:
            return None, 1, False
        bounded = own.maximum is not None or own.enum is not None
        most = next((n for n in range(1, rules.LARGEST_COUNT) if not own.takes(n + 1)), rules.LARGEST_COUNT)
        return own.name, most if bounded else 1, is_set and bounded

    def sizes(self) -> Geometry:
        """Return the size fields."""
        found = geometry(self._provider, self._endpoint, self._left)
        for name in found.names:
            del self._left[name]
        self.constants |= found.constants
        return found

    def format(self) -> tuple[str | None, dict[str, str]]:
        """Return the field of the file format, and the provider's spelling of each format."""
        one = self._first(rules.FORMAT)
        if one is None or one.kind != "string" or not one.readable or not one.enum:
            return None, {}
        spelled = {rules.FORMATS[word.casefold()]: word for word in one.enum if word.casefold() in rules.FORMATS}
        if not spelled:
            return None, {}
        del self._left[one.name]
        if one.default is not None and str(one.default).casefold() in rules.FORMATS:
            self.constants |= {one.name: one.default} if one.required else {}
        elif one.required or one.default is not None:  # its own choice may be a file that cannot be read
            self.constants[one.name] = spelled.get("png", next(iter(spelled.values())))
        return one.name, spelled

    def params(self, found: dict[str, Param]) -> dict[str, Param]:
        """Return the parameters: those found before, Triptych's own names, then all others that are simple enough."""
        for shared in rules.SHARED:
            one = self._first(shared.names)
            if one and shared.name not in found and (param := _shared(shared, one)):
                self._set_aside(one)
                found[shared.name] = param
        for one in list(self._left.values()):
            schema = schemas.param_schema(one)
            self._set_aside(one)
            if schema is not None and one.name not in found:
                found[one.name] = Param(schema, (one.name,))
        return _bounded(found)


def _bounded(params: Mapping[str, Param]) -> dict[str, Param]:
    """Return the first parameters, as many as a job may keep."""
    kept: dict[str, Param] = {}
    chars = 0
    for name, param in params.items():
        chars += len(json.dumps(param.schema))
        if len(kept) == rules.MAX_PARAMS or chars > rules.MAX_SCHEMAS_CHARS:
            break
        kept[name] = param
    return kept


def _shared(shared: rules.Shared, one: Field) -> Param | None:
    """Return a parameter under Triptych's name; None if the field means something else."""
    schema = schemas.param_schema(one)
    if schema is None or one.kind not in shared.kinds:
        return None
    if shared.values:
        described = {"description": schema["description"]} if "description" in schema else {}
        return Param({"type": "string", "enum": [*shared.values], **described}, (one.name,), values=shared.values)
    if shared.words:
        words = [word for word in schema.get("enum", ()) if word in shared.words]
        if not words:
            return None
        schema = {name: value for name, value in schema.items() if name != "default" or value in words}
        schema["enum"] = words
    return Param(schema, (one.name,))


def _mask(one: Field) -> Param:
    described = one.schema.get("description")
    text = line(described, rules.MAX_DESCRIPTION_CHARS) if isinstance(described, str) else ""
    return Param(
        {"type": "string", "description": text or "The mask."}, (one.name,), is_image=True, required=one.required
    )


def _check_image(one: Field) -> None:
    """Raise `NotMapped` unless a field takes one image as a text, or a list of at least one."""
    text = one.item if one.kind == "array" and one.item else one
    if not one.readable or text.kind != "string" or not text.readable or text.enum or (text.longest or 2_000) < 2_000:
        raise NotMapped(f"its {one.name} is neither a URL of an image nor a list of them")
    if one.kind == "array" and (one.fewest > 1 or one.most == 0):
        raise NotMapped(f"its {one.name} takes {one.fewest} images or more")


# Files ----------------------------------------------------------------------------------------------------------------


def _media(one: Field, kind: str) -> str:
    """Return what kind of file a field holds: "image", "mask", "other", or "" if it holds none.

    The hints of the schema decide, not the name; without a hint only the usual names are images. A hint that names no
    kind of file is an image's if the name says so, or nothing else fits the model's category.
    """
    parts = [one.schema, *([one.item.schema] if one.item else [])]
    component = next((part["x-ui-component"] for part in parts if isinstance(part.get("x-ui-component"), str)), "")
    is_mask = component == rules.MASK_COMPONENT or one.name in rules.MASK
    accepted = [word for part in parts for word in _accepted(part)]
    if accepted:
        if not all(rules.ACCEPTED.fullmatch(word) for word in accepted):
            return "other"
        return "mask" if is_mask else "image"
    usual = is_mask or one.name in rules.IMAGE
    if component in rules.MEDIA_COMPONENTS:
        sure = kind and kind not in rules.TOOL_KINDS and not one.words & rules.OTHER_FILE_WORDS
        return "mask" if is_mask else "image" if usual or one.words & rules.IMAGE_WORDS or sure else "other"
    is_text = one.kind == "string" or bool(one.item and one.item.kind == "string")
    if usual and is_text and one.enum is None:
        return "mask" if is_mask else "image"
    named = one.words & rules.FILE_WORDS and one.kind not in ("boolean", "integer", "number") and one.enum is None
    return "other" if named else ""


def _accepted(part: Mapping[str, Any]) -> list[str]:
    """Return the kinds of files that a schema names."""
    props = part.get("x-ui-component-props")
    for given in (part.get("x-accept"), props.get("accept") if isinstance(props, Mapping) else None):
        texts = [given] if isinstance(given, str) else given[:20] if isinstance(given, list) else []
        words = [word.strip() for text in texts if isinstance(text, str) for word in text[:400].split(",")]
        if found := [word for word in words if word and word not in ("*", "*/*")]:
            return found
    return []
