"""What can go wrong, as data, and the four ways of asking for it.

A fault is asked for by a test (`Emulator.fault`), over HTTP (`POST /_emulator/faults`), or by the prompt itself:

    a red kite over dunes [[emulate: 429 retry_after=2, poll/html-502 times=3, fewer]]

or it is left to chance (`Emulator.chance`): a share of all requests then goes wrong, in any way there is.

Rules: a fault is known by its operation and name, and an emulator declares all of its faults in one tuple. A directive
without an operation means the first one of submit, poll, result that knows the name. A directive that spoils the
submit itself counts per identical request, so the same request sent again goes through. Directives never reach the
pixels. This module knows no HTTP.
"""

from __future__ import annotations

import random
import re
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Reach = Literal["before", "after", "work"]
"""`before`: the request is not looked at, nothing is accepted. `after`: the work is done, then the answer is spoiled.
`work`: the job itself is changed, and stays so for every later answer."""


@dataclass(frozen=True)
class Failure:
    """How a job ends badly: what the provider says, its own number for it, and the status word."""

    message: str
    code: int | None = None
    status: str = "failed"


@dataclass(frozen=True)
class Fault:
    """One way an operation can go wrong; `options` are the names it understands, with their defaults."""

    op: str
    name: str
    about: str
    reach: Reach = "before"
    options: Mapping[str, Any] = field(default_factory=dict)
    fails: Failure | None = None
    refuses: int | None = None
    """The HTTP status of an error in the provider's own shape, which is told the fault's name and options."""


@dataclass
class Armed:
    """A fault that waits for its moment; `times` counts down, None means always."""

    fault: Fault
    options: dict[str, Any]
    times: int | None = 1

    def spend(self) -> bool:
        """Count one use; return True when none is left."""
        if self.times is None:
            return False
        self.times -= 1
        return self.times <= 0


class BadDirective(ValueError):
    """No such fault, or an option it does not understand; the message says what there is."""


STATUSES: Mapping[int, str] = {
    401: "the key is not accepted",
    402: "the balance is too low",
    403: "the key may not do this",
    404: "there is no such thing here",
    413: "the body is too large",
    429: "too many requests; option retry_after adds the header (seconds)",
    451: "not offered in this region",
    500: "the provider broke, and says so in its own error shape",
    503: "the provider is overloaded",
    504: "the provider's own upstream took too long",
}
"""HTTP statuses that any operation can answer with, in the provider's own error shape."""

_WHEN = {"accepted": False}


def for_every_op(ops: Iterable[str]) -> tuple[Fault, ...]:
    """Return the faults any HTTP operation can have; option `accepted` does the work before spoiling the answer."""
    made: list[Fault] = []
    for op in ops:
        for status, about in STATUSES.items():
            extra = {"retry_after": None} if status == 429 else {}
            made.append(Fault(op, str(status), f"HTTP {status}: {about}", options={**_WHEN, **extra}))
        made += [
            Fault(op, "html-502", "HTTP 502 with a gateway's HTML page", options=_WHEN),
            Fault(op, "broken-json", "HTTP 200 whose JSON stops in the middle; the work is done", "after"),
            Fault(op, "empty-body", "HTTP 200 with nothing in it; the work is done", "after"),
            Fault(op, "drop", "the connection closes without an answer; nothing was accepted", options=_WHEN),
            Fault(op, "lost-answer", "the work is done, then the connection closes without an answer", "after"),
            Fault(
                op,
                "hang",
                "no answer until the caller gives up, or for `seconds`; then the connection closes",
                options={**_WHEN, "seconds": 3600.0},
            ),
            Fault(op, "code-500-null", 'HTTP 200 whose body says {"code":500,"data":null}', options=_WHEN),
        ]
    return tuple(made)


def for_results(op: str = "result") -> tuple[Fault, ...]:
    """Return the faults of downloading a result file, on top of those of every operation."""
    return (
        Fault(op, "410", "HTTP 410: the file has expired"),
        Fault(op, "truncated", "the connection closes after half of the promised bytes", "after"),
        Fault(op, "not-an-image", "HTTP 200 and image/png, but the bytes are a text", "after"),
        Fault(op, "redirect", "HTTP 302 to the same file on the same origin; option `to` redirects elsewhere"),
        Fault(op, "slow", "the bytes come in four pieces, `seconds` in all", "after", options={"seconds": 2.0}),
    )


_DIRECTIVE = re.compile(r"\[\[\s*emulate:([^\]]*)\]\]", re.IGNORECASE)
_BARE_NAME_OPS = ("submit", "poll", "result")


def without_directives(prompt: str) -> str:
    """Return the prompt as the model shall see it."""
    return " ".join(_DIRECTIVE.sub(" ", prompt).split())


