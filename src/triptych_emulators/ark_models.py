"""The models of ModelArk, as data: sizes, limits and list prices; and the parser of its submits.

Source: the documentation and live responses quoted in docs/providers/ark.md#submit; Seedream 5.5 (pages of 2026-11-13),
5.0 pro and flash by accounts of resellers. Where two sources disagree, a switch of the emulator chooses. Every optional
field may be null, which means that it is absent, because the official client sends it so. Unknown fields are accepted
silently.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from triptych_emulators.kit import JobSpec
from triptych_emulators.kit.prices import V5_5, V5_FLASH, V5_PRO, PriceTiers, flat
from triptych_emulators.kit.validation import MAX_TOTAL, MIME_TYPES, is_too_long, is_whole

MAX_REFERENCE_PIXELS = 36_000_000
MIN_REFERENCE_SIDE = 15

_ROWS: Mapping[str, str] = {
    "1K": "1024x1024 1152x864 864x1152 1280x720 720x1280 1248x832 832x1248 1512x648",
    "2K": "2048x2048 2304x1728 1728x2304 2848x1600 1600x2848 2496x1664 1664x2496 3136x1344",
    "3K": "3072x3072 3456x2592 2592x3456 4096x2304 2304x4096 3744x2496 2496x3744 4704x2016",
    "4K": "4096x4096 4704x3520 3520x4704 5504x3040 3040x5504 4992x3328 3328x4992 6240x2656",
}
_SINGLE_ROWS: Mapping[str, str] = {
    "1K": "1024x1024 832x1248 864x1152 896x1120 800x1424 1568x672",
    "1.5K": "1536x1536 1248x1872 1344x1792 1344x1680 1152x2048 2352x1008",
    "2K": "2048x2048 1664x2496 1776x2368 1792x2240 1584x2816 3136x1344",
}
"""The sizes behind a word at the models that make one image."""
SINGLE_AREA = (921_600, 4_624_220)


def _sizes(rows: Mapping[str, str]) -> Mapping[str, Sequence[tuple[int, int]]]:
    return {
        word: [(int(width), int(height)) for width, _, height in (size.partition("x") for size in row.split())]
        for word, row in rows.items()
    }


PRESETS = _sizes(_ROWS)
SINGLE_PRESETS = _sizes(_SINGLE_ROWS)

_URI = re.compile(r"data:image/(?:jpeg|jpg|png|webp|bmp|tiff|gif|heic|heif);base64,")
_WORDS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {word: number for number, word in enumerate(_WORDS, start=2)}


class Refused(Exception):
    """A refused request: the HTTP status, the provider's code and its message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def invalid(parameter: str, why: str) -> Refused:
    """Return the refusal of a parameter in the live wording (docs/providers/ark.md#errors)."""
    text = f"The parameter `{parameter}` specified in the request is not valid: {why}."
    return Refused(400, "InvalidParameter", text)


@dataclass(frozen=True)
class Model:
    """One model id. With `sequences` False, the fields that make a sequence or a stream are refused.

    `background` is the effect of that field: "" is none, "made" makes the background transparent, "kept" keeps the
    alpha of the one PNG that is edited.
    """

    id: str
    prices: PriceTiers
    words: Sequence[str]
    area: tuple[int, int]
    aliases: Sequence[str] = ()
    references: int = 14
    formats: bool = False
    sequences: bool = True
    fast: bool = False
    searches: bool = False
    background: str = ""
    layers: int = 0
    """The most images of a layer decomposition, the base included; 0: the model has none."""

    @property
    def default_format(self) -> str:
        return "png" if self.background == "made" else "jpeg"


def models(max_area: int, *, volcengine: bool) -> dict[str, Model]:
    """Return the models by each of their ids; `max_area` is the disputed largest area of 5.0 lite."""
    lite = Model(
        "seedream-5-0-260128",
        flat("0.035"),
        ("2K", "3K", "4K") if max_area >= 4096 * 4096 else ("2K", "3K"),
        (3_686_400, max_area),
        aliases=("seedream-5-0-lite-260128",),
        formats=True,
        searches=True,
    )
    sold = (
        lite,
        Model("seedream-4-5-251128", flat("0.04"), ("2K", "4K"), (3_686_400, 16_777_216)),
        Model("seedream-4-0-250828", flat("0.03"), ("1K", "2K", "4K"), (921_600, 16_777_216), fast=True),
        _single("seedream-5-5-261028", V5_5, background="made", layers=100),
        _single("seedream-5-0-pro-260628", V5_PRO, background="kept", layers=17, fast=True),
        _single("seedream-5-0-flash-260915", V5_FLASH, background="kept", layers=17),
    )
    if volcengine:
        return {f"doubao-{name}": model for model in sold for name in (model.id, *model.aliases) if name[0] == "s"}
    return {name: model for model in sold for name in (model.id, *model.aliases)}


