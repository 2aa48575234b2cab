"""Ranks the offers for a request: the model, the provider, and the providers to go to if that one refuses.

Sends and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date
from decimal import Decimal

from triptych import catalog
from triptych.catalog import backgrounds
from triptych.core import errors
from triptych.core.offers import Offer, Operation
from triptych.core.requests import Request
from triptych.providers.accounts import Account

CHEAPEST = "cheapest"


def rank_offers(
    accounts: Mapping[str, Account],
    default_provider: str,
    request: Request,
    fits: Callable[[Offer], None],
    today: date,
) -> list[Offer]:
    """Return the offers that fit, best first: one for each provider, all of one family.

    A named provider gives only its own offer. Without one, the default's best offer comes first, then the same family
    at the other usable providers. "cheapest" takes the preferred family of all, by list price of the whole request.
    `fits` raises the reason why an offer does not fit.
    Raises: `errors.UnknownModel`, `errors.NoKey`, `errors.OutOfLimits`: the first provider's reason.
    """

    def pick(account: Account, model: str | None) -> Offer:
        return _pick(account.provider.offers_by_name(model), replace(request, model=model), fits, today)

    named = (request.provider or "").strip().lower()
    if named and named != CHEAPEST:
        account = accounts.get(named)
        if not account:
            raise errors.UnknownModel(
                f"There is no provider {errors.quoted(request.provider, 40)}; there are: "
                f"{', '.join([*sorted(accounts), CHEAPEST])}."
            )
        _require_key(account)
        return [pick(account, request.model)]
    order = [default_provider, *(name for name in accounts if name != default_provider)]
    usable = [
        accounts[name]
        for name in order
        # The offline preview is used only if it is the default.
        if accounts[name].usable and (name == default_provider or not accounts[name].provider.offline)
    ]
    found: list[Offer] = []
    first_error: errors.BadRequest | None = None
    for account in usable:
        try:
            found.append(pick(account, request.model))
        except errors.BadRequest as error:
            first_error = first_error or error
    if not found:
        if isinstance(first_error, errors.UnknownModel):
            _name_the_key(accounts, request)
        raise first_error or errors.UnknownModel("No provider can be used; `triptych doctor` says why.")
    first = catalog.by_preference(found, request.operation, request.count)[0] if named == CHEAPEST else found[0]
    same = [offer for offer in found if offer.family == first.family]
    if not (request.model or "").strip():
        same = []
        for account in usable:
            with suppress(errors.BadRequest):
                same.append(pick(account, first.family))
    if named == CHEAPEST:
        same.sort(key=lambda offer: _list_price_usd(offer, request))
    return same


def _list_price_usd(offer: Offer, request: Request) -> Decimal:
    size, request = catalog.resolve_size(offer, request.size, None), catalog.fit_look(offer, request)[0]
    return catalog.quote(offer, catalog.most_images(offer, request), size, request.most_inputs, request.params).usd


def _pick(offers: Sequence[Offer], request: Request, fits: Callable[[Offer], None], today: date) -> Offer:
    """Return the named model's offer; with none named, the preferred one of those that fit.

    Raises: `errors.BadRequest`: the reason why the offer with the most references does not fit.
    """
    chosen = catalog.choose(offers, request.operation, request.model, request.count, today=today)
    if request.model and request.model.strip():
        fits(chosen)
        return chosen
    alive = [offer for offer in catalog.for_any(offers, request.count) if not catalog.is_retired(offer, today)]
    preferred = catalog.by_preference(alive, request.operation, request.count)
    for offer in preferred:
        with suppress(errors.BadRequest):
            fits(offer)
            return offer
    widest = max(preferred, key=lambda offer: offer.max_references)
    fits(widest)
    raise AssertionError("an offer that did not fit fits now")


def notes(accounts: Mapping[str, Account], chosen: Offer, request: Request, today: date) -> tuple[str, ...]:
    """Return the warnings about the chosen offer: a retired default, no set, a transparent background."""
    operation = request.operation
    warnings = [chosen.assumed] if chosen.assumed else []
    if not (request.model or "").strip():
        for better in catalog.by_preference(accounts[chosen.provider].provider.offers, operation, request.count):
            if better.family == chosen.family:
                break
            if catalog.is_retired(better, today):
                warnings.append(
                    f"{better.family} on {better.provider} was retired on {better.lifecycle.retired} "
                    f"({better.lifecycle.source}); {chosen.family} is used instead."
                )
    if chosen.independent and request.count > 1:
        warnings.append(
            f"{chosen.family} on {chosen.provider} makes no sets: the {request.count} images are independent "
            "variations of one prompt. For a set that belongs together leave model out."
        )
    hosted = (account for account in accounts.values() if not account.provider.offline)
    usable_first = sorted(hosted, key=lambda account: not account.usable)
    others = [o for account in usable_first for o in account.provider.offers if o.operation.edits == operation.edits]
    keys = {name: a.provider.key_env for name, a in accounts.items() if not a.usable and a.provider.key_env}
    warnings += [text for text in (backgrounds.note(chosen, request, others, keys),) if text]
    return (*warnings, *catalog.params.notes(chosen, request))


def _name_the_key(accounts: Mapping[str, Account], request: Request) -> None:
    """Raise `NoKey` for a model that only a provider without a key has."""
    for account in accounts.values():
        if not account.usable:
            try:
                offers = account.provider.offers_by_name(request.model)
                catalog.choose(offers, request.operation, request.model, request.count)
            except errors.BadRequest:
                continue
            _require_key(account)


def _require_key(account: Account) -> None:
    if not account.usable:
        raise errors.NoKey(
            f"{account.provider.title} needs a key: set {account.provider.key_env} in the server's environment and "
            'restart it. provider="draft" works without one (an offline preview, not Seedream).'
        )


def words_offer(accounts: Mapping[str, Account], request: Request, offer: Offer) -> Offer | None:
    """Return the offer of the same family and provider for the requests without images; None if there are none.

    Raises: `errors.OutOfLimits` if the model makes no image from words.
    """
    if not request.mixes_words_and_images:
        return None
    same = [one for one in accounts[offer.provider].provider.offers if one.family == offer.family]
    if offer.in_no_table or not any(not one.operation.edits for one in same):
        raise errors.OutOfLimits(
            f"{offer.family} on {offer.provider} only edits images, and a row of the table has none: give each row an "
            "image, or name another model."
        )
    return catalog.choose(same, Operation.GENERATE)
