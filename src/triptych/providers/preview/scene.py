"""A scene in words → a description to paint: things, hour, season, colours, and the place of the panel in its set.

Rules: the same words give the same scene; panels of one set share place and palette, and differ by `progress`, as in
passing time. Words that name nothing drawable make an empty scene, which is painted as a landscape.

Must not know: how anything is painted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from triptych.providers.preview import masks
from triptych.providers.preview.tokens import ImageOperation
from triptych.providers.preview.vocabulary import COLOURS, SEASONS, TIMES

RGB = tuple[int, int, int]

_THINGS: dict[str, str] = {
    "mountain": "mountain mountains peak peaks alps hill hills cliff cliffs volcano valley canyon",
    "sea": "sea ocean waves wave lake beach coast shore harbour harbor bay river water island seaside pier",
    "tree": "tree trees forest wood woods pine pines garden park jungle orchard",
    "city": "city skyline skyscraper skyscrapers town buildings building downtown street tokyo york paris london",
    "house": "house home cottage cabin hut farm barn shop cafe café bakery village",
    "lighthouse": "lighthouse lighthouses tower beacon",
    "boat": "boat boats ship ships sailboat sailing sail yacht",
    "flower": "flower flowers blossom blossoms tulip tulips rose roses meadow poppies daisies bouquet",
    "cat": "cat cats kitten kitty fox dog animal pet",
    "bird": "bird birds gull gulls seagull seagulls swallows",
    "cup": "cup mug coffee tea espresso latte",
    "balloon": "balloon balloons",
    "rocket": "rocket rockets spaceship spacecraft launch",
    "moon": "moon",
    "sun": "sun",
    "stars": "star stars starry galaxy",
    "cloud": "cloud clouds cloudy",
    "abstract": "abstract logo icon icons pattern shapes geometric poster wallpaper shape circles gradient branding",
}
_THING_OF = {word: thing for thing, words in _THINGS.items() for word in words.split()}
_PLAIN_WORDS = (
    "white", "black", "grey", "gray", "landscape", "lone", "calm", "small", "big",
    "large", "tiny", "old", "tall", "hot", "air",
)  # fmt: skip
NOUNS = frozenset((*_THING_OF, *COLOURS, *_PLAIN_WORDS))
"""Words that the painter uses or may pass over; all others are for the caller to report."""
PAINTED = frozenset(TIMES)
"""Operations that the painting itself carries out."""


@dataclass(frozen=True, slots=True)
class Light:
    """What an hour does: sky from the zenith to the horizon, the colour that falls on things, how high its light is."""

    zenith: RGB
    middle: RGB
    horizon: RGB
    falling: tuple[float, float, float]
    disc: RGB
    height: float
    stars: float = 0.0


HOURS: dict[str, Light] = {
    "dawn": Light((108, 132, 190), (226, 170, 190), (255, 216, 178), (0.84, 0.76, 0.82), (255, 236, 210), 0.12, 0.15),
    "morning": Light((92, 158, 222), (160, 204, 236), (252, 236, 206), (1.0, 0.97, 0.9), (255, 246, 214), 0.3),
    "noon": Light((52, 128, 214), (120, 184, 236), (214, 234, 246), (1.02, 1.02, 1.0), (255, 252, 236), 0.44),
    "golden": Light((116, 148, 196), (236, 190, 132), (255, 210, 128), (1.06, 0.9, 0.68), (255, 240, 190), 0.2),
    "sunset": Light((66, 58, 122), (222, 102, 98), (255, 178, 88), (0.86, 0.6, 0.58), (255, 226, 160), 0.1),
    "dusk": Light((26, 34, 82), (84, 78, 142), (226, 134, 124), (0.5, 0.48, 0.66), (250, 240, 220), 0.3, 0.45),
    "night": Light((8, 14, 42), (18, 32, 76), (44, 66, 118), (0.26, 0.32, 0.52), (246, 244, 228), 0.4, 1.0),
}
_LATER = {"dawn": "morning", "morning": "noon", "noon": "golden", "golden": "sunset", "sunset": "dusk", "dusk": "night",
          "night": "dusk"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scene:
    """A scene to paint; `progress` from 0 to 1 is the place of this panel in its set."""

    things: frozenset[str]
    hour: str
    season: str
    colours: tuple[tuple[str, RGB], ...]
    mark: str
    progress: float
    timed: bool

    @classmethod
    def of(cls, text: str, ops: Sequence[ImageOperation], mark: str, progress: float) -> Scene:
        """Return the scene that the words and the operations describe; `mark` fixes the place and its shapes."""
        words = [word.strip("'").removesuffix("'s") for word in text.lower().split()]
        names = [op.name for op in ops]
        hour = next((name for name in names if name in HOURS), "")
        season = next((name for name in names if name in SEASONS), "winter" if "snow" in names else "summer")
        pairs = tuple(
            (_THING_OF[after], COLOURS[word])
            for word, after in pairwise(words)
            if word in COLOURS and after in _THING_OF
        )
        things = frozenset(_THING_OF[word] for word in words if word in _THING_OF)
        return cls(
            things,
            hour or ("night" if things & {"moon", "stars"} else "morning"),
            season,
            pairs,
            mark,
            progress,
            bool(hour),
        )

    @property
    def is_abstract(self) -> bool:
        """Whether shapes are wanted and no place."""
        return self.things == {"abstract"}

    def colour(self, thing: str, otherwise: RGB) -> RGB:
        return dict(self.colours).get(thing, otherwise)

    def light(self) -> Light:
        """Return the hour's light, moved on towards the next hour's as the set goes on."""
        now = HOURS[self.hour]
        if self.timed:
            return _between(now, HOURS[_LATER[self.hour]], 0.42 * self.progress)
        if self.hour == "night":
            return _between(HOURS["dusk"], now, 0.4 + 0.6 * self.progress)
        path = ("morning", "noon", "golden", "sunset")
        at = self.progress * 2.7
        return _between(HOURS[path[int(at)]], HOURS[path[int(at) + 1]], at - int(at))


def _between(one: Light, two: Light, part: float) -> Light:
    def colour(a: RGB, b: RGB) -> RGB:
        return masks.mix(a[0], b[0], part), masks.mix(a[1], b[1], part), masks.mix(a[2], b[2], part)

    falling = tuple(a + (b - a) * part for a, b in zip(one.falling, two.falling, strict=True))
    return Light(
        colour(one.zenith, two.zenith), colour(one.middle, two.middle), colour(one.horizon, two.horizon),
        (falling[0], falling[1], falling[2]), colour(one.disc, two.disc),
        one.height + (two.height - one.height) * part, one.stars + (two.stars - one.stars) * part,
    )  # fmt: skip
