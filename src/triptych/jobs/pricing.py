"""Live prices, quotes and balances of the providers, requested when needed and cached for a while.

The built-in catalog replaces facts that a provider does not give in time. An error never means "no models".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Any

import anyio

from triptych import catalog
from triptych.core import errors
from triptych.core.clock import Clock
from triptych.core.models import Reference
from triptych.core.offers import Lifecycle, Offer, Operation, Price, Quote
from triptych.core.text import line
from triptych.jobs.catalogues import Catalogues, Known
from triptych.jobs.model_results import ModelRow, ModelsResult, ProviderRow
from triptych.jobs.planning import Plan
from triptych.providers.accounts import Account
from triptych.providers.client import ProviderClient
from triptych.storage.async_store import AsyncStore

PATIENCE_S = 8.0
"""How long a call waits for live facts before it uses the built-in list."""
LIFETIME_S = 600.0
ROWS_WITH_PARAMS = 6
"""A list of at most so many rows shows their parameters too."""
TITLE_CHARS = 90
WARNING_CHARS = 140
"""The limit of a warning in a list of several providers; a list of one provider has it whole."""
MODEL_REASON_CHARS = 260
MOST_REASONS = 3
"""How many reasons why a live model is no offer a list has."""
PLACEHOLDER_URL = "https://example.com/image.jpg"
"""Stands for an image that is not at the provider, in a request for a price: a price depends on the number of
references and the size, not on their content. The domain is reserved for examples (RFC 2606)."""


@dataclass(slots=True)
class _Cached:
    at_s: float
    value: Any


@dataclass(slots=True)
class _LiveFacts:
    prices_usd: Mapping[str, Decimal | None] | None = None
    balance_usd: Decimal | None = None
    warning: str | None = None


class Pricing:
    """The offers of all accounts, with the live facts of their providers."""

    def __init__(
        self,
        store: AsyncStore,
        provider_client: ProviderClient,
        accounts: Mapping[str, Account],
        default_provider: str,
        catalogues: Catalogues,
        clock: Clock,
    ) -> None:
        self._store = store
        self._client = provider_client
        self._accounts = accounts
        self._default_provider = default_provider
        self._catalogues = catalogues
        self._clock = clock
        self._cache: dict[object, _Cached] = {}

    async def list_models(
        self, query: str, operation: str | None, provider: str | None, within_bytes: int | None
    ) -> ModelsResult:
        """Return models × providers with price, limits, lifecycle, and whether each is usable now.

        Usable ones come first, of these the default provider's. With `within_bytes`, rows are shown as long as the
        result, as JSON and as text, has no more bytes; a provider's row has the prices of the models left out. Live
        models are listed if the list is narrowed, after the built-in ones.

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
        facts = {account.provider.name: _LiveFacts() for account in accounts}
        async with anyio.create_task_group() as tasks:
            for account in accounts:
                if account.usable:
                    tasks.start_soon(self._ask, account, facts[account.provider.name])
            narrowed = bool(query.strip() or operation or provider)
            known = await (self._catalogues.wait() if narrowed else self._catalogues.known())
        today = self._clock.now().date()
        rows = [
            row
            for account in accounts
            for row in _rows(
                account,
                catalog.search(account.provider.offers, query, operation, None),
                facts[account.provider.name],
                today,
            )
        ]
        for account in accounts if narrowed else ():
            live = known[account.provider.name].offers if account.provider.name in known else ()
            rows += _rows(account, catalog.search(live, query, operation), facts[account.provider.name], today)
        rows.sort(key=lambda row: _place(row, self._default_provider))
        warnings = [live.warning for live in facts.values() if live.warning]
        if len(accounts) > 1:
            warnings = [line(warning, WARNING_CHARS) for warning in warnings]

        if not narrowed and (hint := _live_hint(self._accounts, self._catalogues.providers, known)):
            warnings.append(hint)
        warnings += _not_offered(query, accounts, known)
        if not rows:
            warnings.append("No model matches; list_models without arguments shows what there is.")

        def result(shown: int, *, params: bool = False) -> ModelsResult:
            left = rows[shown:]
            how = "a narrower query, operation or provider" if narrowed else "query, operation or provider"
            more = f"{len(left)} more: {how} lists them in full."
            return ModelsResult(
                default_provider=self._default_provider,
                providers=[
                    _provider_row(account, facts[account.provider.name], rows[:shown], left) for account in accounts
                ],
                models=[row if params else replace(row, params=None) for row in rows[:shown]],
                warnings=[*warnings, more] if left else warnings,
            )

        if narrowed and len(rows) <= ROWS_WITH_PARAMS:
            with_params = result(len(rows), params=True)
            if within_bytes is None or _bytes(with_params) <= within_bytes:
                return with_params
        if within_bytes is None:
            return result(len(rows))
        shown = 0
        while shown < len(rows) and _bytes(result(shown + 1)) <= within_bytes:
            shown += 1
        return result(shown)

    async def quotes(self, plan: Plan, within_s: float = PATIENCE_S) -> tuple[Quote, ...]:
        """Return the price of the first request of each lane; lanes with the same list price are quoted once.

        A live model has one list price for all sizes, so each of its lanes is quoted. No image is sent: an image at the
        provider is named by its URL there, any other by `PLACEHOLDER_URL`. The list price is used if the provider takes
        the size of a built-in model from the image, or does not respond in time.
        """
        quoted: dict[object, Quote] = {}
        kinds = [lane if plan.offer.live else listed.usd for lane, listed in enumerate(plan.quotes)]
        with anyio.move_on_after(min(PATIENCE_S, within_s)):
            for lane, kind in enumerate(kinds):
                if kind not in quoted:
                    quoted[kind] = await self._quote(plan, lane)
                if plan.offer.live and not quoted[kind].exact:
                    break
        return tuple(quoted.get(kind, listed) for kind, listed in zip(kinds, plan.quotes, strict=True))

    async def _quote(self, plan: Plan, lane: int) -> Quote:
        account, size, inputs = self._accounts[plan.offer.provider], plan.sizes[lane], plan.inputs[lane]
        endpoint = plan.offer_at(lane, plan.request.first_step(lane)).endpoint
        if not account.provider.quote or (inputs and size is None and not plan.offer.live):
            return plan.quotes[lane]
        references, seen = [], []
        for image in inputs:
            copy = await self._store.copy(image.sha256, account.provider.name, self._clock.now())
            references.append(Reference(image.sha256, image.mime_type, url=copy[0] if copy else PLACEHOLDER_URL))
            seen.append(image.size if copy and plan.offer.live else None)
        options = json.dumps([plan.request.format, plan.request.params, seen], sort_keys=True)
        key = ("quote", plan.offer.provider, endpoint, plan.request.count, size, len(inputs), options)
        if cached := self._cached(key):
            known: Quote = cached
            return known
        with suppress(errors.Outage, errors.Refused, errors.Failed):
            found = await self._client.run(account, account.provider.quote(plan.first_request(references, lane)))
            if found:
                self._cache[key] = _Cached(self._clock.monotonic(), found)
                return found
        return plan.quotes[lane]

    async def _ask(self, account: Account, facts: _LiveFacts) -> None:
        provider, key = account.provider, ("listing", account.provider.name)
        try:
            with anyio.fail_after(PATIENCE_S):
                if provider.listing:
                    listing = self._cached(key) or await self._client.run(account, provider.listing())
                    self._cache.setdefault(key, _Cached(self._clock.monotonic(), listing))
                    facts.prices_usd = listing.prices_usd
                if provider.balance:
                    facts.balance_usd = await self._client.run(account, provider.balance())
        except (errors.TriptychError, TimeoutError) as error:
            reason = error.message if isinstance(error, errors.TriptychError) else "no answer in time"
            if provider.listing and facts.prices_usd is None:
                facts.warning = f"{provider.title} gave no live list: {reason.rstrip('.')}. The list below is built in."
            else:
                facts.warning = f"{provider.title}'s balance could not be read: {reason.rstrip('.')}."

    def _cached(self, key: object) -> Any:
        entry = self._cache.get(key)
        if entry and self._clock.monotonic() - entry.at_s < LIFETIME_S:
            return entry.value
        self._cache.pop(key, None)
        return None


