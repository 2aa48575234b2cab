"""Match a model, check its limits, resolve a size, quote: everything that is decided before a request exists.

Rules: pure; every function is handed its offers, in order of preference, and nothing here knows a provider by name. A
refusal says what was wrong and what would be right. A size is always resolved to pixels, so that every frame of a set
has one shape, and it is never one that the offer does not take.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from difflib import get_close_matches

from triptych.catalog import backgrounds
from triptych.core.errors import OutOfLimits, UnknownModel, quoted
from triptych.core.models import Offer, Operation, Quote, Request, Size, Sizes

# Which model ---------------------------------------------------------------------------------------------------------

PREFERRED_SINGLE = ("seedream-5.5", "seedream-5.0-lite", "seedream-4.5", "seedream-4.0")
PREFERRED_SETS = ("seedream-5.0-lite", "seedream-4.5", "seedream-4.0")
"""Which family is used when the caller names none, for one image and for several that belong together.

5.5 is made for many rounds of edits of one picture; the families of a set make it in one request. Any other family
follows, in the order in which its provider lists it.
"""

_NOISE = frozenset({"v", "bytedance", "seedream", "doubao", "dola", "model"})
_STAND_IN = {
    Operation.EDIT: Operation.EDIT_SEQUENTIAL,
    Operation.EDIT_SEQUENTIAL: Operation.EDIT,
    Operation.GENERATE: Operation.GENERATE_SEQUENTIAL,
    Operation.GENERATE_SEQUENTIAL: Operation.GENERATE,
}


def choose(
    offers: Sequence[Offer],
    operation: Operation,
    model: str | None = None,
    count: int = 1,
    *,
    today: date | None = None,
) -> Offer:
    """Return the offer for an operation: the preferred family's, a named one's, or that of a verbatim endpoint id.

    A family without a sequential endpoint serves one image with its single one, and the other way round. With `today`,
    families past their retirement are passed over, unless an endpoint id names them verbatim: resellers may differ.

    Raises: `UnknownModel` offering the nearest names; `OutOfLimits` when the model is known, but not for this.
    """
    if not offers:
        raise UnknownModel("No provider offers a model here.")
    alive = [offer for offer in offers if not is_retired(offer, today)]
    if model is None or not model.strip():
        if found := _first_fit(alive, operation, count):
            return found
        raise OutOfLimits(f"No model here offers {_wanted(operation, count)}.")
    name = model.strip()
    verbatim = [offer for offer in offers if offer.endpoint == name] or [
        offer for offer in offers if offer.endpoint.casefold() == name.casefold()
    ]
    if verbatim:
        return _by_endpoint(offers, verbatim, operation, count)
    family = [offer for offer in offers if _named(offer, name)]
    if not family:
        raise UnknownModel(_unknown(offers, name))
    if found := _first_fit([offer for offer in family if offer in alive], operation, count):
        return found
    instead = _first_fit([offer for offer in alive if offer not in family], operation, count)
    use = f"use {instead.family} ({instead.endpoint} on {instead.provider})" if instead else "no other model here does"
    if gone := _first_fit(family, operation, count):
        raise OutOfLimits(
            f"{gone.family} was retired on {gone.lifecycle.retired} ({gone.lifecycle.source or 'no source'}): {use}; "
            f"to try it anyway, give its endpoint id {gone.endpoint} as model."
        )
    offered = ", ".join(dict.fromkeys(offer.operation.value for offer in family))
    raise OutOfLimits(f"{family[0].family} offers {offered}, but not {_wanted(operation, count)}: {use}.")


def _by_endpoint(offers: Sequence[Offer], named: Sequence[Offer], operation: Operation, count: int) -> Offer:
    """Return the offer for a verbatim id; a family's base id, the text-to-image one, stands for the family."""
    kin = [offer for offer in offers if (offer.provider, offer.family) == (named[0].provider, named[0].family)]
    right = _first_fit(kin, operation, count)
    if found := _first_fit(named, operation, count):
        return found
    if right and any(offer.operation is Operation.GENERATE for offer in named):
        return right
    first = next((offer for offer in named if offer.operation.edits == operation.edits), named[0])
    use = f"use {right.endpoint}" if right else f"{first.family} on {first.provider} has no endpoint for that"
    endpoint = first.endpoint
    if first.operation.edits == operation.edits:
        raise OutOfLimits(f"{endpoint} makes one image per request; for {count} that belong together {use}.")
    if operation.edits:
        raise OutOfLimits(f"{endpoint} makes images from a prompt alone; to edit images {use}.")
    raise OutOfLimits(f"{endpoint} edits images; to make them from a prompt alone {use}.")


