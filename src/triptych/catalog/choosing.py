"""Choose an offer: by a model's name, by an endpoint id, or by preference where neither is given.

Rules: pure. The caller hands in the offers in order of preference; no provider is known by name. A refusal says what
was wrong and what would be right.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from difflib import get_close_matches

from triptych.core.errors import OutOfLimits, UnknownModel, quoted
from triptych.core.offers import Offer, Operation

PREFERRED_SINGLE = ("seedream-5.5", "seedream-5.0-lite", "seedream-4.5", "seedream-4.0")
PREFERRED_SETS = ("seedream-5.0-lite", "seedream-4.5", "seedream-4.0")
PREFERRED_LAYERS = ("seedream-5.0-pro", "seedream-5.5", "seedream-5.0-flash")
"""The families to use when the caller names none: for one image, for several that belong together, for layers.

5.5 is made for many rounds of edits of one picture. The families for sets make a set in one request. Any other family
follows, in its provider's order. 5.5 may return a hundred layers, so its quote is for a hundred.
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
    """Return the offer for an operation: of the preferred family, of a named family, or with a verbatim endpoint id.

    A family without a sequential endpoint serves one image with its single endpoint, and the other way round. Several
    images without a name are a set: no family whose images are independent. With `today`, retired families are
    skipped, unless an endpoint id names one verbatim: resellers may still serve it.

    Raises: `UnknownModel` with the nearest names; `OutOfLimits` if the model exists, but not for this request.
    """
    if not offers:
        raise UnknownModel("No provider offers a model here.")
    alive = [offer for offer in offers if not is_retired(offer, today)]
    if model is None or not model.strip():
        if found := _first_fit(for_any(alive, count), operation, count):
            return found
        raise OutOfLimits(f"No model here offers {_describe(operation, count)}{_why_not(offers, operation)}.")
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
    wanted = f"{_describe(operation, count)}{_why_not(family, operation)}"
    raise OutOfLimits(f"{family[0].family} offers {offered}, but not {wanted}: {use}.")


def _by_endpoint(offers: Sequence[Offer], named: Sequence[Offer], operation: Operation, count: int) -> Offer:
    """Return the offer for a verbatim endpoint id. A family's base id, for text to image, stands for the family."""
    same_family = [offer for offer in offers if (offer.provider, offer.family) == (named[0].provider, named[0].family)]
    fitting = _first_fit(same_family, operation, count)
    if found := _first_fit(named, operation, count):
        return found
    if fitting and any(offer.operation is Operation.GENERATE for offer in named):
        return fitting
    first = next((offer for offer in named if offer.operation.edits == operation.edits), named[0])
    use = f"use {fitting.endpoint}" if fitting else f"{first.family} on {first.provider} has no endpoint for that"
    endpoint = first.endpoint
    if operation is Operation.LAYERS:
        raise OutOfLimits(f"{endpoint} takes no picture apart into layers: {use if fitting else 'leave model out'}.")
    if first.operation.edits == operation.edits:
        raise OutOfLimits(f"{endpoint} makes one image per request; for {count} that belong together {use}.")
    if operation.edits:
        raise OutOfLimits(f"{endpoint} makes images from a prompt alone; to edit images {use}.")
    raise OutOfLimits(f"{endpoint} edits images; to make them from a prompt alone {use}.")


def _first_fit(offers: Sequence[Offer], operation: Operation, count: int) -> Offer | None:
    return next(iter(by_preference(offers, operation, count)), None)


def by_preference(offers: Sequence[Offer], operation: Operation, count: int) -> list[Offer]:
    """Return each family's offer for the operation, or its stand-in, the preferred family first.

    Families that cannot make `count` images in one request are left out.
    """
    stand_in = _STAND_IN.get(operation, operation)
    found = []
    for key in dict.fromkeys((offer.provider, offer.family) for offer in offers):
        same_family = {offer.operation: offer for offer in reversed(offers) if (offer.provider, offer.family) == key}
        if operation in same_family and (count == 1 or operation.sequential):
            found.append(same_family[operation])
        elif stand_in in same_family and (count == 1 or stand_in.sequential):
            found.append(same_family[stand_in])
    order = PREFERRED_LAYERS if operation is Operation.LAYERS else PREFERRED_SINGLE if count == 1 else PREFERRED_SETS
    return sorted(found, key=lambda offer: order.index(offer.family) if offer.family in order else len(order))


def for_any(offers: Sequence[Offer], count: int) -> list[Offer]:
    """Return the offers for a request without a model: several images are a set, without `independent` offers."""
    return [offer for offer in offers if count == 1 or not offer.independent]


def is_retired(offer: Offer, today: date | None) -> bool:
    return bool(today and offer.lifecycle.retired and offer.lifecycle.retired <= today.isoformat())


def _tokens(name: str) -> list[str]:
    """Return the words and numbers that tell names apart; spellings of one model have equal tokens.

    "Seedream v5.0 Lite", "5-0-lite" and "bytedance/seedream-v5-lite" all give `["5.0", "lite"]`.
    """
    text = re.sub(r"(?<=\d)[-_](?=[0-9](?![0-9]))", ".", name.casefold())
    parts = re.findall(r"[0-9]+(?:\.[0-9]+)*|[a-z]+", text)
    return [f"{part}.0" if part.isdecimal() and len(part) == 1 else part for part in parts if part not in _NOISE]


def _named(offer: Offer, name: str) -> bool:
    wanted_tokens = sorted(_tokens(name))
    return any(
        name.casefold() == own.casefold() or (wanted_tokens and wanted_tokens == sorted(_tokens(own)))
        for own in (offer.family, *offer.aliases)
    )


def _unknown(offers: Sequence[Offer], name: str) -> str:
    families = list(dict.fromkeys(offer.family for offer in offers))
    known = {text.casefold(): text for offer in offers for text in (offer.endpoint, offer.family)}
    near = [known[text] for text in get_close_matches(name.casefold()[:200], known, n=2, cutoff=0.5)]
    suggestion = f" Did you mean {' or '.join(near)}?" if near else ""
    return f"There is no model {quoted(name, 80)}.{suggestion} There are: {', '.join(families)}."


def _why_not(offers: Sequence[Offer], operation: Operation) -> str:
    """Return the known reason why no offer has an operation that a parameter selects; "" without one."""
    reason = next((reason for offer in offers if (reason := offer.no_params.get(operation))), "")
    return f" ({reason})" if reason else ""


def _describe(operation: Operation, count: int) -> str:
    return f"{operation.value} of {count} images" if count > 1 else operation.value


def search(
    offers: Sequence[Offer], query: str = "", operation: str | None = None, provider: str | None = None
) -> list[Offer]:
    """Return the offers that contain every word of the query in their names or titles, in the order given.

    In a query "v5", "5" and "5.0" are equal. Raises: `OutOfLimits` for an unknown operation.
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
    names = (offer.provider, offer.family, offer.endpoint, offer.operation, *offer.aliases, offer.title)
    text = " ".join(names).casefold()
    if re.fullmatch(r"v?[0-9]+([.-][0-9])?", word):
        return set(_tokens(word)) <= set(_tokens(offer.family))
    return word in text or (bool(_tokens(word)) and set(_tokens(word)) <= set(_tokens(text)))