def _place(row: ModelRow, default_provider: str) -> tuple[bool, ...]:
    """Return the place of a row: usable ones first, built-in ones before live ones, layers last."""
    return (not row.usable, bool(row.live), Operation.LAYERS in row.endpoints, row.provider != default_provider)


def _bytes(result: ModelsResult) -> int:
    """Return the bytes that a host shows its model: of the JSON with spaces, or of the text."""
    fields = json.dumps(result.as_json(), ensure_ascii=False)
    return max(len(fields.encode()), len(result.text().encode()))


def _provider_row(
    account: Account, facts: _LiveFacts, shown: Sequence[ModelRow], left: Sequence[ModelRow]
) -> ProviderRow:
    """Return a provider's facts, with the prices of its models that have no row among those shown."""
    others: dict[str, Decimal] = {}
    name = account.provider.name
    listed = {row.model for row in shown if row.provider == name}
    for row in left:
        if row.provider == name and row.model not in listed and row.usd_per_image is not None and not row.live:
            others[row.model] = min(row.usd_per_image, others.get(row.model, row.usd_per_image))
    return ProviderRow(
        provider=name,
        usable=account.usable,
        why_not=account.why_not,
        balance_usd=facts.balance_usd,
        others_usd_per_image=others,
    )


def _rows(account: Account, offers: Sequence[Offer], facts: _LiveFacts, today: date) -> list[ModelRow]:
    """Return a row for each family; layers, and an operation with another price or state, have their own row."""
    rows: dict[tuple[object, ...], ModelRow] = {}
    for offer in offers:
        row = _row(account, offer, facts, today)
        alike = (row.model, row.usd_per_image, row.price_as_of, row.sizes, row.formats, row.lifecycle, row.why_not)
        key = (offer.operation is Operation.LAYERS, *map(str, alike))
        if before := rows.get(key):
            row = replace(
                before,
                endpoints=before.endpoints | row.endpoints,
                price=max(before.price, row.price, key=lambda text: len(text or "")),
                max_references=max(before.max_references, row.max_references),
                max_outputs=max(before.max_outputs, row.max_outputs),
                max_references_and_outputs=before.max_references_and_outputs or row.max_references_and_outputs,
            )
        rows[key] = row
    return list(rows.values())