def _first_fit(offers: Sequence[Offer], operation: Operation, count: int) -> Offer | None:
    return next(iter(by_preference(offers, operation, count)), None)


def by_preference(offers: Sequence[Offer], operation: Operation, count: int) -> list[Offer]:
    """Return each family's offer for the operation, or its stand-in; the preferred family first.

    A family that cannot make `count` images in one request is left out.
    """
    stand_in = _STAND_IN[operation]
    found = []
    for key in dict.fromkeys((offer.provider, offer.family) for offer in offers):
        kin = {offer.operation: offer for offer in reversed(offers) if (offer.provider, offer.family) == key}
        if operation in kin and (count == 1 or operation.sequential):
            found.append(kin[operation])
        elif stand_in in kin and (count == 1 or stand_in.sequential):
            found.append(kin[stand_in])
    order = PREFERRED_SINGLE if count == 1 else PREFERRED_SETS
    return sorted(found, key=lambda offer: order.index(offer.family) if offer.family in order else len(order))


def is_retired(offer: Offer, today: date | None) -> bool:
    return bool(today and offer.lifecycle.retired and offer.lifecycle.retired <= today.isoformat())


def _tokens(name: str) -> list[str]:
    """Return a name's telling parts: "Seedream v5.0 Lite", "5-0-lite" and "bytedance/seedream-v5-lite" are one."""
    text = re.sub(r"(?<=\d)[-_](?=[0-9](?![0-9]))", ".", name.casefold())
    parts = re.findall(r"[0-9]+(?:\.[0-9]+)*|[a-z]+", text)
    return [f"{part}.0" if part.isdecimal() and len(part) == 1 else part for part in parts if part not in _NOISE]


def _named(offer: Offer, name: str) -> bool:
    wanted = sorted(_tokens(name))
    return any(
        name.casefold() == own.casefold() or (wanted and wanted == sorted(_tokens(own)))
        for own in (offer.family, *offer.aliases)
    )


def _unknown(offers: Sequence[Offer], name: str) -> str:
    families = list(dict.fromkeys(offer.family for offer in offers))
    known = {text.casefold(): text for offer in offers for text in (offer.endpoint, offer.family)}
    near = [known[text] for text in get_close_matches(name.casefold()[:200], known, n=2, cutoff=0.5)]
    meant = f" Did you mean {' or '.join(near)}?" if near else ""
    return f"There is no model {quoted(name, 80)}.{meant} There are: {', '.join(families)}."


def _wanted(operation: Operation, count: int) -> str:
    return f"{operation.value} of {count} images" if count > 1 else operation.value


# Limits --------------------------------------------------------------------------------------------------------------


