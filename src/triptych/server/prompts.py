"""Prompts for common tasks, and completions for their arguments.

A person picks a prompt from a menu; it gives the assistant a procedure with exact calls. Its text is the skill of the
same name (`skills`), with the person's values in the calls and without the steps that these make needless.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING

import mcp_types as types
from mcp.shared.exceptions import MCPError

from triptych.core.errors import MESSAGE_LIMIT_CHARS
from triptych.core.text import block, line
from triptych.server.skills import skills
from triptych.server.skills.filling import Values, filled

if TYPE_CHECKING:
    from triptych.jobs.service import Caller, ImageService

MAX_COMPLETIONS = 100
MOST_ITEMS = 200
"""The most scenes or subjects of one prompt."""
MOST_IN_SET = 15
"""The most images of one request, references and outputs together."""
MOST_MODELS = 6
LOOK_NAME_CHARS = 30


@dataclass(frozen=True, slots=True)
class Argument:
    name: str
    description: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt: its menu texts, its arguments, and the function that turns them into values for its skill."""

    name: str
    title: str
    description: str
    arguments: tuple[Argument, ...]
    values: Callable[[dict[str, str]], Values]

    @property
    def skill(self) -> str:
        return self.name.replace("_", "-")


IMAGE = Argument("image", "A path, URL or handle", required=True)
SAVE_TO = Argument("save_to", "A directory for the full-size files")
SHARED = (
    Argument("model", "A model family, such as seedream-5.0-lite"),
    Argument("provider", 'A provider, or "cheapest"'),
    SAVE_TO,
)
RESTYLE = (
    "Restyle this photo in the look of the last reference image. Keep the product, its shape, its proportions and any "
    "lettering exactly as they are."
)


def _restyle(given: dict[str, str]) -> Values:
    style, look = given.get("style"), given.get("look")
    if not style and not look:
        raise _invalid("restyle_photos needs style, or look: the name of a stored look.")
    named = {"FOLDER": given["folder"], "STEP": RESTYLE, "LOOK": _look_name(look or style or "")}
    if not style:
        return Values(named, without=frozenset({"PHOTO", "SAMPLE", "STYLE"}))
    if reference := given.get("reference"):
        return Values({**named, "STYLE": style, "SAMPLE": reference}, without=frozenset({"PHOTO"}))
    return Values({**named, "STYLE": style})


def _table(given: dict[str, str]) -> Values:
    references = [f"look:{_look_name(given['look'])}"] if given.get("look") else []
    return Values({"TABLE": given["table"], "STEP": given["instruction"]}, references=references)


def _storyboard(given: dict[str, str]) -> Values:
    scenes, who = _items(given["scenes"]), given["character"]
    is_image = _is_image(who)
    named: dict[str, str | int] = {"LOOK": _look_name(PurePath(who).stem if is_image else who)}
    without = {"DESCRIPTION"} if is_image else set()
    if is_image:
        named |= {"CHARACTER": who, "WORDS": "The same character in every frame."}
    else:
        described = f"{who}. The whole figure, alone, on a plain background."
        named |= {"DESCRIPTION": described, "WORDS": f"The character: {who}."}
    if len(scenes) >= MOST_IN_SET:  # the look has one image
        return Values(named, frozenset({*without, "COUNT", "PROMPT"}), more=_rows("scene", scenes))
    frames = " ".join(f"Frame {n}: {scene}." for n, scene in enumerate(scenes, 1))
    prompt = f"A storyboard of {len(scenes)} frames with the same character in every frame. {frames}"
    return Values({**named, "COUNT": len(scenes), "PROMPT": prompt}, frozenset({*without, "TABLE"}))


def _seasons(given: dict[str, str]) -> Values:
    variants = _items(given.get("variants") or "spring; summer; autumn; winter", most=MOST_IN_SET - 1)
    listed = ", ".join(f"image {n} in {variant}" for n, variant in enumerate(variants, 1))
    prompt = f"The same scene and composition, with the light, plants and weather of each: {listed}."
    return Values({"IMAGE": given["image"], "PROMPT": prompt, "COUNT": len(variants)})


def _refine(given: dict[str, str]) -> Values:
    return Values({"IMAGE": given["image"], "WISH": given["wish"]})


