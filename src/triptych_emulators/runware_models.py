"""The Seedream models of Runware, as data: AIRs, sizes, limits and list prices; and the parser of its tasks.

Source: the official client's types and its captured requests, the documentation, and live responses
(docs/providers/runware.md#submit); sizes and areas are the origin's (docs/providers/README.md#sizes), and so are the
prices of all but 5.0 lite. Both generations of the fields for sequences and references are understood. Unknown fields
are accepted silently.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from triptych_emulators.kit import JobSpec
from triptych_emulators.kit.prices import V5_5, V5_FLASH, V5_PRO, PriceTiers, flat
from triptych_emulators.kit.validation import MAX_TOTAL, is_texts, is_too_long, is_whole

MAX_PROMPT = 2000
MIN_TTL_S = 60
MIME_TYPES: Mapping[str, str] = {"JPG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
OUTPUT_TYPES = ("URL", "base64Data", "dataURI")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)

_2K = "2048x2048 2304x1728 1728x2304 2848x1600 1600x2848 2496x1664 1664x2496 3136x1344"
_3K = "3072x3072 3456x2592 2592x3456 4096x2304 2304x4096 3744x2496 2496x3744 4704x2016"


class Refused(Exception):
    """A refused task: the provider's code, the parameter and the message."""

    def __init__(self, code: str, parameter: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.parameter = parameter


@dataclass(frozen=True)
class Model:
    """One model. With `sizes` only those are taken, else any within `area`; `sequences` 1 means one image a task."""

    air: str
    title: str
    prices: PriceTiers
    sizes: Sequence[str] = ()
    area: tuple[int, int] = (3_686_400, 16_777_216)
    references: int = 14
    sequences: int = 15
    seed: bool = True
    background: bool = False
    """`settings.background` is understood (the name is inferred)."""
    tiers: Sequence[str] = ()
    """The values of `resolution`, in place of width and height."""
    modes: Sequence[str] = ("standard",)
    """The modes in which prompts are rewritten."""


FAST = ("standard", "fast")
_TIERS = ("1K", "1.5K", "2K")
_PRO_AREA = (921_600, 4_624_220)
MODELS: Mapping[str, Model] = {
    model.air: model
    for model in (
        Model(
            "bytedance:seedream@5.0-lite",
            "Seedream 5.0 Lite",
            flat("0.035"),
            sizes=(*_2K.split(), *_3K.split()),
            seed=False,
        ),
        Model("bytedance:seedream@4.5", "Seedream 4.5", flat("0.04"), tiers=("2K", "4K")),
        Model("bytedance:5@0", "Seedream 4.0", flat("0.03"), area=(921_600, 16_777_216), modes=FAST),
        Model(
            "bytedance:seedream@5.0-pro",
            "Seedream 5.0 Pro",
            V5_PRO,
            (),
            _PRO_AREA,
            10,
            1,
            tiers=("1K", "2K"),
            modes=FAST,
        ),
        Model("bytedance:seedream@5.0-flash", "Seedream 5.0 Flash", V5_FLASH, (), _PRO_AREA, 10, 1, tiers=_TIERS),
        Model("bytedance:seedream@5.5", "Seedream 5.5", V5_5, (), _PRO_AREA, 10, 1, background=True, tiers=_TIERS),
    )
}


@dataclass(frozen=True)
class ParsedTask:
    """The job of an `imageInference` task, with the fields that concern its response alone."""

    spec: JobSpec
    task_id: str
    at_once: bool
    """The response waits for the images."""
    output_type: str
    includes_cost: bool
    checks_content: bool


def parse_submit(task: Mapping[str, Any], resolve: Callable[[str], str]) -> ParsedTask:
    """Return the parsed task; raise Refused. `resolve` turns the UUID of a reference into its URL."""
    task_id = id_of(task)
    model = MODELS.get(str(task.get("model", "")))
    if model is None:
        raise Refused("invalidModel", "model", f"Invalid value for 'model': {str(task.get('model'))[:80]} not found.")
    prompt = task.get("positivePrompt")
    if not isinstance(prompt, str) or not prompt.strip() or len(prompt) > MAX_PROMPT:
        raise _invalid("positivePrompt", f"must be a string of 1 to {MAX_PROMPT} characters")
    for name in ("seed", "steps"):
        if name in task and not (name == "seed" and model.seed):
            raise Refused("unsupportedParameter", name, f"The model does not support the parameter '{name}'.")
    _check_delivery(task)
    references = _references(task, model)
    sequence = _sequence(task, model)
    if sequence > 1 and len(references) + sequence > MAX_TOTAL:
        raise _invalid(
            "settings.maxSequentialImages", f"reference images and sequential images together exceed {MAX_TOTAL}"
        )
    batches = task.get("numberResults", 1)
    if not is_whole(batches, 1, 20):
        raise _invalid("numberResults", "must be an integer between 1 and 20")
    size = _size(task, model)
    _check_mode(task, model)
    spec = JobSpec(
        model=model.air,
        prompt=prompt,
        references=[resolve(reference) if UUID.fullmatch(reference) else reference for reference in references],
        count=sequence * batches,
        size=size,
        mime_type=MIME_TYPES[task.get("outputFormat", "JPG")],
        prices=model.prices,
        transparent=_transparent(task, model),
        independent=batches > 1,
        body=task,
    )
    return ParsedTask(
        spec,
        task_id,
        at_once=task.get("deliveryMethod", "sync") == "sync",
        output_type=task.get("outputType", "URL"),
        includes_cost=task.get("includeCost") is True,
        checks_content=_checks_content(task),
    )


def _check_mode(task: Mapping[str, Any], model: Model) -> None:
    """Check how the prompt is rewritten; the older spelling has both modes for every model."""
    older = task.get("providerSettings", {})
    older = older.get("bytedance", {}) if isinstance(older, dict) else {}
    for place, value, modes in (
        ("settings", task.get("settings", {}).get("optimizePromptMode"), model.modes),
        ("providerSettings.bytedance", older.get("optimizePromptMode"), FAST),
    ):
        if value is not None and value not in modes:
            raise _invalid(f"{place}.optimizePromptMode", f"must be one of: {', '.join(modes)}")


def _checks_content(task: Mapping[str, Any]) -> bool:
    safety = task.get("safety", {})
    if not isinstance(safety, dict) or not {*safety} <= {"checkContent", "mode"}:
        raise _invalid("safety", "must be an object of checkContent and mode")
    if not isinstance(safety.get("checkContent", False), bool):
        raise _invalid("safety.checkContent", "must be a boolean")
    if not isinstance(safety.get("mode", ""), str):
        raise _invalid("safety.mode", "must be a string")
    return safety.get("checkContent") is True


def _transparent(task: Mapping[str, Any], model: Model) -> bool:
    settings = task.get("settings", {})
    background = settings.get("background") if isinstance(settings, dict) else None
    if background is None:
        return False
    if not model.background:
        name = "settings.background"
        raise Refused("unsupportedParameter", name, f"The model does not support the parameter '{name}'.")
    if background not in ("auto", "transparent", "opaque"):
        raise _invalid("settings.background", "must be one of: auto, transparent, opaque")
    if background == "transparent" and task.get("outputFormat", "JPG") == "JPG":
        raise _invalid("settings.background", "transparent needs another outputFormat than JPG")
    return bool(background == "transparent")


def id_of(task: Mapping[str, Any]) -> str:
    """Return the client's own id of a task; raise Refused without one."""
    task_id = task.get("taskUUID")
    if not isinstance(task_id, str) or not UUID.fullmatch(task_id):
        raise Refused("invalidTaskUUID", "taskUUID", "Invalid value for 'taskUUID': it must be a UUID v4.")
    return task_id


def _check_delivery(task: Mapping[str, Any]) -> None:
    choices: Mapping[str, Sequence[str]] = {
        "outputType": OUTPUT_TYPES,
        "outputFormat": tuple(MIME_TYPES),
        "deliveryMethod": ("sync", "async"),
    }
    for name, allowed in choices.items():
        if name in task and task[name] not in allowed:
            raise _invalid(name, f"must be one of: {', '.join(allowed)}")
    if "ttl" in task and not is_whole(task["ttl"], MIN_TTL_S, 10**9):
        raise _invalid("ttl", f"must be an integer of at least {MIN_TTL_S}")
    if "outputQuality" in task and not is_whole(task["outputQuality"], 20, 99):
        raise _invalid("outputQuality", "must be an integer between 20 and 99")
    endpoint = task.get("uploadEndpoint", "https://a.example/")
    if not isinstance(endpoint, str) or not re.match(r"https?://[^/\s]+", endpoint):
        raise _invalid("uploadEndpoint", "must be a URI")


def _references(task: Mapping[str, Any], model: Model) -> list[str]:
    """Return the references: under `inputs`, or at the top level as older examples have them."""
    inputs = task.get("inputs", {})
    if not isinstance(inputs, dict):
        raise _invalid("inputs", "must be an object")
    given = inputs.get("referenceImages", task.get("referenceImages", []))
    if not is_texts(given):
        raise _invalid("inputs.referenceImages", "must be an array of strings")
    if len(given) > model.references:
        raise Refused(
            "maxItemsExceeded",
            "inputs.referenceImages",
            f"'inputs.referenceImages' takes at most {model.references} items, got {len(given)}.",
        )
    return given


def _sequence(task: Mapping[str, Any], model: Model) -> int:
    """Return the length of the sequence, in the current spelling or the older one."""
    older = task.get("providerSettings", {})
    for name, place in (
        ("settings", task.get("settings", {})),
        ("providerSettings.bytedance", older.get("bytedance", {}) if isinstance(older, dict) else older),
    ):
        if not isinstance(place, dict):
            raise _invalid(name, "must be an object")
        if (length := place.get("maxSequentialImages")) is None:
            continue
        parameter = f"{name}.maxSequentialImages"
        if model.sequences == 1:
            raise Refused("unsupportedParameter", parameter, f"The model does not support '{parameter}'.")
        if not is_whole(length, 1, model.sequences):
            raise _invalid(parameter, f"must be an integer between 1 and {model.sequences}")
        return int(length)
    return 1


def _size(task: Mapping[str, Any], model: Model) -> tuple[int, int]:
    if (tier := task.get("resolution")) is not None:
        if tier not in model.tiers:
            raise _invalid("resolution", f"must be one of: {', '.join(model.tiers) or 'none'}")
        if {"width", "height"} & {*task}:
            raise _invalid("resolution", "must not be combined with width and height")
        side = round(float(tier.removesuffix("K")) * 1024)
        return side, side
    width, height = task.get("width", 2048), task.get("height", 2048)
    if not (is_whole(width, 64, 8192) and is_whole(height, 64, 8192)):
        raise _invalid("width", "width and height must be integers")
    if model.sizes and f"{width}x{height}" not in model.sizes:
        raise Refused("invalidDimensions", "width", f"Invalid dimensions; supported are: {', '.join(model.sizes)}.")
    low, high = model.area
    if not model.sizes and not (low <= width * height <= high and not is_too_long((width, height))):
        raise Refused("invalidDimensions", "width", f"The area must be between {low} and {high} pixels.")
    return width, height


def _invalid(parameter: str, why: str) -> Refused:
    code = "invalid" + "".join(part[:1].upper() + part[1:] for part in parameter.split("."))
    return Refused(code, parameter, f"Invalid value for '{parameter}': {why}.")
