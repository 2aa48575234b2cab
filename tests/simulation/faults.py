"""What goes wrong, and when: every fault is drawn from the seed, has a name, and can be left out.

A seam asks `lot(family, point)` each time the program meets the world there. The answer depends on the seed, the point
and how often the point was met, and on nothing else: so leaving one fault out shifts no other draw. `spells` are
conditions that hold for a while (a full disk, a dead network), and events at a fixed time; they have names too.
"""

from __future__ import annotations

import errno
import random
import sqlite3
import ssl
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from simulation.extras import CHANGES
from simulation.themes import PLAIN, Theme

RATES: Mapping[str, tuple[float, ...]] = {
    "network": (0.0, 0.02, 0.08, 0.2),
    "provider": (0.0, 0.03, 0.1),
    "database": (0.0, 0.0005, 0.002, 0.01),
    "disk": (0.0, 0.01, 0.05),
    "import": (0.0, 0.0, 0.01),
    "kill": (0.0, 0.0, 0.0005, 0.003),
    "freeze": (0.0, 0.0, 0.0005, 0.003),
}
"""How likely each family is at each of its points; which of these holds in a world is drawn."""

LOST = (0.0, 0.0, 0.0, 0.002, 0.01, 0.05)
"""How likely the acknowledgement of a commit is lost, as that of a database on another machine can be."""

SPELLS: Mapping[str, tuple[float, float]] = {
    "database locked": (2, 60),
    "database full": (1, 40),
    "database read-only": (1, 40),
    "disk full": (1, 60),
    "out of descriptors": (1, 30),
    "provider down": (5, 240),
    "network down": (1, 60),
    "names do not resolve": (1, 60),
    "lists drip": (30, 240),
    "lists fail": (30, 300),
    "wall clock forward": (0, 0),
    "wall clock back": (0, 0),
    "machine suspended": (5, 4000),
    "machine suspended for days": (90_000, 300_000),
    "server frozen": (1, 150),
    "server killed": (0, 0),
    "server stopped": (0, 0),
    "power cut": (0, 0),
}
"""Conditions and events, with the range of how long they last in seconds."""


@dataclass(slots=True)
class Spell:
    """One condition from `begin_s` to `end_s` of true time; `of` is what it is about, where it is about one thing."""

    id: str
    kind: str
    begin_s: float
    end_s: float
    chance: random.Random
    of: str = ""
    met: Callable[[str], None] = lambda what: None
    """Told what met this condition."""

    def __str__(self) -> str:
        until = f" to {self.end_s:.0f} s" if self.end_s > self.begin_s else ""
        return f"{self.id}: {self.kind}{f' ({self.of})' if self.of else ''} at {self.begin_s:.1f}{until}"


class Faults:
    """The faults of one world, until `until_s`; with `only`, just those of these names."""

    def __init__(
        self,
        seed: str,
        until_s: float,
        *,
        servers: int,
        providers: Sequence[str],
        theme: Theme = PLAIN,
        only: Collection[str] | None = None,
        without: Collection[str] = (),
        catalogues: Sequence[str] = (),
    ) -> None:
        self.until_s = until_s
        self.struck: dict[str, str] = {}
        """The faults that happened, by name, with what they did."""
        self.kinds: Counter[str] = Counter()
        self._key = blake2b(seed.encode(), digest_size=32).digest()
        self._met: Counter[tuple[str, str]] = Counter()
        self._only = None if only is None else frozenset(only)
        self._without = frozenset(without)
        weather = random.Random(f"{seed}:weather")
        calm = weather.random() < 0.02
        self.rates = {family: 0.0 if calm else weather.choice(rates) for family, rates in RATES.items()}
        self.rates["acknowledgement"] = 0.0 if calm else random.Random(f"{seed}:acknowledgement").choice(LOST)
        for family in RATES:  # in many worlds few things go wrong, but often
            if weather.random() < 0.35:
                self.rates[family] = 0.0
        if not calm:
            self.rates |= {family: weather.choice(rates) for family, rates in theme.rates.items()}
        self.gentle = not (self.rates["kill"] or self.rates["freeze"])
        self.spells = [] if calm else self._planned(weather, until_s, servers, providers, theme)
        self.spells += self._changes(random.Random(f"{seed}:changes"), until_s, catalogues)

    def _planned(
        self, weather: random.Random, until_s: float, servers: int, providers: Sequence[str], theme: Theme
    ) -> list[Spell]:
        spells = []
        sure = list(theme.spells)
        for n in range(len(sure) + weather.choice((0, 0, 1, 1, 2, 3, 5))):
            chance = random.Random(weather.random())
            usual = (chance.choice(list(SPELLS)), 0.0, 0.8, 0.0)
            kind, first, last, least_s = sure[n] if n < len(sure) else usual
            low, high = SPELLS[kind]
            low = max(low, least_s)
            begin_s = chance.uniform(first * until_s + 0.5, last * until_s)
            lasts_s = low * (high / low) ** chance.random() if low else 0.0
            of = {
                "s": f"s{chance.randrange(servers) + 1}",
                "p": chance.choice(providers) if n >= len(sure) else providers[0],
            }
            spell = Spell(f"spell:{n}", kind, begin_s, begin_s + lasts_s, chance)
            if kind.startswith("server"):
                spell.of = of["s"]
            elif kind in ("provider down", "lists drip", "lists fail"):
                spell.of = of["p"]
            if self.allowed(spell.id):
                spells.append(spell)
        return spells

    def _changes(self, chance: random.Random, until_s: float, catalogues: Sequence[str]) -> list[Spell]:
        """Return when the catalogues of these providers change, and what happens to the stored ones."""
        found = [
            Spell(f"spell:{name}:{n}", chance.choice(CHANGES), begin_s := chance.uniform(0.05, 0.8) * until_s, begin_s,
                  random.Random(chance.random()), of=name)
            for name in catalogues
            for n in range(chance.choice((0, 1, 2, 4)))
        ]  # fmt: skip
        return [spell for spell in found if self.allowed(spell.id)]

    def allowed(self, name: str) -> bool:
        return (self._only is None or name in self._only) and name not in self._without

    def lot(self, family: str, point: str, now_s: float, *, times: float = 1.0) -> Lot | None:
        """Return what is drawn for a fault at a point, if there is one now; `times` makes it likelier."""
        rate = self.rates[family] * times
        met = (family, point)
        self._met[met] += 1
        if not rate or now_s >= self.until_s:
            return None
        name = f"{family}:{point}:{self._met[met]}"
        drawn = int.from_bytes(blake2b(name.encode(), key=self._key, digest_size=8).digest(), "big")
        if drawn / 2**64 >= rate or not self.allowed(name):
            return None
        return Lot(self, family, name)

    def happened(self, name: str, kind: str, what: str) -> None:
        """Note that a fault took effect."""
        if name not in self.struck:
            self.kinds[kind] += 1
        self.struck[name] = what


