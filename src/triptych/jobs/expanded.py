"""A call's request with every folder, pattern, table and look in it replaced by single images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from triptych.core.requests import Request


@dataclass(frozen=True, slots=True)
class Expanded:
    """A request whose images are single ones: handles, paths, URLs or data URIs; in `rows` if it has own lanes.

    `sources` is as in `Job`. `warnings` have the numbers of each folder and table, and what is left out. `counts` has
    the number of pictures of each folder and pattern, such as `204 pictures from "photos/"`, for the question about
    the cost. `places` has the table, row and column of each picture of a table. `save_to` is the directory of the job
    whose failed lanes are made again.
    """

    request: Request
    sources: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    counts: tuple[str, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)
    save_to: str | None = None


def source_of(item: str) -> str:
    """Return the text that names an image's source: the item, but not the bytes of a data URI."""
    return "" if item[:5].lower() == "data:" else item
