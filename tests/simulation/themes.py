"""What a world is mostly about: a theme makes the faults likelier that only hurt together.

Most worlds have none. A theme is drawn from the seed alone, and knows no mistake: each is a place where programs like
this one are used, such as a shared home on a worn disk.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from simulation.extras import has_extras
from simulation.sets import has_sets


@dataclass(frozen=True)
class Theme:
    """What a theme draws from in place of the usual; what is empty is as usual. `share` is how often it comes."""

    name: str
    share: int
    servers: Sequence[int] = (1, 1, 1, 2, 2, 3, 4)
    providers: Sequence[str] = ()
    """One of these is among the providers, and what is there for sure is about it."""
    until_s: tuple[float, float] = (30.0, 150.0)
    rates: Mapping[str, Sequence[float]] = field(default_factory=dict)
    spells: Sequence[tuple[str, float, float, float]] = ()
    """Conditions that are there for sure: the kind, the shares of the time between which it begins, its least s."""
    budgets_usd: Sequence[Decimal | None] = ()
    together: float = 0.05
    """How often a client asks for several things at once."""


PLAIN = Theme("plain", 10)
THEMES: Sequence[Theme] = (
    PLAIN,
    Theme(
        "several servers that stand still",
        4,
        servers=(2, 2, 3, 4),
        rates={"freeze": (0.001, 0.003), "network": (0.0, 0.02, 0.08)},
    ),
    Theme(
        "a provider whose list is out for long",
        2,
        providers=("atlas", "evolink", "evolink", "evolink", "wavespeed"),
        until_s=(220.0, 420.0),
        rates={"network": (0.08, 0.2)},
        spells=(("lists fail", 0.0, 0.1, 200.0),),
        together=0.3,
    ),
    Theme(
        "a tight budget and a locked database",
        2,
        servers=(1, 2, 3),
        providers=("atlas", "wavespeed", "wavespeed"),
        until_s=(60.0, 150.0),
        spells=(("database locked", 0.0, 0.05, 8.0), ("database locked", 0.1, 0.3, 8.0)),
        budgets_usd=(Decimal("0.2"), Decimal("0.4"), Decimal("0.8")),
        together=0.8,
    ),
    Theme(
        "answers that are lost again and again",
        2,
        providers=("evolink", "evolink", "runware"),
        rates={"network": (0.2,), "provider": (0.03, 0.1)},
        together=0.3,
    ),
    Theme(
        "a worn disk",
        2,
        providers=("ark", "ark", "novita"),
        rates={"database": (0.005, 0.01), "disk": (0.01, 0.05), "network": (0.0, 0.02), "kill": (0.0,)},
    ),
)


WITH_EXTRAS: Sequence[Theme] = (
    Theme(
        "models that change",
        3,
        servers=(1, 2, 2, 3),
        providers=("atlas", "wavespeed"),
        until_s=(60.0, 200.0),
        budgets_usd=(None, Decimal(10), Decimal(2)),
        together=0.4,
    ),
    Theme(
        "a provider that keeps few files",
        2,
        servers=(1, 2),
        providers=("evolink",),
        until_s=(60.0, 150.0),
        budgets_usd=(None, Decimal(10)),
        together=0.7,
    ),
)
"""Themes of worlds with extras; as many of those have one of the usual themes."""
TABLES = Theme(
    "tables that fall over",
    1,
    servers=(1, 2, 2),
    providers=("wavespeed", "atlas", "evolink", "runware"),
    until_s=(90.0, 200.0),
    rates={"provider": (0.03, 0.1), "network": (0.0, 0.05, 0.2)},
    spells=(("provider down", 0.0, 0.3, 30.0),),
    budgets_usd=(None, Decimal(10)),
)
"""The theme of a third of the worlds with tables; it has two providers at least."""


def theme_of(seed: object) -> Theme:
    """Return the theme of a seed's world."""
    chance = random.Random(f"{seed}:theme of extras")
    if has_extras(seed) and chance.random() < 0.5:
        return chance.choices(WITH_EXTRAS, [theme.share for theme in WITH_EXTRAS])[0]
    if has_sets(seed) and random.Random(f"{seed}:theme of sets").random() < 0.33:
        return TABLES
    return random.Random(f"{seed}:theme").choices(THEMES, [theme.share for theme in THEMES])[0]