def check(offer: Offer, request: Request) -> None:
    """Raise `OutOfLimits`, saying what would be right, unless the offer takes this request."""
    name = f"{offer.family} on {offer.provider}"
    references, count, format = request.inputs_each, request.count, request.format
    for prompt in request.prompts:
        if not prompt.strip():
            raise OutOfLimits("The prompt is empty: say what the images should show.")
        if len(prompt) > offer.max_prompt_chars:
            raise OutOfLimits(
                f"The prompt has {len(prompt)} characters; {name} takes at most {offer.max_prompt_chars}."
            )
    if not 1 <= count <= offer.max_outputs:
        most = f"1 to {offer.max_outputs} images per request" if offer.max_outputs > 1 else "1 image per request"
        raise OutOfLimits(f"{name} ({offer.endpoint}) makes {most}, not {count}.")
    if offer.operation.edits:
        if not 1 <= references <= offer.max_references:
            raise OutOfLimits(f"{name} edits 1 to {offer.max_references} references, not {references}.")
        limit = offer.max_references_and_outputs
        if references + count > limit:
            fewer = [f"{limit - count} reference{_s(limit - count)}"] if limit > count else []
            fewer += [f"{limit - references} image{_s(limit - references)}"] if limit > references else []
            raise OutOfLimits(
                f"{references} reference{_s(references)} and {count} image{_s(count)} make {references + count}; "
                f"{name} takes {limit} together: use at most {' or '.join(fewer) or 'fewer of both'}."
            )
    elif references:
        raise OutOfLimits(f"{offer.endpoint} makes images from a prompt alone: to use {references} references, edit.")
    if format == "jpeg" and any(backgrounds.asked_for(prompt) for prompt in request.prompts):
        raise OutOfLimits(
            'The prompt asks for a transparent background, and a JPEG has none: use format="png" or other words.'
        )
    if format is not None and format not in offer.formats:
        right = f"takes the formats {', '.join(offer.formats)}" if offer.formats else "chooses the format itself"
        raise OutOfLimits(f"{name} {right}, not {quoted(format, 40)}.")


def _s(number: int) -> str:
    return "" if number == 1 else "s"


# Sizes ---------------------------------------------------------------------------------------------------------------

_STEP_PX = 16
MOST_SIZES = 20
"""More sizes than these are told as words and ratios."""
_WORDS: Mapping[str, float] = {"square": 1.0, "portrait": 3 / 4, "landscape": 4 / 3}


def resolve_size(offer: Offer, spec: str | None, follow: Size | None) -> Size:
    """Return the pixels meant by "2K", "16:9", "portrait 4K", "2048x2048" or nothing.

    What the words leave open follows the shape of `follow`, the first reference, or else is square.

    Raises: `OutOfLimits` offering the sizes there are.
    """
    sizes = offer.sizes
    words, pixels, ratios, shapes = _parse(offer, spec)
    if pixels:
        if not _takes(sizes, pixels):
            raise OutOfLimits(_no_size(offer, f"{pixels[0]}x{pixels[1]}", near=_nearest(sizes.all(), pixels)))
        return pixels
    if sizes.follows_reference and follow and not (words or ratios or shapes):
        return follow if _takes(sizes, follow) else _shaped(sizes, follow[0] / follow[1], follow[0] * follow[1])
    word = words[0] if words else sizes.default if sizes.default in sizes.presets else next(iter(sizes.presets), "")
    if words and word not in sizes.presets:
        raise OutOfLimits(_no_size(offer, word))
    row = sizes.presets.get(word, {})
    own = follow[0] / follow[1] if follow else 1.0
    if ratios:
        if ratios[0] in row:
            return row[ratios[0]]
        wide, high = (int(side) for side in ratios[0].split(":"))
        ratio = wide / high
        if sizes.exact or max(ratio, 1 / ratio) > sizes.max_aspect:
            near = _nearest(tuple(row.values()), (wide, high))
            raise OutOfLimits(_no_size(offer, ratios[0], near=near))
    elif shapes:
        turned = {"portrait": min(own, 1 / own), "landscape": max(own, 1 / own)}.get(shapes[0], 1.0)
        ratio = _WORDS[shapes[0]] if turned == 1.0 else turned
    else:
        ratio = own
    nearest = min(row.values(), key=lambda size: _apart(size, ratio), default=None)
    if nearest and (sizes.exact or _apart(nearest, ratio) < 0.02):
        return nearest
    return _shaped(sizes, ratio, math.prod(row.get("1:1", nearest or (2048, 2048))))


