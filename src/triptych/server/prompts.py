"""Prompts for common tasks, and completions for their arguments.

A person picks a prompt from a menu; it gives the assistant a procedure with exact calls. Rules: calls are in backquotes
and are valid Python with the tools' own argument names. Words in capitals such as PHOTOS and JOB are values that the
assistant finds during the procedure. Every step that costs money says so.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import mcp_types as types
from mcp.shared.exceptions import MCPError

from triptych.core.errors import MESSAGE_LIMIT_CHARS
from triptych.core.text import block, line

if TYPE_CHECKING:
    from triptych.jobs.service import Caller, ImageService

MAX_COMPLETIONS = 100


@dataclass(frozen=True, slots=True)
class Argument:
    name: str
    description: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt: its menu texts, its arguments, and the function that writes its text."""

    name: str
    title: str
    description: str
    arguments: tuple[Argument, ...]
    write: Callable[[dict[str, str]], str]


IMAGE = Argument("image", "A path, URL or handle", required=True)
SHARED = (
    Argument("model", "A model family, such as seedream-5.0-lite"),
    Argument("provider", 'A provider, or "cheapest"'),
    Argument("save_to", "A directory for the full-size files"),
)


def _restyle(given: dict[str, str]) -> str:
    style = f"{given['style']}. Keep the product, its shape, its proportions and any lettering exactly as they are."
    return f"""\
Restyle every photo in {given["folder"]} so that they look like one series.
1. List the image files in that folder; PHOTOS is the list of their paths, in order (at most 200).
2. Quote it (free): `edit_chain(images=PHOTOS, steps=[{_q(style)}], dry_run=True{_options(given)})`. Tell the \
user the price (one paid request per photo), and go on only when they agree.
3. `edit_chain(images=PHOTOS, steps=[{_q(style)}]{_options(given)}{_save(given)})`; JOB is its job_id.
{_wait_and_look(4)}
5. If a frame does not match the others, redo only that one: `edit_chain(images=[PHOTO], steps=[{_q(style)}], \
references=[GOOD]{_options(given)})`, with a good frame as GOOD.
{_deliver(6)}"""


def _storyboard(given: dict[str, str]) -> str:
    of_picture = _is_image(given["character"])
    scenes = _items(given["scenes"], most=14 if of_picture else 15)
    frames = " ".join(f"Frame {n}: {scene}." for n, scene in enumerate(scenes, 1))
    who = given["character"]
    prompt = f"A storyboard of {len(scenes)} frames with the same character in every frame. {frames}"
    if of_picture:
        call = f"edit_sequence(images=[{_q(who)}], prompt={_q(prompt)}, count={len(scenes)}"
    else:
        call = f"generate_sequence(prompt={_q(f'{prompt} The character: {who}.')}, count={len(scenes)}"
    return _one_set(
        f"Make a storyboard of {len(scenes)} frames with one character throughout.",
        call,
        given,
        "Is it the same character everywhere, and the right scene in each frame?",
    )


def _seasons(given: dict[str, str]) -> str:
    variants = _items(given.get("variants") or "spring; summer; autumn; winter", most=14)
    listed = ", ".join(f"image {n} in {variant}" for n, variant in enumerate(variants, 1))
    prompt = f"The same scene and composition, with the light, plants and weather of each: {listed}."
    call = f"edit_sequence(images=[{_q(given['image'])}], prompt={_q(prompt)}, count={len(variants)}"
    return _one_set(
        f"Make {len(variants)} variants of one hero shot that belong together.",
        call,
        given,
        "Check that composition and subject are the same in all of them.",
    )


def _refine(given: dict[str, str]) -> str:
    return f"""\
Refine one image with the user, one change at a time; each change is one paid request.
1. `edit_sequence(images=[{_q(given["image"])}], prompt={_q(given["wish"])}, count=1{_options(given)})`; JOB is its \
job_id.
{_wait_and_look(2)} Tell the user what you see, what changed, and what changed by mistake.
3. For the next change edit the newest one: `edit_sequence(images=[JOB + "/1"], prompt=WISH, count=1{_options(given)})`.
4. Undo is free: the earlier handle still exists, and the next change can edit it. Two edits of one handle are \
branches; show them side by side with view_images.
{_deliver(5)}"""


def _icons(given: dict[str, str]) -> str:
    subjects = _items(given["subjects"])
    style = given.get("style") or "flat, two colours, thick rounded strokes"
    listed = ", ".join(f"icon {n}: {subject}" for n, subject in enumerate(subjects, 1))
    prompt = (
        f"A consistent set of {len(subjects)} icons, one icon alone in each image, centred, the same size, stroke, "
        f"palette and plain background in all of them. Style: {style}. {listed}."
    )
    return _one_set(
        f"Make a set of {len(subjects)} icons in one consistent style.",
        f"generate_sequence(prompt={_q(prompt)}, count={len(subjects)}",
        {"size": "1:1", **given},
        "Same stroke, palette, size and background?",
    )