def _icons(given: dict[str, str]) -> Values:
    subjects = _items(given["subjects"])
    style = given.get("style") or "flat, two colours, thick rounded strokes"
    first, rest = subjects[:MOST_IN_SET], subjects[MOST_IN_SET:]
    listed = ", ".join(f"icon {n}: {subject}" for n, subject in enumerate(first, 1))
    prompt = (
        f"A consistent set of {len(first)} icons, one icon alone in each image, centred, the same size, stroke, "
        f"palette and plain background in all of them. Style: {style}. {listed}."
    )
    named: dict[str, str | int] = {"PROMPT": prompt, "COUNT": len(first)}
    if not rest:
        return Values(named, without=frozenset({"TABLE", "LOOK", "WORDS"}))
    words = f"One icon alone, centred, on a plain background. Style: {style}."
    return Values({**named, "LOOK": _look_name(style), "WORDS": words}, more=_rows("subject", rest))


def _compare(given: dict[str, str]) -> Values:
    providers = _names(given.get("providers", "")) or [""]
    models = [
        {"model": model, **({"provider": provider} if provider else {})}
        for model in _names(given["models"])
        for provider in providers
    ]
    if not 2 <= len(models) <= MOST_MODELS:
        raise _invalid(f"Give 2 to {MOST_MODELS} models, separated by commas; there are {len(models)} to compare.")
    image = given.get("image")
    named = {"PROMPT": given["prompt"], **({"IMAGE": image} if image else {})}
    return Values(named, models=models, from_words=not image)


_PROMPTS = (
    Prompt(
        "restyle_photos",
        "Restyle a folder of photos",
        "Every photo of a folder in one look, one request per photo",
        (
            Argument("folder", "The folder with the photos", required=True),
            Argument("style", "Light, background, palette; not needed with a stored look"),
            Argument("reference", "A picture that has this style; without one, one photo is tried first"),
            Argument("look", "A stored look, or the name of the new one"),
            *SHARED,
        ),
        _restyle,
    ),
    Prompt(
        "product_table",
        "One picture per row of a table",
        "Each row's own photo and words, from a CSV, TSV or JSON Lines file",
        (
            Argument("table", "The file; its column image names the photos", required=True),
            Argument("instruction", "The edit, with columns in braces: Put {product} on {background}", required=True),
            Argument("look", "A stored look for all rows"),
            *SHARED,
        ),
        _table,
    ),
    Prompt(
        "storyboard",
        "Storyboard with one character",
        "Scenes in order with the same character throughout",
        (
            Argument("character", "A path, URL or handle of a picture, or a description", required=True),
            Argument("scenes", "The scenes, separated by semicolons; up to 14 are one request", required=True),
            *SHARED,
        ),
        _storyboard,
    ),
    Prompt(
        "seasonal_variants",
        "Seasonal variants of a hero shot",
        "One picture in four seasons, or in other variants, with one composition",
        (IMAGE, Argument("variants", "Separated by semicolons, 2 to 14; the four seasons if not given"), *SHARED),
        _seasons,
    ),
    Prompt(
        "refine",
        "Refine an image in conversation",
        "One change after another, with undo and branches",
        (IMAGE, Argument("wish", "The first thing to change", required=True), *SHARED),
        _refine,
    ),
    Prompt(
        "icon_set",
        "Consistent icon set",
        "Icons in one consistent style",
        (
            Argument("subjects", "The subjects, separated by semicolons; up to 15 are one request", required=True),
            Argument("style", "The drawing style"),
            *SHARED,
        ),
        _icons,
    ),
    Prompt(
        "compare",
        "Compare models",
        "The same request on several models or providers, side by side with prices",
        (
            Argument("prompt", "What to make or change", required=True),
            Argument("models", "Models, separated by commas; 2 to 6 requests in all", required=True),
            Argument("providers", "Providers, separated by commas: each model runs on each of them"),
            Argument("image", "A path, URL or handle; without one, from words alone"),
            SAVE_TO,
        ),
        _compare,
    ),
)
PROMPTS = {prompt.name: prompt for prompt in _PROMPTS}


def listing() -> types.ListPromptsResult:
    """Return the result of `prompts/list`, valid for an hour."""
    return types.ListPromptsResult(
        prompts=[
            types.Prompt(
                name=prompt.name,
                title=prompt.title,
                description=prompt.description,
                arguments=[
                    types.PromptArgument(name=a.name, description=a.description, required=a.required)
                    for a in prompt.arguments
                ],
            )
            for prompt in _PROMPTS
        ],
        ttl_ms=3_600_000,
        cache_scope="public",
    )