def sizes_text(offer: Offer, *, in_pixels: bool = False) -> list[str]:
    """Return the sizes an offer takes, a few words a line; a few exact sizes each with its pixels, if asked for."""
    sizes = offer.sizes
    if sizes.exact and in_pixels and len(sizes.all()) <= MOST_SIZES:
        return [
            f"{word}: {' '.join(f'{width}x{height}' for width, height in row.values())}"
            for word, row in sizes.presets.items()
        ]
    if sizes.exact:
        ratios = dict.fromkeys(ratio for row in sizes.presets.values() for ratio in row)
        return [*sizes.presets, f"each as {' '.join(ratios)}"]
    return [*sizes.presets, f"WxH {sizes.min_area / 1e6:.1f}–{sizes.max_area / 1e6:.1f} MP"]


def _parse(offer: Offer, spec: str | None) -> tuple[list[str], Size | None, list[str], list[str]]:
    """Return what a size says: preset words, pixels, ratios and shapes, at most one of each."""
    text = (spec or "").casefold().replace("：", ":").translate(dict.fromkeys(map(ord, "*×✕"), "x"))
    text = re.sub(r"(?<=[0-9])\s*([x:])\s*(?=[0-9])", r"\1", text)
    words: list[str] = []
    pixels: list[Size] = []
    ratios: list[str] = []
    shapes: list[str] = []
    for part in re.split(r"[\s,;]+", text.strip()):
        if re.fullmatch(r"[0-9](?:\.[0-9])?k", part):
            words.append(part.upper())
        elif match := re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", part):
            pixels.append((int(match[1]), int(match[2])))
        elif match := re.fullmatch(r"([1-9][0-9]{0,3}):([1-9][0-9]{0,3})", part):
            shared = math.gcd(int(match[1]), int(match[2]))
            plain = f"{int(match[1]) // shared}:{int(match[2]) // shared}"
            ratios.append({"7:3": "21:9", "3:7": "9:21"}.get(plain, plain))
        elif part in _WORDS:
            shapes.append(part)
        elif part not in ("", "auto"):
            raise OutOfLimits(_no_size(offer, part))
    if len(words) > 1 or len(pixels) + len(ratios) + len(shapes) > 1 or (words and pixels):
        raise OutOfLimits(f"The size {quoted(spec, 60)} names two sizes; name one, for example 2K, 16:9 or 2048x2048.")
    return words, pixels[0] if pixels else None, ratios, shapes


def _no_size(offer: Offer, what: str, near: Size | None = None) -> str:
    nearest = f"; the nearest is {near[0]}x{near[1]}" if near else ""
    shapes = "" if offer.sizes.exact else f", no side longer than {offer.sizes.max_aspect:g} times the other"
    return (
        f"{offer.family} on {offer.provider} does not take the size {quoted(what, 60)}{nearest}. "
        f"It takes {'; '.join(sizes_text(offer, in_pixels=True))}{shapes}."
    )


def _takes(sizes: Sizes, size: Size) -> bool:
    if sizes.exact:
        return size in sizes.all()
    return sizes.min_area <= math.prod(size) <= sizes.max_area and max(size) <= sizes.max_aspect * min(size)


def _apart(size: Size, ratio: float) -> float:
    return abs(math.log(size[0] / size[1]) - math.log(ratio))


def _nearest(sizes: Iterable[Size], wanted: Size) -> Size | None:
    ratio, area = wanted[0] / wanted[1], math.prod(wanted)
    return min(sizes, key=lambda size: (round(_apart(size, ratio), 3), abs(math.prod(size) - area)), default=None)


