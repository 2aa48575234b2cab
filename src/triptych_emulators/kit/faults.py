"""Faults of an emulated API, as data, and the four ways to inject one.

A fault is injected by a test (`Emulator.fault`), over HTTP (`POST /_emulator/faults`), or by the prompt itself:

    a red kite over dunes [[emulate: 429 retry_after=2, poll/html-502 times=3, fewer]]

or at random (`Emulator.chance`): a share of all requests then fails, in any of the declared ways.

Rules: an operation and a name identify a fault, and an emulator declares all of its faults in one tuple. A directive
without an operation means the first of submit, poll and result that has the name. A directive that spoils the submit
itself counts per identical request, so the repeated request goes through. Directives never reach the pixels. This
module has no HTTP.
"""

from __future__ import annotations

import random
import re
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Reach = Literal["before", "after", "job"]
"""`before`: the request is not handled, nothing is accepted. `after`: the request is handled, then its response is
spoiled. `job`: the job itself changes, for every later response."""


@dataclass(frozen=True)
class JobFailure:
    """The end of a failed job: the provider's message, its error number and the status word."""

    message: str
    code: int | None = None
    status: str = "failed"


@dataclass(frozen=True)
class FaultType:
    """One way in which an operation can go wrong; `options` are the names that it takes, with their defaults."""

    op: str
    name: str
    about: str
    reach: Reach = "before"
    options: Mapping[str, Any] = field(default_factory=dict)
    fails: JobFailure | None = None
    refuses: int | None = None
    """The HTTP status of an error in the provider's own shape; it gets the fault's name and options."""


@dataclass
class ActiveFault:
    """A fault that waits for a request; `times` counts down, None means always."""

    type: FaultType
    options: dict[str, Any]
    times: int | None = 1

    def use(self) -> bool:
        """Count one use; return True when none is left."""
        if self.times is None:
            return False
        self.times -= 1
        return self.times <= 0


class BadDirective(ValueError):
    """An unknown fault or option; the message lists the known ones."""


STATUSES: Mapping[int, str] = {
    401: "the key is not accepted",
    402: "the balance is too low",
    403: "the key may not do this",
    404: "there is no such thing here",
    413: "the body is too large",
    429: "too many requests; option retry_after adds the header (seconds)",
    451: "not offered in this region",
    500: "the provider fails, with its own error shape",
    503: "the provider is overloaded",
    504: "the provider's own upstream took too long",
}
"""HTTP statuses that any operation can return, in the provider's own error shape."""

_ACCEPTED = {"accepted": False}


def for_every_op(ops: Iterable[str]) -> tuple[FaultType, ...]:
    """Return the faults of any HTTP operation; option `accepted` handles the request before its response is spoiled."""
    types: list[FaultType] = []
    for op in ops:
        for status, about in STATUSES.items():
            extra = {"retry_after": None} if status == 429 else {}
            types.append(FaultType(op, str(status), f"HTTP {status}: {about}", options={**_ACCEPTED, **extra}))
        types += [
            FaultType(op, "html-502", "HTTP 502 with a gateway's HTML page", options=_ACCEPTED),
            FaultType(op, "broken-json", "HTTP 200 whose JSON stops in the middle; the work is done", "after"),
            FaultType(op, "empty-body", "HTTP 200 with an empty body; the work is done", "after"),
            FaultType(op, "drop", "the connection closes without a response; nothing was accepted", options=_ACCEPTED),
            FaultType(op, "lost-answer", "the work is done, then the connection closes without a response", "after"),
            FaultType(
                op,
                "hang",
                "no response until the caller gives up, or for `seconds`; then the connection closes",
                options={**_ACCEPTED, "seconds": 3600.0},
            ),
            FaultType(op, "code-500-null", 'HTTP 200 whose body is {"code":500,"data":null}', options=_ACCEPTED),
        ]
    return tuple(types)


def for_results(op: str = "result") -> tuple[FaultType, ...]:
    """Return the faults of a download of a result file, besides those of every operation."""
    return (
        FaultType(op, "410", "HTTP 410: the file has expired"),
        FaultType(op, "truncated", "the connection closes after half of the promised bytes", "after"),
        FaultType(op, "not-an-image", "HTTP 200 and image/png, but the bytes are a text", "after"),
        FaultType(op, "redirect", "HTTP 302 to the same file on the same origin; option `to` redirects elsewhere"),
        FaultType(op, "slow", "the bytes come in four pieces, `seconds` in all", "after", options={"seconds": 2.0}),
    )


def for_jobs(name: str, about: str, fails: JobFailure | None = None, **options: Any) -> FaultType:
    """Return a fault of the job itself, which every poll shows; with `fails` the job ends so."""
    return FaultType("poll", name, about, "job", options, fails)


def refusals(table: Iterable[tuple[str, int, str, str]]) -> tuple[FaultType, ...]:
    """Return the faults of a table of refused submits: name, HTTP status, the provider's code, reason."""
    return tuple(
        FaultType("submit", name, f"HTTP {status} {code}: {why}", options={"retry_after": None}, refuses=status)
        for name, status, code, why in table
    )