def _single(model: str, prices: PriceTiers, background: str, *, layers: int, fast: bool = False) -> Model:
    return Model(
        model,
        prices,
        tuple(SINGLE_PRESETS),
        SINGLE_AREA,
        ("dola-" + model,),
        references=10,
        formats=True,
        sequences=False,
        fast=fast,
        background=background,
        layers=layers,
    )


@dataclass(frozen=True)
class ParsedRequest:
    """A job, with the fields of its request that concern the response alone."""

    spec: JobSpec
    streamed: bool
    base64: bool
    searched: bool
    model: Model


def parse_submit(
    body: Any, sold: Mapping[str, Model], *, by_prompt: bool, layers_made: int = 4, endpoint_model: str = ""
) -> ParsedRequest:
    """Return the parsed body; raise Refused. With `by_prompt` the number in the prompt is the number of images.

    A layer decomposition gives `layers_made` images; `endpoint_model` is the model behind an endpoint id.
    """
    if not isinstance(body, dict):
        raise Refused(400, "InvalidParameter", "The request body is not valid JSON.")
    fields = {name: value for name, value in body.items() if value is not None}
    layered = fields.get("layer_decomposition") is True
    for name in ("model",) if layered else ("model", "prompt"):
        if not isinstance(fields.get(name), str) or not fields[name].strip():
            text = f"The request failed because it is missing `{name}` parameter."
            raise Refused(400, f"MissingParameter.{name}", text)
    known = endpoint_model or next(iter(sold)) if fields["model"].startswith("ep-") else fields["model"]
    model = sold.get(known)
    if model is None:
        text = f"The model or endpoint {fields['model'][:100]} does not exist or you do not have access to it."
        raise Refused(404, "InvalidEndpointOrModel.NotFound", text)
    if not model.sequences:
        for name in ("sequential_image_generation", "sequential_image_generation_options", "stream"):
            if name in fields:
                raise invalid(name, f"not supported by model {fields['model']}")
    _check(fields, model)
    references = _references(fields, model)
    if layered:
        _check_layers(fields, model, references)
    transparent = _transparent(fields, model, references)
    count = min(layers_made, model.layers) if layered else _count(fields, len(references), by_prompt)
    spec = JobSpec(
        model=fields["model"],
        prompt=str(fields.get("prompt", "")),
        references=references,
        count=count,
        size=SINGLE_PRESETS[_layer_tier(fields)][0] if layered else _size(fields, model),
        mime_type=MIME_TYPES[fields.get("output_format", model.default_format)],
        prices=model.prices,
        transparent=transparent,
        layers=layered,
        body=body,
    )
    searched = model.searches and bool(fields.get("tools"))
    return ParsedRequest(
        spec, fields.get("stream") is True, fields.get("response_format") == "b64_json", searched, model
    )


def _check_layers(fields: Mapping[str, Any], model: Model, references: Sequence[str]) -> None:
    if not model.layers:
        raise invalid("layer_decomposition", f"not supported by model {model.id}")
    if len(references) != 1:
        raise invalid("image", "layer decomposition requires exactly one image")
    if "background" in fields:
        raise invalid("background", "not supported with layer decomposition")
    if fields.get("size", "auto") not in ("auto", *SINGLE_PRESETS):
        raise invalid("size", "layer decomposition takes auto, 1K, 1.5K or 2K")


def _layer_tier(fields: Mapping[str, Any]) -> str:
    """Return the tier of a layer decomposition; `auto` counts as the largest."""
    size = str(fields.get("size", "auto"))
    return "2K" if size == "auto" else size


def _transparent(fields: Mapping[str, Any], model: Model, references: Sequence[str]) -> bool:
    """Whether the picture has no background; a model without the field ignores it."""
    if not model.background or "background" not in fields:
        return False
    wanted, kept = fields["background"], model.background == "kept"
    if wanted not in (("transparent", "opaque") if kept else ("auto", "transparent", "opaque")):
        raise invalid("background", f"{str(wanted)[:60]} is not supported by model {model.id}")
    if wanted != "transparent":
        return False
    if fields.get("output_format", model.default_format) == "jpeg":
        raise invalid("background", "transparent requires output_format png")
    if kept and len(references) != 1:
        raise invalid("background", "transparent requires exactly one input image")
    return True


