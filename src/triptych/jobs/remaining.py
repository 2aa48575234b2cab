"""Estimates how long a running job still takes, from its own finished requests. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from datetime import datetime

from triptych.storage.summaries import Pace

BASIS = 3
"""No estimate before so many requests have finished."""


def remaining_s(pace: Pace, now: datetime, began: datetime) -> int | None:
    """Return about how many seconds a job still takes, at least 1; None without a basis, or if nothing is left.

    The newest ends give the duration of a request, and how many run at once. The steps of a lane follow each other, so
    a few long lanes take longer than their number of requests. While no request ends in time, the estimate grows.
    `began` is when this process began: a pause before it does not count.
    """
    if not pace.left or len(pace.finished) < BASIS:
        return None
    ends = sorted(end for _, end in pace.finished)
    first, last = pace.first_at or ends[0], ends[-1]
    if first >= last:
        first = min(sent for sent, _ in pace.finished)
    stopped = max((end for end in (first, *ends) if end <= began), default=began)

    def seconds(start: datetime, end: datetime) -> float:
        """Return the seconds from start to end without those from the last end before this process until it began."""
        pause = (min(end, began) - max(start, stopped)).total_seconds()
        return max((end - start).total_seconds() - max(pause, 0.0), 0.0)

    inside = [(sent, end) for sent, end in pace.finished if end > first]
    took = [seconds(sent, end) for sent, end in inside]
    mean_s = max(sum(took) / len(took), 0.001)
    ages = [seconds(sent, now) for sent in pace.running]
    worked_s = sum(seconds(max(sent, first), end) for sent, end in inside)
    worked_s += sum(seconds(max(sent, first), last) for sent in pace.running if sent < last)
    at_once = max(worked_s / max(seconds(first, last), 0.001), 0.001)
    lanes = max(round(at_once), 1)
    # If a request already runs longer than the finished ones, those were the short ones.
    older = [age for age in ages if age > mean_s]
    slot_s = (sum(took) + sum(older)) / (len(took) + len(older)) * lanes / at_once
    late_s = max(seconds(last, now) - mean_s, 0.0)
    slot_s = max(slot_s, (mean_s + late_s * at_once / len(inside)) * lanes / at_once)
    slow_s = sorted(took)[len(took) * lanes // (lanes + 1)] * slot_s / mean_s  # the last to end is a slow one
    done_s = min(*ages, slow_s) if ages else 0.0
    return max(round((_steps_in_a_row(pace.left, lanes) - 1) * slot_s + slow_s - done_s), 1)


def _steps_in_a_row(left: Sequence[int], at_once: int) -> int:
    """Return how many requests follow each other at most, if lanes with so many left take turns in order."""
    if at_once >= len(left):
        return max(left)
    busy = [0] * at_once
    for steps in left:
        heapq.heapreplace(busy, busy[0] + steps)
    return max(busy)
