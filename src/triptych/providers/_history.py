"""Look for a lost submit in a provider's list of predictions.

Rules: an entry is ours when it shows our request; time alone never decides. "It is not there" (None) is said only when
nothing in the list can be ours and the list was read far enough: that answer lets a request be sent once more. All else
is `errors.Unclear`. Several providers share this file, so it knows none of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from triptych.core import errors
from triptych.core.models import Pending
from triptych.providers import Flow, HttpResponse, Sent
from triptych.providers import _reading as read

PAGES = 3
"""So many pages of a list are read at most."""
SKEW_S = 120.0
"""How long before its submit a prediction may seem to be made: clocks differ, and so do answers' ways."""
LATEST_S = 900.0
"""How long after its submit a prediction may be made."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One prediction of a list: its ticket, when it was made (UTC seconds), and whether it is the same request.

    `ticket` and `at_s` are None where they cannot be read, `same` where the list does not tell.
    """

    ticket: str | None
    at_s: float | None
    same: bool | None


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list, the answer it came in, and how many entries the whole list has, if that is said."""

    answer: HttpResponse
    entries: Sequence[Entry]
    total: int | None = None


def look(
    page: Callable[[int], Flow[Page]], sent: Sent, known: frozenset[str], *, page_items: int, kept_s: float
) -> Flow[Pending | None]:
    """Return the prediction that a lost submit became, or None where it surely was not accepted.

    `page` reads the list's page of that number (from 1), newest entries first; `known` are tickets that belong to other
    predictions; `kept_s` is for how long the list surely keeps an entry. Of several that show our request, the first
    after the submit is taken.
    Raises: `errors.Unclear` where the list does not tell; what `page` raises.
    """
    ours: list[tuple[float, str]] = []
    seen: set[str] = set()
    totals: set[int | None] = set()
    maybe = moved = whole = False
    for number in range(1, PAGES + 1):
        told = yield from page(number)
        sent_s = read.sent_s(sent, told.answer)
        # Two times that it may have left: the machine may have slept since.
        left_s = (sent_s, sent_s - sent.slept_s)
        for entry in told.entries:
            moved = moved or entry.ticket in seen
            seen |= {entry.ticket} if entry.ticket else set()
            if entry.same is False or entry.ticket in known:
                continue
            late_s = [entry.at_s - one for one in left_s] if entry.at_s is not None else []
            timely = [late for late in late_s if -SKEW_S <= late <= LATEST_S]
            if entry.same and timely and entry.ticket:
                ours.append((timely[0], entry.ticket))
            else:
                between = not late_s or (late_s[0] <= LATEST_S and late_s[1] >= -SKEW_S)
                maybe = maybe or bool(entry.same) or between
        totals.add(told.total)
        if _is_last(told, number * page_items) or _reaches_back(told.entries, left_s[1] - SKEW_S):
            whole = True
            break
    if ours:
        return Pending(_likeliest(ours))
    if maybe:
        raise errors.Unclear("An entry in the provider's list may be this request or another one.")
    if not whole:
        raise errors.Unclear("The provider's list is longer than the part that is read.")
    if moved or len(totals) > 1:
        raise errors.Unclear("The provider's list changed while it was read.")
    if sent.oldest_s > kept_s:
        raise errors.Unclear("The provider's list may no longer reach back to the request.")
    return None


def _is_last(page: Page, read_items: int) -> bool:
    """Return whether the list ends with this page; a short page may be one that the provider made shorter."""
    return read_items >= page.total if page.total is not None else not page.entries


def _reaches_back(entries: Sequence[Entry], since_s: float) -> bool:
    """Return whether a page ends before a time; it has to be in order, or what is older says nothing of the rest."""
    times = [entry.at_s for entry in entries if entry.at_s is not None]
    return bool(times) and times == sorted(times, reverse=True) and times[-1] < since_s


def _likeliest(found: Sequence[tuple[float, str]]) -> str:
    """Return the ticket of the first one after the submit (clocks may differ by 5 s), else of the last before it."""
    after = [entry for entry in found if entry[0] >= -5]
    return min(after)[1] if after else max(found)[1]


def entry(ticket: Any, made: Any, same: bool | None) -> Entry:
    """Return an entry from what a list gives as its id and its time."""
    return Entry(ticket if read.is_ticket(ticket) else None, _moment_s(made), same)


def same_model(endpoint: str, model: Any) -> bool | None:
    """Return False for another model's name, and None for ours or none: a model alone is nobody's in particular."""
    return False if isinstance(model, str) and model != endpoint else None


def same_request(sent: Mapping[str, Any], shown: Any) -> bool | None:
    """Return whether a list shows the request that we sent; fields that we did not send do not count.

    None where it does not tell: it shows no request, leaves out a field that we sent, or has as many images under
    other addresses (a provider may copy what it is given).
    """
    if not isinstance(shown, dict):
        return None
    ours, theirs = _comparable(sent), _comparable(shown)
    our_images, their_images = ours.pop("images", ()), theirs.pop("images", None)
    if any(name in theirs and theirs[name] != value for name, value in ours.items()):
        return False
    if their_images is not None and len(their_images) != len(our_images):
        return False
    return True if ours.keys() <= theirs.keys() and (their_images or ()) == our_images else None


def _comparable(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that tell requests apart, spelled one way; `image` and `images` are one."""
    fields: dict[str, Any] = {
        name: _spelled(name, value)
        for name, value in body.items()
        if name not in ("model", "image", "images") and value is not None
    }
    images = body.get("images") or body.get("image")
    if images:
        fields["images"] = tuple(images if isinstance(images, list) else [images])
    return fields


def _spelled(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value.replace("x", "*") if name == "size" else " ".join(value.split())
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True)


def _moment_s(made: Any) -> float | None:
    """Return a list's time in UTC seconds: a number of seconds, or ISO 8601, which is UTC where it names no zone."""
    if isinstance(made, str) and not made.replace(".", "", 1).isdecimal():
        try:
            moment = datetime.fromisoformat(made) if len(made) <= 60 else None
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() if moment else None
        except (ValueError, OverflowError):
            return None
    seconds = read.decimal(made)
    return float(seconds) if seconds else None