def _row(account: Account, offer: Offer, facts: _LiveFacts, today: date) -> ModelRow:
    live = None if offer.price.unknown else (facts.prices_usd or {}).get(offer.endpoint)
    gone = bool(facts.prices_usd) and offer.endpoint not in (facts.prices_usd or {})
    retired = catalog.is_retired(offer, today)
    why_not = account.why_not
    if not why_not and gone:
        why_not = f"not in {account.provider.title}'s live list"
    elif not why_not and retired:
        why_not = f"retired on {offer.lifecycle.retired}; to try it anyway, give its endpoint id as model"
    sets = offer.operation is Operation.EDIT_SEQUENTIAL and not offer.independent
    return ModelRow(
        model=offer.family,
        provider=account.provider.name,
        endpoints={offer.operation.value: offer.endpoint},
        usd_per_image=live or (None if offer.price.unknown else offer.price.usd_per_image),
        price=_price_text(offer.price),
        price_as_of="live" if live else offer.price.as_of,
        max_references=offer.max_references,
        max_outputs=offer.max_outputs,
        max_references_and_outputs=offer.max_references_and_outputs if sets else None,
        independent=offer.independent or None,
        sizes=catalog.sizes_text(offer),
        params=catalog.params.params_text(offer.params) or None,
        live=True if offer.live else None,
        title=line(offer.title, TITLE_CHARS) or None,
        formats=list(offer.formats),
        lifecycle=_lifecycle(offer.lifecycle, retired=retired) or None,
        usable=not why_not,
        why_not=why_not,
    )


def _not_offered(query: str, accounts: Sequence[Account], known: Known) -> list[str]:
    """Return why live models whose ids have every word of a query are no offers; a few of them at most."""
    words = query.casefold().split()
    skipped = [
        f"{endpoint} on {account.provider.name} is not offered: {why}"
        for account in accounts
        if account.provider.name in known
        for endpoint, why in known[account.provider.name].skipped.items()
        if words and all(word in endpoint.casefold() for word in words)
    ]
    return [line(text, MODEL_REASON_CHARS) for text in skipped[:MOST_REASONS]]


def _live_hint(accounts: Mapping[str, Account], providers: Sequence[str], known: Known) -> str:
    """Return how to find the models that only the live catalogues have; "" if there are none."""
    number = sum(len({offer.endpoint for offer in one.offers}) for one in known.values())
    titles = " and ".join(accounts[name].provider.title for name in providers)
    if not providers or (known and not number):
        return ""
    count = f"{number} more models" if known else "More models"
    return f'{count} in the live catalogues of {titles}: a query finds them, such as query="background".'


def _price_text(price: Price) -> str | None:
    """Return a price of several parts in words: "$0.02 an image up to 2.6 MP, $0.035 above, $0.008 a reference"."""
    if not (price.above or price.usd_per_reference or price.usd_per_megapixel or price.usd_per_request):
        return None
    bounds = [f"up to {area / 1e6:.1f} MP" for area, _ in price.above] + (["above"] if price.above else [])
    each = [errors.format_usd(usd) for usd in (price.usd_per_image, *(usd for _, usd in price.above))]
    parts = [f"${each[0]} an image {bounds[0]}" if bounds else f"${each[0]} an image"]
    parts += [f"${usd} {bound}" for usd, bound in zip(each[1:], bounds[1:], strict=True)]
    if price.usd_per_megapixel:
        parts = [*(parts if price.usd_per_image else []), f"${errors.format_usd(price.usd_per_megapixel)} a megapixel"]
    if price.usd_per_request:
        parts.append(f"${errors.format_usd(price.usd_per_request)} a request")
    if price.usd_per_reference:
        free = {0: "", 1: " after the first"}.get(price.free_references, f" after the first {price.free_references}")
        parts.append(f"${errors.format_usd(price.usd_per_reference)} a reference{free}")
    return ", ".join(parts)


def _lifecycle(lifecycle: Lifecycle, *, retired: bool) -> str:
    days = {
        "released": lifecycle.released,
        "deprecated": lifecycle.deprecated,
        "retired" if retired else "retires": lifecycle.retired,
    }
    text = ", ".join(f"{word} {day}" for word, day in days.items() if day)
    return f"{text} ({lifecycle.source})" if text and lifecycle.source else text