class Lot(random.Random):
    """The draws that shape one fault; `is_` says what it became."""

    def __init__(self, faults: Faults, family: str, name: str) -> None:
        super().__init__(faults._key + name.encode())
        self._faults = faults
        self._family = family
        self.name = name

    def is_(self, kind: str, detail: str = "") -> None:
        self._faults.happened(self.name, f"{self._family}: {kind}", f"{kind} {detail}".strip())


def spread(chance: random.Random, low: float, high: float) -> float:
    """Return a number between two others, small ones as likely as large ones."""
    return low * (high / low) ** chance.random()


def injected(error: Any) -> Any:
    """Mark an exception as one of ours, so that a log line about it is no finding."""
    error.injected = True
    return error


def is_injected(error: BaseException | None) -> bool:
    """Return whether an exception, or one that it came from, is one of ours."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if getattr(error, "injected", False):
            return True
        if isinstance(error, BaseExceptionGroup):
            return all(is_injected(inner) for inner in error.exceptions)
        error = error.__cause__ or error.__context__
    return False


def any_exception(chance: random.Random) -> Exception:
    """Return an exception of any kind that an I/O call has been seen to raise."""
    made: Any = chance.choice(
        (
            lambda: MemoryError(),
            lambda: OSError(errno.EIO, "Input/output error"),
            lambda: OSError(errno.EMFILE, "Too many open files"),
            lambda: OSError(errno.ENOMEM, "Cannot allocate memory"),
            lambda: PermissionError(errno.EACCES, "Permission denied"),
            lambda: RuntimeError("can't start new thread"),
            lambda: RecursionError("maximum recursion depth exceeded"),
            lambda: ValueError("I/O operation on closed file"),
            lambda: LookupError("unknown encoding"),
            lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
            lambda: TimeoutError("timed out"),
            lambda: EOFError(),
            lambda: ssl.SSLError(1, "[SSL] record layer failure"),
            lambda: ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        )
    )()
    return injected(made)


DATABASE_ERRORS: Sequence[tuple[type[sqlite3.Error], str, int]] = (
    (sqlite3.OperationalError, "disk I/O error", sqlite3.SQLITE_IOERR),
    (sqlite3.OperationalError, "database or disk is full", sqlite3.SQLITE_FULL),
    (sqlite3.OperationalError, "database is locked", sqlite3.SQLITE_BUSY),
    (sqlite3.OperationalError, "attempt to write a readonly database", sqlite3.SQLITE_READONLY),
    (sqlite3.OperationalError, "unable to open database file", sqlite3.SQLITE_CANTOPEN),
    (sqlite3.OperationalError, "database schema is locked: main", sqlite3.SQLITE_LOCKED),
    (sqlite3.DatabaseError, "database disk image is malformed", sqlite3.SQLITE_CORRUPT),
    (sqlite3.DatabaseError, "file is not a database", sqlite3.SQLITE_NOTADB),
    (sqlite3.IntegrityError, "constraint failed", sqlite3.SQLITE_CONSTRAINT),
    (sqlite3.InternalError, "out of memory inside", sqlite3.SQLITE_INTERNAL),
)


def database_error(kind: type[sqlite3.Error], words: str, code: int) -> Exception:
    """Return what SQLite raises, with its result code, marked as one of ours."""
    error = injected(kind(words))
    error.sqlite_errorcode = code
    made: Exception = error
    return made


def any_database_error(chance: random.Random) -> Exception:
    """Return an exception that a SQLite call raises when its file, its disk or the memory fails."""
    if chance.random() < 0.1:
        return injected(MemoryError())  # type: ignore[no-any-return]
    return database_error(*chance.choice(DATABASE_ERRORS))