def _one_set(goal: str, call: str, given: dict[str, str], look: str) -> str:
    return f"""\
{goal}
1. Quote it (free): `{call}, dry_run=True{_options(given)})`. Tell the user the price.
2. One paid request makes all of them, so that they match: `{call}{_options(given)}{_save(given)})`; JOB is its \
job_id.
{_wait_and_look(3)} {look}
{_deliver(4)}"""


def _wait_and_look(step: int) -> str:
    return (
        f"{step}. If its status is queued or running: `get_status(job_id=JOB, wait_s=50)` until it is neither. Look "
        "at the result before you judge it: `view_images(images=[JOB])`."
    )


def _deliver(step: int) -> str:
    return (
        f"{step}. Give the user the URLs and the cost. If they want files: "
        '`save_images(images=[JOB + "/1"], directory=DIRECTORY)` with every handle that they choose.\n'
        "If a paid call returned no answer, repeat it word for word: it returns its job and pays nothing."
    )


_PROMPTS = (
    Prompt(
        "restyle_photos",
        "Restyle a folder of product photos",
        "Every photo of a folder in one look, one request per photo",
        (
            Argument("folder", "The folder with the photos", required=True),
            Argument("style", "The look: light, background, palette", required=True),
            *SHARED,
        ),
        _restyle,
    ),
    Prompt(
        "storyboard",
        "Storyboard with one character",
        "Scenes in order with the same character throughout",
        (
            Argument("character", "A path, URL or handle of a picture, or a description", required=True),
            Argument("scenes", "The scenes, separated by semicolons; 2 to 15, or 14 with a picture", required=True),
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
            Argument("subjects", "The subjects, separated by semicolons; 2 to 15", required=True),
            Argument("style", "The drawing style"),
            *SHARED,
        ),
        _icons,
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
        raise _invalid(f"There is no prompt of that name. Prompts: {', '.join(PROMPTS)}.")
    known = {argument.name for argument in prompt.arguments}
    given = {key: value.strip() for key, value in given.items() if value.strip()}
    if unknown := sorted(set(given) - known):
        raise _invalid(f"{name} takes {', '.join(sorted(known))}; it does not take {', '.join(unknown)[:80]}.")
    if missing := [a.name for a in prompt.arguments if a.required and a.name not in given]:
        raise _invalid(f"{name} needs {', '.join(missing)}.")
    text = block(prompt.write(given))
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
        raise _invalid(f"There is no prompt of that name. Prompts: {', '.join(PROMPTS)}.")
    found = await _known(await service(), kind, caller) if kind in _COMPLETED else []
    wanted = argument.value.strip().casefold()
    values = [line(value) for value in dict.fromkeys(found) if wanted in value.casefold()]
    values.sort(key=lambda value: not value.casefold().startswith(wanted))
    return types.CompleteResult(
        completion=types.Completion(
            values=values[:MAX_COMPLETIONS], total=len(values), has_more=len(values) > MAX_COMPLETIONS
        )
    )


_COMPLETED = ("image", "character", "job", "look", "model", "provider")


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


def _items(text: str, most: int = 15) -> list[str]:
    """Return the items between semicolons; a request takes 15 images, references and outputs together."""
    items = [item.strip(" .") for item in text.replace("\n", ";").split(";") if item.strip(" .")]
    if not 2 <= len(items) <= most:
        raise _invalid(f"Give 2 to {most} items, separated by semicolons; there are {len(items)}.")
    return items


def _is_image(text: str) -> bool:
    """Return whether the text names a picture, as opposed to describing one."""
    suffix = text.rpartition(".")[2].lower()
    return text.startswith(("img_", "job_", "http://", "https://", "data:", "file:", "/", "~", "./")) or (
        suffix in ("jpg", "jpeg", "png", "webp", "tiff", "bmp", "gif") and "\n" not in text
    )


def _q(text: str) -> str:
    """Return a text as a literal that both Python and JSON read."""
    return json.dumps(text.replace("`", "'"), ensure_ascii=False)


def _options(given: dict[str, str]) -> str:
    return "".join(f", {name}={_q(given[name])}" for name in ("model", "provider", "size") if given.get(name))


def _save(given: dict[str, str]) -> str:
    return f", save_to={_q(given['save_to'])}" if given.get("save_to") else ""


def _invalid(message: str) -> MCPError:
    return MCPError(types.INVALID_PARAMS, line(message, MESSAGE_LIMIT_CHARS))