def get(name: str, given: dict[str, str]) -> types.GetPromptResult:
    """Return one prompt's text.

    Raises: `MCPError` (invalid params) for an unknown prompt, and for an unknown or missing argument.
    """
    prompt = PROMPTS.get(name)
    if prompt is None:
        raise _unknown_prompt()
    known = {argument.name for argument in prompt.arguments}
    given = {key: value.strip() for key, value in given.items() if value.strip()}
    if unknown := sorted(set(given) - known):
        raise _invalid(f"{name} takes {', '.join(sorted(known))}; it does not take {', '.join(unknown)[:80]}.")
    if missing := [a.name for a in prompt.arguments if a.required and a.name not in given]:
        raise _invalid(f"{name} needs {', '.join(missing)}.")
    options = {key: value for key, value in given.items() if key in ("model", "provider")}
    values = replace(prompt.values(given), options=options, save_to=given.get("save_to"))
    text = block(filled(skills()[prompt.skill].body, values))
    return types.GetPromptResult(
        description=prompt.description,
        messages=[types.PromptMessage(role="user", content=types.TextContent(text=text))],
    )


async def complete(
    service: Callable[[], Awaitable[ImageService]],
    ref: types.PromptReference | types.ResourceTemplateReference,
    argument: types.CompletionArgument,
    caller: Caller,
) -> types.CompleteResult:
    """Return possible values of an argument: handles, job ids, looks, models, providers; none for free text."""
    kind = argument.name
    if isinstance(ref, types.ResourceTemplateReference):
        kind = {"id": "job", "handle": "image", "name": "look"}.get(argument.name, "")
    elif ref.name not in PROMPTS:
        raise _unknown_prompt()
    before, comma, last = argument.value.rpartition(",") if kind in _LISTS else ("", "", argument.value)
    kind = _LISTS.get(kind, kind)
    found = await _known(await service(), kind, caller) if kind in _COMPLETED else []
    wanted = last.strip().casefold()
    values = [line(value) for value in dict.fromkeys(found) if wanted in value.casefold()]
    values.sort(key=lambda value: not value.casefold().startswith(wanted))
    values = [f"{before}{comma}{value}" for value in values]
    return types.CompleteResult(
        completion=types.Completion(
            values=values[:MAX_COMPLETIONS], total=len(values), has_more=len(values) > MAX_COMPLETIONS
        )
    )


_LISTS = {"models": "model", "providers": "provider"}
"""Arguments with names between commas: the last name is completed."""
_COMPLETED = ("image", "character", "reference", "job", "look", "model", "provider")


async def _known(service: ImageService, kind: str, caller: Caller) -> Sequence[str]:
    match kind:
        case "job":
            return [job.job_id for job in (await service.list_jobs(MAX_COMPLETIONS, caller=caller)).jobs]
        case "look":
            return [look.name for look in (await service.looks.listed(caller)).looks]
        case "provider":
            return ["cheapest", *service.config.accounts]
        case "model":
            return [o.family for account in service.config.accounts.values() for o in account.provider.offers]
        case _:
            return await service.recent_handles(MAX_COMPLETIONS, caller)


def _unknown_prompt() -> MCPError:
    return _invalid(f"There is no prompt of that name. Prompts: {', '.join(PROMPTS)}.")


def _items(text: str, most: int = MOST_ITEMS) -> list[str]:
    """Return the items between semicolons."""
    items = [item.strip(" .") for item in text.replace("\n", ";").split(";") if item.strip(" .")]
    if not 2 <= len(items) <= most:
        raise _invalid(f"Give 2 to {most} items, separated by semicolons; there are {len(items)}.")
    return items


def _names(text: str) -> list[str]:
    """Return the different names between commas or semicolons."""
    return list(dict.fromkeys(name.strip() for name in re.split(r"[,;\n]", text) if name.strip()))


def _rows(column: str, values: Sequence[str]) -> str:
    """Return the rows of a table that the assistant writes."""
    return f"The rows of TABLE, column {column}:\n" + "\n".join(f"- {line(value)}" for value in values)


def _look_name(text: str) -> str:
    """Return a name for a look, made of the first words of a text."""
    name = ""
    for word in re.findall(r"[\w-]+", text.removeprefix("look:").casefold()):
        if len(name) + len(word) > LOOK_NAME_CHARS:
            break
        name += f"-{word}" if name else word
    return name or "series"


def _is_image(text: str) -> bool:
    """Return whether the text names a picture, as opposed to describing one."""
    suffix = text.rpartition(".")[2].lower()
    return text.startswith(("img_", "job_", "http://", "https://", "data:", "file:", "/", "~", "./")) or (
        suffix in ("jpg", "jpeg", "png", "webp", "tiff", "bmp", "gif") and "\n" not in text
    )


def _invalid(message: str) -> MCPError:
    return MCPError(types.INVALID_PARAMS, line(message, MESSAGE_LIMIT_CHARS))
