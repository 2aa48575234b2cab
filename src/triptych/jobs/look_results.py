"""The results that show looks; the rules of `results` are theirs too."""

from __future__ import annotations

from dataclasses import dataclass

from triptych.core.json_fields import Result, Utc
from triptych.core.text import counted, joined_lines


@dataclass(frozen=True, slots=True, kw_only=True)
class LookResult(Result):
    """One version of a look; `images` are handles."""

    name: str
    version: int
    words: str
    images: list[str]
    created_at: Utc

    def label(self) -> str:
        """Return its name, its version and its size in words."""
        words = f", {len(self.words)} characters of words" if self.words else ", no words"
        return f"look:{self.name} version {self.version}: {counted(len(self.images), 'image')}{words}"

    def text(self) -> str:
        """Return the version as one line."""
        words = f": {self.words}" if self.words else ""
        return f"look:{self.name} version {self.version}, {self.created_at:%Y-%m-%d}{words} ({', '.join(self.images)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class LooksResult(Result):
    looks: list[LookResult]

    def text(self) -> str:
        """Return the looks, one a line."""
        return joined_lines([look.text() for look in self.looks] or ["No looks yet."])
