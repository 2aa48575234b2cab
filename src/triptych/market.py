"""What providers say of themselves: live prices, quotes, balances. Asked when needed, remembered for a while.

The built-in catalog stands in for whatever a provider does not say in time; an error is never taken for "no models".
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import anyio

from triptych import catalog, errors
from triptych.clock import Clock
from triptych.model import Lifecycle, Offer, Operation, Price, Quote, Reference
from triptych.planning import Plan
from triptych.results import ModelRow, ModelsResult, PricePart, ProviderRow
from triptych.store import Store
from triptych.wire import Account, Wire

PATIENCE_S = 8.0
"""How long a call waits for what a provider says before it makes do with the built-in list."""
LIFETIME_S = 600.0
PLACEHOLDER_URL = "https://example.com/image.jpg"
"""Stands for an image that is not at the provider, in a question for a price: prices count references, and follow the
size that is sent, not what a picture shows. The domain is reserved for examples (RFC 2606)."""


@dataclass(slots=True)
class _Cached:
    at_s: float
    value: Any


@dataclass(slots=True)
class _Said:
    prices_usd: Mapping[str, Decimal | None] | None = None
    balance_usd: Decimal | None = None
    warning: str | None = None


class Market:
    """The offers of all accounts, and what their providers say today."""

    def __init__(
        self, store: Store, wire: Wire, accounts: Mapping[str, Account], default_provider: str, clock: Clock
    ) -> None:
        self._store = store
        self._wire = wire
        self._accounts = accounts
        self._default_provider = default_provider
        self._clock = clock
        self._cache: dict[object, _Cached] = {}

    async def list_models(
        self, query: str, operation: str | None, provider: str | None, most: int | None
    ) -> ModelsResult:
        """Return models × providers with price, limits, lifecycle, and whether each is usable now; usable ones first.

        With more than `most` rows the rest is counted in a warning.

        Raises: `errors.OutOfLimits` for an unknown operation, `errors.UnknownModel` for an unknown provider.
        """
        if operation is not None and operation not in set(Operation):
            raise errors.OutOfLimits(
                f"operation is one of {', '.join(Operation)}; it was {errors.quoted(operation, 40)}."
            )
        if provider is not None and provider not in self._accounts:
            names = ", ".join(self._accounts)
            raise errors.UnknownModel(f"There is no provider {errors.quoted(provider, 40)}; there are: {names}.")
        accounts = [account for name, account in self._accounts.items() if provider in (None, name)]
        said = {account.provider.name: _Said() for account in accounts}
        async with anyio.create_task_group() as tasks:
            for account in accounts:
                if account.usable:
                    tasks.start_soon(self._ask, account, said[account.provider.name])
        rows = [
            _row(account, offer, said[account.provider.name], self._clock.now().date())
            for account in accounts
            for offer in catalog.search(account.provider.offers, query, operation, None)
        ]
        rows.sort(key=lambda row: not row.usable)
        warnings = [told.warning for told in said.values() if told.warning]
        if most is not None and len(rows) > most:
            warnings.append(
                f"{len(rows) - most} more are not shown; narrow the list with query, operation or provider."
            )
        return ModelsResult(
            default_provider=self._default_provider,
            providers=[
                ProviderRow(
                    provider=account.provider.name,
                    usable=account.usable,
                    why_not=account.why_not,
                    balance_usd=said[account.provider.name].balance_usd,
                )
                for account in accounts
            ],
            models=rows[:most],
            warnings=warnings,
        )

    async def quotes(self, plan: Plan, within_s: float = PATIENCE_S) -> tuple[Quote, ...]:
        """Return what one request of each lane costs; lanes with the same list price are quoted once.

        No image is sent for it: one that is at the provider is named by its URL there, else `PLACEHOLDER_URL` is. The
        list price holds where the provider takes the size from the picture or does not answer in time.
        """
        by_list_usd: dict[Decimal, Quote] = {}
        with anyio.move_on_after(min(PATIENCE_S, within_s)):
            for lane, listed in enumerate(plan.quotes):
                if listed.usd not in by_list_usd:
                    by_list_usd[listed.usd] = await self._quote(plan, lane)
        return tuple(by_list_usd.get(listed.usd, listed) for listed in plan.quotes)

    async def _quote(self, plan: Plan, lane: int) -> Quote:
        account, size, inputs = self._accounts[plan.offer.provider], plan.sizes[lane], plan.lanes[lane]
        if not account.provider.quote or (inputs and size is None):
            return plan.quotes[lane]
        key = ("quote", plan.offer.provider, plan.offer.endpoint, plan.count, size, len(inputs))
        if cached := self._cached(key):
            known: Quote = cached
            return known
        references = []
        for item in inputs:
            copy = self._store.copy(item.image.sha256, account.provider.name, self._clock.now())
            url = copy[0] if copy else PLACEHOLDER_URL
            references.append(Reference(item.image.sha256, item.image.mime_type, url=url))
        with suppress(errors.Outage, errors.Refused, errors.Failed):
            found = await self._wire.run(account, account.provider.quote(plan.first_edit(references, lane)))
            if found:
                self._cache[key] = _Cached(self._clock.monotonic(), found)
                return found
        return plan.quotes[lane]

    async def _ask(self, account: Account, said: _Said) -> None:
        provider, key = account.provider, ("listing", account.provider.name)
        try:
            with anyio.fail_after(PATIENCE_S):
                if provider.listing:
                    listing = self._cached(key) or await self._wire.run(account, provider.listing())
                    self._cache.setdefault(key, _Cached(self._clock.monotonic(), listing))
                    said.prices_usd = listing.prices_usd
                if provider.balance:
                    said.balance_usd = await self._wire.run(account, provider.balance())
        except (errors.TriptychError, TimeoutError) as error:
            reason = error.message if isinstance(error, errors.TriptychError) else "no answer in time"
            if provider.listing and said.prices_usd is None:
                said.warning = f"{provider.title} gave no live list: {reason.rstrip('.')}. The built-in list is shown."
            else:
                said.warning = f"{provider.title} gave no balance: {reason.rstrip('.')}."

    def _cached(self, key: object) -> Any:
        entry = self._cache.get(key)
        if entry and self._clock.monotonic() - entry.at_s < LIFETIME_S:
            return entry.value
        self._cache.pop(key, None)
        return None


def _row(account: Account, offer: Offer, said: _Said, today: date) -> ModelRow:
    live = (said.prices_usd or {}).get(offer.endpoint)
    gone = bool(said.prices_usd) and offer.endpoint not in (said.prices_usd or {})
    retired = catalog.is_retired(offer, today)
    why_not = account.why_not
    if not why_not and gone:
        why_not = f"not in {account.provider.title}'s live list"
    elif not why_not and retired:
        why_not = f"retired on {offer.lifecycle.retired}; only its endpoint id, named as model, tries it all the same"
    return ModelRow(
        model=offer.family,
        operation=offer.operation,
        provider=account.provider.name,
        endpoint=offer.endpoint,
        usd_per_image=live or offer.price.usd_per_image,
        price=_parts(offer.price),
        price_as_of="live" if live else offer.price.as_of,
        max_references=offer.max_references,
        max_outputs=offer.max_outputs,
        sizes=catalog.sizes_text(offer),
        formats=list(offer.formats),
        lifecycle=_lifecycle(offer.lifecycle, retired=retired),
        usable=not why_not,
        why_not=why_not,
    )


def _parts(price: Price) -> list[PricePart]:
    """Return the parts of a list price: the size tiers, the smallest first, and the references."""
    bounds = [*(area for area, _ in price.above), None]
    each = [price.usd_per_image, *(usd for _, usd in price.above)]
    parts = [PricePart(per="image", usd=usd, max_pixels=area) for area, usd in zip(bounds, each, strict=True)]
    if price.usd_per_reference:
        parts.append(PricePart(per="reference", usd=price.usd_per_reference, free=price.free_references))
    return parts


def _lifecycle(lifecycle: Lifecycle, *, retired: bool) -> str:
    days = {
        "released": lifecycle.released,
        "deprecated": lifecycle.deprecated,
        "retired" if retired else "retires": lifecycle.retired,
    }
    said = ", ".join(f"{word} {day}" for word, day in days.items() if day)
    return f"{said} ({lifecycle.source})" if said and lifecycle.source else said