_DIRECTIVE = re.compile(r"\[\[\s*emulate:([^\]]*)\]\]", re.IGNORECASE)
_OPS_OF_BARE_NAMES = ("submit", "poll", "result")


def without_directives(prompt: str) -> str:
    """Return the prompt that the model receives."""
    return " ".join(_DIRECTIVE.sub(" ", prompt).split())


class RandomFaults:
    """Random faults: a share of each operation's requests gets one of its faults, each with the same probability.

    The n-th request of an operation gets the same fault for the same seed. A fault that changes a job for good is drawn
    at its submit, so that no job changes after its end was reported. A fault in `but` is never drawn.
    """

    def __init__(self, known: Iterable[FaultType], share: float, seed: int, but: Collection[str]) -> None:
        self._share = share
        self._seed = seed
        self._count: Counter[str] = Counter()
        self._possible: dict[str, list[FaultType]] = {}
        for fault in known:
            if fault.name not in but:
                op = "submit" if fault.op == "poll" and fault.reach == "job" else fault.op
                self._possible.setdefault(op, []).append(fault)

    def draw(self, op: str) -> ActiveFault | None:
        """Return the fault for the next request of an operation, or None."""
        self._count[op] += 1
        chance = random.Random(f"{self._seed}:{op}:{self._count[op]}")  # noqa: S311 - not a secret
        if op not in self._possible or chance.random() >= self._share:
            return None
        fault = chance.choice(self._possible[op])
        options = dict(fault.options)
        if "seconds" in options:
            options["seconds"] = chance.uniform(0.1, 1.5)
        if "accepted" in options:
            options["accepted"] = fault.name in MAY_HAVE_BEEN_ACCEPTED and chance.random() < 0.5
        return ActiveFault(fault, options)


MAY_HAVE_BEEN_ACCEPTED = frozenset({"500", "504", "html-502", "hang", "code-500-null"})
"""Responses that leave open whether the request was accepted. A clear refusal of an accepted request would make any
client pay twice."""


class FaultInjector:
    """The faults of an emulator, and those that wait for a request, first in first out per operation."""

    def __init__(self, known: Sequence[FaultType]) -> None:
        self.known = {(fault.op, fault.name): fault for fault in known}
        self._queues: dict[str, list[ActiveFault]] = {}
        self._met: dict[tuple[str, str, str], int] = {}
        self._random: RandomFaults | None = None
        self._lock = threading.Lock()

    def inject_randomly(self, share: float, seed: int, but: Collection[str]) -> None:
        """Spoil a share of all requests from now on."""
        self._random = RandomFaults(self.known.values(), share, seed, but)

    def queue(self, op: str, name: str, times: int | None = 1, **options: Any) -> None:
        """Queue a fault for the next `times` requests of an operation (None: for all)."""
        active = self.find(op, name, times, options)
        with self._lock:
            self._queues.setdefault(op, []).append(active)

    def find(self, op: str | None, name: str, times: int | None, options: Mapping[str, Any]) -> ActiveFault:
        """Return the fault with its options; raise BadDirective when it or an option is unknown."""
        for candidate in (op,) if op else _OPS_OF_BARE_NAMES:
            fault = self.known.get((candidate, name))
            if fault is None:
                continue
            if unknown := sorted(set(options) - set(fault.options) - ({"to"} if name == "redirect" else set())):
                known = ", ".join(fault.options) or "none"
                raise BadDirective(f"{candidate}/{name} has no option {unknown[0]!r}; it has: {known}")
            return ActiveFault(fault, {**fault.options, **options}, times)
        names = sorted({known for _, known in self.known if op in (None, _)})
        raise BadDirective(f"no fault {name!r} for {op or 'any operation'}; there are: {', '.join(names) or 'none'}")

    def take(self, op: str) -> ActiveFault | None:
        """Return the fault for this request of an operation, or None."""
        with self._lock:
            if queue := self._queues.get(op):
                return take_first(queue, op)
            return self._random.draw(op) if self._random else None

    def applies(self, active: ActiveFault, request_digest: str) -> bool:
        """Whether a directive still spoils this request: it does so `times` times per identical request."""
        key = (active.type.op, active.type.name, request_digest)
        with self._lock:
            self._met[key] = self._met.get(key, 0) + 1
            return active.times is None or self._met[key] <= active.times

    def clear(self) -> None:
        """Forget all queued, random and counted faults."""
        with self._lock:
            self._queues.clear()
            self._met.clear()
            self._random = None

    def directives(self, text: str) -> Iterator[ActiveFault]:
        """Yield the faults of the directives in a text, in order; raise BadDirective for an unknown one."""
        for found in _DIRECTIVE.finditer(text):
            for item in found[1].split(","):
                name, *settings = item.split() or [""]
                op, _, bare = name.rpartition("/")
                options = {key: _value(value) for key, _, value in (s.partition("=") for s in settings)}
                times = options.pop("times", 1)
                yield self.find(op or None, bare, times if isinstance(times, int) else None, options)


def take_first(queue: list[ActiveFault], op: str) -> ActiveFault | None:
    """Return the first fault of an operation in a queue, or None; a used-up fault leaves the queue."""
    for index, active in enumerate(queue):
        if active.type.op == op:
            if active.use():
                queue.pop(index)
            return active
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