def _shaped(sizes: Sizes, ratio: float, area: int) -> Size:
    """Return a size of about this shape and area within the limits, its sides multiples of 16 pixels."""
    ratio = min(max(ratio, 1 / sizes.max_aspect), sizes.max_aspect)
    area = min(max(area, sizes.min_area), sizes.max_area)
    width, height = (
        max(_STEP_PX, round(side / _STEP_PX) * _STEP_PX) for side in (math.sqrt(area * ratio), math.sqrt(area / ratio))
    )
    for _ in range(32):
        if _takes(sizes, (width, height)):
            return (width, height)
        # Too small or too thin wants a longer short side; too large wants a shorter long one.
        step = -_STEP_PX if width * height > sizes.max_area else _STEP_PX
        if (width > height) == (step < 0):
            width += step
        else:
            height += step
    return _nearest(sizes.all(), (width, height)) or (width, height)


# Money and words -----------------------------------------------------------------------------------------------------


def quote(offer: Offer, count: int, size: Size | None, references: int) -> Quote:
    """Return the list price of one request in US dollars: `count` images of a size in pixels, and the references.

    Without a size the dearest tier counts.
    """
    price = offer.price
    area = math.prod(size) if size else math.inf
    each = [price.usd_per_image, *(usd for bound, usd in price.above if area > bound)][-1]
    charged = max(0, references - price.free_references)
    return Quote(usd=each * count + price.usd_per_reference * charged, exact=False)


_NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_PICTURES = (
    r"(?:images?|pictures?|pics?|photos?|photographs?|variants?|variations?|versions?|frames?|panels?|shots?|scenes?|"
    r"views?|angles?|posters?|pages?|slides?|illustrations?|drawings?|paintings?|portraits?|renders?|options?|"
    r"outputs?|edits?|stills?|cards?|stickers?|icons?)\b"
)


def name_count(offer: Offer, prompt: str, count: int) -> str:
    """Return the prompt, naming the number of images where the model goes by the prompt and it does not say so yet.

    A number that speaks of the references ("these four photos") does not count. One image, or a prompt that would
    grow past the model's limit, is left alone.
    """
    if not offer.names_count_in_prompt or count < 2:
        return prompt
    word = f"|{_NUMBERS[count - 2]}" if count < len(_NUMBERS) + 2 else ""
    number = rf"(?<![\w.:/×-])(?:{count}{word})(?![\w:/×%]|\.[0-9])"
    said = (
        rf"(?<!\bthe )(?<!\bthese )(?<!\bthose ){number}[\s-]+(?:[\w']+[\s-]+){{0,3}}{_PICTURES}"
        rf"|\b(?:set|series|sequence|group|batch|grid|collection) of (?:exactly )?{number}"
        rf"|(?<!\d){count}\s*[张幅枚]"
    )
    if re.search(said, prompt, re.IGNORECASE):
        return prompt
    text = prompt.rstrip()
    named = f"{text}{'' if text.endswith(('.', '!', '?', '。', ':')) else '.'} Generate exactly {count} images."
    return named if len(named) <= offer.max_prompt_chars else prompt


def search(
    offers: Sequence[Offer], query: str = "", operation: str | None = None, provider: str | None = None
) -> list[Offer]:
    """Return the offers in which every word of the query occurs ("v5", "5" and "5.0" are one), in the order given.

    Raises: `OutOfLimits` for an operation that does not exist.
    """
    if operation is not None and operation not in list(Operation):
        every = ", ".join(Operation)
        raise OutOfLimits(f"There is no operation {quoted(operation, 40)}; there are: {every}.")
    return [
        offer
        for offer in offers
        if (operation is None or offer.operation == operation)
        and (provider is None or offer.provider == provider.strip().casefold())
        and all(_occurs(word, offer) for word in query.casefold().split())
    ]


def _occurs(word: str, offer: Offer) -> bool:
    text = f"{offer.provider} {offer.family} {offer.endpoint} {offer.operation} {' '.join(offer.aliases)}".casefold()
    if re.fullmatch(r"v?[0-9]+([.-][0-9])?", word):
        return set(_tokens(word)) <= set(_tokens(offer.family))
    return word in text or (bool(_tokens(word)) and set(_tokens(word)) <= set(_tokens(text)))
