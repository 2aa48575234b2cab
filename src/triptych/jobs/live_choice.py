"""Choose the live offer that a request names, from the known catalogues.

A live offer is used only if the model is its endpoint id: it is never a default, a route, or the cheapest. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches

from triptych import catalog
from triptych.core import errors
from triptych.core.offers import Offer
from triptych.core.requests import Request
from triptych.jobs.catalogues import Known
from triptych.jobs.routing import CHEAPEST
from triptych.providers.accounts import Account


def may_be_live(accounts: Mapping[str, Account], request: Request) -> bool:
    """Return whether a request without a built-in offer may mean a live one: it names a model, at a usable provider."""
    named = (request.provider or "").strip().lower()
    account = accounts.get(named)
    return bool((request.model or "").strip()) and (named in ("", CHEAPEST) or bool(account and account.usable))


def find_live(
    accounts: Mapping[str, Account],
    default_provider: str,
    request: Request,
    known: Known,
    providers: Sequence[str],
    fits: Callable[[Offer], None],
    unknown: errors.BadRequest,
) -> Offer:
    """Return the live offer of a request: the named provider's, else the default's, else the only one there is.

    `providers` are those whose catalogues are used, `known` has the catalogues that were read.
    Raises: `errors.UnknownModel` for a model that cannot be used, with the reason, and for one of several providers;
    `unknown`, with the nearest ids, for a model in no catalogue; `errors.OutOfLimits` if the offer does not fit.
    """
    wanted = (request.model or "").strip()
    named, shown = (request.provider or "").strip().lower(), errors.quoted(wanted, 80)
    by_provider = {name: offers for name, found in known.items() if (offers := found.offers_of(wanted))}
    if by_provider and named == CHEAPEST:
        raise errors.UnknownModel(
            f"{CHEAPEST} compares the built-in models, and {shown} is a live one: name {' or '.join(by_provider)} as "
            "provider."
        )
    sellers = [named] if named in by_provider else [] if named else list(by_provider)
    if default_provider in sellers:
        sellers = [default_provider]
    if len(sellers) > 1:
        raise errors.UnknownModel(f"{shown} is sold by {' and '.join(sellers)}: name one of them as provider.")
    if sellers:
        chosen = catalog.choose(by_provider[sellers[0]], request.operation, wanted, request.count)
        fits(chosen)
        return chosen
    for name, catalogue in known.items():
        if named in ("", CHEAPEST, name) and (reason := catalogue.reason(wanted)):
            raise errors.UnknownModel(
                f"{accounts[name].provider.title} sells {shown}, but Triptych cannot use it: {reason.rstrip('.')}."
            )
    if by_provider:
        raise errors.UnknownModel(f'{named} does not sell {shown}; use provider="{next(iter(by_provider))}".')
    ids = {offer.endpoint.casefold(): offer.endpoint for found in known.values() for offer in found.offers}
    near = [ids[text] for text in get_close_matches(wanted.casefold()[:200], ids, n=3, cutoff=0.6)]
    hints = [f"Live models with a similar id: {', '.join(near)}."] if near else []
    if unread := [accounts[name].provider.title for name in providers if name not in known and named in ("", name)]:
        hints.append(f"The live catalogue of {' and '.join(unread)} could not be read: try again later.")
    if hints and isinstance(unknown, errors.UnknownModel):
        raise errors.UnknownModel(" ".join([unknown.message, *hints]))
    raise unknown