class Chance:
    """Faults drawn by lot: a share of each operation's requests meets one of its faults, each as likely as any other.

    The n-th request of an operation meets the same fault for the same seed. What changes a job for good is drawn when
    it is submitted, so that no job changes once its end was told. A fault in `but` is never drawn.
    """

    def __init__(self, known: Iterable[Fault], share: float, seed: int, but: Collection[str]) -> None:
        self._share = share
        self._seed = seed
        self._drawn: Counter[str] = Counter()
        self._possible: dict[str, list[Fault]] = {}
        for fault in known:
            if fault.name not in but:
                op = "submit" if fault.op == "poll" and fault.reach == "work" else fault.op
                self._possible.setdefault(op, []).append(fault)

    def draw(self, op: str) -> Armed | None:
        """Return the fault for the next request of an operation, if it is to have one."""
        self._drawn[op] += 1
        lot = random.Random(f"{self._seed}:{op}:{self._drawn[op]}")  # noqa: S311 - a rehearsal, not a secret
        if op not in self._possible or lot.random() >= self._share:
            return None
        fault = lot.choice(self._possible[op])
        options = dict(fault.options)
        if "seconds" in options:
            options["seconds"] = lot.uniform(0.1, 1.5)
        if "accepted" in options:
            options["accepted"] = fault.name in MAY_HAVE_BEEN_ACCEPTED and lot.random() < 0.5
        return Armed(fault, options)


MAY_HAVE_BEEN_ACCEPTED = frozenset({"500", "504", "html-502", "hang", "code-500-null"})
"""Answers that leave open what became of a request. One that surely refuses it, and takes it all the same, would be
paid twice by anybody."""


class Board:
    """The faults an emulator knows, and those that wait for their moment, first in first out per operation."""

    def __init__(self, known: Sequence[Fault]) -> None:
        self.known = {(fault.op, fault.name): fault for fault in known}
        self._waiting: dict[str, list[Armed]] = {}
        self._met: dict[tuple[str, str, str], int] = {}
        self._chance: Chance | None = None
        self._lock = threading.Lock()

    def leave_to_chance(self, share: float, seed: int, but: Collection[str]) -> None:
        """Let a share of all requests go wrong from now on."""
        self._chance = Chance(self.known.values(), share, seed, but)

    def arm(self, op: str, name: str, times: int | None = 1, **options: Any) -> None:
        """Queue a fault for the next `times` requests of an operation (None: for all)."""
        armed = self.find(op, name, times, options)
        with self._lock:
            self._waiting.setdefault(op, []).append(armed)

    def find(self, op: str | None, name: str, times: int | None, options: Mapping[str, Any]) -> Armed:
        """Return the fault ready to be used; raise BadDirective when it or an option is unknown."""
        for candidate in (op,) if op else _BARE_NAME_OPS:
            fault = self.known.get((candidate, name))
            if fault is None:
                continue
            if unknown := sorted(set(options) - set(fault.options) - ({"to"} if name == "redirect" else set())):
                known = ", ".join(fault.options) or "none"
                raise BadDirective(f"{candidate}/{name} has no option {unknown[0]!r}; it has: {known}")
            return Armed(fault, {**fault.options, **options}, times)
        names = sorted({known for _, known in self.known if op in (None, _)})
        raise BadDirective(f"no fault {name!r} for {op or 'any operation'}; there are: {', '.join(names) or 'none'}")

    def take(self, op: str) -> Armed | None:
        """Return the fault for this request of an operation, if one waits."""
        with self._lock:
            if waiting := self._waiting.get(op):
                return _first(waiting)
            return self._chance.draw(op) if self._chance else None

    def meet(self, armed: Armed, request_digest: str) -> bool:
        """Tell whether a directive still spoils this request: it does so `times` times per identical request."""
        key = (armed.fault.op, armed.fault.name, request_digest)
        with self._lock:
            self._met[key] = self._met.get(key, 0) + 1
            return armed.times is None or self._met[key] <= armed.times

    def clear(self) -> None:
        """Forget everything that was asked for."""
        with self._lock:
            self._waiting.clear()
            self._met.clear()
            self._chance = None

    def directives(self, text: str) -> Iterator[Armed]:
        """Yield what the directives in a request's text ask for, in order; raise BadDirective for an unknown one."""
        for found in _DIRECTIVE.finditer(text):
            for item in found[1].split(","):
                name, *settings = item.split() or [""]
                op, _, bare = name.rpartition("/")
                options = {key: _value(value) for key, _, value in (s.partition("=") for s in settings)}
                times = options.pop("times", 1)
                yield self.find(op or None, bare, times if isinstance(times, int) else None, options)


def _first(waiting: list[Armed]) -> Armed:
    armed = waiting[0]
    if armed.spend():
        waiting.pop(0)
    return armed


def take_own(waiting: list[Armed], op: str) -> Armed | None:
    """Return a job's own fault for an operation, if its prompt asked for one."""
    for index, armed in enumerate(waiting):
        if armed.fault.op == op:
            if armed.spend():
                waiting.pop(index)
            return armed
    return None


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
