"""Make the body of a request for an offer from a live catalogue.

Several providers share this file, so it knows none of them.
"""

from __future__ import annotations

from typing import Any

from triptych.core.models import ProviderRequest
from triptych.providers import _offers as offering
from triptych.providers import _reading as read


def body(edit: ProviderRequest) -> dict[str, Any]:
    """Return the model's own fields and no others; the model's id only if its schema requires it.

    `edit.offer.live` must be set. Raises: `errors.OutOfLimits` for a size that is not among the offer's.
    """
    offer, live = edit.offer, edit.offer.live
    assert live is not None
    made: dict[str, Any] = dict(live.constants)
    if live.prompt:
        made[live.prompt] = edit.prompt
    if offer.operation.edits and live.images:
        made[live.images] = [read.reference_uri(reference) for reference in edit.references]
    elif offer.operation.edits and live.image:
        made[live.image] = read.reference_uri(edit.references[0])
    if live.count:
        made[live.count] = edit.count
    if edit.size:
        made |= _size(edit)
    if live.format and edit.format:
        made[live.format] = live.formats[edit.format]
    offering.set_params(made, edit)
    return made


def _size(edit: ProviderRequest) -> dict[str, Any]:
    """Return a size in pixels as the model's fields."""
    offer, live, size = edit.offer, edit.offer.live, edit.size
    assert live is not None
    assert size is not None
    width, height = size
    if live.size:
        return {live.size: f"{width}{live.size_separator}{height}"}
    if live.width and live.height:
        return {live.width: width, live.height: height}
    if not (live.ratio or live.tier):
        return {}
    ratio, word = offering.ratio_and_tier(offer, size)
    return {
        **({live.ratio: ratio} if live.ratio else {}),
        **({live.tier: live.tiers[word]} if live.tier else {}),
    }
