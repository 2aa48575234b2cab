"""Find a lost submit in a provider's list of predictions.

Rules: an entry is ours if it shows our request; time alone never decides. None, "not accepted", lets the request be
sent again: it is returned only if no entry can be ours and the list was read far enough. All else is `errors.Unclear`.
Several providers share this file, so it knows none of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from triptych.core import errors
from triptych.core.models import Pending
from triptych.providers import Flow, HttpResponse, SubmitTimes
from triptych.providers import _reading as read

PAGES = 3
"""The most pages of a list that are read."""
SKEW_S = 120.0
"""How long before its submit a prediction may seem to be created: clocks and network delays differ."""
LATEST_S = 900.0
"""How long after its submit a prediction may be created."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One prediction of a list: its ticket, its creation time (UTC seconds), and whether it is the same request.

    `ticket` and `at_s` are None if they cannot be read, `same` if the list does not show it.
    """

    ticket: str | None
    at_s: float | None
    same: bool | None


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of a list, its response, and the number of entries in the whole list, None if unknown."""

    response: HttpResponse
    entries: Sequence[Entry]
    total: int | None = None


def search(
    read_page: Callable[[int], Flow[ListPage]],
    sent: SubmitTimes,
    known: frozenset[str],
    *,
    page_items: int,
    kept_s: float,
) -> Flow[Pending | None]:
    """Return the prediction of a lost submit, or None if the submit surely was not accepted.

    `read_page` reads the page of that number (from 1), newest entries first. `known` are tickets of other predictions.
    The list keeps an entry for at least `kept_s`. If several entries show our request, the first after the submit is
    returned.
    Raises: `errors.Unclear` if the list does not decide it; the errors of `read_page`.
    """
    matches: list[tuple[float, str]] = []
    seen: set[str] = set()
    totals: set[int | None] = set()
    ambiguous = changed = complete = False
    for number in range(1, PAGES + 1):
        page = yield from read_page(number)
        sent_s = read.sent_s(sent, page.response)
        # Two possible send times: the machine may have slept since.
        left_s = (sent_s, sent_s - sent.slept_s)
        for entry in page.entries:
            changed = changed or entry.ticket in seen
            seen |= {entry.ticket} if entry.ticket else set()
            if entry.same is False or entry.ticket in known:
                continue
            ages_s = [entry.at_s - one for one in left_s] if entry.at_s is not None else []
            plausible = [age for age in ages_s if -SKEW_S <= age <= LATEST_S]
            if entry.same and plausible and entry.ticket:
                matches.append((plausible[0], entry.ticket))
            else:
                between = not ages_s or (ages_s[0] <= LATEST_S and ages_s[1] >= -SKEW_S)
                ambiguous = ambiguous or bool(entry.same) or between
        totals.add(page.total)
        if _is_last(page, number * page_items) or _reaches_back(page.entries, left_s[1] - SKEW_S):
            complete = True
            break
    if matches:
        return Pending(_likeliest(matches))
    if ambiguous:
        raise errors.Unclear("An entry in the provider's list may be this request or another one.")
    if not complete:
        raise errors.Unclear("The provider's list is longer than the part that is read.")
    if changed or len(totals) > 1:
        raise errors.Unclear("The provider's list changed while it was read.")
    if sent.oldest_s > kept_s:
        raise errors.Unclear("The provider's list may no longer reach back to the request.")
    return None


def _is_last(page: ListPage, read_items: int) -> bool:
    """Return whether the list ends with this page. A short page is no proof: the provider may have shortened it."""
    return read_items >= page.total if page.total is not None else not page.entries


def _reaches_back(entries: Sequence[Entry], since_s: float) -> bool:
    """Return whether a page ends before a time. Only a page in order counts."""
    times = [entry.at_s for entry in entries if entry.at_s is not None]
    return bool(times) and times == sorted(times, reverse=True) and times[-1] < since_s


def _likeliest(found: Sequence[tuple[float, str]]) -> str:
    """Return the ticket of the first entry after the submit (clocks may differ by 5 s), else of the last before it."""
    after = [entry for entry in found if entry[0] >= -5]
    return min(after)[1] if after else max(found)[1]


def entry(ticket: Any, created: Any, same: bool | None) -> Entry:
    """Return an entry from the id and the time in a list."""
    return Entry(ticket if read.is_ticket(ticket) else None, _moment_s(created), same)


def same_model(endpoint: str, model: Any) -> bool | None:
    """Return False for another model's name, and None for ours or none: the model alone does not identify a request."""
    return False if isinstance(model, str) and model != endpoint else None


def same_request(sent: Mapping[str, Any], shown: Any) -> bool | None:
    """Return whether a list shows the request that we sent. Fields that we did not send do not count.

    None if it does not show that: it shows no request, omits a field that we sent, or has as many images under other
    URLs (a provider may copy them).
    """
    if not isinstance(shown, dict):
        return None
    names = {"images", *(name for name, value in sent.items() if name not in ("image", "prompt") and _are_urls(value))}
    (ours, our_images), (theirs, their_images) = _comparable(sent, names), _comparable(shown, names)
    if any(name in theirs and theirs[name] != value for name, value in ours.items()):
        return False
    if any(len(images) != len(our_images.get(name, ())) for name, images in their_images.items()):
        return False
    return True if ours.keys() <= theirs.keys() and their_images == our_images else None


def _comparable(body: Mapping[str, Any], images: Collection[str]) -> tuple[dict[str, str], dict[str, tuple[Any, ...]]]:
    """Return a body's fields in one spelling, and separately those that are images; without the model."""
    fields, pictures = {}, {}
    for name, value in body.items():
        if name == "model" or value is None:
            continue
        if _spelled_name(name) not in images:
            fields[name] = _spelled(name, value)
        elif value:
            pictures[_spelled_name(name)] = tuple(value) if isinstance(value, list) else (value,)
    return fields, pictures


def _spelled_name(name: str) -> str:
    """Return a field's name; `image` and `images` are the same field."""
    return "images" if name == "image" else name


def _are_urls(value: Any) -> bool:
    """Return whether a value is an image, or several: URLs or data URIs."""
    texts = value if isinstance(value, list) else [value]
    return bool(texts) and all(isinstance(one, str) and re.match(r"https?://|data:", one) for one in texts)


def _spelled(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value.replace("x", "*") if name == "size" else " ".join(value.split())
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True)


def _moment_s(created: Any) -> float | None:
    """Return a list's time in UTC seconds: from a number of seconds, or ISO 8601 (UTC without a zone)."""
    if isinstance(created, str) and not created.replace(".", "", 1).isdecimal():
        try:
            moment = datetime.fromisoformat(created) if len(created) <= 60 else None
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() if moment else None
        except (ValueError, OverflowError):
            return None
    seconds = read.decimal(created)
    return float(seconds) if seconds else None