def check_reference(index: int, width: int, height: int, size_bytes: int, limit_bytes: int) -> None:
    """Raise Refused for an input image outside the limits."""
    name = f"image[{index}]"
    if size_bytes > limit_bytes:
        raise invalid(name, f"image size exceeds the limit of {limit_bytes // 2**20}MB")
    if width * height > MAX_REFERENCE_PIXELS:
        raise invalid(name, f"image pixels must not exceed {MAX_REFERENCE_PIXELS}")
    if min(width, height) < MIN_REFERENCE_SIDE:
        raise invalid(name, "image width and height must be greater than 14 pixels")
    if is_too_long((width, height)):
        raise invalid(name, "image aspect ratio must be between 1/16 and 16")


def _check(fields: Mapping[str, Any], model: Model) -> None:
    """Raise Refused for a field with a value that the model does not accept."""
    kinds: Mapping[str, Callable[[Any], bool]] = {
        "sequential_image_generation": lambda value: value in ("disabled", "auto"),
        "response_format": lambda value: value in ("url", "b64_json"),
        "watermark": lambda value: isinstance(value, bool),
        "stream": lambda value: isinstance(value, bool),
        "output_format": lambda value: model.formats and value in MIME_TYPES,
        "tools": lambda value: isinstance(value, list) and (model.searches or not value),
        "optimize_prompt_options": lambda value: (
            isinstance(value, dict) and value.get("mode", "standard") in ("standard", *(["fast"] if model.fast else []))
        ),
    }
    for name, fits in kinds.items():
        if name in fields and not fits(fields[name]):
            raise invalid(name, f"{str(fields[name])[:60]} is not supported by model {model.id}")


def _references(fields: Mapping[str, Any], model: Model) -> list[str]:
    given = fields.get("image", [])
    images = [given] if isinstance(given, str) else given
    if not isinstance(images, list) or ("image" in fields and not images):
        raise invalid("image", "must be a string or an array of strings")
    if len(images) > model.references:
        raise invalid("image", f"the number of images must not exceed {model.references}")
    for image in images:
        if not isinstance(image, str) or not (image.startswith(("http://", "https://")) or _URI.match(image)):
            raise invalid("image", "must be a URL or data:image/<format>;base64,<data>, the format in lower case")
    return images


def _count(fields: Mapping[str, Any], references: int, by_prompt: bool) -> int:
    if fields.get("sequential_image_generation") != "auto":
        return 1
    options = fields.get("sequential_image_generation_options", {})
    most = options.get("max_images") if isinstance(options, dict) else "?"
    if most is not None and not is_whole(most, 1, MAX_TOTAL):
        raise invalid("sequential_image_generation_options.max_images", "must be between 1 and 15")
    if most is not None and references + most > MAX_TOTAL:
        raise invalid("sequential_image_generation_options.max_images", "input plus output images must not exceed 15")
    most = most or MAX_TOTAL - references
    named = re.search(rf"\b(?:([1-9]|1[0-5])|({'|'.join(_NUMBERS)}))\b", fields["prompt"].casefold())
    number = int(named[1]) if named and named[1] else _NUMBERS[named[2]] if named else 1
    return min(most, number) if by_prompt else most


def _size(fields: Mapping[str, Any], model: Model) -> tuple[int, int]:
    size = fields.get("size", "2048x2048" if model.sequences else "2K")
    if not isinstance(size, str):
        raise invalid("size", "must be a string")
    if size in PRESETS or size in SINGLE_PRESETS:
        if size not in model.words:
            raise invalid("size", f"{size} is not supported by model {model.id}")
        if not model.sequences and "size" not in fields:
            return SINGLE_PRESETS[size][0]
        # The model chooses the shape of a word; here the prompt decides.
        row = (PRESETS if model.sequences else SINGLE_PRESETS)[size]
        return row[hashlib.sha256(fields["prompt"].encode()).digest()[0] % len(row)]
    if not re.fullmatch(r"[1-9][0-9]{1,4}x[1-9][0-9]{1,4}", size):
        raise invalid("size", "must be a resolution or <width>x<height>")
    width, height = (int(side) for side in size.split("x"))
    low, high = model.area
    if width * height < low:
        raise invalid("size", f"image size must be at least {low} pixels")
    if width * height > high:
        raise invalid("size", f"image size must be at most {high} pixels")
    if is_too_long((width, height)):
        raise invalid("size", "image aspect ratio must be between 1/16 and 16")
    return width, height
