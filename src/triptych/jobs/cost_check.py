"""Checks the price of a plan against the cap of its call, the budget and the confirmation."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from triptych import catalog
from triptych.core import errors
from triptych.core.errors import format_usd
from triptych.core.models import Route
from triptych.core.offers import Quote
from triptych.jobs.planning import Plan
from triptych.storage.budget import Budget

MOST_COUNTS = 3
"""The most folders that a question about the cost names."""


def with_quotes(plan: Plan, quotes: tuple[Quote, ...]) -> Plan:
    """Return the plan with the provider's quotes, and a warning if they are an estimate.

    Raises: `errors.OutOfLimits` if the price is unknown and the provider did not quote it.
    """
    price, name = plan.offer.price, f"{plan.offer.family} on {plan.offer.provider}"
    later = tuple(
        quote if listed.usd == listed_later.usd else listed_later
        for quote, listed, listed_later in zip(quotes, plan.quotes, plan.later_quotes, strict=True)
    )
    plan = replace(plan, quotes=quotes, later_quotes=later)
    if all(quote.exact for quote in quotes):
        return plan
    if price.unknown:
        raise errors.OutOfLimits(
            f"{name} has no published price, and the provider quoted none: nothing was sent. Try again later, or "
            "use a model that list_models shows with a price."
        )
    if not (plan.offer.live or price.usd_per_megapixel):
        return plan
    estimate = f"The quote of {name} is an estimate from {price.source} ({price.as_of}); the charge may differ."
    return replace(plan, warnings=(*plan.warnings, estimate))


def drop_expensive_routes(plan: Plan, limit_usd: Decimal) -> Plan:
    """Return the plan without the routes above a cost."""

    def cost_usd(route: Route) -> Decimal:
        return sum(
            (route.usd(lane, is_first=step == plan.request.first_step(lane)) for lane, step in plan.request.places()),
            Decimal(0),
        )

    return replace(plan, routes=tuple(route for route in plan.routes if cost_usd(route) <= limit_usd))


def check_cost(
    plan: Plan,
    max_cost_usd: Decimal | None,
    confirm_usd: Decimal,
    balance: Budget,
    *,
    asks: bool = False,
    agreed_usd: Decimal | None = None,
) -> Plan:
    """Return the plan with the routes within the confirmed cost.

    A quote above `confirm_usd` needs a confirmation: the user's yes to `agreed_usd` if the user can be asked (`asks`),
    otherwise `max_cost_usd`.
    Raises: `errors.OverBudget` for a quote above the cap, above the budget, or not confirmed; checked in that order.
    """
    asked = format_usd(plan.quoted_usd)
    most = catalog.most_images(plan.offer, plan.request) * plan.requests
    images = "1 image" if most == 1 else f"{most} images" if most == plan.requested else f"up to {most} layers"
    counts = f", {', '.join(plan.counts[:MOST_COUNTS])}" if plan.counts else ""
    what = f"{images}, {plan.offer.family} on {plan.offer.provider}{counts}"
    if max_cost_usd is not None and plan.quoted_usd > max_cost_usd:
        raise errors.OverBudget(
            f"The quote for {what} is above the cap of this call: cap ${format_usd(max_cost_usd)} (max_cost_usd), "
            f"quoted ${asked}; all calls together: {balance.text()}. Nothing was sent. "
            f"Ask for fewer images, or call again with max_cost_usd={asked}."
        )
    balance.require(plan.quoted_usd)
    confirmed_usd = (agreed_usd if asks else max_cost_usd) or Decimal(0)
    if plan.quoted_usd > max(confirmed_usd, confirm_usd):
        question, cap = f"This will cost ${asked}: {what}.", format_usd(confirm_usd)
        if asks:  # no amount in the message: an assistant could repeat the call with it, without the user's yes
            raise errors.OverBudget(
                f"The quote for {what} needs the user's confirmation, as it is above ${cap} (TRIPTYCH_CONFIRM_USD "
                "in the server's environment). Nothing was sent. No argument of the call replaces that confirmation.",
                confirm_usd=Decimal(asked),
                question=question,
            )
        raise errors.OverBudget(
            f"The quote for {what} needs a confirmation, as it is above ${cap} (TRIPTYCH_CONFIRM_USD): quoted "
            f"${asked}; all calls together: {balance.text()}. Nothing was sent. If the user agrees, repeat the call "
            f"with max_cost_usd={asked}.",
            confirm_usd=Decimal(asked),
            question=question,
        )
    limit_usd = max(confirmed_usd or confirm_usd, plan.quoted_usd)
    return drop_expensive_routes(plan, limit_usd if max_cost_usd is None else min(limit_usd, max_cost_usd))
